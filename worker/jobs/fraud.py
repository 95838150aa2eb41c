"""Refunds and cancellations that were decided on because of fraud → done at Stripe, once, and written down.

An action's idempotency key is a UUID of its row, which the metadata of the refund that it makes has too. It asks for
all that is left of the charge, and that is there once: whoever asks again, after a death or a lost answer, is told so
and finds its refund.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast
from uuid import UUID

import stripe
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.events.failures import BACKOFF_MAX_SECONDS, STRIPE_BACKOFF_MAX_SECONDS, backoff_seconds
from worker.jobs.errands import REQUEST_TIMEOUT_SECONDS, Errands
from worker.stripe_api import key_of_step, stripe_client

# At most three requests for each action.
LEASE_SECONDS = 90
# Metadata of the refunds that we made: the action that each was made for.
ACTION = "tillbase_fraud_action"

# What Stripe refuses until something changes that may change by itself.
_PASSING = frozenset({"lock_timeout", "balance_insufficient", "idempotency_key_in_use"})

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class FraudAction:
    """What to ask Stripe for. `was_in_doubt`: an earlier attempt may have been done, its answer lost."""

    id: int
    idempotency_key: UUID
    action: str
    stripe_charge_id: str | None
    stripe_subscription_id: str | None
    attempts: int
    was_in_doubt: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended: `outcome` as settle_fraud_action takes it; `queued` is tried again later."""

    outcome: Literal["done", "failed", "queued"]
    reason: str | None = None
    stripe_refund_id: str | None = None
    is_in_doubt: bool = False


def take(conn: Connection[Any], actions_max: int) -> list[FraudAction]:
    """Take actions that are due, for LEASE_SECONDS, in a transaction of its own."""
    with conn.cursor(row_factory=class_row(FraudAction)) as cursor:
        return cursor.execute(
            "select id, idempotency_key, action, stripe_charge_id, stripe_subscription_id, attempts, was_in_doubt "
            "from billing.take_fraud_actions(actions_max => %s, lease_seconds => %s)",
            [actions_max, LEASE_SECONDS],
        ).fetchall()


def settle(conn: Connection[Any], action: FraudAction, answer: Answer) -> None:
    """Write down what became of an action, or when it is tried again. Raises psycopg.Error."""
    put_off(conn, action, answer, min(backoff_seconds(action.attempts), STRIPE_BACKOFF_MAX_SECONDS))


def put_off(conn: Connection[Any], action: FraudAction, answer: Answer, seconds: int) -> None:
    """The same, tried again in so many seconds if it is to be."""
    conn.execute(
        "select billing.settle_fraud_action(id => %s, outcome => %s, stripe_refund_id => %s, reason => %s, "
        "is_in_doubt => %s, retry_in_seconds => %s)",
        [action.id, answer.outcome, answer.stripe_refund_id, answer.reason, answer.is_in_doubt, seconds],
    )


class Enforcer:
    """Asks Stripe; makes a client when the first action is there."""

    def __init__(
        self,
        api_key: str | None,
        api_base: str | None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        is_our_key: Callable[[], bool] = lambda: True,
    ) -> None:
        self._api_key = api_key
        self._api_base = api_base
        self._timeout_seconds = timeout_seconds
        self._is_our_key = is_our_key

    def act(self, action: FraudAction) -> Answer:
        """Refund or cancel, or find that it was done before. Never raises."""
        if self._api_key is None:
            reason = "STRIPE_API_KEY is not set, and a refund or a cancellation is Stripe's to do"
            return Answer("queued", reason, is_in_doubt=action.was_in_doubt)
        try:
            return self._refund(action) if action.action == "refund" else self._cancel(action)
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            reason = f"{_told(error)} (check STRIPE_API_KEY and its permissions)"
            return Answer("queued", reason, is_in_doubt=action.was_in_doubt)
        except (stripe.RateLimitError, stripe.IdempotencyError) as error:
            return Answer("queued", _told(error), is_in_doubt=action.was_in_doubt)
        except stripe.InvalidRequestError as error:
            return self._refused(action, error)
        except stripe.StripeError as error:
            return Answer("queued", _told(error), is_in_doubt=True)
        except Exception as error:  # an answer that is none of Stripe's, such as a proxy's page
            return Answer("queued", f"{type(error).__name__}: {error}", is_in_doubt=True)

    def _refund(self, action: FraudAction) -> Answer:
        # No amount: all that is left, so that Stripe refuses to do it twice, also when it has forgotten the key.
        order = {
            "charge": action.stripe_charge_id,
            "reason": "fraudulent",
            "metadata": {ACTION: str(action.idempotency_key)},
        }
        try:
            made = self._v1.refunds.create(order, {"idempotency_key": str(action.idempotency_key)})
        except stripe.APIError as error:
            if not _is_replayed(error):
                raise
            # Stripe keeps a failure for its key.
            made = self._v1.refunds.create(order, {"idempotency_key": _key_of_attempt(action)})
        return Answer("done", stripe_refund_id=made.id)

    def _cancel(self, action: FraudAction) -> Answer:
        # To cancel twice is to cancel once; a key of each attempt's own, for Stripe would repeat an earlier failure.
        options = {"idempotency_key": _key_of_attempt(action)}
        try:
            self._v1.subscriptions.cancel(action.stripe_subscription_id, {}, options)
        except stripe.InvalidRequestError:
            # Stripe finds no subscription to cancel in one that has ended.
            if self._v1.subscriptions.retrieve(action.stripe_subscription_id).status != "canceled":
                raise
            return Answer("done", "the subscription had ended already")
        return Answer("done")

    def _refused(self, action: FraudAction, error: stripe.InvalidRequestError) -> Answer:
        match error.code:
            case "charge_already_refunded":
                ours = self._find_refund(action)
                return Answer("done", None if ours else "the charge was refunded already", ours)
            case "charge_disputed":
                return Answer("failed", "the charge is disputed")
            case code if code in _PASSING:
                return Answer("queued", _told(error), is_in_doubt=action.was_in_doubt)
            case "resource_missing" if not self._is_our_key():
                reason = f"{_told(error)} (it is not known yet whose key STRIPE_API_KEY is)"
                return Answer("queued", reason, is_in_doubt=action.was_in_doubt)
            case _:
                return Answer("failed", _told(error))

    def _find_refund(self, action: FraudAction) -> str | None:
        """The refund that an earlier attempt of this action made, where somebody else did not make it."""
        try:
            made: list[stripe.Refund] = self._v1.refunds.list(
                {"charge": action.stripe_charge_id, "limit": 100}
            ).data
        except stripe.StripeError:
            return None  # it is only to say which one
        for refund in made:
            metadata = refund.metadata
            if metadata and ACTION in metadata and metadata[ACTION] == str(action.idempotency_key):
                return refund.id
        return None

    @cached_property
    def _v1(self) -> Any:
        return stripe_client(cast("str", self._api_key), self._api_base, self._timeout_seconds).v1


class FraudFighter(Errands[FraudAction, Answer]):
    """Takes what was decided on, has it done in the background, and writes down what became of it."""

    name = "fraud_action"

    def __init__(self, act: Callable[[FraudAction], Answer]) -> None:
        super().__init__()
        self._act = act

    def take(self, conn: Connection[Any], tasks_max: int) -> list[FraudAction]:
        return take(conn, tasks_max)

    def do(self, task: FraudAction) -> Answer:
        return self._act(task)

    def settle(self, conn: Connection[Any], task: FraudAction, answer: Answer) -> None:
        settle(conn, task, answer)
        metrics.FRAUD_ACTIONS.labels(
            task.action, "delayed" if answer.outcome == "queued" else answer.outcome
        ).inc()
        if answer.outcome == "done":
            log.info("fraud_action_done", **self.describe(task), reason=answer.reason)
        else:
            log.warning(f"fraud_action_{answer.outcome}", **self.describe(task), reason=answer.reason)

    def put_off(self, conn: Connection[Any], task: FraudAction, reason: str) -> None:
        metrics.FRAUD_ACTIONS.labels(task.action, "refused").inc()
        put_off(conn, task, Answer("queued", reason, is_in_doubt=True), BACKOFF_MAX_SECONDS)

    def describe(self, task: FraudAction) -> dict[str, str]:
        about = task.stripe_charge_id if task.action == "refund" else task.stripe_subscription_id
        return {"fraud_action_id": str(task.id), "action": task.action, "about": about or ""}


def _key_of_attempt(action: FraudAction) -> str:
    return key_of_step(action.idempotency_key, f"attempt {action.attempts}")


def _is_replayed(error: stripe.APIError) -> bool:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return headers.get("idempotent-replayed") == "true"


def _told(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"
