"""A recharge → its one off-session payment at Stripe: created, or found if an earlier attempt created it.

The recharge's row has fixed parameters, and its id is the idempotency key. If the worker dies in between, there is
still one payment, because the next attempt first searches for that payment.
"""

from typing import Any, cast

import stripe

from worker.jobs.recharges import Answer, Recharge, Unknown
from worker.stripe_api import Refused, StripeAccess, key_of_step

# Stripe forgets an idempotency key after a day at the earliest: later, a payment is only searched for, never created.
KEY_SECONDS = 20 * 3600
# The list of a customer's payments starts this long before the first request, by our clock.
CLOCK_LEEWAY_SECONDS = 3600

# The issuer forbids further charges to this card; card networks fine merchants who retry.
NEVER_AGAIN = frozenset(
    {
        "do_not_honor",
        "fraudulent",
        "lost_card",
        "merchant_blacklist",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "security_violation",
        "stolen_card",
        "stop_payment_order",
        "transaction_not_allowed",
    }
)
_AUTHENTICATION = "authentication_required"


class Charger:
    """Creates and finds payments at Stripe."""

    def __init__(self, stripe: StripeAccess) -> None:
        self._stripe = stripe

    def charge(self, recharge: Recharge) -> Answer | Unknown:
        """Create the recharge's one payment, or find it if an earlier attempt created it. Never raises."""
        try:
            return self._charge(recharge)
        except Exception as error:
            trouble = self._stripe.trouble_of(error)
            if isinstance(trouble, Refused):
                reason = trouble.code or "invalid_request"
                return Answer(
                    "failed", recharge.stripe_payment_intent_id, reason=reason, audience="administrators"
                )
            # Also if an earlier request named another payment method and created no payment.
            return Unknown(str(trouble))

    def _charge(self, recharge: Recharge) -> Answer | Unknown:
        if recharge.was_asked:
            found = self._find(recharge)
            if found is not None:
                return self._answer(recharge, found)
            if recharge.age_seconds > KEY_SECONDS:
                return Answer("failed", reason="no_answer", audience="administrators")
        method = self._method(recharge)
        if method is None:
            return Answer("failed", reason="no_payment_method")
        if method in recharge.barred:
            return Answer(
                "failed",
                stripe_payment_method_id=method,
                reason="payment_method_refused_before",
                is_final=True,
            )
        try:
            intent = self._stripe.v1.payment_intents.create(
                cast("Any", _order(recharge, method)), {"idempotency_key": str(recharge.id)}
            )
        except stripe.CardError as error:
            return self._declined(recharge, error)
        return self._answer(recharge, intent)

    def _find(self, recharge: Recharge) -> stripe.PaymentIntent | None:
        """The payment that an earlier attempt created, if any. A list is always current, unlike Stripe's search."""
        if recharge.stripe_payment_intent_id is not None:
            return self._stripe.v1.payment_intents.retrieve(recharge.stripe_payment_intent_id)
        since = int(recharge.first_attempt_at.timestamp()) - CLOCK_LEEWAY_SECONDS
        made = self._stripe.v1.payment_intents.list(
            {"customer": recharge.stripe_customer_id, "created": {"gte": since}, "limit": 100}
        )
        for intent in made.auto_paging_iter():
            if "recharge_id" in intent.metadata and intent.metadata["recharge_id"] == str(recharge.id):
                return intent
        return None

    def _method(self, recharge: Recharge) -> str | None:
        """The customer's default; without one, the card that was saved last. Paying for a pack saves a card, but not
        as the default."""
        customer = self._stripe.v1.customers.retrieve(recharge.stripe_customer_id)
        settings = customer.invoice_settings if "invoice_settings" in customer else None
        default = _id(settings.default_payment_method) if settings else None
        if default is not None or "deleted" in customer:
            return default
        saved = self._stripe.v1.customers.payment_methods.list(
            recharge.stripe_customer_id, {"type": "card", "limit": 100}
        )
        methods: list[str] = [method.id for method in saved.data]
        return next((method for method in methods if method not in recharge.barred), None) or (
            methods[0] if methods else None
        )

    def _answer(self, recharge: Recharge, intent: stripe.PaymentIntent) -> Answer | Unknown:
        method = _id(intent.payment_method)
        match intent.status:
            case "succeeded":
                return Answer("paid", intent.id, method)
            case "processing":
                return Answer("charging", intent.id, method)
            case "requires_action":
                return _to_authenticate(intent, method)
            case "canceled":
                return Answer("failed", intent.id, method, "canceled")
            case "requires_payment_method" if intent.last_payment_error is not None:
                error = intent.last_payment_error
                method = method or _id(error.payment_method if "payment_method" in error else None)
                code = _text(error, "decline_code") or _text(error, "code") or "card_declined"
                return self._refused(recharge, intent.id, method, code, _text(error, "advice_code"))
            case status:
                return Unknown(f"{intent.id} is {status}")

    def _declined(self, recharge: Recharge, error: stripe.CardError) -> Answer | Unknown:
        told = error.error
        intent = told.payment_intent if told is not None and "payment_intent" in told else None
        if intent is None:
            return Answer("failed", reason=error.code or "card_declined")
        return self._answer(recharge, intent)

    def _refused(
        self, recharge: Recharge, intent_id: str, method: str | None, code: str, advice: str | None
    ) -> Answer | Unknown:
        if code != _AUTHENTICATION:
            is_final = code in NEVER_AGAIN or advice == "do_not_try_again"
            return Answer("failed", intent_id, method, code, is_final)
        if recharge.return_url is None or method is None:
            return Answer("requires_action", intent_id, method, code)
        # The same payment again, now with the customer present: Stripe answers with the bank's page.
        try:
            intent = self._stripe.v1.payment_intents.confirm(
                intent_id,
                {"payment_method": method, "return_url": recharge.return_url},
                {"idempotency_key": key_of_step(recharge.id, "authenticate")},
            )
        except stripe.CardError as error:
            return Answer("failed", intent_id, method, _decline(error))
        if intent.status == "requires_action":
            return _to_authenticate(intent, method)
        return (
            self._answer(recharge, intent)
            if intent.status != "requires_payment_method"
            else Answer("failed", intent_id, method, code)
        )


def _order(recharge: Recharge, method: str) -> dict[str, Any]:
    order: dict[str, Any] = {
        "amount": recharge.amount,
        "currency": recharge.currency,
        "customer": recharge.stripe_customer_id,
        "payment_method": method,
        "off_session": True,
        "confirm": True,
        "description": "Automatic recharge",
        "metadata": {"recharge_id": str(recharge.id), "price": recharge.stripe_price_id},
    }
    # Stripe needs an address to return to from the bank's page, or to know that there is none.
    if recharge.return_url is not None:
        return order | {"return_url": recharge.return_url}
    return order | {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}


def _to_authenticate(intent: stripe.PaymentIntent, method: str | None) -> Answer:
    action = intent.next_action
    redirect = action.redirect_to_url if action is not None and "redirect_to_url" in action else None
    return Answer(
        "requires_action", intent.id, method, _AUTHENTICATION, action_url=redirect.url if redirect else None
    )


def _decline(error: stripe.CardError) -> str:
    told: Any = error.error
    return (_text(told, "decline_code") if told is not None else None) or error.code or "card_declined"


def _text(told: Any, key: str) -> str | None:
    return told[key] if key in told and isinstance(told[key], str) else None


def _id(found: Any) -> str | None:
    return found if found is None or isinstance(found, str) else found.id
