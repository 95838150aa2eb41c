"""Lines of invoices and what they add up to, discounts and the customer's balance included."""

from stripe_local.resources import discounts, taxes
from stripe_local.resources.pricing import Amount
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World


def new_line(world: World, fields: Object) -> Object:
    """A line that belongs to no invoice yet."""
    amount: int = fields["amount"]
    return {
        "id": world.store.new_id("line_item"),
        "object": "line_item",
        "description": None,
        "discount_amounts": [],
        "discountable": amount >= 0,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "subtotal": amount,
        "taxes": [],
        **fields,
    }


def item_of(line: Object) -> str | None:
    """The invoice item that the line was made of."""
    parent: Object = line["parent"] or {}
    return inside(parent, parent.get("type", "")).get("invoice_item")


def pricing(price: Object, unit: str) -> Object:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": unit,
    }


def item_parent(
    subscription_id: str, item_id: str, *, proration: bool, invoice_item: str | None = None
) -> Object:
    return {
        "type": "subscription_item_details",
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": invoice_item,
            "proration": proration,
            "proration_details": {"credited_items": None},
            "subscription": subscription_id,
            "subscription_item": item_id,
        },
    }


def period_line(world: World, subscription: Object, item: Object, price: Object, amount: Amount) -> Object:
    """What one item costs for its current period, or a tier's part of it."""
    product = world.store.find("product", price["product"]) or {}
    interval = price["recurring"]["interval"]
    return new_line(
        world,
        {
            "amount": amount.amount,
            "currency": price["currency"],
            "description": f"{amount.quantity} × {product.get('name', price['product'])} "
            f"(at {int(float(amount.unit)) / 100:.2f} / {interval}){amount.note}",
            "metadata": dict(subscription["metadata"]),
            "parent": item_parent(subscription["id"], item["id"], proration=False),
            "period": {"end": item["current_period_end"], "start": item["current_period_start"]},
            "pricing": pricing(price, amount.unit),
            "quantity": amount.quantity,
            "quantity_decimal": str(amount.quantity),
            "subscription": subscription["id"],
            "_tax_rates": item.get("tax_rates") or [],
        },
    )


def trial_line(world: World, subscription: Object, item: Object, price: Object) -> Object:
    """The trial costs nothing, and the invoice says so."""
    product = world.store.find("product", price["product"]) or {}
    quantity: int = item.get("quantity", 1)
    line = period_line(world, subscription, item, price, Amount(0, quantity, "0"))
    return line | {"description": f"Trial period for {product.get('name', price['product'])}"}


def invoice_item_line(world: World, item: Object) -> Object:
    """A pending invoice item as a line."""
    details: Object = inside(item, "parent", "subscription_details")
    if details.get("subscription_item"):
        parent = item_parent(
            details["subscription"],
            details["subscription_item"],
            proration=item["proration"],
            invoice_item=item["id"],
        )
    else:
        parent = {
            "type": "invoice_item_details",
            "invoice_item_details": {
                "invoice_item": item["id"],
                "proration": item["proration"],
                "proration_details": {"credited_items": None},
                "subscription": details.get("subscription"),
            },
            "subscription_item_details": None,
        }
    return new_line(
        world,
        {
            "amount": item["amount"],
            "currency": item["currency"],
            "description": item.get("description"),
            "discountable": item["discountable"],
            "discounts": list(item["discounts"]),
            "metadata": dict(item["metadata"]),
            "parent": parent,
            "period": item["period"],
            "pricing": item.get("pricing"),
            "quantity": item["quantity"],
            "quantity_decimal": str(item["quantity"]),
            "subscription": details.get("subscription"),
            "_tax_rates": item["tax_rates"],
            **{key: item[key] for key in ("_credits", "_discount_amounts") if key in item},
        },
    )


def add_up(world: World, invoice: Object) -> None:
    """Subtotal, discounts, taxes, balance, amount due: all from the lines.

    A proration brings what discounts had taken off before; those of the invoice pass it over.
    """
    lines: list[Object] = invoice["_lines"]
    per_line: list[list[Object]] = [list(line.get("_discount_amounts", ())) for line in lines]
    left = [
        line["amount"] - sum(own["amount"] for own in brought)
        for line, brought in zip(lines, per_line, strict=True)
    ]
    totals = _brought(per_line)
    held = (
        discounts.applicable(world, invoice["discounts"], invoice["created"]) if invoice["discounts"] else []
    )
    for discount in held:
        taken = discounts.amounts(world, discount, lines, left)
        left = [amount - part for amount, part in zip(left, taken, strict=True)]
        totals[discount["id"]] = totals.get(discount["id"], 0) + sum(taken)
        for part, shown in zip(taken, per_line, strict=True):
            if part:
                shown.append({"amount": part, "discount": discount["id"]})
    for line, shown in zip(lines, per_line, strict=True):
        line["discount_amounts"] = shown
    added = taxes.on_invoice(world, invoice, left)
    subtotal, total = sum(line["amount"] for line in lines), sum(left) + added
    within = taxes.inclusive(invoice["total_taxes"])
    customer = world.store.find("customer", invoice["customer"]) or {}
    balance: int = customer.get("balance", 0)
    due = max(0, total + balance) if total >= 0 else 0
    invoice |= {
        "amount_due": due,
        "amount_remaining": due - invoice["amount_paid"],
        "starting_balance": balance,
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - within,
        "total": total,
        "total_discount_amounts": [{"amount": amount, "discount": held} for held, amount in totals.items()],
        "total_excluding_tax": total - added - within,
    }


def _brought(per_line: list[list[Object]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for brought in (own for line in per_line for own in line if own["amount"]):
        totals[brought["discount"]] = totals.get(brought["discount"], 0) + brought["amount"]
    return totals


def take_balance(world: World, invoice: Object) -> None:
    """At finalization the customer's credit pays, and what a negative invoice gives is credited."""
    customer = world.store.find("customer", invoice["customer"])
    if customer is None:
        return
    balance: int = customer["balance"]
    after = balance + invoice["total"]
    ending = min(0, after) if invoice["total"] >= 0 else after
    invoice["ending_balance"] = ending
    if ending != balance:
        with world.updating(customer, "customer.updated"):
            customer["balance"] = ending
