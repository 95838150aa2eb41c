"""Tax ids of customers. European ones are verified; the values of Stripe's documentation are not."""

from typing import Any

from stripe_local.errors import invalid, no_such
from stripe_local.parameters import Params
from stripe_local.render import INCLUDABLE, listed, page, render
from stripe_local.resources.common import deleted
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.world import World

# The last nine digits of a test value → what the registry says.
OUTCOMES = {"111111111": "unverified", "222222222": "pending"}
VERIFIED_KINDS = ("eu_vat", "gb_vat")
MAX_TAX_IDS = 5


def create(world: World, params: Params, customer_id: str) -> Object:
    customer = world.store.get("customer", customer_id)
    return add(world, customer, read(params))


def read(given: Params) -> Object:
    """What is known of a tax id by itself, and what the registry answers."""
    kind, value = given["type"], given["value"].strip()
    if kind == "eu_vat" and not (value[:2].isascii() and value[:2].isalpha() and 8 <= len(value) <= 14):
        raise invalid("Invalid value for eu_vat.", "value", "tax_id_invalid")
    answer = OUTCOMES.get(value[-9:], "verified") if kind in VERIFIED_KINDS else "unavailable"
    return {
        "country": value[:2].upper() if kind == "eu_vat" else kind[:2].upper(),
        "type": kind,
        "value": value,
        "verification": {"status": answer},
    }


def add(world: World, customer: Object, fields: Object) -> Object:
    """`customer.tax_id.created`."""
    if len(of(world, customer)) >= MAX_TAX_IDS:
        raise invalid(f"A customer has at most {MAX_TAX_IDS} tax ids.")
    made = world.store.add(
        "tax_id",
        {
            "created": world.now(customer.get("test_clock")),
            "customer": customer["id"],
            "owner": {"customer": customer["id"], "type": "customer"},
            **fields,
        },
    )
    world.emit("customer.tax_id.created", made)
    return made


def of(state: State, customer: Object) -> list[Object]:
    """Newest first; `_tax_ids` of a payer were typed in at Checkout and are not saved yet."""
    saved = state.store.newest_first("tax_id")
    return [
        *customer.get("_tax_ids", ()),
        *(one for one in saved if one["customer"] == customer.get("id")),
    ]


def shown(state: State, customer: Object) -> list[Object]:
    """As invoices and sessions show them."""
    return [{"type": one["type"], "value": one["value"]} for one in reversed(of(state, customer))]


def is_business(state: State, customer: Object) -> bool:
    """A European business with a verified VAT id pays its own country's tax itself."""
    return any(one["verification"]["status"] == "verified" for one in of(state, customer))


def list_all(world: World, params: Params, customer_id: str) -> Object:
    customer = world.store.get("customer", customer_id)
    return listed(world, of(world, customer), params, f"/v1/customers/{customer_id}/tax_ids")


def _own(world: World, customer_id: str, identifier: str) -> Object:
    found = world.store.find("tax_id", identifier)
    if found is None or found.get("customer") != customer_id:
        raise no_such("tax_id", identifier)
    return found


def retrieve(world: World, params: Params, customer_id: str, identifier: str) -> Object:
    return _own(world, customer_id, identifier)


def delete(world: World, params: Params, customer_id: str, identifier: str) -> Object:
    gone = _own(world, customer_id, identifier)
    world.store.remove("tax_id", identifier)
    world.emit("customer.tax_id.deleted", gone)
    return deleted("tax_id", identifier)


def _included(state: State, customer: Object) -> Any:
    found = of(state, customer)
    shown_ids = [render(state, one) for one in found[:10]]
    return page(shown_ids, f"/v1/customers/{customer['id']}/tax_ids", len(found) > 10)


INCLUDABLE[("customer", "tax_ids")] = _included
