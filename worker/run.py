"""The long-lived process: drain, run the clock and the jobs, wait, reconnect; stops after the current batch."""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import psycopg
import structlog
from psycopg import Connection

from worker import health, metrics, traces
from worker.account import KeyCheck
from worker.clock import Clock
from worker.database_metrics import FIGURES, DatabaseMetrics
from worker.errors import MissingRight
from worker.events import inbox
from worker.events.batches import Batches
from worker.events.drain import report
from worker.events.failures import lacks_own_right
from worker.events.fetch import StripeReader
from worker.events.lookups import Lookups
from worker.events.mend import Mender
from worker.jobs.notify import Notifier
from worker.jobs.run import Jobs, handlers
from worker.redact import redact
from worker.remind import Reminder
from worker.sessions import connect
from worker.settings import Settings
from worker.stripe_api import StripeAccess
from worker.watch import NO_KEY, Watch

IDLE_SECONDS = 0.2
# How long a worker that stops waits for the requests in hand, all of them together.
STOP_SECONDS = 20.0
RECONNECT_FIRST_SECONDS = 0.2
# Repeated failed log-ins make Supabase's pooler refuse the whole project for a minute, so retry slowly.
RECONNECT_MAX_SECONDS = 15.0

_NO_SCHEMA = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidParameterValue,  # the role billing_worker does not exist
)

Stage = Mender | Clock | Reminder | Watch | DatabaseMetrics

log = structlog.stdlib.get_logger()


def run(settings: Settings, stop: threading.Event) -> None:
    """Drain the queue until `stop` is set. Survives a lost connection and restarts of Postgres.

    Raises WrongStripeKey if the key belongs to another account or mode, MissingRight if the database refuses what the
    worker does, SettingsError if a notification URL is not valid.
    """
    key, base = settings.stripe_api_key, settings.stripe_api_base
    check = KeyCheck(key, base)
    watch = Watch(key, base)
    figures = [FIGURES] if settings.metrics_port is not None else []
    lookups = Lookups(StripeReader(key, base, lambda: check.is_ours))
    jobs = jobs_of(settings, StripeAccess(key, base, lambda: check.is_ours))
    try:
        _run(settings, check, (watch, figures), (lookups, jobs), stop)
    finally:
        lookups.close()
        jobs.close()


def jobs_of(settings: Settings, stripe: StripeAccess) -> Jobs:
    """The jobs that this worker does: notifications for those audiences only that it has channels for."""
    notifier = Notifier.of(settings)
    every = handlers(stripe, notifier)
    return Jobs(
        {
            kind: handler
            for kind, handler in every.items()
            if handler is not notifier or kind in notifier.kinds
        },
        known=list(every),
    )


def _run(
    settings: Settings,
    check: KeyCheck,
    watching: tuple[Watch, Sequence[DatabaseMetrics]],
    background: Sequence[Lookups | Jobs],
    stop: threading.Event,
) -> None:
    delay_seconds = RECONNECT_FIRST_SECONDS

    def is_well() -> None:
        nonlocal delay_seconds
        delay_seconds = RECONNECT_FIRST_SECONDS

    while not stop.is_set():
        try:
            with connect(settings) as conn:
                _drain_until(conn, check, watching, background, stop, is_well)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            metrics.RECONNECTS.inc()
            log.warning("connection_lost", error=_one_line(error), retry_in_seconds=round(delay_seconds, 1))
        except _NO_SCHEMA as error:
            log.error(
                "schema_is_missing",
                error=_one_line(error),
                hint="push the migrations: supabase db push --remote",
            )
            delay_seconds = RECONNECT_MAX_SECONDS
        except psycopg.Error as error:
            if lacks_own_right(error):
                raise MissingRight(
                    f"{_one_line(error)}: the worker's rights in the database are not as shipped. "
                    "`till doctor` names the grants to run again"
                ) from error
            log.error("database_refused", error=_one_line(error), retry_in_seconds=round(delay_seconds, 1))
        metrics.CONNECTED.set(0)
        health.PULSE.beat(connected=False)
        stop.wait(delay_seconds * random.uniform(0.5, 1.0))  # noqa: S311
        delay_seconds = min(delay_seconds * 2, RECONNECT_MAX_SECONDS)


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    configure_logging()
    traces.configure(os.environ)
    stop = threading.Event()

    def finish(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    if settings.metrics_port is not None:
        health.serve(settings.metrics_host, settings.metrics_port)
    log.info("worker_started")
    if settings.stripe_api_key is None:
        log.warning(
            "stripe_key_missing", error=NO_KEY, hint="export a restricted key: docs/how-to/install.md"
        )
    run(settings, stop)
    log.info("worker_stopped")


def configure_logging() -> None:
    """Structured log lines on stderr: JSON, or coloured on a terminal."""
    # What it says of a lost connection is raised as well, and would be a line that is no JSON.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if for_people else [structlog.processors.format_exc_info]),
            # Rich's tracebacks would show the variables, such as the bodies of events.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if for_people
            else structlog.processors.JSONRenderer(),
            cast(structlog.typing.Processor, redact),  # of what the renderer returned, a line
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _drain_until(
    conn: Connection[Any],
    check: KeyCheck,
    watching: tuple[Watch, Sequence[DatabaseMetrics]],
    background: Sequence[Lookups | Jobs],
    stop: threading.Event,
    is_well: Callable[[], None],
) -> None:
    watch, figures = watching
    watch.begin(conn, time.monotonic())
    inbox.start(conn)
    log.info("connected")
    metrics.CONNECTED.set(1)
    stages = (Mender(), Clock(), Reminder(), watch, *figures)
    try:
        _go_round(conn, check, stages, background, stop, is_well)
    except psycopg.errors.InsufficientPrivilege:
        # What is in hand is not to blame, and is not to be tried again for each start of a worker that stops at once.
        with suppress(psycopg.Error):
            inbox.release(conn)
        raise
    for work in background:
        work.stop(conn)
    until_seconds = time.monotonic() + STOP_SECONDS
    for work in background:
        work.finish(conn, until_seconds)
    inbox.release(conn)


def _go_round(
    conn: Connection[Any],
    check: KeyCheck,
    stages: Sequence[Stage],
    background: Sequence[Lookups | Jobs],
    stop: threading.Event,
    is_well: Callable[[], None],
) -> None:
    batches = Batches(conn)
    while not stop.is_set():
        health.PULSE.beat(connected=True)
        check.tick(conn, time.monotonic())
        with metrics.BATCH_SECONDS.time():
            settled = batches.settle_next()
        report(settled)
        more = [stage.tick(conn, time.monotonic()) for stage in stages if not stop.is_set()]
        for work in background if not stop.is_set() else ():
            work.tick(conn, time.monotonic())
        is_well()
        if not settled and not any(more):
            stop.wait(IDLE_SECONDS)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
