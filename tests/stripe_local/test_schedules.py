"""Subscription schedules: their phases begin on the clock, with the invoices and events that Stripe has for them."""

from typing import Any

import pytest
import stripe

from tests.stripe_local.conftest import Local

START = 1_800_000_000
DAY = 86_400


@pytest.fixture
def clock(local: Local) -> str:
    return local.client.test_helpers.test_clocks.create({"frozen_time": START}).id


def _phase(price: Any, **more: Any) -> dict[str, Any]:
    return {"items": [{"price": price.id, "quantity": 1}], **more}


def _invoices(local: Local, subscription: str) -> list[tuple[str, int]]:
    found = local.client.invoices.list({"subscription": subscription}).data
    return [(invoice.billing_reason, invoice.total) for invoice in reversed(found)]


def test_later_phase_begins_with_the_renewal_that_bills_it(local: Local, clock: str) -> None:
    customer, dear, cheap = local.customer(test_clock=clock), local.price(5000), local.price(2000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": dear.id}]})
    end = sub["items"].data[0].current_period_end
    schedule = local.client.subscription_schedules.create({"from_subscription": sub.id})
    now = schedule.phases[0]
    assert (schedule.status, schedule.subscription, now.end_date, schedule.current_phase.end_date) == (
        "active", sub.id, end, end,
    )  # fmt: skip
    local.client.subscription_schedules.update(
        schedule.id,
        {
            "phases": [
                _phase(dear, start_date=now.start_date, end_date=now.end_date),
                _phase(
                    cheap, duration={"interval": "month", "interval_count": 2}, metadata={"plan": "cheap"}
                ),
            ]
        },
    )
    assert _invoices(local, sub.id) == [("subscription_create", 5000)]
    local.advance(clock, end + 7_200)
    changed = local.client.subscriptions.retrieve(sub.id)
    item = changed["items"].data[0]
    assert (item.price.id, item.current_period_start, changed.metadata["plan"]) == (cheap.id, end, "cheap")
    assert item.id != sub["items"].data[0].id
    assert _invoices(local, sub.id)[1:] == [("subscription_cycle", 2000)]
    local.advance(clock, end + 70 * DAY)
    over = local.client.subscription_schedules.retrieve(schedule.id)
    assert (over.status, over.released_subscription, over.subscription) == ("completed", sub.id, None)
    running = local.client.subscriptions.retrieve(sub.id)
    assert (running.status, running.schedule, running["items"].data[0].price.id) == ("active", None, cheap.id)
    types = [kind for kind in local.event_types() if kind.startswith("subscription_schedule.")]
    assert types == [
        f"subscription_schedule.{name}" for name in ("created", "updated", "updated", "expiring", "completed")
    ]


def test_schedule_makes_its_subscription_when_it_starts_and_cancels_it_in_the_end(
    local: Local, clock: str
) -> None:
    customer, price = local.customer(test_clock=clock), local.price(3000)
    schedule = local.client.subscription_schedules.create(
        {
            "customer": customer.id,
            "start_date": START + 10 * DAY,
            "end_behavior": "cancel",
            "phases": [_phase(price, duration={"interval": "month", "interval_count": 2})],
        }
    )
    assert (schedule.status, schedule.subscription) == ("not_started", None)
    local.advance(clock, START + 10 * DAY)
    begun = local.client.subscription_schedules.retrieve(
        schedule.id, {"expand": ["subscription.latest_invoice"]}
    )
    subscription = begun.subscription
    assert (subscription.status, subscription.schedule) == ("active", schedule.id)
    assert (subscription.latest_invoice.status, subscription.latest_invoice.total) == ("draft", 3000)
    local.advance(clock, START + 10 * DAY + 7_200)
    assert local.client.invoices.retrieve(subscription.latest_invoice.id).status == "paid"
    local.advance(clock, START + 80 * DAY)
    assert local.client.subscription_schedules.retrieve(schedule.id).status == "completed"
    ended = local.client.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", begun.phases[0].end_date)
    assert _invoices(local, subscription.id) == [("subscription_create", 3000), ("subscription_cycle", 3000)]


def test_phase_that_ends_within_a_period_is_prorated(local: Local, clock: str) -> None:
    customer, cheap, dear = local.customer(test_clock=clock), local.price(2000), local.price(6000)
    schedule = local.client.subscription_schedules.create(
        {
            "customer": customer.id,
            "start_date": "now",
            "phases": [
                _phase(cheap, end_date=START + 10 * DAY),
                _phase(dear, proration_behavior="always_invoice"),
            ],
        }
    )
    local.advance(clock, START + 10 * DAY + 60)
    assert _invoices(local, schedule.subscription)[1][0] == "subscription_update"
    lines = local.client.invoices.list({"subscription": schedule.subscription}).data[0].lines.data
    assert [line.amount < 0 for line in lines] == [True, False]


def test_change_of_the_current_phase_takes_effect_at_once(local: Local, clock: str) -> None:
    customer, price, other = local.customer(test_clock=clock), local.price(2000), local.price(4000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    schedule = local.client.subscription_schedules.create({"from_subscription": sub.id})
    phase = _phase(other, start_date=schedule.phases[0].start_date, end_date=schedule.phases[0].end_date)
    local.client.subscription_schedules.update(schedule.id, {"phases": [phase], "proration_behavior": "none"})
    assert local.client.subscriptions.retrieve(sub.id)["items"].data[0].price.id == other.id
    assert len(_invoices(local, sub.id)) == 1


@pytest.mark.parametrize(
    ("verb", "status", "left"), [("release", "released", "active"), ("cancel", "canceled", "canceled")]
)
def test_schedule_is_released_and_canceled(
    local: Local, clock: str, verb: str, status: str, left: str
) -> None:
    customer, price = local.customer(test_clock=clock), local.price(2000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    schedule = local.client.subscription_schedules.create({"from_subscription": sub.id})
    with pytest.raises(stripe.InvalidRequestError, match="already attached to a schedule"):
        local.client.subscription_schedules.create({"from_subscription": sub.id})
    with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
        local.client.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    getattr(local.client.subscription_schedules, verb)(schedule.id)
    assert local.client.subscription_schedules.retrieve(schedule.id).status == status
    assert local.client.subscriptions.retrieve(sub.id).status == left
    assert f"subscription_schedule.{status}" in local.event_types()
    with pytest.raises(stripe.InvalidRequestError, match="not_started or active"):
        local.client.subscription_schedules.release(schedule.id)


def test_phase_of_more_than_1095_intervals_is_refused(local: Local, clock: str) -> None:
    items = [{"price": local.price(2000).id}]
    phase = {"items": items, "duration": {"interval": "year", "interval_count": 9_999}}
    order = {"customer": local.customer(test_clock=clock).id, "start_date": "now", "phases": [phase]}
    with pytest.raises(stripe.InvalidRequestError, match="between 1 and 1095"):
        local.client.subscription_schedules.create(order)


def test_schedule_of_a_subscription_that_nobody_pays_is_aborted(local: Local, clock: str) -> None:
    customer, price = local.customer("pm_card_chargeCustomerFail", test_clock=clock), local.price(2000)
    schedule = local.client.subscription_schedules.create(
        {"customer": customer.id, "start_date": "now", "phases": [_phase(price)]}
    )
    local.advance(clock, START + 25 * DAY)
    assert local.client.subscriptions.retrieve(schedule.subscription).status == "canceled"
    assert local.client.subscription_schedules.retrieve(schedule.id).status == "canceled"
    assert "subscription_schedule.aborted" in local.event_types()
