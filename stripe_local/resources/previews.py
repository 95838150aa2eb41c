"""invoices.create_preview: the next invoice of a subscription, changed or new, worked out and not kept."""

import copy

from stripe_local.errors import malformed
from stripe_local.parameters import Params
from stripe_local.render import render
from stripe_local.resources import renewals, subscription_changes
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

CHANGES = (
    "items",
    "proration_behavior",
    "proration_date",
    "billing_cycle_anchor",
    "default_tax_rates",
    "trial_end",
    "cancel_at",
    "cancel_at_period_end",
)


def preview(world: World, params: Params) -> Object:
    """Runs on a copy of the state that sends nothing and is discarded."""
    details: Params = inside(params, "subscription_details")
    if not params.get("subscription") and not params.get("customer"):
        raise malformed("You must specify a customer or a subscription.", "customer", "parameter_missing")
    scratch = world.scratch()
    if params.get("subscription"):
        subscription = scratch.store.get("subscription", params["subscription"], "subscription")
        change: Params = {key: details[key] for key in CHANGES if key in details}
        for key in ("automatic_tax", "discounts"):
            if params.get(key):
                change[key] = params[key]
        latest = subscription.get("latest_invoice")
        if change:
            subscription_changes.update(scratch, change, subscription["id"])
        if subscription.get("latest_invoice") == latest:
            ends = [item["current_period_end"] for item in _items(scratch, subscription)]
            _move_to(scratch, subscription, min(ends))
            renewals.renew(scratch, subscription, min(ends))
    else:
        order: Params = {
            key: details[key]
            for key in ("items", "trial_end", "billing_cycle_anchor", "default_tax_rates")
            if key in details
        }
        if not isinstance(order.get("billing_cycle_anchor", 0), int):
            del order["billing_cycle_anchor"]
        order |= {"customer": params["customer"], "payment_behavior": "default_incomplete"}
        for key in ("automatic_tax", "discounts"):
            if params.get(key):
                order[key] = params[key]
        subscription = renewals.create(scratch, order)
    invoice = scratch.store.get("invoice", subscription["latest_invoice"])
    return _as_preview(scratch, invoice)


def _items(world: World, subscription: Object) -> list[Object]:
    return [world.store.get("subscription_item", item) for item in subscription["_items"]]


def _move_to(world: World, subscription: Object, moment: int) -> None:
    """The copy's clock stands at the end of the period."""
    clock = world.store.find("test_helpers.test_clock", subscription.get("test_clock"))
    if clock is not None:
        clock["_now"] = moment
    else:
        world.pretended_time = moment


def _as_preview(world: World, invoice: Object) -> Object:
    shown = copy.deepcopy(render(world, invoice))
    identifier = "upcoming_in_" + invoice["id"].removeprefix("in_")
    shown |= {"id": identifier, "status": "draft", "billing_reason": "upcoming"}
    shown |= {"number": None, "hosted_invoice_url": None, "invoice_pdf": None}
    for line in shown["lines"]["data"]:
        line["invoice"] = identifier
    del shown["hosted_invoice_url"], shown["invoice_pdf"]
    return shown
