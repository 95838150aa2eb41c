"""Who calls the billing functions: the app's own server, the worker, a superuser who looks behind; and an account."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import fetch
from tests.sql.shop import START, Shop
from tests.support import Database, account_of, create_user


@pytest.fixture
def app(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The app's own server: `service_role`."""
    with database.connect("service_role") as connection:
        yield connection


@pytest.fixture
def worker(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The worker: `billing_worker`."""
    with database.connect("billing_worker") as connection:
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A superuser, who can do what no part of the product can."""
    with database.connect(admin=True) as connection:
        yield connection


@pytest.fixture
def account(database: Database, conn: psycopg.Connection[Any]) -> UUID:
    """The personal account of a user who has just signed up."""
    return account_of(conn, create_user(database))


@pytest.fixture
def shop(
    app: psycopg.Connection[Any],
    worker: psycopg.Connection[Any],
    admin: psycopg.Connection[Any],
    account: UUID,
) -> Iterator[Shop]:
    """The account with its customer, on the first day of a month of 30 days. Its credits are proved at the end."""
    shop = Shop(account, app, worker, admin)
    shop.go_to(START)
    yield shop
    assert fetch(admin, "select * from billing.entitlement_discrepancies") == []
