"""Line items of Checkout Sessions and Payment Links."""

from typing import Any

from cli.local.stripe.errors import invalid, malformed
from cli.local.stripe.parameters import Params
from cli.local.stripe.render import page, render
from cli.local.stripe.resources import catalog, discounts
from cli.local.stripe.resources.pricing import total
from cli.local.stripe.resources.subscription_items import quantity_of
from cli.local.stripe.store import Object
from cli.local.stripe.world import World

MAX_LINE_ITEMS = 100


def make(world: World, given: list[Params], mode: str) -> list[Object]:
    """Checked against the mode: a subscription needs a recurring price, a payment takes none."""
    if not given:
        raise malformed("Missing required param: line_items.", "line_items", "parameter_missing")
    if len(given) > MAX_LINE_ITEMS:
        raise invalid(f"At most {MAX_LINE_ITEMS} line items are taken.", "line_items")
    items: list[Object] = []
    prices: list[Object] = []
    for number, entry in enumerate(given):
        where = f"line_items[{number}]"
        price = catalog.price_of(world, entry, where)
        prices.append(price)
        if mode == "payment" and price["type"] == "recurring":
            raise invalid(
                "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or "
                "use only one-time prices.",
                f"{where}[price]",
            )
        items.append(_item(world, price, quantity_of(entry, where)))
    if mode == "subscription" and not any(price["type"] == "recurring" for price in prices):
        raise invalid(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            "line_items",
        )
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All line items must have the same currency.", "line_items")
    return items


def _item(world: World, price: Object, quantity: int) -> Object:
    product = world.store.find("product", price["product"]) or {}
    cost = total(price, quantity)
    return {
        "id": world.store.new_id("item"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": cost,
        "amount_tax": 0,
        "amount_total": cost,
        "currency": price["currency"],
        "description": product.get("name"),
        "metadata": {},
        "price": price["id"],
        "quantity": quantity,
    }


def copy(world: World, items: list[Object]) -> list[Object]:
    """A session opened from a link has line items of its own."""
    return [item | {"id": world.store.new_id("item")} for item in items]


def add_up(world: World, holder: Object, coupon_ids: list[str]) -> None:
    """Amounts of the session, discounts taken off line by line."""
    items: list[Object] = holder["_line_items"]
    left = [item["amount_subtotal"] for item in items]
    as_lines: list[Object] = [
        {
            "discountable": True,
            "pricing": {"price_details": {"product": world.store.get("price", item["price"])["product"]}},
        }
        for item in items
    ]
    for coupon_id in coupon_ids:
        taken = discounts.amounts(world, {"source": {"coupon": coupon_id}}, as_lines, left)
        left = [amount - part for amount, part in zip(left, taken, strict=True)]
    trial = bool(holder.get("_trial"))
    for item, amount in zip(items, left, strict=True):
        item["amount_total"] = amount
        item["amount_discount"] = item["amount_subtotal"] - amount
    due = [
        0
        if trial and world.store.get("price", item["price"])["type"] == "recurring"
        else item["amount_total"]
        for item in items
    ]
    before = sum(
        0 if trial and amount == 0 else item["amount_subtotal"]
        for item, amount in zip(items, due, strict=True)
    )
    holder |= {
        "amount_subtotal": before,
        "amount_total": sum(due),
        "total_details": {"amount_discount": before - sum(due), "amount_shipping": 0, "amount_tax": 0},
    }


def shown(world: World, items: list[Object]) -> list[Object]:
    return [item | {"price": render(world, world.store.get("price", item["price"]))} for item in items]


def as_list(world: World, holder: Object, url: str) -> Any:
    """What `expand[]=line_items` brings: the first ten."""
    items: list[Object] = holder.get("_line_items", [])
    return page(shown(world, items[:10]), url, len(items) > 10)
