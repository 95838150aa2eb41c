"""A template database → a copy of it for one measurement."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg

from devstack.postgres import Postgres
from devstack.scaffold import clone_database, drop_database

_numbers = count()


@contextmanager
def copy(server: Postgres, template: str) -> Iterator[str]:
    """Name of a copy, written to disk in full, so that what is measured pays for its own writes only."""
    name = f"{template}_{next(_numbers)}"
    with psycopg.connect(server.admin_url(), autocommit=True) as admin:
        clone_database(admin, template, name)
        try:
            with psycopg.connect(server.admin_url(name), autocommit=True) as conn:
                conn.execute("checkpoint")
            yield name
        finally:
            drop_database(admin, name)
