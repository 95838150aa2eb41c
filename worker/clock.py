"""What fell due by time alone → expired holds, opened lots, expired lots: a chunk of accounts between two batches.

Every movement sweeps its own account first, so the books never wait for this stage: it only makes what is due visible
to those who read.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics

CLOCK_SECONDS = 5.0
# What one chunk locks, at some 0.3 ms for each account: as long as a batch may have to wait for it.
ACCOUNTS_MAX = 100

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Swept:
    """What one chunk of accounts had due. Those that somebody else had locked are left out."""

    accounts: int
    holds_expired: int
    lots_opened: int
    lots_expired: int
    credits_expired: Decimal


def sweep(conn: Connection[Any], accounts_max: int = ACCOUNTS_MAX) -> Swept:
    """Sweep a chunk of accounts, in a transaction of its own. Raises psycopg.Error; nothing is written then."""
    with conn.cursor(row_factory=class_row(Swept)) as cursor:
        swept = cursor.execute(
            "select accounts, holds_expired, lots_opened, lots_expired, credits_expired "
            "from billing.expire_due_credits(accounts_max => %s)",
            [accounts_max],
        ).fetchone()
    assert swept is not None
    return swept


class Clock:
    """When to sweep: every CLOCK_SECONDS, and at once while a chunk was full."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX) -> None:
        self._accounts_max = accounts_max
        self._next_seconds = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Sweep a chunk if it is time to, by a monotonic clock; True while there is more to do at once.

        A refusal is logged and the next tick tries again. Raises psycopg.OperationalError when the connection is lost.
        """
        if now_seconds < self._next_seconds:
            return False
        self._next_seconds = now_seconds + CLOCK_SECONDS
        try:
            swept = sweep(conn, self._accounts_max)
        except psycopg.Error as error:
            if conn.closed or conn.broken:
                raise
            metrics.SWEEPS_REFUSED.inc()
            log.warning(
                "sweep_refused",
                error=error.diag.message_primary,
                sqlstate=error.sqlstate,
                retry_in_seconds=CLOCK_SECONDS,
            )
            return False
        metrics.count_due(swept.holds_expired, swept.lots_opened, swept.lots_expired, swept.credits_expired)
        is_full = swept.accounts >= self._accounts_max
        if is_full:
            self._next_seconds = now_seconds
        return is_full
