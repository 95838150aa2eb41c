"""The catalogue → what there is of ours to protect, and which role may do what with it."""

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

# Everybody who can be on the other end of a connection, and PUBLIC for whoever comes later.
ROLES = [
    "public",
    "anon",
    "authenticated",
    "service_role",
    "billing_checkout",
    "billing_receiver",
    "billing_worker",
]
VERBS = ["select", "insert", "update", "delete", "truncate", "references", "trigger"]
VERBS_SINCE_17 = ["maintain"]

# Ours: all of `billing`, what postgres owns in `public`, and the queue's two tables.
_OURS = """
    n.nspname = 'billing'
    or n.nspname = 'public' and {owner} = 'postgres'::regrole
        and not exists (select from pg_depend as d where d.objid = {oid} and d.deptype = 'e')
"""


def relations(conn: Connection) -> dict[str, str]:
    """`schema.name` of each of our tables, views and sequences → its kind."""
    rows = conn.execute(
        f"""
        select format('%s.%s', n.nspname, c.relname),
               case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and (
            {_OURS.format(owner="c.relowner", oid="c.oid")}
            or n.nspname = 'pgmq' and c.relname ~ '^[qa]_(stripe_events|billing_jobs)$'
        )
        order by 1
        """.encode()
    ).fetchall()
    return dict(rows)


def functions(conn: Connection) -> dict[int, str]:
    """Each of our functions: oid → `schema.name`."""
    rows = conn.execute(
        f"""
        select p.oid::int8, format('%s.%s', n.nspname, p.proname)
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        where {_OURS.format(owner="p.proowner", oid="p.oid")}
        order by 2, 1
        """.encode()
    ).fetchall()
    return dict(rows)


def table_privileges(conn: Connection, relation: str, role: str) -> dict[str, list[str] | None]:
    """Verb → None where the whole relation is granted, else the columns that are."""
    granted: dict[str, list[str] | None] = {}
    for verb in VERBS + (VERBS_SINCE_17 if conn.info.server_version >= 170_000 else []):
        row = conn.execute("select has_table_privilege(%s, %s, %s)", [role, relation, verb]).fetchone()
        assert row is not None
        if row[0]:
            granted[verb] = None
        elif verb in {"select", "insert", "update", "references"}:
            columns = conn.execute(
                """
                select attname from pg_attribute
                where attrelid = %(relation)s::regclass and attnum > 0 and not attisdropped
                    and has_column_privilege(%(role)s, attrelid, attnum, %(verb)s)
                order by attnum
                """,
                {"relation": relation, "role": role, "verb": verb},
            ).fetchall()
            if columns:
                granted[verb] = [column for (column,) in columns]
    return granted


def sequence_privileges(conn: Connection, sequence: str, role: str) -> list[str]:
    """What a role may do with a sequence."""
    rows = conn.execute(
        "select verb from unnest(array['usage', 'select', 'update']) as verb "
        "where has_sequence_privilege(%s, %s, verb)",
        [role, sequence],
    ).fetchall()
    return [verb for (verb,) in rows]


def executors(conn: Connection, function: int) -> set[str]:
    """The roles that may execute a function."""
    rows = conn.execute(
        "select role from unnest(%s::text[]) as role where has_function_privilege(role, %s::oid, 'execute')",
        [ROLES, function],
    ).fetchall()
    return {role for (role,) in rows}
