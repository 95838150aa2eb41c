"""Holds: credits set aside that nobody else can take, captured in parts, given back, or gone with the clock."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    Row,
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
    release,
    set_limits,
    spend,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def held_of_lots(conn: Connection, account: UUID) -> list[int]:
    """What is held of each lot, oldest first."""
    return [lot["held"] for lot in lots(conn, account)]


def the_hold(conn: Connection) -> Row:
    """The only hold there is."""
    return fetch_one(conn, "select * from billing.credit_holds")


def freeze(conn: Connection) -> None:
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'under review'")


def test_hold_sets_credits_aside_and_writes_no_entry(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, "job", description="A film", feature="films", metadata={"n": 1})
    assert (row["amount"], row["captured"], row["status"], row["settled_at"]) == (60, 0, "held", None)
    assert (row["description"], row["feature"], row["metadata"]) == ("A film", "films", {"n": 1})
    assert row == the_hold(app)
    assert entries(app, account) == [("grant", 100)]
    assert (balance(app, account), balances(app, account)["held"], available(app, account)) == (100, 60, 40)
    assert discrepancies(app) == []


def test_hold_lasts_an_hour_unless_told(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 1)
    assert HOUR <= row["expires_at"] - row["created_at"] < HOUR + MINUTE
    row = hold(app, account, 1, expires_in=3 * MINUTE)
    assert 3 * MINUTE <= row["expires_at"] - row["created_at"] < 4 * MINUTE


def test_hold_pins_lots_in_the_order_of_spending(app: Connection, account: UUID) -> None:
    for priority, expires_at in [(100, None), (100, in_days(2)), (100, in_days(1)), (5, None)]:
        grant(app, account, 10, priority=priority, expires_at=expires_at)
    row = hold(app, account, 25)
    assert held_of_lots(app, account) == [0, 5, 10, 10]
    entry = capture(app, row["id"], 12)
    assert held_of_lots(app, account) == [0, 5, 8, 0]
    assert [lot["remaining"] for lot in lots(app, account)] == [10, 10, 8, 0]
    query = "select grant_id, amount from billing.credit_consumptions where entry_id = %s order by amount"
    third, fourth = lots(app, account)[2:]
    assert fetch(app, query, [entry["id"]]) == [
        {"grant_id": third["id"], "amount": 2},
        {"grant_id": fourth["id"], "amount": 10},
    ]
    assert discrepancies(app) == []


def test_second_hold_pins_what_the_first_has_left(app: Connection, account: UUID) -> None:
    for _ in range(2):
        grant(app, account, 10)
    first, second = hold(app, account, 7), hold(app, account, 8)
    assert held_of_lots(app, account) == [10, 5]
    with refused("TB001"):
        hold(app, account, 6)
    capture(app, second["id"])
    assert [lot["remaining"] for lot in lots(app, account)] == [7, 5]
    release(app, first["id"])
    assert held_of_lots(app, account) == [0, 0]
    assert discrepancies(app) == []


def test_capture_of_all_settles_the_hold(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, description="A film", feature="films")
    entry = capture(app, row["id"], 60, metadata={"frames": 9})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("capture", -60, 40)
    assert (entry["hold_id"], entry["feature"], entry["description"]) == (row["id"], "films", "A film")
    assert entry["metadata"] == {"frames": 9}
    settled = the_hold(app)
    assert (settled["status"], settled["captured"], settled["settled_at"] is not None) == (
        "captured",
        60,
        True,
    )
    assert (balances(app, account)["held"], available(app, account)) == (0, 40)
    assert discrepancies(app) == []


def test_capture_without_an_amount_takes_all_that_is_left(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    capture(app, row["id"], 25)
    assert capture(app, row["id"])["amount"] == -35
    assert the_hold(app)["status"] == "captured"
    with refused("TB020"):
        capture(app, row["id"])
    assert discrepancies(app) == []


def test_capture_in_parts_keeps_the_rest_held(app: Connection, account: UUID) -> None:
    for amount in [10, 20, 30]:
        grant(app, account, amount)
    row = hold(app, account, 50, description="A film")
    for amount, described in [(5, None), (20, "Reel 2"), (24, None)]:
        entry = capture(app, row["id"], amount, description=described)
        assert entry["description"] == (described or "A film")
        assert discrepancies(app) == []
    assert (the_hold(app)["captured"], the_hold(app)["status"]) == (49, "held")
    assert (balance(app, account), available(app, account)) == (11, 10)
    capture(app, row["id"], 1)
    assert (the_hold(app)["captured"], the_hold(app)["status"]) == (50, "captured")
    assert [lot["closed_at"] is not None for lot in lots(app, account)] == [True, True, False]
    assert (balance(app, account), available(app, account)) == (10, 10)
    assert discrepancies(app) == []


def test_capture_may_release_the_rest(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    capture(app, row["id"], 10)
    capture(app, row["id"], 20, release_rest=True)
    assert (the_hold(app)["captured"], the_hold(app)["status"]) == (30, "captured")
    assert (balance(app, account), available(app, account)) == (70, 70)
    with refused("TB020"):
        capture(app, row["id"], 1)
    assert spend(app, account, 70)["balance_after"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("captured", [0, 20])
def test_capture_of_more_than_is_held_is_refused(app: Connection, account: UUID, captured: int) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    if captured:
        capture(app, row["id"], captured)
    with refused("TB025"):
        capture(app, row["id"], 61 - captured)
    assert the_hold(app)["captured"] == captured
    assert available(app, account) == 40
    capture(app, row["id"], 60 - captured)
    assert discrepancies(app) == []


def test_release_gives_back_what_was_not_captured(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    capture(app, row["id"], 10)
    released = release(app, row["id"])
    assert (released["status"], released["captured"], released["settled_at"] is not None) == (
        "released",
        10,
        True,
    )
    assert (balance(app, account), available(app, account)) == (90, 90)
    assert entries(app, account) == [("grant", 100), ("capture", -10)]
    assert spend(app, account, 90)["balance_after"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("settle", [release, capture], ids=["released", "captured"])
def test_settled_hold_moves_nothing_more(app: Connection, account: UUID, settle: Any) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    settle(app, row["id"])
    left = balance(app, account)
    for again in [release, capture]:
        with refused("TB020"):
            again(app, row["id"])
    with refused("TB020"):
        call(app, "extend_hold", hold_id=row["id"], expires_in=HOUR)
    assert (balance(app, account), available(app, account)) == (left, left)
    assert discrepancies(app) == []


@pytest.mark.parametrize("nothing", [uuid4(), None], ids=["unknown", "null"])
def test_hold_that_does_not_exist_is_refused(app: Connection, nothing: UUID | None) -> None:
    with refused("TB019"):
        capture(app, nothing, 1)
    with refused("TB019"):
        release(app, nothing)
    with refused("TB019"):
        call(app, "extend_hold", hold_id=nothing, expires_in=HOUR)


def test_hold_on_an_account_that_does_not_exist_is_refused(app: Connection) -> None:
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            hold(app, nobody, 1)


@pytest.mark.parametrize("amount", [0, -1, Decimal("1.5"), None], ids=str)
def test_hold_of_no_whole_number_of_credits_is_refused(app: Connection, account: UUID, amount: Any) -> None:
    grant(app, account, 10)
    with refused("TB005"):
        hold(app, account, amount)
    row = hold(app, account, 5)
    if amount is not None:
        with refused("TB005"):
            capture(app, row["id"], amount)
    assert (the_hold(app)["captured"], available(app, account)) == (0, 5)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_holding_needs_an_idempotency_key(app: Connection, account: UUID, key: str) -> None:
    grant(app, account, 10)
    row = hold(app, account, 5)
    with refused("TB006"):
        hold(app, account, 1, idempotency_key=key)
    with refused("TB006"):
        capture(app, row["id"], 1, idempotency_key=key)
    with refused("TB006"):
        call(app, "release_hold", hold_id=row["id"], idempotency_key=key)
    assert the_hold(app)["status"] == "held"


def test_metadata_of_a_hold_or_a_capture_is_an_object(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    row = hold(app, account, 5)
    with refused("TB007"):
        hold(app, account, 1, metadata=Jsonb([1]))
    with refused("TB007"):
        capture(app, row["id"], 1, metadata=Jsonb([1]))


@pytest.mark.parametrize(
    "expires_in", [None, timedelta(0), -HOUR, timedelta(milliseconds=999), 366 * DAY], ids=str
)
def test_hold_lasts_from_a_second_to_a_year(
    app: Connection, account: UUID, expires_in: timedelta | None
) -> None:
    grant(app, account, 10)
    with refused("TB024"):
        hold(app, account, 1, expires_in=expires_in)
    row = hold(app, account, 1, expires_in=timedelta(seconds=1))
    with refused("TB024"):
        call(app, "extend_hold", hold_id=row["id"], expires_in=expires_in)
    hold(app, account, 1, expires_in=360 * DAY)
    assert discrepancies(app) == []


def test_spends_cannot_take_what_is_held(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    for takes in [spend, hold]:
        with refused("TB001") as caught:
            takes(app, account, 41)
        assert "has 40 credits available, 41 are needed" in str(caught.value)
    assert spend(app, account, 100, up_to=True)["amount"] == -40
    assert capture(app, row["id"])["balance_after"] == 0
    assert discrepancies(app) == []


def test_hold_takes_what_is_there_and_never_the_overdraft(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    with refused("TB001"):
        hold(app, account, 11)
    row = hold(app, account, 10)
    entry = spend(app, account, 50)
    assert (entry["debt"], entry["balance_after"]) == (50, -40)
    assert capture(app, row["id"])["balance_after"] == -50
    assert discrepancies(app) == []


def test_hold_released_beside_debt_leaves_nothing_to_spend_twice(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    row = hold(app, account, 10)
    spend(app, account, 4)
    release(app, row["id"])
    set_limits(app, account)
    assert available(app, account) == 6
    with refused("TB001"):
        spend(app, account, 7)
    assert spend(app, account, 6)["balance_after"] == 0
    assert discrepancies(app) == []


def test_released_credits_repay_debt_before_they_can_lapse(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 100, expires_at=in_days(1))
    row = hold(app, account, 60)
    spend(app, account, 80)
    assert (balance(app, account), available(app, account)) == (20, 0)
    release(app, row["id"])
    assert (balance(app, account), available(app, account)) == (20, 20)
    assert value(app, "select debt from billing.credit_balances where account_id = %s", [account]) == 0
    repayment = fetch_one(app, "select amount, debt from billing.credit_entries where kind = 'repayment'")
    assert repayment == {"amount": 0, "debt": -40}
    move_clock(admin, 2 * DAY)
    expire_due(app)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_expired_hold_repays_debt_before_its_lots_expire(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 100, expires_at=in_days(1))
    hold(app, account, 60, expires_in=2 * DAY)
    spend(app, account, 80)
    move_clock(admin, 3 * DAY)
    assert available(app, account) == 0
    expire_due(app)
    assert (balance(app, account), available(app, account)) == (0, 0)
    assert entries(app, account)[2:] == [("repayment", 0), ("expiry", -20)]
    assert discrepancies(app) == []


def test_capture_that_releases_the_rest_repays_debt(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 100)
    row = hold(app, account, 60)
    spend(app, account, 80)
    capture(app, row["id"], 30, release_rest=True)
    assert (balance(app, account), lots(app, account)[0]["remaining"]) == (-10, 0)
    assert entries(app, account)[3:] == [("repayment", 0)]
    assert discrepancies(app) == []


HOLD = {
    "amount": 10,
    "key": "job",
    "expires_in": HOUR,
    "description": "a film",
    "metadata": {"n": 1},
    "feature": "films",
}


def test_replayed_hold_returns_the_first(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    first = hold(app, account, **HOLD)
    assert hold(app, account, **HOLD) == first
    assert available(app, account) == 90


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 11},
        {"expires_in": 2 * HOUR},
        {"description": None},
        {"metadata": {}},
        {"feature": "images"},
    ],
    ids=str,
)
def test_hold_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 100)
    hold(app, account, **HOLD)
    with refused("TB002"):
        hold(app, account, **(HOLD | change))
    assert available(app, account) == 90


def test_replay_of_a_hold_tells_what_became_of_it(app: Connection, conn: Connection, account: UUID) -> None:
    grant(app, account, 10)
    first = hold(app, account, **HOLD)
    capture(app, first["id"])
    freeze(conn)
    again = hold(app, account, **HOLD)
    assert (again["id"], again["status"], again["captured"]) == (first["id"], "captured", 10)
    assert balance(app, account) == 0


def test_replayed_capture_returns_the_first_entry(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    first = capture(app, row["id"], 25, "part", description="Reel 1", metadata={"n": 1})
    for amount in [25, None]:
        assert capture(app, row["id"], amount, "part", description="Reel 1", metadata={"n": 1}) == first
    last = capture(app, row["id"], None, "rest")
    for amount in [35, None]:
        assert capture(app, row["id"], amount, "rest") == last
    assert entries(app, account) == [("grant", 100), ("capture", -25), ("capture", -35)]
    assert discrepancies(app) == []


def test_replayed_capture_that_released_the_rest_returns_the_first_entry(
    app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    first = capture(app, row["id"], 25, "part", release_rest=True)
    assert capture(app, row["id"], 25, "part", release_rest=True) == first
    with refused("TB002"):
        capture(app, row["id"], 25, "part")
    assert available(app, account) == 75


def test_replayed_part_released_nothing_though_a_later_one_did(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    first = capture(app, row["id"], 25, "part")
    capture(app, row["id"], 10, "last", release_rest=True)
    assert capture(app, row["id"], 25, "part") == first
    with refused("TB002"):
        capture(app, row["id"], 25, "part", release_rest=True)


@pytest.mark.parametrize(
    "change",
    [{"amount": 26}, {"description": "Reel 2"}, {"metadata": {}}, {"release_rest": True}],
    ids=str,
)
def test_capture_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    arguments = {"amount": 25, "key": "part", "description": "Reel 1", "metadata": {"n": 1}}
    capture(app, row["id"], **arguments)
    with refused("TB002"):
        capture(app, row["id"], **(arguments | change))
    assert (the_hold(app)["captured"], the_hold(app)["status"]) == (25, "held")


def test_key_of_a_capture_is_no_key_for_another_hold_or_a_spend(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    first, second = hold(app, account, 10), hold(app, account, 10)
    capture(app, first["id"], 10, "part")
    with refused("TB002"):
        capture(app, second["id"], 10, "part")
    with refused("TB002"):
        spend(app, account, 10, "part")
    spend(app, account, 10, "job")
    with refused("TB002"):
        capture(app, second["id"], 10, "job")
    assert balance(app, account) == 80


def test_replayed_release_returns_the_hold_as_it_is(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    first = release(app, row["id"], "stop")
    assert release(app, row["id"], "stop") == first
    assert available(app, account) == 100


def test_release_with_the_key_of_another_release_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    first, second = hold(app, account, 10), hold(app, account, 10)
    release(app, first["id"], "stop")
    with refused("TB002"):
        release(app, second["id"], "stop")
    assert available(app, account) == 90


def test_refused_capture_leaves_its_key_free(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with refused("TB025"):
        capture(app, row["id"], 61, "part")
    assert capture(app, row["id"], 60, "part")["amount"] == -60


def test_hold_pins_its_lot_beyond_the_lot_s_expiry(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    row = hold(app, account, 60, expires_in=5 * DAY)
    move_clock(admin, DAY - 5 * MINUTE)
    assert (balance(app, account), available(app, account)) == (100, 40)
    move_clock(admin, DAY + 5 * MINUTE)
    # Nothing has moved yet: what is not held is gone already.
    assert (balance(app, account), available(app, account)) == (100, 0)
    with refused("TB001"):
        spend(app, account, 1)
    entry = capture(app, row["id"], 25)
    assert entry["balance_after"] == 35
    assert entries(app, account) == [("grant", 100), ("expiry", -40), ("capture", -25)]
    assert (balance(app, account), available(app, account)) == (35, 0)
    assert discrepancies(app) == []


def test_what_is_released_of_an_expired_lot_expires_at_once(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    grant(app, account, 10)
    row = hold(app, account, 60, expires_in=5 * DAY)
    move_clock(admin, 2 * DAY)
    assert available(app, account) == 10
    capture(app, row["id"], 25)
    assert (balance(app, account), available(app, account)) == (45, 10)
    release(app, row["id"])
    assert available(app, account) == 10
    assert discrepancies(app) == []
    with refused("TB001"):
        spend(app, account, 11)
    expire_due(app)
    assert (balance(app, account), available(app, account)) == (10, 10)
    assert entries(app, account)[2:] == [("expiry", -40), ("capture", -25), ("expiry", -35)]
    (lot, _) = lots(app, account)
    assert (lot["remaining"], lot["held"], lot["closed_at"] is not None) == (0, 0, True)
    assert discrepancies(app) == []


def test_rest_that_a_capture_releases_of_an_expired_lot_expires_at_once(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    row = hold(app, account, 100, expires_in=5 * DAY)
    move_clock(admin, 2 * DAY)
    capture(app, row["id"], 30, release_rest=True)
    assert available(app, account) == 0
    with refused("TB001"):
        spend(app, account, 1)
    expire_due(app)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_hold_over_two_lots_gives_back_only_what_has_not_expired(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 30, expires_at=in_days(1))
    grant(app, account, 30, expires_at=in_days(3))
    hold(app, account, 50, expires_in=2 * DAY)
    seen = []
    for at in [0 * DAY, 1.5 * DAY, 2.5 * DAY, 3.5 * DAY]:
        move_clock(admin, at)
        seen.append(available(app, account))
    assert seen == [10, 10, 30, 0]
    # The clock has not moved back; swept in one go it ends where the view has been all along.
    assert entries(app, account) == [("grant", 30), ("grant", 30)]
    swept = expire_due(app)
    assert (swept["holds_expired"], swept["lots_expired"], swept["credits_expired"]) == (1, 2, 60)
    assert (balance(app, account), available(app, account)) == (0, 0)
    assert discrepancies(app) == []


def test_hold_expires_by_the_clock_before_any_sweep(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=HOUR)
    move_clock(admin, HOUR - MINUTE)
    assert available(app, account) == 40
    move_clock(admin, HOUR + MINUTE)
    assert (the_hold(app)["status"], available(app, account)) == ("held", 100)
    assert spend(app, account, 100)["balance_after"] == 0
    expired = the_hold(app)
    assert (expired["status"], expired["settled_at"]) == ("expired", row["expires_at"])
    assert discrepancies(app) == []


def test_capture_after_the_hold_expired_is_refused_and_writes_nothing(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=HOUR)
    before = balances(app, account)
    move_clock(admin, 2 * HOUR)
    with refused("TB020"):
        capture(app, row["id"], 1)
    assert the_hold(app) == row
    assert balances(app, account) == before
    assert entries(app, account) == [("grant", 100)]
    assert available(app, account) == 100
    assert discrepancies(app) == []


def test_capture_of_part_counts_though_the_rest_expired(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=HOUR)
    entry = capture(app, row["id"], 25, "part")
    move_clock(admin, 2 * HOUR)
    assert available(app, account) == 75
    expire_due(app)
    assert (the_hold(app)["status"], the_hold(app)["captured"]) == ("expired", 25)
    assert capture(app, row["id"], 25, "part") == entry
    with refused("TB020"):
        capture(app, row["id"], 1)
    assert available(app, account) == 75
    assert discrepancies(app) == []


def test_release_after_the_hold_expired_returns_it_as_expired(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=HOUR)
    move_clock(admin, 2 * HOUR)
    for _ in range(2):
        assert release(app, row["id"], "stop")["status"] == "expired"
    assert (balances(app, account)["held"], available(app, account)) == (0, 100)
    assert discrepancies(app) == []


def test_extended_hold_outlives_its_first_time(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=HOUR)
    move_clock(admin, HOUR - MINUTE)
    extended = call(app, "extend_hold", hold_id=row["id"], expires_in=2 * HOUR)
    assert timedelta(0) <= extended["expires_at"] - row["created_at"] - (3 * HOUR - MINUTE) < MINUTE
    move_clock(admin, 2 * HOUR)
    assert available(app, account) == 40
    assert expire_due(app)["holds_expired"] == 0
    assert capture(app, row["id"], 10)["amount"] == -10
    move_clock(admin, 4 * HOUR)
    assert available(app, account) == 90
    with refused("TB020"):
        call(app, "extend_hold", hold_id=row["id"], expires_in=HOUR)
    assert discrepancies(app) == []


def test_extending_never_shortens_a_hold(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60, expires_in=5 * HOUR)
    assert call(app, "extend_hold", hold_id=row["id"], expires_in=HOUR)["expires_at"] == row["expires_at"]


def test_frozen_account_takes_no_hold_but_settles_those_it_has(
    app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    freeze(conn)
    with refused("TB003"):
        hold(app, account, 1)
    assert capture(app, row["id"], 25)["balance_after"] == 75
    assert release(app, row["id"])["status"] == "released"
    with refused("TB003"):
        spend(app, account, 1)
    assert discrepancies(app) == []


def test_closed_account_takes_no_hold(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    call(app, "close_account", account_id=account, reason="asked for", actor="ada")
    with refused("TB008"):
        hold(app, account, 1)


def test_hold_counts_against_the_cap_until_it_is_captured(app: Connection, account: UUID) -> None:
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    grant(app, account, 1000)
    with refused("TB021"):
        hold(app, account, 51)
    row = hold(app, account, 40)
    assert balances(app, account)["spent_in_period"] == 0
    for takes in [spend, hold]:
        with refused("TB021") as caught:
            takes(app, account, 11)
        assert "may spend 10 more credits this day" in str(caught.value)
    capture(app, row["id"], 30)
    assert balances(app, account)["spent_in_period"] == 30
    assert spend(app, account, 100, up_to=True)["amount"] == -10
    capture(app, row["id"], 10)
    assert balances(app, account)["spent_in_period"] == 50
    for takes in [spend, hold]:
        with refused("TB021"):
            takes(app, account, 1)
    assert discrepancies(app) == []


def test_many_holds_together_stay_within_the_cap(app: Connection, account: UUID) -> None:
    set_limits(app, account, spend_cap=100, spend_cap_period="day")
    grant(app, account, 1000)
    held = [hold(app, account, 60), hold(app, account, 40)]
    with refused("TB021"):
        hold(app, account, 1)
    with refused("TB021"):
        call(
            app,
            "spend_credits_batch",
            spends=Jsonb([{"account_id": str(account), "amount": 1, "idempotency_key": "y"}]),
        )
    for row in held:
        capture(app, row["id"])
    assert balances(app, account)["spent_in_period"] == 100


def test_capture_counts_in_the_period_it_happens_in(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, spend_cap=90, spend_cap_period="day")
    grant(app, account, 1000)
    row = hold(app, account, 40, expires_in=5 * DAY)
    spend(app, account, 50)
    move_clock(admin, DAY)
    capture(app, row["id"], 40)
    with refused("TB021"):
        spend(app, account, 51)
    spend(app, account, 50)
    assert discrepancies(app) == []


def test_released_or_expired_hold_counts_nothing_towards_the_cap(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    grant(app, account, 1000)
    release(app, hold(app, account, 50)["id"])
    hold(app, account, 50, expires_in=SECOND)
    move_clock(admin, 2 * SECOND)
    assert spend(app, account, 50)["amount"] == -50


def test_capture_can_be_refunded_to_the_lots_that_were_pinned(app: Connection, account: UUID) -> None:
    for _ in range(2):
        grant(app, account, 10)
    row = hold(app, account, 15)
    spend(app, account, 5)
    entry = capture(app, row["id"], 12)
    refund(app, entry["id"], 5)
    assert [(lot["remaining"], lot["held"]) for lot in lots(app, account)] == [(3, 0), (5, 3)]
    assert discrepancies(app) == []


def test_holds_of_another_account_are_never_touched(
    database: Database, app: Connection, admin: Connection, account: UUID
) -> None:
    other = account_of(app, create_user(database))
    for one in (account, other):
        grant(app, one, 100)
    hold(app, account, 60, "job", expires_in=HOUR)
    theirs = hold(app, other, 70, "job", expires_in=3 * HOUR)
    move_clock(admin, 2 * HOUR)
    assert (available(app, account), available(app, other)) == (100, 30)
    spend(app, account, 1)
    assert (available(app, account), available(app, other)) == (99, 30)
    assert capture(app, theirs["id"])["balance_after"] == 30
    assert discrepancies(app) == []


def test_two_captures_of_one_hold_at_once_take_no_more_than_it_holds(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: capture(c, row["id"], 40) for c in (one, two)])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB025"]
    assert (the_hold(app)["captured"], balance(app, account), available(app, account)) == (40, 60, 40)
    assert discrepancies(app) == []


def test_two_parts_captured_at_once_are_both_taken(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: capture(c, row["id"], 30) for c in (one, two)])
    assert not [result for result in results if isinstance(result, psycopg.Error)]
    assert (the_hold(app)["captured"], the_hold(app)["status"], balance(app, account)) == (60, "captured", 40)
    assert discrepancies(app) == []


def test_same_capture_twice_at_once_is_one_entry(database: Database, app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda c=c: capture(c, row["id"], 40, "part") for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert first == second
    assert (the_hold(app)["captured"], balance(app, account)) == (40, 60)


def test_same_hold_twice_at_once_is_one_hold(database: Database, app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda c=c: hold(c, account, 40, "job") for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert first == second
    assert available(app, account) == 60


def test_two_holds_at_once_set_aside_no_more_than_there_is(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: hold(c, account, 60) for c in (one, two)])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB001"]
    assert available(app, account) == 40
    assert discrepancies(app) == []


def test_capture_and_release_at_once_end_in_one_of_them(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda: capture(one, row["id"]), lambda: release(two, row["id"])])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB020"]
    was_captured = the_hold(app)["status"] == "captured"
    assert available(app, account) == (40 if was_captured else 100)
    assert discrepancies(app) == []


def test_capture_that_waited_sees_what_was_released_meanwhile(
    database: Database, app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    row = hold(app, account, 60)
    with (
        database.connect("service_role", autocommit=False) as one,
        database.connect("service_role") as two,
    ):
        release(one, row["id"])
        with blocked(two, conn, lambda: capture(two, row["id"], 10)) as waiting:
            one.commit()
            with refused("TB020"):
                waiting.result()
    assert balance(app, account) == 100
    assert value(app, "select count(*) from billing.credit_entries") == 1
