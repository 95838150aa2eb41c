"""What time alone does: holds expire, scheduled lots open, lots expire; swept by anybody, any time, twice."""

from collections.abc import Callable
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
    adjust,
    available,
    balance,
    balances,
    call,
    discrepancies,
    entries,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    lots,
    move_clock,
    refused,
    revoke,
    schedule,
    set_limits,
    spend,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOTHING = {
    "accounts": 0,
    "holds_expired": 0,
    "lots_opened": 0,
    "lots_expired": 0,
    "credits_expired": 0,
}


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def swept(**counts: int) -> Row:
    return NOTHING | counts


def some_accounts(database: Database, conn: Connection, count: int) -> list[UUID]:
    """In the order in which they are swept."""
    return sorted(account_of(conn, create_user(database)) for _ in range(count))


# Sweeping.


def test_sweep_expires_lots_that_are_due_and_counts_them(
    database: Database, app: Connection, admin: Connection, account: UUID
) -> None:
    other = account_of(app, create_user(database))
    soon, later = in_days(1), in_days(1.5)
    grant(app, account, 40, expires_at=later, source="promo", reference_id="spring")
    grant(app, account, 30, expires_at=soon)
    grant(app, account, 20, expires_at=in_days(9))
    grant(app, other, 5, expires_at=soon)
    spend(app, account, 10)
    move_clock(admin, 2 * DAY)
    assert expire_due(app) == swept(accounts=2, lots_expired=3, credits_expired=65)
    assert entries(app, account)[-2:] == [("expiry", -20), ("expiry", -40)]
    rows = fetch(
        app,
        "select * from billing.credit_entries where kind = 'expiry' and account_id = %s order by id",
        [account],
    )
    assert [(row["occurred_at"], row["balance_after"]) for row in rows] == [(soon, 60), (later, 20)]
    assert (rows[1]["source"], rows[1]["reference_id"], rows[1]["key_space"]) == ("promo", "spring", "system")
    assert (balance(app, account), balance(app, other)) == (20, 0)
    assert discrepancies(app) == []


def test_sweep_finds_nothing_the_second_time(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    hold(app, account, 10, expires_in=HOUR)
    schedule(app, account, 5, in_days(1))
    assert expire_due(app) == NOTHING
    move_clock(admin, 2 * DAY)
    assert expire_due(app) == swept(
        accounts=1, holds_expired=1, lots_opened=1, lots_expired=1, credits_expired=40
    )
    before = entries(app, account), lots(app, account), balances(app, account)
    assert expire_due(app) == NOTHING
    assert (entries(app, account), lots(app, account), balances(app, account)) == before


def test_sweep_of_nobody_finds_nothing(app: Connection) -> None:
    assert expire_due(app) == NOTHING


def test_worker_may_sweep(app: Connection, worker: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    move_clock(admin, 2 * DAY)
    assert expire_due(worker)["credits_expired"] == 40


def test_holds_scheduled_lots_and_lots_are_swept_in_one_go(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    grant(app, account, 10)
    hold(app, account, 45, expires_in=1.5 * DAY)
    schedule(app, account, 7, in_days(1))
    schedule(app, account, 8, in_days(1.1), expires_at=in_days(1.2))
    schedule(app, account, 9, in_days(5))
    move_clock(admin, 2 * DAY)
    seen = available(app, account)
    assert expire_due(app) == swept(
        accounts=1, holds_expired=1, lots_opened=2, lots_expired=2, credits_expired=48
    )
    assert (balance(app, account), available(app, account), seen) == (17, 17, 17)
    assert balances(app, account)["held"] == 0
    assert discrepancies(app) == []


def test_what_a_live_hold_pins_outlives_the_sweep(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 40, expires_at=in_days(1))
    hold(app, account, 25, expires_in=3 * DAY)
    move_clock(admin, 2 * DAY)
    assert expire_due(app) == swept(accounts=1, lots_expired=1, credits_expired=15)
    assert expire_due(app) == NOTHING
    assert (balance(app, account), available(app, account)) == (25, 0)
    move_clock(admin, 4 * DAY)
    assert available(app, account) == 0
    assert expire_due(app) == swept(accounts=1, holds_expired=1, lots_expired=1, credits_expired=25)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_scheduled_lot_opens_and_expires_within_one_sweep(
    app: Connection, admin: Connection, account: UUID
) -> None:
    opens, expires = in_days(1), in_days(2)
    schedule(app, account, 100, opens, expires_at=expires)
    move_clock(admin, 3 * DAY)
    assert available(app, account) == 0
    assert expire_due(app) == swept(accounts=1, lots_opened=1, lots_expired=1, credits_expired=100)
    rows = fetch(app, "select kind, amount, occurred_at from billing.credit_entries order by id")
    assert rows == [
        {"kind": "grant", "amount": 100, "occurred_at": opens},
        {"kind": "expiry", "amount": -100, "occurred_at": expires},
    ]
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_scheduled_lot_that_repays_debt_expires_with_what_is_left(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    spend(app, account, 30)
    schedule(app, account, 100, in_days(1), expires_at=in_days(2))
    move_clock(admin, 3 * DAY)
    assert expire_due(app) == swept(accounts=1, lots_opened=1, lots_expired=1, credits_expired=70)
    row = balances(app, account)
    assert (row["balance"], row["debt"]) == (0, 0)
    assert discrepancies(app) == []


def test_sweep_as_of_a_past_moment_leaves_what_fell_due_since(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    grant(app, account, 20, expires_at=in_days(3))
    hold(app, account, 30, expires_in=2 * DAY)
    schedule(app, account, 5, in_days(1.2))
    schedule(app, account, 6, in_days(3))
    move_clock(admin, 4 * DAY)
    assert expire_due(app, as_of=in_days(0.5)) == NOTHING
    assert expire_due(app, as_of=in_days(1.5)) == swept(accounts=1, lots_opened=1)
    assert discrepancies(app) == []
    assert expire_due(app, as_of=in_days(2.5)) == swept(
        accounts=1, holds_expired=1, lots_expired=1, credits_expired=10
    )
    assert discrepancies(app) == []
    assert expire_due(app) == swept(accounts=1, lots_opened=1, lots_expired=1, credits_expired=20)
    assert balance(app, account) == 11
    assert discrepancies(app) == []


def test_sweep_as_of_the_future_is_refused(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    for days in [0.01, 365]:
        with refused("TB022"):
            expire_due(app, as_of=in_days(days))
    move_clock(admin, 2 * DAY)
    assert expire_due(app, as_of=in_days(1.5))["credits_expired"] == 10


def test_sweep_takes_no_more_accounts_than_told(
    database: Database, app: Connection, admin: Connection
) -> None:
    accounts = some_accounts(database, app, 5)
    for one in accounts:
        grant(app, one, 10, expires_at=in_days(1))
    move_clock(admin, 2 * DAY)
    assert expire_due(app, accounts_max=0) == NOTHING
    assert expire_due(app, accounts_max=-1) == NOTHING
    seen = [expire_due(app, accounts_max=2)["accounts"] for _ in range(4)]
    assert seen == [2, 2, 1, 0]
    assert [balance(app, one) for one in accounts] == [0] * 5
    assert discrepancies(app) == []


def test_account_that_somebody_has_locked_is_skipped_and_swept_later(
    database: Database, app: Connection, admin: Connection
) -> None:
    accounts = some_accounts(database, app, 3)
    for one in accounts:
        grant(app, one, 10, expires_at=in_days(1))
    move_clock(admin, 2 * DAY)
    with database.connect("service_role", autocommit=False) as busy:
        grant(busy, accounts[1], 1)
        assert expire_due(app) == swept(accounts=2, lots_expired=2, credits_expired=20)
        busy.rollback()
    assert [balance(app, one) for one in accounts] == [0, 10, 0]
    assert expire_due(app) == swept(accounts=1, lots_expired=1, credits_expired=10)
    assert discrepancies(app) == []


def test_two_sweeps_at_once_expire_each_lot_once(
    database: Database, app: Connection, admin: Connection
) -> None:
    accounts = some_accounts(database, app, 12)
    for one in accounts:
        grant(app, one, 10, expires_at=in_days(1))
        hold(app, one, 4, expires_in=HOUR)
        schedule(app, one, 3, in_days(1))
    move_clock(admin, 2 * DAY)
    with database.connect("service_role") as one, database.connect("billing_worker") as two:
        first, second = at_once([lambda c=c: expire_due(c) for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert not isinstance(second, psycopg.Error)
    total = {name: first[name] + second[name] + expire_due(app)[name] for name in NOTHING}
    assert total == swept(accounts=12, holds_expired=12, lots_opened=12, lots_expired=12, credits_expired=120)
    assert [balance(app, one) for one in accounts] == [3] * 12
    assert discrepancies(app) == []


def test_sweeps_and_spends_at_once_never_deadlock(
    database: Database, app: Connection, admin: Connection
) -> None:
    accounts = some_accounts(database, app, 6)
    for one in accounts:
        grant(app, one, 50)
        for days in range(1, 9):
            grant(app, one, 5, expires_at=in_days(days))
    with database.connect("service_role") as one, database.connect("billing_worker") as two:

        def spend_all(order: list[UUID]) -> None:
            for _ in range(8):
                for each in order:
                    spend(one, each, 1)

        def sweep_all() -> None:
            for day in range(1, 9):
                move_clock(admin, day * DAY + HOUR)
                expire_due(two)

        results = at_once([lambda: spend_all(accounts[::-1]), sweep_all])
    assert results == [None, None]
    expire_due(app)
    for each in accounts:
        expired = -sum(amount for kind, amount in entries(app, each) if kind == "expiry")
        assert balance(app, each) == 50 + 40 - 8 - expired
        # A spend takes from what expires soonest, so at most 8 of the 40 did not expire.
        assert 32 <= expired <= 40
    assert discrepancies(app) == []


def test_sweep_tells_the_balance_when_it_falls_due_next(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    later = in_days(4)
    grant(app, account, 10, expires_at=later)
    opening = schedule(app, account, 10, in_days(3))["effective_at"]
    expiring = hold(app, account, 15, expires_in=timedelta(days=2.5))["expires_at"]
    seen = []
    for days in [2, 2.75, 3.5, 5]:
        move_clock(admin, days * DAY)
        expire_due(app)
        seen.append(balances(app, account)["next_due_at"])
        assert discrepancies(app) == []
    assert seen == [expiring, opening, later, None]


def test_movement_sweeps_its_own_account_first(
    database: Database, app: Connection, admin: Connection, account: UUID
) -> None:
    other = account_of(app, create_user(database))
    for one in (account, other):
        grant(app, one, 10, expires_at=in_days(1))
        schedule(app, one, 20, in_days(1))
    move_clock(admin, 2 * DAY)
    spend(app, account, 20)
    assert (balance(app, account), balance(app, other)) == (0, 10)
    assert expire_due(app)["accounts"] == 1
    assert (balance(app, account), balance(app, other)) == (0, 20)
    assert discrepancies(app) == []


def test_frozen_account_is_swept_like_any_other(
    app: Connection, admin: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    schedule(app, account, 20, in_days(1))
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'a test'")
    move_clock(admin, 2 * DAY)
    assert expire_due(app) == swept(accounts=1, lots_opened=1, lots_expired=1, credits_expired=10)
    assert discrepancies(app) == []


# Scheduling.


def test_scheduled_credits_are_a_lot_without_an_entry_until_they_open(app: Connection, account: UUID) -> None:
    opens = in_days(1)
    lot = schedule(
        app, account, 100, opens, "june", description="June", source="plan", reference_id="p1", priority=5
    )
    assert (lot["amount"], lot["remaining"], lot["entry_id"], lot["closed_at"]) == (100, 0, None, None)
    assert (lot["effective_at"], lot["priority"], lot["source"]) == (opens, 5, "plan")
    assert (lot["reference_id"], lot["description"], lot["idempotency_key"]) == ("p1", "June", "june")
    assert lots(app, account) == [lot]
    assert entries(app, account) == []
    assert (balance(app, account), available(app, account)) == (0, 0)
    with refused("TB001"):
        spend(app, account, 1)
    assert discrepancies(app) == []


def test_scheduled_lot_opens_by_itself_at_the_next_movement(
    app: Connection, admin: Connection, account: UUID
) -> None:
    opens, expires = in_days(1), in_days(9)
    schedule(
        app, account, 100, opens, source="plan", reference_id="p1", description="June", expires_at=expires
    )
    move_clock(admin, DAY - 5 * timedelta(minutes=1))
    assert available(app, account) == 0
    with refused("TB001"):
        spend(app, account, 1)
    move_clock(admin, DAY + timedelta(minutes=5))
    assert (balance(app, account), available(app, account)) == (0, 100)
    assert spend(app, account, 30)["balance_after"] == 70
    assert entries(app, account) == [("grant", 100), ("spend", -30)]
    entry = fetch_one(app, "select * from billing.credit_entries where kind = 'grant'")
    assert (entry["occurred_at"], entry["source"], entry["reference_id"]) == (opens, "plan", "p1")
    assert (entry["description"], entry["key_space"]) == ("June", "system")
    (lot,) = lots(app, account)
    assert (lot["entry_id"], lot["remaining"], lot["expires_at"]) == (entry["id"], 70, expires)
    move_clock(admin, 10 * DAY)
    assert available(app, account) == 0
    assert discrepancies(app) == []


def test_scheduled_lot_is_spent_by_its_priority_once_open(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 10)
    schedule(app, account, 10, in_days(1), priority=5)
    schedule(app, account, 10, in_days(2), priority=1)
    move_clock(admin, 1.5 * DAY)
    spend(app, account, 5)
    assert [lot["remaining"] for lot in lots(app, account)] == [10, 5, 0]
    assert discrepancies(app) == []


def test_several_scheduled_lots_open_in_the_order_of_their_times(
    app: Connection, admin: Connection, account: UUID
) -> None:
    for days in [3, 1, 2]:
        schedule(app, account, days, in_days(days))
    move_clock(admin, 2.5 * DAY)
    assert available(app, account) == 3
    expire_due(app)
    assert entries(app, account) == [("grant", 1), ("grant", 2)]
    move_clock(admin, 4 * DAY)
    expire_due(app)
    assert entries(app, account) == [("grant", 1), ("grant", 2), ("grant", 3)]
    assert discrepancies(app) == []


@pytest.mark.parametrize("days", [0, -1])
def test_scheduling_for_a_time_that_is_not_to_come_is_refused(
    app: Connection, account: UUID, days: int
) -> None:
    with refused("TB012"):
        schedule(app, account, 10, in_days(days) - timedelta(seconds=1))
    with refused("TB012"):
        schedule(app, account, 10, None)
    assert lots(app, account) == []


def test_scheduling_goes_by_billing_s_clock(app: Connection, admin: Connection, account: UUID) -> None:
    move_clock(admin, 2 * DAY)
    with refused("TB012"):
        schedule(app, account, 10, in_days(1))
    schedule(app, account, 10, in_days(3))


def test_scheduled_credits_that_expire_before_they_open_are_refused(app: Connection, account: UUID) -> None:
    opens = in_days(2)
    for expires_at in [in_days(1), opens, in_days(-1)]:
        with refused("TB012"):
            schedule(app, account, 10, opens, expires_at=expires_at)
    assert lots(app, account) == []


SCHEDULE: Row = {
    "amount": 10,
    "effective_at": in_days(1),
    "key": "june",
    "description": "June",
    "source": "plan",
    "reference_id": "p1",
    "expires_at": in_days(9),
    "priority": 5,
}


def test_replayed_schedule_returns_the_first_lot(app: Connection, account: UUID) -> None:
    first = schedule(app, account, **SCHEDULE)
    assert schedule(app, account, **SCHEDULE) == first
    assert len(lots(app, account)) == 1


def test_replayed_schedule_returns_its_lot_also_once_it_has_opened_and_was_spent(
    app: Connection, admin: Connection, account: UUID
) -> None:
    first = schedule(app, account, **SCHEDULE)
    move_clock(admin, 2 * DAY)
    spend(app, account, 10)
    again = schedule(app, account, **SCHEDULE)
    assert (again["id"], again["remaining"], again["closed_at"] is not None) == (first["id"], 0, True)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 11},
        {"effective_at": in_days(2)},
        {"description": None},
        {"source": "app"},
        {"reference_id": None},
        {"expires_at": None},
        {"priority": 6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_schedule_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    schedule(app, account, **SCHEDULE)
    with refused("TB002"):
        schedule(app, account, **(SCHEDULE | change))
    assert len(lots(app, account)) == 1


def test_key_of_a_grant_is_no_key_for_a_schedule_nor_the_other_way_round(
    app: Connection, account: UUID
) -> None:
    grant(app, account, 10, "may")
    with refused("TB002"):
        schedule(app, account, 10, in_days(1), "may")
    schedule(app, account, 10, in_days(1), "june")
    with refused("TB002"):
        grant(app, account, 10, "june")
    assert balance(app, account) == 10
    assert discrepancies(app) == []


def test_key_of_a_spend_is_no_key_for_a_schedule(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    spend(app, account, 1, "job")
    with refused("TB002"):
        schedule(app, account, 10, in_days(1), "job")
    assert len(lots(app, account)) == 1


@pytest.mark.parametrize("amount", [0, -1, Decimal("1.5"), None], ids=str)
def test_scheduling_refuses_malformed_requests(app: Connection, account: UUID, amount: Any) -> None:
    with refused("TB005"):
        schedule(app, account, amount, in_days(1))
    with refused("TB006"):
        schedule(app, account, 1, in_days(1), idempotency_key="")
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            schedule(app, nobody, 1, in_days(1))


def test_frozen_account_may_be_scheduled_for_and_a_closed_one_not(
    app: Connection, conn: Connection, account: UUID
) -> None:
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'a test'")
    first = schedule(app, account, **SCHEDULE)
    call(app, "close_account", account_id=account, reason="r", actor="a")
    with refused("TB008"):
        schedule(app, account, 1, in_days(1))
    assert schedule(app, account, **SCHEDULE)["id"] == first["id"]


def test_scheduled_lot_that_the_balance_cannot_hold_waits_and_holds_nothing_up(
    database: Database, app: Connection, admin: Connection, account: UUID
) -> None:
    other = account_of(app, create_user(database))
    grant(app, account, 2**63 - 1)
    schedule(app, account, 10, in_days(1))
    grant(app, other, 5, expires_at=in_days(1))
    move_clock(admin, 2 * DAY)
    assert expire_due(app)["credits_expired"] == 5
    assert spend(app, account, 4)["balance_after"] == 2**63 - 5
    assert available(app, account) == 2**63 - 5
    assert discrepancies(app) == []
    spend(app, account, 6)
    expire_due(app)
    assert balance(app, account) == 2**63 - 1
    assert discrepancies(app) == []


def test_same_schedule_twice_at_once_is_one_lot(database: Database, app: Connection, account: UUID) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda c=c: schedule(c, account, **SCHEDULE) for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert first == second
    assert value(app, "select count(*) from billing.credit_grants") == 1


@pytest.mark.parametrize("policy", ["allow_negative", "block_future_grants"])
@pytest.mark.parametrize("lasts", [None, 1])
def test_available_foresees_what_a_scheduled_lot_gives_up_when_it_opens(
    app: Connection, admin: Connection, account: UUID, policy: str, lasts: int | None
) -> None:
    """Debt is repaid and withheld credits are kept back first, also by a lot that has expired by then."""
    granted = grant(app, account, 60)
    spend(app, account, 60)
    lot_id = value(app, "select id from billing.credit_grants where entry_id = %s", [granted["id"]])
    revoke(app, lot_id, shortfall_policy=policy)
    schedule(app, account, 100, in_days(1), expires_at=lasts and in_days(1 + lasts))
    schedule(app, account, 7, in_days(2))
    move_clock(admin, 3 * DAY)
    foreseen = available(app, account)
    assert foreseen == (47 if lasts is None else 7)
    expire_due(app)
    assert available(app, account) == foreseen
    assert discrepancies(app) == []


Take = Callable[[Connection, UUID], object]
TAKES: dict[str, Take] = {
    "spend": lambda conn, account: spend(conn, account, 50),
    "spend up to": lambda conn, account: spend(conn, account, 50, up_to=True),
    "batch": lambda conn, account: call(
        conn,
        "spend_credits_batch",
        spends=Jsonb([{"account_id": str(account), "amount": 50, "idempotency_key": "y"}]),
    ),
    "hold": lambda conn, account: hold(conn, account, 50),
    "adjustment": lambda conn, account: adjust(conn, account, -50),
}


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_what_expires_while_a_movement_waits_for_the_lock_is_not_taken(
    database: Database, app: Connection, conn: Connection, admin: Connection, account: UUID, take: Take
) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    with database.connect("service_role", autocommit=False) as earlier:
        spend(earlier, account, 1)
        with blocked(app, conn, lambda: take(app, account)) as done:
            move_clock(admin, 2 * DAY)
            earlier.commit()
        with refused("TB001"):
            done.result()
    assert balance(app, account) == 99
    assert discrepancies(app) == []


def test_entries_are_in_the_order_of_their_time_however_early_their_transactions_began(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as early:
        early.execute("select now()")
        first = spend(app, account, 1)
        later = spend(early, account, 1)
        assert later["occurred_at"] > first["occurred_at"]
        early.commit()
