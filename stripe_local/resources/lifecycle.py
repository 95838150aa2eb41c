"""What a subscription's status becomes when its invoice is paid, fails, or it ends."""

from collections.abc import Callable

from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

ENDED = ("canceled", "incomplete_expired")
# What a payment of one of its invoices brings about first.
ON_PAID: list[Callable[[World, Object, Object], None]] = []
# What follows when a subscription ends; called with the reason.
ON_END: list[Callable[[World, Object, str], None]] = []


def subscription_of(world: World, invoice: Object) -> Object | None:
    """The subscription an invoice bills."""
    details = inside(invoice, "parent").get("subscription_details")
    return world.store.find("subscription", details["subscription"]) if details else None


def invoice_was_paid(world: World, invoice: Object) -> None:
    """`incomplete`, `past_due` and `unpaid` become active (or trialing) once the latest invoice is paid."""
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] in ENDED:
        return
    for follow in ON_PAID:
        follow(world, subscription, invoice)
    if subscription.get("latest_invoice") != invoice["id"]:
        return
    with world.updating(subscription, "customer.subscription.updated"):
        if subscription["status"] in ("incomplete", "past_due", "unpaid"):
            trial_end = subscription.get("trial_end")
            in_trial = bool(trial_end and trial_end > world.now(subscription.get("test_clock")))
            subscription["status"] = "trialing" if in_trial else "active"
        if subscription.get("_pending_default"):
            subscription["default_payment_method"] = subscription.pop("_pending_default")
    customer = world.store.find("customer", subscription["customer"])
    if customer is not None and customer.get("delinquent"):
        with world.updating(customer, "customer.updated"):
            customer["delinquent"] = False


def payment_processing(world: World, invoice: Object) -> None:
    """A bank was asked: the subscription begins, and its invoice stays open until the bank has answered."""
    invoice["attempted"] = True
    subscription = subscription_of(world, invoice)
    if subscription is not None and subscription["status"] == "incomplete":
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"


def payment_failed(world: World, invoice: Object) -> None:
    """A renewal that fails makes the subscription past due; a first payment leaves it incomplete."""
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription.get("latest_invoice") != invoice["id"]:
        return
    if inside(subscription, "_pending").get("invoice") == invoice["id"]:
        return  # the change waits, and what there was goes on
    if subscription["status"] in ("active", "trialing"):
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "past_due"
    customer = world.store.find("customer", subscription["customer"])
    if customer is not None and subscription["status"] == "past_due" and not customer.get("delinquent"):
        with world.updating(customer, "customer.updated"):
            customer["delinquent"] = True


def retries_exhausted(world: World, invoice: Object) -> None:
    """What the account's settings say: canceled, unpaid, or past_due permanently."""
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] in ENDED:
        return
    if world.settings.after_retries == "canceled":
        end_subscription(world, subscription, "payment_failed")
    elif world.settings.after_retries == "unpaid":
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "unpaid"


def end_subscription(world: World, subscription: Object, reason: str, status: str = "canceled") -> None:
    """End it now. Open invoices stay open but are no longer collected automatically."""
    now = world.now(subscription.get("test_clock"))
    details: Object = dict(inside(subscription, "cancellation_details"))
    details["reason"] = details.get("reason") or reason
    subscription |= {"status": status, "ended_at": now, "cancellation_details": details}
    if status == "canceled":
        subscription.setdefault("canceled_at", now)
    subscription.pop("_renewal", None)
    for invoice_id in subscription.get("_invoices", ()):
        invoice = world.store.find("invoice", invoice_id)
        if invoice is not None and invoice["status"] in ("draft", "open"):
            invoice["auto_advance"] = False
            invoice.pop("next_payment_attempt", None)
    event = "customer.subscription.deleted" if status == "canceled" else "customer.subscription.updated"
    world.emit(event, subscription)
    for follow in ON_END:
        follow(world, subscription, reason)
