"""The queue `stripe_events`: take messages, and put down how each attempt ended. The only module that names it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from worker.outcomes import Dead, Done, Ignored, Outcome, Parked, Refetch, RetryLater

# Longer than the slowest batch: what is still unsettled then is read by another worker, and applied once all the same.
VISIBILITY_SECONDS = 120
BATCH_SIZE = 50
# A state that only Stripe can settle is asked for again when Stripe's clock shows another second.
REFETCH_DELAY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Message:
    """An event taken from the queue: `read_ct` times, this one counted; `attempts` leaves out the excused ones."""

    msg_id: int
    read_ct: int
    attempts: int
    event_id: str
    type: str
    api_version: str | None
    created_at: datetime
    payload: str


def read(conn: Connection[Any], batch_size: int = BATCH_SIZE) -> list[Message]:
    """Take up to a batch of messages, in a transaction of its own, so that the attempt always counts."""
    with conn.cursor(row_factory=class_row(Message)) as cursor:
        return cursor.execute(
            "select msg_id, read_ct, attempts, stripe_event_id as event_id, type, api_version, created_at, payload "
            "from billing.read_stripe_events(visibility_seconds => %s, batch_size => %s)",
            [VISIBILITY_SECONDS, batch_size],
        ).fetchall()


def lock(conn: Connection[Any], messages: Sequence[Message], stripe_customer_ids: Sequence[str]) -> None:
    """Lock events, then accounts, in the order of their ids: two batches never wait for each other in a circle.

    From here on months of credits are postponed: `allocate_postponed` must follow in the same transaction.
    """
    conn.execute(
        "select billing.lock_stripe_events("
        "event_ids => %s, stripe_customer_ids => %s, postpone_months => true)",
        [[message.event_id for message in messages], list(stripe_customer_ids)],
    )


def allocate_postponed(conn: Connection[Any]) -> None:
    """Grant the months of credits that the events between `lock` and this have made due, in one set."""
    conn.execute("select billing.allocate_postponed()")


def settle(conn: Connection[Any], outcomes: Sequence[tuple[Message, Outcome]]) -> None:
    """Write down how each attempt ended, in the caller's transaction."""
    final: list[tuple[int, str, str, str | None, str | None]] = []
    for message, outcome in outcomes:
        match outcome:
            case Done():
                final.append((message.msg_id, message.event_id, "applied", None, None))
            case Ignored(reason):
                final.append((message.msg_id, message.event_id, "ignored", reason, None))
            case Parked(waiting_for, reason):
                final.append((message.msg_id, message.event_id, "parked", reason, waiting_for))
            case Dead(reason, waiting_for):
                final.append((message.msg_id, message.event_id, "dead", reason, waiting_for))
            case RetryLater(delay_seconds, reason, excused):
                _delay(conn, message, delay_seconds, reason, excused)
            case Refetch(stripe_id, _):
                reason = f"only Stripe can tell which state of {stripe_id} is later; it is asked again"
                _delay(conn, message, REFETCH_DELAY_SECONDS, reason, excused=True)
    if final:
        conn.execute(
            "select billing.settle_stripe_events("
            "msg_ids => %s::bigint[], event_ids => %s::text[], statuses => %s::text[], reasons => %s::text[], "
            "waiting_for => %s::text[])",
            [list(column) for column in zip(*final, strict=True)],
        )


def _delay(conn: Connection[Any], message: Message, delay_seconds: int, reason: str, excused: bool) -> None:
    conn.execute(
        "select billing.delay_stripe_event("
        "msg_id => %s, event_id => %s, delay_seconds => %s, reason => %s, excused => %s)",
        [message.msg_id, message.event_id, delay_seconds, reason, excused],
    )
