"""Timers of a subscription: trials end, periods renew, cancellations take effect."""

from collections.abc import Callable

from stripe_local.parameters import Params
from stripe_local.resources import collection, discounts, invoices, lifecycle
from stripe_local.resources.invoice_lines import period_line
from stripe_local.resources.pricing import amounts
from stripe_local.resources.subscription_items import price_of, set_period
from stripe_local.resources.subscription_terms import items_of
from stripe_local.resources.subscriptions import TRIAL_WARNING_SECONDS, bill, create_subscription
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

# What ends a phase of the subscription's schedule.
AT_PHASE_END: list[Callable[[World, Object], None]] = []


def create(
    world: World, params: Params, *, authenticated: bool = False, scheduled_by: str | None = None
) -> Object:
    """A new subscription that time will act on."""
    subscription = create_subscription(world, params, authenticated=authenticated, scheduled_by=scheduled_by)
    if subscription.get("trial_end"):
        _warn_of_trial_end(world, subscription)
    schedule(world, subscription)
    return subscription


def schedule(world: World, subscription: Object) -> None:
    """One timer, for what comes next; a former timer of this subscription no longer counts."""
    number = subscription["_timer"] = next(world.counter)
    moments = [item["current_period_end"] for item in items_of(world, subscription)]
    if "cancel_at" in subscription:
        moments.append(subscription["cancel_at"])
    if "_phase_ends" in subscription:
        moments.append(subscription["_phase_ends"])
    pause = inside(subscription, "pause_collection")
    if pause.get("resumes_at"):
        moments.append(pause["resumes_at"])
    if subscription["status"] == "trialing" and not subscription.get("_trial_warned"):
        moments.append(subscription["trial_end"] - TRIAL_WARNING_SECONDS)
    if subscription["status"] in (*lifecycle.ENDED, "paused") or not moments:
        return

    def act() -> None:
        if subscription.get("_timer") == number and subscription["status"] not in lifecycle.ENDED:
            _act(world, subscription)

    world.schedule(subscription.get("test_clock"), min(moments), act)


def _act(world: World, subscription: Object) -> None:
    now = world.now(subscription.get("test_clock"))
    _warn_of_trial_end(world, subscription)
    pause = inside(subscription, "pause_collection")
    if pause.get("resumes_at") and pause["resumes_at"] <= now:
        with world.updating(subscription, "customer.subscription.updated"):
            subscription.pop("pause_collection")
    if subscription.get("cancel_at", now + 1) <= now:
        lifecycle.end_subscription(world, subscription, "cancellation_requested")
        return
    if subscription.get("_phase_ends", now + 1) <= now:
        for end_phase in AT_PHASE_END:
            end_phase(world, subscription)
        if subscription["status"] in lifecycle.ENDED:
            return
    if any(item["current_period_end"] <= now for item in items_of(world, subscription)):
        renew(world, subscription, now)
    schedule(world, subscription)


def _warn_of_trial_end(world: World, subscription: Object) -> None:
    """Three days before, or at once when there are fewer left."""
    if subscription["status"] != "trialing" or subscription.get("_trial_warned"):
        return
    if subscription["trial_end"] - TRIAL_WARNING_SECONDS <= world.now(subscription.get("test_clock")):
        subscription["_trial_warned"] = True
        world.emit("customer.subscription.trial_will_end", subscription)


def renew(world: World, subscription: Object, now: int) -> None:
    """The items whose period is over get the next one, and an invoice."""
    if subscription["status"] == "incomplete":
        return
    if subscription["status"] == "trialing" and end_trial_without_method(world, subscription):
        return
    customer = world.store.get("customer", subscription["customer"])
    _drop_ended_discounts(world, subscription, now)
    with world.updating(subscription, "customer.subscription.updated"):
        lines: list[Object] = []
        for item in items_of(world, subscription):
            if item["current_period_end"] <= now:
                set_period(world, item, subscription["billing_cycle_anchor"], now)
                price = price_of(world, item)
                lines += [
                    period_line(world, subscription, item, price, amount)
                    for amount in amounts(price, item["quantity"])
                ]
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        invoice = bill(world, subscription, customer, lines, "subscription_cycle")
        subscription["latest_invoice"] = invoice["id"]
    _collect_by_settings(world, subscription, invoice)


def _collect_by_settings(world: World, subscription: Object, invoice: Object) -> None:
    behavior = inside(subscription, "pause_collection").get("behavior")
    if behavior == "keep_as_draft" or subscription["status"] == "unpaid":
        return
    if behavior == "void":
        invoices.close(world, invoice, "void", "voided_at", "invoice.voided")
    elif behavior == "mark_uncollectible":
        invoices.close(
            world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible"
        )
    else:
        invoices.finalize_later(world, invoice)


def end_trial_without_method(world: World, subscription: Object) -> bool:
    """True when the trial ends here because nobody can be charged."""
    probe: Object = {
        "customer": subscription["customer"],
        "parent": {"subscription_details": {"subscription": subscription["id"]}},
    }
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if behavior == "create_invoice" or collection.method_for(world, probe) is not None:
        return False
    if behavior == "cancel":
        lifecycle.end_subscription(world, subscription, "payment_failed")
        return True
    pause(world, subscription, "trial_end_without_payment_method")
    return True


def pause(world: World, subscription: Object, reason: str, kind: str = "subscription") -> None:
    """status=paused: no invoices, and the periods stand still."""
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["status"] = "paused"
        paused = {
            "subscription": {"type": reason},
            "transitioned_at": world.now(subscription.get("test_clock")),
            "type": kind,
        }
        subscription["status_details"] = {"paused": paused}
    subscription["_paused_at"] = world.now(subscription.get("test_clock"))
    world.emit("customer.subscription.paused", subscription)


def _drop_ended_discounts(world: World, subscription: Object, now: int) -> None:
    held = [discount["id"] for discount in discounts.applicable(world, subscription["discounts"], now)]
    for identifier in subscription["discounts"]:
        if identifier not in held:
            gone = world.store.find("discount", identifier)
            if gone is not None:
                gone["end"] = now
                world.emit("customer.discount.deleted", gone)
    subscription["discounts"] = held
