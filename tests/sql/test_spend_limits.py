"""An account's overdraft and its cap on what is spent in a period."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from tests.sql.calls import (
    Connection,
    Row,
    available,
    balance,
    balances,
    capture,
    discrepancies,
    grant,
    hold,
    move_clock,
    refund,
    refused,
    set_limits,
    spend,
    value,
)
from tests.sql.lots import DAY
from tests.sql.races import blocked
from tests.support import Database


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
