"""What takes long, such as a request to Stripe → done in threads, outside any transaction → settled on a connection."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import Connection

from worker.events.failures import CONTENTION, raise_if_fatal

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Background(Generic[Task, Answer]):
    """Tasks in hand, of one kind. A task stays in hand until its answer is settled."""

    def __init__(self, name: str, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._in_hand: dict[Future[Answer], Task] = {}

    @property
    def tasks(self) -> list[Task]:
        return list(self._in_hand.values())

    def start(self, task: Task, do: Callable[[], Answer]) -> None:
        """Have `do` called in a thread. It never raises."""
        self._in_hand[self._pool.submit(do)] = task

    def settle(
        self,
        conn: Connection[Any],
        settle: Callable[[Task, Answer], None],
        refuse: Callable[[Task, psycopg.Error], None],
    ) -> None:
        """Settle what was answered; `refuse` what Postgres refuses. What meets somebody's lock stays in hand.

        Raises psycopg.Error when the connection is lost or a right is missing: what was in hand stays so, and is
        settled on the next connection.
        """
        for future in [future for future in self._in_hand if future.done()]:
            task = self._in_hand[future]
            try:
                settle(task, future.result())
            except psycopg.Error as error:
                raise_if_fatal(conn, error)
                if error.sqlstate in CONTENTION:
                    continue
                refuse(task, error)
            del self._in_hand[future]

    def cancel(self) -> list[Task]:
        """The tasks that no thread has begun; they are not in hand any more."""
        cancelled = [future for future in self._in_hand if future.cancel()]
        return [self._in_hand.pop(future) for future in cancelled]

    def wait(self, until_seconds: float) -> None:
        """Wait for what is in hand, until a moment of the monotonic clock."""
        wait(self._in_hand, timeout=max(until_seconds - time.monotonic(), 0))

    def close(self) -> None:
        """Start no more. What is still in hand comes back when its time is over, here or elsewhere."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def in_background(name: str, work: Callable[[], Answer]) -> Future[Answer]:
    """One piece of work in a daemon thread, so that the process does not wait for it when it ends."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
