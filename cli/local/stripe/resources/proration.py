"""A changed subscription → credit for what was not used, a charge for what is new, and their invoice."""

from dataclasses import dataclass

from cli.local.stripe.parameters import Params
from cli.local.stripe.resources import (
    collection,
    invoice_items,
    invoices,
)
from cli.local.stripe.resources.invoice_lines import period_line, pricing
from cli.local.stripe.resources.pricing import amounts, prorated, total, unit_of
from cli.local.stripe.resources.subscription_items import (
    price_of,
)
from cli.local.stripe.resources.subscription_terms import items_of
from cli.local.stripe.resources.subscriptions import bill
from cli.local.stripe.store import Object
from cli.local.stripe.world import World


@dataclass(frozen=True)
class Before:
    """What an item was before the change."""

    item: Object
    price: Object
    quantity: int
    start: int
    end: int


def bill_change(
    world: World, subscription: Object, params: Params, changed: tuple[list[Before], bool]
) -> None:
    """Prorations wait for the next invoice, unless asked for now or a new period starts."""
    before, restart = changed
    behavior = params.get("proration_behavior", "create_prorations")
    now: int = params.get("proration_date") or world.now(subscription.get("test_clock"))
    customer = world.store.get("customer", subscription["customer"])
    if behavior != "none":
        _add_prorations(world, subscription, customer, before, restart, now)
    if not restart and behavior != "always_invoice":
        return
    lines: list[Object] = []
    if restart:
        for item in items_of(world, subscription):
            price = price_of(world, item)
            lines += [
                period_line(world, subscription, item, price, a) for a in amounts(price, item["quantity"])
            ]
    if not lines and not invoice_items.pending(world, customer["id"], subscription["id"]):
        return
    invoice = bill(world, subscription, customer, lines, "subscription_update")
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["latest_invoice"] = invoice["id"]
    invoices.finalize(world, invoice)
    method = collection.method_for(world, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        invoice["auto_advance"] = True
        if method is None:
            collection.collect(world, invoice)
        else:
            collection.attempt(world, invoice, method, off_session=params.get("off_session", False))


def _add_prorations(
    world: World, subscription: Object, customer: Object, before: list[Before], restart: bool, now: int
) -> None:
    """Credit what was paid and not used; charge what the new items cost to the end of the period."""
    remaining = {item["id"]: item for item in items_of(world, subscription)}
    for old in before:
        new = remaining.pop(old.item["id"], None)
        same = new is not None and new["price"] == old.price["id"] and new["quantity"] == old.quantity
        if (same and not restart) or not old.start <= now < old.end:
            continue
        unused = prorated(total(old.price, old.quantity), old.end - now, old.end - old.start)
        if unused:
            add_proration(
                world,
                subscription,
                customer,
                old.item["id"],
                old.price,
                old.quantity,
                -unused,
                (now, old.end),
            )
        if new is not None and not restart:
            price = price_of(world, new)
            due = prorated(total(price, new["quantity"]), old.end - now, old.end - old.start)
            if due:
                add_proration(
                    world, subscription, customer, new["id"], price, new["quantity"], due, (now, old.end)
                )
    for item in () if restart else remaining.values():
        price, end = price_of(world, item), item["current_period_end"]
        due = prorated(total(price, item["quantity"]), end - now, end - item["current_period_start"])
        if due:
            add_proration(world, subscription, customer, item["id"], price, item["quantity"], due, (now, end))


def add_proration(
    world: World,
    subscription: Object,
    customer: Object,
    item_id: str,
    price: Object,
    quantity: int,
    amount: int,
    period: tuple[int, int],
) -> None:
    product = world.store.find("product", price["product"]) or {}
    name = product.get("name", price["product"])
    words = "Unused time on" if amount < 0 else "Remaining time on"
    times = f"{quantity} × " if quantity != 1 else ""
    invoice_items.add(
        world,
        customer,
        {
            "amount": amount,
            "currency": price["currency"],
            "description": f"{words} {times}{name}",
            "discountable": False,
            "metadata": dict(subscription["metadata"]),
            "parent": {
                "type": "subscription_details",
                "subscription_details": {"subscription": subscription["id"], "subscription_item": item_id},
            },
            "period": {"start": period[0], "end": period[1]},
            "pricing": pricing(price, f"{unit_of(price):f}"),
            "proration": True,
            "quantity": quantity,
        },
    )
