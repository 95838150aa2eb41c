"""Plans, the old name of recurring prices."""

from stripe_local.errors import no_such
from stripe_local.parameters import Params
from stripe_local.render import complete, listed, render
from stripe_local.resources.catalog import create_price, create_product, remove_price, update_price
from stripe_local.resources.common import deleted, matching
from stripe_local.store import Object
from stripe_local.values import is_hash
from stripe_local.versions import plan_of
from stripe_local.world import World


def create(world: World, params: Params) -> Object:
    """A plan is a recurring price under its old name."""
    product = params.get("product")
    data: Params = {
        "currency": params.get("currency"),
        "recurring": {
            key: params[key] for key in ("interval", "interval_count", "usage_type") if key in params
        },
        "nickname": params.get("nickname", ""),
        "metadata": params.get("metadata"),
        "unit_amount_decimal": params.get("amount_decimal", str(params.get("amount", 0))),
        "active": params.get("active", True),
    }
    if is_hash(product):
        product = create_product(world, product)["id"]
    price = create_price(world, {**data, "product": product or create_product(world, {"name": "Plan"})["id"]})
    return shown(world, price)


def shown(world: World, price: Object) -> Object:
    return complete("plan", plan_of(render(world, price)))


def _recurring_price(world: World, identifier: str) -> Object:
    price = world.store.find("price", identifier)
    if price is None or not price.get("recurring"):
        raise no_such("plan", identifier)
    return price


def retrieve(world: World, params: Params, identifier: str) -> Object:
    return shown(world, _recurring_price(world, identifier))


def update(world: World, params: Params, identifier: str) -> Object:
    price = _recurring_price(world, identifier)
    before = shown(world, price)
    update_price(
        world, {key: params[key] for key in ("active", "metadata", "nickname") if key in params}, identifier
    )
    world.events.emit(
        "plan.updated", shown(world, price), {k: v for k, v in before.items() if shown(world, price)[k] != v}
    )
    return shown(world, price)


def delete(world: World, params: Params, identifier: str) -> Object:
    remove_price(world, _recurring_price(world, identifier))
    return deleted("plan", identifier)


def list_all(world: World, params: Params) -> Object:
    found = [p for p in matching(world.store.newest_first("price"), params) if p.get("recurring")]
    answer = listed(world, found, params, "/v1/plans")
    return answer | {"data": [complete("plan", plan_of(price)) for price in answer["data"]]}
