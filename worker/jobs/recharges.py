"""Claimed recharges → one off-session payment each at Stripe → paid, failed, or waiting for the customer or bank.

A recharge is claimed in the database, by the movement that brought the balance below its threshold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.jobs.handler import Handler, stripe_delay_seconds
from worker.jobs.queue import Job, columns

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Recharge:
    """A payment to request. `was_asked`: an earlier attempt sent it. `barred`: permanently refused payment methods."""

    msg_id: int
    id: UUID
    stripe_customer_id: str
    stripe_price_id: str
    amount: int
    currency: str
    return_url: str | None
    stripe_payment_intent_id: str | None
    was_asked: bool
    first_attempt_at: datetime
    age_seconds: float
    barred: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of the payment; `status` as record_recharge takes it."""

    status: str
    stripe_payment_intent_id: str | None = None
    stripe_payment_method_id: str | None = None
    reason: str | None = None
    is_final: bool = False
    action_url: str | None = None
    audience: str = "customer"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The state of the payment is unknown, and why; the request is repeated later."""

    reason: str


class Recharges(Handler[Recharge, Answer | Unknown]):
    def __init__(self, charge: Callable[[Recharge], Answer | Unknown]) -> None:
        self._charge = charge

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, Recharge]:
        with conn.cursor(row_factory=class_row(Recharge)) as cursor:
            found = cursor.execute(
                "select msg_id, id, stripe_customer_id, stripe_price_id, amount, currency, return_url, "
                "stripe_payment_intent_id, was_asked, first_attempt_at, age_seconds, barred "
                "from billing.begin_recharges(msg_ids => %s, ids => %s)",
                columns(jobs),
            ).fetchall()
        return {recharge.msg_id: recharge for recharge in found}

    def do(self, job: Job, task: Recharge) -> Answer | Unknown:
        return self._charge(task)

    def record(self, conn: Connection[Any], job: Job, task: Recharge, answer: Answer | Unknown) -> None:
        if isinstance(answer, Unknown):
            _delay(conn, task, stripe_delay_seconds(job), answer.reason)
            outcome = "delayed"
        else:
            outcome = _record(conn, task, answer)
        metrics.RECHARGES.labels(outcome).inc()
        told = self.describe(task) | {"outcome": outcome}
        if isinstance(answer, Unknown):
            log.warning("recharge_delayed", **told, reason=answer.reason)
        elif answer.reason is not None:
            log.warning("recharge_stopped", **told, reason=answer.reason)
        else:
            log.info("recharged", **told)

    def put_off(
        self, conn: Connection[Any], job: Job, task: Recharge, reason: str, delay_seconds: int
    ) -> None:
        metrics.RECHARGES.labels("put_off").inc()
        _delay(conn, task, delay_seconds, reason)

    def describe(self, task: Recharge) -> dict[str, str]:
        return {"recharge_id": str(task.id)}


def _record(conn: Connection[Any], recharge: Recharge, answer: Answer) -> str:
    """Record the outcome of a recharge, in one transaction; its new status. Raises psycopg.Error."""
    row = conn.execute(
        "select billing.record_recharge(msg_id => %s, recharge_id => %s, status => %s, "
        "stripe_payment_intent_id => %s, stripe_payment_method_id => %s, reason => %s, is_final => %s, "
        "action_url => %s, audience => %s)",
        [
            recharge.msg_id,
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
        "select billing.delay_recharge(msg_id => %s, recharge_id => %s, delay_seconds => %s, reason => %s)",
        [recharge.msg_id, recharge.id, delay_seconds, reason],
    )
