"""Phases of a subscription schedule: read from parameters, and applied to the subscription when they begin."""

from typing import Any

from stripe_local.errors import invalid, malformed
from stripe_local.parameters import Params
from stripe_local.resources import catalog, lifecycle, subscription_changes
from stripe_local.resources.periods import boundary
from stripe_local.resources.pricing import total
from stripe_local.resources.subscription_items import price_of, quantity_of
from stripe_local.resources.subscription_terms import items_of
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World

MAX_DURATION = 1095  # in intervals
MAX_PHASES = 10
# What a phase and the schedule's default settings pass on to the subscription.
SETTINGS = ("collection_method", "default_payment_method", "description")


def read(world: World, given: list[Params], start: int, now: int) -> list[Object]:
    """Phases that follow each other from `start` on; any of their times may be "now"."""
    if not given or len(given) > MAX_PHASES:
        raise malformed(f"A schedule has 1 to {MAX_PHASES} phases.", "phases")
    phases: list[Object] = []
    for number, phase in enumerate(given):
        where = f"phases[{number}]"
        stated = phase.get("start_date", start)
        if stated not in (start, "now"):
            raise invalid("A phase starts where the one before it ends.", f"{where}[start_date]")
        times = {key: now for key in ("end_date", "trial_end") if phase.get(key) == "now"}
        made = _read_one(world, phase | times, where, start)
        phases.append(made)
        start = made["end_date"]
    return phases


def _read_one(world: World, given: Params, where: str, start: int) -> Object:
    items = [
        _item(world, item, f"{where}[items][{number}]") for number, item in enumerate(each(given, "items"))
    ]
    if not items:
        raise malformed(f"Missing required param: {where}[items].", f"{where}[items]", "parameter_missing")
    if "end_date" in given and "duration" in given:
        raise invalid(
            "You may only specify one of these parameters: duration, end_date.", f"{where}[duration]"
        )
    price = world.store.get("price", items[0]["price"])
    duration: Params = given.get("duration") or {
        key: price["recurring"][key] for key in ("interval", "interval_count")
    }
    count: int = duration.get("interval_count", 1)
    if not 1 <= count <= MAX_DURATION:
        raise invalid(
            f"Invalid interval_count: must be between 1 and {MAX_DURATION}",
            f"{where}[duration][interval_count]",
        )
    end: int = given.get("end_date") or boundary(start, duration["interval"], count, 1)
    if end <= start:
        raise invalid("A phase ends after it has started.", f"{where}[end_date]")
    added = each(given, "add_invoice_items")
    trial_end = end if given.get("trial") else given.get("trial_end")
    if trial_end is not None and not start < trial_end <= end:
        raise invalid("A phase's trial ends within the phase.", f"{where}[trial_end]")
    return {
        "add_invoice_items": [_one_time(world, entry, f"{where}[add_invoice_items]") for entry in added],
        "billing_cycle_anchor": given.get("billing_cycle_anchor"),
        "currency": price["currency"],
        "default_tax_rates": [],
        "discounts": [
            {
                "coupon": one.get("coupon"),
                "discount": one.get("discount"),
                "promotion_code": one.get("promotion_code"),
            }
            for one in each(given, "discounts")
        ],
        "end_date": end,
        "items": items,
        "metadata": dict(given.get("metadata") or {}),
        "proration_behavior": given.get("proration_behavior", "create_prorations"),
        "start_date": start,
        "trial_end": trial_end,
        **{key: given.get(key) for key in SETTINGS},
    }


def _item(world: World, given: Params, where: str) -> Object:
    price = catalog.price_of(world, given, where, recurring=True)
    return {
        "discounts": [],
        "metadata": dict(given.get("metadata") or {}),
        "plan": price["id"],
        "price": price["id"],
        "quantity": quantity_of(given, where),
        "tax_rates": [],
    }


def _one_time(world: World, given: Params, where: str) -> Object:
    price = catalog.price_of(world, given, where, recurring=False)
    return {
        "discounts": [],
        "metadata": dict(given.get("metadata") or {}),
        "period": {"end": {"type": "min_item_period_end"}, "start": {"type": "max_item_period_start"}},
        "price": price["id"],
        "quantity": quantity_of(given, where),
        "tax_rates": [],
    }


def of_subscription(world: World, subscription: Object) -> Object:
    """What the subscription is now, as the phase of its current period."""
    items = items_of(world, subscription)
    given: Params = {
        "items": [_as_given(item) for item in items],
        "end_date": min(item["current_period_end"] for item in items),
        "metadata": dict(subscription["metadata"]),
    }
    if subscription["status"] == "trialing":
        given["trial_end"] = subscription["trial_end"]
    return _read_one(world, given, "phases[0]", max(item["current_period_start"] for item in items))


def order(phase: Object, defaults: Object) -> Params:
    """The phase as parameters of a subscription."""
    items: list[Object] = phase["items"]
    params: Params = {
        "items": [_as_given(item) for item in items],
        "metadata": phase["metadata"],
        "proration_behavior": phase["proration_behavior"],
    }
    for key in SETTINGS:
        value = phase.get(key) or defaults.get(key)
        if value:
            params[key] = value
    if phase["discounts"]:
        params["discounts"] = [{k: v for k, v in one.items() if v} for one in phase["discounts"]]
    if phase["add_invoice_items"]:
        params["add_invoice_items"] = [_as_given(one) for one in phase["add_invoice_items"]]
    if phase["trial_end"] is not None:
        params["trial_end"] = phase["trial_end"]
    return params


def _as_given(item: Object) -> Params:
    """An item as a parameter again."""
    return {**{key: item[key] for key in ("metadata", "price", "quantity")}, "_checked": True}


def apply(world: World, subscription: Object, phase: Object, defaults: Object, *, behavior: str) -> None:
    """Change the subscription to what this phase says. At a period's end the renewal that follows bills it."""
    if subscription["status"] in lifecycle.ENDED:
        return
    params: Params = {**order(phase, defaults), "proration_behavior": behavior}
    params["items"] = _changes(world, subscription, params["items"])
    now = world.now(subscription.get("test_clock"))
    if phase["trial_end"] is not None and phase["trial_end"] <= now:
        del params["trial_end"]
    if "phase_start" in (phase.get("billing_cycle_anchor"), defaults["billing_cycle_anchor"]):
        params["billing_cycle_anchor"] = {"type": "now"}
    ends = any(item["current_period_end"] <= now for item in items_of(world, subscription))
    if ends and "trial_end" not in params:
        subscription_changes.change_at_boundary(world, subscription, params, now)
    else:
        subscription_changes.update(world, params, subscription["id"])


def _changes(world: World, subscription: Object, wanted: list[Params]) -> list[Params]:
    """An item whose price stays is kept; others are replaced, so their ids are new."""
    held = {item["price"]: item for item in items_of(world, subscription)}
    changes: list[Params] = []
    for item in wanted:
        kept = held.pop(item["price"], None)
        changes.append(item if kept is None else {"id": kept["id"], **item})
    return changes + [{"id": gone["id"], "deleted": True} for gone in held.values()]


def is_downgrade(world: World, item: Object, price: Object, quantity: int, conditions: list[Any]) -> bool:
    """Whether a change in the portal waits for the end of the period."""
    held = price_of(world, item)
    kinds = {condition["type"] for condition in conditions}
    lengths = [
        boundary(0, p["recurring"]["interval"], p["recurring"]["interval_count"], 1) for p in (held, price)
    ]
    if "shortening_interval" in kinds and lengths[1] < lengths[0]:
        return True
    costs = (total(held, item["quantity"]), total(price, quantity))
    return "decreasing_item_amount" in kinds and lengths[0] == lengths[1] and costs[1] < costs[0]


def settings(given: Params) -> Object:
    """`default_settings`, with what Stripe fills in."""
    defaults: Object = inside(given, "default_settings")
    return {
        "automatic_tax": {"enabled": False},
        "billing_cycle_anchor": defaults.get("billing_cycle_anchor", "automatic"),
        "collection_method": defaults.get("collection_method", "charge_automatically"),
        "invoice_settings": {"issuer": {"type": "self"}},
        **{key: defaults.get(key) for key in ("default_payment_method", "description")},
    }
