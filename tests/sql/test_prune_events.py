"""Bodies of old events and the archive of the queue go by age, in chunks; what may still be worked on stays."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.sql.calls import Connection, call, fetch, refused, value
from tests.sql.test_stripe_events import event, read, receive, receiver, settle
from tests.support import Database

__all__ = ["receiver"]  # a fixture

OLD = timedelta(days=91)


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with database.connect("billing_worker") as connection:
        yield connection


def prune(worker: Connection, rows_max: int = 100) -> int:
    return value(worker, "select billing.prune_events(rows_max => %s)", [rows_max])


def settled(receiver: Connection, worker: Connection, event_id: str, status: str) -> None:
    receive(receiver, event_id)
    if status != "queued":
        reason = None if status == "applied" else "because"
        settle(worker, read(worker)[0], status, reason, "cus_1" if status == "parked" else None)


def age(conn: Connection, database: Database, by: timedelta = OLD) -> None:
    conn.execute("update billing.stripe_events set received_at = received_at - %s", [by])
    with database.connect(admin=True) as admin:
        admin.execute("update pgmq.a_stripe_events set archived_at = archived_at - %s", [by])


def with_body(conn: Connection) -> list[str]:
    query = "select stripe_event_id from billing.stripe_events where payload <> '' order by received_at"
    return [row["stripe_event_id"] for row in fetch(conn, query)]


def test_only_what_is_settled_and_old_loses_its_body(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    for status in ("applied", "ignored", "parked", "dead"):
        settled(receiver, worker, f"evt_{status}", status)
    age(conn, database)
    settled(receiver, worker, "evt_new", "applied")
    prune(worker)
    assert with_body(conn) == ["evt_parked", "evt_dead", "evt_new"]
    assert value(conn, "select count(*) from pgmq.a_stripe_events") == 1
    assert receive(receiver, "evt_applied") == "duplicate"
    assert event(conn, "evt_applied")["status"] == "applied"


def test_the_age_is_the_owner_s(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    settled(receiver, worker, "evt_1", "applied")
    age(conn, database, timedelta(days=8))
    prune(worker)
    assert with_body(conn) == ["evt_1"]
    conn.execute("update billing.settings set keep_events_days = 7")
    prune(worker)
    assert with_body(conn) == []


def test_it_goes_on_in_chunks_where_it_left_off(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    for number in range(5):
        settled(receiver, worker, f"evt_{number}", "applied")
    age(conn, database)
    assert prune(worker, 2) == 2
    assert with_body(conn) == ["evt_2", "evt_3", "evt_4"]
    assert prune(worker, 2) == 2
    assert prune(worker, 2) == 1
    assert with_body(conn) == []
    assert prune(worker, 2) == 0
    assert value(conn, "select count(*) from pgmq.a_stripe_events") == 0


def test_an_event_that_goes_on_late_loses_its_body_all_the_same(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    settled(receiver, worker, "evt_late", "parked")
    settled(receiver, worker, "evt_applied", "applied")
    age(conn, database)
    prune(worker)
    assert value(conn, "select billing.retry_stripe_event('evt_late')") == "queued"
    prune(worker)
    assert with_body(conn) == ["evt_late"]
    settle(worker, read(worker)[0], "applied")
    prune(worker)
    assert with_body(conn) == []


def test_an_event_without_its_body_is_not_retried(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    settled(receiver, worker, "evt_1", "ignored")
    age(conn, database)
    prune(worker)
    with refused("TB056"):
        call(conn, "retry_stripe_event", event_id="evt_1")


def test_an_event_that_is_worked_on_is_waited_for(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    settled(receiver, worker, "evt_1", "queued")
    age(conn, database)
    assert prune(worker) == 0
    settle(worker, read(worker)[0], "applied")
    assert prune(worker) == 1
    assert with_body(conn) == []
