"""Recharges that are due ← the database → what became of them: the rows, before Stripe is asked and after."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from worker.events.failures import STRIPE_BACKOFF_MAX_SECONDS, backoff_seconds

# At most five requests of Stripe for each recharge.
LEASE_SECONDS = 150


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


def take(conn: Connection[Any], recharges_max: int) -> list[Recharge]:
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
        delay(conn, recharge, delay_seconds, answer.reason)
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


def delay(conn: Connection[Any], recharge: Recharge, delay_seconds: int, reason: str) -> None:
    """Put a recharge off."""
    conn.execute(
        "select billing.delay_recharge(recharge_id => %s, delay_seconds => %s, reason => %s)",
        [recharge.id, delay_seconds, reason],
    )
