"""Everything that is due → months granted, lots and holds expired, overages claimed, in chunks of accounts.

Each chunk is its own transaction, between two batches. A month is granted once, by the first caller, and every
movement expires what is due in its own account, so the balances never depend on this stage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import structlog
from prometheus_client import Counter
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.events.failures import raise_if_fatal, raise_if_lost

CLOCK_SECONDS = 5.0
# What one chunk locks, and so how long a batch may wait for it: about 30 ms. Granting a month to an account, with last
# month's expiry, costs 0.25 ms; expiring costs 0.2 to 0.3 ms. Smaller chunks cost more, because a call costs 5 ms.
ALLOCATED_MAX = 100
SWEPT_MAX = 100
OVERAGES_MAX = 50
# Checking an account takes some milliseconds, and a step ends after 50: a two hundredth of the worker's time, and some
# hours for 10,000 accounts.
PROVED_MAX = 40
PROOF_SECONDS = 10.0

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Allocated:
    """What one chunk of accounts was granted. Locked accounts are skipped."""

    accounts: int
    slots_granted: int
    credits_granted: Decimal


@dataclass(frozen=True, slots=True)
class Swept:
    """What was due in one chunk of accounts. Locked accounts are skipped."""

    accounts: int
    holds_expired: int
    lots_opened: int
    lots_expired: int
    credits_expired: Decimal


def allocate(conn: Connection[Any], accounts_max: int = ALLOCATED_MAX) -> Allocated:
    """Grant the started months of a chunk of accounts. Raises psycopg.Error; nothing is written then."""
    with conn.cursor(row_factory=class_row(Allocated)) as cursor:
        allocated = cursor.execute(
            "select accounts, slots_granted, credits_granted "
            "from billing.allocate_due_credits(accounts_max => %s)",
            [accounts_max],
        ).fetchone()
    assert allocated is not None
    return allocated


def sweep(conn: Connection[Any], accounts_max: int = SWEPT_MAX) -> Swept:
    """Process what is due in a chunk of accounts. Raises psycopg.Error; nothing is written then."""
    with conn.cursor(row_factory=class_row(Swept)) as cursor:
        swept = cursor.execute(
            "select accounts, holds_expired, lots_opened, lots_expired, credits_expired "
            "from billing.expire_due_credits(accounts_max => %s)",
            [accounts_max],
        ).fetchone()
    assert swept is not None
    return swept


def claim_overages(conn: Connection[Any], accounts_max: int = OVERAGES_MAX) -> int:
    """End the periods of overage that are over; how many accounts. Raises psycopg.Error; nothing is written then."""
    claimed = conn.execute(
        "select accounts from billing.claim_due_overages(accounts_max => %s)", [accounts_max]
    ).fetchone()
    assert claimed is not None
    return claimed[0]


def prove(conn: Connection[Any], accounts_max: int = PROVED_MAX) -> tuple[int, int]:
    """Check the ledger and the paid credits of the next accounts: returns accounts, discrepancies.

    Raises psycopg.Error; the next call then starts with the same accounts.
    """
    proved = conn.execute(
        "select accounts, discrepancies from billing.prove_accounts(%s)", [accounts_max]
    ).fetchone()
    assert proved is not None
    return proved[0], proved[1]


class Clock:
    """Grants months, processes what is due, ends periods of overage, checks accounts; each even if another fails."""

    def __init__(self, allocated_max: int = ALLOCATED_MAX, swept_max: int = SWEPT_MAX) -> None:
        def allocate_chunk(conn: Connection[Any]) -> bool:
            allocated = allocate(conn, allocated_max)
            metrics.count_allocated(allocated.slots_granted, allocated.credits_granted)
            return allocated.accounts >= allocated_max

        def sweep_chunk(conn: Connection[Any]) -> bool:
            swept = sweep(conn, swept_max)
            metrics.count_due(
                swept.holds_expired, swept.lots_opened, swept.lots_expired, swept.credits_expired
            )
            return swept.accounts >= swept_max

        def claim_chunk(conn: Connection[Any]) -> bool:
            return claim_overages(conn) >= OVERAGES_MAX

        def prove_chunk(conn: Connection[Any]) -> bool:
            accounts, discrepancies = prove(conn)
            metrics.ACCOUNTS_PROVED.inc(accounts)
            metrics.DISCREPANCIES.inc(discrepancies)
            return False

        self._tasks = (
            PeriodicTask("allocation_refused", metrics.ALLOCATIONS_REFUSED, allocate_chunk),
            PeriodicTask("overage_refused", metrics.OVERAGE_REFUSED, claim_chunk),
            PeriodicTask("sweep_refused", metrics.SWEEPS_REFUSED, sweep_chunk),
            PeriodicTask("proof_refused", metrics.PROOFS_REFUSED, prove_chunk, PROOF_SECONDS),
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do a chunk of each task that is due, by a monotonic clock; True if there is more to do at once.

        A refusal is logged, and a later tick retries. Raises psycopg.Error if the connection is lost.
        """
        more = [task.tick(conn, now_seconds) for task in self._tasks]
        return any(more)


@dataclass(slots=True)
class PeriodicTask:
    """A task done in chunks: every `every_seconds`, and again at once after a full chunk."""

    refusal: str
    refusals: Counter
    do_chunk: Callable[[Connection[Any]], bool]
    every_seconds: float = CLOCK_SECONDS
    next_seconds: float = float("-inf")
    # Without a right for a task that is not, the worker goes on.
    is_vital: bool = True

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        if now_seconds < self.next_seconds:
            return False
        self.next_seconds = now_seconds + self.every_seconds
        try:
            is_full = self.do_chunk(conn)
        except psycopg.Error as error:
            (raise_if_fatal if self.is_vital else raise_if_lost)(conn, error)
            self.refusals.inc()
            log.warning(
                self.refusal,
                error=error.diag.message_primary,
                sqlstate=error.sqlstate,
                retry_in_seconds=self.every_seconds,
            )
            return False
        if is_full:
            self.next_seconds = now_seconds
        return is_full
