"""One batch of the queue: read → normalise → decide → apply + archive. batches.py goes on with the next.

A batch is applied in one transaction. If Postgres refuses it, the same jobs are applied one by one, so that a bad
event does not stop the others. Events that need data from Stripe continue in lookups.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from worker import metrics
from worker.account import read_installation
from worker.errors import UnknownShape
from worker.events import inbox
from worker.events.apply import Applied, Following, Job, apply
from worker.events.commands import Command
from worker.events.decide import decide, needs, reason_to_ignore
from worker.events.failures import (
    ATTEMPTS_MAX,
    is_of_installation,
    outcome_of_database_error,
    raise_if_lost,
)
from worker.events.inbox import Message
from worker.events.normalise import is_known_api_version, normalise
from worker.events.objects import StripeEvent
from worker.events.origin import named_account, reason_of_other_account
from worker.events.outcomes import Dead, Fetch, Ignored, Outcome, Parked, RetryLater

# After a fault of the installation; spread out, so that an event that causes it alone does not delay the others.
RELEASE_SECONDS = 10

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of one message."""

    message: Message
    outcome: Outcome


def drain(conn: Connection[Any], batch_size: int = inbox.BATCH_SIZE) -> list[Settled]:
    """Take one batch and process it; raises as `settle` does."""
    return settle(conn, prepare(conn, inbox.read(conn, batch_size).fetchall()))[0]


def prepare(conn: Connection[Any], messages: Sequence[Message]) -> list[Job]:
    """What each message needs: commands, or an outcome without any."""
    of_others = _of_other_accounts(conn, messages)
    for message in messages:
        _count_api_version(message)
    return [_job(message, of_others.get(message.msg_id) or normalised(message)) for message in messages]


def settle(
    conn: Connection[Any], jobs: Sequence[Job], following: Following | None = None
) -> tuple[list[Settled], list[Job] | None]:
    """Process each event as far as possible without Stripe. Returns also the jobs of the batch that was read meanwhile;
    None: none was read.

    Raises psycopg.Error if the connection is lost, and for a fault of the installation. Uncommitted events are read
    again, and the attempt does not count if the fault is the installation's.
    """
    if not jobs:
        return [], None
    applied = _apply(conn, jobs, following)
    settled = [Settled(job.message, outcome) for job, outcome in zip(jobs, applied.outcomes, strict=True)]
    return settled, applied.following


def report(settled: Iterable[Settled]) -> None:
    """Count how attempts ended, and log what a person may want to know."""
    now = datetime.now(UTC)
    for item in settled:
        metrics.count(item.outcome)
        metrics.time_lag(item.outcome, item.message.received_at, now)
        told = {"event_id": item.message.event_id, "type": item.message.type}
        match item.outcome:
            case Dead(reason):
                log.error("event_dead", **told, reason=reason)
            case Parked(waiting_for, reason):
                log.warning("event_parked", **told, waiting_for=waiting_for, reason=reason)
            case RetryLater(delay_seconds, reason):
                log.warning("event_delayed", **told, delay_seconds=delay_seconds, reason=reason)
            case _:
                pass


def _of_other_accounts(conn: Connection[Any], messages: Sequence[Message]) -> dict[int, Ignored]:
    """Message id → reason, for the events of other Stripe accounts, which are ignored."""
    named = {message.msg_id: account for message in messages if (account := named_account(message.payload))}
    if not named:
        return {}
    ours = read_installation(conn).stripe_account_id
    return {
        msg_id: Ignored(reason)
        for msg_id, account in named.items()
        if (reason := reason_of_other_account(account, ours))
    }


def normalised(message: Message) -> StripeEvent | Outcome:
    """A message's event; or its outcome, if it is ignored or cannot be read."""
    if message.attempts > ATTEMPTS_MAX:
        # No attempt ended: the event crashes the worker.
        return Dead(
            f"the worker crashed on each of {ATTEMPTS_MAX} attempts at this event. "
            "Read its log, upgrade it, then retry the event."
        )
    reason = reason_to_ignore(message.type)
    if reason is not None:
        return Ignored(reason)
    try:
        return normalise(message)
    except UnknownShape as error:
        return Dead(str(error))
    except Exception as error:
        return _bug(message, error)


def _count_api_version(message: Message) -> None:
    if message.read_ct == 1 and not is_known_api_version(message.api_version):
        metrics.count_unknown_api_version(message.api_version)
        _warn_of_api_version(message.api_version)


@cache
def _warn_of_api_version(api_version: str | None) -> None:
    # Once for each version: an endpoint sends all of its events in one.
    log.warning("api_version_unknown", api_version=api_version, hint="upgrade the worker")


def _job(message: Message, event: StripeEvent | Outcome) -> Job:
    if not isinstance(event, StripeEvent):
        return Job(message, outcome=event)
    if needs(event):
        return Job(message, outcome=Fetch())
    return job_of(message, lambda: decide(event, {}))


def job_of(message: Message, commands: Callable[[], list[Command]]) -> Job:
    """The job of a message that needs nothing from Stripe; or its outcome, if there are no commands."""
    try:
        return Job(message, commands=commands())
    except UnknownShape as error:
        return Job(message, outcome=Dead(str(error)))
    except Exception as error:
        return Job(message, outcome=_bug(message, error))


def _bug(message: Message, error: Exception) -> Outcome:
    # A bug of ours: the next attempt would fail too, so the event waits for a fixed version.
    log.exception("event_not_understood", event_id=message.event_id, type=message.type)
    return Dead(f"{type(error).__name__}: {error}. Upgrade the worker, then retry the event.")


def _apply(conn: Connection[Any], jobs: Sequence[Job], following: Following | None) -> Applied:
    try:
        if len(jobs) > 1:
            try:
                return apply(conn, jobs, following)
            except psycopg.Error as error:
                raise_if_lost(conn, error)
                if is_of_installation(error):
                    raise
                log.info("batch_split", size=len(jobs), sqlstate=error.sqlstate)
        return Applied([apply_alone(conn, job) for job in jobs])
    except psycopg.Error as error:
        raise_if_lost(conn, error)
        _release(conn)
        raise


def apply_alone(conn: Connection[Any], job: Job) -> Outcome:
    """Apply one job. Raises psycopg.Error when the connection is lost, and for a fault of the installation."""
    try:
        return apply(conn, [job]).outcomes[0]
    except psycopg.Error as error:
        raise_if_lost(conn, error)
        if is_of_installation(error):
            raise
        outcome = outcome_of_database_error(error, job.message.attempts)
    return apply(conn, [Job(job.message, outcome=outcome)]).outcomes[0]


def _release(conn: Connection[Any]) -> None:
    try:
        inbox.release(conn, RELEASE_SECONDS)
    except psycopg.Error as error:  # nothing can be written: the messages come back after their time-out
        raise_if_lost(conn, error)
