"""A connection string → transactions as `service_role`, to read or to write."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from cli.database import Connection, Row, rows

CONNECTIONS_MAX = 4
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT = "15s"
WRITE_TIMEOUT = "30s"

# In the transaction, because a pooler may use another connection for the next one.
_BEGIN: LiteralString = (
    "select set_config('role', 'service_role', true), set_config('statement_timeout', %s, true), "
    "set_config('transaction_read_only', %s, true), set_config('timezone', 'UTC', true)"
)


class ServiceDatabase:
    """The database, with the privileges of the app's own server."""

    def __init__(self, url: str) -> None:
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            connection_class=psycopg.Connection[Row],
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "row_factory": dict_row,
                "application_name": "till dashboard",
            },
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_SECONDS,
            check=_check,
            open=False,
        )

    def open(self) -> None:
        """Start; connects on first use."""
        self._pool.open()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A read-only transaction, in which all queries see the same snapshot."""
        with self._transaction(READ_TIMEOUT, "on") as conn:
            yield conn

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that is committed at its end."""
        with self._transaction(WRITE_TIMEOUT, "off") as conn:
            yield conn

    @contextmanager
    def _transaction(self, timeout: str, is_read_only: str) -> Generator[Connection]:
        with self._pool.connection() as conn, conn.transaction():
            conn.execute(_BEGIN, [timeout, is_read_only])
            yield conn


def _check(conn: Connection) -> None:
    """Raises if a connection was lost while it was idle; the pool then replaces it."""
    conn.execute("")


def first(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
    """The first row of a query, if it has any."""
    found = rows(conn, query, parameters)
    return found[0] if found else None
