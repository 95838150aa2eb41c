"""What a completed Checkout Session makes, by its mode: a subscription, a payment, or a saved card."""

from stripe_local.parameters import Params
from stripe_local.resources import (
    collection,
    customers,
    discounts,
    invoice_items,
    invoice_lines,
    invoices,
    line_items,
    payment_methods,
    payments,
    renewals,
    setup_intents,
)
from stripe_local.resources.pricing import unit_of
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World


def customer_for(world: World, session: Object, given: Params) -> Object | None:
    """The session's customer; a new one where the mode needs or asks for one; else a guest."""
    if session.get("customer"):
        return world.store.get("customer", session["customer"])
    if session["mode"] != "subscription" and session.get("customer_creation") != "always":
        return None
    email = given.get("email") or session.get("customer_email") or "customer@example.com"
    known = {key: given[key] for key in ("address", "name") if given.get(key)}
    made = customers.create(world, {"email": email, **known})
    session["customer"] = made["id"]
    return made


def _subscription(
    world: World,
    session: Object,
    customer: Object | None,
    method: Object | None,
    held: list[Params],
    given: Params,
) -> None:
    assert customer is not None
    data: Params = session["_subscription_data"]
    if method is not None:
        payment_methods.attach_to(world, method, customer["id"])
        method["_set_up"] = True
    items: list[Params] = []
    for item in session["_line_items"]:
        price = world.store.get("price", item["price"])
        if price["type"] == "recurring":
            rates = [rate["id"] for rate in item["_tax_rates"]]
            sold = {"price": price["id"], "quantity": item["quantity"], "tax_rates": rates}
            items.append({**sold, "_checked": True})
        else:
            _add_once(world, customer, price, item)
    copied = (
        "description",
        "metadata",
        "trial_period_days",
        "trial_end",
        "trial_settings",
        "billing_cycle_anchor",
        "billing_cycle_anchor_config",
    )
    order: Params = {key: data[key] for key in (*copied, "billing_mode", "proration_behavior") if key in data}
    order |= {"customer": customer["id"], "items": items}
    if session["automatic_tax"]["enabled"]:
        order["automatic_tax"] = {"enabled": True}
    if data.get("default_tax_rates"):
        order["default_tax_rates"] = data["default_tax_rates"]
    if method is not None:
        order["default_payment_method"] = method["id"]
    if held:
        order["discounts"] = held
    subscription = renewals.create(world, order, authenticated=True)
    invoice = world.store.get("invoice", subscription["latest_invoice"])
    intent = collection.intent_of(world, invoice)
    if intent is not None:
        intent["_checkout_session"] = session["id"]
    paid = (
        ("paid" if invoice["status"] == "paid" else "unpaid")
        if invoice["amount_due"]
        else "no_payment_required"
    )
    session |= {"subscription": subscription["id"], "invoice": invoice["id"], "payment_status": paid}


def _add_once(world: World, customer: Object, price: Object, item: Object) -> None:
    """A one-time price in a subscription session goes on the first invoice."""
    invoice_items.add(
        world,
        customer,
        {
            "amount": item["amount_subtotal"],
            "currency": price["currency"],
            "description": item["description"],
            "pricing": invoice_lines.pricing(price, f"{unit_of(price):f}"),
            "quantity": item["quantity"],
            "tax_rates": item["_tax_rates"],
        },
    )


def _payment(
    world: World,
    session: Object,
    customer: Object | None,
    method: Object | None,
    held: list[Params],
    given: Params,
) -> None:
    data: Params = session["_intent_data"]
    for entry in held:
        discounts.redeem(world, [entry], "discounts", {"checkout_session": session["id"]})
    if method is None:
        session["payment_status"] = "no_payment_required"
        return
    if customer is not None and data.get("setup_future_usage"):
        payment_methods.attach_to(world, method, customer["id"])
        method["_set_up"] = True
    invoicing: Params = session["_invoicing"]
    if invoicing.get("enabled"):
        customer = customer or customer_for(world, session | {"customer_creation": "always"}, given)
        assert customer is not None
        session["customer"] = customer["id"]
        _pay_with_invoice(world, session, customer, method)
        return
    earlier = world.store.find("payment_intent", session.get("_intent"))
    intent = earlier or payments.new_intent(world, intent_fields(session, customer))
    intent |= {"amount": session["amount_total"], "_checkout_session": session["id"]}
    session["payment_intent"] = intent["id"]
    if given.get("delayed"):
        intent |= {"status": "processing", "payment_method": method["id"]}
        world.emit("payment_intent.processing", intent)
        return
    error = payments.confirm(world, intent, method, off_session=False, authenticated=True)
    if error is not None:
        raise error
    if intent["status"] == "succeeded":  # else it is authorized, and paid when it is captured
        session["payment_status"] = "paid"
    payments.afterwards(world, intent)


def intent_fields(session: Object, customer: Object | None) -> Object:
    """What a session's payment intent is made with."""
    data: Params = session["_intent_data"]
    fields: Object = {
        "amount": session["amount_total"],
        "currency": session["currency"],
        "customer": customer["id"] if customer else None,
        "metadata": dict(inside(data, "metadata")),
    }
    copied = (
        "capture_method",
        "description",
        "receipt_email",
        "setup_future_usage",
        "shipping",
        "statement_descriptor",
    )
    return fields | {key: data[key] for key in copied if key in data}


def _pay_with_invoice(world: World, session: Object, customer: Object, method: Object) -> None:
    data: Params = inside(session["_invoicing"], "invoice_data")
    lines: list[Object] = []
    for item in session["_line_items"]:
        price = world.store.get("price", item["price"])
        fields: Object = {
            "amount": item["amount_subtotal"] - item["amount_discount"],
            "currency": session["currency"],
            "description": item["description"],
            "parent": None,
            "period": {"end": world.wall_time(), "start": world.wall_time()},
            "pricing": invoice_lines.pricing(price, line_items.unit_of(price, item)),
            "quantity": item["quantity"],
            "quantity_decimal": str(item["quantity"]),
            "_tax_rates": item["_tax_rates"],
        }
        lines.append(invoice_lines.new_line(world, fields))
    invoice = invoices.draft(
        world,
        customer,
        lines,
        {
            "automatic_tax": {key: session["automatic_tax"].get(key) for key in ("enabled", "liability")},
            "billing_reason": "manual",
            "currency": session["currency"],
            "description": data.get("description"),
            "footer": data.get("footer"),
            "metadata": dict(inside(data, "metadata")),
        },
    )
    invoices.finalize(world, invoice)
    intent = collection.intent_of(world, invoice)
    if intent is not None:
        intent["metadata"] = dict(inside(session["_intent_data"], "metadata"))
        intent["_checkout_session"] = session["id"]
        error = collection.attempt(world, invoice, method, off_session=False, authenticated=True)
        if error is not None:
            raise error
        session["payment_intent"] = intent["id"]
    paid = "paid" if invoice["status"] == "paid" else "unpaid"
    session |= {"invoice": invoice["id"], "payment_status": paid if intent else "no_payment_required"}


def _setup(
    world: World,
    session: Object,
    customer: Object | None,
    method: Object | None,
    held: list[Params],
    given: Params,
) -> None:
    assert method is not None
    data: Params = session["_setup_data"]
    order: Params = {"payment_method": method["id"]}
    order |= {key: data[key] for key in ("description", "metadata") if key in data}
    if customer is not None:
        order["customer"] = customer["id"]
    intent = setup_intents.create(world, order)
    setup_intents.confirm(world, {}, intent["id"], authenticated=True)
    session["setup_intent"] = intent["id"]


COMPLETE = {"payment": _payment, "setup": _setup, "subscription": _subscription}
