"""What only time tells, and what is pruned: by the worker's clock, in chunks, whatever Postgres says."""

from typing import Any
from uuid import UUID

import psycopg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.sql.calls import value
from tests.sql.test_notification_sources import expire, told
from tests.sql.test_notifications import age, opt_in, tell
from tests.support import Database, account_of, as_worker, create_user
from worker.remind import REMIND_SECONDS, SELDOM_SECONDS, Reminder

Connection = psycopg.Connection[Any]


@pytest.fixture
def worker(database: Database) -> Any:
    with as_worker(database) as connection:
        yield connection


@pytest.fixture
def accounts(database: Database, conn: Connection) -> list[UUID]:
    """Three accounts with credits that expire within the week; their owners are to be told."""
    opt_in(conn, "credits_expiring")
    found = [account_of(conn, create_user(database)) for _ in range(3)]
    for account in found:
        expire(conn, account, "6 days")
    return found


def test_a_pass_over_all_accounts_goes_on_at_once_and_then_rests_for_an_hour(
    conn: Connection, worker: Connection, accounts: list[UUID]
) -> None:
    reminder = Reminder(accounts_max=2)
    assert reminder.tick(worker, 100.0) is True
    assert len(told(conn)) == 2
    assert reminder.tick(worker, 100.0) is False
    assert {row["account_id"] for row in told(conn)} == set(accounts)
    conn.execute("delete from billing.notifications")
    assert reminder.tick(worker, 100.0 + SELDOM_SECONDS * 0.99) is False
    assert told(conn) == []
    assert reminder.tick(worker, 100.0 + SELDOM_SECONDS) is True
    assert len(told(conn)) == 2


def test_what_was_delivered_long_ago_is_pruned_in_chunks(conn: Connection, worker: Connection) -> None:
    tell(conn, 5)
    age(conn, 100)
    conn.execute("update billing.notifications set status = 'delivered', delivered_at = now()")
    reminder = Reminder(pruned_max=3)
    assert reminder.tick(worker, 100.0) is True
    assert value(conn, "select count(*) from billing.notifications") == 2
    assert reminder.tick(worker, 100.0) is False
    assert value(conn, "select count(*) from billing.notifications") == 0


def test_nothing_to_tell_writes_nothing(worker: Connection) -> None:
    with worker.transaction():
        assert Reminder().tick(worker, 100.0) is False
        assert worker.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)


def test_a_refusal_is_logged_and_counted_and_stops_nothing_else(
    conn: Connection, worker: Connection, accounts: list[UUID]
) -> None:
    conn.execute("alter function billing.enqueue_reminders rename to enqueue_reminders_elsewhere")
    counter = "till_reminders_refused_total"
    refused = REGISTRY.get_sample_value(counter) or 0.0
    reminder = Reminder()
    with capture_logs() as logs:
        assert reminder.tick(worker, 100.0) is False
    assert [(line["event"], line["sqlstate"]) for line in logs] == [("reminders_refused", "42883")]
    assert REGISTRY.get_sample_value(counter) == refused + 1
    assert len(told(conn)) == 3
    conn.execute("alter function billing.enqueue_reminders_elsewhere rename to enqueue_reminders")
    with capture_logs() as logs:
        reminder.tick(worker, 100.0 + REMIND_SECONDS)
    assert logs == []


def test_a_lost_connection_is_for_the_one_who_reconnects(conn: Connection, worker: Connection) -> None:
    conn.execute("select pg_terminate_backend(%s)", [worker.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        Reminder().tick(worker, 100.0)
