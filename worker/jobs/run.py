"""Jobs that are due → done in threads by the handler of their kind → recorded on the worker's connection.

One poll takes jobs of every kind. Stripe and mail servers are asked outside any transaction, so events never wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from worker.background import Background
from worker.events.failures import CONTENTION, raise_if_fatal
from worker.jobs import queue
from worker.jobs.charge import Charger
from worker.jobs.emails import Emails
from worker.jobs.fraud import FraudActions
from worker.jobs.handler import Handler
from worker.jobs.links import Links
from worker.jobs.notify import Notifier
from worker.jobs.overages import Overages
from worker.jobs.queue import Job
from worker.jobs.recharges import Recharges
from worker.stripe_api import StripeAccess

TAKE_SECONDS = 1.0
REPORT_UNKNOWN_SECONDS = 60.0
# A job that Postgres refuses needs a person; until then it is retried.
REFUSED_SECONDS = 900

log = structlog.stdlib.get_logger()


def handlers(stripe: StripeAccess, notifier: Notifier) -> dict[str, Handler[Any, Any]]:
    """The handler of each kind of job, of those that billing.job_kind names."""
    return {
        "payment_link": Links(stripe),
        "email_change": Emails(stripe),
        "fraud_action": FraudActions(stripe),
        "recharge": Recharges(Charger(stripe).charge),
        "overage": Overages(stripe),
        "administrators_notification": notifier,
        "customer_notification": notifier,
    }


@dataclass(slots=True)
class InHand:
    """A job in a thread."""

    job: Job
    task: Any


class Jobs:
    """Takes jobs of the kinds that it has handlers for. `known`: kinds that other workers may do."""

    def __init__(self, by_kind: Mapping[str, Handler[Any, Any]], known: Sequence[str] = ()) -> None:
        self._handlers = dict(by_kind)
        self._known = [*by_kind, *known]
        self._in_hand = {
            kind: Background[InHand, Any](kind, handler.threads) for kind, handler in by_kind.items()
        }
        self._next_seconds = self._next_unknown_seconds = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> None:
        """Record outcomes, and take due jobs if it is time for that, by a monotonic clock.

        A refusal is logged and a later tick tries again. Raises psycopg.Error when the connection is lost: what was in
        hand stays in hand, and is recorded on the next one.
        """
        self._record_answered(conn)
        if now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + TAKE_SECONDS
        try:
            if now_seconds >= self._next_unknown_seconds:
                self._next_unknown_seconds = now_seconds + REPORT_UNKNOWN_SECONDS
                self._report_unknown(conn)
            room = self._room()
            jobs = queue.take(conn, room) if room else []
        except psycopg.Error as error:
            raise_if_fatal(conn, error)
            _log_refusal("jobs_not_taken", error)
            return
        for kind, found in groupby(sorted(jobs, key=lambda job: job.kind), key=lambda job: job.kind):
            self._begin(conn, kind, list(found))

    def stop(self, conn: Connection[Any]) -> None:
        """Release jobs that no thread has begun. Raises psycopg.Error if the connection is lost."""
        for kind, background in self._in_hand.items():
            for each in background.cancel():
                self._put_off(conn, kind, each, "the worker stopped before it was done", 0)

    def finish(self, conn: Connection[Any], until_seconds: float) -> None:
        """Wait for running jobs and record them. Raises psycopg.Error if the connection is lost."""
        for background in self._in_hand.values():
            background.wait(until_seconds)
        self._record_answered(conn)

    def close(self) -> None:
        """Start no more jobs. Jobs that are still running are released when the session ends."""
        for background in self._in_hand.values():
            background.close()

    def _room(self) -> dict[str, int]:
        """Kind → how many more of its jobs may be taken."""
        return {
            kind: room
            for kind, handler in self._handlers.items()
            if (room := handler.jobs_max - len(self._in_hand[kind].tasks)) > 0
        }

    def _begin(self, conn: Connection[Any], kind: str, jobs: list[Job]) -> None:
        handler, background = self._handlers[kind], self._in_hand[kind]
        # After a lost connection a job may come back to this worker while a thread still does it.
        doing = {each.job.msg_id: each for each in background.tasks}
        for job in jobs:
            if job.msg_id in doing:
                doing[job.msg_id].job = job
        jobs = [job for job in jobs if job.msg_id not in doing]
        if not jobs:
            return
        try:
            tasks = handler.begin(conn, jobs)
        except psycopg.Error as error:
            raise_if_fatal(conn, error)
            self._not_begun(conn, kind, jobs, error)
            return
        for job in jobs:
            if job.msg_id in tasks:
                task = tasks[job.msg_id]
                background.start(InHand(job, task), lambda job=job, task=task: handler.do(job, task))
        over = [job for job in jobs if job.msg_id not in tasks]
        if not over:
            return
        try:
            queue.finish(conn, over)
        except psycopg.Error as error:  # they are due again when their lease is over, and are left out again
            raise_if_fatal(conn, error)
            _log_refusal("jobs_not_finished", error, kind=kind)

    def _not_begun(self, conn: Connection[Any], kind: str, jobs: list[Job], error: psycopg.Error) -> None:
        """Begin one by one, so that only the failing job is postponed."""
        if len(jobs) > 1:
            for job in jobs:
                self._begin(conn, kind, [job])
            return
        _log_refusal("job_not_begun", error, kind=kind, id=jobs[0].id)
        is_contention = error.sqlstate in CONTENTION
        delay_seconds = 1 if is_contention else REFUSED_SECONDS
        try:
            queue.retry(conn, jobs[0], delay_seconds, str(error.diag.message_primary), excused=is_contention)
        except psycopg.Error as refusal:  # it is due again when its lease is over
            raise_if_fatal(conn, refusal)
            _log_refusal("job_not_retried", refusal, kind=kind, id=jobs[0].id)

    def _record_answered(self, conn: Connection[Any]) -> None:
        for kind, background in self._in_hand.items():
            handler = self._handlers[kind]

            def record(each: InHand, answer: Any, handler: Handler[Any, Any] = handler) -> None:
                handler.record(conn, each.job, each.task, answer)

            def refuse(each: InHand, error: psycopg.Error, kind: str = kind) -> None:
                _log_refusal(f"{kind}_not_recorded", error, **self._handlers[kind].describe(each.task))
                self._put_off(conn, kind, each, str(error.diag.message_primary), REFUSED_SECONDS)

            background.settle(conn, record, refuse)

    def _put_off(
        self, conn: Connection[Any], kind: str, each: InHand, reason: str, delay_seconds: int
    ) -> None:
        handler = self._handlers[kind]
        try:
            handler.put_off(conn, each.job, each.task, reason, delay_seconds)
        except psycopg.Error as error:  # it is due again when its lease is over
            raise_if_fatal(conn, error)
            _log_refusal("job_not_retried", error, **handler.describe(each.task))

    def _report_unknown(self, conn: Connection[Any]) -> None:
        for msg_id, kind, id_ in queue.take_unknown(conn, self._known):
            log.error("job_of_unknown_kind", msg_id=msg_id, kind=kind, id=id_, hint="upgrade the worker")


def _log_refusal(event: str, error: psycopg.Error, **told: str) -> None:
    log.warning(event, **told, error=error.diag.message_primary, sqlstate=error.sqlstate)
