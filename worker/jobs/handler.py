"""What each kind of job has: what is to be done now, how it is done, and how its outcome is recorded."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from psycopg import Connection

from worker.events.failures import STRIPE_BACKOFF_MAX_SECONDS, backoff_seconds
from worker.jobs.queue import Job

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Handler(ABC, Generic[Task, Answer]):
    """One kind of job."""

    # How many of a kind are done at once, and how many are in hand: more than there are threads wait for one.
    threads = 4
    jobs_max = 4

    @abstractmethod
    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, Task]:
        """What is to be done now, by message id, in one transaction.

        A job that is left out has nothing left to do, or was retried or postponed by this very call.
        """

    @abstractmethod
    def do(self, job: Job, task: Task) -> Answer:
        """Do it: in a thread, outside any transaction. Never raises."""

    @abstractmethod
    def record(self, conn: Connection[Any], job: Job, task: Task, answer: Answer) -> None:
        """Record what came of it and finish or retry the job, in one transaction. Raises psycopg.Error."""

    @abstractmethod
    def put_off(self, conn: Connection[Any], job: Job, task: Task, reason: str, delay_seconds: int) -> None:
        """Retry later what was begun, whatever came of it: the worker stops, or Postgres refuses the answer."""

    @abstractmethod
    def describe(self, task: Task) -> dict[str, str]:
        """What a log line says of a task."""


def stripe_delay_seconds(job: Job) -> int:
    """When to try again at Stripe; short, so that a fixed key takes effect soon."""
    return min(backoff_seconds(job.attempts), STRIPE_BACKOFF_MAX_SECONDS)
