"""Reminders that are due → the outbox; old rows → deleted: a chunk at a time, between batches."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from worker import metrics
from worker.clock import PeriodicTask

REMIND_SECONDS = 60.0
RECHARGE_SECONDS = 5.0
# Reminders days ahead and retention of months need no check every minute.
SELDOM_SECONDS = 3600.0
# About 10 ms each.
ACCOUNTS_MAX = 2000
PRUNED_MAX = 500


class Reminder:
    """Its ticks are cheap: each reads a few rows, or none."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, pruned_max: int = PRUNED_MAX) -> None:
        self._accounts_max, self._pruned_max = accounts_max, pruned_max
        self._looked_at: UUID | None = None
        refused = metrics.REMINDERS_REFUSED
        self._tasks = (
            PeriodicTask("reminders_refused", refused, self._remind, REMIND_SECONDS),
            PeriodicTask("recharges_not_checked", refused, self._check_recharges, RECHARGE_SECONDS),
            PeriodicTask("deleted_users_refused", refused, self._remind_of_deleted_users, SELDOM_SECONDS),
            PeriodicTask("reminders_of_expiry_refused", refused, self._remind_of_expiry, SELDOM_SECONDS),
            PeriodicTask("pruning_refused", refused, self._prune, SELDOM_SECONDS),
            PeriodicTask("pruning_of_events_refused", refused, self._prune_events, SELDOM_SECONDS),
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do a chunk of what is due, by a monotonic clock; True if there is more to do at once.

        A refusal is logged, and a later tick retries. Raises psycopg.Error if the connection is lost.
        """
        more = [task.tick(conn, now_seconds) for task in self._tasks]
        return any(more)

    def _remind(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.enqueue_reminders()")
        conn.execute("select billing.skip_notifications()")
        return False

    def _check_recharges(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.check_recharges_again()")
        return False

    def _remind_of_deleted_users(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.enqueue_deleted_users()")
        return False

    def _remind_of_expiry(self, conn: Connection[Any]) -> bool:
        row = conn.execute(
            "select billing.enqueue_expiring_credits(after_account_id => %s, accounts_max => %s)",
            [self._looked_at, self._accounts_max],
        ).fetchone()
        assert row is not None
        self._looked_at = row[0]
        return self._looked_at is not None

    def _prune(self, conn: Connection[Any]) -> bool:
        row = conn.execute(
            "select billing.prune_notifications(rows_max => %s)", [self._pruned_max]
        ).fetchone()
        assert row is not None
        return row[0] >= self._pruned_max

    def _prune_events(self, conn: Connection[Any]) -> bool:
        row = conn.execute("select billing.prune_events(rows_max => %s)", [self._pruned_max]).fetchone()
        assert row is not None
        return row[0] >= self._pruned_max
