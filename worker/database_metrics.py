"""Figures of the database → metrics for Prometheus, read every few seconds, however often they are scraped.

With several workers, each has the same figures: take the maximum.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector
from psycopg import Connection

from worker import metrics
from worker.clock import PeriodicTask

READ_SECONDS = 15.0
# What is older is not shown: the connection is lost, or the database does not answer.
STALE_SECONDS = 90.0

# A name of billing.metrics() → name, meaning and label.
_GAUGES: dict[str, tuple[str, str, str | None]] = {
    "events": ("till_inbox_events", "Events that are not done, by state; at most 10,000 are counted.", "state"),
    "oldest_event_age": ("till_oldest_event_age_seconds", "Age of the oldest event in the queue.", None),
    "jobs": ("till_jobs", "Jobs in the queue, by kind; at most 10,000 are counted.", "kind"),
    "dead_notifications": ("till_dead_notifications", "Notifications that could not be delivered.", None),
    "discrepancies": (
        "till_open_discrepancies", "Discrepancies that the running check found and that still exist.", None
    ),
    "proof_finished": (
        "till_proof_finished_timestamp_seconds", "When the last round of the running check ended.", None
    ),
    "open_alerts": ("till_open_alerts", "Alerts that are open, by kind.", "kind"),
    "workers": ("till_workers", "Workers by whether they were seen within the last minute: seen, missing.", "state"),
    "worker_last_seen": ("till_worker_last_seen_timestamp_seconds", "When any worker was last seen.", None),
    "credits": (
        "till_ledger_credits", "Credits of all entries since the beginning, by kind of entry: grant, spend, …", "kind"
    ),
    "credits_outstanding": ("till_credits_outstanding", "Credits that all accounts have: the liability.", None),
    "credits_counted": (
        "till_credits_counted_timestamp_seconds", "Until when entries are counted in the figures of credits.", None
    ),
}  # fmt: skip


class DatabaseMetrics(Collector):
    """Read on the worker's connection, shown from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[tuple[str, str | None, float]] = []
        self._read_at_seconds = float("-inf")
        self._task = PeriodicTask(
            "metrics_refused", metrics.WATCH_REFUSED, self._read, READ_SECONDS, is_vital=False
        )

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Read them if it is time to, by a monotonic clock. Raises psycopg.Error if the connection is lost."""
        return self._task.tick(conn, now_seconds)

    def _read(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.count_credits()")
        rows = conn.execute(
            "select name, label, value from billing.metrics() where value is not null"
        ).fetchall()
        with self._lock:
            self._rows, self._read_at_seconds = rows, time.monotonic()
        return False

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures that were last read, or none if that was too long ago."""
        with self._lock:
            is_fresh = time.monotonic() - self._read_at_seconds < STALE_SECONDS
            rows = self._rows if is_fresh else []
        for key, (name, meaning, label) in _GAUGES.items():
            family = GaugeMetricFamily(name, meaning, labels=[label] if label else None)
            for found, value_of_label, value in rows:
                if found == key:
                    family.add_metric([value_of_label or ""] if label else [], value)
            yield family


FIGURES = DatabaseMetrics()
REGISTRY.register(FIGURES)
