"""What a worker had in hand when its session ended is due at once; what it still has, or delayed, is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.sql.calls import Connection, Row, call, fetch, value
from tests.sql.test_stripe_events import event, read, receive, receiver, settle
from tests.support import Database

__all__ = ["receiver"]  # a fixture


@contextmanager
def session(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect("billing_worker") as worker:
        call(worker, "start_worker")
        yield worker


def end(conn: Connection, worker: Connection) -> None:
    """End a session from outside, as the death of its process does."""
    conn.execute("select pg_terminate_backend(%s, 10000)", [worker.info.backend_pid])


def ids(messages: list[Row]) -> list[str]:
    return [message["stripe_event_id"] for message in messages]


def test_messages_of_a_dead_worker_are_due_when_the_next_one_starts(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as dead:
        assert ids(read(dead)) == ["evt_1"]
        end(conn, dead)
    with session(database) as next_worker:
        assert [(row["stripe_event_id"], row["attempts"]) for row in read(next_worker)] == [("evt_1", 2)]


def test_a_living_worker_hands_back_what_a_dead_one_held(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as living, session(database) as dead:
        read(dead)
        call(living, "hand_back_stripe_events")
        assert read(living) == [], "its worker lives"
        end(conn, dead)
        call(living, "hand_back_stripe_events")
        assert ids(read(living)) == ["evt_1"]
        assert value(conn, "select count(*) from billing.workers") == 1


def test_what_a_dead_worker_had_delayed_or_settled_stays_so(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    for number in (1, 2, 3):
        receive(receiver, f"evt_{number}")
    with session(database) as living, session(database) as dead:
        first, second, _ = read(dead)
        call(
            dead, "delay_stripe_event", msg_id=first["msg_id"], event_id="evt_1", delay_seconds=60,
            reason="later", excused=True,
        )  # fmt: skip
        settle(dead, second, "applied")
        end(conn, dead)
        call(living, "hand_back_stripe_events")
        assert ids(read(living)) == ["evt_3"]
        assert (event(conn)["status"], event(conn, "evt_2")["status"]) == ("queued", "applied")


def test_an_event_that_its_workers_die_of_waits_a_little_and_parts_from_the_others(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    for number in range(4):
        receive(receiver, f"evt_{number}")
    waits = "select vt - clock_timestamp() as wait from pgmq.q_stripe_events order by msg_id"
    for deaths in range(1, 5):
        conn.execute("update pgmq.q_stripe_events set vt = now()")
        with session(database) as dead:
            assert len(read(dead)) == 4
            end(conn, dead)
        with session(database):
            found = [row["wait"].total_seconds() for row in fetch(conn, waits)]
            if deaths < 3:
                assert max(found) <= 0
            else:
                assert max(found) < 4
                assert len({round(wait, 3) for wait in found}) == 4


def test_what_comes_back_goes_before_what_came_after_it(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver, "evt_1")
    with session(database) as dead:
        read(dead)
        receive(receiver, "evt_2")
        end(conn, dead)
    with session(database) as worker:
        assert ids(read(worker, batch_size=1)) == ["evt_1"]


def test_what_a_worker_releases_is_due_and_was_no_attempt(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as worker:
        read(worker)
        call(worker, "release_stripe_events", delay_seconds=0)
        assert [row["attempts"] for row in read(worker)] == [1]


def test_a_session_with_the_process_id_of_a_dead_one_starts_afresh(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as dead:
        read(dead)
        end(conn, dead)
    with database.connect("billing_worker") as worker, database.connect(admin=True) as admin:
        admin.execute("update billing.workers set pid = %s", [worker.info.backend_pid])
        call(worker, "start_worker")
        assert ids(read(worker)) == ["evt_1"]


def ask(worker: Connection, message: Row) -> None:
    call(
        worker, "ask_stripe", msg_id=message["msg_id"], event_id=message["stripe_event_id"], tie_kind=None,
        tie_stripe_id=None,
    )  # fmt: skip


def look_up(worker: Connection, lookups_max: int = 10) -> list[Row]:
    query = "select * from billing.take_stripe_lookups(lookups_max => %s, lease_seconds => 60)"
    return fetch(worker, query, [lookups_max])


def test_a_lookup_keeps_its_message_and_leaves_the_queue_free(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as worker:
        ask(worker, read(worker)[0])
        assert read(worker) == []
        [taken] = look_up(worker)
        assert (taken["stripe_event_id"], taken["attempts"]) == ("evt_1", 1)
        assert look_up(worker) == [], "it is in hand"
        settle(worker, taken, "applied")
        assert value(conn, "select count(*) from billing.stripe_lookups") == 0
        assert value(conn, "select count(*) from pgmq.q_stripe_events") == 0


def test_lookups_of_a_dead_worker_are_due_at_once(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as dead:
        ask(dead, read(dead)[0])
        look_up(dead)
        end(conn, dead)
    with session(database) as worker:
        assert ids(look_up(worker)) == ["evt_1"]


def test_a_lookup_that_is_lost_is_made_again_from_its_message(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    receive(receiver)
    with session(database) as worker, database.connect(admin=True) as admin:
        ask(worker, read(worker)[0])
        admin.execute("delete from billing.stripe_lookups")
        admin.execute("update pgmq.q_stripe_events set vt = now()")
        assert ids(read(worker)) == ["evt_1"]


def test_a_lookup_never_settles_the_message_of_another_event(
    database: Database, conn: Connection, receiver: Connection
) -> None:
    """After a restore the queue numbers its messages from the start."""
    receive(receiver, "evt_1")
    receive(receiver, "evt_2")
    with session(database) as worker, database.connect(admin=True) as admin:
        first, second = read(worker)
        ask(worker, first)
        admin.execute("update billing.stripe_lookups set msg_id = %s", [second["msg_id"]])
        assert look_up(worker) == []
        assert value(conn, "select count(*) from billing.stripe_lookups") == 0


@pytest.mark.parametrize("waiting", [400_000])
@pytest.mark.slow
def test_a_poll_does_not_look_at_messages_that_are_not_due(
    database: Database, conn: Connection, waiting: int
) -> None:
    with database.connect(admin=True) as admin, session(database) as worker:
        admin.execute(
            "insert into pgmq.q_stripe_events (vt, message) select clock_timestamp() + interval '1 hour', "
            "jsonb_build_object('event_id', 'evt_' || n) from generate_series(1, %s) as n",
            [waiting],
        )
        admin.execute("analyze pgmq.q_stripe_events")
        assert pages_read(admin, worker, None) < 50


@pytest.mark.slow
def test_a_poll_passes_what_an_old_snapshot_keeps_once_and_not_each_time(
    database: Database, conn: Connection
) -> None:
    with (
        database.connect(admin=True) as admin,
        session(database) as worker,
        database.connect(autocommit=False) as old,
    ):
        old.execute("set transaction isolation level repeatable read")
        old.execute("select from billing.settings")
        admin.execute(
            "insert into pgmq.q_stripe_events (vt, message) select clock_timestamp() - interval '1 minute', "
            "jsonb_build_object('event_id', 'evt_' || n) from generate_series(1, 100000) as n"
        )
        admin.execute("delete from pgmq.q_stripe_events")
        everything, recent = pages_read(admin, worker, None), pages_read(admin, worker, 10.0)
        assert everything > 1000
        assert recent < 50


def pages_read(admin: Connection, worker: Connection, due_within_seconds: float | None) -> int:
    """How many pages of the queue and its indexes a poll looks at."""
    count = (
        "select (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int "
        "from pg_statio_all_tables where relname = 'q_stripe_events'"
    )

    def pages() -> int:
        worker.execute("select pg_stat_force_next_flush()")
        worker.execute("select 1")
        return value(admin, count)

    before = pages()
    worker.execute("select billing.read_stripe_events(60, 50, %s)", [due_within_seconds])
    return pages() - before
