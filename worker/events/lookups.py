"""Events that need data from Stripe: take → fetch, in threads → decide → apply + archive.

Stripe may be slow or unavailable for any time: these events wait, and nothing waits for them.
"""

from collections.abc import Iterable
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from worker.background import Background
from worker.errors import BillingError
from worker.events import inbox
from worker.events.apply import Job
from worker.events.decide import Fetched, decide, needs, sync
from worker.events.drain import Settled, apply_alone, job_of, normalised, report
from worker.events.failures import STRIPE_BACKOFF_MAX_SECONDS, outcome_of_billing_error, raise_if_fatal
from worker.events.fetch import Reference, StripeReader
from worker.events.inbox import Lookup
from worker.events.objects import StripeEvent
from worker.events.outcomes import RetryLater
from worker.traces import span

# If Stripe answers in 150 ms, about forty events a second.
PARALLEL_LOOKUPS = 8
TAKE_SECONDS = 0.1

log = structlog.stdlib.get_logger()


class Lookups:
    """Takes lookups that are due, reads from Stripe in the background, and applies what was decided."""

    def __init__(self, reader: StripeReader) -> None:
        self._reader = reader
        self._background = Background[Lookup, Job]("lookup", PARALLEL_LOOKUPS)
        self._next_seconds = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> None:
        """Apply what was answered, and take what is due if it is time to, by a monotonic clock.

        A refusal is logged and a later tick tries again. Raises psycopg.Error when the connection is lost: what was in
        hand stays in hand, and is applied on the next one.
        """
        self._settle_answered(conn)
        if now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + TAKE_SECONDS
        free = PARALLEL_LOOKUPS - len(self._background.tasks)
        if free == 0:
            return
        try:
            taken = inbox.take_lookups(conn, free)
        except psycopg.Error as error:
            raise_if_fatal(conn, error)
            log.warning("lookups_not_taken", error=error.diag.message_primary, sqlstate=error.sqlstate)
            return
        for task in taken:
            self._background.start(task, lambda task=task: self._traced(task))

    def stop(self, conn: Connection[Any]) -> None:
        """Nothing is left to others: each lookup in hand has a thread."""

    def finish(self, conn: Connection[Any], until_seconds: float) -> None:
        """Wait for what is in hand and apply it. Raises psycopg.Error when the connection is lost."""
        self._background.wait(until_seconds)
        self._settle_answered(conn)

    def close(self) -> None:
        """Take no more."""
        self._background.close()

    def _traced(self, task: Lookup) -> Job:
        message = task.message
        with span("look up", **{"tillbase.event_ids": [message.event_id], "tillbase.types": [message.type]}):
            return self.do(task)

    def do(self, task: Lookup) -> Job:
        message = task.message
        event = normalised(message)
        if not isinstance(event, StripeEvent):
            return Job(message, outcome=event)
        if task.tie is not None:
            return self._settle_tie(task, Reference(task.tie.kind, task.tie.stripe_id))
        fetched: dict[str, Fetched] = {}
        for stripe_id, answer in self._reader.fetch(needs(event)).items():
            if isinstance(answer, BillingError):
                return Job(message, outcome=outcome_of_billing_error(answer, message.read_ct))
            fetched[stripe_id] = answer
        return job_of(message, lambda: decide(event, fetched))

    def _settle_tie(self, task: Lookup, reference: Reference) -> Job:
        """If only Stripe can tell which of two states is newer, the object's current state is applied instead."""
        message = task.message
        answer = self._reader.fetch_object(reference)
        if isinstance(answer, BillingError):
            return Job(message, outcome=outcome_of_billing_error(answer, message.read_ct))
        if answer.as_of <= message.created_at:
            # Stripe answered within the same second, or by a clock that is behind: only a later answer can decide.
            return Job(message, outcome=task.tie)
        return job_of(message, lambda: [sync(answer.object, answer.as_of, is_fetched=True)])

    def _settle_answered(self, conn: Connection[Any]) -> None:
        def settle(task: Lookup, answer: Job) -> None:
            report([Settled(task.message, apply_alone(conn, answer))])

        def refuse(task: Lookup, error: psycopg.Error) -> None:
            reason = str(error.diag.message_primary)
            told = {"event_id": task.message.event_id, "type": task.message.type}
            log.warning("lookup_not_settled", **told, error=reason, sqlstate=error.sqlstate)
            delayed = RetryLater(STRIPE_BACKOFF_MAX_SECONDS, reason, excused=True)
            apply_alone(conn, Job(task.message, outcome=delayed))

        self._background.settle(conn, settle, refuse)


def look_up(conn: Connection[Any], lookups: Lookups) -> Iterable[Settled]:
    """Process the lookups that are due, one after the other, in this thread."""
    for task in inbox.take_lookups(conn, PARALLEL_LOOKUPS):
        yield Settled(task.message, apply_alone(conn, lookups.do(task)))
