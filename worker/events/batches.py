"""The queue of one session, batch after batch. Behind a full batch, the next one is read in the same transaction.

So the next batch needs no transaction of its own, and is normalised while Postgres works on this one. Its attempt is
counted when this batch commits, before any of it is applied. If this batch is refused, nothing was read.
"""

import time
from collections.abc import Sequence
from typing import Any

from psycopg import Connection, Cursor

from worker.events import inbox
from worker.events.apply import Job
from worker.events.drain import Settled, prepare, settle
from worker.events.inbox import Message

# A message becomes visible when its transaction commits, which may be after its due time. If that took longer, a full
# poll finds it.
POLL_LEEWAY_SECONDS = 2.0
POLL_EVERYTHING_SECONDS = 2.0


class Batches:
    """What was read ahead is in this session's hands until the next call, or until `inbox.release`."""

    def __init__(self, conn: Connection[Any], batch_size: int = inbox.BATCH_SIZE) -> None:
        self._conn = conn
        self._batch_size = batch_size
        self._polls = _Polls(batch_size)
        self._jobs: list[Job] = []

    def settle_next(self) -> list[Settled]:
        """Process a batch as far as possible without Stripe; empty if nothing is due. Raises as `settle` does."""
        jobs, self._jobs = self._jobs, []
        if not jobs:
            jobs = self.prepare(self.read().fetchall())
            self._polls.found(len(jobs))
        settled, following = settle(self._conn, jobs, self if self._may_read_ahead(jobs) else None)
        if following is not None:
            self._jobs = following
            self._polls.found(len(following))
        return settled

    def _may_read_ahead(self, jobs: Sequence[Job]) -> bool:
        # Not behind events that were tried before: if an event crashes the worker while it is prepared, the batch
        # before it comes back with it, and must not use up its attempts.
        return len(jobs) == self._batch_size and all(job.message.attempts == 1 for job in jobs)

    def read(self) -> Cursor[Message]:
        """Take a batch of messages, in the caller's transaction if there is one."""
        due_within_seconds = self._polls.due_within_seconds(time.monotonic())
        return inbox.read(self._conn, self._batch_size, due_within_seconds)

    def prepare(self, messages: Sequence[Message]) -> list[Job]:
        """What each of the messages needs."""
        return prepare(self._conn, messages)


class _Polls:
    """How far back a poll must look: to the last one that left nothing due, or from time to time at everything.

    Archived messages stay in the queue's index as long as any snapshot of the database is older, which may be hours,
    and a full poll reads all of them.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._asked_seconds = 0.0
        self._everything_seconds: float | None = None
        self._clean_seconds: float | None = None

    def due_within_seconds(self, now_seconds: float) -> float | None:
        self._asked_seconds = now_seconds
        everything, clean = self._everything_seconds, self._clean_seconds
        if everything is None or clean is None or now_seconds - everything >= POLL_EVERYTHING_SECONDS:
            self._everything_seconds = now_seconds
            return None
        return now_seconds - clean + POLL_LEEWAY_SECONDS

    def found(self, count: int) -> None:
        """What the last poll found, once it is committed."""
        if count < self._batch_size:
            self._clean_seconds = self._asked_seconds
