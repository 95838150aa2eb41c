"""Subscriptions and their items: the newest state is kept, ties are settled by Stripe, what ended stays ended."""

from itertools import permutations
from typing import Any

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    SECOND,
    Connection,
    fetch,
    fetch_one,
    item,
    sync_subscription,
    value,
)
from tests.sql.races import at_once
from tests.support import Database


def status(conn: Connection) -> str:
    return value(conn, "select status from billing.subscriptions")


def items(conn: Connection) -> dict[str, Any]:
    """Item → quantity, of those that are there."""
    rows = fetch(conn, "select * from billing.subscription_items where removed_at is null")
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


@pytest.mark.parametrize("final", ["canceled", "incomplete_expired"])
def test_no_event_leaves_a_final_status(worker: Connection, conn: Connection, final: str) -> None:
    sync_subscription(worker, status=final, ended_at=JANUARY)
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


def test_item_that_is_gone_is_removed_and_comes_back(worker: Connection, conn: Connection) -> None:
    sync_subscription(worker, items=[item("si_1"), item("si_2", quantity=3)])
    assert items(conn) == {"si_1": 1, "si_2": 3}

    removal = JANUARY + SECOND
    sync_subscription(worker, items=[item("si_2", quantity=4)], as_of=removal)
    assert items(conn) == {"si_2": 4}
    query = "select removed_at from billing.subscription_items where stripe_subscription_item_id = 'si_1'"
    assert value(conn, query) == removal

    sync_subscription(worker, items=[item("si_2"), item("si_1", quantity=2)], as_of=removal + SECOND)
    assert items(conn) == {"si_1": 2, "si_2": 1}


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


def test_pause_is_dated_by_when_it_was_first_seen_and_ends(worker: Connection, conn: Connection) -> None:
    paused_at = "select collection_paused_at from billing.subscriptions"
    sync_subscription(worker, is_collection_paused=True)
    assert value(conn, paused_at) == JANUARY
    sync_subscription(worker, is_collection_paused=True, as_of=JANUARY + SECOND)
    assert value(conn, paused_at) == JANUARY
    sync_subscription(worker, as_of=JANUARY + 2 * SECOND)
    assert value(conn, paused_at) is None


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
