"""Words → where in the database they are, by the catalogue: every row of every table, ours and the queues'."""

from psycopg import sql

from tests.sql.calls import Connection

Column = tuple[str, str, str]

_TEXTS = """
select format('%s.%s', nspname, relname), attname, coalesce(base.typname, types.typname)
from pg_attribute
join pg_class on pg_class.oid = attrelid and relkind = 'r'
join pg_namespace on pg_namespace.oid = relnamespace
join pg_type as types on types.oid = atttypid
left join pg_type as base on base.oid = types.typbasetype
where (nspname = 'billing' or nspname = 'pgmq' and relname ~ '^[qa]_(stripe_events|billing_jobs)$')
    and attnum > 0 and not attisdropped
    and coalesce(base.typname, types.typname) in ('text', 'varchar', 'jsonb', 'json', '_text')
order by 1, attnum
"""


def texts(conn: Connection) -> list[Column]:
    """Every column that can hold a text: table, column, type."""
    return [tuple(row) for row in conn.execute(_TEXTS).fetchall()]


def all_tables(conn: Connection) -> set[str]:
    return {
        f"billing.{name}"
        for (name,) in conn.execute(
            "select relname from pg_class where relnamespace = 'billing'::regnamespace and relkind = 'r'"
        )
    }


def found_anywhere(conn: Connection, words: list[str]) -> list[str]:
    """Where in the database one of the words is: table, and the row."""
    return [
        f"{table}: {row[0]}"
        for table in sorted({table for table, _, _ in texts(conn)} | all_tables(conn))
        for row in conn.execute(
            sql.SQL(
                "select to_jsonb(t)::text from {} as t "
                "where exists (select from unnest(%s::text[]) as w where strpos(lower(to_jsonb(t)::text), w) > 0)"
            ).format(sql.Identifier(*table.split("."))),
            [[word.lower() for word in words]],
        ).fetchall()
    ]
