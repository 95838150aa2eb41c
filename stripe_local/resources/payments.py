"""A payment intent and a payment method → a charge, its events, and what the test card does afterwards."""

from collections.abc import Callable
from typing import Any

from stripe_local.errors import StripeError
from stripe_local.render import render
from stripe_local.resources import balance, disputes, radar
from stripe_local.resources.cards import MESSAGES, TestCard
from stripe_local.resources.payment_methods import card_of
from stripe_local.store import Object
from stripe_local.world import World

# What begins a bank debit.
DEBIT: list[Callable[[World, Object, Object, TestCard], None]] = []
# An authorization that is not captured by then is given up.
CAPTURE_WITHIN_SECONDS = 7 * 86_400
RISK_SCORES = {"normal": 18, "elevated": 68, "highest": 92}
STATEMENT_DESCRIPTOR = "LOCAL STRIPE"


def new_intent(world: World, fields: Object) -> Object:
    """A payment intent that waits for its payment method, announced."""
    identifier = world.store.new_id("payment_intent")
    intent = world.store.add(
        "payment_intent",
        {
            "id": identifier,
            "amount_capturable": 0,
            "amount_received": 0,
            "amount_details": {"tip": {}},
            "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
            "capture_method": "automatic_async",
            "client_secret": f"{identifier}_secret_{world.store.token(25)}",
            "confirmation_method": "automatic",
            # Payments happen in real time also when the customer hangs on a test clock.
            "created": world.wall_time(),
            "metadata": {},
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            **fields,
        },
    )
    world.emit("payment_intent.created", intent)
    return intent


def outcome(world: World, card: TestCard, intent: Object) -> Object:
    """Radar's and the issuer's outcome of a payment with this card."""
    risk: Object = {"risk_level": card.risk_level, "risk_score": RISK_SCORES[card.risk_level]}
    if card.decline == ("card_declined", "fraudulent") or (
        card.risk_level == "highest" and world.settings.block_highest_risk
    ):
        return risk | {
            "network_status": "not_sent_to_network",
            "reason": "highest_risk_level",
            "rule": "block_if_high_risk",
            "seller_message": "Stripe blocked this payment as too risky.",
            "type": "blocked",
        }
    if card.decline and card.kind == "card":
        code, decline_code = card.decline
        return risk | {
            "advice_code": "try_again_later" if decline_code == "insufficient_funds" else "do_not_try_again",
            "network_advice_code": "02",
            "network_decline_code": "05",
            "network_status": "declined_by_network",
            "reason": decline_code if code == "card_declined" else code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    approved: Object = {
        "network_status": "approved_by_network",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if card.after == "review":
        approved |= {
            "type": "manual_review",
            "reason": "elevated_risk_level",
            "rule": "manual_review_if_elevated_risk",
        }
    return risk | approved


def _new_charge(world: World, intent: Object, method: Object, result: Object) -> Object:
    card, succeeded = card_of(method), result["type"] in ("authorized", "manual_review")
    manual = intent["capture_method"] == "manual"
    waits = card.kind != "card"
    charge = world.store.add(
        "charge",
        {
            "amount": intent["amount"],
            "amount_captured": 0 if manual or not succeeded else intent["amount"],
            "amount_refunded": 0,
            "billing_details": method["billing_details"],
            "calculated_statement_descriptor": STATEMENT_DESCRIPTOR,
            "captured": succeeded and not manual,
            "created": world.wall_time(),
            "currency": intent["currency"],
            "customer": intent.get("customer"),
            "description": intent.get("description"),
            "disputed": False,
            "fraud_details": {},
            "metadata": dict(intent["metadata"]),
            "outcome": result,
            "paid": succeeded and not waits,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": _details(world, intent, method, succeeded=succeeded),
            "receipt_email": intent.get("receipt_email"),
            "refunded": False,
            "statement_descriptor": intent.get("statement_descriptor"),
            "status": "pending" if waits and succeeded else "succeeded" if succeeded else "failed",
            "transfer_group": intent.get("transfer_group"),
            "_number": card.number,
        },
    )
    if charge["captured"] and not waits:
        charge["balance_transaction"] = balance.of_charge(world, charge, charge["amount"])
    if succeeded:
        charge["receipt_url"] = f"{world.base_url}/receipts/{charge['id']}"
    return charge


def _details(world: World, intent: Object, method: Object, *, succeeded: bool) -> Object:
    """What the charge says of the card or the account."""
    kind: str = method["type"]
    shown: Object = method[kind]
    if kind != "card":
        keys = ("account_holder_type", "account_type", "bank_code", "bank_name", "branch_code", "country",
                "fingerprint", "last4", "routing_number")  # fmt: skip
        known = {key: shown[key] for key in keys if key in shown}
        mandate: str = intent.get("_mandate") or f"mandate_{world.store.token(24)}"
        return {"type": kind, kind: known | {"mandate": mandate}}
    return {
        "type": "card",
        "card": {
            "amount_authorized": intent["amount"] if succeeded else None,
            "authorization_code": f"{world.store.random.randrange(10**6):06}" if succeeded else None,
            "brand": shown["brand"],
            "checks": {"cvc_check": "pass"},
            "country": shown["country"],
            "exp_month": shown["exp_month"],
            "exp_year": shown["exp_year"],
            "extended_authorization": {"status": "disabled"},
            "fingerprint": shown["fingerprint"],
            "funding": shown["funding"],
            "incremental_authorization": {"status": "unavailable"},
            "last4": shown["last4"],
            "multicapture": {"status": "unavailable"},
            "network": shown["brand"],
            "network_token": {"used": False},
            "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
            "regulated_status": "unregulated",
        },
    }


def confirm(
    world: World, intent: Object, method: Object, *, off_session: bool, authenticated: bool = False
) -> StripeError | None:
    """Try to pay. None when it succeeded or waits for the payer; else the card error, not yet raised."""
    card = card_of(method)
    intent["payment_method"] = method["id"]
    intent.pop("last_payment_error", None)
    if not authenticated and needs_authentication(card, method, off_session):
        if off_session:
            return _fail(world, intent, method, "authentication_required", "authentication_required")
        intent["status"] = "requires_action"
        intent["next_action"] = next_action(world, intent, "payment_intents")
        world.emit("payment_intent.requires_action", intent)
        return None
    return charge_now(world, intent, method)


def needs_authentication(card: TestCard, method: Object, off_session: bool) -> bool:
    """Whether the payer's bank wants to see the payer."""
    if card.authentication == "always":
        return True
    if card.authentication == "on_setup":
        return not method.get("_set_up")
    return card.authentication == "on_session" and not off_session


def next_action(world: World, intent: Object, family: str) -> Object:
    """Where the payer authenticates: a page of the emulator."""
    url = f"{world.base_url}/authenticate/{family}/{intent['id']}"
    if intent.get("_return_url"):
        return {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": intent["_return_url"], "url": url},
        }
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}


def charge_now(world: World, intent: Object, method: Object) -> StripeError | None:
    """Charge the card, authenticated or not in need of it."""
    card = card_of(method)
    result = outcome(world, card, intent)
    intent.pop("next_action", None)
    if result["type"] in ("issuer_declined", "blocked"):
        code, decline_code = card.decline or ("card_declined", "fraudulent")
        return _fail(world, intent, method, code, decline_code, result)
    if card.kind not in intent["payment_method_types"]:
        intent["payment_method_types"] = [*intent["payment_method_types"], card.kind]
    charge = _new_charge(world, intent, method, result)
    intent["latest_charge"] = charge["id"]
    if intent.get("setup_future_usage") == "off_session":
        method["_set_up"] = True
    if card.kind != "card":
        DEBIT[0](world, intent, charge, card)
        return None
    if intent["capture_method"] == "manual":
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        world.emit("charge.succeeded", charge)
        world.emit("payment_intent.amount_capturable_updated", intent)
        at = world.wall_time() + CAPTURE_WITHIN_SECONDS
        world.schedule(None, at, lambda: _expire(world, intent, charge))
        return None
    intent |= {"status": "succeeded", "amount_received": intent["amount"]}
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    return None


def _expire(world: World, intent: Object, charge: Object) -> None:
    if intent["status"] != "requires_capture":
        return
    charge |= {"refunded": True, "amount_refunded": charge["amount"]}
    intent |= {
        "status": "canceled",
        "amount_capturable": 0,
        "canceled_at": world.wall_time(),
        "cancellation_reason": "automatic",
    }
    world.emit("charge.expired", charge)
    world.emit("payment_intent.canceled", intent)


def bare_charge(world: World, order: Object, method: Object) -> Object:
    """A charge without a payment intent, as POST /v1/charges makes it."""
    card = card_of(method)
    result = outcome(world, card, order)
    charge = _new_charge(world, order, method, result)
    if result["type"] in ("issuer_declined", "blocked"):
        code, decline_code = card.decline or ("card_declined", "fraudulent")
        charge |= {"failure_code": code, "failure_message": MESSAGES[decline_code]}
        world.emit("charge.failed", charge)
        details = {"decline_code": decline_code} if code == "card_declined" else {}
        raise StripeError(
            402, MESSAGES[decline_code], kind="card_error", code=code, charge=charge["id"], **details
        )
    world.emit("charge.succeeded", charge)
    _after_charge(world, charge)
    return charge


def afterwards(world: World, intent: Object) -> None:
    """Warnings, disputes and reviews of the test card; called after the payment is recorded."""
    charge = world.store.find("charge", intent.get("latest_charge"))
    if charge is not None and charge["status"] == "succeeded" and not charge.get("_afterwards"):
        _after_charge(world, charge)


def _after_charge(world: World, charge: Object) -> None:
    charge["_afterwards"] = True
    after = card_of(charge).after
    if after == "early_fraud_warning":
        radar.warn(world, charge, "made_with_stolen_card")
    elif after == "review":
        radar.open_review(world, charge, "rule")
    elif after == "inquiry":
        disputes.open_dispute(world, charge, "fraudulent", inquiry=True)
    elif after == "taken back":
        disputes.finish(world, disputes.open_dispute(world, charge, "debit_not_authorized"), "lost")
    elif after.startswith("dispute:"):
        disputes.open_dispute(world, charge, after.removeprefix("dispute:"))


def _fail(
    world: World, intent: Object, method: Object, code: str, decline_code: str, result: Object | None = None
) -> StripeError:
    charge: Object | None = None
    if result is not None:
        charge = _new_charge(world, intent, method, result)
        charge |= {"failure_code": code, "failure_message": MESSAGES[decline_code]}
        intent["latest_charge"] = charge["id"]
    error: dict[str, Any] = {"code": code, "message": MESSAGES[decline_code], "type": "card_error"}
    error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
    if charge is not None:
        error["charge"] = charge["id"]
        error["advice_code"] = charge["outcome"].get("advice_code", "do_not_try_again")
    if code in ("card_declined", "authentication_required"):
        error["decline_code"] = decline_code
    intent["status"] = "requires_payment_method"
    intent.pop("payment_method", None)
    intent["last_payment_error"] = {**error, "payment_method": render(world, method)}
    if charge is not None:
        world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)
    details = {key: error[key] for key in ("advice_code", "charge", "decline_code") if key in error}
    return StripeError(
        402,
        MESSAGES[decline_code],
        kind="card_error",
        code=code,
        **details,
        payment_intent=render(world, intent),
        payment_method=render(world, method),
    )
