"""One batch from the queue to its end: read → normalise → fetch → decide → apply + archive.

A batch is applied in one transaction. When Postgres refuses it, the same jobs are applied one by one, so that a bad
event never takes its neighbours down. Stripe is read only between transactions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from worker import inbox, metrics
from worker.account import read_books
from worker.apply import Job, apply
from worker.commands import Command
from worker.decide import Fetched, decide, needs, reason_to_ignore, sync
from worker.errors import BillingError, UnknownShape
from worker.failures import outcome_of_billing_error, outcome_of_database_error, raise_if_lost
from worker.fetch import Reference, StripeReader
from worker.inbox import Message
from worker.normalise import is_known_api_version, normalise
from worker.objects import StripeEvent
from worker.origin import named_account, reason_of_other_account
from worker.outcomes import Dead, Ignored, Outcome, Refetch

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one message."""

    message: Message
    outcome: Outcome


def drain(conn: Connection[Any], stripe: StripeReader, batch_size: int = inbox.BATCH_SIZE) -> list[Settled]:
    """Take a batch and bring each of its events as far as it goes now.

    Raises psycopg.OperationalError when the connection is lost: what was not committed is read again after the
    visibility time-out.
    """
    messages = inbox.read(conn, batch_size)
    if not messages:
        return []
    of_others = _of_other_accounts(conn, messages)
    read = [(message, of_others.get(message.msg_id) or _normalise(message)) for message in messages]
    # What needs nothing from Stripe does not wait for Stripe.
    ordinary = [(message, event) for message, event in read if not _needs(event)]
    waiting = [(message, event) for message, event in read if _needs(event)]
    settled = _bring(conn, stripe, [_decide(message, event, {}) for message, event in ordinary])
    if waiting:
        fetched = stripe.fetch(stripe_id for _, event in waiting for stripe_id in _needs(event))
        settled += _bring(conn, stripe, [_decide(message, event, fetched) for message, event in waiting])
    return settled


def _needs(event: StripeEvent | Outcome) -> list[str]:
    return needs(event) if isinstance(event, StripeEvent) else []


def _bring(conn: Connection[Any], stripe: StripeReader, jobs: Sequence[Job]) -> list[Settled]:
    outcomes = _settle_ties(conn, stripe, jobs, _apply(conn, jobs))
    return [Settled(job.message, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]


def _of_other_accounts(conn: Connection[Any], messages: Sequence[Message]) -> dict[int, Ignored]:
    """Message id → why it is ignored, for the events of Stripe accounts other than ours."""
    named = {message.msg_id: account for message in messages if (account := named_account(message.payload))}
    if not named:
        return {}
    ours = read_books(conn).stripe_account_id
    return {
        msg_id: Ignored(reason)
        for msg_id, account in named.items()
        if (reason := reason_of_other_account(account, ours))
    }


def _normalise(message: Message) -> StripeEvent | Outcome:
    if message.read_ct == 1 and not is_known_api_version(message.api_version):
        metrics.count_unknown_api_version(message.api_version)
        _warn_of_api_version(message.api_version)
    reason = reason_to_ignore(message.type)
    if reason is not None:
        return Ignored(reason)
    try:
        return normalise(message)
    except UnknownShape as error:
        return Dead(str(error))
    except Exception as error:
        return _bug(message, error)


@cache
def _warn_of_api_version(api_version: str | None) -> None:
    # Once for each version: an endpoint sends all of its events in one.
    log.warning("api_version_unknown", api_version=api_version, hint="upgrade the worker")


def _decide(
    message: Message, event: StripeEvent | Outcome, fetched: Mapping[str, Fetched | BillingError]
) -> Job:
    if not isinstance(event, StripeEvent):
        return Job(message, outcome=event)
    answers: dict[str, Fetched] = {}
    for stripe_id in needs(event):
        answer = fetched[stripe_id]
        if isinstance(answer, BillingError):
            return Job(message, outcome=outcome_of_billing_error(answer, message.read_ct))
        answers[stripe_id] = answer
    return _job(message, lambda: decide(event, answers))


def _job(message: Message, commands: Callable[[], list[Command]]) -> Job:
    try:
        return Job(message, commands=commands())
    except UnknownShape as error:
        return Job(message, outcome=Dead(str(error)))
    except Exception as error:
        return Job(message, outcome=_bug(message, error))


def _bug(message: Message, error: Exception) -> Outcome:
    # Our own mistake, so the next attempt would end the same; the event waits for the version that mends it.
    log.exception("event_not_understood", event_id=message.event_id, type=message.type)
    return Dead(f"{type(error).__name__}: {error}. Upgrade the worker, then retry the event.")


def _apply(conn: Connection[Any], jobs: Sequence[Job]) -> list[Outcome]:
    if len(jobs) > 1:
        try:
            return apply(conn, jobs)
        except psycopg.Error as error:
            raise_if_lost(conn, error)
            log.info("batch_split", size=len(jobs), sqlstate=error.sqlstate)
    return [_apply_alone(conn, job) for job in jobs]


def _apply_alone(conn: Connection[Any], job: Job) -> Outcome:
    try:
        return apply(conn, [job])[0]
    except psycopg.Error as error:
        raise_if_lost(conn, error)
        outcome = outcome_of_database_error(error, job.message.attempts)
    return apply(conn, [Job(job.message, outcome=outcome)])[0]


def _settle_ties(
    conn: Connection[Any], stripe: StripeReader, jobs: Sequence[Job], outcomes: Sequence[Outcome]
) -> list[Outcome]:
    """Where only Stripe can tell which of two states is later, read the object and apply that instead."""
    ties = {_reference(outcome) for outcome in outcomes if isinstance(outcome, Refetch)}
    if not ties:
        return list(outcomes)
    fetched = stripe.fetch_objects(ties)
    return [
        _settle_tie(conn, job, outcome, fetched[_reference(outcome)])
        if isinstance(outcome, Refetch)
        else outcome
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]


def _reference(tie: Refetch) -> Reference:
    return Reference(tie.kind, tie.stripe_id)


def _settle_tie(conn: Connection[Any], job: Job, tie: Refetch, answer: Fetched | BillingError) -> Outcome:
    if isinstance(answer, BillingError):
        settled = Job(job.message, outcome=outcome_of_billing_error(answer, job.message.read_ct))
    elif answer.as_of <= job.message.created_at:
        # Stripe answered within the very second in question, or by a clock that is behind: only a later answer can
        # settle it.
        settled = Job(job.message, outcome=tie)
    else:
        settled = _job(job.message, lambda: [sync(answer.object, answer.as_of, is_fetched=True)])
    outcome = _apply_alone(conn, settled)
    if isinstance(outcome, Refetch) and settled.outcome is None:
        apply(conn, [Job(job.message, outcome=tie)])
    return outcome
