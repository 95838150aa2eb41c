"""Refunds and cancellations that were decided on because of fraud → done at Stripe, once.

An action's idempotency key is a UUID of its row, which the metadata of the refund that it makes has too. It asks for
all that is left of the charge, and that is there once: a repeated request, after a crash or a lost answer, is refused
as already refunded, and the refund is found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import stripe as stripe_sdk
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.jobs.handler import Handler, stripe_delay_seconds
from worker.jobs.queue import Job, columns
from worker.stripe_api import Retry, StripeAccess, Trouble, is_replayed, key_of_step

# Metadata of our refunds: the action that each belongs to.
ACTION = "tillbase_fraud_action"

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class FraudAction:
    """A request to Stripe. `was_in_doubt`: an earlier request was sent, and its answer is unknown."""

    msg_id: int
    id: int
    idempotency_key: UUID
    action: str
    stripe_charge_id: str | None
    stripe_subscription_id: str | None
    attempts: int
    was_in_doubt: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of an attempt, as record_fraud_action takes it; `queued` is retried later."""

    outcome: Literal["done", "failed", "queued"]
    reason: str | None = None
    stripe_refund_id: str | None = None
    is_in_doubt: bool = False


class FraudActions(Handler[FraudAction, Answer]):
    def __init__(self, stripe: StripeAccess) -> None:
        self._stripe = stripe

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, FraudAction]:
        with conn.cursor(row_factory=class_row(FraudAction)) as cursor:
            found = cursor.execute(
                "select msg_id, id, idempotency_key, action, stripe_charge_id, stripe_subscription_id, attempts, "
                "was_in_doubt from billing.begin_fraud_actions(msg_ids => %s, ids => %s)",
                columns(jobs),
            ).fetchall()
        return {action.msg_id: action for action in found}

    def do(self, job: Job, task: FraudAction) -> Answer:
        return act(self._stripe, task)

    def record(self, conn: Connection[Any], job: Job, task: FraudAction, answer: Answer) -> None:
        _record(conn, task, answer, stripe_delay_seconds(job))
        outcome = "delayed" if answer.outcome == "queued" else answer.outcome
        metrics.FRAUD_ACTIONS.labels(task.action, outcome).inc()
        if answer.outcome == "done":
            log.info("fraud_action_done", **self.describe(task), reason=answer.reason)
        else:
            log.warning(f"fraud_action_{answer.outcome}", **self.describe(task), reason=answer.reason)

    def put_off(
        self, conn: Connection[Any], job: Job, task: FraudAction, reason: str, delay_seconds: int
    ) -> None:
        metrics.FRAUD_ACTIONS.labels(task.action, "put_off").inc()
        _record(conn, task, Answer("queued", reason, is_in_doubt=True), delay_seconds)

    def describe(self, task: FraudAction) -> dict[str, str]:
        about = task.stripe_charge_id or task.stripe_subscription_id
        return {"fraud_action_id": str(task.id), "action": task.action, "about": about or ""}


def act(stripe: StripeAccess, action: FraudAction) -> Answer:
    """Do it, or find that an earlier attempt did it. Never raises."""
    do = _ACTIONS.get(action.action)
    if do is None:
        reason = f"this version of the worker knows no action {action.action}: upgrade it"
        log.error("fraud_action_unknown", fraud_action_id=str(action.id), action=action.action)
        return Answer("queued", reason, is_in_doubt=action.was_in_doubt)
    try:
        return do(stripe, action)
    except Exception as error:
        return _refused(stripe, action, stripe.trouble_of(error))


def _refund(stripe: StripeAccess, action: FraudAction) -> Answer:
    # No amount: the remaining amount, so that Stripe refuses a second refund, even after it has forgotten the key.
    order = {
        "charge": action.stripe_charge_id,
        "reason": "fraudulent",
        "metadata": {ACTION: str(action.idempotency_key)},
    }
    try:
        made = stripe.v1.refunds.create(order, {"idempotency_key": str(action.idempotency_key)})
    except stripe_sdk.APIError as error:
        if not is_replayed(error.headers):
            raise
        # Stripe repeats a failure under the same key.
        made = stripe.v1.refunds.create(order, {"idempotency_key": _key_of_attempt(action)})
    return Answer("done", stripe_refund_id=made.id)


def _cancel(stripe: StripeAccess, action: FraudAction) -> Answer:
    # Canceling twice is harmless; each attempt has its own key, because Stripe would repeat an earlier failure.
    options = {"idempotency_key": _key_of_attempt(action)}
    try:
        stripe.v1.subscriptions.cancel(action.stripe_subscription_id, {}, options)
    except stripe_sdk.InvalidRequestError:
        # Stripe refuses to cancel a subscription that has ended.
        if stripe.v1.subscriptions.retrieve(action.stripe_subscription_id).status != "canceled":
            raise
        return Answer("done", "the subscription had ended already")
    return Answer("done")


# Actions at Stripe; the others of billing.fraud_actions happen in the database.
_ACTIONS: Mapping[str, Callable[[StripeAccess, FraudAction], Answer]] = {
    "refund": _refund,
    "cancel_subscription": _cancel,
}


def _refused(stripe: StripeAccess, action: FraudAction, trouble: Trouble) -> Answer:
    match trouble:
        case Retry():
            return Answer("queued", str(trouble), is_in_doubt=trouble.is_in_doubt or action.was_in_doubt)
        case Trouble(code="charge_already_refunded"):
            ours = _find_refund(stripe, action)
            return Answer("done", None if ours else "the charge was refunded already", ours)
        case Trouble(code="charge_disputed"):
            return Answer("failed", "the charge is disputed")
        case Trouble(code="balance_insufficient"):  # until the next payout
            return Answer("queued", str(trouble), is_in_doubt=action.was_in_doubt)
        case _:
            return Answer("failed", str(trouble))


def _find_refund(stripe: StripeAccess, action: FraudAction) -> str | None:
    """The refund that an earlier attempt of this action created; None if somebody else refunded the charge."""
    try:
        made: list[stripe_sdk.Refund] = stripe.v1.refunds.list(
            {"charge": action.stripe_charge_id, "limit": 100}
        ).data
        for refund in made:
            metadata = refund.metadata
            if metadata and ACTION in metadata and metadata[ACTION] == str(action.idempotency_key):
                return refund.id
    except Exception:  # also an invalid answer; the refund's id is only informative
        return None
    return None


def _record(conn: Connection[Any], action: FraudAction, answer: Answer, delay_seconds: int) -> None:
    conn.execute(
        "select billing.record_fraud_action(msg_id => %s, id => %s, outcome => %s, stripe_refund_id => %s, "
        "reason => %s, is_in_doubt => %s, retry_in_seconds => %s)",
        [
            action.msg_id,
            action.id,
            answer.outcome,
            answer.stripe_refund_id,
            answer.reason,
            answer.is_in_doubt,
            delay_seconds,
        ],
    )


def _key_of_attempt(action: FraudAction) -> str:
    return key_of_step(action.idempotency_key, f"attempt {action.attempts}")
