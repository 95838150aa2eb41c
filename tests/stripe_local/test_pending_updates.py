"""Changes that wait for their payment, one-time items beside a plan, and configured anchors."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.stripe_local.conftest import Local

START = int(datetime(2027, 4, 10, 12, 30, tzinfo=UTC).timestamp())
HOUR = 3_600


@pytest.fixture
def clock(local: Local) -> str:
    return local.client.test_helpers.test_clocks.create({"frozen_time": START}).id


def _pay_with(local: Local, customer: str, card: str) -> None:
    method = local.client.payment_methods.attach(card, {"customer": customer})
    local.client.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})


def _upgrade(local: Local, sub: Any, price: Any, **more: Any) -> Any:
    order = {
        "items": [{"id": sub["items"].data[0].id, "price": price.id}],
        "payment_behavior": "pending_if_incomplete",
        "proration_behavior": "always_invoice",
        "expand": ["latest_invoice"],
    }
    return local.client.subscriptions.update(sub.id, order | more)


@pytest.fixture
def sub(local: Local, clock: str) -> Any:
    customer = local.customer(test_clock=clock)
    return local.client.subscriptions.create(
        {"customer": customer.id, "items": [{"price": local.price(1000).id}]}
    )


def test_upgrade_that_is_paid_takes_effect_at_once(local: Local, sub: Any) -> None:
    dear = local.price(3000)
    changed = _upgrade(local, sub, dear)
    assert (changed.pending_update, changed.latest_invoice.status) == (None, "paid")
    assert changed["items"].data[0].price.id == dear.id
    assert "customer.subscription.pending_update_applied" not in local.event_types()


def test_upgrade_that_is_not_paid_waits_and_takes_effect_when_it_is(local: Local, sub: Any) -> None:
    dear, cheap = local.price(3000), sub["items"].data[0].price.id
    _pay_with(local, sub.customer, "pm_card_chargeCustomerFail")
    waiting = _upgrade(local, sub, dear)
    assert (waiting.status, waiting.latest_invoice.status) == ("active", "open")
    assert waiting["items"].data[0].price.id == cheap
    assert waiting.pending_update.subscription_items[0].price.id == dear.id
    assert waiting.pending_update.expires_at == START + 23 * HOUR
    _pay_with(local, sub.customer, "pm_card_visa")
    local.client.invoices.pay(waiting.latest_invoice.id)
    applied = local.client.subscriptions.retrieve(sub.id)
    assert (applied.pending_update, applied["items"].data[0].price.id) == (None, dear.id)
    assert local.event_types().count("customer.subscription.pending_update_applied") == 1


def test_upgrade_that_is_never_paid_expires_and_can_be_made_again(local: Local, clock: str, sub: Any) -> None:
    dear = local.price(3000)
    _pay_with(local, sub.customer, "pm_card_chargeCustomerFail")
    first = _upgrade(local, sub, dear).latest_invoice
    local.advance(clock, START + 23 * HOUR)
    expired = local.client.subscriptions.retrieve(sub.id)
    assert (expired.status, expired.pending_update) == ("active", None)
    assert local.client.invoices.retrieve(first.id).status == "void"
    assert local.event_types().count("customer.subscription.pending_update_expired") == 1
    _pay_with(local, sub.customer, "pm_card_visa")
    again = _upgrade(local, sub, dear).latest_invoice
    assert [line.amount < 0 for line in again.lines.data] == [True, False]


def test_only_what_can_wait_is_taken_together_with_it(local: Local, sub: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="`metadata`"):
        _upgrade(local, sub, local.price(3000), metadata={"a": "b"})


def test_error_if_incomplete_changes_nothing_that_is_not_paid(local: Local, sub: Any) -> None:
    _pay_with(local, sub.customer, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        _upgrade(local, sub, local.price(3000), payment_behavior="error_if_incomplete")
    kept = local.client.subscriptions.retrieve(sub.id)
    assert (kept["items"].data[0].price.id, kept.latest_invoice) == (
        sub["items"].data[0].price.id,
        sub.latest_invoice,
    )


def test_one_time_prices_go_on_the_next_invoice(local: Local, clock: str) -> None:
    customer, plan, setup = local.customer(test_clock=clock), local.price(1000), local.price(300, None)
    created = local.client.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": plan.id}],
            "add_invoice_items": [{"price": setup.id, "quantity": 2}],
            "expand": ["latest_invoice"],
        }
    )
    assert [line.amount for line in created.latest_invoice.lines.data] == [1000, 600]
    local.client.subscriptions.update(created.id, {"add_invoice_items": [{"price": setup.id}]})
    local.advance(clock, created["items"].data[0].current_period_end + 2 * HOUR)
    latest = local.client.subscriptions.retrieve(created.id, {"expand": ["latest_invoice"]}).latest_invoice
    assert (latest.billing_reason, latest.total) == ("subscription_cycle", 1300)
    with pytest.raises(stripe.InvalidRequestError, match="type=one_time"):
        local.client.subscriptions.update(created.id, {"add_invoice_items": [{"price": plan.id}]})


def test_change_that_is_never_paid_lets_nothing_of_others_be_credited_twice(
    local: Local, clock: str, sub: Any
) -> None:
    other = local.client.subscriptions.create(
        {"customer": local.customer(test_clock=clock).id, "items": [{"price": local.price(500).id}]}
    )
    (item,) = other["items"].data
    local.client.subscription_items.update(item.id, {"quantity": 0})
    _pay_with(local, sub.customer, "pm_card_chargeCustomerFail")
    _upgrade(local, sub, local.price(3000))
    local.advance(clock, START + 24 * HOUR)
    assert "customer.subscription.pending_update_expired" in local.event_types()
    local.client.subscriptions.cancel(other.id, {"prorate": True})
    credited = local.client.invoice_items.list({"customer": other.customer}).data
    assert [one.amount for one in credited] == [-500]


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param({"default_tax_rates": ["txr_none"]}, id="a setting"),
        pytest.param({"trial_end": START - 1}, id="a trial that ends in the past"),
        pytest.param(
            {"payment_behavior": "pending_if_incomplete", "description": "x"}, id="what cannot wait"
        ),
        pytest.param(
            {"payment_behavior": "pending_if_incomplete", "trial_end": START - 1}, id="a change that waits"
        ),
    ],
)
def test_refused_update_changes_nothing(local: Local, sub: Any, refused: dict[str, Any]) -> None:
    (item,) = sub["items"].data
    order = {
        "add_invoice_items": [{"price": local.price(300, None).id}],
        "items": [{"id": item.id, "quantity": 2}],
    }
    with pytest.raises(stripe.InvalidRequestError):
        local.client.subscriptions.update(sub.id, order | refused)
    assert local.client.subscription_items.retrieve(item.id).quantity == 1
    assert local.client.invoice_items.list({"customer": sub.customer}).data == []
    assert "invoiceitem.created" not in local.event_types()


def test_one_time_item_of_a_change_that_waits_is_on_its_invoice(local: Local, sub: Any) -> None:
    _pay_with(local, sub.customer, "pm_card_chargeCustomerFail")
    waiting = _upgrade(
        local, sub, local.price(3000), add_invoice_items=[{"price": local.price(300, None).id}]
    )
    assert sorted(line.amount for line in waiting.latest_invoice.lines.data) == [-1000, 300, 3000]


@pytest.mark.parametrize(
    ("config", "first"),
    [
        ({"day_of_month": 31}, datetime(2027, 4, 30, 12, 30, tzinfo=UTC)),
        (
            {"day_of_month": 10, "hour": 9, "minute": 0, "second": 5},
            datetime(2027, 5, 10, 9, 0, 5, tzinfo=UTC),
        ),
    ],
)
def test_anchor_is_the_next_such_day(local: Local, clock: str, config: Any, first: datetime) -> None:
    customer, plan = local.customer(test_clock=clock), local.price(3000)
    order = {"customer": customer.id, "items": [{"price": plan.id}], "billing_cycle_anchor_config": config}
    sub = local.client.subscriptions.create(order)
    assert sub.billing_cycle_anchor == int(first.timestamp())
    assert sub["items"].data[0].current_period_end == sub.billing_cycle_anchor
    assert sub.billing_cycle_anchor_config.day_of_month == config["day_of_month"]
    with pytest.raises(stripe.InvalidRequestError, match="day_of_month"):
        local.client.subscriptions.create(order | {"billing_cycle_anchor_config": {"day_of_month": 32}})
