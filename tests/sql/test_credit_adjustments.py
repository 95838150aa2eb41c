"""An administrator's adjustments of a balance."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.accounts import close, freeze
from tests.sql.calls import (
    Connection,
    Row,
    adjust,
    balance,
    balances,
    discrepancies,
    grant,
    hold,
    lots,
    refused,
    set_limits,
    spend,
)
from tests.sql.lots import in_days


def test_adjustment_adds_credits_as_a_lot(app: Connection, account: UUID) -> None:
    expires_at = in_days(3)
    entry = adjust(app, account, 100, expires_at=expires_at)
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("adjustment", 100, 100)
    assert (entry["description"], entry["actor"]) == ("goodwill", "ada@example.com")
    (lot,) = lots(app, account)
    assert (lot["remaining"], lot["expires_at"], lot["entry_id"]) == (100, expires_at, entry["id"])
    assert spend(app, account, 100)["balance_after"] == 0
    assert discrepancies(app) == []


def test_adjustment_takes_credits_from_lots_in_their_order(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    grant(app, account, 10, priority=5)
    entry = adjust(app, account, -15)
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("adjustment", -15, 5)
    assert (entry["description"], entry["actor"]) == ("goodwill", "ada@example.com")
    assert [lot["remaining"] for lot in lots(app, account)] == [5, 0]
    assert discrepancies(app) == []


def test_adjustment_takes_neither_more_than_there_is_nor_what_is_held_nor_the_overdraft(
    app: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    hold(app, account, 4)
    with refused("TB001"):
        adjust(app, account, -7)
    assert adjust(app, account, -6)["balance_after"] == 4
    assert discrepancies(app) == []


def test_adjustment_repays_debt(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    spend(app, account, 30)
    assert adjust(app, account, 40)["balance_after"] == 10
    assert balances(app, account)["debt"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("amount", [0, Decimal("0.5"), Decimal("-1.5"), Decimal("NaN"), None], ids=str)
def test_adjustment_of_no_whole_number_is_refused(app: Connection, account: UUID, amount: Any) -> None:
    grant(app, account, 10)
    with refused("TB005"):
        adjust(app, account, amount)


@pytest.mark.parametrize("amount", [5, -5])
@pytest.mark.parametrize(
    "missing", [{"reason": ""}, {"reason": None}, {"actor": ""}, {"actor": None}], ids=str
)
def test_adjustment_needs_a_reason_and_an_actor(
    app: Connection, account: UUID, amount: int, missing: Row
) -> None:
    grant(app, account, 10)
    with refused("TB028"):
        adjust(app, account, amount, **missing)
    assert balance(app, account) == 10


@pytest.mark.parametrize("amount", [5, -5])
def test_replayed_adjustment_returns_the_first_entry(app: Connection, account: UUID, amount: int) -> None:
    grant(app, account, 10)
    first = adjust(app, account, amount, "ticket-1")
    assert adjust(app, account, amount, "ticket-1") == first
    assert balance(app, account) == 10 + amount


@pytest.mark.parametrize("amount", [5, -5])
@pytest.mark.parametrize(
    "change", [{"amount": 6}, {"amount": -6}, {"reason": "x"}, {"actor": "bob"}], ids=str
)
def test_adjustment_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, amount: int, change: Row
) -> None:
    grant(app, account, 10)
    arguments: Row = {"amount": amount, "key": "ticket-1"}
    adjust(app, account, **arguments)
    with refused("TB002"):
        adjust(app, account, **(arguments | change))
    with refused("TB002"):
        adjust(app, account, -amount, "ticket-1")
    with refused("TB002"):
        spend(app, account, 5, "ticket-1")
    assert balance(app, account) == 10 + amount


def test_adjustment_of_no_account_is_refused(app: Connection) -> None:
    for amount in [5, -5]:
        for nobody in [uuid4(), None]:
            with refused("TB004"):
                adjust(app, nobody, amount)


def test_adjustment_of_a_frozen_account_is_allowed_and_of_a_closed_one_refused(
    app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 10)
    freeze(conn, account)
    assert adjust(app, account, -5)["balance_after"] == 5
    assert adjust(app, account, 5)["balance_after"] == 10
    close(app, account)
    for amount in [5, -5]:
        with refused("TB008"):
            adjust(app, account, amount)
    assert discrepancies(app) == []


def test_adjustment_counts_nothing_towards_the_cap(app: Connection, account: UUID) -> None:
    set_limits(app, account, spend_cap=10, spend_cap_period="day")
    grant(app, account, 100)
    adjust(app, account, -50)
    assert spend(app, account, 10)["amount"] == -10
