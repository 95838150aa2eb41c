"""Stripe events in the shape of the newest API version, made of the few facts that a test is about."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from worker.events.inbox import Message

API_VERSION = "2026-10-28.endive"
MONTH_SECONDS = 31 * 86_400  # of January
JANUARY = 1_767_225_600  # 2026-01-01T00:00:00Z
INITIAL_CREDITS = 100
MONTHLY_CREDITS = 50


@dataclass(frozen=True)
class Event:
    """An event as the receiver takes it; `body` overrides the text that is made of the object, `more` is beside it."""

    type: str
    object: Any
    created: int = JANUARY
    id: str = field(default_factory=lambda: f"evt_{uuid4().hex}")
    body: str | None = None
    api_version: str | None = API_VERSION
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def payload(self) -> str:
        if self.body is not None:
            return self.body
        return json.dumps(
            {
                "id": self.id,
                "object": "event",
                "type": self.type,
                "api_version": self.api_version,
                "created": self.created,
                "livemode": False,
                "data": {"object": self.object},
                **self.more,
            }
        )


def receive(conn: psycopg.Connection[Any], *events: Event) -> None:
    """Put events into the inbox and the queue, in this order, as the receiver does."""
    for event in events:
        conn.execute(
            "select billing.receive_stripe_event(event_id => %s, type => %s, api_version => %s, created => %s, "
            "livemode => false, payload => %s)",
            [event.id, event.type, event.api_version, event.created, event.payload],
        )


def message(event: Event) -> Message:
    """What the queue would hand to the worker."""
    created_at = datetime.fromtimestamp(event.created, UTC)
    return Message(1, 1, 1, event.id, event.type, event.api_version, created_at, event.payload, created_at)


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def start_of(month: int) -> int:
    """When month 0 (January 2026), 1, 2 … begins."""
    return int(datetime(2026 + month // 12, 1 + month % 12, 1, tzinfo=UTC).timestamp())


def customer(**more: Any) -> dict[str, Any]:
    """A customer as Stripe sends it."""
    return {
        "id": "cus_1",
        "object": "customer",
        "livemode": False,
        "email": "ada@example.com",
        "name": None,
    } | more


def product(**changes: Any) -> dict[str, Any]:
    return {
        "id": "prod_pro",
        "object": "product",
        "livemode": False,
        "name": "Pro",
        "description": None,
        "active": True,
        "metadata": {"monthly_credits": str(MONTHLY_CREDITS)},
    } | changes


def price(**changes: Any) -> dict[str, Any]:
    return {
        "id": "price_pro",
        "object": "price",
        "livemode": False,
        "active": True,
        "product": "prod_pro",
        "type": "recurring",
        "lookup_key": "pro",
        "nickname": None,
        "currency": "usd",
        "unit_amount": 1000,
        "custom_unit_amount": None,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "metadata": {"initial_credits": str(INITIAL_CREDITS)},
    } | changes


def subscription(n: int = 1, **changes: Any) -> dict[str, Any]:
    """Subscription `sub_n` of customer `cus_n`, with one item."""
    return {
        "id": f"sub_{n}",
        "object": "subscription",
        "livemode": False,
        "customer": f"cus_{n}",
        "status": "active",
        "currency": "usd",
        "billing_cycle_anchor": JANUARY,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "trial_start": None,
        "trial_end": None,
        "pause_collection": None,
        "metadata": {},
        "start_date": JANUARY,
        "items": {
            "object": "list",
            "has_more": False,
            "url": f"/v1/subscription_items?subscription=sub_{n}",
            "data": [subscription_item(n)],
        },
    } | changes


def subscription_item(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"si_{n}",
        "object": "subscription_item",
        "price": price(),
        "quantity": 1,
        "current_period_start": JANUARY,
        "current_period_end": JANUARY + MONTH_SECONDS,
    } | changes


def invoice(n: int = 1, month: int = 0, **changes: Any) -> dict[str, Any]:
    """The paid invoice of customer `cus_n` for month 0, 1, 2 …"""
    return {
        "id": f"in_{n}_{month}",
        "object": "invoice",
        "livemode": False,
        "customer": f"cus_{n}",
        "status": "paid",
        "billing_reason": "subscription_cycle" if month else "subscription_create",
        "collection_method": "charge_automatically",
        "currency": "usd",
        "subtotal": 1000,
        "total": 1000,
        "amount_due": 1000,
        "amount_paid": 1000,
        "attempt_count": 1,
        "next_payment_attempt": None,
        "hosted_invoice_url": "https://invoice.stripe.com/i/1",
        "created": start_of(month),
        "status_transitions": {"paid_at": start_of(month)},
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"subscription": f"sub_{n}"},
        },
        "lines": {
            "object": "list",
            "has_more": False,
            "url": f"/v1/invoices/in_{n}_{month}/lines",
            "data": [invoice_line(n, month)],
        },
    } | changes


def invoice_line(n: int = 1, month: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"il_{n}_{month}",
        "object": "line_item",
        "amount": 1000,
        "discount_amounts": [],
        "quantity": 1,
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {
                "subscription": f"sub_{n}",
                "subscription_item": f"si_{n}",
                "proration": False,
                "proration_details": {"credited_items": None},
            },
        },
        "pricing": {"type": "price_details", "price_details": {"price": "price_pro", "product": "prod_pro"}},
        "subscription": f"sub_{n}",
        "period": {"start": start_of(month), "end": start_of(month + 1)},
    } | changes


def charge(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"ch_{n}",
        "object": "charge",
        "livemode": False,
        "payment_intent": f"pi_{n}",
        "customer": f"cus_{n}",
        "status": "succeeded",
        "currency": "usd",
        "amount": 1000,
        "amount_refunded": 0,
        "disputed": False,
        "outcome": {"risk_level": "normal", "risk_score": 20},
        "payment_method_details": {"type": "card", "card": {"fingerprint": f"finger_{n}"}},
        "failure_code": None,
        "receipt_url": None,
        "created": JANUARY,
    } | changes


def refund(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"re_{n}",
        "object": "refund",
        "charge": f"ch_{n}",
        "payment_intent": f"pi_{n}",
        "status": "succeeded",
        "currency": "usd",
        "amount": 1000,
        "reason": None,
        "failure_reason": None,
        "created": JANUARY,
    } | changes


def dispute(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"du_{n}",
        "object": "dispute",
        "livemode": False,
        "charge": f"ch_{n}",
        "payment_intent": f"pi_{n}",
        "status": "needs_response",
        "currency": "usd",
        "amount": 1000,
        "reason": "fraudulent",
        "evidence_details": {"due_by": JANUARY + MONTH_SECONDS},
        "created": JANUARY,
    } | changes


def payment_intent(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"pi_{n}",
        "object": "payment_intent",
        "livemode": False,
        "customer": f"cus_{n}",
        "latest_charge": f"ch_{n}",
        "payment_method": f"pm_{n}",
        "status": "succeeded",
        "currency": "usd",
        "amount": 1000,
        "amount_received": 900,
        "last_payment_error": None,
        "metadata": {},
        "created": JANUARY,
    } | changes


def invoice_payment(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"inpay_{n}",
        "object": "invoice_payment",
        "livemode": False,
        "invoice": f"in_{n}_0",
        "payment": {"type": "payment_intent", "payment_intent": f"pi_{n}"},
        "status": "paid",
        "currency": "usd",
        "amount_paid": 1000,
        "status_transitions": {"paid_at": JANUARY, "canceled_at": None},
    } | changes


def payment_method(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"pm_{n}",
        "object": "payment_method",
        "livemode": False,
        "customer": f"cus_{n}",
        "type": "card",
        "card": {"fingerprint": f"finger_{n}"},
        "created": JANUARY,
    } | changes


def checkout_session(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"cs_{n}",
        "object": "checkout.session",
        "livemode": False,
        "customer": f"cus_{n}",
        "mode": "subscription",
        "status": "complete",
        "payment_status": "paid",
        "client_reference_id": None,
        "subscription": f"sub_{n}",
        "invoice": f"in_{n}_0",
        "payment_intent": None,
        "payment_link": None,
        "currency": "usd",
        "amount_total": 1000,
        "created": JANUARY,
    } | changes


def payment_link(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"plink_{n}",
        "object": "payment_link",
        "livemode": False,
        "active": True,
        "url": f"https://buy.stripe.com/{n}",
        "metadata": {},
    } | changes


def credit_note(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"cn_{n}",
        "object": "credit_note",
        "livemode": False,
        "invoice": f"in_{n}_0",
        "status": "issued",
        "type": "post_payment",
        "currency": "usd",
        "amount": 500,
        "pre_payment_amount": 0,
        "post_payment_amount": 500,
        "lines": {
            "object": "list",
            "has_more": False,
            "url": f"/v1/credit_notes/cn_{n}/lines",
            "data": [credit_note_line(n)],
        },
        "refunds": [],
        "reason": None,
        "created": JANUARY,
    } | changes


def credit_note_line(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"cnli_{n}",
        "object": "credit_note_line_item",
        "amount": 500,
        "discount_amount": 0,
        "taxes": [],
        "invoice_line_item": f"il_{n}_0",
        "type": "invoice_line_item",
    } | changes


def review(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"prv_{n}",
        "object": "review",
        "livemode": False,
        "charge": f"ch_{n}",
        "payment_intent": f"pi_{n}",
        "open": True,
        "reason": "rule",
        "closed_reason": None,
        "created": JANUARY,
    } | changes


def fraud_warning(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"issfr_{n}",
        "object": "radar.early_fraud_warning",
        "livemode": False,
        "charge": f"ch_{n}",
        "payment_intent": f"pi_{n}",
        "fraud_type": "made_with_stolen_card",
        "actionable": True,
        "created": JANUARY,
    } | changes


def paid(n: int = 1, month: int = 0, **changes: Any) -> Event:
    """The payment of one month."""
    found = invoice(n, month, **changes)
    return Event("invoice.paid", found, created=found["created"])


def catalogue() -> list[Event]:
    """The product and the price that everything here is of."""
    return [Event("product.created", product()), Event("price.created", price())]
