"""Payment methods: made, attached and detached; the magic names become fresh ones at each use."""

from collections.abc import Callable

from stripe_local.errors import StripeError, invalid, malformed, no_such
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources.cards import BY_NAME, BY_NUMBER, MESSAGES, TestCard
from stripe_local.resources.common import matching
from stripe_local.store import Object
from stripe_local.values import inside, is_hash
from stripe_local.world import World, merge_metadata, put

EXPIRY_YEARS_AHEAD = 2
# Type → what makes such a payment method of its parameters.
MAKERS: dict[str, Callable[[World, str, Params], Object]] = {}


def card_of(method: Object) -> TestCard:
    """The test card behind a payment method."""
    return BY_NUMBER[method["_number"]]


def label(method: Object) -> str:
    """Brand or kind and the last digits, of a payment method or a charge's `payment_method_details`."""
    details: Object = method[method["type"]]
    return f"{details.get('brand', method['type'])} {details['last4']}"


def account_of(world: World, bank: TestCard, params: Params) -> Object:
    """A bank account, verified."""
    details: Object = {"country": bank.country, "fingerprint": _fingerprint(bank), "last4": bank.last4}
    if bank.kind == "us_bank_account":
        details = {
            "account_holder_type": inside(params, bank.kind).get("account_holder_type", "individual"),
            "account_type": inside(params, bank.kind).get("account_type", "checking"),
            "bank_name": "STRIPE TEST BANK",
            "fingerprint": _fingerprint(bank),
            "last4": bank.last4,
            "networks": {"preferred": "ach", "supported": ["ach"]},
            "routing_number": inside(params, bank.kind).get("routing_number", "110000000"),
        }
    else:
        details |= {"bank_code": bank.number[4:12], "branch_code": ""}
    method = world.store.add(
        "payment_method",
        {
            "allow_redisplay": params.get("allow_redisplay", "unspecified"),
            "billing_details": billing_details(params.get("billing_details", {})),
            "created": world.wall_time(),
            "metadata": {},
            "type": bank.kind,
            bank.kind: details,
            "_number": bank.number,
        },
    )
    merge_metadata(method, params.get("metadata"))
    return method


def _make(world: World, card: TestCard, params: Params) -> Object:
    if card.kind != "card":
        return account_of(world, card, params)
    given = params.get("card")
    expiry: Params = given if is_hash(given) else {}
    year = 1970 + world.wall_time() // 31_556_952 + EXPIRY_YEARS_AHEAD
    method = world.store.add(
        "payment_method",
        {
            "allow_redisplay": params.get("allow_redisplay", "unspecified"),
            "billing_details": billing_details(params.get("billing_details", {})),
            "card": {
                "brand": card.brand,
                "checks": {"cvc_check": "pass" if not expiry or expiry.get("cvc") else "unavailable"},
                "country": card.country,
                "display_brand": card.brand,
                "exp_month": expiry.get("exp_month", 12),
                "exp_year": expiry.get("exp_year", year),
                "fingerprint": _fingerprint(card),
                "funding": card.funding,
                "last4": card.last4,
                "networks": {"available": [card.brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
            },
            "created": world.wall_time(),
            "metadata": {},
            "type": "card",
            "_number": card.number,
        },
    )
    merge_metadata(method, params.get("metadata"))
    return method


def _fingerprint(card: TestCard) -> str:
    """The same for every payment method of one card number."""
    number = int(card.number) if card.kind == "card" else int.from_bytes(card.number.encode())
    letters = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    text = ""
    while len(text) < 16:
        number, digit = divmod(number * 31 + 7, len(letters) ** 9)
        text += letters[digit % len(letters)]
    return text


def billing_details(given: Params) -> Object:
    address = given.get("address")
    details: Object = {"address": address if is_hash(address) else {}}
    return details | {key: given[key] for key in ("email", "name", "phone", "tax_id") if given.get(key)}


def create(world: World, params: Params) -> Object:
    """From a number, a token or another payment method: cards, and the bank accounts of `BANKS`."""
    kind = params.get("type") or ("card" if "card" in params else None)
    if "payment_method" in params:
        return resolve(world, params["payment_method"])
    if kind is None:
        raise malformed("Missing required param: type.", "type", "parameter_missing")
    if kind in MAKERS:
        return MAKERS[kind](world, kind, params)
    if kind != "card":
        raise invalid(f"The payment method type '{kind}' is not played by the local emulator.", "type")
    card: Params = inside(params, "card")
    if "token" in card:
        known = BY_NAME.get(card["token"])
        if known is None:
            raise no_such("token", card["token"], "card[token]")
        return _make(world, known, {key: value for key, value in params.items() if key != "card"})
    if "number" not in card:
        raise malformed("Missing required param: card[number].", "card[number]", "parameter_missing")
    number = card["number"].replace(" ", "").replace("-", "")
    known = BY_NUMBER.get(number)
    if known is None:
        raise StripeError(
            402,
            "Your card number is incorrect."
            if not _luhn(number)
            else "Only Stripe's test card numbers are taken.",
            kind="card_error",
            code="incorrect_number",
            param="card[number]",
        )
    return _make(world, known, params)


def _luhn(number: str) -> bool:
    if not number.isascii() or not number.isdecimal():
        return False
    digits = [int(d) for d in reversed(number)]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


def resolve(world: World, identifier: str, param: str = "payment_method") -> Object:
    """The payment method; `pm_card_visa` and its like make a new one."""
    magic = BY_NAME.get(identifier)
    if magic is not None:
        return _make(world, magic, {})
    return world.store.get("payment_method", identifier, param)


def attach_to(world: World, method: Object, customer_id: str) -> Object:
    """Bind to the customer; a card that is always declined is declined here too."""
    if method.get("customer") == customer_id:
        return method
    if method.get("customer"):
        raise invalid(
            "The payment method you provided has already been attached to a customer.", "payment_method"
        )
    if method.get("_detached"):
        raise invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached from a "
            "Customer, and may not be used again.",
        )
    card = card_of(method)
    if card.decline and not card.attaches and card.kind == "card":
        code, decline_code = card.decline
        details = {"decline_code": decline_code} if code == "card_declined" else {}
        raise StripeError(402, MESSAGES[decline_code], kind="card_error", code=code, **details)
    method["customer"] = customer_id
    world.emit("payment_method.attached", method)
    return method


def attach(world: World, params: Params, identifier: str) -> Object:
    if "customer" not in params:
        raise malformed("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.store.get("customer", params["customer"], "customer")
    return attach_to(world, resolve(world, identifier, "id"), customer["id"])


def detach(world: World, params: Params, identifier: str) -> Object:
    """It can't be used again; the customer's default is emptied if this was it."""
    method = world.store.get("payment_method", identifier)
    owner = world.store.find("customer", method.get("customer"))
    if owner is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    previous = {"customer": method.pop("customer")}
    method["_detached"] = True
    world.emit("payment_method.detached", method, previous)
    if owner["invoice_settings"].get("default_payment_method") == identifier:
        with world.updating(owner, "customer.updated"):
            owner["invoice_settings"] = {**owner["invoice_settings"], "default_payment_method": None}
    for subscription in world.store.all("subscription"):
        if subscription.get("default_payment_method") == identifier:
            subscription.pop("default_payment_method")
    return method


def retrieve(world: World, params: Params, identifier: str) -> Object:
    return resolve(world, identifier, "id")


def update(world: World, params: Params, identifier: str) -> Object:
    method = world.store.get("payment_method", identifier)
    with world.updating(method, "payment_method.updated"):
        merge_metadata(method, params.get("metadata"))
        put(method, params, "allow_redisplay")
        if is_hash(params.get("billing_details")):
            method["billing_details"] = method["billing_details"] | billing_details(params["billing_details"])
        given = params.get("card")
        if is_hash(given):
            method["card"] = method["card"] | {k: given[k] for k in ("exp_month", "exp_year") if k in given}
    return method


def list_all(world: World, params: Params) -> Object:
    """Those of a customer, or all."""
    found = matching(world.store.newest_first("payment_method"), params)
    return listed(world, [m for m in found if m.get("customer")], params, "/v1/payment_methods")


def list_of_customer(world: World, params: Params, customer_id: str) -> Object:
    world.store.get("customer", customer_id)
    found = matching(world.store.newest_first("payment_method"), params | {"customer": customer_id})
    return listed(world, found, params, f"/v1/customers/{customer_id}/payment_methods")


def retrieve_of_customer(world: World, params: Params, customer_id: str, identifier: str) -> Object:
    method = world.store.get("payment_method", identifier)
    if method.get("customer") != customer_id:
        raise no_such("PaymentMethod", identifier)
    return method
