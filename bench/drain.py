"""A full queue → events a second, taken by one worker and by two, against taking the messages and doing nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from bench.measure import Comparison, Suite
from bench.shop import Shop
from cli.local.postgres import Postgres

PAIRS = 1_000

COMPARISONS = (
    Comparison("drain_1_worker", floor="drain_floor", unit="events/s", wanted=0.50),
    Comparison("drain_2_workers", floor="drain_1_worker", unit="events/s", wanted=1.00),
)


@contextmanager
def drain(server: Postgres) -> Iterator[Suite]:
    """Each side drains a copy of the same queue; processes are up and connected before the clock starts."""
    shop = Shop(server, PAIRS)
    sides = {
        "drain_floor": lambda: _measure(server, shop, "floor", 1),
        "drain_1_worker": lambda: _measure(server, shop, "product", 1),
        "drain_2_workers": lambda: _measure(server, shop, "product", 2),
    }
    yield Suite(sides, COMPARISONS)


def _measure(server: Postgres, shop: Shop, side: str, processes: int) -> float:
    with shop.copy() as name:
        seconds = _drain(server.url(name), side, processes)
        with psycopg.connect(server.admin_url(name)) as conn:
            _check(conn, side)
    return 2 * PAIRS / seconds


def _drain(url: str, side: str, processes: int) -> float:
    command = [sys.executable, "-m", "bench.drain_process", side, url]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(processes)
        ]
        for process in started:
            _expect("ready", process)
        clock = time.perf_counter()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in started:
            _expect("done", process)
        return time.perf_counter() - clock


def _expect(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said == word, f"{process.args} said {said!r}, not {word!r}"


def _check(conn: psycopg.Connection, side: str) -> None:
    """A figure counts only if all of the work was done."""
    left = conn.execute("select count(*) from pgmq.q_stripe_events").fetchone()
    assert left == (0,), f"{side} left messages in the queue"
    if side == "product":
        status = (
            "select stripe_event_id, last_error from billing.stripe_events where status <> 'applied' limit 3"
        )
        assert conn.execute(status).fetchall() == [], "events were not applied"
        granted = conn.execute(
            "select count(*) from billing.credit_grants where stripe_invoice_id like 'in_subscription_cycle_%'"
        ).fetchone()
        assert granted == (PAIRS,), "renewals did not grant what they should"
        assert conn.execute("select * from billing.ledger_discrepancies limit 3").fetchall() == []
