"""Line items of Checkout Sessions and Payment Links."""

from typing import Any

from stripe_local.errors import invalid, malformed, missing_parameter
from stripe_local.parameters import Params
from stripe_local.render import complete, page, render
from stripe_local.resources import catalog, discounts, pricing, taxes
from stripe_local.resources.subscription_items import quantity_of
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World

MAX_LINE_ITEMS = 100
LEAST_CUSTOM = 50


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
        if price.get("custom_unit_amount"):
            _check_custom(mode, given, entry, where)
        if mode == "payment" and price["type"] == "recurring":
            raise invalid(
                "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or "
                "use only one-time prices.",
                f"{where}[price]",
            )
        item = _item(world, price, quantity_of(entry, where), entry.get("metadata") or {})
        item["_tax_rates"] = taxes.rates_of(world, entry.get("tax_rates"), f"{where}[tax_rates]")
        items.append(item)
    if mode == "subscription" and not any(price["type"] == "recurring" for price in prices):
        raise invalid(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            "line_items",
        )
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All line items must have the same currency.", "line_items")
    return items


def _check_custom(mode: str, given: list[Params], entry: Params, where: str) -> None:
    if mode != "payment" or len(given) > 1 or entry.get("quantity", 1) != 1:
        raise invalid(
            "A price with `custom_unit_amount` can only be the one line item, with a quantity of 1, of `payment` mode.",
            f"{where}[price]",
        )


def choose_amount(world: World, session: Object, given: Any) -> None:
    """The payer says how much, where a price leaves it to them: minor units; else the preset."""
    items: list[Object] = session.get("_line_items", [])
    custom: Object = (
        world.store.get("price", items[0]["price"]).get("custom_unit_amount") or {} if items else {}
    )
    if not custom:
        if given:
            raise invalid("No price of this session leaves its amount to the customer.", "custom_amount")
        return
    amount = _whole_number(given) if given else custom["preset"]
    if amount is None:
        raise missing_parameter("custom_amount")
    least, most = custom["minimum"] or LEAST_CUSTOM, custom["maximum"]
    if amount < least or (most is not None and amount > most):
        raise invalid(
            f"The amount must be at least {least}" + (f" and at most {most}." if most is not None else "."),
            "custom_amount",
            "amount_too_small" if amount < least else "amount_too_large",
        )
    session["_line_items"] = [items[0] | {"amount_subtotal": amount}]
    add_up(world, session, [_coupon_of(world, entry) for entry in each(session, "discounts")])


def _coupon_of(world: World, entry: Params) -> str:
    code = world.store.find("promotion_code", entry.get("promotion_code"))
    return code["promotion"]["coupon"] if code is not None else entry["coupon"]


def _whole_number(given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError):
        raise malformed("Invalid integer", "custom_amount", "parameter_invalid_integer") from None


def unit_of(price: Object, item: Object) -> str:
    """The unit amount of a line: the price's, or what the payer chose."""
    return str(item["amount_subtotal"]) if price.get("custom_unit_amount") else f"{pricing.unit_of(price):f}"


def _item(world: World, price: Object, quantity: int, metadata: Params) -> Object:
    product = world.store.find("product", price["product"]) or {}
    custom: Object = price.get("custom_unit_amount") or {}
    cost: int = custom["preset"] or 0 if custom else pricing.total(price, quantity)
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
        "metadata": metadata,
        "price": price["id"],
        "quantity": quantity,
    }


def is_free(world: World, holder: Object) -> bool:
    """Whether the amount is 0; an amount that the payer still chooses is not."""
    return holder["amount_total"] == 0 and not any(
        world.store.get("price", item["price"]).get("custom_unit_amount") for item in holder["_line_items"]
    )


def copy(world: World, items: list[Object]) -> list[Object]:
    """A session opened from a link has line items of its own."""
    return [item | {"id": world.store.new_id("item")} for item in items]


def add_up(world: World, holder: Object, coupon_ids: list[str], payer: Object | None = None) -> None:
    """Amounts of the session: discounts are taken off line by line, tax is added. `payer`: who is taxed."""
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
        item["_taxes"] = _taxes_of(world, holder, item, amount, payer or {})
        item["amount_discount"] = item["amount_subtotal"] - amount
        item["amount_tax"] = sum(tax["amount"] for tax in item["_taxes"])
        item["amount_total"] = amount + taxes.exclusive(item["_taxes"])
    if inside(holder, "automatic_tax").get("enabled") and "status" in holder:
        status = "complete" if inside(payer, "address").get("country") else taxes.NOWHERE
        holder["automatic_tax"] = {**holder["automatic_tax"], "status": status}
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
    billed = [item for item, amount in zip(items, due, strict=True) if amount]
    added = sum(taxes.exclusive(item["_taxes"]) for item in billed)
    holder |= {
        "amount_subtotal": before,
        "amount_total": sum(due),
        "total_details": {
            "amount_discount": before + added - sum(due),
            "amount_shipping": 0,
            "amount_tax": sum(item["amount_tax"] for item in billed),
        },
    }


def _taxes_of(world: World, holder: Object, item: Object, amount: int, payer: Object) -> list[Object]:
    automatic = bool(inside(holder, "automatic_tax").get("enabled"))
    if automatic and not inside(payer, "address").get("country"):
        return []
    behavior = taxes.behavior_of(world.store.get("price", item["price"]), item["currency"])
    rates: list[Object] = item["_tax_rates"] or holder.get("_default_tax_rates", [])
    return taxes.of_line(world, amount, behavior, rates, payer, automatic=automatic)


def shown(state: State, items: list[Object]) -> list[Object]:
    return [
        complete("item", item | {"price": render(state, state.store.get("price", item["price"]))})
        for item in items
    ]


def as_list(state: State, holder: Object, url: str) -> Any:
    """What `expand[]=line_items` brings: the first ten."""
    items: list[Object] = holder.get("_line_items", [])
    return page(shown(state, items[:10]), url, len(items) > 10)
