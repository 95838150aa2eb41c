"""Cards, payments, links and reviews at the same moment."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

import psycopg
import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    SECOND,
    Connection,
    balance,
    discrepancies,
    entries,
    fresh,
    value,
)
from tests.sql.people import INITIAL, Person, held, held_id, review, row_of
from tests.sql.races import at_once, blocked
from tests.support import Database


@pytest.fixture
def other_worker(database: Database) -> Iterator[Connection]:
    """A second worker's connection."""
    with database.connect("billing_worker") as connection:
        yield connection


def test_of_two_sightings_at_once_the_second_sees_the_first(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    for person in (ada, eve):
        person.pay()
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(other_worker, conn, lambda: eve.attach("visa", FEBRUARY, other_worker)) as second:
            worker.execute("commit")
            worker.execute("begin")
            assert second.result() == "applied"
    assert (balance(conn, ada.account_id), balance(conn, eve.account_id)) == (INITIAL, 0)


def test_a_grant_that_commits_beside_a_sighting_is_taken_back(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        eve.pay()
        with blocked(other_worker, conn, lambda: ada.attach("visa", JANUARY, other_worker)) as sighting:
            worker.execute("commit")
            worker.execute("begin")
            assert sighting.result() == "applied"
    assert balance(conn, eve.account_id) == 0
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_a_grant_waits_for_the_sighting_that_is_about_to_commit(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(other_worker, conn, lambda: eve.pay(conn=other_worker)) as payment:
            worker.execute("commit")
            worker.execute("begin")
            assert payment.result() == "applied"
    assert entries(conn, eve.account_id) == []
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_a_link_that_commits_beside_a_sighting_is_seen(
    database: Database,
    conn: Connection,
    app: Connection,
    people: Callable[[], list[Person]],
    worker: Connection,
) -> None:
    ada, eve = people()
    eve.link().pay()
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(app, conn, ada.link) as linking:
            worker.execute("commit")
            worker.execute("begin")
            linking.result()
    assert balance(conn, eve.account_id) == 0


def test_two_administrators_at_once_give_once(
    database: Database, conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    eve.pay()
    ada.attach("visa")
    id = held_id(conn, eve)
    with database.connect("service_role") as other, app.transaction():
        first = review(app, id, "approve", actor="one")
        with blocked(other, conn, lambda: review(other, id, "approve", actor="two")) as second:
            app.execute("commit")
            app.execute("begin")
            assert second.result() == first
    assert balance(conn, eve.account_id) == INITIAL
    assert value(conn, "select count(*) from billing.credit_reinstatements") == 1


def test_two_workers_in_whatever_interleaving_end_alike(
    conn: Connection, worker: Connection, other_worker: Connection, people: Callable[[], list[Person]]
) -> None:
    """Each in transactions of several events, repeated when Postgres refuses them, as the worker's batches are."""
    random = Random(7)
    for _ in range(30):
        ada, eve = (person.link() for person in people())
        card = fresh("card")
        invoices = {person: fresh("in") for person in (ada, eve)}
        events: list[Callable[[Connection], object]] = [
            lambda conn, ada=ada, card=card: ada.attach(card, FEBRUARY, conn),
            lambda conn, ada=ada, invoices=invoices: ada.pay(conn=conn, stripe_invoice_id=invoices[ada]),
            lambda conn, eve=eve, card=card: eve.attach(card, MARCH, conn),
            lambda conn, eve=eve, invoices=invoices: eve.pay(conn=conn, stripe_invoice_id=invoices[eve]),
            lambda conn, eve=eve, card=card: eve.attach(card, JANUARY, conn),
            lambda conn, ada=ada, card=card: ada.attach(card, JANUARY + SECOND, conn),
        ]
        random.shuffle(events)
        assert at_once(
            [
                partial(_apply, worker, events[:3]),
                partial(_apply, other_worker, events[3:]),
            ]
        ) == [None, None]
        assert (balance(conn, ada.account_id), balance(conn, eve.account_id)) == (0, INITIAL)
        assert held(conn, ada, eve) == [row_of(ada, eve, card)]
    assert discrepancies(conn) == []


def _apply(conn: Connection, events: Sequence[Callable[[Connection], object]]) -> None:
    while True:
        try:
            with conn.transaction():
                conn.execute("set local lock_timeout = '50ms'")
                for event in events:
                    event(conn)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
        return
