"""Any order, any repetition, any size of batch: the same rows and the same credits."""

import random
from typing import Any
from uuid import UUID

import pytest

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event, catalogue, paid
from worker.events.outcomes import Done

LIVES = 2
ORDERS = 2
EXPECTED = INITIAL_CREDITS + 3 * MONTHLY_CREDITS

_ROWS = """
select
    'subscription', stripe_subscription_id, status, metadata::text, canceled_at::text,
    as_of::text || is_collection_paused::text
from billing.subscriptions
union all select 'item', stripe_subscription_item_id, quantity::text, current_period_end::text, stripe_price_id, null
from billing.subscription_items
union all select 'invoice', stripe_invoice_id, status, amount_paid::text, attempt_count::text, paid_at::text
from billing.invoices
union all select 'payment', stripe_charge_id, status, amount_refunded::text, is_disputed::text, as_of::text
from billing.payments
union all select 'session', stripe_checkout_session_id, status, payment_status, stripe_subscription_id, null
from billing.checkout_sessions
union all select
    'grant', regexp_replace(idempotency_key, '^initial:[^:]+', 'initial'), amount::text, remaining::text, source,
    stripe_invoice_id
from billing.credit_grants
union all select
    'paid time', stripe_subscription_item_id, period_start::text, quantity::text, gives_back::text, next_slot_at::text
from billing.credit_schedules
union all select 'customer', stripe_customer_id, email, deleted_at::text, as_of::text, null
from billing.customers
union all select 'plan', stripe_price_id, initial_credits::text, monthly_credits::text, nickname, null
from billing.plans
order by 1, 2, 3
"""


def life(n: int) -> list[Event]:
    """A customer from the Checkout to the third month: an add-on that comes and goes, an upgrade, two kinds of pause.

    In the end the customer cancels (even `n`) or fails to pay (odd).
    """
    end = {"status": "past_due"} if n % 2 else {"status": "canceled", "canceled_at": JANUARY + 9}
    ending = "updated" if n % 2 else "deleted"

    def subscribed(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
        listing = {"items": events.subscription()["items"] | {"data": list(items)}} if items else {}
        return events.subscription(n, **(listing | changes))

    item = events.subscription_item(n)
    upgraded = item | {"price": events.price(id="price_plus"), "quantity": 3}
    add_on = events.subscription_item(n, id=f"si_{n}_add_on")
    paused = {"pause_collection": {"behavior": "void", "resumes_at": None}}
    told = [
        ("checkout.session.completed", JANUARY, events.checkout_session(n)),
        ("customer.subscription.created", JANUARY, subscribed(status="incomplete")),
        ("customer.subscription.updated", JANUARY + 1, subscribed(status="active")),
        ("invoice.payment_failed", JANUARY, events.invoice(n, status="open", amount_paid=0, attempt_count=0)),
        ("invoice.payment_action_required", JANUARY, events.invoice(n, status="open", amount_paid=0)),
        ("invoice.paid", JANUARY, events.invoice(n)),
        ("charge.succeeded", JANUARY, events.charge(n)),
        ("customer.subscription.updated", JANUARY + 2, subscribed(item, add_on, metadata={"seats": "2"})),
        ("charge.refunded", JANUARY + 3, events.charge(n, amount_refunded=500)),
        ("customer.subscription.updated", JANUARY + 3, subscribed(item, add_on, **paused)),
        ("customer.subscription.updated", JANUARY + 4, subscribed(item)),
        ("customer.subscription.updated", JANUARY + 5, subscribed(upgraded)),
        ("customer.subscription.paused", JANUARY + 6, subscribed(upgraded, status="paused")),
        ("customer.subscription.resumed", JANUARY + 7, subscribed(upgraded)),
        ("customer.subscription.trial_will_end", JANUARY + 8, subscribed(upgraded)),
        (f"customer.subscription.{ending}", JANUARY + 9, subscribed(upgraded, **end)),
        *(("invoice.paid", events.start_of(month), events.invoice(n, month)) for month in (1, 2)),
        ("invoice.voided", events.start_of(3), events.invoice(n, 3, status="void", amount_paid=0)),
        ("customer.deleted", events.start_of(3), events.customer(id=f"cus_{n}")),
    ]
    return [Event(kind, body, at, id=f"evt_{n}_{number}") for number, (kind, at, body) in enumerate(told)]


def play(shop: Shop, stream: list[Event], batch_size: int) -> None:
    """Receive a stream in a few portions, with the worker at work between them."""
    for start in range(0, len(stream), 17):
        shop.receive(*stream[start : start + 17])
        shop.drain(batch_size)


def state(shop: Shop, accounts: list[UUID]) -> tuple[list[Any], list[int]]:
    shop.assert_sound()
    assert (
        shop.value("select count(*) from billing.stripe_events where status not in ('applied', 'ignored')")
        == 0
    )
    return shop.app.execute(_ROWS).fetchall(), [shop.balance(account) for account in accounts]


@pytest.mark.parametrize("batch_size", [1, 7, 50])
@pytest.mark.parametrize("seed", range(ORDERS))
def test_order_repetition_and_batches_change_nothing(shop: Shop, batch_size: int, seed: int) -> None:
    accounts = [shop.link(n) for n in range(1, LIVES + 1)]
    told = [event for n in range(1, LIVES + 1) for event in life(n)]
    play(shop, told, batch_size=50)
    expected = state(shop, accounts)
    assert expected[1] == [EXPECTED] * LIVES

    chance = random.Random(f"{seed}/{batch_size}")
    others = {n: shop.link(LIVES + n) for n in range(1, LIVES + 1)}
    moved = [event for n in others for event in life(LIVES + n)]
    shuffled = moved + chance.choices(moved, k=len(moved) // 2)
    chance.shuffle(shuffled)
    play(shop, shuffled, batch_size)
    rows, balances = state(shop, [*accounts, *others.values()])
    assert balances == [EXPECTED] * (2 * LIVES), f"seed {seed}"
    for n in others:
        assert len(rows_of(rows, n)) > 10
        assert rows_of(rows, LIVES + n) == rows_of(rows, n), f"seed {seed}, customer {n}"


def rows_of(rows: list[Any], n: int) -> list[Any]:
    """The rows of one customer, with its number taken out of every id."""
    prefixes = tuple(f"{kind}_{n}" for kind in ("sub", "si", "in", "ch", "cs", "cus"))

    def neutral(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        for prefix in prefixes:
            kind = prefix.rpartition("_")[0]
            value = value.replace(f"{prefix}_", f"{kind}_N_").replace(f"{prefix}:", f"{kind}_N:")
            value = f"{kind}_N" if value == prefix else value
        return value

    neutralised = [tuple(neutral(value) for value in row) for row in rows]
    return sorted(row for row in neutralised if any("_N" in str(value) for value in row))


def test_the_plan_may_come_last(shop: Shop) -> None:
    account = shop.link()
    late = {"id": "price_late"}
    lines = [events.invoice_line(pricing={"price_details": {"price": "price_late"}})]
    payment = paid(lines={"has_more": False, "data": lines})
    shop.outcome(payment)
    product, price = catalogue()
    arrival = Event("price.created", price.object | late, price.created)
    assert shop.outcomes(arrival, product)[payment.id] == Done()
    assert shop.balance(account) == INITIAL_CREDITS + MONTHLY_CREDITS
    shop.assert_sound()
