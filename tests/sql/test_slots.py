"""Monthly slots by the clock: each once, on the right days, never beyond what was paid for, whatever the order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    SECOND,
    Connection,
    Row,
    allocate,
    balance,
    call,
    discrepancies,
    expire_due,
    fetch,
    grant,
    item,
    line,
    link,
    lots,
    move_clock,
    refused,
    set_limits,
    spend,
    sync_invoice,
    sync_price,
    sync_subscription,
    value,
)
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)


def on(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 12, tzinfo=UTC)


START = on(2028, 1, 31)
YEAR_END = on(2029, 1, 31)


@pytest.fixture
def customer(app: Connection, account: UUID) -> UUID:
    """An account whose customer is cus_1."""
    link(app, account, "cus_1")
    return account


def sell(worker: Connection, interval: str = "year", count: int = 1, **metadata: str) -> None:
    """Put price_1 on sale: 100 credits a month."""
    sync_price(
        worker,
        recurring_interval=interval,
        recurring_interval_count=count,
        metadata={"monthly_credits": "100", **metadata},
    )


def subscribe(
    worker: Connection, start: datetime = START, end: datetime = YEAR_END, **more: Any
) -> Callable[..., str]:
    """A subscription whose first period is paid; the function tells of a later state."""
    states = {
        "billing_cycle_anchor": start,
        "started_at": start,
        "items": [item(current_period_start=start, current_period_end=end)],
    }
    sync_subscription(worker, **(states | {"as_of": start} | more))
    pay(worker, start, end)
    count = 0

    def changes(**state: Any) -> str:
        nonlocal count
        count += 1
        return sync_subscription(worker, **(states | {"as_of": start + count * SECOND} | state))

    return changes


def pay(worker: Connection, start: datetime, end: datetime, number: int = 1, **more: Any) -> None:
    sync_invoice(
        worker,
        **{
            "stripe_invoice_id": f"in_{number}",
            "invoiced_at": start,
            "as_of": start,
            "billing_reason": "subscription_create" if number == 1 else "subscription_cycle",
            "lines": [line(f"il_{number}", period_start=start, period_end=end)],
        }
        | more,
    )


def move_to(admin: Connection, moment: datetime) -> None:
    move_clock(admin, moment - datetime.now(UTC))


def slot_keys(conn: Connection) -> list[str]:
    """The days on which slots start, from their keys: at noon, all of them."""
    query = (
        "select right(idempotency_key, 20) as at from billing.credit_grants "
        "where source = 'stripe.monthly_allocation' order by 1"
    )
    keys = [row["at"] for row in fetch(conn, query)]
    assert all(key.endswith("T12:00:00Z") for key in keys)
    return [key[:10] for key in keys]


def subscribe_others(
    database: Database, app: Connection, worker: Connection, admin: Connection
) -> list[UUID]:
    """Three more accounts with a year each."""
    accounts = []
    for number in range(2, 5):
        account = account_of(admin, create_user(database))
        accounts.append(account)
        link(app, account, f"cus_{number}")
        names = {"stripe_subscription_id": f"sub_{number}", "stripe_customer_id": f"cus_{number}"}
        own = item(f"si_{number}", current_period_start=START, current_period_end=YEAR_END)
        sync_subscription(worker, **names, billing_cycle_anchor=START, items=[own])
        paid = line(
            f"il_{number}",
            stripe_subscription_item_id=f"si_{number}",
            period_start=START,
            period_end=YEAR_END,
        )
        pay(worker, START, YEAR_END, number, **names, lines=[paid])
    return accounts


LEAP_YEAR = [
    *("2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31", "2028-06-30"),
    *("2028-07-31", "2028-08-31", "2028-09-30", "2028-10-31", "2028-11-30", "2028-12-31"),
]


def test_year_gives_twelve_slots_on_the_days_of_its_anchor(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    assert slot_keys(conn) == LEAP_YEAR[:1]
    for month, day in enumerate(LEAP_YEAR[1:], start=1):
        starts = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        move_to(admin, starts - timedelta(minutes=1))
        assert allocate(worker)["slots_granted"] == 0
        move_to(admin, starts + timedelta(minutes=1))
        assert allocate(worker) == {"accounts": 1, "slots_granted": 1, "credits_granted": 100}
        assert slot_keys(conn) == LEAP_YEAR[: month + 1]
    move_to(admin, on(2035, 1, 1))
    assert allocate(worker)["accounts"] == 0
    assert balance(conn, customer) == 1200
    assert discrepancies(conn) == []


def test_year_from_31_january_of_a_common_year(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker, on(2027, 1, 31), on(2028, 1, 31))
    move_to(admin, on(2029, 1, 1))
    allocate(worker)
    days = [day.replace("2028-02-29", "2027-02-28").replace("2028", "2027") for day in LEAP_YEAR]
    assert slot_keys(conn) == days


def test_next_year_goes_on_from_the_same_anchor(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    """From 29 February: the second year starts on the 28th, and its months on the 29th again."""
    sell(worker)
    subscribe(worker, on(2028, 2, 29), on(2029, 2, 28))
    pay(worker, on(2029, 2, 28), on(2030, 2, 28), 2)
    move_to(admin, on(2029, 5, 1))
    allocate(worker)
    assert slot_keys(conn)[-4:] == ["2029-01-29", "2029-02-28", "2029-03-29", "2029-04-29"]


def test_quarter_that_starts_on_a_short_month_s_end_keeps_to_the_anchor(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, "month", 3)
    subscribe(worker, on(2027, 8, 31), on(2027, 11, 30))
    pay(worker, on(2027, 11, 30), on(2028, 2, 29), 2)
    move_to(admin, on(2029, 1, 1))
    allocate(worker)
    assert slot_keys(conn) == [
        "2027-08-31",
        *("2027-09-30", "2027-10-31", "2027-11-30", "2027-12-31", "2028-01-31"),
    ]


def test_slots_keep_the_hour_of_the_anchor_in_every_time_zone(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    worker.execute("set time zone 'America/New_York'")
    sell(worker, credits_rollover="periods:2")
    subscribe(worker)
    move_to(admin, on(2028, 12, 1))
    allocate(worker)
    assert slot_keys(conn) == LEAP_YEAR[:11]
    ends = [lot["expires_at"] for lot in lots(conn, customer)]
    assert ends[:3] == [on(2028, 4, 30), on(2028, 5, 31), on(2028, 6, 30)]


def test_five_months_away_are_five_slots_at_once_each_once(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    move_to(admin, on(2028, 6, 30) + DAY)
    assert allocate(worker) == {"accounts": 1, "slots_granted": 5, "credits_granted": 500}
    for _ in range(2):
        assert allocate(worker) == {"accounts": 0, "slots_granted": 0, "credits_granted": 0}
    assert slot_keys(conn) == LEAP_YEAR[:6]
    assert discrepancies(conn) == []


def test_months_that_nobody_could_use_expire_with_their_slot(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, credits_rollover="none")
    subscribe(worker)
    move_to(admin, on(2028, 6, 30) + DAY)
    allocate(worker)
    expire_due(worker)
    assert balance(conn, customer) == 100
    assert discrepancies(conn) == []


def test_as_of_an_earlier_moment_grants_what_was_due_then(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    move_to(admin, on(2028, 12, 1))
    assert allocate(worker, as_of=on(2028, 3, 1))["slots_granted"] == 1
    assert allocate(worker, as_of=on(2028, 2, 1))["slots_granted"] == 0
    assert allocate(worker)["slots_granted"] == 9
    with refused("TB022"):
        allocate(worker, as_of=on(2029, 1, 1))


def test_cancel_at_period_end_gives_the_slots_that_were_paid_for_and_none_after(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    changes = subscribe(worker)
    changes(cancel_at_period_end=True, canceled_at=on(2028, 5, 10), cancel_at=YEAR_END)
    move_to(admin, on(2028, 12, 31) + DAY)
    allocate(worker)
    changes(status="canceled", canceled_at=on(2028, 5, 10), ended_at=YEAR_END)
    move_to(admin, on(2031, 1, 1))
    assert allocate(worker)["accounts"] == 0
    assert slot_keys(conn) == LEAP_YEAR


def test_plan_may_stop_its_slots_when_cancellation_is_asked_for(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, credits_on_cancel="stop")
    changes = subscribe(worker)
    changes(cancel_at_period_end=True, canceled_at=on(2028, 4, 10))
    move_to(admin, on(2029, 1, 1))
    allocate(worker)
    assert slot_keys(conn) == LEAP_YEAR[:3]
    changes()  # the customer stays after all
    assert slot_keys(conn) == LEAP_YEAR


@pytest.mark.parametrize("clock_is_late", [False, True])
def test_cancellation_at_once_ends_the_slots_whichever_of_clock_and_event_is_first(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID, clock_is_late: bool
) -> None:
    sell(worker)
    changes = subscribe(worker)
    move_to(admin, on(2028, 4, 10))
    if not clock_is_late:
        allocate(worker)
    changes(status="canceled", canceled_at=on(2028, 4, 10), ended_at=on(2028, 4, 10))
    move_to(admin, on(2029, 1, 1))
    allocate(worker)
    assert slot_keys(conn) == LEAP_YEAR[:3]


STOPS: dict[str, Row] = {
    "paused": {"status": "paused"},
    "collection_paused": {"is_collection_paused": True},
    "unpaid": {"status": "unpaid"},
}


@pytest.mark.parametrize("reason", STOPS)
def test_what_stops_a_subscription_stops_its_slots_and_recovery_catches_up(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID, reason: str
) -> None:
    sell(worker)
    changes = subscribe(worker)
    changes(**STOPS[reason])
    assert value(conn, "select disarmed_reason from billing.credit_schedules") == reason
    move_to(admin, on(2028, 4, 10))
    assert allocate(worker)["accounts"] == 0
    changes()
    assert slot_keys(conn) == LEAP_YEAR[:3]
    assert value(conn, "select disarmed_reason from billing.credit_schedules") is None


def test_item_that_is_replaced_without_a_credit_keeps_the_slots_it_was_paid_for(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    changes = subscribe(worker)
    changes(items=[item("si_other", current_period_start=START, current_period_end=YEAR_END)])
    move_to(admin, on(2028, 4, 10))
    assert allocate(worker)["slots_granted"] == 2
    assert slot_keys(conn) == LEAP_YEAR[:3]


def test_paid_slot_is_granted_though_the_subscription_is_stopped(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker, status="unpaid")
    assert slot_keys(conn) == LEAP_YEAR[:1]


def test_year_reported_late_while_its_subscription_waits_keeps_the_slots_that_began_meanwhile(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    """The invoice comes before the event that makes its subscription active."""
    sell(worker)
    move_to(admin, on(2028, 4, 10))
    changes = subscribe(worker, status="incomplete")
    assert slot_keys(conn) == LEAP_YEAR[:1]
    changes()
    assert slot_keys(conn) == LEAP_YEAR[:3]


def test_past_due_subscription_keeps_what_it_has_paid_for(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)(status="past_due")
    move_to(admin, on(2028, 4, 10))
    assert allocate(worker)["slots_granted"] == 2


def test_invoice_of_a_year_waits_for_its_subscription(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker)
    pay(worker, START, YEAR_END)
    assert lots(conn, customer) == []
    sync_subscription(
        worker,
        billing_cycle_anchor=START,
        items=[item(current_period_start=START, current_period_end=YEAR_END)],
    )
    assert slot_keys(conn) == LEAP_YEAR[:1]


def test_each_week_gives_its_part_of_the_month_that_begins_with_it(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, "week", credits_rollover="none")
    start = on(2028, 1, 1)
    weeks = [(start + timedelta(weeks=week), start + timedelta(weeks=week + 1)) for week in range(6)]
    sync_subscription(
        worker,
        billing_cycle_anchor=start,
        items=[item(current_period_start=weeks[0][0], current_period_end=weeks[0][1])],
    )
    for number, (begins, ends) in reversed(list(enumerate(weeks, start=1))):
        pay(worker, begins, ends, number)
    move_to(admin, on(2029, 1, 1))
    allocate(worker)
    assert slot_keys(conn) == [begins.date().isoformat() for begins, _ in weeks]
    given = sorted((lot["effective_at"], lot["amount"], lot["expires_at"]) for lot in lots(conn, customer))
    assert [credits for _, credits, _ in given] == [100 * 7 // 31] * 5 + [100 * 7 // 29]
    assert [ends for _, _, ends in given] == [
        *(on(2028, 2, 1), on(2028, 2, 8), on(2028, 2, 15), on(2028, 2, 22), on(2028, 2, 29)),
        on(2028, 3, 5),
    ]


@pytest.mark.parametrize(
    ("policy", "credits"), [("delta", 100 * 11 // 31), ("full", 100), ("none", 0)], ids=str
)
def test_shorter_first_period_up_to_a_set_anchor_gives_its_part(
    worker: Connection, conn: Connection, customer: UUID, policy: str, credits: int
) -> None:
    sell(worker, "month", credits_on_proration=policy)
    start, anchor = on(2028, 1, 21), on(2028, 2, 1)
    subscribe(worker, start, anchor, billing_cycle_anchor=anchor)
    assert balance(conn, customer) == credits
    pay(worker, anchor, on(2028, 3, 1), 2)
    assert balance(conn, customer) == credits + 100


def test_capped_months_end_the_same_in_every_order(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, "month", credits_rollover="cap:30")
    months = [on(2026, month, 1) for month in range(1, 6)]
    periods = list(pairwise(months))
    sync_subscription(worker, billing_cycle_anchor=months[0], started_at=months[0])
    for number in [4, 1, 3, 2]:
        pay(worker, *periods[number - 1], number)
    left = fetch(
        conn, "select effective_at, remaining from billing.credit_grants where remaining > 0 order by 1"
    )
    assert [(row["effective_at"], row["remaining"]) for row in left] == [(months[2], 30), (months[3], 100)]
    assert balance(conn, customer) == 130
    assert discrepancies(conn) == []


def test_slots_repay_what_is_owed_and_are_capped_one_by_one(
    app: Connection, worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, credits_rollover="cap:130")
    subscribe(worker)
    set_limits(app, customer, overdraft=500)
    spend(app, customer, 250)
    move_to(admin, on(2028, 6, 30) + DAY)
    assert allocate(worker)["credits_granted"] == 500
    # 150 were owed; of February to May no more than 130 are carried into June.
    assert balance(conn, customer) == 230
    assert discrepancies(conn) == []


def test_closed_account_is_left_out_and_holds_nobody_up(
    database: Database,
    app: Connection,
    worker: Connection,
    conn: Connection,
    admin: Connection,
    customer: UUID,
) -> None:
    sell(worker)
    subscribe(worker)
    other = account_of(admin, create_user(database))
    link(app, other, "cus_2")
    two = {"stripe_subscription_id": "sub_2", "stripe_customer_id": "cus_2"}
    second = item("si_2", current_period_start=START, current_period_end=YEAR_END)
    sync_subscription(worker, **two, billing_cycle_anchor=START, items=[second])
    paid = line("il_2", stripe_subscription_item_id="si_2", period_start=START, period_end=YEAR_END)
    pay(worker, START, YEAR_END, 2, **two, lines=[paid])
    call(app, "close_account", account_id=customer, reason="a test", actor="test")
    move_to(admin, on(2028, 4, 10))
    assert allocate(worker)["accounts"] == 1
    assert balance(conn, other) == 300


def test_state_of_a_closed_account_s_subscription_is_kept_and_grants_nothing(
    app: Connection, worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    changes = subscribe(worker)
    move_to(admin, on(2028, 4, 10))
    call(app, "close_account", account_id=customer, reason="a test", actor="test")
    assert changes(cancel_at_period_end=True) == "applied"
    assert slot_keys(conn) == LEAP_YEAR[:1]
    assert value(conn, "select disarmed_reason from billing.credit_schedules") == "account_closed"
    call(app, "reopen_account", account_id=customer)
    assert slot_keys(conn) == LEAP_YEAR[:3]


def test_account_without_room_for_more_holds_nobody_up(
    database: Database,
    app: Connection,
    worker: Connection,
    conn: Connection,
    admin: Connection,
    customer: UUID,
) -> None:
    sell(worker)
    subscribe(worker)
    others = subscribe_others(database, app, worker, admin)
    grant(app, customer, 2**63 - 1 - 100)
    move_to(admin, on(2028, 3, 1))
    assert allocate(worker) == {"accounts": 3, "slots_granted": 3, "credits_granted": 300}
    assert [balance(conn, account) for account in others] == [200] * 3
    assert allocate(worker, accounts_max=1)["slots_granted"] == 0
    spend(app, customer, 100)
    assert allocate(worker)["slots_granted"] == 1
    assert discrepancies(conn) == []


def test_the_only_month_of_a_line_waits_for_room(
    app: Connection, worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, "month")
    grant(app, customer, 2**63 - 1 - 50)
    move_to(admin, START)
    subscribe(worker, end=on(2028, 2, 29))
    assert slot_keys(conn) == []
    assert allocate(worker)["slots_granted"] == 0
    spend(app, customer, 100)
    assert allocate(worker)["slots_granted"] == 1
    assert value(conn, "select next_slot_at from billing.credit_schedules") is None
    assert discrepancies(conn) == []


def test_accounts_that_are_locked_make_room_for_others(
    database: Database,
    app: Connection,
    worker: Connection,
    conn: Connection,
    admin: Connection,
    customer: UUID,
) -> None:
    sell(worker)
    subscribe(worker)
    subscribe_others(database, app, worker, admin)
    move_to(admin, on(2028, 3, 1))
    with database.connect() as busy, busy.transaction():
        busy.execute("select from billing.credit_balances where account_id = %s for update", [customer])
        assert allocate(worker, accounts_max=3) == {"accounts": 3, "slots_granted": 3, "credits_granted": 300}
        assert allocate(worker, accounts_max=3)["accounts"] == 0
    assert allocate(worker, accounts_max=3)["accounts"] == 1


def test_two_clocks_at_once_grant_each_slot_once(
    database: Database, worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    move_to(admin, on(2028, 6, 30) + DAY)
    with database.connect("billing_worker") as one, database.connect("service_role") as two:
        answers = at_once([lambda: allocate(one), lambda: allocate(two)])
    assert sum(answer["slots_granted"] for answer in answers) == 5
    assert slot_keys(conn) == LEAP_YEAR[:6]
    assert discrepancies(conn) == []


def test_no_more_accounts_than_asked_for_are_looked_at(
    database: Database,
    app: Connection,
    worker: Connection,
    conn: Connection,
    admin: Connection,
    customer: UUID,
) -> None:
    sell(worker)
    subscribe(worker)
    subscribe_others(database, app, worker, admin)
    move_to(admin, on(2028, 3, 1))
    assert [allocate(worker, accounts_max=3)["accounts"] for _ in range(3)] == [3, 1, 0]
    assert allocate(worker, accounts_max=0)["accounts"] == 0
    assert allocate(worker, accounts_max=-1)["accounts"] == 0
    assert value(conn, "select sum(balance) from billing.credit_balances") == 800
