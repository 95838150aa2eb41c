"""Stripe's objects as the worker uses them: frozen, typed, with only the fields that the product uses.

Fields have the names of the parameters of the `billing.sync_…` functions that take them. A list is None if the body
contains only its first members.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Customer:
    stripe_customer_id: str
    livemode: bool
    email: str | None
    name: str | None
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class Product:
    stripe_product_id: str
    livemode: bool
    name: str
    description: str | None
    active: bool
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    stripe_price_id: str
    stripe_product_id: str
    livemode: bool
    active: bool
    type: str
    lookup_key: str | None
    nickname: str | None
    currency: str
    unit_amount: int | None
    has_custom_amount: bool
    recurring_interval: str | None
    recurring_interval_count: int | None
    usage_type: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    stripe_subscription_item_id: str
    stripe_price_id: str
    stripe_product_id: str | None
    quantity: int | None
    current_period_start: datetime
    current_period_end: datetime


@dataclass(frozen=True, slots=True)
class Subscription:
    stripe_subscription_id: str
    stripe_customer_id: str
    livemode: bool
    status: str
    currency: str | None
    billing_cycle_anchor: datetime
    cancel_at: datetime | None
    cancel_at_period_end: bool
    canceled_at: datetime | None
    ended_at: datetime | None
    trial_start: datetime | None
    trial_end: datetime | None
    is_collection_paused: bool
    metadata: dict[str, str]
    started_at: datetime
    stripe_test_clock_id: str | None
    items: tuple[SubscriptionItem, ...] | None


@dataclass(frozen=True, slots=True)
class FrozenClock:
    """A Stripe test clock: its subscriptions use the time `frozen_at`."""

    stripe_test_clock_id: str
    livemode: bool
    frozen_at: datetime


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """`credited_line_ids` are the earlier lines that a proration credits, those of the invoice `credited_invoice_id`.

    `discount` was deducted from its amount, `tax` added.

    None if Stripe does not report it.
    """

    stripe_line_id: str
    stripe_subscription_id: str | None
    stripe_subscription_item_id: str | None
    stripe_price_id: str | None
    amount: int
    quantity: int | None
    is_proration: bool
    period_start: datetime
    period_end: datetime
    credited_line_ids: tuple[str, ...] | None
    credited_invoice_id: str | None
    discount: int | None
    tax: int


@dataclass(frozen=True, slots=True)
class Invoice:
    stripe_invoice_id: str
    stripe_customer_id: str | None
    stripe_subscription_id: str | None
    livemode: bool
    status: str
    billing_reason: str | None
    collection_method: str | None
    currency: str
    subtotal: int
    total: int
    amount_due: int
    amount_paid: int
    attempt_count: int
    next_payment_attempt_at: datetime | None
    hosted_invoice_url: str | None
    invoiced_at: datetime
    paid_at: datetime | None
    lines: tuple[InvoiceLine, ...] | None


@dataclass(frozen=True, slots=True)
class Charge:
    stripe_charge_id: str
    stripe_payment_intent_id: str | None
    stripe_customer_id: str | None
    livemode: bool
    status: str
    currency: str
    amount: int
    amount_refunded: int
    is_disputed: bool
    risk_level: str | None
    risk_score: int | None
    is_liability_shifted: bool
    card_fingerprint: str | None
    failure_code: str | None
    receipt_url: str | None
    charged_at: datetime


@dataclass(frozen=True, slots=True)
class CheckoutLineItem:
    stripe_line_item_id: str
    stripe_price_id: str | None
    quantity: int | None
    amount_total: int
    declares_credits: bool


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """No event has the lines: only a session that was read from Stripe has them."""

    stripe_checkout_session_id: str
    stripe_customer_id: str | None
    livemode: bool
    mode: str
    status: str
    payment_status: str
    client_reference_id: str | None
    stripe_subscription_id: str | None
    stripe_invoice_id: str | None
    stripe_payment_intent_id: str | None
    stripe_payment_link_id: str | None
    currency: str | None
    amount_total: int | None
    opened_at: datetime
    lines: tuple[CheckoutLineItem, ...] | None = None


@dataclass(frozen=True, slots=True)
class PaymentLink:
    """`token` names the row for which we created it; None for other links."""

    stripe_payment_link_id: str
    livemode: bool
    active: bool
    url: str
    token: UUID | None


@dataclass(frozen=True, slots=True)
class EarlyFraudWarning:
    stripe_early_fraud_warning_id: str
    stripe_charge_id: str
    stripe_payment_intent_id: str | None
    livemode: bool
    fraud_type: str
    actionable: bool
    warned_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    stripe_payment_intent_id: str
    stripe_customer_id: str | None
    stripe_charge_id: str | None
    stripe_payment_method_id: str | None
    livemode: bool
    status: str
    currency: str
    amount: int
    amount_received: int
    failure_code: str | None
    metadata: dict[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class InvoicePayment:
    """Which payment paid which invoice: an intent, or a charge without an intent.

    Without an id if it comes from an invoice of an API version without such objects.
    """

    stripe_invoice_payment_id: str | None
    stripe_invoice_id: str
    stripe_payment_intent_id: str | None
    stripe_charge_id: str | None
    livemode: bool
    status: str
    currency: str
    amount_paid: int | None
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refund:
    """Stripe reports no livemode for a refund."""

    stripe_refund_id: str
    stripe_charge_id: str | None
    stripe_payment_intent_id: str | None
    status: str
    currency: str
    amount: int
    reason: str | None
    failure_reason: str | None
    refunded_at: datetime


@dataclass(frozen=True, slots=True)
class Dispute:
    stripe_dispute_id: str
    stripe_charge_id: str
    stripe_payment_intent_id: str | None
    livemode: bool
    status: str
    currency: str
    amount: int
    reason: str
    evidence_due_at: datetime | None
    disputed_at: datetime


@dataclass(frozen=True, slots=True)
class CreditNoteLine:
    """`amount` is the credited amount after discounts, including tax; without an id it belongs to no line."""

    stripe_line_id: str | None
    amount: int


@dataclass(frozen=True, slots=True)
class CreditNote:
    """`amount` is what it returns after payment; `amount_refunded` is the part returned by refunds.

    `pre_payment_amount` was deducted before the invoice was paid.
    """

    stripe_credit_note_id: str
    stripe_invoice_id: str
    livemode: bool
    status: str
    currency: str
    amount: int
    amount_refunded: int
    reason: str | None
    noted_at: datetime
    lines: tuple[CreditNoteLine, ...] | None
    stripe_refund_ids: tuple[str, ...]
    pre_payment_amount: int


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    stripe_payment_method_id: str
    stripe_customer_id: str | None
    livemode: bool
    type: str
    card_fingerprint: str | None
    card_brand: str | None
    card_last4: str | None
    card_exp_month: int | None
    card_exp_year: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Review:
    stripe_review_id: str
    stripe_charge_id: str | None
    stripe_payment_intent_id: str | None
    livemode: bool
    is_open: bool
    reason: str
    closed_reason: str | None
    opened_at: datetime


# The objects that a command takes.
StripeObject = (
    Customer
    | FrozenClock
    | Product
    | Price
    | Subscription
    | Invoice
    | Charge
    | CheckoutSession
    | CreditNote
    | Dispute
    | EarlyFraudWarning
    | InvoicePayment
    | PaymentIntent
    | PaymentLink
    | PaymentMethod
    | Refund
    | Review
)


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """An event as the worker uses it; `object` is None for a kind that no command uses.

    `invoice_payment` is the payment that an invoice itself names, as before 2025-03-31.basil.
    """

    id: str
    type: str
    api_version: str | None
    created_at: datetime
    object: StripeObject | None
    invoice_payment: InvoicePayment | None
