"""Events that need data from Stripe: take → fetch, in threads → decide → apply + archive.

Stripe may be slow or unavailable for any time: these events wait, and nothing waits for them.
"""

from collections.abc import Iterable
from typing import Any

from psycopg import Connection

from worker.errors import BillingError
from worker.events import inbox
from worker.events.apply import Job
from worker.events.decide import Fetched, decide, needs, sync
from worker.events.drain import Settled, apply_alone, job_of, normalised, report
from worker.events.failures import STRIPE_BACKOFF_MAX_SECONDS, outcome_of_billing_error
from worker.events.fetch import Reference, StripeReader
from worker.events.inbox import Lookup
from worker.events.objects import StripeEvent
from worker.events.outcomes import RetryLater
from worker.jobs.errands import Errands

# If Stripe answers in 150 ms, about forty events a second.
PARALLEL_LOOKUPS = 8
TAKE_SECONDS = 0.1


class Lookups(Errands[Lookup, Job]):
    """Takes lookups that are due, reads from Stripe in the background, and applies what was decided."""

    name = "lookup"
    threads = tasks_max = PARALLEL_LOOKUPS
    take_seconds = TAKE_SECONDS

    def __init__(self, reader: StripeReader) -> None:
        super().__init__()
        self._reader = reader

    def take(self, conn: Connection[Any], tasks_max: int) -> list[Lookup]:
        return inbox.take_lookups(conn, tasks_max)

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

    def settle(self, conn: Connection[Any], task: Lookup, answer: Job) -> None:
        report([Settled(task.message, apply_alone(conn, answer))])

    def put_off(self, conn: Connection[Any], task: Lookup, reason: str) -> None:
        delayed = RetryLater(STRIPE_BACKOFF_MAX_SECONDS, reason, excused=True)
        apply_alone(conn, Job(task.message, outcome=delayed))

    def describe(self, task: Lookup) -> dict[str, str]:
        return {"event_id": task.message.event_id, "type": task.message.type}


def look_up(conn: Connection[Any], lookups: Lookups) -> Iterable[Settled]:
    """Process the lookups that are due, one after the other, in this thread."""
    for task in lookups.take(conn, PARALLEL_LOOKUPS):
        yield Settled(task.message, apply_alone(conn, lookups.do(task)))
