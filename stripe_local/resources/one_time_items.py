"""`add_invoice_items`: one-time prices that go on the next invoice of a subscription."""

from typing import Any

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.resources import catalog, invoice_items, taxes
from stripe_local.resources.invoice_lines import pricing
from stripe_local.resources.pricing import total, unit_of
from stripe_local.resources.subscription_items import quantity_of
from stripe_local.store import Object
from stripe_local.values import each
from stripe_local.world import World

MAX_ITEMS = 20


def read(world: World, params: Params) -> list[Object]:
    """What is to be billed, checked before anything is changed."""
    given = each(params, "add_invoice_items")
    if len(given) > MAX_ITEMS:
        raise invalid(f"At most {MAX_ITEMS} invoice items are taken.", "add_invoice_items")
    return [_read_one(world, entry, f"add_invoice_items[{number}]") for number, entry in enumerate(given)]


def _read_one(world: World, entry: Params, where: str) -> Object:
    price = catalog.price_of(world, entry, where, recurring=False)
    product: Any = world.store.find("product", price["product"]) or {}
    quantity = quantity_of(entry, where)
    return {
        "amount": total(price, quantity),
        "currency": price["currency"],
        "description": product.get("name"),
        "discountable": entry.get("discountable", True),
        "metadata": dict(entry.get("metadata") or {}),
        "pricing": pricing(price, f"{unit_of(price):f}"),
        "quantity": quantity,
        "tax_rates": taxes.rates_of(world, entry.get("tax_rates"), f"{where}[tax_rates]"),
    }


def add(world: World, subscription: Object, items: list[Object]) -> None:
    """They wait for the subscription's next invoice, which may be the one that is made now."""
    customer = world.store.get("customer", subscription["customer"])
    details = {"subscription": subscription["id"], "subscription_item": None}
    parent: Object = {"type": "subscription_details", "subscription_details": details}
    for fields in items:
        invoice_items.add(world, customer, {**fields, "parent": parent})
