"""Items of subscriptions: a price, a quantity and a billing period of their own."""

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.render import render
from stripe_local.resources import catalog, taxes
from stripe_local.resources.periods import period_at
from stripe_local.resources.pricing import total
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.versions import plan_of
from stripe_local.world import World, merge_metadata

MAX_ITEMS = 20
MAX_QUANTITY = 10**9


def new_item(world: World, subscription_id: str, given: Params, where: str, created: int) -> Object:
    """An item whose period is not set yet."""
    price = catalog.price_of(world, given, where, recurring=True)
    item = world.store.add(
        "subscription_item",
        {
            "created": created,
            "discounts": [],
            "metadata": {},
            "price": price["id"],
            "quantity": quantity_of(given, where),
            "subscription": subscription_id,
            "tax_rates": taxes.rates_of(world, given.get("tax_rates"), f"{where}[tax_rates]"),
        },
    )
    merge_metadata(item, given.get("metadata"))
    return item


def quantity_of(given: Params, where: str, fallback: int = 1) -> int:
    quantity: int = given.get("quantity", fallback)
    if not 0 <= quantity <= MAX_QUANTITY:
        raise invalid("Invalid non-negative integer", f"{where}[quantity]", "parameter_invalid_integer")
    return quantity


def price_of(state: State, item: Object) -> Object:
    return state.store.find("price", item["price"]) or state.store.get("deleted_price", item["price"])


def cost(world: World, item: Object) -> int:
    """What the item costs for a whole period."""
    return total(price_of(world, item), item["quantity"])


def set_period(world: World, item: Object, anchor: int, moment: int) -> None:
    """The period of this item that `moment` falls into."""
    recurring = price_of(world, item)["recurring"]
    start, end = period_at(anchor, recurring["interval"], recurring["interval_count"], moment)
    item |= {"current_period_start": start, "current_period_end": end}


def check_together(world: World, items: list[Object]) -> None:
    """Items of one subscription share the currency; a price comes once."""
    prices = [price_of(world, item) for item in items]
    if not prices:
        raise invalid("A subscription needs at least one item.", "items")
    if len(items) > MAX_ITEMS:
        raise invalid(f"A subscription has at most {MAX_ITEMS} items.", "items")
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All prices on a subscription must have the same `currency`.", "items")
    ids = [price["id"] for price in prices]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice:
        raise invalid(
            f"Cannot add multiple subscription items with the same plan: {twice}. Change the quantity instead.",
            "items",
        )


def shown(state: State, item: Object) -> Object:
    """With price and the legacy plan in full, as every answer has them."""
    price = render(state, price_of(state, item))
    return {"price": price, "plan": plan_of(price)}
