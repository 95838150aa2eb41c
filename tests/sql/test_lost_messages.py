"""Queued events without a message, messages without an event: listed by the proof, and mended."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import older_pgmq
from tests.databases import Databases
from tests.sql.calls import Connection, call, fetch, value
from tests.sql.test_stripe_events import event, queued, read, receive, receiver, settle
from tests.support import Database

__all__ = ["receiver"]  # a fixture


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with database.connect("billing_worker") as connection:
        yield connection


def proof(conn: Connection) -> list[str]:
    return sorted(row["invariant"] for row in fetch(conn, "select * from billing.ledger_discrepancies"))


def test_a_queued_event_without_a_message_is_listed_and_queued_again(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    for number in range(3):
        receive(receiver, f"evt_{number}")
    settle(worker, read(worker, batch_size=1)[0], "applied")
    with database.connect(admin=True) as admin:
        admin.execute("delete from pgmq.q_stripe_events where message ->> 'event_id' = 'evt_2'")
    assert proof(conn) == ["queued_event_has_a_message"]
    assert value(worker, "select billing.requeue_stripe_events()") == 1
    assert proof(conn) == []
    assert queued(conn) == 2
    assert value(worker, "select billing.requeue_stripe_events()") == 0
    assert "evt_2" in [row["stripe_event_id"] for row in read(worker)]


def test_an_event_that_was_excused_often_starts_afresh_with_its_new_message(
    database: Database, conn: Connection, receiver: Connection, worker: Connection
) -> None:
    receive(receiver)
    conn.execute("update billing.stripe_events set attempts = 30, excused_attempts = 30")
    with database.connect(admin=True) as admin:
        admin.execute("delete from pgmq.q_stripe_events")
    call(worker, "requeue_stripe_events")
    assert [row["attempts"] for row in read(worker)] == [1]


def test_messages_without_an_event_are_listed_and_archived_by_the_next_poll(
    conn: Connection, receiver: Connection, worker: Connection
) -> None:
    conn.execute(
        "select pgmq.send('stripe_events', jsonb_build_object('event_id', 'evt_gone_' || n)) "
        "from generate_series(1, 130) as n"
    )
    receive(receiver)
    assert set(proof(conn)) == {"message_has_a_queued_event"}
    assert [row["stripe_event_id"] for row in read(worker, batch_size=50)] == ["evt_1"]
    assert queued(conn) == 1
    assert value(conn, "select count(*) from pgmq.a_stripe_events") == 130
    assert proof(conn) == []


def test_a_message_of_a_settled_event_is_archived(
    conn: Connection, receiver: Connection, worker: Connection
) -> None:
    receive(receiver)
    settle(worker, read(worker)[0], "applied")
    conn.execute("select pgmq.send('stripe_events', '{\"event_id\": \"evt_1\"}')")
    assert proof(conn) == ["message_has_a_queued_event"]
    assert read(worker) == []
    assert proof(conn) == []
    assert event(conn)["status"] == "applied"


@contextmanager
def restore(databases: Databases, database: Database) -> Iterator[Database]:
    """What pg_dump saves of a project on pgmq 1.5.1, which makes a queue's tables members of the extension."""
    if not older_pgmq.is_wanted():
        with database.connect(admin=True) as admin:
            for queue in ("stripe_events", "billing_jobs"):
                for table in (f"q_{queue}", f"a_{queue}"):
                    admin.execute(f"alter extension pgmq add table pgmq.{table}")
    with databases.fresh() as copy:
        dump = subprocess.run(
            [database.server.bin("pg_dump"), "--schema=billing", "--schema=public", f"--dbname={database.url}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        subprocess.run(
            [database.server.bin("psql"), "-q", "-X", copy.url],
            input="create extension pgmq;\n" + dump, capture_output=True, text=True, check=True,
        )  # fmt: skip
        yield copy


@pytest.fixture
def restored(databases: Databases, database: Database, receiver: Connection) -> Iterator[Database]:
    for number in range(3):
        receive(receiver, f"evt_{number}")
    with restore(databases, database) as copy:
        yield copy


def test_a_restore_that_left_the_queue_out_loses_no_event(restored: Database) -> None:
    with restored.connect() as conn, restored.connect("billing_worker") as worker:
        assert value(conn, "select to_regclass('pgmq.q_stripe_events')") is None
        assert proof(conn) == ["queued_event_has_a_message"] * 3
        call(worker, "start_worker")
        assert value(worker, "select billing.requeue_stripe_events()") == 3
        assert proof(conn) == []
        assert [row["stripe_event_id"] for row in read(worker)] == ["evt_0", "evt_1", "evt_2"]
        owned = "select relrowsecurity from pg_class where oid = 'pgmq.q_stripe_events'::regclass"
        assert value(conn, owned) is True
