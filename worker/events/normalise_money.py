"""Stripe's objects of payments and refunds → our own dataclasses, the same for all API versions."""

from collections.abc import Callable
from uuid import UUID

from worker.events.objects import (
    Charge,
    CheckoutLineItem,
    CheckoutSession,
    CreditNote,
    CreditNoteLine,
    Dispute,
    EarlyFraudWarning,
    InvoicePayment,
    PaymentIntent,
    PaymentLink,
    PaymentMethod,
    Refund,
    Review,
    StripeObject,
)
from worker.events.shapes import Node

# Metadata that makes a one-time price a credit pack.
PACK_CREDITS = "pack_credits"
# The same for a price whose amount the customer chooses.
CREDITS_PER_UNIT = "credits_per_unit"
# Metadata of Payment Links that we created: the id of their row.
LINK_TOKEN = "tillbase_link"  # noqa: S105 - a name, no secret


def invoice_payment_of(invoice: Node) -> InvoicePayment | None:
    """The payment that an invoice names: before basil only. Later versions send an `invoice_payment` instead."""
    intent_id = invoice.reference_or_none("payment_intent")
    # An invoice payment names a charge only if the charge has no intent.
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
        is_liability_shifted=_is_authenticated(method),
        card_fingerprint=method and _card_fingerprint(method),
        failure_code=node.text_or_none("failure_code"),
        receipt_url=node.text_or_none("receipt_url"),
        charged_at=node.moment("created"),
    )


def _is_authenticated(method: Node | None) -> bool:
    """Whether 3-D Secure makes the issuer liable: the cardholder was authenticated, or the issuer took part."""
    card = method and method.child_or_none("card")
    secure = card and card.child_or_none("three_d_secure")
    return bool(secure) and secure.text_or_none("result") in ("authenticated", "attempt_acknowledged")


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
        # Stripe's type allows null; such a refund did not fail and counts.
        status=node.text_or_none("status") or "pending",
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


def _credit_note(node: Node) -> CreditNote:
    """Before basil a note named one refund without its amount: all that it returns except out of band."""
    amount = _part_of_note(node, "post_payment")
    if "refunds" in node.value:
        refunded = sum(refund.number("amount_refunded") for refund in node.members("refunds"))
    elif node.reference_or_none("refund") is not None:
        refunded = amount - (node.number_or_none("out_of_band_amount") or 0)
    else:
        refunded = 0
    return CreditNote(
        stripe_credit_note_id=node.text("id"),
        stripe_invoice_id=node.reference("invoice"),
        livemode=node.flag("livemode"),
        status=node.text("status"),
        currency=node.text("currency"),
        amount=amount,
        amount_refunded=refunded,
        reason=node.text_or_none("reason"),
        noted_at=node.moment("created"),
        lines=node.whole_list("lines", _credit_note_line),
        stripe_refund_ids=_refunds_of_note(node),
        pre_payment_amount=_part_of_note(node, "pre_payment"),
    )


def _part_of_note(node: Node, part: str) -> int:
    """The amount credited before or after payment; a note that reports neither is entirely of the kind it names."""
    amount = node.number_or_none(f"{part}_amount")
    if amount is None:
        return node.number("amount") if node.text("type") == part else 0
    return amount


def _refunds_of_note(node: Node) -> tuple[str, ...]:
    found = (
        [refund.reference_or_none("refund") for refund in node.members("refunds")]
        if node.has("refunds")
        else []
    )
    return tuple(dict.fromkeys(refund for refund in (*found, node.reference_or_none("refund")) if refund))


def _credit_note_line(node: Node) -> CreditNoteLine:
    amount = node.number("amount") - node.number("discount_amount") + exclusive_tax(node)
    return CreditNoteLine(stripe_line_id=node.text_or_none("invoice_line_item"), amount=amount)


def _without_added_tax(item: Node) -> int:
    """What a line of a session came to. Tax that is added to a price buys no credits."""
    if item.has("amount_subtotal") and item.has("amount_discount"):
        return item.number("amount_subtotal") - item.number("amount_discount")
    return item.number("amount_total")


def exclusive_tax(line: Node) -> int:
    """Tax added to the amount of a line."""
    if line.value.get("taxes") is not None:
        taxes = line.members("taxes")
        return sum(tax.number("amount") for tax in taxes if tax.text("tax_behavior") == "exclusive")
    if line.value.get("tax_amounts") is not None:  # before basil
        return sum(tax.number("amount") for tax in line.members("tax_amounts") if not tax.flag("inclusive"))
    return 0


def _payment_method(node: Node) -> PaymentMethod:
    card = node.child_or_none("card")
    return PaymentMethod(
        stripe_payment_method_id=node.text("id"),
        stripe_customer_id=node.reference_or_none("customer"),
        livemode=node.flag("livemode"),
        type=node.text("type"),
        card_fingerprint=_card_fingerprint(node),
        card_brand=card and card.text_or_none("brand"),
        card_last4=card and card.text_or_none("last4"),
        card_exp_month=card and card.number_or_none("exp_month"),
        card_exp_year=card and card.number_or_none("exp_year"),
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
        opened_at=node.moment("created"),
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
            amount_total=_without_added_tax(item),
            declares_credits=_declares_credits(item.child_or_none("price")),
        )
        for item in session.children("line_items")
    )


def _declares_credits(price: Node | None) -> bool:
    """By the metadata of the price, else of its product; a product that was not read may declare credits."""
    if price is None:
        return False
    key = PACK_CREDITS if price.child_or_none("custom_unit_amount") is None else CREDITS_PER_UNIT
    product = price.value.get("product")
    return (
        key in price.mapping("metadata")
        or isinstance(product, str)
        or key in price.child("product").mapping("metadata")
    )


def _payment_link(node: Node) -> PaymentLink:
    return PaymentLink(
        stripe_payment_link_id=node.text("id"),
        livemode=node.flag("livemode"),
        active=node.flag("active"),
        url=node.text("url"),
        token=_uuid(node.mapping("metadata").get(LINK_TOKEN)),
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:  # the metadata is not ours
        return None


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


def _review(node: Node) -> Review:
    return Review(
        stripe_review_id=node.text("id"),
        stripe_charge_id=node.reference_or_none("charge"),
        stripe_payment_intent_id=node.reference_or_none("payment_intent"),
        livemode=node.flag("livemode"),
        is_open=node.flag("open"),
        reason=node.text("reason"),
        closed_reason=node.text_or_none("closed_reason"),
        opened_at=node.moment("created"),
    )


READERS: dict[str, Callable[[Node], StripeObject]] = {
    "charge": _charge,
    "checkout.session": _checkout_session,
    "credit_note": _credit_note,
    "dispute": _dispute,
    "invoice_payment": _invoice_payment,
    "payment_intent": _payment_intent,
    "payment_link": _payment_link,
    "payment_method": _payment_method,
    "radar.early_fraud_warning": _early_fraud_warning,
    "refund": _refund,
    "review": _review,
}
