"""The catalogue of a database → as shipped, on either kind of project; what was changed by hand is named."""

import json
from typing import LiteralString

import psycopg
import pytest

from cli.doctor import rights
from cli.doctor.catalogue import SHIPPED, compare, read_catalogue, shipped_catalogue
from cli.doctor.rights import read_rights, shipped_rights
from tests.support import Database


@pytest.mark.parametrize("project", ["database", "database_of_older_project"])
def test_the_catalogue_is_as_shipped(
    project: str, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> None:
    database: Database = request.getfixturevalue(project)
    with database.connect() as conn:
        held = read_catalogue(conn)
    if pytestconfig.getoption("update_snapshots"):
        SHIPPED.write_text(json.dumps(held, indent=0) + "\n", encoding="utf-8")
    assert held == shipped_catalogue(), "if that is meant, `make snapshots`"


@pytest.mark.parametrize("project", ["database", "database_of_older_project"])
def test_the_rights_are_as_shipped(
    project: str, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> None:
    database: Database = request.getfixturevalue(project)
    with database.connect() as conn:
        held = read_rights(conn)
    if pytestconfig.getoption("update_snapshots"):
        rights.SHIPPED.write_text(rights.as_json(held), encoding="utf-8")
    assert json.loads(rights.as_json(held)) == shipped_rights(), "if that is meant, `make snapshots`"


@pytest.mark.parametrize(
    ("damage", "missing", "changed", "extra"),
    [
        ("revoke select on public.credit_balance from authenticated", [], ["rights on public.credit_balance"], []),
        (
            "revoke execute on function billing.start_worker() from billing_worker",
            [], ["rights on billing.start_worker()"], [],
        ),
        ("grant select on billing.customers to anon", [], ["rights on billing.customers"], []),
        ("grant insert (id) on billing.accounts to anon", [], ["rights on billing.accounts.id"], []),
        ("alter table billing.credit_entries disable row level security", [], ["table billing.credit_entries"], []),
        ("alter view public.credit_history reset (security_invoker)", [], ["view public.credit_history"], []),
        (
            "alter policy accounts_select_own on billing.accounts using (true)",
            [], ["policy accounts_select_own on billing.accounts"], [],
        ),
        (
            "drop policy accounts_select_own on billing.accounts",
            ["policy accounts_select_own on billing.accounts"], [], [],
        ),
        (
            "drop index billing.credit_grants_business_key",
            ["index credit_grants_business_key of billing.credit_grants"], [], [],
        ),
        (
            "alter table billing.credit_entries disable trigger tg_credit_entries__append_only",
            [], ["trigger tg_credit_entries__append_only on billing.credit_entries"], [],
        ),
        ("alter function billing.my_account_ids() reset search_path", [], ["function billing.my_account_ids()"], []),
        (
            "alter table billing.settings drop constraint there_is_one_row",
            ["constraint there_is_one_row of billing.settings"], [], [],
        ),
        ("create table billing.theirs (id integer)", [], [], ["rights on billing.theirs", "table billing.theirs"]),
        ("create table public.theirs (id integer)", [], [], []),
        # Named as one of ours, its index and constraint too.
        ("create table public.accounts (id integer primary key)", [], [], []),
    ],
)  # fmt: skip
def test_a_change_by_hand_is_named(
    conn: psycopg.Connection, damage: LiteralString, missing: list[str], changed: list[str], extra: list[str]
) -> None:
    conn.execute(damage)
    found = compare(shipped_catalogue(), read_catalogue(conn))
    assert (found.missing, found.changed, found.extra) == (missing, changed, extra)


def test_a_function_of_another_body_is_named(conn: psycopg.Connection) -> None:
    conn.execute(
        "create or replace function billing.my_account_ids() returns setof uuid language sql stable security definer "
        "set search_path = pg_catalog, pg_temp as 'select accounts.id from billing.accounts'"
    )
    assert compare(shipped_catalogue(), read_catalogue(conn)).changed == ["function billing.my_account_ids()"]
