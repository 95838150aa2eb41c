"""A portal session and a pressed button → the change of the subscription, the card or the plan."""

from typing import Any

from stripe_local.errors import invalid
from stripe_local.resources import customers, payment_methods, schedules, subscription_changes
from stripe_local.resources.lifecycle import ENDED
from stripe_local.resources.schedule_phases import is_downgrade
from stripe_local.resources.subscription_items import price_of
from stripe_local.resources.subscription_terms import items_of
from stripe_local.store import Object
from stripe_local.templating import every, money
from stripe_local.values import inside
from stripe_local.world import World

SHOWN_INVOICES = 12


def _features(world: World, session: Object) -> Object:
    return world.store.get("billing_portal.configuration", session["configuration"])["features"]


def act(world: World, session: Object, customer: Object, form: dict[str, str]) -> None:
    """`action`: cancel, resume, pause, unpause, update (`price`, `quantity`), keep, update_card (`payment_method`)."""
    action, features = form.get("action"), _features(world, session)
    if action == "update_card":
        _require(features, "payment_method_update")
        _update_card(world, customer, form.get("payment_method", "pm_card_visa"))
        return
    subscription = world.store.get("subscription", form.get("subscription", ""), "subscription")
    if subscription["customer"] != customer["id"]:
        raise invalid("The subscription belongs to another customer.", "subscription")
    if action == "keep":
        _require(features, "subscription_update")
        _release(world, subscription)
    elif action == "cancel":
        _require(features, "subscription_cancel")
        _release(world, subscription)
        _cancel(world, subscription, features["subscription_cancel"])
    elif action == "resume":
        _require(features, "subscription_cancel")
        change: Object = {"cancel_at": ""} if "cancel_at" in subscription else {"cancel_at_period_end": False}
        subscription_changes.update(world, change, subscription["id"])
    elif action == "pause":
        _require(features, "subscription_pause")
        subscription_changes.pause(world, {}, subscription["id"])
    elif action == "unpause":
        _require(features, "subscription_pause")
        subscription_changes.resume(world, {}, subscription["id"])
    elif action == "update":
        _require(features, "subscription_update")
        _change_plan(world, subscription, features["subscription_update"], form)
    else:
        raise invalid("There is no such action.", "action")


def _require(features: Object, name: str) -> None:
    if not features[name]["enabled"]:
        raise invalid(f"The portal's configuration does not allow `{name}`.", "action")


def _cancel(world: World, subscription: Object, feature: Object) -> None:
    """At the end of the period: in flexible billing mode `cancel_at` is set, in classic `cancel_at_period_end`."""
    if feature["mode"] == "immediately":
        prorate = feature["proration_behavior"] != "none"
        subscription_changes.cancel(world, {"prorate": prorate}, subscription["id"])
        return
    flexible = subscription["billing_mode"]["type"] == "flexible"
    change: Object = {"cancel_at": "min_period_end"} if flexible else {"cancel_at_period_end": True}
    subscription_changes.update(world, change, subscription["id"])


def _update_card(world: World, customer: Object, identifier: str) -> None:
    method = payment_methods.resolve(world, identifier)
    attached = payment_methods.attach_to(world, method, customer["id"])
    customers.update(world, {"invoice_settings": {"default_payment_method": attached["id"]}}, customer["id"])
    for subscription in list(world.store.all("subscription")):
        running = subscription["customer"] == customer["id"] and subscription["status"] not in ENDED
        if running and subscription.get("default_payment_method"):
            subscription_changes.update(world, {"default_payment_method": attached["id"]}, subscription["id"])


def _offered(feature: Object) -> list[str]:
    products: list[Object] = feature["products"]
    return [price for product in products for price in product["prices"]]


def _change_plan(world: World, subscription: Object, feature: Object, form: dict[str, str]) -> None:
    """Of the first item, as the configuration says."""
    item = items_of(world, subscription)[0]
    price = form.get("price") or item["price"]
    if price not in _offered(feature):
        raise invalid("This plan is not offered.", "price")
    if price != item["price"] and "price" not in feature["default_allowed_updates"]:
        raise invalid("The portal's configuration does not allow another price.", "price")
    changed: Object = {"id": item["id"], "price": price}
    if form.get("quantity"):
        changed["quantity"] = _quantity(feature, price, form["quantity"])
    _release(world, subscription)
    quantity = changed.get("quantity", item["quantity"])
    conditions = feature["schedule_at_period_end"]["conditions"]
    new = world.store.get("price", price)
    if subscription["status"] != "trialing" and is_downgrade(world, item, new, quantity, conditions):
        _change_at_period_end(world, subscription, {"price": price, "quantity": quantity})
        return
    change: Object = {"items": [changed], "proration_behavior": feature["proration_behavior"]}
    if subscription["status"] == "trialing" and feature["trial_update_behavior"] == "end_trial":
        change["trial_end"] = "now"
    elif feature["billing_cycle_anchor"] == "now":
        change["billing_cycle_anchor"] = {"type": "now"}
    subscription_changes.update(world, change, subscription["id"])


def _change_at_period_end(world: World, subscription: Object, item: Object) -> None:
    """A schedule of two phases: the current period as it is, then one with the other plan."""
    schedule = schedules.from_subscription(world, {"from_subscription": subscription["id"]})
    (current,) = schedule["phases"]
    first, *others = current["items"]
    kept = {key: current[key] for key in ("start_date", "end_date", "metadata")}
    phases = [
        {**kept, "items": [_as_given(one) for one in (first, *others)]},
        {"items": [item, *map(_as_given, others)], "proration_behavior": "none"},
    ]
    schedules.update(world, {"phases": phases, "proration_behavior": "none"}, schedule["id"])


def _as_given(item: Object) -> Object:
    return {key: item[key] for key in ("metadata", "price", "quantity")}


def _release(world: World, subscription: Object) -> None:
    """What was planned no longer holds once something else is chosen."""
    if subscription.get("schedule"):
        schedules.release(world, {}, subscription["schedule"])


def _quantity(feature: Object, price: str, given: str) -> int:
    """Only where the product's quantity may be changed, and within its limits."""
    product: Object = next(product for product in feature["products"] if price in product["prices"])
    limits: Object = product["adjustable_quantity"]
    if not limits["enabled"] or "quantity" not in feature["default_allowed_updates"]:
        raise invalid("The quantity of this plan cannot be changed.", "quantity")
    quantity = int(given) if given.isascii() and given.isdecimal() else 0
    least, most = limits["minimum"] or 1, limits["maximum"]
    if quantity < least or (most is not None and quantity > most):
        raise invalid(
            f"The quantity must be at least {least}" + (f" and at most {most}." if most else "."), "quantity"
        )
    return quantity


def return_after(session: Object) -> str | None:
    """Where a flow leads once it is done."""
    after = inside(session, "flow", "after_completion")
    return inside(after, "redirect").get("return_url") if after.get("type") == "redirect" else None


def shown(world: World, session: Object, customer: Object) -> Object:
    """What the page is made of."""
    features = _features(world, session)
    flow: str | None = None if session.get("_flow_is_over") else inside(session, "flow").get("type")
    only = inside(session, "flow", flow).get("subscription") if flow else None
    own = [
        s
        for s in world.store.newest_first("subscription")
        if s["customer"] == customer["id"] and only in (None, s["id"])
    ]
    found = [i for i in world.store.newest_first("invoice") if i["customer"] == customer["id"]]
    methods = (holder.get("default_payment_method") for holder in (customer["invoice_settings"], *own))
    method = world.store.find("payment_method", next(filter(None, methods), None))
    configuration = world.store.get("billing_portal.configuration", session["configuration"])
    return {
        "session": session,
        "features": features,
        "flow": flow,
        "headline": configuration["business_profile"].get("headline"),
        "subscriptions": [
            _shown_subscription(world, s, features, flow) for s in own if s["status"] not in ENDED
        ],
        "invoices": found[:SHOWN_INVOICES],
        "card": payment_methods.label(method) if method else None,
    }


def _shown_subscription(world: World, subscription: Object, features: Object, flow: str | None) -> Object:
    """With the buttons that the configuration allows; on a flow's page those of the flow alone."""
    items = items_of(world, subscription)
    actions: list[tuple[str, str]] = []

    def is_offered(feature: str) -> bool:
        return features[feature]["enabled"] and (flow or feature).startswith(feature)

    if is_offered("subscription_cancel"):
        leaving = "cancel_at" in subscription or subscription["cancel_at_period_end"]
        actions.append(("resume", "Don't cancel") if leaving else ("cancel", "Cancel plan"))
    if is_offered("subscription_update") and subscription.get("schedule"):
        actions.append(("keep", "Don't change plan"))
    if is_offered("subscription_pause"):
        paused = subscription["status"] == "paused"
        actions.append(("unpause", "Resume") if paused else ("pause", "Pause"))
    prices: list[Object] = []
    if is_offered("subscription_update"):
        current = price_of(world, items[0])["id"]
        prices = [
            {"id": price, "label": _label(world, price)}
            for price in _offered(features["subscription_update"])
            if price != current
        ]
    return {
        "id": subscription["id"],
        "title": ", ".join(_label(world, item["price"]) for item in items),
        "status": subscription["status"],
        "ends": subscription.get("cancel_at"),
        "period_end": min(item["current_period_end"] for item in items),
        "actions": actions,
        "prices": prices,
    }


def _label(world: World, price_id: str) -> str:
    price: Any = world.store.find("price", price_id) or {}
    product = world.store.find("product", price.get("product")) or {}
    name = price.get("nickname") or product.get("name", price_id)
    due = " ".join(
        (money(price.get("unit_amount"), price.get("currency")), every(inside(price, "recurring")))
    )
    return f"{name} ({due.strip()})"
