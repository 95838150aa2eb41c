"""The ledger's keys on a database that is distributed by account, such as Citus: docs/scale.md names what must change.

There, a unique key must contain the column by which rows are distributed. A key of generated ids gets it for nothing;
every other key must have it.
"""

from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

LEDGER = (
    "credit_balances", "credit_entries", "credit_grants", "credit_consumptions", "credit_holds", "credit_hold_lots",
    "credit_revocations", "credit_reinstatements", "budgets", "work_holds", "work_charges",
)  # fmt: skip
# Their rows belong to an entry, a lot or a hold of the same account, whose id they have in place of the account's.
WITHOUT_ACCOUNT = {"credit_consumptions", "credit_hold_lots", "work_holds"}
# One month or pack that was paid for is granted once, whatever account it belongs to.
OF_ALL_ACCOUNTS = {"credit_grants_business_key"}
KEYS = """
select
    relations.relname as "table", indexes.relname as name,
    array(
        select attname::text from unnest(pg_index.indkey) as number
        join pg_attribute on attrelid = relations.oid and attnum = number
    ) as columns
from pg_index
join pg_class as relations on relations.oid = pg_index.indrelid
join pg_class as indexes on indexes.oid = pg_index.indexrelid
where pg_index.indisunique and relations.relnamespace = 'billing'::regnamespace and relations.relname = any (%s)
"""
GENERATED = """
select relname || '.' || attname
from pg_attribute
join pg_class on pg_class.oid = attrelid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where relnamespace = 'billing'::regnamespace and attnum > 0
    and (attidentity <> '' or pg_get_expr(adbin, adrelid) in ('gen_random_uuid()', 'uuidv7()'))
"""
# Generated ids of entries, lots and holds.
IDS = {"entry_id", "excess_entry_id", "grant_id", "hold_id"}


def tuples(conn: psycopg.Connection, query: LiteralString, parameters: Any = ()) -> list[tuple[Any, ...]]:
    with conn.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def test_every_key_of_the_ledger_contains_the_account_or_generated_ids(admin: psycopg.Connection) -> None:
    generated = {name for (name,) in tuples(admin, GENERATED)}
    others = {
        name
        for table, name, columns in tuples(admin, KEYS, [list(LEDGER)])
        if "account_id" not in columns
        and not all(column in IDS or f"{table}.{column}" in generated for column in columns)
    }
    assert others == OF_ALL_ACCOUNTS


def test_every_table_of_the_ledger_has_the_account_but_those_that_belong_to_its_rows(
    admin: psycopg.Connection,
) -> None:
    found = {
        name
        for (name,) in tuples(
            admin,
            "select relname from pg_class join pg_attribute on attrelid = pg_class.oid "
            "where relnamespace = 'billing'::regnamespace and attname = 'account_id' and relname = any (%s)",
            [list(LEDGER)],
        )
    }
    assert set(LEDGER) - found == WITHOUT_ACCOUNT
