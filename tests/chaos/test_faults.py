"""Two workers under load while things are killed, cut, frozen and restarted; then the books must be as if nothing was.

The seed is printed with a failure; `CHAOS_SEED` and `CHAOS_SECONDS` repeat a run or make it longer.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from devstack.postgres import Postgres
from tests.support import Database, account_of, create_user
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, catalogue, invoice, paid, receive

ACCOUNTS = 40
MONTHS = 6
SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
DEADLINE_SECONDS = 60


class Workers:
    """Two worker processes: one that ends is started again."""

    def __init__(self, url: str, log_path: Path) -> None:
        self._url, self._log_path = url, log_path
        self._running = [self._start() for _ in range(2)]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "worker"], env=os.environ | {"POSTGRES_URL": self._url}, stderr=log
            )

    def kill(self, which: int) -> None:
        self._running[which].kill()
        self._running[which].wait()
        self._running[which] = self._start()

    def freeze(self, which: int) -> None:
        self._running[which].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.thaw()
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(DEADLINE_SECONDS)


@pytest.fixture
def project(private_postgres: Postgres) -> Database:
    """A durable server of its own: crashes must cost nothing that was committed."""
    return Database(private_postgres, "postgres")


@pytest.fixture
def workers(project: Database, tmp_path: Path) -> Iterator[Workers]:
    """Two workers on the project."""
    workers = Workers(project.url, tmp_path / "workers.log")
    yield workers
    workers.end()


def run(project: Database, statement: str, *parameters: Any) -> list[Any]:
    """One statement on a connection of its own, tried again while the server is down."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            with project.connect() as conn:
                cursor = conn.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server did not come back"


def deliver(project: Database, events: list[Event]) -> None:
    """As the receiver does it, and as Stripe does it again after a 503."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            with project.connect() as conn:
                receive(conn, *events)
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server did not come back"


def let_time_pass(project: Database) -> None:
    """Visibility time-outs run out: what a dead worker had in hand is read again."""
    run(project, "update pgmq.q_stripe_events set vt = now()")


@pytest.mark.slow
def test_no_fault_loses_an_event_or_grants_twice(project: Database, workers: Workers) -> None:
    dice = random.Random(SEED)
    accounts: list[UUID] = []
    with project.connect() as conn:
        for number in range(1, ACCOUNTS + 1):
            accounts.append(account_of(conn, create_user(project)))
            conn.execute("select billing.link_customer(%s, %s)", [accounts[-1], f"cus_{number}"])
        receive(conn, *catalogue())

    payments = [paid(number, month) for number in range(1, ACCOUNTS + 1) for month in range(MONTHS)]
    told_again = [
        Event("invoice.paid", invoice(number, month))
        for number in range(1, ACCOUNTS + 1)
        for month in range(MONTHS)
    ]
    stream = payments + told_again
    dice.shuffle(stream)
    faults = {
        "kill a worker": lambda: workers.kill(dice.randrange(2)),
        "freeze a worker": lambda: workers.freeze(dice.randrange(2)),
        "thaw the workers": workers.thaw,
        "cut the workers' connections": lambda: run(
            project,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'till worker'",
        ),
        "crash Postgres": lambda: project.server.restart("immediate"),
        "let time pass": lambda: let_time_pass(project),
    }
    done: list[str] = []
    end = time.monotonic() + SECONDS
    while stream or time.monotonic() < end:
        deliver(project, [stream.pop() for _ in range(min(12, len(stream)))])
        done.append(dice.choice(list(faults)))
        with contextlib.suppress(psycopg.OperationalError):
            faults[done[-1]]()

    workers.thaw()
    deadline = time.monotonic() + DEADLINE_SECONDS
    queued = "select count(*) from billing.stripe_events where status = 'queued'"
    while run(project, queued) != [(0,)]:
        assert time.monotonic() < deadline, f"events are left in the queue (seed {SEED}: {done})"
        let_time_pass(project)
        time.sleep(0.2)

    note = f"seed {SEED}: {done}"
    expected = INITIAL_CREDITS + MONTHS * MONTHLY_CREDITS
    balances = dict(run(project, "select account_id, balance from billing.credit_balances"))
    assert [balances[account] for account in accounts] == [expected] * ACCOUNTS, note
    assert run(project, "select * from billing.ledger_discrepancies") == [], note
    assert run(project, "select status, count(*) from billing.stripe_events group by 1") == [
        ("applied", len(payments) + len(told_again) + len(catalogue()))
    ], note
    assert run(project, "select count(*) from pgmq.q_stripe_events") == [(0,)], note
