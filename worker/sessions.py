"""POSTGRES_URL → a session of the worker, on a server connection that is its own."""

from typing import Any

import psycopg
from psycopg import Connection

from worker.errors import TransactionPooler
from worker.settings import Settings

CONNECT_TIMEOUT_SECONDS = 10
# A pool that others use at the same moment may hand out another connection than the one that was just given back.
POOLER_PROBES = 20


def connect(settings: Settings) -> Connection[Any]:
    """Log in to Postgres as the worker does. Raises TransactionPooler, before anything is set on another's session."""
    conn = _log_in(settings)
    try:
        _refuse_transaction_pooler(conn, settings)
        # By statement, because a pooler drops start-up options. Rows are found by key only, and a plan that was made
        # while a table was nearly empty must not outlive that. To compile a plan takes longer than to run it.
        conn.execute("set role billing_worker")
        conn.execute("set enable_seqscan = off")
        conn.execute("set plan_cache_mode = force_generic_plan")
        conn.execute("set jit = off")
    except BaseException:
        conn.close()
        raise
    return conn


def _log_in(settings: Settings) -> Connection[Any]:
    # Prepared statements by name break behind a pooler.
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
    """A pooler answers a log-in itself, so it names another process than the one that then runs the statements.

    In transaction mode that process is given to others as soon as our statement is over: a second connection gets it,
    or we get another.
    """
    ours = _backend(conn)
    if ours == conn.info.backend_pid:
        return
    with _log_in(settings) as other:
        for _ in range(POOLER_PROBES):
            with other.transaction():
                if _backend(other) == ours or _backend(conn) != ours:
                    raise TransactionPooler


def _backend(conn: Connection[Any]) -> int:
    row = conn.execute("select pg_catalog.pg_backend_pid()").fetchone()
    assert row is not None
    return row[0]
