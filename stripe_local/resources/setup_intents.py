"""Setup intents: a payment method is kept for later, with the payer's authentication where the bank asks."""

from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.render import render
from stripe_local.resources import payment_methods, payments
from stripe_local.resources.cards import MESSAGES
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World, merge_metadata, put

OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(world: World, params: Params) -> Object:
    identifier = world.store.new_id("setup_intent")
    if params.get("customer"):
        world.store.get("customer", params["customer"], "customer")
    intent = world.store.add(
        "setup_intent",
        {
            "id": identifier,
            "automatic_payment_methods": {"allow_redirects": "always", "enabled": True}
            | inside(params, "automatic_payment_methods"),
            "client_secret": f"{identifier}_secret_{world.store.token(25)}",
            "created": world.wall_time(),
            "metadata": {},
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            "usage": params.get("usage", "off_session"),
            "_return_url": params.get("return_url"),
        },
    )
    put(intent, params, "customer", "description")
    merge_metadata(intent, params.get("metadata"))
    if params.get("payment_method"):
        method = payment_methods.resolve(world, params["payment_method"])
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    world.emit("setup_intent.created", intent)
    return confirm(world, {}, identifier) if params.get("confirm") else intent


def update(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("setup_intent", identifier)
    put(intent, params, "customer", "description")
    merge_metadata(intent, params.get("metadata"))
    if params.get("payment_method"):
        method = payment_methods.resolve(world, params["payment_method"])
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    return intent


def confirm(world: World, params: Params, identifier: str, *, authenticated: bool = False) -> Object:
    intent = world.store.get("setup_intent", identifier)
    if intent["status"] not in OPEN:
        raise _unexpected(world, intent, "confirm")
    given = params.get("payment_method") or intent.get("payment_method")
    if not given:
        raise invalid(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
        )
    method = payment_methods.resolve(world, given)
    intent["payment_method"] = method["id"]
    card = payment_methods.card_of(method)
    if params.get("return_url"):
        intent["_return_url"] = params["return_url"]
    if card.decline and not card.attaches and card.kind == "card":
        raise _declined(world, intent, method, *card.decline)
    if card.authentication != "never" and not authenticated:
        intent["status"] = "requires_action"
        intent["next_action"] = payments.next_action(world, intent, "setup_intents")
        world.emit("setup_intent.requires_action", intent)
        return intent
    return _succeed(world, intent, method)


def _succeed(world: World, intent: Object, method: Object) -> Object:
    intent.pop("next_action", None)
    intent.pop("last_setup_error", None)
    if intent.get("customer"):
        payment_methods.attach_to(world, method, intent["customer"])
    method["_set_up"] = True
    intent["status"] = "succeeded"
    world.emit("setup_intent.succeeded", intent)
    return intent


def _declined(world: World, intent: Object, method: Object, code: str, decline_code: str) -> StripeError:
    error: dict[str, Any] = {
        "code": code,
        "decline_code": decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": MESSAGES[decline_code],
        "payment_method": render(world, method),
        "type": "card_error",
    }
    intent |= {"status": "requires_payment_method", "last_setup_error": error}
    intent.pop("payment_method", None)
    world.emit("setup_intent.setup_failed", intent)
    details: dict[str, Any] = {"decline_code": decline_code} if code == "card_declined" else {}
    return StripeError(
        402,
        MESSAGES[decline_code],
        kind="card_error",
        code=code,
        setup_intent=render(world, intent),
        **details,
    )


def authenticate(world: World, intent: Object, succeeds: bool) -> Object:
    """The payer came back from the bank's page."""
    if intent["status"] != "requires_action":
        raise _unexpected(world, intent, "authenticate")
    method = world.store.get("payment_method", intent["payment_method"])
    if succeeds:
        return _succeed(world, intent, method)
    intent.pop("next_action", None)
    intent.pop("payment_method", None)
    intent["status"] = "requires_payment_method"
    intent["last_setup_error"] = {
        "code": "setup_intent_authentication_failure",
        "doc_url": "https://stripe.com/docs/error-codes/setup-intent-authentication-failure",
        "message": "The provided PaymentMethod has failed authentication.",
        "payment_method": render(world, method),
        "type": "invalid_request_error",
    }
    world.emit("setup_intent.setup_failed", intent)
    return intent


def cancel(world: World, params: Params, identifier: str) -> Object:
    intent = world.store.get("setup_intent", identifier)
    if intent["status"] not in OPEN:
        raise _unexpected(world, intent, "cancel")
    intent.pop("next_action", None)
    intent |= {"status": "canceled", "cancellation_reason": params.get("cancellation_reason")}
    world.emit("setup_intent.canceled", intent)
    return intent


def _unexpected(world: World, intent: Object, verb: str) -> StripeError:
    return StripeError(
        400,
        f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}.",
        code="setup_intent_unexpected_state",
        setup_intent=render(world, intent),
    )
