"""The interface of a kind of job: begin it, do it, record its outcome."""

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

    # How many jobs of a kind run at once, and how many are taken: those beyond the threads wait for one.
    threads = 4
    jobs_max = 4

    @abstractmethod
    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, Task]:
        """The tasks to do now, by message id, in one transaction.

        A job that is left out has nothing left to do, or was retried or postponed by this very call.
        """

    @abstractmethod
    def do(self, job: Job, task: Task) -> Answer:
        """Do it: in a thread, outside any transaction. Never raises."""

    @abstractmethod
    def record(self, conn: Connection[Any], job: Job, task: Task, answer: Answer) -> None:
        """Record the outcome and finish or retry the job, in one transaction. Raises psycopg.Error."""

    @abstractmethod
    def put_off(self, conn: Connection[Any], job: Job, task: Task, reason: str, delay_seconds: int) -> None:
        """Retry a begun task later: the worker stops, or Postgres refuses the outcome."""

    @abstractmethod
    def describe(self, task: Task) -> dict[str, str]:
        """The fields of a task in a log line."""


def stripe_delay_seconds(job: Job) -> int:
    """When to retry at Stripe; soon, so that a corrected key takes effect soon."""
    return min(backoff_seconds(job.attempts), STRIPE_BACKOFF_MAX_SECONDS)
