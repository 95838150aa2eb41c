"""Recharges that are due → one off-session payment each at Stripe → paid, failed, or waiting for somebody.

A recharge is claimed in the database, by the movement that brought the balance below its threshold. Stripe is asked
outside any transaction, in a thread of its own, so that the queue never waits for a bank. What is asked for is frozen
in the recharge's row and its id is the idempotency key: dying anywhere in between ends in the same payment, because
whoever takes the recharge next looks for that payment first.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import psycopg
import stripe
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.failures import STRIPE_BACKOFF_MAX_SECONDS, backoff_seconds, raise_if_lost

RECHARGE_SECONDS = 1.0
PARALLEL_CHARGES = 4
REQUEST_TIMEOUT_SECONDS = 20
# At most five requests for each recharge.
LEASE_SECONDS = 150
# Stripe forgets an idempotency key after a day at the earliest: from here on a payment is looked for, never made.
KEY_SECONDS = 20 * 3600
# What is listed of a customer's payments starts that much before we first asked, by our clock.
CLOCK_LEEWAY_SECONDS = 3600
# A recharge that Postgres refuses to settle waits for a person, and is tried again meanwhile.
REFUSED_SECONDS = 900

# The issuer will not have this card charged again; to try is to be fined by the networks.
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
# Somebody else held the account's lock: the app's own transaction, or another worker.
_CONTENTION = {"40001", "40P01", "55P03"}

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Recharge:
    """A payment to ask for. `barred` are payment methods that were refused for good."""

    id: UUID
    stripe_customer_id: str
    stripe_price_id: str
    amount: int
    currency: str
    return_url: str | None
    stripe_payment_intent_id: str | None
    attempts: int
    first_attempt_at: datetime
    age_seconds: float
    barred: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of the payment now: `status` as settle_recharge takes it."""

    status: str
    stripe_payment_intent_id: str | None = None
    stripe_payment_method_id: str | None = None
    reason: str | None = None
    is_final: bool = False
    action_url: str | None = None
    audience: str = "customer"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known yet, and why; asked for again later."""

    reason: str


def take(conn: Connection[Any], recharges_max: int = PARALLEL_CHARGES) -> list[Recharge]:
    """Take recharges that are due, for LEASE_SECONDS, in a transaction of its own."""
    with conn.cursor(row_factory=class_row(Recharge)) as cursor:
        return cursor.execute(
            "select id, stripe_customer_id, stripe_price_id, amount, currency, return_url, stripe_payment_intent_id, "
            "attempts, first_attempt_at, age_seconds, barred "
            "from billing.take_recharges(recharges_max => %s, lease_seconds => %s)",
            [recharges_max, LEASE_SECONDS],
        ).fetchall()


def settle(conn: Connection[Any], recharge: Recharge, answer: Answer | Unknown) -> str:
    """Write down what became of a recharge, in one transaction; its status then. Raises psycopg.Error."""
    if isinstance(answer, Unknown):
        delay_seconds = min(backoff_seconds(recharge.attempts), STRIPE_BACKOFF_MAX_SECONDS)
        _delay(conn, recharge, delay_seconds, answer.reason)
        return "delayed"
    row = conn.execute(
        "select billing.settle_recharge(recharge_id => %s, status => %s, stripe_payment_intent_id => %s, "
        "stripe_payment_method_id => %s, reason => %s, is_final => %s, action_url => %s, audience => %s)",
        [
            recharge.id,
            answer.status,
            answer.stripe_payment_intent_id,
            answer.stripe_payment_method_id,
            answer.reason,
            answer.is_final,
            answer.action_url,
            answer.audience,
        ],
    ).fetchone()
    assert row is not None
    return row[0]


def _delay(conn: Connection[Any], recharge: Recharge, delay_seconds: int, reason: str) -> None:
    conn.execute(
        "select billing.delay_recharge(recharge_id => %s, delay_seconds => %s, reason => %s)",
        [recharge.id, delay_seconds, reason],
    )


class Charger:
    """Asks Stripe for payments; makes a client when the first one is needed."""

    def __init__(
        self, api_key: str | None, api_base: str | None, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    ) -> None:
        self._api_key = api_key
        self._api_base = api_base
        self._timeout_seconds = timeout_seconds
        self._client: stripe.StripeClient | None = None

    def charge(self, recharge: Recharge) -> Answer | Unknown:
        """Make the recharge's one payment, or find it where it was made before. Never raises."""
        try:
            return self._charge(recharge)
        except stripe.IdempotencyError as error:
            # Asked for before with another payment method, and no payment came of it.
            return Unknown(_told(error))
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            return Unknown(f"{_told(error)} (check STRIPE_API_KEY and its permissions)")
        except stripe.RateLimitError as error:
            return Unknown(_told(error))
        except stripe.InvalidRequestError as error:
            reason = error.code or "invalid_request"
            return Answer(
                "failed", recharge.stripe_payment_intent_id, reason=reason, audience="administrators"
            )
        except stripe.StripeError as error:
            return Unknown(_told(error))
        except Exception as error:  # an answer that is none of Stripe's, such as a proxy's page
            return Unknown(f"{type(error).__name__}: {error}")

    def _charge(self, recharge: Recharge) -> Answer | Unknown:
        if self._api_key is None:
            return Unknown("STRIPE_API_KEY is not set, and a recharge is a payment at Stripe")
        if recharge.attempts > 1:
            found = self._find(recharge)
            if found is not None:
                return self._answer(recharge, found)
            if recharge.age_seconds > KEY_SECONDS:
                return Answer("failed", reason="no_answer", audience="administrators")
        method = self._default_method(recharge.stripe_customer_id)
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
            intent = self._v1().payment_intents.create(
                cast("Any", _order(recharge, method)), {"idempotency_key": str(recharge.id)}
            )
        except stripe.CardError as error:
            return self._declined(recharge, error)
        return self._answer(recharge, intent)

    def _find(self, recharge: Recharge) -> stripe.PaymentIntent | None:
        """The payment that an earlier attempt made, if any did. Listing is not searching: it is never behind."""
        if recharge.stripe_payment_intent_id is not None:
            return self._v1().payment_intents.retrieve(recharge.stripe_payment_intent_id)
        since = int(recharge.first_attempt_at.timestamp()) - CLOCK_LEEWAY_SECONDS
        made = self._v1().payment_intents.list(
            {"customer": recharge.stripe_customer_id, "created": {"gte": since}, "limit": 100}
        )
        for intent in made.auto_paging_iter():
            if "recharge_id" in intent.metadata and intent.metadata["recharge_id"] == str(recharge.id):
                return intent
        return None

    def _default_method(self, customer_id: str) -> str | None:
        customer = self._v1().customers.retrieve(customer_id)
        settings = customer.invoice_settings if "invoice_settings" in customer else None
        method = settings.default_payment_method if settings else None
        return method if isinstance(method, str) or method is None else method.id

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
        # The same payment again, now with the customer there: Stripe answers with the bank's page.
        try:
            intent = self._v1().payment_intents.confirm(
                intent_id,
                {"payment_method": method, "return_url": recharge.return_url},
                {"idempotency_key": f"{recharge.id}:authenticate"},
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

    def _v1(self) -> Any:
        if self._client is None:
            self._client = stripe.StripeClient(
                cast("str", self._api_key),
                base_addresses={"api": self._api_base} if self._api_base else None,
                # Each attempt is one of ours, with its own look for what was made before.
                max_network_retries=0,
                http_client=stripe.RequestsClient(timeout=self._timeout_seconds),
            )
        return self._client.v1


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
    # Stripe wants to know where a page that it might need would lead back to, or that there is none.
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


def _told(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"


class Recharger:
    """Takes what is due, has it charged in the background, and writes down what became of it, on one connection."""

    def __init__(self, charge: Callable[[Recharge], Answer | Unknown]) -> None:
        self._charge = charge
        self._pool = ThreadPoolExecutor(PARALLEL_CHARGES, thread_name_prefix="recharge")
        self._in_hand: dict[Future[Answer | Unknown], Recharge] = {}
        self._next_seconds = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> None:
        """Settle what was answered, and take what is due if it is time to, by a monotonic clock.

        A refusal is logged and a later tick tries again. Raises psycopg.Error when the connection is lost: what was in
        hand stays in hand, and is settled on the next one.
        """
        self._settle_answered(conn)
        if now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + RECHARGE_SECONDS
        free = PARALLEL_CHARGES - len(self._in_hand)
        if free == 0:
            return
        try:
            taken = take(conn, free)
        except psycopg.Error as error:
            raise_if_lost(conn, error)
            _log_refusal("recharges_not_taken", error)
            return
        for recharge in taken:
            self._in_hand[self._pool.submit(self._charge, recharge)] = recharge

    def finish(self, conn: Connection[Any]) -> None:
        """Wait for what is in hand and settle it. Raises psycopg.Error when the connection is lost."""
        wait(self._in_hand, timeout=REQUEST_TIMEOUT_SECONDS)
        self._settle_answered(conn)

    def close(self) -> None:
        """Take no more. What is still in hand is taken again, by whoever is there, when its time is over."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _settle_answered(self, conn: Connection[Any]) -> None:
        for future in [future for future in self._in_hand if future.done()]:
            recharge, answer = self._in_hand[future], future.result()
            try:
                outcome = settle(conn, recharge, answer)
            except psycopg.Error as error:
                raise_if_lost(conn, error)
                _log_refusal("recharge_not_settled", error, recharge_id=str(recharge.id))
                if error.sqlstate in _CONTENTION:
                    continue  # it stays in hand until the next tick
                metrics.RECHARGES.labels("refused").inc()
                _delay(conn, recharge, REFUSED_SECONDS, str(error.diag.message_primary))
            else:
                metrics.RECHARGES.labels(outcome).inc()
                _report(recharge, answer, outcome)
            del self._in_hand[future]


def _log_refusal(event: str, error: psycopg.Error, **told: str) -> None:
    log.warning(event, **told, error=error.diag.message_primary, sqlstate=error.sqlstate)


def _report(recharge: Recharge, answer: Answer | Unknown, outcome: str) -> None:
    told = {"recharge_id": str(recharge.id), "outcome": outcome}
    if isinstance(answer, Unknown):
        log.warning("recharge_delayed", **told, reason=answer.reason)
    elif answer.reason is not None:
        log.warning("recharge_stopped", **told, reason=answer.reason)
    else:
        log.info("recharged", **told)
