"""What fell due by time alone → months of credits granted, holds and lots expired, lots opened: by chunks of accounts.

Each chunk is a transaction of its own, between two batches. A slot is granted once whoever comes first, and every
movement sweeps its own account, so the books never wait for this stage.
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
from worker.events.failures import raise_if_lost

CLOCK_SECONDS = 5.0
# What one chunk locks, and so how long a batch may have to wait for it: some 30 ms. An account costs 0.25 ms to grant a
# month to, with last month's expiry; 0.2 to 0.3 ms to sweep. Smaller chunks cost more, a call takes 5 ms by itself.
ALLOCATED_MAX = 100
SWEPT_MAX = 100
# An account takes some milliseconds to check, and a step ends after 50: a two hundredth of the worker's time,
# and 10,000 accounts are through in some hours.
PROVED_MAX = 40
PROOF_SECONDS = 10.0

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Allocated:
    """What one chunk of accounts was granted. Those that somebody else had locked are left out."""

    accounts: int
    slots_granted: int
    credits_granted: Decimal


@dataclass(frozen=True, slots=True)
class Swept:
    """What one chunk of accounts had due. Those that somebody else had locked are left out."""

    accounts: int
    holds_expired: int
    lots_opened: int
    lots_expired: int
    credits_expired: Decimal


def allocate(conn: Connection[Any], accounts_max: int = ALLOCATED_MAX) -> Allocated:
    """Grant a chunk of accounts their months that have begun. Raises psycopg.Error; nothing is written then."""
    with conn.cursor(row_factory=class_row(Allocated)) as cursor:
        allocated = cursor.execute(
            "select accounts, slots_granted, credits_granted "
            "from billing.allocate_due_credits(accounts_max => %s)",
            [accounts_max],
        ).fetchone()
    assert allocated is not None
    return allocated


def sweep(conn: Connection[Any], accounts_max: int = SWEPT_MAX) -> Swept:
    """Sweep a chunk of accounts. Raises psycopg.Error; nothing is written then."""
    with conn.cursor(row_factory=class_row(Swept)) as cursor:
        swept = cursor.execute(
            "select accounts, holds_expired, lots_opened, lots_expired, credits_expired "
            "from billing.expire_due_credits(accounts_max => %s)",
            [accounts_max],
        ).fetchone()
    assert swept is not None
    return swept


def prove(conn: Connection[Any], accounts_max: int = PROVED_MAX) -> tuple[int, int]:
    """Check the next accounts' ledger, and their credits against what they paid for: accounts, discrepancies.

    Raises psycopg.Error; the next call begins with the same accounts then.
    """
    proved = conn.execute(
        "select accounts, discrepancies from billing.prove_accounts(%s)", [accounts_max]
    ).fetchone()
    assert proved is not None
    return proved[0], proved[1]


class Clock:
    """Months are granted, then what is due is swept, then a few accounts are proved; none fails with another."""

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

        def prove_chunk(conn: Connection[Any]) -> bool:
            accounts, discrepancies = prove(conn)
            metrics.ACCOUNTS_PROVED.inc(accounts)
            metrics.DISCREPANCIES.inc(discrepancies)
            return False

        self._chores = (
            Chore("allocation_refused", metrics.ALLOCATIONS_REFUSED, allocate_chunk),
            Chore("sweep_refused", metrics.SWEEPS_REFUSED, sweep_chunk),
            Chore("proof_refused", metrics.PROOFS_REFUSED, prove_chunk, PROOF_SECONDS),
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do a chunk of each chore that it is time for, by a monotonic clock; True while there is more to do at once.

        A refusal is logged and a later tick tries again. Raises psycopg.Error when the connection is lost.
        """
        more = [chore.tick(conn, now_seconds) for chore in self._chores]
        return any(more)


@dataclass(slots=True)
class Chore:
    """One kind of work, in chunks: every so many seconds, and at once while a chunk was full."""

    refusal: str
    refusals: Counter
    do_chunk: Callable[[Connection[Any]], bool]
    every_seconds: float = CLOCK_SECONDS
    next_seconds: float = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        if now_seconds < self.next_seconds:
            return False
        self.next_seconds = now_seconds + self.every_seconds
        try:
            is_full = self.do_chunk(conn)
        except psycopg.Error as error:
            raise_if_lost(conn, error)
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
