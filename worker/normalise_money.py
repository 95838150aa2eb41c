"""Stripe's objects of money that moved → our own dataclasses, the same whatever the API version."""

from collections.abc import Callable

from worker.objects import (
    Charge,
    CheckoutLineItem,
    CheckoutSession,
    Dispute,
    EarlyFraudWarning,
    InvoicePayment,
    MoneyObject,
    PaymentIntent,
    PaymentMethod,
    Refund,
    StripeObject,
)
from worker.shapes import Node

# Metadata that makes a one-time price a credit pack.
PACK_CREDITS = "pack_credits"


def invoice_payment_of(invoice: Node) -> InvoicePayment | None:
    """What an invoice says of its payment: before basil only. Later versions send an `invoice_payment` instead."""
    intent_id = invoice.reference_or_none("payment_intent")
    # An invoice payment names a charge only if that belongs to no intent.
    charge_id = None if intent_id else invoice.reference_or_none("charge")
    is_paid = invoice.text("status") == "paid" and not invoice.value.get("paid_out_of_band")
    if not is_paid or not (intent_id or charge_id):
        return None
    transitions = invoice.child_or_none("status_transitions")
    return InvoicePayment(
        stripe_invoice_payment_id=None,
        stripe_invoice_id=invoice.text("id"),
        stripe_payment_intent_id=intent_id,
        stripe_charge_id=charge_id,
        livemode=invoice.flag("livemode"),
        status="paid",
        currency=invoice.text("currency"),
        amount_paid=invoice.number("amount_paid"),
        paid_at=transitions and transitions.moment_or_none("paid_at"),
    )


def _charge(node: Node) -> Charge:
    outcome = node.child_or_none("outcome")
    method = node.child_or_none("payment_method_details")
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
        card_fingerprint=method and _card_fingerprint(method),
        failure_code=node.text_or_none("failure_code"),
        receipt_url=node.text_or_none("receipt_url"),
        charged_at=node.moment("created"),
    )


def _card_fingerprint(method: Node) -> str | None:
    card = method.child_or_none("card")
    return card and card.text_or_none("fingerprint")


def _payment_intent(node: Node) -> PaymentIntent:
    failure = node.child_or_none("last_payment_error")
    return PaymentIntent(
        stripe_payment_intent_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        stripe_charge_id=node.reference_or_none("latest_charge"),
        stripe_payment_method_id=node.reference_or_none("payment_method"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount=node.number("amount"),
        amount_received=node.number("amount_received"),
        failure_code=failure and failure.text_or_none("code"),
        metadata=node.mapping("metadata"),
        created_at=node.moment("created"),
    )


def _invoice_payment(node: Node) -> InvoicePayment:
    payment = node.child("payment")
    return InvoicePayment(
        stripe_invoice_payment_id=node.text("id"),
        stripe_invoice_id=node.reference("invoice"),
        stripe_payment_intent_id=payment.reference_or_none("payment_intent"),
        stripe_charge_id=payment.reference_or_none("charge"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount_paid=node.number_or_none("amount_paid"),
        paid_at=node.child("status_transitions").moment_or_none("paid_at"),
    )


def _refund(node: Node) -> Refund:
    return Refund(
        stripe_refund_id=node.text("id"),
        stripe_charge_id=node.reference_or_none("charge"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount=node.number("amount"),
        reason=node.text_or_none("reason"),
        failure_reason=node.text_or_none("failure_reason"),
        refunded_at=node.moment("created"),
    )


def _dispute(node: Node) -> Dispute:
    return Dispute(
        stripe_dispute_id=node.text("id"),
        stripe_charge_id=node.reference("charge"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount=node.number("amount"),
        reason=node.text("reason"),
        evidence_due_at=node.child("evidence_details").moment_or_none("due_by"),
        disputed_at=node.moment("created"),
    )


def _payment_method(node: Node) -> PaymentMethod:
    return PaymentMethod(
        stripe_payment_method_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        livemode=node.flag("livemode"),
        type=node.text("type"),
        card_fingerprint=_card_fingerprint(node),
        created_at=node.moment("created"),
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
        lines=_checkout_line_items(node),
    )


def _checkout_line_items(session: Node) -> tuple[CheckoutLineItem, ...] | None:
    listing = session.child_or_none("line_items")
    if listing is None or listing.flag("has_more"):
        return None
    return tuple(
        CheckoutLineItem(
            stripe_line_item_id=item.text("id"),
            stripe_price_id=item.reference_or_none("price"),
            quantity=item.number_or_none("quantity"),
            amount_total=item.number("amount_total"),
            declares_credits=_declares_credits(item.child_or_none("price")),
        )
        for item in session.children("line_items")
    )


def _declares_credits(price: Node | None) -> bool:
    """By the metadata of the price, else of its product; a product that was not read might."""
    if price is None or PACK_CREDITS in price.mapping("metadata"):
        return price is not None
    product = price.value.get("product")
    return isinstance(product, str) or PACK_CREDITS in price.child("product").mapping("metadata")


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


READERS: dict[str, Callable[[Node], StripeObject]] = {
    "charge": _charge,
    "checkout.session": _checkout_session,
    "payment_intent": _payment_intent,
    "payment_method": _payment_method,
    "radar.early_fraud_warning": _early_fraud_warning,
}

# Each joins READERS, and its class StripeObject, with the command that takes it.
MONEY_READERS: dict[str, Callable[[Node], MoneyObject]] = {
    "invoice_payment": _invoice_payment,
    "refund": _refund,
    "dispute": _dispute,
}
