"""Repairs the queues: messages and jobs of dead workers, events and jobs that lost their message → due again."""

from typing import Any

import structlog
from psycopg import Connection

from worker import metrics
from worker.clock import PeriodicTask
from worker.events import inbox
from worker.jobs import queue

# How long an event waits for a dead worker while another one runs.
HAND_BACK_SECONDS = 2.0
# After a restore the worker starts, and checks at once.
REQUEUE_SECONDS = 3600.0

log = structlog.stdlib.get_logger()


class Mender:
    """Ticks between batches. Starting a session also hands back messages (inbox.start)."""

    def __init__(self) -> None:
        refused = metrics.MENDING_REFUSED
        self._tasks = (
            PeriodicTask("handing_back_refused", refused, self._hand_back, HAND_BACK_SECONDS),
            PeriodicTask("requeueing_refused", refused, self._requeue, REQUEUE_SECONDS),
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do what is due, by a monotonic clock. Raises psycopg.Error if the connection is lost."""
        more = [task.tick(conn, now_seconds) for task in self._tasks]
        return any(more)

    def _hand_back(self, conn: Connection[Any]) -> bool:
        inbox.hand_back(conn)
        return False

    def _requeue(self, conn: Connection[Any]) -> bool:
        count = inbox.requeue(conn)
        if count:
            log.warning("events_requeued", count=count, reason="their queue message was missing")
        jobs = queue.requeue(conn)
        if jobs:
            log.warning("jobs_requeued", count=jobs, reason="their queue message was missing")
        return False
