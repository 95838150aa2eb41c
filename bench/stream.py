"""A number → the events of a shop that has that many customers twice: about 3.5 kB each, never seen before.

Half of them are updates of subscriptions that exist, half are renewals paid by other customers, each with an invoice of
its own that grants a month's credits. No two concern one customer.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

API_VERSION = "2026-10-28.endive"
STARTED_AT = 1_790_000_000
# The months from 21 September and from 21 October.
RENEWED_AT = STARTED_AT + 30 * 86_400
ENDS_AT = RENEWED_AT + 31 * 86_400

PRODUCT: dict[str, Any] = {
    "id": "prod_bench",
    "object": "product",
    "active": True,
    "description": None,
    "livemode": False,
    "metadata": {"monthly_credits": "500"},
    "name": "Pro",
}
PRICE: dict[str, Any] = {
    "id": "price_bench",
    "object": "price",
    "active": True,
    "billing_scheme": "per_unit",
    "created": STARTED_AT,
    "currency": "usd",
    "custom_unit_amount": None,
    "livemode": False,
    "lookup_key": "pro_monthly",
    "metadata": {"initial_credits": "1000"},
    "nickname": "Pro monthly",
    "product": PRODUCT["id"],
    "recurring": {
        "interval": "month",
        "interval_count": 1,
        "trial_period_days": None,
        "usage_type": "licensed",
    },
    "tax_behavior": "exclusive",
    "tiers_mode": None,
    "transform_quantity": None,
    "type": "recurring",
    "unit_amount": 2900,
    "unit_amount_decimal": "2900",
}
# What a shop's own code leaves on its objects; brings an event to its usual size.
METADATA = {f"app_field_{number:02}": "x" * 24 for number in range(16)}


@dataclass(frozen=True, slots=True)
class Event:
    """An event as Stripe sends it: what the inbox keys on, and the text of its body."""

    id: str
    type: str
    created: int
    body: str


def catalogue() -> list[Event]:
    """The product and the price that the stream's subscriptions are of."""
    return [
        _event("evt_product", "product.created", PRODUCT, STARTED_AT),
        _event("evt_price", "price.created", PRICE, STARTED_AT),
    ]


def history(customers: int, months: int = 1) -> Iterator[Event]:
    """What the queue takes for granted: every customer has a subscription, and has paid so many months."""
    anchor = _add_months(RENEWED_AT, -months)
    for n in range(customers):
        created = _subscription(n, anchor, anchor)
        yield _event(f"evt_created_{n}", "customer.subscription.created", created, anchor)
    for left in range(months, 0, -1):
        start = _add_months(RENEWED_AT, -left)
        reason = "subscription_create" if start == anchor else "subscription_cycle"
        for n in range(customers):
            yield _event(f"evt_paid_{n}_{start}", "invoice.paid", _invoice(n, reason, start), start)


def renewals(customers: int, months: int) -> Iterator[Event]:
    """The month after that history: each subscription enters it, and then it is paid."""
    anchor = _add_months(RENEWED_AT, -months)
    for n in range(customers):
        renewed = _subscription(n, anchor, RENEWED_AT)
        yield _event(f"evt_renewed_{n}", "customer.subscription.updated", renewed, RENEWED_AT)
        paid = _invoice(n, "subscription_cycle", RENEWED_AT)
        yield _event(f"evt_paid_{n}", "invoice.paid", paid, RENEWED_AT)


def stream(pairs: int, prefix: str, created: int = RENEWED_AT) -> Iterator[Event]:
    """`pairs` updates and as many renewals, in turn. Ids of events begin with `prefix`; all happened at `created`."""
    for n in range(pairs):
        update = _subscription(n, STARTED_AT, STARTED_AT) | {
            "cancel_at_period_end": True,
            "cancel_at": ENDS_AT,
        }
        yield _event(f"{prefix}_update_{n}", "customer.subscription.updated", update, created)
        renewal = _invoice(pairs + n, "subscription_cycle", RENEWED_AT)
        yield _event(f"{prefix}_paid_{n}", "invoice.paid", renewal, created)


def customer_ids(customers: int) -> list[str]:
    """Stripe ids of the customers."""
    return [f"cus_{n}" for n in range(customers)]


def _add_months(moment: int, months: int) -> int:
    start = datetime.fromtimestamp(moment, UTC)
    years, month = divmod(start.month - 1 + months, 12)
    return int(start.replace(year=start.year + years, month=month + 1).timestamp())


def _event(event_id: str, event_type: str, found: dict[str, Any], created: int) -> Event:
    body: dict[str, Any] = {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": found},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": f"req_{event_id}", "idempotency_key": None},
        "type": event_type,
    }
    return Event(event_id, event_type, created, json.dumps(body, indent=2))


def _subscription(n: int, anchor: int, period_start: int) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": f"si_{n}",
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": anchor,
        "current_period_end": _add_months(period_start, 1),
        "current_period_start": period_start,
        "discounts": [],
        "metadata": {},
        "price": PRICE,
        "quantity": 1,
        "subscription": f"sub_{n}",
        "tax_rates": [],
    }
    return {
        "id": f"sub_{n}",
        "object": "subscription",
        "automatic_tax": {"disabled_reason": None, "enabled": True, "liability": {"type": "self"}},
        "billing_cycle_anchor": anchor,
        "billing_mode": {"type": "flexible"},
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "collection_method": "charge_automatically",
        "created": anchor,
        "currency": "usd",
        "customer": f"cus_{n}",
        "default_payment_method": f"pm_{n}",
        "description": None,
        "ended_at": None,
        "items": {
            "object": "list",
            "data": [item],
            "has_more": False,
            "url": f"/v1/subscription_items?subscription=sub_{n}",
        },
        "latest_invoice": f"in_first_{n}",
        "livemode": False,
        "metadata": METADATA,
        "next_pending_invoice_item_invoice": None,
        "pause_collection": None,
        "payment_settings": {"payment_method_types": None, "save_default_payment_method": "off"},
        "start_date": anchor,
        "status": "active",
        "trial_end": None,
        "trial_start": None,
    }


def _invoice(n: int, billing_reason: str, period_start: int) -> dict[str, Any]:
    invoice_id = f"in_{billing_reason}_{n}_{period_start}"
    item = {
        "invoice_item": None,
        "proration": False,
        "subscription": f"sub_{n}",
        "subscription_item": f"si_{n}",
    }
    line: dict[str, Any] = {
        "id": f"il_{billing_reason}_{n}_{period_start}",
        "object": "line_item",
        "amount": 2900,
        "currency": "usd",
        "description": "1 × Pro (at $29.00 / month)",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": False,
        "metadata": {},
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": item,
            "invoice_item_details": None,
        },
        "period": {"start": period_start, "end": _add_months(period_start, 1)},
        "pricing": {
            "price_details": {"price": PRICE["id"], "product": PRODUCT["id"]},
            "type": "price_details",
            "unit_amount_decimal": "2900",
        },
        "quantity": 1,
        "taxes": [],
    }
    return {
        "id": invoice_id,
        "object": "invoice",
        "account_name": "A shop",
        "amount_due": 2900,
        "amount_paid": 2900,
        "amount_remaining": 0,
        "attempt_count": 1,
        "attempted": True,
        "billing_reason": billing_reason,
        "collection_method": "charge_automatically",
        "created": period_start,
        "currency": "usd",
        "customer": f"cus_{n}",
        "customer_email": f"customer-{n}@example.com",
        "hosted_invoice_url": f"https://invoice.stripe.com/i/acct_bench/test_{n}",
        "invoice_pdf": f"https://pay.stripe.com/invoice/acct_bench/test_{n}/pdf",
        "lines": {
            "object": "list",
            "data": [line],
            "has_more": False,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": False,
        "metadata": METADATA,
        "next_payment_attempt": None,
        "number": f"BENCH-{n:06}",
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"metadata": {}, "subscription": f"sub_{n}"},
            "quote_details": None,
        },
        "status": "paid",
        "status_transitions": {"finalized_at": period_start, "paid_at": period_start},
        "subtotal": 2900,
        "total": 2900,
    }
