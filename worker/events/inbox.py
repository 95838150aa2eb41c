"""The queue `stripe_events`: takes messages and lookups, records outcomes. No other module uses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, Cursor
from psycopg.rows import class_row, tuple_row

from worker.events.outcomes import Dead, Done, Fetch, Ignored, Outcome, Parked, Refetch, RetryLater

# Longer than the slowest batch: a message that is still open then is read by another worker, and still applied once.
VISIBILITY_SECONDS = 120
BATCH_SIZE = 50
# Longer than all requests of one lookup: after that the lookup is due again.
LOOKUP_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Message:
    """An event from the queue: `read_ct` counts all reads including this one; `attempts` leaves out excused ones."""

    msg_id: int
    read_ct: int
    attempts: int
    event_id: str
    type: str
    api_version: str | None
    created_at: datetime
    payload: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Lookup:
    """An event that needs data from Stripe: the object of its `tie`, or other objects."""

    message: Message
    tie: Refetch | None


def start(conn: Connection[Any]) -> None:
    """First call of a session: makes messages of dead workers due, and registers this session."""
    conn.execute("select billing.start_worker()")


def hand_back(conn: Connection[Any]) -> None:
    """Make the messages of dead workers due."""
    conn.execute("select billing.hand_back_stripe_events()")


def requeue(conn: Connection[Any]) -> int:
    """Requeue events that lost their message; returns how many."""
    row = conn.execute("select billing.requeue_stripe_events()").fetchone()
    assert row is not None
    return row[0]


def release(conn: Connection[Any], delay_seconds: int = 0) -> None:
    """Make this session's messages due within a number of seconds; their attempts do not count."""
    conn.execute("select billing.release_stripe_events(delay_seconds => %s)", [delay_seconds])


def read(
    conn: Connection[Any], batch_size: int = BATCH_SIZE, due_within_seconds: float | None = None
) -> Cursor[Message]:
    """Take up to a batch of messages, before the transaction that applies them, so that the attempt always counts.

    `due_within_seconds`: only those that became due since then; None: all that are due.
    """
    return conn.cursor(row_factory=class_row(Message)).execute(
        "select msg_id, read_ct, attempts, stripe_event_id as event_id, type, api_version, created_at, payload, "
        "received_at "
        "from billing.read_stripe_events("
        "visibility_seconds => %s, batch_size => %s, due_within_seconds => %s)",
        [VISIBILITY_SECONDS, batch_size, due_within_seconds],
    )


def take_lookups(conn: Connection[Any], lookups_max: int) -> list[Lookup]:
    """Take lookups that are due, for LOOKUP_SECONDS, in a separate transaction."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        return [
            Lookup(Message(*message), None if tie_id is None else Refetch(tie_id, tie_kind))
            for *message, tie_kind, tie_id in cursor.execute(
                "select msg_id, read_ct, attempts, stripe_event_id, type, api_version, created_at, payload, "
                "received_at, tie_kind, tie_stripe_id "
                "from billing.take_stripe_lookups(lookups_max => %s, lease_seconds => %s)",
                [lookups_max, LOOKUP_SECONDS],
            )
        ]


def lock(conn: Connection[Any], messages: Sequence[Message], stripe_customer_ids: Sequence[str]) -> None:
    """Lock events, then accounts, in the order of their ids, so that two batches never deadlock.

    From here on months of credits are postponed: `allocate_postponed` must follow in the same transaction.
    """
    conn.execute(
        "select billing.lock_stripe_events("
        "event_ids => %s, stripe_customer_ids => %s, postpone_months => true)",
        [[message.event_id for message in messages], list(stripe_customer_ids)],
    )


def allocate_postponed(conn: Connection[Any]) -> None:
    """Grant the months of credits that events since `lock` have made due, as one set."""
    conn.execute("select billing.allocate_postponed()")


def settle(conn: Connection[Any], outcomes: Sequence[tuple[Message, Outcome]]) -> None:
    """Record the outcome of each attempt, in the caller's transaction."""
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
            case Fetch():
                _ask_stripe(conn, message, None, None)
            case Refetch(stripe_id, kind):
                _ask_stripe(conn, message, kind, stripe_id)
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


def _ask_stripe(conn: Connection[Any], message: Message, kind: str | None, stripe_id: str | None) -> None:
    conn.execute(
        "select billing.ask_stripe(msg_id => %s, event_id => %s, tie_kind => %s, tie_stripe_id => %s)",
        [message.msg_id, message.event_id, kind, stripe_id],
    )
