"""Lots: in which order they are spent, how they expire, and how a grant repays debt."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    Connection,
    available,
    balance,
    call,
    discrepancies,
    entries,
    fetch,
    fetch_one,
    grant,
    lots,
    move_clock,
    refused,
    spend,
    value,
)
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def remaining(conn: Connection, account: UUID) -> list[int]:
    """What is left of each lot, oldest first."""
    return [lot["remaining"] for lot in lots(conn, account)]


def test_grant_returns_its_entry_and_opens_a_lot(app: Connection, account: UUID) -> None:
    entry = grant(app, account, 100, "welcome", description="Welcome", source="promo", metadata={"n": 1})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("grant", 100, 100)
    assert (entry["source"], entry["description"], entry["metadata"]) == ("promo", "Welcome", {"n": 1})
    (lot,) = lots(app, account)
    assert (lot["entry_id"], lot["remaining"], lot["closed_at"]) == (entry["id"], 100, None)


def test_spend_returns_its_entry_and_says_which_lot_paid(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    entry = spend(app, account, 30, "job", description="An image", feature="images", metadata={"n": 1})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("spend", -30, 70)
    assert (entry["description"], entry["feature"]) == ("An image", "images")
    (lot,) = lots(app, account)
    assert lot["remaining"] == 70
    consumed = fetch_one(app, "select * from billing.credit_consumptions")
    assert consumed == {"entry_id": entry["id"], "grant_id": lot["id"], "amount": 30}


def test_lower_priority_number_is_spent_first(app: Connection, account: UUID) -> None:
    for priority in [100, 5, 50]:
        grant(app, account, 10, priority=priority, expires_at=in_days(200 - priority))
    spend(app, account, 15)
    assert remaining(app, account) == [10, 0, 5]


def test_within_a_priority_the_soonest_to_expire_is_spent_first(app: Connection, account: UUID) -> None:
    for expires_at in [None, in_days(9), in_days(2)]:
        grant(app, account, 10, expires_at=expires_at)
    spend(app, account, 12)
    assert remaining(app, account) == [10, 8, 0]


def test_the_oldest_of_equal_lots_is_spent_first(app: Connection, account: UUID) -> None:
    for _ in range(3):
        grant(app, account, 10)
    spend(app, account, 12)
    assert remaining(app, account) == [0, 8, 10]


def test_spend_across_lots_names_each_and_closes_the_empty(app: Connection, account: UUID) -> None:
    for amount in [10, 20, 30]:
        grant(app, account, amount)
    entry = spend(app, account, 35)
    query = "select amount from billing.credit_consumptions where entry_id = %s order by grant_id"
    assert [row["amount"] for row in fetch(app, query, [entry["id"]])] == [10, 20, 5]
    assert [lot["closed_at"] is not None for lot in lots(app, account)] == [True, True, False]
    assert discrepancies(app) == []


def test_spend_first_closes_lots_that_are_due(app: Connection, admin: Connection, account: UUID) -> None:
    expires_at = in_days(1)
    grant(app, account, 40, expires_at=expires_at, source="promo", reference_id="spring")
    grant(app, account, 10)
    move_clock(admin, 2 * DAY)
    spend(app, account, 10)
    assert entries(app, account) == [("grant", 40), ("grant", 10), ("expiry", -40), ("spend", -10)]
    expiry = fetch_one(app, "select * from billing.credit_entries where kind = 'expiry'")
    assert (expiry["source"], expiry["reference_id"], expiry["key_space"]) == ("promo", "spring", "system")
    assert (expiry["occurred_at"], expiry["balance_after"]) == (expires_at, 10)
    assert discrepancies(app) == []


def test_spend_that_only_due_lots_could_pay_is_refused(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    grant(app, account, 5)
    move_clock(admin, 2 * DAY)
    with refused("TB001") as caught:
        spend(app, account, 6)
    assert "has 5 credits available" in str(caught.value)


@pytest.mark.parametrize("more", [{}, {"up_to": True}], ids=["plain", "judged"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": 100}, {"priority": 5}),
        ({"expires_at": None}, {"expires_at": in_days(9)}),
        ({"expires_at": in_days(9)}, {"expires_at": in_days(2)}),
    ],
    ids=["priority", "never", "sooner"],
)
def test_spend_that_either_lot_could_pay_takes_the_one_that_is_due_first(
    app: Connection, account: UUID, first: dict[str, Any], second: dict[str, Any], more: dict[str, Any]
) -> None:
    grant(app, account, 10, **first)
    grant(app, account, 10, **second)
    spend(app, account, 3, **more)
    assert remaining(app, account) == [10, 7]


def test_business_key_is_granted_once_whatever_the_account(
    app: Connection, admin: Connection, account: UUID, database: Database
) -> None:
    other = account_of(app, create_user(database))
    query = (
        "select billing._grant_credits(%s, 10, 'stripe', 'monthly:si_1:2026', 'stripe.monthly_allocation', "
        "'sub_1', 'A month')"
    )
    admin.execute(query, [account])
    with pytest.raises(psycopg.errors.UniqueViolation):
        admin.execute(query, [other])
    assert balance(app, other) == 0


def test_lot_expires_at_its_time_and_not_before(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    move_clock(admin, DAY - timedelta(minutes=5))
    assert available(app, account) == 40
    spend(app, account, 1)
    move_clock(admin, DAY + timedelta(minutes=5))
    assert available(app, account) == 0


def test_available_leaves_out_what_is_due_though_nothing_has_closed_it(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    grant(app, account, 20, expires_at=in_days(5))
    grant(app, account, 10)
    move_clock(admin, 2 * DAY)
    assert (balance(app, account), available(app, account)) == (70, 30)
    assert discrepancies(app) == []
    spend(app, account, 30)
    assert (balance(app, account), available(app, account)) == (0, 0)


def test_balance_knows_when_the_next_lot_falls_due(app: Connection, admin: Connection, account: UUID) -> None:
    def next_due() -> datetime | None:
        return value(app, "select next_due_at from billing.credit_balances")

    soon, later = in_days(1), in_days(3)
    grant(app, account, 10)
    assert next_due() is None
    grant(app, account, 10, expires_at=later)
    grant(app, account, 10, expires_at=soon)
    assert next_due() == soon
    move_clock(admin, 2 * DAY)
    spend(app, account, 1)
    assert next_due() == later


def put_in_debt(app: Connection, account: UUID, debt: int) -> None:
    """Spend on an overdraft, which then is taken away."""
    call(app, "set_credit_limits", account_id=account, overdraft=debt)
    assert spend(app, account, debt)["debt"] == debt
    call(app, "set_credit_limits", account_id=account)
    assert discrepancies(app) == []


def test_grant_repays_debt_first(app: Connection, account: UUID) -> None:
    put_in_debt(app, account, 30)
    assert grant(app, account, 100)["balance_after"] == 70
    row = fetch_one(app, "select balance, debt from billing.credit_balances")
    assert row == {"balance": 70, "debt": 0}
    assert remaining(app, account) == [70]
    assert value(app, "select amount from billing.credit_consumptions") == 30
    assert discrepancies(app) == []
    assert spend(app, account, 70)["balance_after"] == 0
    assert discrepancies(app) == []


def test_grant_smaller_than_the_debt_is_used_up_by_it(app: Connection, account: UUID) -> None:
    put_in_debt(app, account, 30)
    grant(app, account, 20, expires_at=in_days(1))
    row = fetch_one(app, "select balance, debt, next_due_at from billing.credit_balances")
    assert row == {"balance": -10, "debt": 10, "next_due_at": None}
    (lot,) = lots(app, account)
    assert (lot["remaining"], lot["closed_at"] is not None) == (0, True)
    assert discrepancies(app) == []


def test_account_in_debt_has_nothing_to_spend(app: Connection, account: UUID) -> None:
    put_in_debt(app, account, 30)
    assert available(app, account) == 0
    with refused("TB001") as caught:
        spend(app, account, 1)
    assert "has 0 credits available" in str(caught.value)


def test_spend_is_refused_rather_than_booked_when_lots_and_balance_disagree(
    app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 10)
    conn.execute("update billing.credit_balances set balance = 50")
    with refused("TB016"):
        spend(app, account, 20)
    assert entries(app, account) == [("grant", 10)]
