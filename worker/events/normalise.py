"""A message's text → a frozen StripeEvent with our own dataclasses, the same for all API versions.

The keys of a body show its version, not the version that it names. Only fields that the product uses are read. A
body in which one is missing, or has another type, is an UnknownShape with the path of the error: the event becomes a
dead letter with that reason, and is never dropped silently.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from worker.errors import UnknownShape
from worker.events.inbox import Message
from worker.events.normalise_money import READERS, exclusive_tax, invoice_payment_of
from worker.events.objects import (
    Customer,
    FrozenClock,
    Invoice,
    InvoiceLine,
    Price,
    Product,
    StripeEvent,
    StripeObject,
    Subscription,
    SubscriptionItem,
)
from worker.events.shapes import Node

# The known families of API versions. A version older than the first has a date only.
API_FAMILIES = ("acacia", "basil", "clover", "dahlia", "endive")
_FIRST_FAMILY_FROM = "2024-09-30"
_API_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.(\w+))?")

# After an even number of backslashes, which escape each other.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def normalise(message: Message) -> StripeEvent:
    """Read a message's event. Raises UnknownShape."""
    node = Node(_parse(message.payload), "event").child("data").child("object")
    found = normalise_object(node)
    return StripeEvent(
        id=message.event_id,
        type=message.type,
        api_version=message.api_version,
        created_at=message.created_at,
        object=found,
        invoice_payment=invoice_payment_of(node) if isinstance(found, Invoice) else None,
    )


def is_known_api_version(api_version: str | None) -> bool:
    """Whether this version of Tillbase knows the API version. Bodies are read by their keys in any case."""
    match = _API_VERSION.fullmatch(api_version or "")
    if match is None:
        return False
    date, family = match.groups()
    return date < _FIRST_FAMILY_FROM if family is None else family in API_FAMILIES


def normalise_object(node: Node) -> StripeObject | None:
    """Read one Stripe object by its `object` field; None for a kind that no command uses."""
    read = _READERS.get(node.text("object"))
    return None if read is None else read(node)


def _parse(payload: str) -> Any:
    try:
        body = json.loads(payload)
        _refuse_unstorable_text(payload, body)
    except (ValueError, RecursionError) as error:
        raise UnknownShape(f"the event's body is not valid JSON: {error}") from None
    return body


def _refuse_unstorable_text(payload: str, body: object) -> None:
    # JSON can contain characters that Postgres cannot store, and we must store exactly what we read. Nearly every
    # invoice has other escapes (the × of its lines), so the slow checks run only for escapes that start like those.
    if "\\u0000" in payload and _ESCAPED_NUL.search(payload):
        raise UnknownShape("the event's body contains \\u0000, which Postgres cannot store as text")
    if "\\ud" in payload or "\\uD" in payload:
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UnknownShape(
                "the event's body contains half of a surrogate pair, which is not valid text"
            ) from None


def _customer(node: Node) -> Customer:
    if node.value.get("deleted") is True:  # Stripe's answer has nothing but its id
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
        has_custom_amount=node.child_or_none("custom_unit_amount") is not None,
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
        stripe_test_clock_id=node.reference_or_none("test_clock"),
        items=node.whole_list("items", lambda item: _subscription_item(item, node)),
    )


def _subscription_item(node: Node, subscription: Node) -> SubscriptionItem:
    price = node.child("price")
    # Before basil a subscription had one period for all of its items.
    is_shared = not node.has("current_period_start") and subscription.has("current_period_start")
    period = subscription if is_shared else node
    return SubscriptionItem(
        stripe_subscription_item_id=node.text("id"),
        stripe_price_id=price.text("id"),
        stripe_product_id=price.reference_or_none("product"),
        quantity=node.number_or_none("quantity"),
        current_period_start=period.moment("current_period_start"),
        current_period_end=period.moment("current_period_end"),
    )


def _invoice(node: Node) -> Invoice:
    transitions = node.child_or_none("status_transitions")
    lines = node.whole_list("lines", _invoice_line)
    return Invoice(
        stripe_invoice_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        stripe_subscription_id=_subscription_of_invoice(node) or _subscription_of_lines(lines or ()),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        billing_reason=node.text_or_none("billing_reason"),
        collection_method=node.text_or_none("collection_method"),
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
        lines=lines,
    )


def _subscription_of_invoice(node: Node) -> str | None:
    if node.which("parent", "subscription") == "subscription":  # before basil
        return node.reference_or_none("subscription")
    parent = node.child_or_none("parent")
    details = parent and parent.child_or_none("subscription_details")
    return details and details.reference_or_none("subscription")


def _subscription_of_lines(lines: Iterable[InvoiceLine]) -> str | None:
    """A manual invoice includes pending prorations, and names no subscription itself."""
    return next((line.stripe_subscription_id for line in lines if line.stripe_subscription_item_id), None)


def _invoice_line(node: Node) -> InvoiceLine:
    subscription_id, item_id, is_proration, proration = _parent_of_line(node)
    credited = proration and proration.child_or_none("credited_items")
    period = node.child("period")
    return InvoiceLine(
        stripe_line_id=node.text("id"),
        stripe_subscription_id=subscription_id,
        stripe_subscription_item_id=item_id,
        stripe_price_id=_price_of_line(node),
        amount=node.number("amount"),
        quantity=node.number_or_none("quantity"),
        is_proration=is_proration,
        period_start=period.moment("start"),
        period_end=period.moment("end"),
        credited_line_ids=credited and credited.texts("invoice_line_items"),
        credited_invoice_id=credited and credited.reference_or_none("invoice"),
        discount=_discount(node),
        tax=exclusive_tax(node),
    )


def _parent_of_line(node: Node) -> tuple[str | None, str | None, bool, Node | None]:
    """Subscription, subscription item, whether the line is a proration, and its proration details."""
    subscription_id = node.reference_or_none("subscription")
    if node.which("parent", "type") == "type":  # before basil
        item_id = node.text_or_none("subscription_item")
        return subscription_id, item_id, node.flag("proration"), node.child_or_none("proration_details")
    parent = node.child_or_none("parent")
    kind = parent and parent.text("type")
    if parent is None or kind not in ("subscription_item_details", "invoice_item_details"):
        return subscription_id, None, False, None
    details = parent.child(kind)
    item_id = details.text("subscription_item") if kind == "subscription_item_details" else None
    subscription_id = details.reference_or_none("subscription") or subscription_id
    return subscription_id, item_id, details.flag("proration"), details.child_or_none("proration_details")


def _discount(line: Node) -> int | None:
    if line.value.get("discount_amounts") is None:
        return None
    return sum(discount.number("amount") for discount in line.members("discount_amounts"))


def _price_of_line(node: Node) -> str | None:
    if node.which("pricing", "price", "plan") != "pricing":  # before basil
        return node.reference_or_none("price") or node.reference_or_none("plan")
    pricing = node.child_or_none("pricing")
    details = pricing and pricing.child_or_none("price_details")
    return details and details.reference("price")


def _test_clock(node: Node) -> FrozenClock:
    return FrozenClock(
        stripe_test_clock_id=node.text("id"),
        livemode=node.flag("livemode"),
        frozen_at=node.moment("frozen_time"),
    )


_READERS: dict[str, Callable[[Node], StripeObject]] = {
    "customer": _customer,
    "product": _product,
    "price": _price,
    "subscription": _subscription,
    "invoice": _invoice,
    "test_helpers.test_clock": _test_clock,
    **READERS,
}
