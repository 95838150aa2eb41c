"""The books: append-only for everybody, right under many spenders, on a clock that only a superuser moves."""

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    Connection,
    balance,
    discrepancies,
    entries,
    fetch,
    grant,
    move_clock,
    refused,
    spend,
    value,
)
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user

SPENDERS = 16


@pytest.mark.parametrize(
    "statement",
    [
        "update {table} set amount = 1",
        "delete from {table}",
        "truncate {table} cascade",
        "update {table} set amount = 1 where false",
    ],
)
@pytest.mark.parametrize("table", ["billing.credit_entries", "billing.credit_consumptions"])
def test_ledger_is_append_only_for_its_owner_too(
    app: Connection, conn: Connection, account: UUID, table: str, statement: str
) -> None:
    grant(app, account, 10)
    spend(app, account, 4)
    with refused("TB015"):
        conn.execute(statement.format(table=table).encode())
    assert entries(app, account) == [("grant", 10), ("spend", -4)]


def test_account_with_books_cannot_be_deleted(app: Connection, conn: Connection, account: UUID) -> None:
    grant(app, account, 10)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute("delete from billing.accounts")


def test_many_spenders_spend_exactly_what_there_is(
    database: Database, app: Connection, account: UUID
) -> None:
    for _ in range(10):
        grant(app, account, 10)
    with ExitStack() as stack:
        spenders = [stack.enter_context(database.connect("service_role")) for _ in range(SPENDERS)]

        def spend_until_refused(spender: Connection) -> tuple[int, str | None]:
            for spent in range(1000):
                try:
                    spend(spender, account, 1)
                except psycopg.Error as error:
                    return spent, error.sqlstate
            raise AssertionError("it never ran out")

        results = at_once([lambda one=one: spend_until_refused(one) for one in spenders])
    outcomes = [result for result in results if not isinstance(result, psycopg.Error)]
    assert sum(spent for spent, _ in outcomes) == 100
    assert Counter(code for _, code in outcomes) == {"TB001": SPENDERS}
    assert balance(app, account) == 0
    assert len([kind for kind, _ in entries(app, account) if kind == "spend"]) == 100
    assert discrepancies(app) == []


def test_grants_and_spends_of_two_accounts_at_once_never_deadlock(
    database: Database, app: Connection, account: UUID
) -> None:
    other = account_of(app, create_user(database))
    for one in (account, other):
        grant(app, one, 100)
    with ExitStack() as stack:
        movers = [stack.enter_context(database.connect("service_role")) for _ in range(8)]

        def move(connection: Connection, first: UUID, second: UUID) -> None:
            for _ in range(10):
                spend(connection, first, 1)
                grant(connection, second, 1)

        pairs = [(account, other), (other, account)] * 4
        results = at_once(
            [lambda c=c, p=p: move(c, *p) for c, p in zip(movers, pairs, strict=True)],
        )
    assert results == [None] * 8
    assert (balance(app, account), balance(app, other)) == (100, 100)
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("update billing.credit_balances set held = -1", "only_the_balance_is_negative"),
        ("update billing.credit_balances set debt = -1", "only_the_balance_is_negative"),
        ("update billing.credit_balances set withheld = -1", "only_the_balance_is_negative"),
        ("update billing.credit_balances set overdraft = -1", "only_the_balance_is_negative"),
        (
            "update billing.credit_balances set spend_cap = -1, spend_cap_period = 'day'",
            "only_the_balance_is_negative",
        ),
        ("update billing.credit_balances set low_balance_threshold = -1", "only_the_balance_is_negative"),
        ("update billing.credit_balances set spend_cap = 1", "spend_cap_comes_with_its_period"),
        ("update billing.credit_balances set spend_cap_period = 'day'", "spend_cap_comes_with_its_period"),
        (
            "update billing.credit_balances set spend_cap = 1, spend_cap_period = 'year'",
            "spend_cap_comes_with_its_period",
        ),
        ("update billing.credit_grants set held = -1", "held_remaining_and_amount_ascend"),
        ("update billing.credit_grants set held = remaining + 1", "held_remaining_and_amount_ascend"),
        ("update billing.credit_grants set remaining = amount + 1", "held_remaining_and_amount_ascend"),
        ("update billing.credit_grants set closed_at = now()", "only_open_lots_hold_credits"),
        ("update billing.credit_grants set entry_id = null", "only_open_lots_hold_credits"),
        ("update billing.credit_grants set expires_at = effective_at", "expires_after_it_takes_effect"),
    ],
)
def test_row_that_cannot_be_is_refused_to_whoever_writes_it(
    admin: Connection, app: Connection, account: UUID, change: str, rule: str
) -> None:
    grant(app, account, 10)
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        admin.execute(change.encode())
    assert caught.value.diag.constraint_name == rule


@pytest.mark.parametrize(
    ("kind", "amount"),
    [
        *((kind, -1) for kind in ("grant", "reinstatement", "refund", "transfer_in")),
        *((kind, 1) for kind in ("spend", "capture", "expiry", "revocation", "transfer_out")),
        *((kind, 0) for kind in ("grant", "spend", "adjustment")),
        ("repayment", 1),
    ],
)
def test_entry_has_the_sign_of_its_kind(admin: Connection, account: UUID, kind: str, amount: int) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        admin.execute(
            "insert into billing.credit_entries "
            "(account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at) "
            "values (%s, %s, %s, 0, 'app', 'caller', 'key', now())",
            [account, kind, amount],
        )
    assert caught.value.diag.constraint_name == "amount_has_the_sign_of_its_kind"


def test_entries_of_an_account_are_numbered_in_the_order_of_their_balances(
    database: Database, app: Connection, account: UUID
) -> None:
    with ExitStack() as stack:
        movers = [stack.enter_context(database.connect("service_role")) for _ in range(8)]
        at_once([lambda one=one: [grant(one, account, 1) for _ in range(5)] for one in movers])
    rows = fetch(app, "select balance_after from billing.credit_entries order by id")
    assert [row["balance_after"] for row in rows] == list(range(1, 41))


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.clock set ahead_by = '1 day'",
        "insert into billing.clock (id) values (true)",
        "delete from billing.clock",
        "truncate billing.clock",
    ],
)
def test_clock_does_not_move_for_the_owner_of_the_table(conn: Connection, statement: str) -> None:
    with refused("TB013"):
        conn.execute(statement.encode())
    assert value(conn, "select billing.current_time() between now() and clock_timestamp()") is True


def test_clock_moves_for_a_superuser_and_only_forward(conn: Connection, admin: Connection) -> None:
    move_clock(admin, timedelta(days=31))
    ahead = "select billing.current_time() - interval '31 days' between now() and clock_timestamp()"
    assert value(conn, ahead) is True
    with pytest.raises(psycopg.errors.CheckViolation, match="ahead_by_is_not_negative"):
        move_clock(admin, timedelta(days=-1))
