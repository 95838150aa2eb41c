"""Subscriptions and their items: the newest state stands, what ended stays ended, Stripe is asked when in doubt."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    SECOND,
    Connection,
    Row,
    balance,
    fetch,
    fetch_one,
    item,
    line,
    link,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database


def status(conn: Connection) -> str:
    return value(conn, "select status from billing.subscriptions")


def items(conn: Connection) -> dict[str, Any]:
    """Item → quantity."""
    rows = fetch(conn, "select * from billing.subscription_items")
    return {row["stripe_subscription_item_id"]: row["quantity"] for row in rows}


def test_newer_state_replaces_an_older_one(worker: Connection, conn: Connection) -> None:
    assert sync_subscription(worker, status="incomplete") == "applied"
    assert sync_subscription(worker, status="active", as_of=JANUARY + SECOND) == "applied"
    assert status(conn) == "active"


def test_older_state_changes_nothing(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, status="past_due", as_of=JANUARY + SECOND)
    assert sync_subscription(worker, items=[item(quantity=9)]) == "stale"
    assert (status(conn), items(conn)) == ("past_due", {"si_1": 1})


@pytest.mark.parametrize("is_fetched", [False, True])
def test_state_of_the_same_second_asks_stripe_and_changes_nothing(
    worker: Connection, conn: Connection, is_fetched: bool
) -> None:
    sync_subscription(worker, status="active")
    assert sync_subscription(worker, status="past_due", items=[], is_fetched=is_fetched) == "refetch"
    assert (status(conn), items(conn)) == ("active", {"si_1": 1})


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_states_in_any_order_leave_the_last(
    worker: Connection, conn: Connection, order: tuple[int, ...]
) -> None:
    states = ["incomplete", "active", "past_due"]
    for position in order:
        sync_subscription(worker, status=states[position], as_of=JANUARY + position * SECOND)
    assert status(conn) == "past_due"


@pytest.mark.parametrize("ended_at", [JANUARY, None])
@pytest.mark.parametrize("final", ["canceled", "incomplete_expired"])
def test_no_event_leaves_a_final_status(
    worker: Connection, conn: Connection, final: str, ended_at: datetime | None
) -> None:
    sync_subscription(worker, status=final, ended_at=ended_at)
    assert sync_subscription(worker, status="active", as_of=JANUARY + SECOND) == "refetch"
    assert status(conn) == final


def test_final_status_may_still_change_its_details(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, status="canceled")
    later = JANUARY + SECOND
    assert sync_subscription(worker, status="canceled", ended_at=later, as_of=later) == "applied"
    assert value(conn, "select ended_at from billing.subscriptions") == later


def test_what_stripe_itself_answers_leaves_a_final_status(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, status="canceled")
    assert sync_subscription(worker, as_of=JANUARY + SECOND, is_fetched=True) == "applied"
    assert status(conn) == "active"


def test_item_that_is_gone_is_gone_and_may_come_back(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, items=[item("si_1"), item("si_2", quantity=3)])
    assert items(conn) == {"si_1": 1, "si_2": 3}

    removal = JANUARY + SECOND
    sync_subscription(worker, items=[item("si_2", quantity=4)], as_of=removal)
    assert items(conn) == {"si_2": 4}

    sync_subscription(worker, items=[item("si_2"), item("si_1", quantity=2)], as_of=removal + SECOND)
    assert items(conn) == {"si_1": 2, "si_2": 1}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_rows_hold_the_latest_state_and_no_trace_of_the_order(
    worker: Connection, conn: Connection, order: tuple[int, ...]
) -> None:
    states: list[dict[str, Any]] = [
        {"items": [item("si_1")]},
        {"items": [item("si_1"), item("si_2")], "is_collection_paused": True},
        {"items": [item("si_3")], "is_collection_paused": True},
        {"items": [item("si_2", quantity=5)]},
    ]
    for position in order:
        sync_subscription(worker, as_of=JANUARY + position * SECOND, **states[position])
    assert items(conn) == {"si_2": 5}
    held = fetch_one(conn, "select is_collection_paused, as_of from billing.subscriptions")
    assert (held["is_collection_paused"], held["as_of"]) == (False, JANUARY + 3 * SECOND)


def test_removal_of_an_item_leaves_other_subscriptions_alone(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker)
    sync_subscription(worker, stripe_subscription_id="sub_2", items=[item("si_2")])
    sync_subscription(worker, items=[], as_of=JANUARY + SECOND)
    assert items(conn) == {"si_2": 1}


def test_item_moves_to_its_next_period_and_price(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker)
    moved = item(stripe_price_id="price_2", current_period_start=FEBRUARY, current_period_end=MARCH)
    sync_subscription(worker, items=[moved], as_of=FEBRUARY)
    held = fetch_one(conn, "select * from billing.subscription_items")
    assert (held["stripe_price_id"], held["current_period_start"]) == ("price_2", FEBRUARY)


def test_metered_item_has_no_quantity(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, items=[item(quantity=None)])
    assert items(conn) == {"si_1": None}


def test_pause_of_collection_is_kept_beside_the_status(worker: Connection, conn: Connection) -> None:
    held = "select status, is_collection_paused from billing.subscriptions"
    sync_subscription(worker, is_collection_paused=True)
    assert tuple(fetch_one(conn, held).values()) == ("active", True)
    sync_subscription(worker, as_of=JANUARY + SECOND)
    assert tuple(fetch_one(conn, held).values()) == ("active", False)


def test_new_state_brings_the_credits_that_it_calls_for(
    app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account)
    sync_price(worker, metadata={"trial_credits": "7"})
    assert sync_subscription(worker, **TRIAL) == "applied"
    assert balance(app, account) == 7
    assert sync_subscription(worker, **TRIAL, as_of=JANUARY + SECOND) == "applied"
    assert balance(app, account) == 7


def test_subscription_of_a_customer_that_nobody_linked_has_no_account(
    worker: Connection, conn: Connection
) -> None:
    sync_subscription(worker)
    assert value(conn, "select account_id from billing.subscriptions") is None
    assert value(conn, "select stripe_customer_id from billing.customers") == "cus_1"


def test_states_from_two_workers_at_once_leave_the_newest(database: Database, conn: Connection) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        answers = at_once(
            [
                lambda: sync_subscription(one, status="incomplete"),
                lambda: sync_subscription(two, status="active", as_of=JANUARY + SECOND),
            ]
        )
    assert answers in (["applied", "applied"], ["stale", "applied"])
    assert status(conn) == "active"
    assert items(conn) == {"si_1": 1}


DAY = timedelta(days=1)
MONTH = {"current_period_start": FEBRUARY, "current_period_end": MARCH}
TRIAL = {
    "status": "trialing",
    "trial_start": JANUARY,
    "trial_end": FEBRUARY,
    "billing_cycle_anchor": FEBRUARY,
}
CONVERTED = TRIAL | {"status": "active", "items": [item(**MONTH)]}

# What is held (since JANUARY), and what a later event tells that cannot be so any more.
STEPS_BACK: dict[str, tuple[Row, Row]] = {
    "begins anew": ({}, {"status": "incomplete"}),
    "begins anew from a pause": ({"status": "paused"}, {"status": "incomplete"}),
    "expires though it was paid": ({"status": "past_due"}, {"status": "incomplete_expired"}),
    "trial after its end": (CONVERTED, TRIAL | {"items": [item(**MONTH)]}),
    "trial that was none": (CONVERTED, {"items": [item(**MONTH)], "billing_cycle_anchor": FEBRUARY}),
    "trial before it was extended": (TRIAL | {"trial_end": MARCH}, TRIAL),
    "trial before the last one": (CONVERTED, CONVERTED | {"trial_start": JANUARY - DAY}),
    "period before": ({"items": [item(**MONTH)]}, {}),
    "period before of one item of two": (
        {"items": [item(**MONTH), item("si_2", **MONTH)]},
        {"items": [item()]},
    ),
    "period before of an item that is gone": ({"items": [item("si_2", **MONTH)]}, {"items": [item("si_1")]}),
    "anchor before it was reset": ({"billing_cycle_anchor": JANUARY + DAY}, {}),
    "cancellation that was taken back": ({}, {"canceled_at": JANUARY - DAY, "cancel_at_period_end": True}),
    "cancellation before the last one": (
        {"canceled_at": JANUARY - SECOND, "cancel_at": MARCH},
        {"canceled_at": JANUARY - DAY, "cancel_at": FEBRUARY},
    ),
    "end that is lost": ({"status": "canceled", "ended_at": JANUARY}, {"status": "canceled"}),
}


def rows(conn: Connection) -> list[Row]:
    """All that is held of subscriptions and their items, but for the anchors that a subscription has ever had."""
    return [
        *[row | {"anchors": None} for row in fetch(conn, "select * from billing.subscriptions")],
        *fetch(conn, "select * from billing.subscription_items order by stripe_subscription_item_id"),
    ]


@pytest.mark.parametrize(("held", "offered"), list(STEPS_BACK.values()), ids=list(STEPS_BACK))
def test_old_state_told_anew_asks_stripe_and_changes_nothing(
    worker: Connection, conn: Connection, held: Row, offered: Row
) -> None:
    sync_subscription(worker, **held)
    before = rows(conn)
    assert sync_subscription(worker, **offered, as_of=JANUARY + DAY) == "refetch"
    assert rows(conn) == before
    # Told again and again it stays so: it never wears a state down.
    assert sync_subscription(worker, **offered, as_of=JANUARY + 2 * DAY) == "refetch"
    assert rows(conn) == before


@pytest.mark.parametrize(("held", "offered"), list(STEPS_BACK.values()), ids=list(STEPS_BACK))
def test_what_stripe_itself_answers_is_taken_though_it_is_a_step_back(
    worker: Connection, conn: Connection, held: Row, offered: Row
) -> None:
    sync_subscription(worker, **held)
    assert sync_subscription(worker, **offered, as_of=JANUARY + DAY, is_fetched=True) == "applied"
    assert value(conn, "select as_of from billing.subscriptions") == JANUARY + DAY


@pytest.mark.parametrize(("held", "offered"), list(STEPS_BACK.values()), ids=list(STEPS_BACK))
def test_old_state_in_its_own_event_is_stale_without_asking(
    worker: Connection, held: Row, offered: Row
) -> None:
    sync_subscription(worker, **held)
    assert sync_subscription(worker, **offered, as_of=JANUARY - SECOND) == "stale"


STEPS_ON: dict[str, tuple[Row, Row]] = {
    "first payment": ({"status": "incomplete"}, {}),
    "first payment that never came": ({"status": "incomplete"}, {"status": "incomplete_expired"}),
    "trial that begins": ({"status": "incomplete"}, TRIAL),
    "trial that converts": (TRIAL, CONVERTED),
    "trial that is extended": (TRIAL, TRIAL | {"trial_end": MARCH, "billing_cycle_anchor": MARCH}),
    "trial that ends early": (
        TRIAL,
        TRIAL | {"status": "active", "trial_end": JANUARY + DAY, "billing_cycle_anchor": JANUARY + DAY},
    ),
    "renewal": ({}, {"items": [item(**MONTH)]}),
    "failed renewal": ({"items": [item(**MONTH)]}, {"items": [item(**MONTH)], "status": "past_due"}),
    "recovery": ({"status": "past_due"}, {}),
    "unpaid": ({"status": "past_due"}, {"status": "unpaid"}),
    "recovery from unpaid": ({"status": "unpaid"}, {}),
    "pause": ({}, {"status": "paused"}),
    "resumption": ({"status": "paused"}, {}),
    "pause of collection that ends": ({"is_collection_paused": True}, {}),
    "other quantity": ({}, {"items": [item(quantity=7)]}),
    "other price": ({}, {"items": [item(stripe_price_id="price_2")]}),
    "month to year": (
        {},
        {
            "billing_cycle_anchor": JANUARY + DAY,
            "items": [item(current_period_start=JANUARY + DAY, current_period_end=JANUARY + 366 * DAY)],
        },
    ),
    "year to month": (
        {"items": [item(current_period_end=JANUARY + 365 * DAY)]},
        {"billing_cycle_anchor": JANUARY + DAY, "items": [item(current_period_start=JANUARY + DAY)]},
    ),
    "item swapped for another": ({"items": [item("si_1")]}, {"items": [item("si_2")]}),
    "all items gone": ({}, {"items": []}),
    "cancellation": ({}, {"canceled_at": JANUARY + SECOND, "cancel_at_period_end": True}),
    "cancellation taken back": ({"canceled_at": JANUARY, "cancel_at_period_end": True}, {}),
    "change after a cancellation": (
        {"canceled_at": JANUARY - DAY, "cancel_at": MARCH},
        {"canceled_at": JANUARY - DAY, "cancel_at": MARCH, "items": [item(quantity=7)]},
    ),
    "cancellation asked for anew": ({"canceled_at": JANUARY}, {"canceled_at": JANUARY + SECOND}),
    "end": ({}, {"status": "canceled", "canceled_at": JANUARY - DAY, "ended_at": JANUARY + SECOND}),
    "end of the trial": (TRIAL, TRIAL | {"status": "canceled", "ended_at": FEBRUARY}),
}


@pytest.mark.parametrize(("held", "offered"), list(STEPS_ON.values()), ids=list(STEPS_ON))
def test_what_may_well_come_later_needs_no_asking(worker: Connection, held: Row, offered: Row) -> None:
    sync_subscription(worker, **held)
    assert sync_subscription(worker, **offered, as_of=JANUARY + DAY) == "applied"


def test_step_back_is_judged_by_what_was_committed_while_it_waited(
    database: Database, worker: Connection, conn: Connection
) -> None:
    sync_subscription(worker)
    with database.connect("billing_worker", autocommit=False) as renewing:
        sync_subscription(renewing, items=[item(**MONTH)], as_of=JANUARY + SECOND)
        late = JANUARY + DAY
        with blocked(worker, conn, lambda: sync_subscription(worker, as_of=late)) as told_anew:
            renewing.commit()
            assert told_anew.result() == "refetch"
    assert value(conn, "select current_period_end from billing.subscription_items") == MARCH


def test_plan_that_changes_while_a_subscription_ends_leaves_it_ended(
    database: Database, app: Connection, worker: Connection, account: UUID
) -> None:
    """What a plan's terms decide is read of the subscription under the lock, not before it is waited for."""
    now = value(app, "select date_trunc('second', now())")
    start = now - 3 * DAY
    year = {"current_period_start": start, "current_period_end": start + 365 * DAY}
    sync_product(worker, as_of=start)
    sync_price(worker, recurring_interval="year", as_of=start, metadata={"monthly_credits": "100"})
    link(app, account)
    state = {"billing_cycle_anchor": start, "started_at": start, "items": [item(**year)]}
    trial = {"trial_start": now - DAY, "trial_end": now + 9 * DAY}
    sync_subscription(worker, **state, as_of=start)
    sync_invoice(
        worker,
        invoiced_at=start,
        paid_at=start,
        as_of=start,
        lines=[line(period_start=start, period_end=start + 365 * DAY)],
    )
    sync_subscription(worker, **state, **trial, status="trialing", as_of=now - DAY, is_fetched=True)
    with database.connect("billing_worker", autocommit=False) as ending:
        ending.execute("select billing.lock_stripe_events('{}', '{cus_1}')")
        ended = {"status": "canceled", "canceled_at": now, "ended_at": now}
        sync_subscription(ending, **state, **trial, **ended, as_of=now)
        with blocked(
            worker, app, lambda: sync_product(worker, as_of=now, metadata={"trial_credits": "500"})
        ) as told:
            ending.commit()
        assert told.result() == "applied"
    row = fetch_one(app, "select ends_at, next_slot_at from billing.credit_schedules")
    assert (row["ends_at"], row["next_slot_at"]) == (now, None)
