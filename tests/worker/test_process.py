"""`python -m worker` as an operator meets it: signals, outages, metrics, a database without the schema."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from devstack.postgres import Postgres
from tests.support import Database, account_of, create_user
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, catalogue, paid, receive

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS
TIMEOUT_SECONDS = 60


class Process:
    """A worker process and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[str], log_path: Any) -> None:
        self.process, self._log_path = process, log_path

    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_SECONDS)


@pytest.fixture
def start_worker(tmp_path: Any) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(url: str, **environment: str) -> Process:
        log_path = tmp_path / f"worker-{len(started)}.log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                env=os.environ | {"POSTGRES_URL": url} | environment,
                stderr=log,
                text=True,
            )
        started.append(Process(process, log_path))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@contextmanager
def shop(database: Database) -> Iterator[tuple[psycopg.Connection[Any], Any]]:
    """A project with a plan and one linked customer: a connection, and the account's id."""
    with database.connect() as conn:
        account = account_of(conn, create_user(database))
        conn.execute("select billing.link_customer(%s, 'cus_1')", [account])
        receive(conn, *catalogue())
        yield conn, account


def balance(conn: psycopg.Connection[Any], account: Any) -> int:
    row = conn.execute(
        "select balance from billing.credit_balances where account_id = %s", [account]
    ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_batch_in_hand_finish_and_ends_with_0(
    database: Database, start_worker: Callable[..., Process], number: int
) -> None:
    with shop(database) as (conn, account), database.connect() as app:
        with app.transaction():
            # The worker reads the event and waits for this lock, with the event in hand.
            app.execute("select from billing.credit_balances where account_id = %s for update", [account])
            receive(conn, paid())
            worker = start_worker(database.url)
            waiting = (
                "select count(*) from pg_stat_activity where application_name = 'till worker' "
                "and datname = current_database() and wait_event_type = 'Lock'"
            )
            until(lambda: conn.execute(waiting).fetchone() == (1,), worker.log)
            worker.process.send_signal(number)
        assert worker.process.wait(TIMEOUT_SECONDS) == 0, worker.log()
        assert "worker_stopped" in worker.log()
        in_hand = conn.execute("select count(*) from pgmq.q_stripe_events where vt > now() + '1 minute'")
        assert in_hand.fetchone() == (0,), "a message was left to its visibility time-out"


def test_an_idle_worker_stops_at_once(database: Database, start_worker: Callable[..., Process]) -> None:
    worker = start_worker(database.url)
    until(lambda: '"connected"' in worker.log(), worker.log)
    assert worker.stop() == 0


def test_a_killed_connection_is_made_again_and_nothing_is_lost(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    with shop(database) as (conn, account):
        worker = start_worker(database.url)
        until(lambda: '"connected"' in worker.log(), worker.log)
        terminate = (
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where application_name = 'till worker' and datname = current_database()"
        )
        for month in range(3):
            until(lambda: conn.execute(terminate).fetchone() == (1,), worker.log)
            receive(conn, paid(month=month))
        conn.execute("update pgmq.q_stripe_events set vt = clock_timestamp()")
        until(lambda: balance(conn, account) == FIRST_MONTH + 2 * MONTHLY_CREDITS, worker.log)
        assert "connection_lost" in worker.log()
        assert worker.stop() == 0
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_worker_outlives_a_stop_and_a_crash_of_postgres(
    private_postgres: Postgres, start_worker: Callable[..., Process], mode: Any
) -> None:
    database = Database(private_postgres, "postgres")
    worker = start_worker(database.url)
    with shop(database) as (conn, account):
        receive(conn, paid())
        until(lambda: balance(conn, account) == FIRST_MONTH, worker.log)
    private_postgres.stop(mode)
    until(lambda: "connection_lost" in worker.log(), worker.log)
    assert worker.process.poll() is None
    private_postgres.restart()
    with database.connect() as conn:
        assert balance(conn, account) == FIRST_MONTH
        receive(conn, paid(month=1))
        until(lambda: balance(conn, account) == FIRST_MONTH + MONTHLY_CREDITS, worker.log)
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []
    assert worker.stop() == 0


def test_a_database_without_the_schema_is_named_and_waited_for(
    empty_database: Database, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(empty_database.url)
    until(lambda: "schema_is_missing" in worker.log() or "connection_lost" in worker.log(), worker.log)
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_an_unreachable_database_is_waited_for_without_printing_the_password(
    start_worker: Callable[..., Process],
) -> None:
    worker = start_worker("postgresql://postgres:hunter2@127.0.0.1:1/postgres")
    until(lambda: "connection_lost" in worker.log(), worker.log)
    assert "hunter2" not in worker.log()
    assert worker.stop() == 0


@pytest.mark.parametrize(
    "fault",
    [
        "revoke execute on function billing.read_stripe_events from billing_worker",
        "alter database {} set default_transaction_read_only = on",
    ],
    ids=["a privilege is missing", "read-only"],
)
def test_the_back_off_grows_when_the_log_in_works_and_the_next_statement_fails(
    database: Database, start_worker: Callable[..., Process], fault: str
) -> None:
    with shop(database) as (conn, _):
        conn.execute(fault.format(database.name))
        worker = start_worker(database.url)

        def waits() -> list[float]:
            lines = [json.loads(line) for line in worker.log().splitlines()]
            return [
                line["retry_in_seconds"]
                for line in lines
                if "retry_in_seconds" in line and line["event"] == "database_refused"
            ]

        until(lambda: len(waits()) >= 4, worker.log)
        assert waits()[:4] == [0.2, 0.4, 0.8, 1.6]
        assert worker.stop() == 0
        counted = "select sum(attempts) from billing.stripe_events"
        assert conn.execute(counted).fetchone() == (0,)


def test_metrics_tell_what_became_of_events(
    database: Database, start_worker: Callable[..., Process], free_port: int
) -> None:
    with shop(database) as (conn, account):
        receive(conn, paid())
        worker = start_worker(database.url, WORKER_METRICS_ADDRESS=f"127.0.0.1:{free_port}")
        until(lambda: balance(conn, account) == FIRST_MONTH, worker.log)

        def figures() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as response:
                return response.read().decode()

        until(lambda: 'till_events_total{outcome="done"} 3.0' in figures(), figures)
        assert "till_connected 1.0" in figures()
        assert worker.stop() == 0


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
