"""Payment intents and charges over the API: created, confirmed, captured, cancelled, authenticated."""

from stripe_local.errors import StripeError, invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import INCLUDABLE, page, render
from stripe_local.resources import balance, bank_debits, catalog, collection, payment_methods, payments
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World, merge_metadata, positive, put

MINIMUM_AMOUNT = 50
MAXIMUM_AMOUNT = 99_999_999
FIELDS = (
    "description",
    "receipt_email",
    "setup_future_usage",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "shipping",
)
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(world: World, params: Params) -> Object:
    """With `confirm` it is paid at once: a decline is a 402 that carries the intent."""
    check_amount(params["amount"], params["currency"])
    if params.get("customer"):
        world.store.get("customer", params["customer"], "customer")
    if params.get("off_session") and not params.get("confirm"):
        raise invalid("`off_session` can only be set together with `confirm`.", "off_session")
    method = None
    if params.get("payment_method"):
        method = payment_methods.resolve(world, params["payment_method"])
        _check_owner(method, params.get("customer"))
    automatic = inside(params, "automatic_payment_methods")
    fields: Object = {
        "amount": params["amount"],
        "currency": catalog.currency(params["currency"]),
        "capture_method": params.get("capture_method", "automatic_async"),
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "_return_url": params.get("return_url"),
    }
    if automatic:
        fields["automatic_payment_methods"] = {"allow_redirects": "always", "enabled": True} | automatic
    if "payment_method_types" in params:
        fields |= {"automatic_payment_methods": None, "payment_method_types": params["payment_method_types"]}
    put(fields, params, "customer", *FIELDS)
    merge_metadata(fields, params.get("metadata"))
    if method is not None:
        fields |= {"payment_method": method["id"], "status": "requires_confirmation"}
    intent = payments.new_intent(world, fields)
    return _confirm(world, intent, params) if params.get("confirm") else intent


def check_amount(amount: int, currency: str) -> None:
    if amount < 1:
        raise malformed("Invalid positive integer", "amount", "parameter_invalid_integer")
    if amount < MINIMUM_AMOUNT and currency.lower() == "usd":
        raise invalid("Amount must be at least $0.50 usd", "amount", "amount_too_small")
    if amount > MAXIMUM_AMOUNT:
        raise invalid("Amount must be no more than $999,999.99", "amount", "amount_too_large")


def _check_owner(method: Object, customer: str | None) -> None:
    owner = method.get("customer")
    if owner and owner != customer:
        raise invalid(
            f"The provided PaymentMethod ({method['id']}) was attached to another customer or none was given: pass "
            f"`customer: {owner}`.",
            "payment_method",
        )


def update(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("payment_intent", identifier)
    if intent["status"] not in OPEN and set(params) - {"metadata", "description", "receipt_email"}:
        raise _unexpected(world, intent, "update")
    if "amount" in params:
        check_amount(params["amount"], params.get("currency", intent["currency"]))
    positive(params, "amount", 1)
    put(intent, params, "amount", "customer", *FIELDS)
    if "currency" in params:
        intent["currency"] = catalog.currency(params["currency"])
    merge_metadata(intent, params.get("metadata"))
    if params.get("payment_method"):
        method = payment_methods.resolve(world, params["payment_method"])
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    return intent


def confirm(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("payment_intent", identifier)
    if intent["status"] not in OPEN:
        raise _unexpected(world, intent, "confirm")
    put(intent, params, "receipt_email", "setup_future_usage", "shipping")
    if params.get("return_url"):
        intent["_return_url"] = params["return_url"]
    return _confirm(world, intent, params)


def _confirm(world: World, intent: Object, params: Params) -> Object:
    given = params.get("payment_method") or intent.get("payment_method")
    if not given:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method.",
            code="payment_intent_unexpected_state",
        )
    if params.get("mandate_data"):
        intent["_mandate"] = f"mandate_{world.store.token(24)}"
    method = payment_methods.resolve(world, given)
    _check_owner(method, intent.get("customer"))
    bank_debits.check_currency(payment_methods.card_of(method), intent["currency"])
    error = payments.confirm(world, intent, method, off_session=bool(params.get("off_session")))
    finish(world, intent, method)
    if error is not None:
        if params.get("error_on_requires_action"):
            error.code = error.code or "authentication_required"
        raise error
    if intent["status"] == "requires_action" and params.get("error_on_requires_action"):
        intent["status"] = "requires_payment_method"
        raise StripeError(
            402,
            "This payment required an authentication action to complete, but `error_on_requires_action` was set.",
            kind="card_error",
            code="authentication_required",
            payment_intent=render(world, intent),
        )
    return intent


def finish(world: World, intent: Object, method: Object | None = None) -> None:
    """What follows a payment: the method is kept if it should be, the invoice is brought up to date."""
    paid = intent["status"] in ("processing", "succeeded", "requires_capture")
    keep = intent.get("setup_future_usage") and intent.get("customer")
    if paid and keep and method is not None and not method.get("customer"):
        payment_methods.attach_to(world, method, intent["customer"])
    collection.settle(world, intent)


def authenticate(world: World, intent: Object, succeeds: bool) -> Object:
    """The payer came back from the bank's page."""
    if intent["status"] != "requires_action":
        raise _unexpected(world, intent, "authenticate")
    method = world.store.get("payment_method", intent["payment_method"])
    if succeeds:
        payments.charge_now(world, intent, method)
    else:
        intent.pop("next_action", None)
        intent.pop("payment_method", None)
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {
            "code": "payment_intent_authentication_failure",
            "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
            "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or "
            "a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
            "payment_method": render(world, method),
            "type": "invalid_request_error",
        }
        world.emit("payment_intent.payment_failed", intent)
    finish(world, intent, method)
    return intent


def capture(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("payment_intent", identifier)
    if intent["status"] != "requires_capture":
        raise _unexpected(world, intent, "capture")
    amount: int = params.get("amount_to_capture", intent["amount_capturable"])
    if not 1 <= amount <= intent["amount_capturable"]:
        raise invalid(
            "The amount to capture is more than what was authorized.", "amount_to_capture", "amount_too_large"
        )
    charge = world.store.get("charge", intent["latest_charge"])
    charge |= {"captured": True, "amount_captured": amount}
    charge["balance_transaction"] = balance.of_charge(world, charge, amount)
    intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
    merge_metadata(intent, params.get("metadata"))
    session = world.store.find("checkout.session", intent.get("_checkout_session"))
    if session is not None:
        session["payment_status"] = "paid"  # no event of the session reports it
    world.emit("charge.captured", charge, {"captured": False, "amount_captured": 0})
    world.emit("payment_intent.succeeded", intent)
    collection.settle(world, intent)
    return intent


def cancel(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("payment_intent", identifier)
    if intent["status"] not in (*OPEN, "requires_capture"):
        raise _unexpected(world, intent, "cancel")
    if intent.get("_invoice"):
        raise invalid("You cannot cancel the PaymentIntent of an invoice: void the invoice instead.")
    charge = world.store.find("charge", intent.get("latest_charge"))
    if intent["status"] == "requires_capture" and charge is not None:
        charge |= {"refunded": True, "amount_refunded": charge["amount"]}
        world.emit("charge.refunded", charge)
    intent.pop("next_action", None)
    intent |= {
        "status": "canceled",
        "amount_capturable": 0,
        "canceled_at": world.wall_time(),
        "cancellation_reason": params.get("cancellation_reason"),
    }
    world.emit("payment_intent.canceled", intent)
    return intent


def _unexpected(world: World, intent: Object, verb: str) -> StripeError:
    return StripeError(
        400,
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=render(world, intent),
    )


def create_charge(world: World, params: Params) -> Object:
    """The old way to pay, with a token: a payment intent does the work and stays behind the scenes."""
    source = params.get("source")
    if not isinstance(source, str):
        raise malformed("Must provide source or customer.", "source", "parameter_missing")
    check_amount(params.get("amount", 0), params.get("currency", "usd"))
    method = payment_methods.resolve(world, source, "source")
    intent: Object = {
        "id": None,
        "amount": params.get("amount"),
        "currency": catalog.currency(params.get("currency")),
        "capture_method": "automatic" if params.get("capture", True) else "manual",
        "metadata": params.get("metadata") or {},
    }
    put(intent, params, "customer", "description", "receipt_email", "statement_descriptor", "transfer_group")
    return payments.bare_charge(world, intent, method)


def capture_charge(world: World, params: Params, identifier: str) -> Object:
    charge = world.store.get("charge", identifier)
    if charge["captured"] or not charge["paid"]:
        raise invalid(f"Charge {identifier} has already been captured.", code="charge_already_captured")
    amount: int = params.get("amount", charge["amount"])
    if not 1 <= amount <= charge["amount"]:
        raise invalid("The amount to capture is more than what was authorized.", "amount", "amount_too_large")
    if charge.get("payment_intent"):
        capture(world, {"amount_to_capture": amount}, charge["payment_intent"])
        return charge
    charge |= {"captured": True, "amount_captured": amount}
    charge["balance_transaction"] = balance.of_charge(world, charge, amount)
    world.emit("charge.captured", charge, {"captured": False, "amount_captured": 0})
    return charge


def update_charge(world: World, params: Params, identifier: str) -> Object:
    charge = world.store.get("charge", identifier)
    with world.updating(charge, "charge.updated"):
        put(charge, params, "customer", "description", "receipt_email", "shipping", "transfer_group")
        merge_metadata(charge, params.get("metadata"))
        report = inside(params, "fraud_details").get("user_report")
        if report is not None:
            charge["fraud_details"] = {"user_report": report} if report else {}
    return charge


def _refunds(state: State, charge: Object) -> Object:
    found = [r for r in state.store.newest_first("refund") if r["charge"] == charge["id"]]
    return page(
        [render(state, refund) for refund in found[:10]],
        f"/v1/charges/{charge['id']}/refunds",
        len(found) > 10,
    )


INCLUDABLE[("charge", "refunds")] = _refunds
