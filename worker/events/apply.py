"""Commands → rows, credits and archived messages, in one transaction. The only stage that writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import Connection, Cursor

from worker.events import inbox
from worker.events.commands import (
    Command,
    kind_of,
    parameters_of,
    sql_of,
    stripe_customer_id_of,
    stripe_id_of,
)
from worker.events.inbox import Message
from worker.events.outcomes import Done, Outcome, Refetch
from worker.traces import span


@dataclass(frozen=True, slots=True)
class Job:
    """What one message needs: commands, or an outcome without any."""

    message: Message
    commands: Sequence[Command] = ()
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of each job, and the jobs of the batch that was read meanwhile; None: none was read."""

    outcomes: list[Outcome]
    following: list[Job] | None = None


class Following(Protocol):
    """The batch after this one."""

    def read(self) -> Cursor[Message]:
        """Take its messages."""
        ...

    def prepare(self, messages: Sequence[Message]) -> list[Job]:
        """Work out what each of them needs."""
        ...


def apply(conn: Connection[Any], jobs: Sequence[Job], following: Following | None = None) -> Applied:
    """Apply the jobs and settle their messages, all or nothing, in a few round trips whatever their number.

    The following batch is read in the same transaction, and prepared while Postgres works on these jobs.
    Raises psycopg.Error; nothing is written and nothing was read then.
    """
    told = {
        "tillbase.event_ids": [job.message.event_id for job in jobs],
        "tillbase.types": [job.message.type for job in jobs],
    }
    next_jobs: list[Job] | None = None
    with span("apply events", **told), conn.pipeline() as pipeline, conn.transaction():
        inbox.lock(conn, [job.message for job in jobs], _customers(jobs))
        reading = None
        if following:
            reading = following.read()
            conn.pgconn.send_flush_request()  # or Postgres keeps its answer until all commands have run
        cursors = [
            [conn.execute(sql_of(type(command)), parameters_of(command)) for command in job.commands]
            for job in jobs
        ]
        inbox.allocate_postponed(conn)
        if following and reading:
            next_jobs = following.prepare(reading.fetchall())
        pipeline.sync()
        outcomes = [_outcome(job, answers) for job, answers in zip(jobs, cursors, strict=True)]
        inbox.settle(conn, [(job.message, outcome) for job, outcome in zip(jobs, outcomes, strict=True)])
    return Applied(outcomes, next_jobs)


def _customers(jobs: Sequence[Job]) -> list[str]:
    found = {stripe_customer_id_of(command) for job in jobs for command in job.commands}
    return sorted(customer for customer in found if customer)


def _outcome(job: Job, answers: Sequence[Cursor[Any]]) -> Outcome:
    if job.outcome is not None:
        return job.outcome
    for command, answer in zip(job.commands, answers, strict=True):
        row = answer.fetchone()
        if row is not None and row[0] == "refetch":
            return Refetch(stripe_id_of(command), kind_of(command))
    return Done()
