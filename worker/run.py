"""The long-lived process: drain, do what is due, run errands, wait, reconnect, stop with all in hand done."""

import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from worker import metrics
from worker.account import KeyCheck
from worker.charge import Charger
from worker.clock import Clock
from worker.drain import Settled, drain
from worker.emails import AddressWriter, EmailFollower
from worker.errands import Errands
from worker.fetch import StripeReader
from worker.fraud import Enforcer, FraudFighter
from worker.links import Deactivator, LinkCloser
from worker.notify import Notifier
from worker.outcomes import Dead, Parked, RetryLater
from worker.recharge import Recharger
from worker.remind import Reminder
from worker.settings import Settings

IDLE_SECONDS = 0.2
RECONNECT_FIRST_SECONDS = 0.2
# Repeated failing log-ins make Supabase's pooler refuse the whole project for a minute: don't hammer.
RECONNECT_MAX_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 10

_NO_SCHEMA = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidParameterValue,  # there is no role billing_worker
)

log = structlog.stdlib.get_logger()


def run(settings: Settings, stop: threading.Event) -> None:
    """Drain the queue until `stop` is set. Survives the loss of its connection, and of Postgres.

    Raises WrongStripeKey when the key is of another account or mode than the books, SettingsError for a URL of
    notifications that is none.
    """
    key, base = settings.stripe_api_key, settings.stripe_api_base
    check = KeyCheck(key, base)
    stripe = StripeReader(key, base, lambda: check.is_ours)
    errands = (
        Recharger(Charger(key, base, is_our_key=lambda: check.is_ours).charge),
        FraudFighter(Enforcer(key, base, is_our_key=lambda: check.is_ours).act),
        EmailFollower(AddressWriter(key, base, is_our_key=lambda: check.is_ours).write),
        LinkCloser(Deactivator(key, base, is_our_key=lambda: check.is_ours).deactivate),
        Notifier.of(settings),
    )
    try:
        _run(settings, check, stripe, errands, stop)
    finally:
        for errand in errands:
            errand.close()


def _run(
    settings: Settings,
    check: KeyCheck,
    stripe: StripeReader,
    errands: Sequence[Errands[Any, Any]],
    stop: threading.Event,
) -> None:
    delay_seconds = RECONNECT_FIRST_SECONDS
    while not stop.is_set():
        try:
            with connect(settings) as conn:
                log.info("connected")
                metrics.CONNECTED.set(1)
                delay_seconds = RECONNECT_FIRST_SECONDS
                _drain_until(conn, check, stripe, errands, stop)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            metrics.RECONNECTS.inc()
            log.warning("connection_lost", error=_one_line(error), retry_in_seconds=round(delay_seconds, 1))
        except _NO_SCHEMA as error:
            log.error(
                "schema_is_missing", error=_one_line(error), hint="push the migrations: supabase db push"
            )
            delay_seconds = RECONNECT_MAX_SECONDS
        except psycopg.Error as error:
            log.error("database_refused", error=_one_line(error), retry_in_seconds=round(delay_seconds, 1))
        metrics.CONNECTED.set(0)
        stop.wait(delay_seconds * random.uniform(0.5, 1.0))  # noqa: S311
        delay_seconds = min(delay_seconds * 2, RECONNECT_MAX_SECONDS)


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    configure_logging()
    stop = threading.Event()

    def finish(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    log.info("worker_started")
    run(settings, stop)
    log.info("worker_stopped")


def configure_logging() -> None:
    """One line for each event worth a line, on stderr: JSON, or coloured where a person looks."""
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if for_people else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def connect(settings: Settings) -> Connection[Any]:
    """Log in to Postgres as the worker does."""
    # Prepared statements by name break behind a pooler.
    conn = psycopg.connect(
        settings.postgres_url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        application_name="till worker",
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
    )
    # By statement, because a pooler drops start-up options. Rows are found by key only, and a plan that was made while
    # a table was nearly empty must not outlive that.
    conn.execute("set role billing_worker")
    conn.execute("set enable_seqscan = off")
    conn.execute("set plan_cache_mode = force_generic_plan")
    return conn


def _drain_until(
    conn: Connection[Any],
    check: KeyCheck,
    stripe: StripeReader,
    errands: Sequence[Errands[Any, Any]],
    stop: threading.Event,
) -> None:
    clock, reminder = Clock(), Reminder()
    while not stop.is_set():
        check.tick(conn, time.monotonic())
        with metrics.BATCH_SECONDS.time():
            settled = drain(conn, stripe)
        _report(settled)
        is_behind = not stop.is_set() and any(
            [clock.tick(conn, time.monotonic()), reminder.tick(conn, time.monotonic())]
        )
        for errand in errands if not stop.is_set() else ():
            errand.tick(conn, time.monotonic())
        if not settled and not is_behind:
            stop.wait(IDLE_SECONDS)
    for errand in errands:
        errand.finish(conn)


def _report(settled: Iterable[Settled]) -> None:
    metrics.count(item.outcome for item in settled)
    for item in settled:
        told = {"event_id": item.message.event_id, "type": item.message.type}
        match item.outcome:
            case Dead(reason):
                log.error("event_dead", **told, reason=reason)
            case Parked(waiting_for, reason):
                log.warning("event_parked", **told, waiting_for=waiting_for, reason=reason)
            case RetryLater(delay_seconds, reason):
                log.warning("event_delayed", **told, delay_seconds=delay_seconds, reason=reason)
            case _:
                pass


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
