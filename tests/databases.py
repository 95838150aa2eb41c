"""A template → copies of it, a database for each test.

One connection makes and drops them all: one for each took a fifth of the time. A database is dropped when the next one
is done with: Postgres waits a tenth of a second for connections that are just closing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg

from devstack.postgres import Postgres
from devstack.scaffold import DefaultGrants, clone_database, create_database, drop_database
from tests.support import Database


class Databases:
    """The tests' databases on one server."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._connection = psycopg.connect(server.admin_url(), autocommit=True)
        self._used: str | None = None

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def copy(self, template: str) -> Iterator[Database]:
        """A copy of a template, which nobody may be connected to."""
        with self._database(lambda name: clone_database(self._connection, template, name)) as database:
            yield database

    @contextmanager
    def fresh(self, default_grants: DefaultGrants = "none") -> Iterator[Database]:
        """A fresh Supabase project without any migration."""

        def make(name: str) -> None:
            create_database(self._server, name, default_grants=default_grants)

        with self._database(make) as database:
            yield database

    @contextmanager
    def _database(self, make: Callable[[str], None]) -> Iterator[Database]:
        name = f"test_{uuid4().hex[:12]}"
        make(name)
        try:
            yield Database(self._server, name)
        finally:
            used, self._used = self._used, name
            if used is not None:
                drop_database(self._connection, used)
