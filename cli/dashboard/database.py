"""A connection string → transactions as `service_role`, to read or to write, or as its own role, to read."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from cli.database import Connection, Row, rows

CONNECTIONS_MAX = 4
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT = "15s"
WRITE_TIMEOUT = "30s"

# In the transaction, because a pooler may use another connection for the next one.
_BEGIN: LiteralString = (
    "select set_config('role', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('transaction_read_only', %s, true), set_config('timezone', 'UTC', true)"
)


class ServiceDatabase:
    """The database, with the privileges of the app's own server."""

    def __init__(self, url: str) -> None:
        self.url = url
        # For the header of every page; without user and password.
        self.place = _place(url)
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
        with self._transaction("service_role", READ_TIMEOUT, "on") as conn:
            yield conn

    @contextmanager
    def reading_as_owner(self) -> Generator[Connection]:
        """A read-only transaction of the connection string's own role: for doctor, and for sign-ins as evidence."""
        with self._transaction("none", READ_TIMEOUT, "on") as conn:
            yield conn

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that is committed at its end."""
        with self._transaction("service_role", WRITE_TIMEOUT, "off") as conn:
            yield conn

    @contextmanager
    def _transaction(self, role: str, timeout: str, is_read_only: str) -> Generator[Connection]:
        with self._pool.connection() as conn, conn.transaction():
            conn.execute(_BEGIN, [role, timeout, is_read_only])
            yield conn


def _place(url: str) -> str:
    """Host and database; of a pooler of Supabase's, whose host says nothing, the project."""
    parts = conninfo_to_dict(url)
    host, user = str(parts.get("host") or "localhost"), str(parts.get("user") or "")
    if host.endswith(".pooler.supabase.com") and "." in user:
        host = user.partition(".")[2]
    port = "" if str(parts.get("port") or 5432) == "5432" else f":{parts['port']}"
    return f"{host}{port} / {parts.get('dbname') or user or 'postgres'}"


def _check(conn: Connection) -> None:
    """Raises if a connection was lost while it was idle; the pool then replaces it."""
    conn.execute("")


def first(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
    """The first row of a query, if it has any."""
    found = rows(conn, query, parameters)
    return found[0] if found else None
