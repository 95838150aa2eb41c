"""Customers that nobody linked: made in the Dashboard, by a Payment Link, or deleted; their events wait and go on."""

from itertools import permutations
from uuid import UUID

import pytest

from tests.support import account_of, create_user
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event, paid
from worker.events.outcomes import Done, Parked

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS


def made_in_the_dashboard() -> list[Event]:
    """What Stripe tells of a subscription that somebody made in its Dashboard."""
    return [
        Event("customer.created", events.customer()),
        Event("customer.subscription.created", events.subscription(status="incomplete")),
        Event("customer.subscription.updated", events.subscription(), JANUARY + 1),
        Event("charge.succeeded", events.charge()),
        paid(),
    ]


def merge(shop: Shop, stripe_customer_id: str, duplicate_of: str) -> None:
    shop.app.execute("select billing.merge_customer(%s, %s)", [stripe_customer_id, duplicate_of])


def accounts(shop: Shop) -> set[UUID | None]:
    """The accounts of all that is here of customer `cus_1`."""
    query = """
        select account_id from billing.customers where stripe_customer_id = 'cus_1'
        union select account_id from billing.subscriptions where stripe_customer_id = 'cus_1'
        union select account_id from billing.payments where stripe_customer_id = 'cus_1'
        union select account_id from billing.invoices where stripe_customer_id = 'cus_1'
    """
    return {account_id for (account_id,) in shop.app.execute(query.encode()).fetchall()}


@pytest.mark.parametrize("order", list(permutations(range(5)))[::17], ids=str)
def test_a_subscription_made_in_the_dashboard_waits_for_the_link(shop: Shop, order: tuple[int, ...]) -> None:
    told = made_in_the_dashboard()
    outcomes = shop.outcomes(*(told[position] for position in order))
    assert [type(outcomes[event.id]) for event in told] == [Done, Done, Done, Done, Parked]
    assert accounts(shop) == {None}
    account = shop.link()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert accounts(shop) == {account}
    assert shop.balance(account) == FIRST_MONTH
    assert shop.value("select status from billing.subscriptions") == "active"
    shop.assert_sound()


def test_months_that_were_paid_before_the_link_all_go_on_with_it(shop: Shop) -> None:
    told = [*made_in_the_dashboard(), paid(month=1), paid(month=2)]
    shop.outcomes(*reversed(told))
    parked = "select count(*) from billing.stripe_events where status = 'parked'"
    assert shop.value(parked) == 3
    account = shop.link()
    assert {item.outcome for item in shop.drain()} == {Done()}
    assert shop.balance(account) == INITIAL_CREDITS + 3 * MONTHLY_CREDITS
    assert shop.value(parked) == 0
    shop.assert_sound()


def test_a_second_customer_of_a_person_waits_for_the_merge(shop: Shop) -> None:
    account = shop.link(2)
    shop.outcomes(*made_in_the_dashboard(), paid(2))
    assert shop.balance(account) == FIRST_MONTH
    merge(shop, "cus_1", "cus_2")
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert accounts(shop) == {account}
    # One person, one plan: the initial credits are given once.
    assert shop.balance(account) == FIRST_MONTH + MONTHLY_CREDITS
    later = Event(
        "customer.subscription.updated", events.subscription(cancel_at_period_end=True), JANUARY + 2
    )
    assert shop.outcomes(later, paid(month=1)) != {}
    assert shop.balance(account) == FIRST_MONTH + 2 * MONTHLY_CREDITS
    shop.assert_sound()


def test_a_customer_deleted_before_its_link_gets_what_it_had_paid(shop: Shop) -> None:
    account = shop.link(2)
    shop.outcomes(
        *made_in_the_dashboard(),
        Event("customer.subscription.deleted", events.subscription(status="canceled"), JANUARY + 5),
        Event("customer.deleted", events.customer(), JANUARY + 5),
    )
    shop.app.execute("select billing.link_customer(%s, 'cus_1')", [account])
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert accounts(shop) == {account}
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_another_customer_s_link_wakes_nobody(shop: Shop) -> None:
    shop.outcomes(*made_in_the_dashboard())
    shop.link(2)
    assert shop.drain() == []
    assert accounts(shop) == {None}


def test_a_link_without_anything_paid_gives_nothing(shop: Shop) -> None:
    shop.outcomes(*made_in_the_dashboard()[:4])
    account = account_of(shop.app, create_user(shop.database))
    shop.app.execute("select billing.link_customer(%s, 'cus_1')", [account])
    assert shop.drain() == []
    assert shop.balance(account) == 0
    assert shop.outcome(paid()) == Done()
    assert shop.balance(account) == FIRST_MONTH
