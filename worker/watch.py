"""What a worker knows → the database: a sign of life, whether its key works, and events that never arrived.

SQL decides what becomes an alert (90_api/95_watch). There a second worker, or pg_cron, sees that this one is missing.
"""

from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import structlog
from psycopg import Connection

from worker import arrivals, metrics
from worker.arrivals import StripeEvent
from worker.background import in_background
from worker.clock import PeriodicTask
from worker.settings import is_live
from worker.stripe_api import KeyRefused, opened_client, trouble_of

BEAT_SECONDS = 10.0
WATCH_SECONDS = 60.0
# With the ten minutes that an event may take to arrive, a missing one is noticed within half an hour.
ASK_STRIPE_SECONDS = 600.0
LOOK_SECONDS = 1.0
REQUEST_TIMEOUT_SECONDS = 20

NO_KEY = "STRIPE_API_KEY is not set"
_REFUSED = "Stripe does not accept STRIPE_API_KEY: it has expired or was deleted"
_NOT_PERMITTED = "STRIPE_API_KEY may not read events"

log = structlog.stdlib.get_logger()


class Watch:
    """Ticks between batches; asks Stripe in a thread."""

    def __init__(self, api_key: str | None, api_base: str | None) -> None:
        self._api_key, self._api_base = api_key, api_base
        self._key_error = NO_KEY if api_key is None else None
        self._started_at = datetime.now(UTC)
        self._asked: Future[list[StripeEvent]] | None = None
        refused = metrics.WATCH_REFUSED
        self._watch = PeriodicTask("watch_refused", refused, self._look, WATCH_SECONDS, is_vital=False)
        self._tasks = (
            PeriodicTask("sign_of_life_refused", refused, self._report, BEAT_SECONDS, is_vital=False),
            self._watch,
            PeriodicTask("arrivals_not_checked", refused, self._ask, ASK_STRIPE_SECONDS, is_vital=False),
            PeriodicTask("arrivals_not_reported", refused, self._settle, LOOK_SECONDS, is_vital=False),
        )

    def begin(self, conn: Connection[Any], now_seconds: float) -> None:
        """Before the session is registered as a worker's: whether one was missing until now."""
        self._watch.next_seconds = now_seconds
        self._watch.tick(conn, now_seconds)
        self._watch.next_seconds = now_seconds

    def tick(self, conn: Connection[Any], now_seconds: float) -> bool:
        """Do what is due, by a monotonic clock. Raises psycopg.Error if the connection is lost."""
        more = [task.tick(conn, now_seconds) for task in self._tasks]
        return any(more)

    def _report(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.report_worker(stripe_key_error => %s)", [self._key_error])
        return False

    def _look(self, conn: Connection[Any]) -> bool:
        conn.execute("select billing.watch()")
        return False

    def _ask(self, conn: Connection[Any]) -> bool:
        key = self._api_key
        if key is None or self._asked is not None:
            return False
        row = conn.execute("select billing.receiving_since()").fetchone()
        assert row is not None
        # Events of before this installation did not have to arrive here.
        receiving_since = row[0] or self._started_at
        self._asked = in_background("arrivals", lambda: _newest(key, self._api_base, receiving_since))
        return False

    def _settle(self, conn: Connection[Any]) -> bool:
        if self._asked is None or not self._asked.done():
            return False
        asked, self._asked = self._asked, None
        try:
            events = asked.result()
        except Exception as error:
            trouble = trouble_of(error, is_our_key=False)
            if isinstance(trouble, KeyRefused):
                self._key_error = _NOT_PERMITTED if trouble.is_known else _REFUSED
                log.error(
                    "stripe_key_refused", error=self._key_error, hint="export a key that Stripe accepts"
                )
            else:
                log.warning("arrivals_not_checked", error=str(trouble))
            return False
        self._key_error = None
        missing = arrivals.unreceived(conn, events)
        metrics.EVENTS_MISSING.set(len(missing))
        newest = missing[0] if missing else None
        conn.execute(
            "select billing.report_arrivals("
            "missing => %s, event_id => %s, type => %s, created_at => to_timestamp(%s))",
            [len(missing), *((newest["id"], newest["type"], newest["created"]) if newest else (None,) * 3)],
        )
        if newest:
            log.error(
                "events_missing", count=len(missing), event_id=newest["id"], type=newest["type"],
                hint="till webhook verify, then till events replay",
            )  # fmt: skip
        return False


def _newest(api_key: str, api_base: str | None, receiving_since: datetime) -> list[StripeEvent]:
    """The newest events that must have arrived by now, newest first. Raises stripe.StripeError."""
    now = datetime.now(UTC)
    until = now - arrivals.ARRIVAL
    since = min(max(now - arrivals.PERIOD, receiving_since), until)
    types = arrivals.events_of(livemode=bool(is_live(api_key)))
    with opened_client(api_key, api_base, REQUEST_TIMEOUT_SECONDS, retries=1) as client:
        return arrivals.newest(client, types, since, until).events
