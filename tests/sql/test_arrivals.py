"""An event that waits for a plan or an account goes on by itself when it arrives, whichever commits first."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import JANUARY, SECOND, Connection, Row, call, fetch, link, sync_price, value
from tests.sql.races import blocked
from tests.sql.test_stripe_events import event, queued, read, receive, settle
from tests.support import Database

Arrive = Callable[[psycopg.Connection[Any], UUID], object]


def price_arrives(conn: Connection, _: UUID) -> object:
    return sync_price(conn)


def link_arrives(conn: Connection, account: UUID) -> object:
    return link(conn, account)


def merge_arrives(conn: Connection, account: UUID) -> object:
    link(conn, account, "cus_kept")
    return call(conn, "merge_customer", stripe_customer_id="cus_1", duplicate_of="cus_kept")


# What is waited for, how the event waits, who brings it, and how.
ARRIVALS = pytest.mark.parametrize(
    ("stripe_id", "status", "role", "arrive"),
    [
        ("price_1", "dead", "billing_worker", price_arrives),
        ("cus_1", "parked", "service_role", link_arrives),
        ("cus_1", "parked", "service_role", merge_arrives),
    ],
    ids=["plan", "link", "merge"],
)


@pytest.fixture
def message(conn: Connection, worker: Connection) -> Row:
    """A message in the worker's hands."""
    receive(conn)
    (taken,) = read(worker)
    return taken


def is_back(conn: Connection) -> bool:
    row = event(conn)
    return (row["status"], row["waiting_for"], queued(conn)) == ("queued", None, 1)


@ARRIVALS
def test_event_set_aside_goes_on_when_what_it_waits_for_arrives(
    database: Database,
    conn: Connection,
    worker: Connection,
    account: UUID,
    message: Row,
    stripe_id: str,
    status: str,
    role: str,
    arrive: Arrive,
) -> None:
    settle(worker, message, status, "not here", stripe_id)
    assert queued(conn) == 0
    with database.connect(role) as bringing:
        arrive(bringing, account)
    assert is_back(conn)


@ARRIVALS
def test_event_set_aside_after_the_arrival_goes_on_at_once(
    database: Database,
    conn: Connection,
    worker: Connection,
    account: UUID,
    message: Row,
    stripe_id: str,
    status: str,
    role: str,
    arrive: Arrive,
) -> None:
    with database.connect(role) as bringing:
        arrive(bringing, account)
    settle(worker, message, status, "not here", stripe_id)
    assert is_back(conn)


@ARRIVALS
def test_event_set_aside_while_the_arrival_commits_goes_on(
    database: Database,
    conn: Connection,
    worker: Connection,
    account: UUID,
    message: Row,
    stripe_id: str,
    status: str,
    role: str,
    arrive: Arrive,
) -> None:
    with database.connect(role, autocommit=False) as bringing:
        arrive(bringing, account)
        with blocked(
            worker, conn, lambda: settle(worker, message, status, "not here", stripe_id)
        ) as setting_aside:
            bringing.commit()
            setting_aside.result()
    assert is_back(conn)


@ARRIVALS
def test_arrival_while_the_event_is_being_set_aside_sends_it_on(
    database: Database,
    conn: Connection,
    account: UUID,
    message: Row,
    stripe_id: str,
    status: str,
    role: str,
    arrive: Arrive,
) -> None:
    with (
        database.connect("billing_worker", autocommit=False) as settling,
        database.connect(role) as bringing,
    ):
        settle(settling, message, status, "not here", stripe_id)
        with blocked(bringing, conn, lambda: arrive(bringing, account)) as arrival:
            settling.commit()
            arrival.result()
    assert is_back(conn)


def test_events_waiting_for_something_else_stay(conn: Connection, worker: Connection, account: UUID) -> None:
    receive(conn, "evt_1")
    receive(conn, "evt_2")
    for one in read(worker):
        settle(worker, one, "parked", "no account", f"cus_{one['stripe_event_id'][-1]}")
    link(conn, account, "cus_1")
    rows = fetch(conn, "select stripe_event_id, status from billing.stripe_events order by 1")
    assert [(row["stripe_event_id"], row["status"]) for row in rows] == [
        ("evt_1", "queued"),
        ("evt_2", "parked"),
    ]


def test_event_that_was_applied_while_it_waited_is_not_sent_again(
    conn: Connection, worker: Connection, message: Row
) -> None:
    settle(worker, message, "dead", "no plan", "price_1")
    settle(worker, message, "applied")
    sync_price(worker)
    assert event(conn)["status"] == "applied"
    assert queued(conn) == 0


def test_arrival_told_again_sends_nothing_again(conn: Connection, worker: Connection, message: Row) -> None:
    settle(worker, message, "dead", "no plan", "price_1")
    sync_price(worker)
    sync_price(worker, as_of=JANUARY + SECOND)
    assert queued(conn) == 1
    assert value(conn, "select count(*) from pgmq.a_stripe_events") == 1


def test_one_time_price_that_is_no_pack_wakes_nobody(
    conn: Connection, worker: Connection, message: Row
) -> None:
    settle(worker, message, "dead", "no plan", "price_1")
    sync_price(worker, type="one_time")
    assert event(conn)["status"] == "dead"
