"""Every function that a role of the Data API or the worker may call, with arguments that nobody should pass: an answer,
or an error that says what to do; never an error of the database's own, and the books hold."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.security.inventory import Connection
from tests.support import Database, account_of, as_role, as_user, create_user

CALLS = 12
ROLES = ("anon", "authenticated", "service_role", "billing_worker")
# The receiver and the worker read their rows of Stripe's bodies, by type; what is left to the tables is an error there.
RECEIVES = "billing.receive_stripe_event"
ROW_IS_REFUSED = ("23502", "23514")
CALLABLE = """
    select p.pronamespace::regnamespace::text || '.' || p.proname, coalesce(p.proargnames, '{}'), p.pronargdefaults,
        array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as a (t, place) order by place)
    from pg_proc as p
    where p.pronamespace in ('billing'::regnamespace, 'public'::regnamespace) and p.prokind = 'f'
        and p.prorettype <> 'trigger'::regtype and has_function_privilege(%s, p.oid, 'execute')
    order by 1, p.oid
"""


class Wild:
    """Arguments of each type, at the edges of what it can hold; the same ones for the same seed."""

    def __init__(self, seed: str, accounts: list[UUID], users: list[UUID]) -> None:
        self.random = random.Random(seed)
        self.ids = [*accounts, *users, uuid4()]

    def argument(self, type: str) -> Any:
        if self.random.random() < 0.1:
            return None
        if type.endswith("[]"):
            return [self.argument(type.removesuffix("[]")) for _ in range(self.random.choice([0, 1, 3]))]
        return self.random.choice(self.values(type))

    def values(self, type: str) -> list[Any]:
        match type:
            case "uuid":
                return self.ids
            case "numeric":
                return [
                    Decimal(text) for text in ("NaN", "Infinity", "-Infinity", "0", "-1", "1.5", "1e30", "1")
                ]
            case "bigint":
                return [0, 1, -1, 2**63 - 1, -(2**63), 1000]
            case "integer" | "smallint":
                return [0, 1, -1, 2**15 - 1, -(2**15), 100]
            case "boolean":
                return [True, False]
            case "timestamp with time zone":
                now = datetime.now(UTC)
                return [
                    "infinity",
                    "-infinity",
                    "0001-01-01 BC",
                    "294276-12-31",
                    now,
                    now + timedelta(days=40),
                ]
            case "interval":
                return ["-1 day", "0", "1 second", "178000000 years", "1 month"]
            case "jsonb" | "json":
                return [
                    Jsonb(value)
                    for value in (
                        None, {}, [], [None], [{}], 1, "x", True, {"": None}, [[[]]], {"a": {"b": [1e300]}},
                        [{"account_id": str(self.ids[0]), "amount": -1, "idempotency_key": "k"}],
                        [{"id": 1}], {"id": None, "data": {"object": 7}},
                    )
                ]  # fmt: skip
            case _:
                return [
                    "", " ", "x", "x" * 300, "x" * 70_000, "ü漢😀", "a\nb", "'; select 1; --", "%s", "{}", "null",
                    "ada@example.com", "cus_1", "sub_1", "in_1", "evt_1", "month", "http://[", "-1", "\u202e",
                ]  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_whatever_is_passed_is_answered_or_refused(database: Database, role: str) -> None:
    users = [create_user(database) for _ in range(2)]
    with database.connect() as app, database.connect() as conn:
        accounts = [account_of(app, user) for user in users]
        for account in accounts:
            app.execute("select billing.grant_credits(%s, 100, 'gift')", [account])
        called = app.execute(CALLABLE.encode(), [role]).fetchall()
        assert called
        wrong = {
            (name, code)
            for name, names, _, types in called
            for number in range(CALLS)
            if (code := attempt(conn, role, users[0], name, Wild(f"{name}:{number}", accounts, users), types))
        }
        assert wrong == set()
        for proof in ("ledger_discrepancies", "entitlement_discrepancies"):
            assert app.execute(f"select * from billing.{proof}".encode()).fetchall() == []


def attempt(conn: Connection, role: str, user: UUID, name: str, wild: Wild, types: list[str]) -> str | None:
    """How the database's own error is called, if that is what the caller sees."""
    places = [sql.SQL("%s::{}").format(sql.SQL(type)) for type in types]  # pyright: ignore[reportArgumentType]
    query = sql.SQL("select * from {}({})").format(sql.SQL(name), sql.SQL(", ").join(places))
    arguments = [wild.argument(type) for type in types]
    seen = as_user(conn, user) if role == "authenticated" else as_role(conn, role)
    try:
        with seen:
            conn.execute("set local statement_timeout = '5s'")
            conn.execute(query, arguments)
    except psycopg.Error as error:
        code = error.sqlstate or type(error).__name__
        says_what_to_do = code.startswith("TB") and error.diag.message_hint
        is_refused_row = code in ROW_IS_REFUSED and (role == "billing_worker" or name == RECEIVES)
        if not says_what_to_do and not code.startswith("22") and not is_refused_row:
            return f"{code} {error.diag.message_primary} {[str(each)[:40] for each in arguments]}"
    return None
