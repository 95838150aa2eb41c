"""The inbox: an event is stored once, queued with it, counted when read, and moved to exactly one end."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.sql.calls import Connection, Row, answer, call, fetch, fetch_one, refused, value
from tests.sql.races import at_once, blocked
from tests.support import Database


@pytest.fixture
def receiver(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """The edge function: `billing_receiver`."""
    with database.connect("billing_receiver") as connection:
        yield connection


def receive(conn: Connection, event_id: str = "evt_1", **more: Any) -> str:
    arguments: Row = {
        "event_id": event_id,
        "type": "invoice.paid",
        "api_version": "2026-10-28.endive",
        "created": 1767225600,
        "livemode": False,
        "payload": "{}",
    }
    return answer(conn, "receive_stripe_event", **(arguments | more))


def read(worker: Connection, visibility_seconds: int = 60, batch_size: int = 10) -> list[Row]:
    query = "select * from billing.read_stripe_events(visibility_seconds => %s, batch_size => %s)"
    return fetch(worker, query, [visibility_seconds, batch_size])


def settle(
    worker: Connection, message: Row, status: str, reason: str | None = None, waiting_for: str | None = None
) -> None:
    worker.execute(
        "select billing.settle_stripe_events("
        "msg_ids => %s, event_ids => %s, statuses => %s, reasons => %s::text[], waiting_for => %s::text[])",
        [[message["msg_id"]], [message["stripe_event_id"]], [status], [reason], [waiting_for]],
    )


def event(conn: Connection, event_id: str = "evt_1") -> Row:
    return fetch_one(conn, "select * from billing.stripe_events where stripe_event_id = %s", [event_id])


def queued(conn: Connection) -> int:
    return value(conn, "select count(*) from pgmq.q_stripe_events")


def test_received_event_is_stored_as_it_came_with_a_message(receiver: Connection, conn: Connection) -> None:
    payload = '{"id": "evt_1",  "text": "\\u0000 \\ud800"}'
    assert receive(receiver, payload=payload) == "queued"
    row = event(conn)
    assert (row["payload"], row["status"], row["attempts"]) == (payload, "queued", 0)
    assert row["created_at"].timestamp() == 1767225600
    assert value(conn, "select message from pgmq.q_stripe_events") == {"event_id": "evt_1"}


def test_event_that_came_before_is_a_duplicate_and_changes_nothing(
    receiver: Connection, conn: Connection
) -> None:
    receive(receiver, payload="first")
    assert receive(receiver, payload="second") == "duplicate"
    assert event(conn)["payload"] == "first"
    assert queued(conn) == 1


def test_event_of_the_other_mode_is_recorded_and_ignored(receiver: Connection, conn: Connection) -> None:
    assert receive(receiver, livemode=True) == "ignored"
    row = event(conn)
    assert (row["status"], row["settled_at"] is not None) == ("ignored", True)
    assert row["last_error"] == "livemode is t, this installation expects f"
    assert receive(receiver, livemode=True) == "duplicate"
    assert queued(conn) == 0


def test_live_installation_takes_live_events(receiver: Connection, conn: Connection) -> None:
    conn.execute("update billing.settings set livemode = true")
    assert receive(receiver, "evt_live", livemode=True) == "queued"
    assert receive(receiver, "evt_test") == "ignored"


def test_event_delivered_to_many_at_once_is_queued_once(database: Database, conn: Connection) -> None:
    connections = [database.connect("billing_receiver") for _ in range(8)]
    try:
        answers = at_once([lambda one=one: receive(one) for one in connections])
    finally:
        for one in connections:
            one.close()
    assert sorted(map(str, answers)) == ["duplicate"] * 7 + ["queued"]
    assert queued(conn) == 1


def test_event_whose_transaction_fails_leaves_neither_row_nor_message(
    database: Database, conn: Connection
) -> None:
    with database.connect("billing_receiver", autocommit=False) as receiver:
        receive(receiver)
        receiver.rollback()
    assert fetch(conn, "select from billing.stripe_events") == []
    assert queued(conn) == 0


def test_message_is_read_with_its_event_and_hidden_meanwhile(
    receiver: Connection, worker: Connection
) -> None:
    for number in range(3):
        receive(receiver, f"evt_{number}")
    first, second = read(worker, batch_size=2)
    assert (first["stripe_event_id"], second["stripe_event_id"]) == ("evt_0", "evt_1")
    assert (first["type"], first["payload"], first["attempts"]) == ("invoice.paid", "{}", 1)
    assert [row["stripe_event_id"] for row in read(worker)] == ["evt_2"]
    assert read(worker) == []


def test_reading_counts_the_attempt_even_if_the_work_is_rolled_back(
    receiver: Connection, worker: Connection, database: Database
) -> None:
    receive(receiver)
    assert [row["attempts"] for row in read(worker, visibility_seconds=0)] == [1]
    with database.connect("billing_worker", autocommit=False) as dying:
        call(dying, "lock_stripe_events", event_ids=["evt_1"], stripe_customer_ids=[])
        dying.rollback()
    assert [row["attempts"] for row in read(worker, visibility_seconds=0)] == [2]


def test_two_workers_never_read_the_same_message(
    receiver: Connection, worker: Connection, database: Database
) -> None:
    for number in range(20):
        receive(receiver, f"evt_{number}")
    with database.connect("billing_worker") as other:
        batches = at_once([lambda: read(worker), lambda: read(other)])
    taken = [row["msg_id"] for batch in batches if isinstance(batch, list) for row in batch]
    assert len(taken) == len(set(taken)) == 20


@pytest.mark.parametrize(
    ("status", "reason"),
    [("applied", None), ("ignored", "of no use"), ("parked", "no account"), ("dead", "no such shape")],
)
def test_settled_event_has_an_end_and_no_message(
    receiver: Connection, worker: Connection, conn: Connection, status: str, reason: str | None
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, status, reason)
    row = event(conn)
    assert (row["status"], row["last_error"], row["attempts"]) == (status, reason, 1)
    assert row["settled_at"] is not None
    assert queued(conn) == 0
    assert value(conn, "select count(*) from pgmq.a_stripe_events") == 1


@pytest.mark.parametrize("status", ["ignored", "parked", "dead"])
def test_event_set_aside_must_say_why(receiver: Connection, worker: Connection, status: str) -> None:
    receive(receiver)
    (message,) = read(worker)
    with pytest.raises(psycopg.errors.CheckViolation, match="events_set_aside_say_why"):
        settle(worker, message, status)


def test_event_that_was_applied_stays_applied(
    receiver: Connection, worker: Connection, conn: Connection
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, "applied")
    settle(worker, message, "dead", "a slower worker gave up")
    assert (event(conn)["status"], event(conn)["last_error"]) == ("applied", None)


def test_event_that_was_set_aside_may_still_be_applied(
    receiver: Connection, worker: Connection, conn: Connection
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, "dead", "a faster worker gave up")
    settle(worker, message, "applied")
    assert (event(conn)["status"], event(conn)["last_error"]) == ("applied", None)


def test_settling_goes_with_the_transaction_of_the_effects(
    receiver: Connection, worker: Connection, conn: Connection, database: Database
) -> None:
    receive(receiver)
    (message,) = read(worker)
    with database.connect("billing_worker", autocommit=False) as dying:
        settle(dying, message, "applied")
        dying.rollback()
    assert event(conn)["status"] == "queued"
    assert queued(conn) == 1


def delay(worker: Connection, message: Row, *, seconds: int = 0, excused: bool = False) -> None:
    call(
        worker,
        "delay_stripe_event",
        msg_id=message["msg_id"],
        event_id=message["stripe_event_id"],
        delay_seconds=seconds,
        reason="later",
        excused=excused,
    )


def test_delayed_message_stays_hidden_for_that_long(
    receiver: Connection, worker: Connection, conn: Connection
) -> None:
    receive(receiver)
    (message,) = read(worker, visibility_seconds=0)
    delay(worker, message, seconds=600)
    assert read(worker) == []
    wait = "select extract(epoch from vt - clock_timestamp())::int from pgmq.q_stripe_events"
    assert 590 <= value(conn, wait) <= 600
    assert (event(conn)["status"], event(conn)["last_error"], event(conn)["attempts"]) == (
        "queued",
        "later",
        1,
    )


def test_excused_attempts_do_not_count(receiver: Connection, worker: Connection, conn: Connection) -> None:
    receive(receiver)
    counted: list[int] = []
    for excused in [True, True, False, True, False]:
        (message,) = read(worker, visibility_seconds=0)
        counted.append(message["attempts"])
        delay(worker, message, excused=excused)
    assert counted == [1, 1, 1, 2, 2]
    assert event(conn)["attempts"] == 5


def test_delay_of_an_event_that_was_settled_meanwhile_changes_nothing(
    receiver: Connection, worker: Connection, conn: Connection
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, "applied")
    before = event(conn)
    delay(worker, message)
    assert event(conn) == before
    assert queued(conn) == 0


@pytest.mark.parametrize("status", ["dead", "parked", "ignored"])
def test_retry_sends_what_was_set_aside_to_the_queue_as_new(
    receiver: Connection, worker: Connection, app: Connection, conn: Connection, status: str
) -> None:
    receive(receiver)
    (message,) = read(worker, visibility_seconds=0)
    delay(worker, message, excused=True)
    (message,) = read(worker)
    settle(worker, message, status, "because", "price_1")

    assert answer(app, "retry_stripe_event", event_id="evt_1") == "queued"
    row = event(conn)
    assert (row["status"], row["settled_at"], row["waiting_for"]) == ("queued", None, None)
    assert queued(conn) == 1
    assert [again["attempts"] for again in read(worker)] == [1]


def test_retry_leaves_an_applied_event_alone(
    receiver: Connection, worker: Connection, app: Connection, conn: Connection
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, "applied")
    before = event(conn)
    assert answer(app, "retry_stripe_event", event_id="evt_1") == "applied"
    assert event(conn) == before
    assert queued(conn) == 0


def test_retry_of_a_queued_event_adds_no_second_message(
    receiver: Connection, app: Connection, conn: Connection
) -> None:
    receive(receiver)
    assert answer(app, "retry_stripe_event", event_id="evt_1") == "queued"
    assert queued(conn) == 1


def test_retry_of_what_never_came_is_refused(app: Connection) -> None:
    with refused("TB014"):
        answer(app, "retry_stripe_event", event_id="evt_unknown")


def test_two_retries_at_once_send_one_message(
    receiver: Connection, worker: Connection, app: Connection, conn: Connection, database: Database
) -> None:
    receive(receiver)
    (message,) = read(worker)
    settle(worker, message, "dead", "because")
    with database.connect("service_role", autocommit=False) as first:
        answer(first, "retry_stripe_event", event_id="evt_1")
        with blocked(app, conn, lambda: answer(app, "retry_stripe_event", event_id="evt_1")) as second:
            first.commit()
            assert second.result() == "queued"
    assert queued(conn) == 1


def test_message_without_its_event_is_passed_over(
    receiver: Connection, worker: Connection, conn: Connection
) -> None:
    conn.execute("""select pgmq.send('stripe_events', '{"event_id": "evt_lost"}')""")
    receive(receiver)
    assert [row["stripe_event_id"] for row in read(worker)] == ["evt_1"]


def test_retry_leaves_an_event_of_the_other_mode_alone(
    receiver: Connection, app: Connection, conn: Connection
) -> None:
    receive(receiver, livemode=True)
    assert answer(app, "retry_stripe_event", event_id="evt_1") == "ignored"
    assert queued(conn) == 0
