"""Customers: created, changed, deleted with everything that still runs for them."""

from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.render import DERIVED, INCLUDABLE, page, render
from stripe_local.resources import discounts, payment_methods, tax_ids
from stripe_local.resources.common import deleted
from stripe_local.resources.lifecycle import ENDED, end_subscription
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World, merge_metadata, put

TEXTS = ("business_name", "description", "email", "individual_name", "name", "phone", "tax_exempt")


def create(world: World, params: Params) -> Object:
    clock = params.get("test_clock")
    if clock:
        world.store.get("test_helpers.test_clock", clock, "test_clock")
    customer = world.store.add(
        "customer",
        {
            "balance": params.get("balance", 0),
            "created": world.now(clock),
            "delinquent": False,
            "invoice_prefix": params.get("invoice_prefix") or world.store.token(8).upper(),
            "invoice_settings": {},
            "metadata": {},
            "next_invoice_sequence": params.get("next_invoice_sequence", 1),
            "preferred_locales": [],
            "tax_exempt": "none",
            "test_clock": clock,
        },
    )
    try:
        _set(world, customer, params)
    except StripeError:
        world.store.remove("customer", customer["id"])
        raise
    world.emit("customer.created", customer)
    for given in each(params, "tax_id_data"):
        tax_ids.add(world, customer, tax_ids.read(given))
    return customer


def _set(world: World, customer: Object, params: Params) -> None:
    put(
        customer,
        params,
        *TEXTS,
        "address",
        "balance",
        "invoice_prefix",
        "next_invoice_sequence",
        "preferred_locales",
    )
    put(customer, params, "shipping")
    merge_metadata(customer, params.get("metadata"))
    # The card of `source` is older than payment methods; it becomes one.
    for name in ("payment_method", "source"):
        if params.get(name):
            method = payment_methods.resolve(world, params[name], name)
            payment_methods.attach_to(world, method, customer["id"])
            if name == "source":
                customer["_source"] = method["id"]
    if "coupon" in params:
        _set_discount(world, customer, params["coupon"])
    settings: Any = inside(params, "invoice_settings")
    if settings:
        current: Object = dict(customer["invoice_settings"])
        default = settings.get("default_payment_method")
        if default:
            current["default_payment_method"] = _attached(world, customer, params, default)
        elif default == "":
            current["default_payment_method"] = None
        for key in ("custom_fields", "footer", "rendering_options"):
            if key in settings:
                current[key] = settings[key] or None
        customer["invoice_settings"] = current


def _set_discount(world: World, customer: Object, coupon: str) -> None:
    """A discount on the customer itself, as versions before basil give it."""
    former = world.store.find("discount", customer.pop("_discount", None))
    if former is not None:
        world.emit("customer.discount.deleted", former)
    if coupon:
        (customer["_discount"],) = discounts.redeem(
            world, [{"coupon": coupon}], "coupon", {"customer": customer["id"]}
        )
        if former is not None:
            current = world.store.get("discount", customer["_discount"])
            world.emit("customer.discount.updated", current, {"source": former["source"]})


def delete_discount(world: World, params: Params, identifier: str) -> Object:
    customer = world.store.get("customer", identifier)
    if "_discount" not in customer:
        raise invalid("This customer has no discount.", code="resource_missing")
    gone: str = customer["_discount"]
    with world.updating(customer, "customer.updated"):
        _set_discount(world, customer, "")
    return deleted("discount", gone)


def _attached(world: World, customer: Object, params: Params, identifier: str) -> str:
    """The default must be one of the customer's own; a magic name stands for the one just attached."""
    name = "invoice_settings[default_payment_method]"
    if params.get("payment_method") == identifier:
        own = [m for m in world.store.newest_first("payment_method") if m.get("customer") == customer["id"]]
        return own[0]["id"]
    method = payment_methods.resolve(world, identifier, name)
    if method.get("customer") != customer["id"]:
        if method["id"] != identifier:  # a magic name
            return payment_methods.attach_to(world, method, customer["id"])["id"]
        raise invalid(
            f"The customer does not have a payment method with the ID {identifier}. The payment method must be "
            "attached to the customer.",
            name,
            "resource_missing",
        )
    return identifier


def update(world: World, params: Params, identifier: str) -> Object:
    customer = world.store.get("customer", identifier)
    with world.updating(customer, "customer.updated"):
        _set(world, customer, params)
    return customer


def retrieve(world: World, params: Params, identifier: str) -> Object:
    """A deleted customer is still there, as a stub."""
    customer = world.store.find("customer", identifier)
    if customer is None and identifier in world.store.tables.get("deleted_customer", {}):
        return deleted("customer", identifier)
    return world.store.get("customer", identifier)


def delete(world: World, params: Params, identifier: str) -> Object:
    """Subscriptions end at once, payment methods come off."""
    customer = world.store.get("customer", identifier)
    for subscription in list(world.store.all("subscription")):
        if subscription["customer"] == identifier and subscription["status"] not in (
            "canceled",
            "incomplete_expired",
        ):
            end_subscription(world, subscription, "cancellation_requested")
    for method in world.store.all("payment_method"):
        if method.get("customer") == identifier:
            method.pop("customer")
            method["_detached"] = True
    world.emit("customer.deleted", customer)
    world.store.remove("customer", identifier)
    world.store.tables.setdefault("deleted_customer", {})[identifier] = customer
    return deleted("customer", identifier)


def adjust_balance(world: World, params: Params, identifier: str) -> Object:
    """A manual credit (negative) or debt (positive) on the customer's balance."""
    customer = world.store.get("customer", identifier)
    with world.updating(customer, "customer.updated"):
        customer["balance"] += params["amount"]
    return {
        "id": "cbtxn_" + world.store.token(24),
        "object": "customer_balance_transaction",
        "amount": params["amount"],
        "checkout_session": None,
        "created": world.now(customer.get("test_clock")),
        "credit_note": None,
        "currency": params["currency"],
        "customer": identifier,
        "customer_account": None,
        "description": params.get("description") or None,
        "ending_balance": customer["balance"],
        "invoice": None,
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "type": "adjustment",
    }


def default_payment_method(world: World, customer: Object) -> Object | None:
    """What an invoice is paid with when the subscription names nothing."""
    identifier = customer["invoice_settings"].get("default_payment_method") or customer.get("_source")
    return world.store.find("payment_method", identifier)


def _shown(state: State, customer: Object) -> Object:
    discount = state.store.find("discount", customer.get("_discount"))
    return {"discount": render(state, discount)} if discount is not None else {}


def _subscriptions(state: State, customer: Object) -> Object:
    found = [s for s in state.store.newest_first("subscription") if s["customer"] == customer["id"]]
    running = [render(state, s) for s in found if s["status"] not in ENDED]
    return page(running[:10], f"/v1/customers/{customer['id']}/subscriptions", len(running) > 10)


DERIVED["customer"] = _shown
INCLUDABLE[("customer", "subscriptions")] = _subscriptions
