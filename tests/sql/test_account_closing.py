"""An account is closed, and opened again."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.accounts import close, low_balance_notices, reopen
from tests.sql.calls import (
    Connection,
    adjust,
    available,
    balance,
    balances,
    call,
    capture,
    discrepancies,
    entries,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    reinstate,
    revoke,
    schedule,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.lots import DAY, in_days, lot_of
from tests.sql.races import at_once
from tests.support import Database


def test_closing_forfeits_what_is_left_with_reason_and_actor(app: Connection, account: UUID) -> None:
    for amount in [10, 20]:
        grant(app, account, amount, expires_at=in_days(1))
    spend(app, account, 5)
    row = close(app, account)
    assert row["closed_at"] is not None
    (entry,) = fetch(app, "select * from billing.credit_entries where kind = 'adjustment'")
    assert (entry["amount"], entry["balance_after"]) == (-25, 0)
    assert (entry["description"], entry["actor"]) == ("asked for", "ada@example.com")
    assert [lot["remaining"] for lot in lots(app, account)] == [0, 0]
    balance_row = balances(app, account)
    assert (balance_row["balance"], balance_row["next_due_at"]) == (0, None)
    assert discrepancies(app) == []


def test_closing_releases_holds_and_cancels_scheduled_lots(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100, expires_at=in_days(5))
    held = hold(app, account, 60, expires_in=5 * DAY)
    capture(app, held["id"], 10)
    schedule(app, account, 50, in_days(1))
    close(app, account)
    assert fetch_one(app, "select status, captured from billing.credit_holds") == {
        "status": "released",
        "captured": 10,
    }
    row = balances(app, account)
    assert (row["balance"], row["held"], row["debt"], row["next_due_at"]) == (0, 0, 0, None)
    assert entries(app, account)[-1] == ("adjustment", -90)
    with refused("TB020"):
        capture(app, held["id"], 1)
    assert discrepancies(app) == []
    move_clock(admin, 2 * DAY)
    assert available(app, account) == 0
    assert expire_due(app)["lots_opened"] == 0
    assert discrepancies(app) == []


def test_closing_writes_debt_off(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    spend(app, account, 30)
    close(app, account)
    assert entries(app, account) == [("spend", -30), ("adjustment", 30)]
    row = balances(app, account)
    assert (row["balance"], row["debt"], row["overdraft"]) == (0, 0, 0)
    assert discrepancies(app) == []


def test_closing_writes_debt_off_beside_what_a_hold_gives_back(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    hold(app, account, 10)
    spend(app, account, 30)
    close(app, account)
    assert entries(app, account) == [
        ("grant", 10),
        ("spend", -30),
        ("repayment", 0),
        ("adjustment", 20),
    ]
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_closing_forgets_what_is_withheld(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spend(app, account, 100)
    revoke(app, lots(app, account)[0]["id"], shortfall_policy="block_future_grants")
    close(app, account)
    reopen(app, account)
    assert grant(app, account, 10)["balance_after"] == 10
    assert balance(app, account) == 10
    assert discrepancies(app) == []


def test_closing_lets_due_lots_expire_rather_than_forfeits_them(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    hold(app, account, 4, expires_in=5 * DAY)
    grant(app, account, 20)
    move_clock(admin, 2 * DAY)
    close(app, account)
    assert entries(app, account)[2:] == [("expiry", -6), ("expiry", -4), ("adjustment", -20)]
    assert discrepancies(app) == []


def test_closing_an_empty_account_writes_no_entry(app: Connection, account: UUID) -> None:
    close(app, account)
    assert entries(app, account) == []
    assert discrepancies(app) == []


def test_closing_again_changes_nothing(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    first = close(app, account)
    assert close(app, account) == first
    assert entries(app, account) == [("grant", 10), ("adjustment", -10)]


def test_closed_account_refuses_every_movement(app: Connection, account: UUID, other: UUID) -> None:
    grant(app, account, 100)
    grant(app, other, 10)
    spent = spend(app, account, 10)
    row = revoke(app, lots(app, account)[0]["id"], 20)
    close(app, account)
    before = entries(app, account)
    moves: list[Any] = [
        lambda: grant(app, account, 1),
        lambda: spend(app, account, 1),
        lambda: hold(app, account, 1),
        lambda: schedule(app, account, 1, in_days(1)),
        lambda: adjust(app, account, 1),
        lambda: adjust(app, account, -1),
        lambda: transfer(app, other, account, 1),
        lambda: transfer(app, account, other, 1),
        lambda: refund(app, spent["id"], 1),
        lambda: call(
            app,
            "reinstate_grant",
            revocation_id=row["id"],
            amount=1,
            idempotency_key="x",
            reason="r",
            actor="a",
        ),
        lambda: call(
            app,
            "spend_credits_batch",
            spends=Jsonb([{"account_id": str(account), "amount": 1, "idempotency_key": "y"}]),
        ),
    ]
    for move in moves:
        with refused("TB008"):
            move()
    assert entries(app, account) == before
    assert discrepancies(app) == []


@pytest.mark.parametrize(("reason", "actor"), [("", "ada"), (None, "ada"), ("r", ""), ("r", None)])
def test_closing_needs_a_reason_and_an_actor(
    app: Connection, account: UUID, reason: str | None, actor: str | None
) -> None:
    with refused("TB028"):
        call(app, "close_account", account_id=account, reason=reason, actor=actor)
    assert value(app, "select closed_at from billing.accounts") is None


def test_closing_or_opening_no_account_is_refused(app: Connection) -> None:
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            call(app, "close_account", account_id=nobody, reason="r", actor="a")
        with refused("TB004"):
            call(app, "reopen_account", account_id=nobody)


def test_account_opened_again_is_empty_and_moves(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    close(app, account)
    assert reopen(app, account)["closed_at"] is None
    assert balance(app, account) == 0
    grant(app, account, 10)
    assert spend(app, account, 10)["balance_after"] == 0
    assert discrepancies(app) == []


def test_account_may_be_closed_a_second_time(app: Connection, account: UUID) -> None:
    for amount in [10, 20]:
        grant(app, account, amount)
        close(app, account)
        reopen(app, account)
    assert entries(app, account) == [("grant", 10), ("adjustment", -10), ("grant", 20), ("adjustment", -20)]
    close(app, account)
    assert discrepancies(app) == []


def test_opening_an_account_that_was_never_closed_changes_nothing(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    assert reopen(app, account)["closed_at"] is None
    assert balance(app, account) == 10


def test_reinstating_after_a_closing_gives_back_no_debt_that_was_written_off(
    app: Connection, account: UUID
) -> None:
    lot = grant(app, account, 100)
    spend(app, account, 70)
    revoked = revoke(app, lot_of(app, lot), shortfall_policy="allow_negative")
    assert balances(app, account)["debt"] == 70
    close(app, account)
    reopen(app, account)
    reinstate(app, revoked["id"])
    # The 30 that were taken, less what was owed.
    assert (balance(app, account), balances(app, account)["debt"]) == (30, 0)
    assert discrepancies(app) == []


@pytest.mark.parametrize("made_up", [0, 40])
def test_reinstating_after_a_closing_gives_back_nothing_that_was_not_withheld(
    app: Connection, account: UUID, made_up: int
) -> None:
    lot = grant(app, account, 100)
    spend(app, account, 100)
    revoked = revoke(app, lot_of(app, lot), shortfall_policy="block_future_grants")
    if made_up:
        grant(app, account, made_up)
    assert balances(app, account)["withheld"] == 100 - made_up
    close(app, account)
    reopen(app, account)
    grant(app, account, 10)
    reinstate(app, revoked["id"])
    assert balance(app, account) == 10 + made_up
    assert balances(app, account)["withheld"] == 0
    assert discrepancies(app) == []


def test_refund_after_a_closing_pays_the_debt_that_was_written_off(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 100)
    spent = spend(app, account, 130)
    close(app, account)
    reopen(app, account)
    grant(app, account, 10)
    refund(app, spent["id"], 20)
    assert (balance(app, account), balances(app, account)["debt"]) == (10, 0)
    refund(app, spent["id"])
    assert (balance(app, account), balances(app, account)["debt"]) == (110, 0)
    assert discrepancies(app) == []


def test_refund_after_a_closing_leaves_credits_of_a_revoked_lot_to_what_it_owes(
    app: Connection, account: UUID
) -> None:
    """As it does without the closing: the lot's money was returned."""
    lot = grant(app, account, 100)
    spent = spend(app, account, 100)
    revoke(app, lot_of(app, lot), shortfall_policy="block_future_grants")
    close(app, account)
    reopen(app, account)
    refund(app, spent["id"])
    assert (balance(app, account), balances(app, account)["withheld"]) == (0, 0)
    assert discrepancies(app) == []


def test_what_moves_after_a_closing_owes_nothing_of_before(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    spend(app, account, 50)
    close(app, account)
    reopen(app, account)
    grant(app, account, 100)
    refund(app, spend(app, account, 60)["id"])
    assert balance(app, account) == 100
    assert discrepancies(app) == []


def test_closing_tells_nobody_of_a_low_balance(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    close(app, account)
    assert low_balance_notices(app, account) == []


def test_closing_and_spending_at_once_lose_nothing(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda: close(one, account), lambda: spend(two, account, 30)])
    errors = [result.sqlstate for result in results if isinstance(result, psycopg.Error)]
    assert errors in ([], ["TB008"])
    assert balance(app, account) == 0
    assert entries(app, account)[-1] == ("adjustment", -100 if errors else -70)
    assert discrepancies(app) == []
