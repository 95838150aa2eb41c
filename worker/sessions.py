"""POSTGRES_URL → a session of the worker, on a server connection that no other session shares."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import tuple_row

from worker.errors import TransactionPooler
from worker.settings import Settings

CONNECT_TIMEOUT_SECONDS = 10
# A pool with other users may return another connection than the one that was just released.
POOLER_PROBES = 20
# A statement keeps its plan once it has run so often. psycopg forgets all of them at each rollback.
PREPARE_AFTER = 5


def connect(settings: Settings) -> Connection[Any]:
    """Log in to Postgres as the worker. Raises TransactionPooler before it changes a shared session."""
    conn = _log_in(settings)
    try:
        _refuse_transaction_pooler(conn, settings)
        prepare(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def prepare(conn: Connection[Any]) -> None:
    """Go on as the worker in a session that was just begun."""
    # With statements, because a pooler drops start-up options. Rows are found by key only, so a plan that was made
    # while a table was nearly empty must not stay. Compiling a plan takes longer than running it.
    conn.execute("set role billing_worker")
    conn.execute("set enable_seqscan = off")
    conn.execute("set plan_cache_mode = force_generic_plan")
    conn.execute("set jit = off")
    # Only now: named statements fail behind a transaction pooler, which was refused before.
    conn.prepare_threshold = PREPARE_AFTER


def _log_in(settings: Settings) -> Connection[Any]:
    return psycopg.connect(
        settings.postgres_url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        application_name="till worker",
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
    )


def _refuse_transaction_pooler(conn: Connection[Any], settings: Settings) -> None:
    if is_transaction_pooler(conn, lambda: _log_in(settings)):
        raise TransactionPooler


def is_transaction_pooler(
    conn: Connection[Any], log_in: Callable[[], AbstractContextManager[Connection[Any]]]
) -> bool:
    """Whether a connection shares its session with others; `log_in` opens a second one to the same URL.

    A pooler answers the log-in itself, so it reports another process id than the one that runs the statements. In
    transaction mode that process serves others as soon as our statement ends: a second connection gets it, or we get
    another.
    """
    ours = _backend(conn)
    if ours == conn.info.backend_pid:
        return False
    with log_in() as other:
        for _ in range(POOLER_PROBES):
            with other.transaction():
                if _backend(other) == ours or _backend(conn) != ours:
                    return True
    return False


def _backend(conn: Connection[Any]) -> int:
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select pg_catalog.pg_backend_pid()").fetchone()
    assert row is not None
    return row[0]
