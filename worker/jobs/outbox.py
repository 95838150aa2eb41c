"""The outbox `billing.notifications`: messages to send, and their outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from worker.jobs.queue import Job, columns


@dataclass(frozen=True, slots=True)
class Notification:
    """A message to send. A digest stands for `digest_size` of them, and has the payloads of the `first` few.

    `email` is where the customer reads mail now. `delivered_to` are channels that took it in an earlier attempt.
    """

    msg_id: int
    id: int
    audience: str
    kind: str
    account_id: UUID | None
    payload: dict[str, Any]
    attempts: int
    delivered_to: list[str]
    digest_size: int | None
    first: list[dict[str, Any]] | None
    email: str | None
    created_at: datetime

    @property
    def key(self) -> str:
        """The same for each attempt, and for no other message of any installation."""
        return f"notification-{self.id}-{self.created_at.timestamp() * 1e6:.0f}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt; queued: it is retried."""

    status: Literal["delivered", "queued", "skipped", "dead"]
    delivered_to: tuple[str, ...] = ()
    reason: str | None = None
    retry_in_seconds: int = 0


def begin(conn: Connection[Any], jobs: Sequence[Job]) -> list[Notification]:
    """The messages of these jobs to send now, in one transaction."""
    with conn.cursor(row_factory=class_row(Notification)) as cursor:
        return cursor.execute(
            "select msg_id, id, audience, kind, account_id, payload, attempts, delivered_to, digest_size, first, "
            "email, created_at from billing.begin_notifications(msg_ids => %s, ids => %s)",
            columns(jobs),
        ).fetchall()


def record(conn: Connection[Any], notification: Notification, outcome: Outcome) -> str | None:
    """Record the outcome of a message; its new status, None if another worker has it. Raises psycopg.Error."""
    row = conn.execute(
        "select billing.record_notification(msg_id => %s, notification_id => %s, attempts => %s, "
        "delivered_to => %s::text[], status => %s, retry_in_seconds => %s, reason => %s)",
        [
            notification.msg_id,
            notification.id,
            notification.attempts,
            list(outcome.delivered_to),
            outcome.status,
            outcome.retry_in_seconds,
            outcome.reason,
        ],
    ).fetchone()
    return None if row is None else row[0]
