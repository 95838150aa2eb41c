"""A normalised event → its commands. Pure: no connection, no clock, no network.

What only the database knows (stale? duplicate? which account? enough credits?) is decided in SQL under the lock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from worker.errors import UnknownShape
from worker.events.commands import (
    Command,
    DeletePrice,
    DeleteProduct,
    RecordCard,
    RecordFraudWarning,
    RecordSavedCard,
    SyncCheckoutSession,
    SyncCreditNote,
    SyncCustomer,
    SyncDispute,
    SyncInvoice,
    SyncInvoicePayment,
    SyncPayment,
    SyncPaymentIntent,
    SyncPaymentLink,
    SyncPrice,
    SyncProduct,
    SyncRefund,
    SyncReview,
    SyncSubscription,
    SyncTestClock,
    stripe_id_of,
)
from worker.events.known import refuse_unknown
from worker.events.objects import (
    Charge,
    CheckoutSession,
    CreditNote,
    Customer,
    Dispute,
    EarlyFraudWarning,
    FrozenClock,
    Invoice,
    InvoicePayment,
    PaymentIntent,
    PaymentLink,
    PaymentMethod,
    Price,
    Product,
    Refund,
    Review,
    StripeEvent,
    StripeObject,
    Subscription,
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object as Stripe answered it, with the Date of the answer."""

    object: StripeObject
    as_of: datetime


def decide(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    """The commands of an event. `fetched` has what `needs` named. Raises UnknownShape."""
    return DECIDERS[event.type](event, fetched)


def needs(event: StripeEvent) -> list[str]:
    """Stripe ids that must be read before the event can be decided; none for an ordinary event."""
    match event.object:
        case EarlyFraudWarning() as warning:
            return [warning.stripe_charge_id]  # a warning has no risk level and no customer; its charge has
        case Invoice(status="paid", lines=None) as invoice:
            return [invoice.stripe_invoice_id]  # an event's body contains only the first lines
        case Subscription(items=None) as subscription:
            return [subscription.stripe_subscription_id]
        case CheckoutSession(mode="payment", status="complete", lines=None) as session:
            # No event contains what was bought, and the payment of an unpaid session may not name it: a capture does
            # not.
            return [session.stripe_checkout_session_id]
        case CreditNote(lines=None) as note:
            return [note.stripe_credit_note_id]
        case _:
            return []


def sync(found: StripeObject, as_of: datetime, *, is_fetched: bool) -> Command:
    """The command that stores an object's state as of `as_of`. Raises UnknownShape."""
    command = _sync(found, as_of, is_fetched=is_fetched)
    refuse_unknown(found, stripe_id_of(command))
    return command


def _sync(found: StripeObject, as_of: datetime, *, is_fetched: bool) -> Command:
    match found:
        case Customer():
            return SyncCustomer(found, as_of)
        case Product():
            return SyncProduct(found, as_of)
        case Price():
            return SyncPrice(found, as_of)
        case Subscription():
            return SyncSubscription(found, as_of, is_fetched)
        case FrozenClock():
            return SyncTestClock(found)
        case Invoice():
            return SyncInvoice(found, as_of)
        case CheckoutSession():
            return SyncCheckoutSession(found, as_of)
        case Charge():
            return SyncPayment(found, as_of)
        case PaymentIntent():
            return SyncPaymentIntent(found, as_of)
        case PaymentLink():
            return SyncPaymentLink(found)
        case InvoicePayment():
            return SyncInvoicePayment(found)
        case Refund():
            return SyncRefund(found, as_of)
        case Dispute():
            return SyncDispute(found, as_of)
        case CreditNote():
            return SyncCreditNote(found, as_of)
        case Review():
            return SyncReview(found, as_of)
        case EarlyFraudWarning():
            raise UnknownShape("an early fraud warning has no payment data without its charge")
        case PaymentMethod():
            raise UnknownShape("a payment method has no table")


def _object_as_of_event(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    if event.object is None:
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    return [
        sync(fetched[stripe_id].object, fetched[stripe_id].as_of, is_fetched=True)
        for stripe_id in needs(event)
    ] or [sync(event.object, event.created_at, is_fetched=False)]


def _invoice_created(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    """Something will be paid: a change that Stripe credits meanwhile gives back time that nobody has paid for."""
    invoice = event.object
    if not isinstance(invoice, Invoice):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    if invoice.billing_reason != "subscription_cycle" and invoice.collection_method != "send_invoice":
        return []  # it is charged at once
    return _object_as_of_event(event, fetched)


def _invoice_finalized(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    """An invoice waits for its payment; if it is charged automatically, its outcome is reported soon."""
    invoice = event.object
    if not isinstance(invoice, Invoice):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    if invoice.collection_method != "send_invoice":
        return []
    return _object_as_of_event(event, fetched)


def _invoice_paid(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    """Before basil the invoice itself named its payment."""
    told = event.invoice_payment
    return _object_as_of_event(event, fetched) + ([] if told is None else [SyncInvoicePayment(told)])


def _customer_deleted(event: StripeEvent, _: Mapping[str, Fetched]) -> list[Command]:
    if not isinstance(event.object, Customer):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    return [SyncCustomer(replace(event.object, is_deleted=True), event.created_at)]


def _product_deleted(event: StripeEvent, _: Mapping[str, Fetched]) -> list[Command]:
    if not isinstance(event.object, Product):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    return [DeleteProduct(event.object.stripe_product_id, event.created_at)]


def _price_deleted(event: StripeEvent, _: Mapping[str, Fetched]) -> list[Command]:
    if not isinstance(event.object, Price):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    return [DeletePrice(event.object.stripe_price_id, event.created_at)]


def _card_seen(event: StripeEvent, _: Mapping[str, Fetched]) -> list[Command]:
    method = event.object
    if not isinstance(method, PaymentMethod):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    saved = _card_saved(event, {})
    if method.stripe_customer_id is None or method.card_fingerprint is None:
        return saved
    # A renewed card has its own number, which differs from the payment method's original one.
    is_renewed = event.type == "payment_method.automatically_updated"
    seen_at = event.created_at if is_renewed else method.created_at
    card = RecordCard(method.stripe_customer_id, method.livemode, method.card_fingerprint, seen_at)
    return [card, *saved]


def _card_saved(event: StripeEvent, _: Mapping[str, Fetched]) -> list[Command]:
    method = event.object
    if not isinstance(method, PaymentMethod):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    if method.card_exp_month is None or method.card_exp_year is None:
        return []
    return [
        RecordSavedCard(
            method.stripe_payment_method_id,
            method.stripe_customer_id,
            method.livemode,
            method.card_brand,
            method.card_last4,
            method.card_exp_month,
            method.card_exp_year,
            event.created_at,
        )
    ]


def _fraud_warning(event: StripeEvent, fetched: Mapping[str, Fetched]) -> list[Command]:
    warning = event.object
    if not isinstance(warning, EarlyFraudWarning):
        raise UnknownShape(f"an event of type {event.type} has an object of an unexpected kind")
    read = fetched[warning.stripe_charge_id]
    charge = read.object
    if not isinstance(charge, Charge):
        raise UnknownShape(f"{warning.stripe_charge_id} is not a charge")
    return [
        SyncPayment(charge, read.as_of),
        RecordFraudWarning(
            warning, charge.stripe_customer_id, charge.risk_level, charge.risk_score, event.created_at
        ),
    ]


Decider = Callable[[StripeEvent, Mapping[str, Fetched]], list[Command]]

DECIDERS: dict[str, Decider] = {
    "customer.created": _object_as_of_event,
    "customer.updated": _object_as_of_event,
    "customer.deleted": _customer_deleted,
    "product.created": _object_as_of_event,
    "product.updated": _object_as_of_event,
    "product.deleted": _product_deleted,
    "price.created": _object_as_of_event,
    "price.updated": _object_as_of_event,
    "price.deleted": _price_deleted,
    "customer.subscription.created": _object_as_of_event,
    "customer.subscription.updated": _object_as_of_event,
    "customer.subscription.deleted": _object_as_of_event,
    "customer.subscription.paused": _object_as_of_event,
    "customer.subscription.resumed": _object_as_of_event,
    "customer.subscription.pending_update_applied": _object_as_of_event,
    "customer.subscription.pending_update_expired": _object_as_of_event,
    "invoice.created": _invoice_created,
    "invoice.finalized": _invoice_finalized,
    "invoice.paid": _invoice_paid,
    "invoice.payment_succeeded": _invoice_paid,
    "invoice_payment.paid": _object_as_of_event,
    "invoice.payment_failed": _object_as_of_event,
    "invoice.payment_action_required": _object_as_of_event,
    "invoice.finalization_failed": _object_as_of_event,
    "invoice.marked_uncollectible": _object_as_of_event,
    "invoice.voided": _object_as_of_event,
    "checkout.session.completed": _object_as_of_event,
    "checkout.session.async_payment_succeeded": _object_as_of_event,
    "checkout.session.expired": _object_as_of_event,
    "payment_link.created": _object_as_of_event,
    "payment_link.updated": _object_as_of_event,
    "payment_intent.succeeded": _object_as_of_event,
    "payment_intent.payment_failed": _object_as_of_event,
    "payment_intent.canceled": _object_as_of_event,
    "charge.succeeded": _object_as_of_event,
    "charge.refunded": _object_as_of_event,
    "refund.created": _object_as_of_event,
    "refund.updated": _object_as_of_event,
    "refund.failed": _object_as_of_event,
    "charge.refund.updated": _object_as_of_event,
    "charge.dispute.created": _object_as_of_event,
    "charge.dispute.updated": _object_as_of_event,
    "charge.dispute.closed": _object_as_of_event,
    "charge.dispute.funds_withdrawn": _object_as_of_event,
    "charge.dispute.funds_reinstated": _object_as_of_event,
    "credit_note.created": _object_as_of_event,
    "credit_note.updated": _object_as_of_event,
    "credit_note.voided": _object_as_of_event,
    "payment_method.attached": _card_seen,
    "payment_method.automatically_updated": _card_seen,
    "payment_method.updated": _card_saved,
    "payment_method.detached": _card_saved,
    "radar.early_fraud_warning.created": _fraud_warning,
    "radar.early_fraud_warning.updated": _fraud_warning,
    "review.opened": _object_as_of_event,
    "review.closed": _object_as_of_event,
    "test_helpers.test_clock.ready": _object_as_of_event,
}

# Ignored by name: another event reports the same, or it does not affect credits.
IGNORED: dict[str, str] = {
    "invoice.sent": "invoice.finalized reports the same, also if no e-mail is sent",
    "invoice.updated": "invoice.paid, invoice.payment_failed and the events that end an invoice report what matters",
    "invoice.upcoming": "nothing has happened yet",
    "customer.subscription.trial_will_end": "customer.subscription.updated reports when the trial ends or changes",
    "checkout.session.async_payment_failed": "nothing was paid, as checkout.session.completed reported",
    "payment_intent.created": "charge.succeeded reports the payment",
    "plan.created": "price.created reports the same, and more",
    "plan.updated": "price.updated reports the same, and more",
    "plan.deleted": "price.deleted reports the same",
    "test_helpers.test_clock.created": "its subscriptions contain it",
    "test_helpers.test_clock.advancing": "test_helpers.test_clock.ready reports the new time",
    "test_helpers.test_clock.deleted": "its customers are deleted with it, and have events of their own",
    "charge.updated": "charge.succeeded and charge.refunded report what matters",
    "charge.captured": "payment_intent.succeeded reports how much was captured",
}


def reason_to_ignore(event_type: str) -> str | None:
    """Why events of a type are ignored; None if they are handled."""
    if event_type in DECIDERS:
        return None
    return IGNORED.get(event_type, f"events of type {event_type} are not used by this version")
