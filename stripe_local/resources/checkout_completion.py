"""Pay was pressed on Checkout's page → subscription, payment or saved card, and `checkout.session.completed`."""

from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.resources import (
    bank_debits,
    collection,
    customers,
    discounts,
    line_items,
    payment_methods,
    payments,
    tax_ids,
)
from stripe_local.resources.checkout_modes import COMPLETE, customer_for, intent_fields
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World

# What a payer typed in who was asked for it and does not say.
EXAMPLE_ADDRESS = {"city": "San Francisco", "country": "US", "line1": "510 Townsend St", "postal_code": "94103",
                   "state": "CA"}  # fmt: skip
EXAMPLE_PHONE = "+15555550100"


def complete(world: World, session: Object, given: Params) -> Object:
    """What the payer typed in, `given`: payment_method, email, name, phone, address, promotion_code, custom_amount,
    tax_id, custom_fields (key → value), promotions (whether the payer wants them); delayed: the bank's answer
    comes later."""
    if session["automatic_tax"]["enabled"] or session.get("billing_address_collection") == "required":
        given = {"address": EXAMPLE_ADDRESS, **given}
    held, method = checked(world, session, given)
    customer = customer_for(world, session, given)
    if customer is not None:
        _update_customer(world, session, customer, given)
    email = given.get("email") or session.get("customer_email") or (customer or {}).get("email")
    if method is not None and not method["billing_details"].get("email"):
        method["billing_details"] = {**method["billing_details"], "email": email, "name": given.get("name")}
    session["customer_details"] = {
        "address": dict(given.get("address") or (customer or {}).get("address") or {}),
        "email": email,
        "name": given.get("name") or (customer or {}).get("name"),
        "phone": _phone(session, given) or (customer or {}).get("phone"),
        "tax_exempt": (customer or {}).get("tax_exempt", "none"),
        "tax_ids": tax_ids.shown(world, customer or {"_tax_ids": _typed_tax_ids(session, given)}),
    }
    _fill_in(session, given)
    COMPLETE[session["mode"]](world, session, customer, method, held, given)
    session["status"] = "complete"
    session.pop("url", None)
    session["collected_information"] = {"shipping_details": None}
    _count_for_link(world, session)
    world.emit("checkout.session.completed", session)
    return session


def _update_customer(world: World, session: Object, customer: Object, given: Params) -> None:
    """What `customer_update` allows is saved on the customer."""
    allowed: Params = session["_customer_update"]
    change = {key: given[key] for key in ("address", "name") if given.get(key) and allowed.get(key) == "auto"}
    if change:
        customers.update(world, change, customer["id"])
    for typed in _typed_tax_ids(session, given):
        tax_ids.add(world, customer, typed)


def _typed_tax_ids(session: Object, given: Params) -> list[Object]:
    """The tax id that the payer typed in, if the session asks for one."""
    asked = inside(session, "tax_id_collection").get("enabled")
    return [tax_ids.read(given["tax_id"])] if asked and given.get("tax_id") else []


def _phone(session: Object, given: Params) -> str | None:
    asked = inside(session, "phone_number_collection").get("enabled")
    return (given.get("phone") or EXAMPLE_PHONE) if asked else None


def _fill_in(session: Object, given: Params) -> None:
    """The page's own fields and boxes. Terms must be accepted, or Pay cannot be pressed."""
    typed: Params = inside(given, "custom_fields")
    session["custom_fields"] = [
        field | {field["type"]: {**field[field["type"]], "value": typed.get(field["key"])}}
        for field in session["custom_fields"]
    ]
    consent = inside(session, "consent_collection")
    if consent:
        accepted = "accepted" if consent.get("terms_of_service") == "required" else None
        wanted = "opt_in" if given.get("promotions") else "opt_out"
        session["consent"] = {
            "promotions": wanted if consent.get("promotions") == "auto" else None,
            "terms_of_service": accepted,
        }


def checked(world: World, session: Object, given: Params) -> tuple[list[Params], Object | None]:
    """The discounts and the card, None where none is needed. Raises what keeps it from being paid."""
    if session["status"] != "open":
        raise invalid(
            f"This Checkout Session is {session['status']}: it cannot be completed.", code="session_not_open"
        )
    if session["expires_at"] < world.wall_time():
        raise invalid("This Checkout Session has expired.", code="session_not_open")
    line_items.choose_amount(world, session, given.get("custom_amount"))
    held = _discounts(world, session, given)
    if session.get("_line_items"):
        line_items.add_up(world, session, session.get("_coupons", []), _payer(world, session, given))
    needs_method = (
        session["mode"] == "setup"
        or session["amount_total"] > 0
        or (session["payment_method_collection"] == "always")
    )
    method = None
    if needs_method:
        method = payment_methods.resolve(world, given.get("payment_method") or "pm_card_visa")
        bank = payment_methods.card_of(method)
        bank_debits.check_currency(
            bank, session.get("currency") or bank_debits.CURRENCIES.get(bank.kind, "usd")
        )
        if bank.kind == "card":
            _refuse_declined(world, session, method)
    return held, method


def _payer(world: World, session: Object, given: Params) -> Object:
    """Who is taxed: the customer, at the address and with the tax id that were typed in."""
    customer = world.store.find("customer", session.get("customer")) or {}
    typed: Params = {"address": given["address"]} if given.get("address") else {}
    return {**customer, **typed, "_tax_ids": _typed_tax_ids(session, given)}


def confirm_page(world: World, params: Params, identifier: str) -> Object:
    """What Checkout's own page sends when Pay is pressed."""
    session = world.store.get("checkout.session", identifier)
    method = world.store.find("payment_method", params.get("payment_method"))
    billing = inside(method, "billing_details")
    given = {
        "payment_method": params.get("payment_method"),
        "email": billing.get("email"),
        "name": billing.get("name"),
    }
    return complete(world, session, given)


def _discounts(world: World, session: Object, given: Params) -> list[Params]:
    """What the session came with, or the code typed in on the page."""
    held: list[Params] = [
        {key: value for key, value in entry.items() if value} for entry in each(session, "discounts")
    ]
    code = given.get("promotion_code")
    if not code:
        return held
    if not session.get("allow_promotion_codes"):
        raise invalid("This session takes no promotion codes.", "promotion_code")
    found = next(
        (
            c
            for c in world.store.all("promotion_code")
            if c["active"] and c["code"].lower() == str(code).lower()
        ),
        None,
    )
    if found is None:
        raise invalid(f"This code is invalid: {code}", "promotion_code")
    discounts.check_code(world, found, session.get("customer"), "promotion_code", session["amount_subtotal"])
    session["discounts"] = [{"coupon": None, "promotion_code": found["id"]}]
    session["_coupons"] = [found["promotion"]["coupon"]]
    return [{"promotion_code": found["id"]}]


def _refuse_declined(world: World, session: Object, method: Object) -> None:
    """A declined card leaves the session open; the attempt is recorded."""
    card = payment_methods.card_of(method)
    blocked = card.risk_level == "highest" and world.settings.block_highest_risk
    if not (blocked or (card.decline and not card.attaches)) and not (
        card.decline and session["amount_total"]
    ):
        return
    if not session.get("amount_total"):
        code, decline_code = card.decline or ("card_declined", "fraudulent")
        raise StripeError(
            402, "Your card was declined.", kind="card_error", code=code, decline_code=decline_code
        )
    intent = attempted_intent(world, session)
    error = payments.confirm(world, intent, method, off_session=False, authenticated=True)
    if error is not None:
        raise error


def attempted_intent(world: World, session: Object) -> Object:
    """The payment intent that keeps the session's failed attempts."""
    customer = world.store.find("customer", session.get("customer"))
    intent = world.store.find("payment_intent", session.get("_intent")) or payments.new_intent(
        world, intent_fields(session, customer)
    )
    if intent["status"] == "requires_payment_method":
        intent["amount"] = session["amount_total"]  # a code or an amount that was typed in since changes it
    session["_intent"] = intent["id"]
    return intent


def settle(world: World, session: Object, succeeds: bool) -> Object:
    """The bank's answer to a delayed payment: async_payment_succeeded or async_payment_failed."""
    invoice = world.store.find("invoice", session.get("invoice"))
    intent = world.store.find("payment_intent", session.get("payment_intent"))
    if invoice is not None:
        intent = collection.intent_of(world, invoice)
    if intent is not None and intent.get("_was_processing"):
        bank_debits.settle(world, intent, succeeds=succeeds)
        return session
    if session["status"] != "complete" or intent is None or intent["status"] != "processing":
        raise invalid("This Checkout Session waits for no delayed payment.", code="session_not_processing")
    if not succeeds:
        intent["status"] = "requires_payment_method"
        world.emit("payment_intent.payment_failed", intent)
        world.emit("checkout.session.async_payment_failed", session)
        return session
    payments.charge_now(world, intent, world.store.get("payment_method", intent["payment_method"]))
    session["payment_status"] = "paid"
    world.emit("checkout.session.async_payment_succeeded", session)
    payments.afterwards(world, intent)
    return session


def _count_for_link(world: World, session: Object) -> None:
    link = world.store.find("payment_link", session.get("payment_link"))
    limits: Any = (link or {}).get("restrictions")
    if link is None or not limits:
        return
    completed: Object = {**limits["completed_sessions"], "count": limits["completed_sessions"]["count"] + 1}
    link["restrictions"] = {"completed_sessions": completed}
    if completed["count"] >= completed["limit"]:
        with world.updating(link, "payment_link.updated"):
            link["active"] = False
