"""Two workers, one or the other killed again and again under load: each event counts once, none waits for the dead.

Five kills in the ordinary suite, a hundred by `make chaos` (`CHAOS_KILLS`). With every twentieth, Postgres crashes too.
The seed is printed with a failure.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack.postgres import Postgres
from tests.crash.nursery import start_worker
from tests.support import Database, account_of, create_user
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, catalogue, paid, receive

KILLS = int(os.environ.get("CHAOS_KILLS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
KILLS_TO_A_CRASH = 20
EVENTS_A_SECOND = 100
ACCOUNTS = 300
# Less than the visibility time-out: what dead workers held must not wait for that.
DEADLINE_SECONDS = 100


LEFT = "select count(*) from billing.stripe_events where status = 'queued'"
GRANTED = "select sum(balance) from billing.credit_balances"
ALIVE = "select count(*) from billing.workers join pg_stat_activity using (pid)"


class Stream(threading.Thread):
    """Payments of one account after the other, month by month, a hundred in a second, until it is told to stop."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.count = 0
        self.stop = threading.Event()
        self._database = database

    def run(self) -> None:
        started, event = time.monotonic(), None
        while event or not self.stop.is_set():
            try:
                with self._database.connect() as conn:
                    while event or not self.stop.wait(
                        max(0.0, started + self.count / EVENTS_A_SECOND - time.monotonic())
                    ):
                        # After a crash of Postgres it is not known whether the last one arrived: it is sent again.
                        event = event or paid(self.count % ACCOUNTS, self.count // ACCOUNTS)
                        receive(conn, event)
                        self.count, event = self.count + 1, None
            except psycopg.OperationalError:
                time.sleep(0.1)


@contextmanager
def ended(workers: list[BaseProcess]) -> Generator[None]:
    """No worker outlives a test that fails."""
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


@pytest.mark.slow
def test_a_worker_that_is_killed_again_and_again_loses_nothing(
    private_postgres: Postgres, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    dice, database = random.Random(SEED), Database(private_postgres, "postgres")
    pause = threading.Event()
    conn = database.connect()

    def start() -> BaseProcess:
        return start_worker({"POSTGRES_URL": database.url}, tmp_path / "worker.log")

    def value(query: str) -> Any:
        nonlocal conn
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                row = conn.execute(query).fetchone()  # type: ignore[arg-type]
                assert row is not None
                return row[0]
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "Postgres does not come back"
                conn = database.connect()

    workers: list[BaseProcess] = []
    with ended(workers):
        accounts = [account_of(conn, create_user(database)) for _ in range(ACCOUNTS)]
        for n, account in enumerate(accounts):
            conn.execute("select billing.link_customer(%s, %s)", [account, f"cus_{n}"])
        receive(conn, *catalogue())
        stream = Stream(database)
        workers += [start(), start()]
        stream.start()
        try:
            for number in range(1, KILLS + 1):
                # They have come to work on something; then at any moment.
                granted = value(GRANTED)
                deadline = time.monotonic() + DEADLINE_SECONDS
                while value(GRANTED) == granted:
                    assert time.monotonic() < deadline, f"no event was applied (seed {SEED})"
                    pause.wait(0.02)
                pause.wait(dice.random() / 4)
                which = dice.randrange(2)
                workers[which].kill()
                workers[which].join()
                if number % KILLS_TO_A_CRASH == 0:
                    private_postgres.restart("immediate")
                workers[which] = start()
        finally:
            stream.stop.set()
            stream.join()
        deadline = time.monotonic() + DEADLINE_SECONDS
        # The one that was started last may still be on its way.
        while value(LEFT) or value(ALIVE) < len(workers):
            assert time.monotonic() < deadline, f"events are left, or a worker is not there (seed {SEED})"
            pause.wait(0.1)
        for worker in workers:
            worker.terminate()
            worker.join(DEADLINE_SECONDS)
            assert worker.exitcode == 0

        lines = (tmp_path / "worker.log").read_text().splitlines()
        assert [line for line in lines if not line.startswith("{")] == [], "a line that is no JSON"
        crashes = KILLS // KILLS_TO_A_CRASH
        note = f"seed {SEED}, {KILLS} kills, {crashes} crashes of Postgres, {stream.count} events"
        longest = value(
            "select max(extract(epoch from settled_at - received_at))::float from billing.stripe_events"
        )
        record_property("printed", f"{note}; the longest wait was {longest:.1f} s")
        states = conn.execute("select status, count(*) from billing.stripe_events group by 1").fetchall()
        assert states == [("applied", stream.count + len(catalogue()))], note
        for proof in ("ledger_discrepancies", "entitlement_discrepancies"):
            assert conn.execute(f"select * from billing.{proof}").fetchall() == [], note  # type: ignore[arg-type]
        balances: Any = dict(
            conn.execute("select account_id, balance from billing.credit_balances").fetchall()
        )
        months = [len(range(n, stream.count, ACCOUNTS)) for n in range(ACCOUNTS)]
        wrong = [
            f"account {n} has {balances[account]} for {months[n]} months"
            for n, account in enumerate(accounts)
            if balances[account] != (INITIAL_CREDITS if months[n] else 0) + months[n] * MONTHLY_CREDITS
        ]
        assert wrong == [], note
        conn.close()
