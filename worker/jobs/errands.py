"""Work that is due in the database and is done elsewhere → done in the background, and written down on one connection.

The database says what is due and hands it out for a while; Stripe is asked in threads, outside any transaction, so that
the queue never waits for it. Whatever is not written down by then is taken again, by whoever is there.
"""

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

import psycopg
import structlog
from psycopg import Connection

from worker.events.failures import CONTENTION, raise_if_lost

Task = TypeVar("Task")
Answer = TypeVar("Answer")

TAKE_SECONDS = 1.0
PARALLEL_TASKS = 4
REQUEST_TIMEOUT_SECONDS = 20

log = structlog.stdlib.get_logger()


class Errands(ABC, Generic[Task, Answer]):
    """One kind of such work. `name` is that of its threads and log lines, in the singular."""

    name: str
    threads = PARALLEL_TASKS
    # How many are in hand at most; more than there are threads wait for one.
    tasks_max = PARALLEL_TASKS
    take_seconds = TAKE_SECONDS

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)
        self._in_hand: dict[Future[Answer], Task] = {}
        self._next_seconds = float("-inf")

    @abstractmethod
    def take(self, conn: Connection[Any], tasks_max: int) -> list[Task]:
        """Take what is due, for longer than `do` may last, in a transaction of its own."""

    @abstractmethod
    def do(self, task: Task) -> Answer:
        """Ask Stripe; in a thread. Never raises."""

    @abstractmethod
    def settle(self, conn: Connection[Any], task: Task, answer: Answer) -> None:
        """Write down what came of it, in one transaction. Raises psycopg.Error."""

    @abstractmethod
    def put_off(self, conn: Connection[Any], task: Task, reason: str) -> None:
        """Postgres refuses what came of it: a person must look, and it is tried again meanwhile."""

    @abstractmethod
    def describe(self, task: Task) -> dict[str, str]:
        """What a log line says of a task."""

    def tick(self, conn: Connection[Any], now_seconds: float) -> None:
        """Settle what was answered, and take what is due if it is time to, by a monotonic clock.

        A refusal is logged and a later tick tries again. Raises psycopg.Error when the connection is lost: what was in
        hand stays in hand, and is settled on the next one.
        """
        self._settle_answered(conn)
        if now_seconds < self._next_seconds:
            return
        self._next_seconds = now_seconds + self.take_seconds
        free = self.tasks_max - len(self._in_hand)
        if free == 0:
            return
        try:
            taken = self.take(conn, free)
        except psycopg.Error as error:
            raise_if_lost(conn, error)
            _log_refusal(f"{self.name}s_not_taken", error)
            return
        for task in taken:
            self._in_hand[self._pool.submit(self.do, task)] = task

    def finish(self, conn: Connection[Any]) -> None:
        """Wait for what is in hand and settle it. Raises psycopg.Error when the connection is lost."""
        wait(self._in_hand, timeout=REQUEST_TIMEOUT_SECONDS)
        self._settle_answered(conn)

    def close(self) -> None:
        """Take no more. What is still in hand is taken again, by whoever is there, when its time is over."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _settle_answered(self, conn: Connection[Any]) -> None:
        for future in [future for future in self._in_hand if future.done()]:
            task = self._in_hand[future]
            try:
                self.settle(conn, task, future.result())
            except psycopg.Error as error:
                raise_if_lost(conn, error)
                _log_refusal(f"{self.name}_not_settled", error, **self.describe(task))
                if error.sqlstate in CONTENTION:
                    continue  # it stays in hand until the next tick
                self.put_off(conn, task, str(error.diag.message_primary))
            del self._in_hand[future]


def _log_refusal(event: str, error: psycopg.Error, **told: str) -> None:
    log.warning(event, **told, error=error.diag.message_primary, sqlstate=error.sqlstate)
