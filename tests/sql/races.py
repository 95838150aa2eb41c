"""Several connections → calls at the same moment, or one waiting for another, without a sleep to hope on."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, TypeVar

import psycopg

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")

_DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.005


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result | psycopg.Error]:
    """Start every call at the same moment, each in a thread of its own: what each returned or raised."""
    barrier = Barrier(len(calls))

    def run(one: Callable[[], Result]) -> Result | psycopg.Error:
        barrier.wait(_DEADLINE_SECONDS)
        try:
            return one()
        except psycopg.Error as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def blocked(
    waiting: Connection, observer: Connection, work: Callable[[], Result]
) -> Iterator[Future[Result]]:
    """Run `work` on `waiting` in the background; the block begins once it waits for somebody's lock."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            _wait_until_blocked(observer, waiting.info.backend_pid, future)
            yield future
        except BaseException:
            waiting.cancel()
            raise


def _wait_until_blocked(observer: Connection, pid: int, future: Future[Any]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        row = observer.execute("select cardinality(pg_blocking_pids(%s))", [pid]).fetchone()
        if row is not None and row[0]:
            return
        assert not future.done(), f"it waited for nobody and ended in {future}"
        time.sleep(_POLL_SECONDS)
    raise AssertionError("it never waited for a lock")
