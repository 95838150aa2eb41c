"""`python -m worker` as an operator meets it: signals, outages, metrics, a database without the schema."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from devstack.postgres import Postgres
from tests.sql.test_watch import UP_FOR_DAYS
from tests.support import Database, account_of, create_user
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, catalogue, paid, receive
from tests.worker.test_failures import UPGRADE
from worker.sessions import PREPARE_AFTER

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


def test_an_upgrade_that_changes_what_a_function_returns_is_outlived(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    months = range(PREPARE_AFTER + 1)
    with shop(database) as (conn, account), database.connect(admin=True) as admin:
        worker = start_worker(database.url)
        for month in months:  # one by one: each is a batch
            receive(conn, paid(month=month))
            until(
                lambda month=month: balance(conn, account) == FIRST_MONTH + month * MONTHLY_CREDITS,
                worker.log,
            )
        admin.execute(UPGRADE)
        receive(conn, paid(month=len(months)))
        until(lambda: balance(conn, account) == FIRST_MONTH + len(months) * MONTHLY_CREDITS, worker.log)
        assert "an upgrade changed a function" in worker.log()
        assert worker.stop() == 0


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


def test_a_worker_that_hangs_is_missed_though_its_session_lives(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    with database.connect(admin=True) as admin, database.connect() as conn:
        admin.execute(UP_FOR_DAYS)
        worker = start_worker(database.url)
        until(lambda: '"connected"' in worker.log(), worker.log)

        def told() -> list[str]:
            conn.execute("select billing.watch()")  # as pg_cron does
            kinds = conn.execute("select kind from billing.notifications where kind ~ '^worker_' order by id")
            return [kind for (kind,) in kinds]

        assert told() == []
        worker.process.send_signal(signal.SIGSTOP)
        conn.execute("update billing.workers set last_seen_at = now() - interval '4 minutes'")
        assert told() == ["worker_missing"]
        worker.process.send_signal(signal.SIGCONT)
        until(lambda: told() == ["worker_missing", "worker_back"], worker.log)
        assert worker.stop() == 0


RIGHTS = {
    "of a function that applies events": "execute on function billing.sync_invoice",
    "of one that reads them": "execute on function billing.read_stripe_events",
    "of one that is called now and then": "execute on function billing.prove_accounts",
    "of one that looks for jobs": "execute on function billing.take_jobs",
    "of the schema": "usage on schema billing",
}


@pytest.mark.parametrize("right", RIGHTS.values(), ids=RIGHTS)
def test_a_worker_that_lacks_a_right_stops_with_one_line_and_buries_nothing(
    database: Database, start_worker: Callable[..., Process], right: str
) -> None:
    with shop(database) as (conn, account):
        receive(conn, paid())
        conn.execute(f"revoke {right} from billing_worker".encode())
        for _ in range(2):
            worker = start_worker(database.url)
            assert worker.process.wait(TIMEOUT_SECONDS) == 1, worker.log()
            *_, line = worker.log().splitlines()
            assert line.startswith("error: permission denied for "), line
            assert line.endswith("are not as shipped. `till doctor` names the grants to run again"), line
            assert "Traceback" not in worker.log()
        counted = "select sum(attempts), sum(excused_attempts), count(last_error) from billing.stripe_events"
        assert conn.execute(f"{counted} where status = 'queued'").fetchone() in {(0, 0, 0), (None, None, 0)}
        assert conn.execute(
            "select count(*) from billing.stripe_events where status = 'dead'"
        ).fetchone() == (0,)
        conn.execute(f"grant {right} to billing_worker".encode())
        conn.execute("update pgmq.q_stripe_events set vt = clock_timestamp()")
        worker = start_worker(database.url)
        until(lambda: '"connected"' in worker.log(), worker.log)
        until(lambda: balance(conn, account) == FIRST_MONTH, worker.log)
        assert worker.stop() == 0


def test_a_worker_without_a_key_says_so_when_it_starts(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(database.url, STRIPE_API_KEY="")
    until(lambda: "stripe_key_missing" in worker.log(), worker.log)
    [line] = [json.loads(line) for line in worker.log().splitlines() if "stripe_key_missing" in line]
    assert (line["level"], line["error"]) == ("warning", "STRIPE_API_KEY is not set")
    assert worker.stop() == 0


def test_the_back_off_grows_when_the_log_in_works_and_the_next_statement_fails(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    with shop(database) as (conn, _):
        conn.execute(f"alter database {database.name} set default_transaction_read_only = on".encode())
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


def used(name: str) -> set[str]:
    """The figures that a file under deploy/ asks for."""
    text = (Path(__file__).parents[2] / "deploy" / name).read_text()
    expressions = (
        [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
        if name.endswith(".yaml")
        else [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    )
    return {figure for expression in expressions for figure in re.findall(r"till_\w+", expression)}


def test_dashboard_and_alerts_ask_for_figures_that_a_worker_serves(
    database: Database, start_worker: Callable[..., Process], free_port: int
) -> None:
    with shop(database) as (conn, account):
        receive(conn, paid(), paid(9))  # nobody's: it is parked
        worker = start_worker(database.url, WORKER_METRICS_ADDRESS=f"127.0.0.1:{free_port}")
        until(lambda: balance(conn, account) == FIRST_MONTH, worker.log)

        def scrape() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as response:
                families = list(text_string_to_metric_families(response.read().decode()))
            # A counter with a label has no sample before it counts.
            empty = {f"{family.name}_total": None for family in families if family.type == "counter"}
            return empty | {
                sample.name: sample.value for family in families for sample in family.samples
            } | {family.name: family.samples for family in families}  # fmt: skip

        until(lambda: bool(scrape()["till_worker_last_seen_timestamp_seconds"]), worker.log)
        found = scrape()
        assert used("alerts.yaml") >= {"till_open_alerts", "till_connected"}
        assert used("grafana.json") >= {"till_credits_outstanding", "till_event_lag_seconds_bucket"}
        assert (used("alerts.yaml") | used("grafana.json")) - found.keys() == set()
        assert found["till_event_lag_seconds_count"] >= 3
        assert worker.stop() == 0


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
