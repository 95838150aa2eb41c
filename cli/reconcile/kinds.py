"""What is compared of each kind of Stripe object, as `billing.stripe_facts` has it, and the event that brings it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from worker.events.objects import (
    Charge,
    CheckoutSession,
    CreditNote,
    Customer,
    Dispute,
    EarlyFraudWarning,
    Invoice,
    InvoicePayment,
    Price,
    Product,
    Refund,
    Subscription,
)

Facts = dict[str, Any]
# (here, in Stripe), by name.
Differing = dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """`name` is Stripe's `object`, and that of `billing.stripe_facts`.

    `is_needed`: whether a missing row is a difference. `final`: facts of a row that no event changes, or only in one
    direction. `is_recent_only`: only what was created after settings.credits_since is compared, and nothing backfilled.
    """

    name: str
    noun: str
    path: str
    facts: Callable[[Any], Facts]
    event_type: Callable[[Any], str]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_needed: Callable[[Any], bool] = lambda found: True
    final: frozenset[str] = frozenset()
    is_recent_only: bool = False
    # How long after its creation it may still be paid for.
    open_for: timedelta = timedelta(0)


def _product(found: Product) -> Facts:
    return {"name": found.name, "active": found.active, "metadata": found.metadata}


def _price(found: Price) -> Facts:
    return {
        "stripe_product_id": found.stripe_product_id,
        "active": found.active,
        "currency": found.currency,
        "unit_amount": found.unit_amount,
        "metadata": found.metadata,
    }


def _customer(found: Customer) -> Facts:
    if found.is_deleted:
        return {"is_deleted": True}
    return {"is_deleted": False, "email": found.email, "name": found.name}


def _subscription(found: Subscription) -> Facts:
    return {
        "stripe_customer_id": found.stripe_customer_id,
        "status": found.status,
        "billing_cycle_anchor": _seconds(found.billing_cycle_anchor),
        "cancel_at": _seconds(found.cancel_at),
        "cancel_at_period_end": found.cancel_at_period_end,
        "canceled_at": _seconds(found.canceled_at),
        "ended_at": _seconds(found.ended_at),
        "trial_start": _seconds(found.trial_start),
        "trial_end": _seconds(found.trial_end),
        "is_collection_paused": found.is_collection_paused,
        "items": {
            item.stripe_subscription_item_id: {
                "price": item.stripe_price_id,
                "quantity": item.quantity,
                "start": _seconds(item.current_period_start),
                "end": _seconds(item.current_period_end),
            }
            for item in found.items or ()
        },
    }


def _invoice(found: Invoice) -> Facts:
    if found.status != "paid":
        return {"status": "open" if found.status == "draft" else found.status}
    return {
        "status": found.status,
        "total": found.total,
        "amount_paid": found.amount_paid,
        "lines": {
            line.stripe_line_id: {
                "item": line.stripe_subscription_item_id,
                "price": line.stripe_price_id,
                "amount": line.amount,
                "quantity": line.quantity,
                "is_proration": line.is_proration,
                "start": _seconds(line.period_start),
                "end": _seconds(line.period_end),
            }
            for line in found.lines or ()
        },
    }


def _event_of_invoice(found: Invoice) -> str:
    events = {
        "paid": "invoice.paid",
        "void": "invoice.voided",
        "uncollectible": "invoice.marked_uncollectible",
    }
    return events.get(found.status, "invoice.payment_failed")


def _invoice_payment(found: InvoicePayment) -> Facts:
    return {
        "stripe_invoice_id": found.stripe_invoice_id,
        "stripe_payment_intent_id": found.stripe_payment_intent_id,
        "stripe_charge_id": found.stripe_charge_id,
        "amount_paid": found.amount_paid,
    }


def _charge(found: Charge) -> Facts:
    return {
        "status": found.status,
        "amount": found.amount,
        "amount_refunded": found.amount_refunded,
        "currency": found.currency,
    }


def _refund(found: Refund) -> Facts:
    return {
        "status": found.status,
        "amount": found.amount,
        "currency": found.currency,
        "stripe_charge_id": found.stripe_charge_id,
        "stripe_payment_intent_id": found.stripe_payment_intent_id,
    }


def _dispute(found: Dispute) -> Facts:
    return {"status": found.status, "amount": found.amount, "stripe_charge_id": found.stripe_charge_id}


def _credit_note(found: CreditNote) -> Facts:
    return {
        "stripe_invoice_id": found.stripe_invoice_id,
        "status": found.status,
        "amount": found.amount,
        "pre_payment_amount": found.pre_payment_amount,
        "lines": {
            str(number): {"line": line.stripe_line_id, "amount": line.amount}
            for number, line in enumerate(found.lines or (), 1)
        },
    }


def _checkout_session(found: CheckoutSession) -> Facts:
    facts: Facts = {"status": found.status, "payment_status": found.payment_status}
    if found.mode == "payment":  # of others the invoice has what was bought
        facts["lines"] = {
            line.stripe_line_item_id: {"price": line.stripe_price_id, "amount": line.amount_total}
            for line in found.lines or ()
        }
    return facts


def _fraud_warning(found: EarlyFraudWarning) -> Facts:
    return {"actionable": found.actionable, "stripe_charge_id": found.stripe_charge_id}


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


# In the order in which they are brought: what others need comes first.
KINDS = (
    Kind("product", "product", "/v1/products", _product, lambda found: "product.updated"),
    Kind("price", "price", "/v1/prices", _price, lambda found: "price.updated"),
    Kind(
        "customer", "customer", "/v1/customers", _customer,
        lambda found: "customer.deleted" if found.is_deleted else "customer.updated",
        final=frozenset({"is_deleted"}),
    ),
    Kind(
        "subscription", "subscription", "/v1/subscriptions", _subscription,
        lambda found: f"customer.subscription.{'updated' if found.ended_at is None else 'deleted'}",
        params={"status": "all"},
    ),
    Kind(
        "invoice", "invoice", "/v1/invoices", _invoice, _event_of_invoice,
        is_needed=lambda found: found.status == "paid",
        final=frozenset({"status"}),
    ),
    Kind(
        "invoice_payment", "invoice payment", "/v1/invoice_payments", _invoice_payment,
        lambda found: "invoice_payment.paid",
        params={"status": "paid"},
        final=frozenset({"stripe_invoice_id", "stripe_payment_intent_id", "stripe_charge_id", "amount_paid"}),
    ),
    Kind(
        "charge", "charge", "/v1/charges", _charge,
        lambda found: "charge.refunded" if found.amount_refunded else "charge.succeeded",
        is_needed=lambda found: found.status == "succeeded",
    ),
    Kind(
        "refund", "refund", "/v1/refunds", _refund, lambda found: "refund.updated",
        final=frozenset({"status", "amount", "currency", "stripe_charge_id", "stripe_payment_intent_id"}),
    ),
    Kind(
        "dispute", "dispute", "/v1/disputes", _dispute, lambda found: "charge.dispute.updated",
        final=frozenset({"status", "amount", "stripe_charge_id"}),
    ),
    Kind(
        "credit_note", "credit note", "/v1/credit_notes", _credit_note,
        lambda found: f"credit_note.{'voided' if found.status == 'void' else 'updated'}",
        final=frozenset({"stripe_invoice_id", "status", "amount", "pre_payment_amount", "lines"}),
    ),
    Kind(
        "checkout.session", "checkout session", "/v1/checkout/sessions", _checkout_session,
        lambda found: "checkout.session.completed",
        # Stripe includes line items only on request; with their products they would be too deep for a list.
        params={"status": "complete", "expand": ["data.line_items", "data.payment_intent.latest_charge"]},
        is_needed=lambda found: found.mode == "payment",
        final=frozenset({"status", "payment_status", "lines"}),
        is_recent_only=True,
        open_for=timedelta(days=1),  # Stripe's maximum
    ),
    Kind(
        "radar.early_fraud_warning", "early fraud warning", "/v1/radar/early_fraud_warnings", _fraud_warning,
        lambda found: "radar.early_fraud_warning.updated",
        final=frozenset({"actionable"}),
        is_recent_only=True,
    ),
)  # fmt: skip


def differing(kind: Kind, here: Facts, there: Facts) -> Differing:
    """The facts that the row and Stripe don't agree on."""
    found = {name: (here.get(name), value) for name, value in there.items() if here.get(name) != value}
    if here.get("is_erased"):  # what was erased is no difference
        found.pop("email", None)
        found.pop("name", None)
    # When a refund fails, only its own event reports it, not the charge's.
    if (
        kind.name == "charge"
        and "amount_refunded" in found
        and here["amount_refunded"] > there["amount_refunded"]
    ):
        del found["amount_refunded"]
    return found
