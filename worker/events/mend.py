"""What lost its way in the queue → due again: messages that a dead worker held, queued events without a message."""

from typing import Any

import structlog
from psycopg import Connection

from worker import metrics
from worker.clock import Chore
from worker.events import inbox

# An event waits this long for a dead worker, where another one lives.
HAND_BACK_SECONDS = 2.0
# After a restore a worker starts, and looks at once.
REQUEUE_SECONDS = 3600.0

log = structlog.stdlib.get_logger()


class Mender:
    """Ticks between batches. Starting a session hands back too (inbox.start)."""

    def __init__(self) -> None:
        refused = metrics.MENDING_REFUSED
        self._chores = (
            Chore("handing_back_refused", refused, self._hand_back, HAND_BACK_SECONDS),
            Chore("requeueing_refused", refused, self._requeue, REQUEUE_SECONDS),
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do what it is time for, by a monotonic clock. Raises psycopg.Error when the connection is lost."""
        more = [chore.tick(conn, now_seconds) for chore in self._chores]
        return any(more)

    def _hand_back(self, conn: Connection[Any]) -> bool:
        inbox.hand_back(conn)
        return False

    def _requeue(self, conn: Connection[Any]) -> bool:
        count = inbox.requeue(conn)
        if count:
            log.warning("events_requeued", count=count, reason="they were queued and had no message")
        return False
