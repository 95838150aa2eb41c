"""The queue `billing_jobs`: take jobs that are due, finish them, retry them later. No other module names it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

# Longer than a job and the jobs of its kind before it should take; a job that takes longer may be done twice. Jobs of a
# dead worker are due again within seconds.
LEASE_SECONDS = 300
# A job of an unknown kind waits for a version that knows it.
UNKNOWN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Job:
    """A message of the queue: what kind of work is due for which row. `attempts` counts this one."""

    msg_id: int
    kind: str
    id: str
    attempts: int


def take(conn: Connection[Any], jobs_max: Mapping[str, int]) -> list[Job]:
    """Take jobs that are due, up to so many of each kind, for LEASE_SECONDS, in a transaction of its own."""
    with conn.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(
            "select msg_id, kind, id, attempts "
            "from billing.take_jobs(kinds => %s::text[], jobs_max => %s::integer[], lease_seconds => %s)",
            [list(jobs_max), list(jobs_max.values()), LEASE_SECONDS],
        ).fetchall()


def columns(jobs: Sequence[Job]) -> list[Any]:
    """Message ids and row ids, as the functions that begin jobs take them."""
    return [[job.msg_id for job in jobs], [job.id for job in jobs]]


def finish(conn: Connection[Any], jobs: Iterable[Job]) -> None:
    """Remove jobs that have nothing left to do, if this session still has them."""
    conn.execute("select billing.finish_jobs(msg_ids => %s)", [[job.msg_id for job in jobs]])


def retry(conn: Connection[Any], job: Job, delay_seconds: int, reason: str, *, excused: bool = False) -> None:
    """Make a job due again later; `excused`: the attempt does not count."""
    conn.execute(
        "select billing.retry_job(msg_id => %s, delay_seconds => %s, reason => %s, excused => %s)",
        [job.msg_id, delay_seconds, reason, excused],
    )


def take_unknown(conn: Connection[Any], kinds: Iterable[str]) -> list[tuple[int, str | None, str | None]]:
    """Message id, kind and id of jobs that are due and of none of these kinds. They are due again much later."""
    return conn.execute(
        "select msg_id, kind, id from billing.take_unknown_jobs(kinds => %s::text[], delay_seconds => %s)",
        [list(kinds), UNKNOWN_SECONDS],
    ).fetchall()


def requeue(conn: Connection[Any]) -> int:
    """Queue jobs that lost their message; returns how many."""
    row = conn.execute("select billing.requeue_jobs()").fetchone()
    assert row is not None
    return row[0]
