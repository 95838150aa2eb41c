"""`pending_if_incomplete`: a change of a subscription that takes effect when its invoice is paid, within 23 hours.

The invoice is made of the change; then the subscription is as it was, until it is paid. What is never paid is voided.
"""

from collections.abc import Callable

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.resources import debits, invoices, lifecycle, one_time_items, proration
from stripe_local.resources.subscription_items import shown
from stripe_local.resources.subscription_terms import items_of
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

EXPIRES_SECONDS = 23 * 3_600
# Nothing else can wait for a payment.
MAY_WAIT = frozenset(
    {
        "add_invoice_items",
        "billing_cycle_anchor",
        "items",
        "off_session",
        "payment_behavior",
        "proration_behavior",
        "proration_date",
        "trial_end",
    }
)
Change = tuple[list[proration.Before], bool] | None
# What a change of items, trial and anchor writes to a subscription.
CHANGED = ("_items", "_trial_warned", "billing_cycle_anchor", "status", "trial_end", "trial_start")


def attempt(
    world: World, subscription: Object, params: Params, one_time: list[Object], change: Callable[[], Change]
) -> bool:
    """Bill the change and try to be paid. False where nothing is to be paid at once, so that it simply happens."""
    others = sorted(params.keys() - MAY_WAIT)
    if others:
        raise invalid(
            f"You can't use `{others[0]}` together with payment_behavior=pending_if_incomplete.", others[0]
        )
    if subscription.get("pending_update"):
        _expire(world, subscription)
    before = _state(world, subscription)
    muted, world.muted = world.muted, True
    try:
        changed = change()
    finally:
        world.muted = muted
    after = _state(world, subscription)
    at_once = params.get("proration_behavior") == "always_invoice"
    if changed is None or not (changed[1] or at_once):
        _restore(world, subscription, before)
        return False
    one_time_items.add(world, subscription, one_time)
    invoice = proration.invoice_change(world, subscription, params, changed)
    _restore(world, subscription, before)
    if invoice is None:
        return False
    subscription["_pending"] = {"after": after, "before": before, "invoice": invoice["id"]}
    proration.name_latest(world, subscription, invoice)
    proration.collect_change(world, subscription, invoice, params)
    if "_pending" in subscription:
        _wait(world, subscription, after)
    return True


def _state(world: World, subscription: Object) -> Object:
    fields = {key: subscription[key] for key in CHANGED if key in subscription}
    return {"fields": fields, "items": [(item, dict(item)) for item in items_of(world, subscription)]}


def _restore(world: World, subscription: Object, state: Object) -> None:
    table = world.store.tables["subscription_item"]
    for item in items_of(world, subscription):
        del table[item["id"]]
    for key in CHANGED:
        subscription.pop(key, None)
    subscription |= state["fields"]
    for item, content in state["items"]:
        billed = item.get("_billed", content.get("_billed"))
        item.clear()
        item.update(content)
        if billed is not None:
            item["_billed"] = billed
        table[item["id"]] = item


def _wait(world: World, subscription: Object, after: Object) -> None:
    now = world.now(subscription.get("test_clock"))
    ends = [item["current_period_end"] for item in items_of(world, subscription)]
    expires = min([now + EXPIRES_SECONDS, *(end for end in ends if end > now)])
    fields: Object = after["fields"]
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["pending_update"] = {
            "billing_cycle_anchor": fields["billing_cycle_anchor"]
            if fields["billing_cycle_anchor"] != subscription["billing_cycle_anchor"]
            else None,
            "expires_at": expires,
            "subscription_items": [content | shown(world, content) for _, content in after["items"]],
            "trial_end": fields.get("trial_end"),
        }
    invoice = subscription["_pending"]["invoice"]

    def act() -> None:
        if inside(subscription, "_pending").get("invoice") == invoice:
            _expire(world, subscription)

    world.schedule(subscription.get("test_clock"), expires, act)


def _expire(world: World, subscription: Object) -> None:
    """It is discarded, its invoice void, and what the invoice credited is not."""
    pending: Object = subscription.pop("_pending")
    invoice = world.store.get("invoice", pending["invoice"])
    with world.updating(subscription, "customer.subscription.updated"):
        subscription.pop("pending_update")
    world.emit("customer.subscription.pending_update_expired", subscription)
    if invoice["status"] == "open":
        debits.undo(world, invoice, items_of(world, subscription))
        invoices.close(world, invoice, "void", "voided_at", "invoice.voided")


def paid(world: World, subscription: Object, invoice: Object) -> None:
    """The change takes effect."""
    pending: Object = inside(subscription, "_pending")
    if pending.get("invoice") != invoice["id"]:
        return
    del subscription["_pending"]
    waited = "pending_update" in subscription
    with world.updating(subscription, "customer.subscription.updated"):
        subscription.pop("pending_update", None)
        _restore(world, subscription, pending["after"])
    if waited:
        world.emit("customer.subscription.pending_update_applied", subscription)


lifecycle.ON_PAID.append(paid)
