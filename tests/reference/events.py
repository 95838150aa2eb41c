"""The worker's table of event types → docs/reference/stripe-events.md."""

from itertools import groupby

from tests.reference.markdown import block, code, page, sentence, table
from worker.events.decide import DECIDERS, IGNORED

_INTRODUCTION = """
Add these events to the webhook endpoint, of API version 2024-09-30.acacia or newer. Their order does not
matter, and each may arrive any number of times. An event of any other type is recorded and ignored. In live
mode leave out `test_helpers.test_clock.ready`, which exists in test mode only.
"""
# By type, or by what a type begins with; the longest that fits counts.
EFFECTS = {
    "customer.": "Records the customer. Events that waited for its link continue when it is linked.",
    "customer.deleted": "Marks the customer as deleted; its subscriptions unlock no features.",
    "product.": "Records the product, with the credits and features that it declares for its prices.",
    "product.deleted": "Takes the product off sale for good.",
    "price.": "Records the plan or pack, and since when its credits hold. Events that waited for it continue.",
    "price.deleted": "Takes the price off sale for good. Its subscribers keep it.",
    "customer.subscription.": "Records status, items, trial and end. Grants trial credits; months that its state holds back wait, or are granted.",
    "customer.subscription.deleted": "Records the end: no month that starts later is granted.",
    "invoice.created": "Records a renewal or a sent invoice that is not paid yet, so that credited time of it is known.",
    "invoice.finalized": "Records an invoice that was sent and waits for payment.",
    "invoice.paid": "Records the paid lines and grants their credits: months, changes, initial credits, packs.",
    "invoice.payment_succeeded": "The same as `invoice.paid`; either is enough.",
    "invoice.payment_failed": "Records the failed attempt; the customer can be notified.",
    "invoice.payment_action_required": "Records that the customer must authenticate.",
    "invoice.finalization_failed": "Records an invoice that Stripe could not finalize.",
    "invoice.marked_uncollectible": "Records that the invoice is written off.",
    "invoice.voided": "Records that nothing will be paid; credited time of it takes nothing back.",
    "invoice_payment.paid": "Records which payment paid which invoice, so that refunds find it.",
    "checkout.session.": "Records a finished session and grants the packs that it paid for.",
    "checkout.session.async_payment_succeeded": "Grants the packs of a session whose bank debit succeeded days later.",
    "checkout.session.expired": "Closes the session, so that the next click opens another.",
    "payment_link.": "Records whether a Payment Link is active; one that was deactivated is handed out no more.",
    "payment_intent.succeeded": "Records how much was received, for payments that are captured later, and what auto-recharge bought.",
    "payment_intent.payment_failed": "Ends the attempt of an auto-recharge.",
    "payment_intent.canceled": "Ends the attempt of an auto-recharge.",
    "charge.": "Records the charge: amount, risk, card.",
    "charge.refunded": "Records the charge's refunded amount.",
    "refund.": "Records the refund and revokes its share of the credits. A refund that fails restores them.",
    "charge.refund.updated": "The same as `refund.updated`.",
    "charge.dispute.": "Freezes the disputed credits; restores them when it is won, revokes them when it is lost. Administrators are notified.",
    "credit_note.": "Revokes the credits of the credited lines or amount; a voided note restores them.",
    "payment_method.": "Records the saved card and its expiry.",
    "payment_method.attached": "Records the saved card; initial and trial credits of a card known from another account are reviewed.",
    "payment_method.automatically_updated": "The same, for a card that its bank replaced.",
    "radar.early_fraud_warning.": "Reads the charge's risk and acts by the fraud policy.",
    "review.": "Records a payment that Radar holds for review, or its decision.",
    "test_helpers.test_clock.ready": "Grants and expires what is due by the test clock, for its subscriptions.",
}  # fmt: skip


def effect(event_type: str) -> str:
    """What an event of this type does."""
    fitting = [prefix for prefix in EFFECTS if event_type == prefix or (prefix.endswith(".") and event_type.startswith(prefix))]  # fmt: skip
    return EFFECTS[max(fitting, key=len)] if fitting else ""


def stripe_events() -> str:
    """The page."""
    rows = [
        [", ".join(code(name) for name in names), text]
        for text, names in ((text, list(members)) for text, members in groupby(DECIDERS, key=effect))
    ]
    ignored = [[code(name), sentence(reason)] for name, reason in IGNORED.items()]
    return page(
        "Stripe events",
        _INTRODUCTION,
        [
            table(["event", "what it does"], rows),
            "## As a list",
            "For the API, or for `stripe webhook_endpoints create`:",
            block("text", "\n".join(DECIDERS)),
            "## Ignored by name",
            table(["event", "why"], ignored),
        ],
    )
