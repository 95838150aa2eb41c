"""What many tests need: a database of their own, users in it, and the eyes of each role."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from devstack.postgres import Postgres
from devstack.tokens import sign_up
from worker.sessions import prepare


@dataclass(frozen=True)
class Database:
    """One database on a running server."""

    server: Postgres
    name: str

    @property
    def url(self) -> str:
        """As `postgres`, no superuser: what the product connects as."""
        return self.server.url(self.name)

    @property
    def admin_url(self) -> str:
        """As the superuser: to look behind the product's back."""
        return self.server.admin_url(self.name)

    def connect(
        self, role: str | None = None, *, admin: bool = False, **options: Any
    ) -> psycopg.Connection[Any]:
        """A new connection, autocommit unless told; `role` is taken at start-up, as the product does it."""
        if role is not None:
            options["options"] = f"{options.get('options', '')} -c role={role}".strip()
        options = {"autocommit": True, "prepare_threshold": None} | options
        return psycopg.connect(self.admin_url if admin else self.url, **options)


@contextmanager
def as_worker(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A session of the worker, as `worker.sessions.connect` makes it."""
    with database.connect() as connection:
        connection.execute("set application_name = 'till worker'")
        prepare(connection)
        yield connection


def create_user(database: Database, email: str | None = None) -> UUID:
    """Sign a user up as the auth server does: a row in `auth.users`, written by its role; triggers fire."""
    with database.connect(admin=True) as connection, connection.transaction():
        return sign_up(connection, email or f"{uuid4().hex}@example.com")


def account_of(connection: psycopg.Connection[Any], user_id: UUID) -> UUID:
    """The personal account that the sign-up made."""
    row = connection.execute("select id from billing.accounts where owner_id = %s", [user_id]).fetchone()
    assert row is not None, f"user {user_id} has no account"
    return row[0]


@contextmanager
def as_user(
    connection: psycopg.Connection[Any], user_id: UUID, **claims: Any
) -> Iterator[psycopg.Connection[Any]]:
    """A transaction as a signed-in user, prepared as the Data API prepares it; `claims` come on top."""
    every_claim = {"sub": str(user_id), "role": "authenticated", "aud": "authenticated"} | claims
    with _as(connection, "authenticated", every_claim):
        yield connection


@contextmanager
def as_anon(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A transaction as a visitor who is not signed in, prepared as the Data API prepares it."""
    with _as(connection, "anon", {"role": "anon"}):
        yield connection


@contextmanager
def as_role(connection: psycopg.Connection[Any], role: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction as `service_role` with its claims, or as any other role that `postgres` may take."""
    with _as(connection, role, {"role": role} if role == "service_role" else {}):
        yield connection


@contextmanager
def _as(connection: psycopg.Connection[Any], role: str, claims: dict[str, Any]) -> Iterator[None]:
    # Both settings last to the end of this transaction, so it must not be part of another.
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with connection.transaction():
        if claims:
            connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        yield
