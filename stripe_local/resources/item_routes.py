"""Subscription items as resources of their own: each change is a change of the subscription."""

from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources import subscription_changes
from stripe_local.resources.common import deleted
from stripe_local.resources.subscription_terms import items_of
from stripe_local.store import Object
from stripe_local.world import World

CHANGE = ("payment_behavior", "proration_behavior", "proration_date", "off_session")
ITEM = ("metadata", "price", "price_data", "quantity", "plan", "tax_rates")


def _change(params: Params, item: Params) -> Params:
    return {"items": [item], **{key: params[key] for key in CHANGE if key in params}}


def create(world: World, params: Params) -> Object:
    subscription = world.store.get("subscription", params["subscription"], "subscription")
    before = set(subscription["_items"])
    item = {key: params[key] for key in ITEM if key in params}
    subscription_changes.update(world, _change(params, item), subscription["id"])
    made = next(identifier for identifier in subscription["_items"] if identifier not in before)
    return world.store.get("subscription_item", made)


def update(world: World, params: Params, identifier: str) -> Object:
    item = world.store.get("subscription_item", identifier)
    given = {"id": identifier, **{key: params[key] for key in ITEM if key in params}}
    subscription_changes.update(world, _change(params, given), item["subscription"])
    return item


def delete(world: World, params: Params, identifier: str) -> Object:
    item = world.store.get("subscription_item", identifier)
    subscription_changes.update(
        world, _change(params, {"id": identifier, "deleted": True}), item["subscription"]
    )
    return deleted("subscription_item", identifier)


def list_all(world: World, params: Params) -> Object:
    subscription = world.store.get("subscription", params["subscription"], "subscription")
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return listed(world, items_of(world, subscription), params, url)
