"""Invoice items: amounts that wait for the next invoice of a customer, or go into a draft."""

from decimal import Decimal

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources import catalog, taxes
from stripe_local.resources.common import deleted, in_range, matching
from stripe_local.resources.invoice_lines import add_up, invoice_item_line, item_of, pricing
from stripe_local.resources.invoices import put_lines
from stripe_local.resources.pricing import rounded, unit_of
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World, merge_metadata, put

# What says how much an item comes to.
AMOUNTS = frozenset({"amount", "price_data", "pricing", "quantity", "unit_amount_decimal"})


def add(world: World, customer: Object, fields: Object) -> Object:
    """An item that is pending until an invoice takes it; `invoiceitem.created`."""
    item = store(world, customer, fields)
    world.emit("invoiceitem.created", item)
    return item


def store(world: World, customer: Object, fields: Object) -> Object:
    """An item that is still to be announced."""
    now = world.now(customer.get("test_clock"))
    item = world.store.add(
        "invoiceitem",
        {
            "customer": customer["id"],
            "date": now,
            "discountable": fields["amount"] >= 0,
            "discounts": [],
            "metadata": {},
            "net_amount": fields["amount"],
            "period": {"end": now, "start": now},
            "proration": False,
            "quantity": 1,
            "tax_rates": [],
            "test_clock": customer.get("test_clock"),
            "quantity_decimal": str(fields.get("quantity", 1)),
            **fields,
        },
    )
    customer.setdefault("_pending_items", []).append(item["id"])
    return item


def create(world: World, params: Params) -> Object:
    if not params.get("customer"):
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.store.get("customer", params["customer"], "customer")
    fields = _amount(world, params)
    if params.get("subscription"):
        subscription = world.store.get("subscription", params["subscription"], "subscription")
        details = {"subscription": subscription["id"], "subscription_item": None}
        fields["parent"] = {"type": "subscription_details", "subscription_details": details}
    invoice = world.store.get("invoice", params["invoice"], "invoice") if params.get("invoice") else None
    if invoice is not None and invoice["status"] != "draft":
        raise invalid("The invoice is already finalized: items can only be added to a draft.", "invoice")
    item = add(world, customer, fields)
    _set(world, item, params)
    if invoice is not None:
        with world.updating(invoice, "invoice.updated"):
            take_into(world, invoice, [item])
            add_up(world, invoice)
    return item


def _amount(world: World, params: Params) -> Object:
    quantity: int = params.get("quantity", 1)
    named: Params = inside(params, "pricing")
    if named.get("price") or "price_data" in params:
        price = catalog.price_of(world, {**params, **named}, "pricing", recurring=False)
        unit = unit_of(price)
        return {
            "amount": rounded(unit * quantity),
            "currency": price["currency"],
            "pricing": pricing(price, f"{unit:f}"),
            "quantity": quantity,
        }
    if "amount" not in params and "unit_amount_decimal" not in params:
        raise invalid("You must specify an amount, a price or price data.", "amount", "parameter_missing")
    unit = Decimal(params.get("unit_amount_decimal", 0))
    return {
        "amount": params["amount"] if "amount" in params else rounded(unit * quantity),
        "currency": catalog.currency(params.get("currency")),
        "quantity": quantity,
    }


def pending(world: World, customer_id: str, subscription_id: str | None) -> list[Object]:
    """Items the next invoice takes: the customer's own, and those of this subscription."""
    customer = world.store.find("customer", customer_id)
    waiting: list[str] = (customer or {}).get("_pending_items", [])
    found = [i for i in (world.store.find("invoiceitem", item) for item in waiting) if i is not None]
    return [i for i in found if "invoice" not in i and _subscription(i) in (None, subscription_id)]


def _subscription(item: Object) -> str | None:
    return inside(item, "parent", "subscription_details").get("subscription")


def take_into(world: World, invoice: Object, items: list[Object]) -> None:
    """Items become lines."""
    put_lines(world, invoice, (invoice_item_line(world, item) for item in items))


def update(world: World, params: Params, identifier: str) -> Object:
    item = world.store.get("invoiceitem", identifier)
    invoice = world.store.find("invoice", item.get("invoice"))
    if invoice is not None and invoice["status"] != "draft":
        raise invalid("This invoice item is attached to an invoice that can no longer be changed.")
    if params.keys() & AMOUNTS:
        item |= _amount(world, _as_given(item) | params)
        item["net_amount"] = item["amount"]
    _set(world, item, params)
    return item


def _set(world: World, item: Object, params: Params) -> None:
    put(item, params, "description", "discountable")
    if "period" in params:
        item["period"] = {"start": params["period"]["start"], "end": params["period"]["end"]}
    if "tax_rates" in params:
        item["tax_rates"] = taxes.rates_of(world, params["tax_rates"], "tax_rates")
    merge_metadata(item, params.get("metadata"))


def _as_given(item: Object) -> Params:
    """The parameters that would make this amount."""
    unit = inside(item, "pricing").get("unit_amount_decimal") or Decimal(item["amount"]) / (
        item["quantity"] or 1
    )
    return {"currency": item["currency"], "quantity": item["quantity"], "unit_amount_decimal": str(unit)}


def delete(world: World, params: Params, identifier: str) -> Object:
    item = world.store.get("invoiceitem", identifier)
    invoice = world.store.find("invoice", item.get("invoice"))
    if invoice is not None:
        if invoice["status"] != "draft":
            raise invalid("This invoice item is attached to an invoice that can no longer be changed.")
        invoice["_lines"] = [line for line in invoice["_lines"] if item_of(line) != identifier]
        add_up(world, invoice)
    world.store.remove("invoiceitem", identifier)
    world.emit("invoiceitem.deleted", item)
    return deleted("invoiceitem", identifier)


def list_all(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("invoiceitem"), params, frozenset({"created", "pending"}))
    if "created" in params:
        found = [item for item in found if in_range(item["date"], params["created"])]
    if "pending" in params:
        found = [item for item in found if ("invoice" not in item) == params["pending"]]
    return listed(world, found, params, "/v1/invoiceitems")
