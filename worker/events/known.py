"""An object → UnknownShape if it has a value that this version does not know, or lacks one that it needs.

Stripe adds values to its enumerations within an API version. Such an object cannot be stored, because a CHECK of its
table lists the same values (a test compares the two). Another attempt would fail too, so its event is a dead letter
at once.
"""

from worker.errors import UnknownShape
from worker.events.objects import (
    Charge,
    CheckoutSession,
    CreditNote,
    Invoice,
    Price,
    Refund,
    StripeObject,
    Subscription,
)

# Our kind of object → (Stripe's path of a field, ours, the known values).
KNOWN_VALUES: dict[type[StripeObject], tuple[tuple[str, str, frozenset[str]], ...]] = {
    Charge: (("status", "status", frozenset({"succeeded", "pending", "failed"})),),
    CheckoutSession: (
        ("mode", "mode", frozenset({"payment", "setup", "subscription"})),
        ("status", "status", frozenset({"open", "complete", "expired"})),
        ("payment_status", "payment_status", frozenset({"unpaid", "paid", "no_payment_required"})),
    ),
    CreditNote: (("status", "status", frozenset({"issued", "void"})),),
    Invoice: (("status", "status", frozenset({"draft", "open", "uncollectible", "paid", "void"})),),
    Price: (
        ("type", "type", frozenset({"one_time", "recurring"})),
        ("recurring.interval", "recurring_interval", frozenset({"day", "week", "month", "year"})),
        ("recurring.usage_type", "usage_type", frozenset({"licensed", "metered"})),
    ),
    Refund: (
        ("status", "status", frozenset({"pending", "requires_action", "succeeded", "failed", "canceled"})),
    ),
    Subscription: (
        (
            "status",
            "status",
            frozenset(
                {
                    "incomplete",
                    "incomplete_expired",
                    "trialing",
                    "active",
                    "past_due",
                    "canceled",
                    "unpaid",
                    "paused",
                }
            ),
        ),
    ),
}  # fmt: skip


def refuse_unknown(found: StripeObject, stripe_id: str) -> None:
    """Raises UnknownShape that names the field, and its unknown value or what is missing."""
    for path, field, known in KNOWN_VALUES.get(type(found), ()):
        value = getattr(found, field)
        if value is not None and value not in known:
            raise UnknownShape(
                f'{path} of {stripe_id} is "{value}", which this version does not support: '
                "upgrade Tillbase, then retry the event"
            )
    if isinstance(found, Invoice) and found.stripe_customer_id is None:
        raise UnknownShape(
            f"customer of {stripe_id} is null: invoices for an account of the Accounts v2 API "
            "(customer_account) are not supported. Grant the credits with `till credits grant`, and bill a customer"
        )
    if isinstance(found, Price) and found.type == "recurring" and found.recurring_interval is None:
        raise UnknownShape(f"recurring of {stripe_id} is null, and its type is recurring")
