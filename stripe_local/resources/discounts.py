"""Coupons, promotion codes, and the discounts they become on subscriptions, invoices and Checkout."""

from decimal import Decimal
from typing import Any

from stripe_local.errors import invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import INCLUDABLE, listed
from stripe_local.resources.catalog import currency
from stripe_local.resources.common import deleted, matching
from stripe_local.resources.periods import months_later
from stripe_local.resources.pricing import rounded
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World, merge_metadata, put


def create_coupon(world: World, params: Params) -> Object:
    if ("percent_off" in params) == ("amount_off" in params):
        raise malformed("Must provide exactly one of percent_off or amount_off.", "percent_off")
    if "percent_off" in params and not 0 < params["percent_off"] <= 100:
        raise invalid("Invalid percent_off: must be greater than 0 and at most 100", "percent_off")
    if "amount_off" in params and (params["amount_off"] < 1 or "currency" not in params):
        raise malformed("amount_off needs a positive amount and a currency.", "amount_off")
    duration = params.get("duration", "once")
    if (duration == "repeating") != ("duration_in_months" in params):
        raise malformed(
            "duration_in_months is required with duration=repeating, and only then.", "duration_in_months"
        )
    if world.store.find("coupon", params.get("id")):
        raise invalid(f"Coupon already exists: {params['id']}", "id", "resource_already_exists")
    coupon = world.store.add(
        "coupon",
        {
            "id": params.get("id") or world.store.token(8),
            "created": world.wall_time(),
            "currency": currency(params["currency"]) if "currency" in params else None,
            "duration": duration,
            "metadata": {},
            "times_redeemed": 0,
            "valid": True,
            "_products": inside(params, "applies_to").get("products"),
        },
    )
    put(
        coupon,
        params,
        "amount_off",
        "duration_in_months",
        "max_redemptions",
        "name",
        "percent_off",
        "redeem_by",
    )
    merge_metadata(coupon, params.get("metadata"))
    world.emit("coupon.created", coupon)
    return coupon


def update_coupon(world: World, params: Params, identifier: str) -> Object:
    coupon = world.store.get("coupon", identifier)
    with world.updating(coupon, "coupon.updated"):
        put(coupon, params, "name")
        merge_metadata(coupon, params.get("metadata"))
    return coupon


def delete_coupon(world: World, params: Params, identifier: str) -> Object:
    """Discounts already given stay."""
    coupon = world.store.get("coupon", identifier)
    coupon["valid"] = False
    world.store.remove("coupon", identifier)
    world.store.tables.setdefault("deleted_coupon", {})[identifier] = coupon
    world.emit("coupon.deleted", coupon)
    return deleted("coupon", identifier)


def create_promotion_code(world: World, params: Params) -> Object:
    promotion: Params = params["promotion"]
    coupon = world.store.get("coupon", promotion.get("coupon") or "", "promotion[coupon]")
    code = params.get("code") or world.store.token(8).upper()
    for other in world.store.all("promotion_code"):
        same_customer = other.get("customer") in (None, params.get("customer"))
        if other["code"].lower() == code.lower() and other["active"] and same_customer:
            raise invalid("An active promotion code with `code: " + code + "` already exists.", "code")
    restrictions: Params = inside(params, "restrictions")
    made = world.store.add(
        "promotion_code",
        {
            "active": params.get("active", True),
            "code": code,
            "created": world.wall_time(),
            "metadata": {},
            "promotion": {"coupon": coupon["id"], "type": promotion["type"]},
            "restrictions": {
                "first_time_transaction": restrictions.get("first_time_transaction", False),
                "minimum_amount": restrictions.get("minimum_amount"),
                "minimum_amount_currency": restrictions.get("minimum_amount_currency"),
            },
            "times_redeemed": 0,
        },
    )
    put(made, params, "customer", "expires_at", "max_redemptions")
    merge_metadata(made, params.get("metadata"))
    world.emit("promotion_code.created", made)
    return made


def update_promotion_code(world: World, params: Params, identifier: str) -> Object:
    code = world.store.get("promotion_code", identifier)
    with world.updating(code, "promotion_code.updated"):
        put(code, params, "active")
        merge_metadata(code, params.get("metadata"))
    return code


def list_promotion_codes(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("promotion_code"), params, frozenset({"coupon", "code"}))
    if "coupon" in params:
        found = [c for c in found if c["promotion"]["coupon"] == params["coupon"]]
    if "code" in params:
        found = [c for c in found if c["code"].lower() == params["code"].lower()]
    return listed(world, found, params, "/v1/promotion_codes")


def redeem(
    world: World, given: list[Params], where: str, holder: Params, amount: int | None = None
) -> list[str]:
    """Ids of new discounts from `discounts[]` ({"coupon"} or {"promotion_code"} or an existing {"discount"}).

    `amount`: what the order comes to, where a code may ask for a minimum.
    """
    ids: list[str] = []
    for number, entry in enumerate(given):
        name = f"{where}[{number}]"
        if entry.get("discount"):
            ids.append(world.store.get("discount", entry["discount"], f"{name}[discount]")["id"])
            continue
        code: Object | None = None
        if entry.get("promotion_code"):
            code = world.store.get("promotion_code", entry["promotion_code"], f"{name}[promotion_code]")
            check_code(world, code, holder.get("customer"), f"{name}[promotion_code]", amount)
        coupon_id = code["promotion"]["coupon"] if code else entry.get("coupon")
        if not coupon_id:
            raise malformed(
                f"Missing required param: {name}[coupon].", f"{name}[coupon]", "parameter_missing"
            )
        coupon = world.store.get("coupon", coupon_id, f"{name}[coupon]")
        _check_coupon(world, coupon, f"{name}[coupon]")
        ids.append(_discount(world, coupon, code, holder)["id"])
    return ids


def _check_coupon(world: World, coupon: Object, param: str) -> None:
    if not coupon["valid"] or coupon.get("redeem_by", world.wall_time()) < world.wall_time():
        raise invalid(f"Coupon expired: {coupon['id']}", param, "coupon_expired")


def check_code(
    world: World, code: Object, customer: str | None, param: str, amount: int | None = None
) -> None:
    """Whether this customer may use the code for an order of this amount."""
    expired = code.get("expires_at", world.wall_time()) < world.wall_time()
    used_up = code["times_redeemed"] >= code.get("max_redemptions", code["times_redeemed"] + 1)
    if not code["active"] or expired or used_up:
        raise invalid(
            f"This promotion code cannot be redeemed: {code['code']}", param, "promotion_code_expired"
        )
    if code.get("customer") not in (None, customer):
        raise invalid(
            "This promotion code belongs to another customer.", param, "promotion_code_customer_mismatch"
        )
    limits: Object = code["restrictions"]
    if limits["first_time_transaction"] and customer and _has_paid(world, customer):
        raise invalid(
            "This promotion code cannot be redeemed because the associated customer has prior transactions.",
            param,
            "promotion_code_customer_not_first_time",
        )
    if limits["minimum_amount"] and amount is not None and amount < limits["minimum_amount"]:
        raise invalid(
            "This promotion code cannot be redeemed because the order does not meet its minimum amount.",
            param,
            "promotion_code_minimum_amount_not_met",
        )


def _has_paid(world: World, customer: str) -> bool:
    """A payment that succeeded or an invoice that was paid."""
    return any(
        stored["customer"] == customer and stored["status"] in ("succeeded", "paid")
        for kind in ("payment_intent", "invoice")
        for stored in world.store.all(kind)
        if stored.get("customer")
    )


def _discount(world: World, coupon: Object, code: Object | None, holder: Params) -> Object:
    start = world.now(world.clock_of(holder.get("customer")))
    months = coupon.get("duration_in_months")
    coupon["times_redeemed"] += 1
    if coupon["times_redeemed"] >= coupon.get("max_redemptions", coupon["times_redeemed"] + 1):
        coupon["valid"] = False
    if code is not None:
        code["times_redeemed"] += 1
    discount = world.store.add(
        "discount",
        {
            **holder,
            "end": months_later(start, months) if months else None,
            "promotion_code": code["id"] if code else None,
            "source": {"coupon": coupon["id"], "type": "coupon"},
            "start": start,
        },
    )
    if not holder.get("checkout_session"):
        world.emit("customer.discount.created", discount)
    return discount


def coupon_of(world: World, discount: Object) -> Object:
    identifier = discount["source"]["coupon"]
    found = world.store.find("coupon", identifier) or world.store.find("deleted_coupon", identifier)
    return found or {}


def applicable(world: World, ids: list[str], moment: int) -> list[Object]:
    """The discounts that still hold: a `once` coupon until its first invoice, a repeating one until its end."""
    found = [d for d in (world.store.find("discount", i) for i in ids) if d is not None]
    return [d for d in found if not d.get("_used") and d.get("end", moment + 1) > moment]


def of(subscription: Object, customer: Object) -> list[str]:
    """The discounts of a subscription, else that of its customer."""
    customers: list[str] = [customer["_discount"]] if "_discount" in customer else []
    return subscription["discounts"] or customers


def amounts(world: World, discount: Object, lines: list[Object], left: list[int]) -> list[int]:
    """What the discount takes off each line, given what is left of each after earlier discounts."""
    coupon = coupon_of(world, discount)
    only: Any = coupon.get("_products")
    wanted = [
        amount if line["discountable"] and amount > 0 and (only is None or _product(line) in only) else 0
        for line, amount in zip(lines, left, strict=True)
    ]
    if "percent_off" in coupon:
        share = Decimal(str(coupon["percent_off"])) / 100
        return [rounded(amount * share) for amount in wanted]
    total, given = sum(wanted), 0
    taken: list[int] = []
    off = min(coupon.get("amount_off", 0), total)
    seen = 0
    for amount in wanted:
        seen += amount
        part = off * seen // total - given if total else 0
        given += part
        taken.append(part)
    return taken


def _product(line: Object) -> str | None:
    return inside(line, "pricing", "price_details").get("product")


def consume(world: World, ids: list[str]) -> None:
    """An invoice with these discounts was finalized: those for one invoice are used up."""
    for identifier in ids:
        discount = world.store.find("discount", identifier)
        if discount is not None and coupon_of(world, discount).get("duration") == "once":
            discount["_used"] = True


def _applies_to(state: State, coupon: Object) -> Any:
    stored = state.store.find("coupon", coupon["id"]) or {}
    return {"products": stored["_products"]} if stored.get("_products") else None


INCLUDABLE[("coupon", "applies_to")] = _applies_to
