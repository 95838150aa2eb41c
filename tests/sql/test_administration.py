"""What an administrator does to an account: adjust, transfer, set limits, close and open again."""

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
    release,
    revoke,
    schedule,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)
LARGEST = 2**63 - 1


@pytest.fixture
def other(database: Database, conn: Connection) -> UUID:
    """The account of somebody else."""
    return account_of(conn, create_user(database))


def lot_of(conn: Connection, entry: Row) -> int:
    """The lot that an entry opened."""
    return value(conn, "select id from billing.credit_grants where entry_id = %s", [entry["id"]])


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def freeze(conn: Connection, account: UUID) -> None:
    conn.execute(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'under review' where id = %s",
        [account],
    )


def close(conn: Connection, account: UUID) -> Row:
    return call(conn, "close_account", account_id=account, reason="asked for", actor="ada@example.com")


def reopen(conn: Connection, account: UUID) -> Row:
    return call(conn, "reopen_account", account_id=account)


def low_balance_notices(conn: Connection, account: UUID) -> list[Row]:
    return fetch(
        conn,
        "select audience, payload from billing.notifications where kind = 'low_balance' and account_id = %s "
        "order by id",
        [account],
    )


# Adjustments.


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


# Transfers.


def test_transfer_moves_credits_with_their_priority_and_expiry(
    app: Connection, account: UUID, other: UUID
) -> None:
    soon, later = in_days(2), in_days(9)
    grant(app, account, 10, expires_at=later)
    grant(app, account, 10, expires_at=soon)
    grant(app, account, 10, priority=5)
    entry = transfer(app, account, other, 25, description="A gift", metadata={"n": 1})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("transfer_out", -25, 5)
    assert (entry["reference_id"], entry["description"]) == (str(other), "A gift")
    assert entry["metadata"] == {"n": 1}
    assert [(lot["amount"], lot["priority"], lot["expires_at"]) for lot in lots(app, other)] == [
        (10, 5, None),
        (10, 100, soon),
        (5, 100, later),
    ]
    assert entries(app, other) == [("transfer_in", 10), ("transfer_in", 10), ("transfer_in", 5)]
    query = "select distinct reference_id from billing.credit_entries where account_id = %s"
    assert value(app, query, [other]) == str(account)
    assert discrepancies(app) == []


def test_transferred_credits_expire_no_later_than_they_would_have(
    app: Connection, admin: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    transfer(app, account, other, 10)
    assert available(app, other) == 10
    move_clock(admin, 2 * DAY)
    assert available(app, other) == 0
    assert expire_due(app)["credits_expired"] == 10
    assert discrepancies(app) == []


def test_transfer_first_lets_lots_expire_that_are_due(
    app: Connection, admin: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    grant(app, account, 10)
    move_clock(admin, 2 * DAY)
    with refused("TB001"):
        transfer(app, account, other, 11)
    transfer(app, account, other, 10)
    assert (balance(app, account), balance(app, other)) == (0, 10)
    assert discrepancies(app) == []


def test_transfer_moves_neither_what_is_held_nor_the_overdraft(
    app: Connection, account: UUID, other: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    hold(app, account, 4)
    with refused("TB001"):
        transfer(app, account, other, 7)
    transfer(app, account, other, 6)
    assert (balance(app, account), balance(app, other)) == (4, 6)
    assert discrepancies(app) == []


def test_transfer_repays_what_the_receiver_owes(app: Connection, account: UUID, other: UUID) -> None:
    set_limits(app, other, overdraft=50)
    spend(app, other, 15)
    for _ in range(2):
        grant(app, account, 10)
    transfer(app, account, other, 20)
    row = balances(app, other)
    assert (row["balance"], row["debt"]) == (5, 0)
    assert discrepancies(app) == []


def test_transfer_to_itself_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    with refused("TB030"):
        transfer(app, account, account, 5)
    assert balance(app, account) == 10


def test_transfer_from_or_to_no_account_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            transfer(app, account, nobody, 5)
        with refused("TB004"):
            transfer(app, nobody, account, 5)
    assert balance(app, account) == 10


def test_transfer_refuses_malformed_requests(app: Connection, account: UUID, other: UUID) -> None:
    grant(app, account, 10)
    for amount in [0, -1, Decimal("0.5"), None]:
        with refused("TB005"):
            transfer(app, account, other, amount)
    with refused("TB006"):
        call(
            app,
            "transfer_credits",
            from_account_id=account,
            to_account_id=other,
            amount=1,
            idempotency_key="",
        )
    with refused("TB007"):
        transfer(app, account, other, 1, metadata=Jsonb([1]))
    assert (balance(app, account), balance(app, other)) == (10, 0)


def test_frozen_account_gives_nothing_and_may_receive(
    app: Connection, conn: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        grant(app, one, 10)
    freeze(conn, account)
    with refused("TB003"):
        transfer(app, account, other, 5)
    transfer(app, other, account, 5)
    assert (balance(app, account), balance(app, other)) == (15, 5)


def test_closed_account_neither_gives_nor_receives(app: Connection, account: UUID, other: UUID) -> None:
    for one in (account, other):
        grant(app, one, 10)
    close(app, account)
    for giver, receiver in [(account, other), (other, account)]:
        with refused("TB008"):
            transfer(app, giver, receiver, 5)
    assert balance(app, other) == 10


def test_replayed_transfer_returns_the_first_entry(
    app: Connection, conn: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10)
    first = transfer(app, account, other, 5, "gift", description="d", metadata={"n": 1})
    freeze(conn, account)
    assert transfer(app, account, other, 5, "gift", description="d", metadata={"n": 1}) == first
    assert (balance(app, account), balance(app, other)) == (5, 5)


@pytest.mark.parametrize("change", [{"amount": 4}, {"description": None}, {"metadata": {}}], ids=str)
def test_transfer_with_a_used_key_and_other_arguments_is_refused(
    database: Database, app: Connection, account: UUID, other: UUID, change: Row
) -> None:
    grant(app, account, 10)
    arguments: Row = {"amount": 5, "key": "gift", "description": "d", "metadata": {"n": 1}}
    transfer(app, account, other, **arguments)
    with refused("TB002"):
        transfer(app, account, other, **(arguments | change))
    third = account_of(app, create_user(database))
    with refused("TB002"):
        transfer(app, account, third, **arguments)
    assert (balance(app, account), balance(app, other), balance(app, third)) == (5, 5, 0)


def test_transfer_that_the_receiver_cannot_hold_moves_nothing(
    app: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10)
    grant(app, other, LARGEST - 4)
    with refused("TB009"):
        transfer(app, account, other, 5)
    assert (balance(app, account), balance(app, other)) == (10, LARGEST - 4)
    assert discrepancies(app) == []


def test_two_accounts_transferring_to_each_other_at_once_never_deadlock(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        for _ in range(3):
            grant(app, one, 50)
    with database.connect("service_role") as one, database.connect("service_role") as two:

        def give(connection: Connection, giver: UUID, receiver: UUID, amount: int) -> None:
            for _ in range(25):
                transfer(connection, giver, receiver, amount)

        results = at_once([lambda: give(one, account, other, 2), lambda: give(two, other, account, 1)])
    assert results == [None, None]
    assert (balance(app, account), balance(app, other)) == (125, 175)
    assert discrepancies(app) == []


def test_same_transfer_twice_at_once_moves_once(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda c=c: transfer(c, account, other, 30, "gift") for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert first == second
    assert (balance(app, account), balance(app, other)) == (70, 30)


# Limits.


def test_overdraft_lets_spends_reach_exactly_its_limit(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    entry = spend(app, account, 40)
    assert (entry["balance_after"], entry["debt"]) == (-30, 30)
    with refused("TB001") as caught:
        spend(app, account, 21)
    assert "has 20 credits available, 21 are needed" in str(caught.value)
    assert spend(app, account, 20)["balance_after"] == -50
    assert available(app, account) == 0
    with refused("TB001"):
        spend(app, account, 1)
    assert grant(app, account, 60)["balance_after"] == 10
    assert balances(app, account)["debt"] == 0
    assert discrepancies(app) == []


def test_spending_up_to_takes_what_there_is_and_the_overdraft(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=5)
    grant(app, account, 10)
    hold(app, account, 3)
    entry = spend(app, account, 100, "job", up_to=True)
    assert (entry["amount"], entry["up_to"], entry["balance_after"]) == (-12, 100, -2)
    assert spend(app, account, 100, "job", up_to=True) == entry
    with refused("TB001"):
        spend(app, account, 100, up_to=True)
    with refused("TB002"):
        spend(app, account, 12, "job")
    with refused("TB002"):
        spend(app, account, 99, "job", up_to=True)
    assert discrepancies(app) == []


def test_spend_without_a_word_on_up_to_can_be_replayed(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    first = spend(app, account, 5, "job", up_to=None)
    assert spend(app, account, 5, "job", up_to=None) == first
    assert spend(app, account, 5, "job") == first


def test_overdraft_taken_away_leaves_the_debt_and_lends_no_more(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    spend(app, account, 30)
    set_limits(app, account)
    with refused("TB001"):
        spend(app, account, 1)
    assert balances(app, account)["debt"] == 30
    assert discrepancies(app) == []


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_spend_cap_holds_for_its_period_and_begins_anew(
    app: Connection, admin: Connection, account: UUID, period: str
) -> None:
    grant(app, account, 1000)
    set_limits(app, account, spend_cap=50, spend_cap_period=period)
    query = "select date_trunc(%s, billing.current_time(), 'UTC') + %s::interval - billing.current_time()"
    until_next: timedelta = value(app, query, [period, f"1 {period}"])
    assert timedelta(0) < until_next <= 31 * DAY
    minute = timedelta(minutes=1)
    if until_next > 2 * minute:
        spend(app, account, 30)
        move_clock(admin, until_next - minute)
        with refused("TB021") as caught:
            spend(app, account, 21)
        assert f"may spend 20 more credits this {period}, 21 are needed" in str(caught.value)
        spend(app, account, 20)
        with refused("TB021"):
            spend(app, account, 1)
    move_clock(admin, until_next + minute)
    with refused("TB021"):
        spend(app, account, 51)
    assert spend(app, account, 50)["amount"] == -50
    with refused("TB021"):
        spend(app, account, 1)
    assert discrepancies(app) == []


def test_spend_cap_counts_what_was_spent_before_it_was_set(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    spend(app, account, 500)
    move_clock(admin, 40 * DAY)
    spend(app, account, 30)
    held = hold(app, account, 10)
    capture(app, held["id"], 10)
    refund(app, spend(app, account, 7)["id"])
    row = set_limits(app, account, spend_cap=50, spend_cap_period="month")
    assert row["spent_in_period"] == 40
    with refused("TB021"):
        spend(app, account, 11)
    spend(app, account, 10)


def test_spend_cap_set_anew_counts_the_same_as_before(
    app: Connection, admin: Connection, account: UUID
) -> None:
    """A refund of an earlier period's spend makes no room in this one, however often the cap is set."""
    grant(app, account, 1000)
    set_limits(app, account, spend_cap=100, spend_cap_period="month")
    earlier = spend(app, account, 100)
    move_clock(admin, 40 * DAY)
    spend(app, account, 60)
    refund(app, earlier["id"])
    assert balances(app, account)["spent_in_period"] == 60
    row = set_limits(app, account, spend_cap=100, spend_cap_period="month")
    assert row["spent_in_period"] == 60


def test_period_that_has_begun_is_not_counted_anew(app: Connection, admin: Connection, account: UUID) -> None:
    """Neither by a clock that is set back, nor by a transaction that began in the period before."""
    grant(app, account, 1000)
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    move_clock(admin, 2 * DAY)
    spend(app, account, 50)
    move_clock(admin, DAY)
    with refused("TB021"):
        spend(app, account, 1)
    assert balances(app, account)["spent_in_period"] == 50


def test_spend_cap_counts_what_is_spent_while_it_is_set(
    database: Database, app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    spend(app, account, 20)
    with database.connect("service_role", autocommit=False) as other:
        earlier = spend(other, account, 30)
        with blocked(
            app, conn, lambda: set_limits(app, account, spend_cap=100, spend_cap_period="day")
        ) as done:
            refund(other, earlier["id"], 5)
            other.commit()
        assert done.result()["spent_in_period"] == 45


def test_nobody_waits_while_what_was_spent_is_added_up(
    database: Database, app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    with database.connect(autocommit=False) as reading, database.connect(autocommit=False) as moving:
        reading.execute("lock table billing.credit_entries in access exclusive mode")
        with blocked(
            app, conn, lambda: set_limits(app, account, spend_cap=100, spend_cap_period="day")
        ) as done:
            moving.execute("select from billing.credit_balances for update nowait")
            moving.rollback()
            reading.rollback()
        assert done.result()["spend_cap"] == 100


def test_spending_up_to_stops_at_the_cap(app: Connection, account: UUID) -> None:
    grant(app, account, 1000)
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    spend(app, account, 30)
    assert spend(app, account, 100, up_to=True)["amount"] == -20
    with refused("TB021"):
        spend(app, account, 100, up_to=True)
    assert balance(app, account) == 950
    assert discrepancies(app) == []


def test_spend_cap_of_nothing_refuses_every_spend(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    set_limits(app, account, spend_cap=0, spend_cap_period="day")
    for up_to in [False, True]:
        with refused("TB021"):
            spend(app, account, 1, up_to=up_to)


def test_replayed_spend_counts_once_towards_the_cap(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    for _ in range(3):
        spend(app, account, 30, "job")
    assert spend(app, account, 20)["amount"] == -20


def test_setting_limits_replaces_all_of_them(app: Connection, account: UUID) -> None:
    row = set_limits(
        app, account, overdraft=5, spend_cap=50, spend_cap_period="day", low_balance_threshold=10
    )
    assert (row["overdraft"], row["spend_cap"], row["spend_cap_period"]) == (5, 50, "day")
    assert row["low_balance_threshold"] == 10
    row = set_limits(app, account)
    assert (row["overdraft"], row["spend_cap"], row["spend_cap_period"]) == (0, None, None)
    assert row["low_balance_threshold"] is None
    grant(app, account, 1000)
    assert spend(app, account, 1000)["balance_after"] == 0


@pytest.mark.parametrize(
    ("limits", "sqlstate"),
    [
        ({"overdraft": -1}, "TB005"),
        ({"overdraft": Decimal("1.5")}, "TB005"),
        ({"overdraft": Decimal("NaN")}, "TB005"),
        ({"overdraft": 10**16}, "TB005"),
        ({"spend_cap": -1, "spend_cap_period": "day"}, "TB005"),
        ({"spend_cap": Decimal("0.5"), "spend_cap_period": "day"}, "TB005"),
        ({"low_balance_threshold": -1}, "TB005"),
        ({"spend_cap": 1}, "TB031"),
        ({"spend_cap_period": "day"}, "TB031"),
        ({"spend_cap": 1, "spend_cap_period": "year"}, "TB031"),
        ({"spend_cap": 1, "spend_cap_period": ""}, "TB031"),
    ],
    ids=str,
)
def test_limits_that_make_no_sense_are_refused(
    app: Connection, account: UUID, limits: Row, sqlstate: str
) -> None:
    before = balances(app, account)
    with refused(sqlstate):
        set_limits(app, account, **limits)
    assert balances(app, account) == before


def test_limits_of_no_account_are_refused(app: Connection) -> None:
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            set_limits(app, nobody)


# Low balance.


def test_fall_through_the_threshold_tells_the_customer_once(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    assert low_balance_notices(app, account) == []
    spend(app, account, 50)
    assert low_balance_notices(app, account) == []
    for _ in range(10):
        spend(app, account, 1)
    assert low_balance_notices(app, account) == [
        {"audience": "customer", "payload": {"available": 49, "threshold": 50}}
    ]


def test_each_fall_after_a_rise_tells_again(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    for falls in [1, 2, 3]:
        grant(app, account, 100)
        spend(app, account, 99)
        spend(app, account, 1)
        assert len(low_balance_notices(app, account)) == falls


def test_replay_of_the_spend_that_fell_tells_nothing(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    for _ in range(3):
        spend(app, account, 60, "job")
    assert len(low_balance_notices(app, account)) == 1


@pytest.fixture
def falls(app: Connection, admin: Connection, account: UUID, other: UUID) -> dict[str, Any]:
    """Name of a movement → what makes it, from 100 to 40."""
    return {
        "spend": lambda: spend(app, account, 60),
        "batch": lambda: call(
            app,
            "spend_credits_batch",
            spends=Jsonb(
                [{"account_id": str(account), "amount": 30, "idempotency_key": key} for key in ("1", "2")]
            ),
        ),
        "hold": lambda: hold(app, account, 60),
        "adjustment": lambda: adjust(app, account, -60),
        "transfer": lambda: transfer(app, account, other, 60),
        "revocation": lambda: revoke(app, lots(app, account)[0]["id"], 60),
        "expiry": lambda: (move_clock(admin, 2 * DAY), expire_due(app)),
    }


@pytest.mark.parametrize(
    "movement", ["spend", "batch", "hold", "adjustment", "transfer", "revocation", "expiry"]
)
def test_fall_is_told_whatever_movement_it_was(
    app: Connection, account: UUID, falls: dict[str, Any], movement: str
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 60, expires_at=in_days(1))
    grant(app, account, 40)
    falls[movement]()
    (notice,) = low_balance_notices(app, account)
    assert notice["payload"] == {"available": 40, "threshold": 50}


def test_each_hold_that_falls_after_a_release_tells_again(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    release(app, hold(app, account, 60)["id"])
    hold(app, account, 60)
    assert len(low_balance_notices(app, account)) == 2


def test_capture_of_what_was_held_is_no_second_fall(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    held = hold(app, account, 60)
    capture(app, held["id"])
    assert len(low_balance_notices(app, account)) == 1


def test_refused_spend_tells_nothing(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with refused("TB001"):
        spend(app, account, 101)
    assert low_balance_notices(app, account) == []


def test_grant_that_leaves_the_balance_low_is_no_fall(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 10)
    spend(app, account, 5)
    assert low_balance_notices(app, account) == []


def test_grant_that_is_withheld_is_no_fall(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    revoke(app, value(app, "select id from billing.credit_grants"), shortfall_policy="block_future_grants")
    set_limits(app, account, low_balance_threshold=50)
    assert grant(app, account, 80)["id"] > granted["id"]
    assert available(app, account) == 0
    assert low_balance_notices(app, account) == []


def test_hold_that_expires_with_its_lot_is_no_fall(app: Connection, admin: Connection, account: UUID) -> None:
    """Nothing was available before, nothing is after: what the hold gives back expires in the same sweep."""
    grant(app, account, 100, expires_at=in_days(1))
    hold(app, account, 100, expires_in=2 * DAY)
    set_limits(app, account, low_balance_threshold=50)
    move_clock(admin, 3 * DAY)
    expire_due(app)
    assert available(app, account) == 0
    assert low_balance_notices(app, account) == []


def test_threshold_set_above_the_balance_tells_nothing_until_it_falls_again(
    app: Connection, account: UUID
) -> None:
    grant(app, account, 30)
    set_limits(app, account, low_balance_threshold=50)
    spend(app, account, 10)
    assert low_balance_notices(app, account) == []
    grant(app, account, 30)
    spend(app, account, 10)
    assert len(low_balance_notices(app, account)) == 1


def test_falls_and_rises_within_a_transaction_are_told_as_it_ends(
    database: Database, app: Connection, account: UUID
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as connection:
        first = spend(connection, account, 60)
        refund(connection, first["id"])
        connection.commit()
        assert low_balance_notices(app, account) == []
        for _ in range(2):
            spend(connection, account, 60)
            grant(connection, account, 60)
        spend(connection, account, 70)
        assert low_balance_notices(app, account) == []
        connection.commit()
    (notice,) = low_balance_notices(app, account)
    assert notice["payload"]["available"] == 30


def test_transaction_that_checks_constraints_at_once_may_fall_twice(
    database: Database, app: Connection, account: UUID
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as connection:
        connection.execute("set constraints all immediate")
        spend(connection, account, 60)
        grant(connection, account, 60)
        spend(connection, account, 60)
        connection.commit()
    assert low_balance_notices(app, account)
    assert balance(app, account) == 40


# Closing and opening again.


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
