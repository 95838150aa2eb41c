"""Who calls the billing functions: the app's own server, the worker, a superuser who looks behind; and an account."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from devstack.postgres import Postgres
from devstack.scaffold import DefaultGrants, clone_database
from tests.databases import Databases
from tests.sql.calls import fetch, sync_price, sync_product
from tests.sql.people import INITIAL, TRIAL, Person, policy
from tests.sql.shop import START, Shop
from tests.support import Database, account_of, create_user


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole months of a shop take twice the time of other tests: `make test-fast` does without them."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if Path(__file__).parent in item.path.parents and "shop" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(scope="session")
def project(server: Postgres, template: Callable[[DefaultGrants], str]) -> tuple[str, UUID]:
    """A template in which a user has signed up, and the user's account: most tests of this folder begin there."""
    database = Database(server, "template_with_account")
    with psycopg.connect(server.admin_url(), autocommit=True) as admin:
        clone_database(admin, template("none"), database.name)
    with database.connect() as connection:
        return database.name, account_of(connection, create_user(database))


@pytest.fixture
def database(
    request: pytest.FixtureRequest, databases: Databases, template: Callable[[DefaultGrants], str]
) -> Iterator[Database]:
    """A database of the test's own, in which a user has signed up where the test is about an account."""
    has_account = "project" in request.fixturenames
    name = request.getfixturevalue("project")[0] if has_account else template("none")
    with databases.copy(name) as database:
        yield database


@pytest.fixture
def account(project: tuple[str, UUID]) -> UUID:
    """The personal account of a user who has just signed up."""
    return project[1]


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


@pytest.fixture
def other(database: Database, conn: psycopg.Connection[Any]) -> UUID:
    """The account of somebody else."""
    return account_of(conn, create_user(database))


@pytest.fixture
def plans(worker: psycopg.Connection[Any]) -> None:
    """One product of 100 initial and 40 trial credits, another of 7 initial ones."""
    sync_product(worker)
    credits = {"initial_credits": str(INITIAL), "trial_credits": str(TRIAL)}
    sync_price(worker, metadata=credits)
    sync_product(worker, stripe_product_id="prod_2")
    sync_price(
        worker, stripe_price_id="price_2", stripe_product_id="prod_2", metadata={"initial_credits": "7"}
    )


@pytest.fixture
def people(
    plans: None,
    database: Database,
    conn: psycopg.Connection[Any],
    worker: psycopg.Connection[Any],
    app: psycopg.Connection[Any],
) -> Callable[[], list[Person]]:
    """Makes two people, in the order of their account ids, linked to nobody yet."""

    policy(conn, "hold")  # which live mode is by default

    def make() -> list[Person]:
        accounts = sorted(account_of(conn, create_user(database)) for _ in range(2))
        return [Person(account, worker, app) for account in accounts]

    return make


@pytest.fixture
def pair(people: Callable[[], list[Person]]) -> list[Person]:
    """Two people with their customers."""
    return [person.link() for person in people()]


@pytest.fixture
def ada(pair: list[Person]) -> Person:
    """The person of the smaller account id."""
    return pair[0]


@pytest.fixture
def eve(pair: list[Person]) -> Person:
    """The person of the larger account id."""
    return pair[1]
