"""A role that may make temporary types gives one the name of a type that our functions use: no function takes it.

The types here are domains whose CHECK says as whom it runs: an attacker's would run whatever it likes with the rights
of the function's owner.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.security.inventory import ROLES, functions
from tests.sql.calls import grant, spend
from tests.support import Database, account_of, create_user

TYPES = ["text", "uuid", "jsonb", "timestamptz", "bytea", "int8", "numeric", "interval", "bool", "date"]
_SPY = """
    create function pg_temp.spy(v anyelement) returns pg_catalog.bool language plpgsql as $$
    begin
        raise warning 'ran as %', current_user;
        return true;
    end
    $$;
    grant execute on function pg_temp.spy(anyelement) to public;
"""
# What to pass for an argument of each type. Null for a type that is not named.
_ARGUMENTS = {
    "uuid": "'{account}'",
    "text": "'fresh {number}'",
    "numeric": "'1'",
    "int4": "'1'",
    "int8": "'1'",
    "bool": "'f'",
    "timestamptz": "'2026-11-30 00:00Z'",
    "interval": "'1 hour'",
    "jsonb": "'{{}}'",
    "_uuid": "'{{{account}}}'",
    "_text": "'{{x}}'",
}


@pytest.fixture
def account(database: Database, conn: psycopg.Connection[Any]) -> UUID:
    account = account_of(conn, create_user(database))
    with database.connect("service_role") as app:
        grant(app, account, 100)
        spend(app, account, 1)
    return account


def calls(conn: psycopg.Connection[Any], role: str, account: UUID) -> Iterator[tuple[str, str]]:
    """Each of our functions that the role may execute: its name, and a call of it."""
    rows = conn.execute(
        """
        select p.oid::int8, p.proname, p.pronamespace::regnamespace::text, array(
            select typname::text from unnest(p.proargtypes) with ordinality as argument (id, place)
            join pg_type on pg_type.oid = argument.id order by place
        )
        from pg_proc as p
        where oid = any (%s) and prorettype <> 'trigger'::regtype and has_function_privilege(%s, oid, 'execute')
        """,
        [list(functions(conn)), role],
    ).fetchall()
    for number, (_, name, schema, types) in enumerate(rows):
        arguments = ", ".join(
            f"{_ARGUMENTS[kind].format(account=account, number=number)}::pg_catalog.{kind}"
            if kind in _ARGUMENTS
            else "null"
            for kind in types
        )
        yield f"{schema}.{name}", f"select * from {schema}.{name}({arguments})"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "public"])
def test_no_function_uses_a_temporary_type(
    database: Database, conn: psycopg.Connection[Any], account: UUID, role: str
) -> None:
    hijacked: set[str] = set()
    called: list[str] = []
    with database.connect(role) as attacker:
        owner = conn.execute("select owner_id::text from billing.accounts").fetchone()
        assert owner is not None
        attacker.execute(
            "select set_config('request.jwt.claims', json_build_object('sub', %s::text)::text, false)", owner
        )
        attacker.execute(_SPY.encode())
        for name in TYPES:
            attacker.execute(
                f"create domain pg_temp.{name} as pg_catalog.{name} check (pg_temp.spy(value))".encode()
            )
        attacker.add_notice_handler(
            lambda notice: (
                hijacked.add(called[-1])
                if str(notice.message_primary).startswith("ran as ")
                and notice.message_primary != f"ran as {role}"
                else None
            )
        )
        for name, call in calls(conn, role, account):
            called.append(name)
            with suppress(psycopg.Error):  # what it refuses it has looked at
                attacker.execute(call.encode())
    assert called
    assert not hijacked
