"""A connection string → transactions as `service_role`: to read in, or to write in."""

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

# In the transaction, because a pooler may hand the next one another connection.
_BEGIN: LiteralString = (
    "select set_config('role', 'service_role', true), set_config('statement_timeout', %s, true), "
    "set_config('transaction_read_only', %s, true), set_config('timezone', 'UTC', true)"
)


class Books:
    """The database, as far as the app's own server may look into it."""

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
        """Begin; connects when first asked."""
        self._pool.open()

    def close(self) -> None:
        """Let the connections go."""
        self._pool.close()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A transaction that can't write, in which all queries see the same moment."""
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
    """Raises for a connection that was lost while nobody used it; the pool makes another one."""
    conn.execute("")


def first(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
    """The first row of a query, if it has any."""
    found = rows(conn, query, parameters)
    return found[0] if found else None
