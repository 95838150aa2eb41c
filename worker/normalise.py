"""A message's text → a frozen StripeEvent with our own dataclasses.

Only what the product uses is read. A body that lacks it, or has it in another type, is an UnknownShape with the
path that was wrong: it goes to the dead letters with that reason, never past us in silence.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from worker.errors import UnknownShape
from worker.inbox import Message
from worker.objects import (
    Charge,
    CheckoutSession,
    Customer,
    EarlyFraudWarning,
    Invoice,
    InvoiceLine,
    Price,
    Product,
    StripeEvent,
    StripeObject,
    Subscription,
    SubscriptionItem,
)
from worker.shapes import Node

T = TypeVar("T")

# After an even number of backslashes, which stand for themselves.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def normalise(message: Message) -> StripeEvent:
    """Read a message's event. Raises UnknownShape."""
    body = Node(_parse(message.payload), "event")
    return StripeEvent(
        id=message.event_id,
        type=message.type,
        created_at=message.created_at,
        object=normalise_object(body.child("data").child("object")),
    )


def normalise_object(node: Node) -> StripeObject | None:
    """Read one Stripe object by its `object` field; None for a kind that we have no use for."""
    read = _READERS.get(node.text("object"))
    return None if read is None else read(node)


def _parse(payload: str) -> Any:
    try:
        body = json.loads(payload)
        if "\\u" in payload:
            _refuse_unstorable_text(payload, body)
    except (ValueError, RecursionError) as error:
        raise UnknownShape(f"the event's body is no JSON: {error}") from None
    return body


def _refuse_unstorable_text(payload: str, body: object) -> None:
    # JSON may name characters that Postgres cannot store; what we read must be what we keep.
    if _ESCAPED_NUL.search(payload):
        raise UnknownShape("the event's body contains \\u0000, which Postgres cannot store as text")
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UnknownShape("the event's body contains half of a surrogate pair, which is no text") from None


def _whole_list(node: Node, key: str, read: Callable[[Node], T]) -> tuple[T, ...] | None:
    return None if node.child(key).flag("has_more") else tuple(read(member) for member in node.children(key))


def _customer(node: Node) -> Customer:
    if node.value.get("deleted") is True:  # all that Stripe still answers of it is its id
        return Customer(node.text("id"), livemode=False, email=None, name=None, is_deleted=True)
    return Customer(
        stripe_customer_id=node.text("id"),
        livemode=node.flag("livemode"),
        email=node.text_or_none("email"),
        name=node.text_or_none("name"),
        is_deleted=False,
    )


def _product(node: Node) -> Product:
    return Product(
        stripe_product_id=node.text("id"),
        livemode=node.flag("livemode"),
        name=node.text("name"),
        description=node.text_or_none("description"),
        active=node.flag("active"),
        metadata=node.mapping("metadata"),
    )


def _price(node: Node) -> Price:
    recurring = node.child_or_none("recurring")
    return Price(
        stripe_price_id=node.text("id"),
        stripe_product_id=node.reference("product"),
        livemode=node.flag("livemode"),
        active=node.flag("active"),
        type=node.text("type"),
        lookup_key=node.text_or_none("lookup_key"),
        nickname=node.text_or_none("nickname"),
        currency=node.text("currency"),
        unit_amount=node.number_or_none("unit_amount"),
        recurring_interval=recurring and recurring.text("interval"),
        recurring_interval_count=recurring and recurring.number("interval_count"),
        usage_type=recurring and recurring.text("usage_type"),
        metadata=node.mapping("metadata"),
    )


def _subscription(node: Node) -> Subscription:
    return Subscription(
        stripe_subscription_id=node.text("id"),
        stripe_customer_id=node.reference("customer"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text_or_none("currency"),
        billing_cycle_anchor=node.moment("billing_cycle_anchor"),
        cancel_at=node.moment_or_none("cancel_at"),
        cancel_at_period_end=node.flag("cancel_at_period_end"),
        canceled_at=node.moment_or_none("canceled_at"),
        ended_at=node.moment_or_none("ended_at"),
        trial_start=node.moment_or_none("trial_start"),
        trial_end=node.moment_or_none("trial_end"),
        is_collection_paused=node.child_or_none("pause_collection") is not None,
        metadata=node.mapping("metadata"),
        started_at=node.moment("start_date"),
        items=_whole_list(node, "items", _subscription_item),
    )


def _subscription_item(node: Node) -> SubscriptionItem:
    price = node.child("price")
    return SubscriptionItem(
        stripe_subscription_item_id=node.text("id"),
        stripe_price_id=price.text("id"),
        stripe_product_id=price.reference_or_none("product"),
        quantity=node.number_or_none("quantity"),
        current_period_start=node.moment("current_period_start"),
        current_period_end=node.moment("current_period_end"),
    )


def _invoice(node: Node) -> Invoice:
    parent = node.present_child_or_none("parent")
    details = parent and parent.child_or_none("subscription_details")
    transitions = node.child_or_none("status_transitions")
    return Invoice(
        stripe_invoice_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        stripe_subscription_id=details and details.reference_or_none("subscription"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        billing_reason=node.text_or_none("billing_reason"),
        currency=node.text("currency"),
        subtotal=node.number("subtotal"),
        total=node.number("total"),
        amount_due=node.number("amount_due"),
        amount_paid=node.number("amount_paid"),
        attempt_count=node.number("attempt_count"),
        next_payment_attempt_at=node.moment_or_none("next_payment_attempt"),
        hosted_invoice_url=node.text_or_none("hosted_invoice_url"),
        invoiced_at=node.moment("created"),
        paid_at=transitions and transitions.moment_or_none("paid_at"),
        lines=_whole_list(node, "lines", _invoice_line),
    )


def _invoice_line(node: Node) -> InvoiceLine:
    parent = node.present_child_or_none("parent")
    kind = parent and parent.text("type")
    item = parent.child(kind) if parent and kind == "subscription_item_details" else None
    details = parent.child(kind) if parent and kind == "invoice_item_details" else item
    pricing = node.present_child_or_none("pricing")
    price = pricing and pricing.child_or_none("price_details")
    period = node.child("period")
    return InvoiceLine(
        stripe_line_id=node.text("id"),
        stripe_subscription_item_id=item and item.text("subscription_item"),
        stripe_price_id=price and price.reference("price"),
        amount=node.number("amount"),
        quantity=node.number_or_none("quantity"),
        is_proration=details is not None and details.flag("proration"),
        period_start=period.moment("start"),
        period_end=period.moment("end"),
    )


def _charge(node: Node) -> Charge:
    outcome = node.child_or_none("outcome")
    method = node.child_or_none("payment_method_details")
    card = method and method.child_or_none("card")
    return Charge(
        stripe_charge_id=node.text("id"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        stripe_customer_id=node.reference_or_none("customer"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount=node.number("amount"),
        amount_refunded=node.number("amount_refunded"),
        is_disputed=node.flag("disputed"),
        risk_level=outcome and outcome.text_or_none("risk_level"),
        risk_score=outcome and outcome.number_or_none("risk_score"),
        card_fingerprint=card and card.text_or_none("fingerprint"),
        failure_code=node.text_or_none("failure_code"),
        receipt_url=node.text_or_none("receipt_url"),
        charged_at=node.moment("created"),
    )


def _checkout_session(node: Node) -> CheckoutSession:
    return CheckoutSession(
        stripe_checkout_session_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        livemode=node.flag("livemode"),
        mode=node.text("mode"),
        status=node.text("status"),
        payment_status=node.text("payment_status"),
        client_reference_id=node.text_or_none("client_reference_id"),
        stripe_subscription_id=node.reference_or_none("subscription"),
        stripe_invoice_id=node.reference_or_none("invoice"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        stripe_payment_link_id=node.reference_or_none("payment_link"),
        currency=node.text_or_none("currency"),
        amount_total=node.number_or_none("amount_total"),
    )


def _early_fraud_warning(node: Node) -> EarlyFraudWarning:
    return EarlyFraudWarning(
        stripe_early_fraud_warning_id=node.text("id"),
        stripe_charge_id=node.reference("charge"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        livemode=node.flag("livemode"),
        fraud_type=node.text("fraud_type"),
        actionable=node.flag("actionable"),
        warned_at=node.moment("created"),
    )


_READERS = {
    "customer": _customer,
    "product": _product,
    "price": _price,
    "subscription": _subscription,
    "invoice": _invoice,
    "charge": _charge,
    "checkout.session": _checkout_session,
    "radar.early_fraud_warning": _early_fraud_warning,
}
