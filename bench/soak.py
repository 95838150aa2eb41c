"""`python -m bench.soak`: webhooks over HTTP at a steady rate, while workers are killed → how long credits take.

The receiver runs under Deno, two workers drain. One of them is killed again and again, the other lives throughout: its
memory shows whether anything grows. The wait of an event is from its receipt to the end of the work on it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from stripe import WebhookSignature

from bench.load import CONNECTIONS
from bench.shop import Shop
from bench.stream import Event, history, stream
from devstack.functions import EdgeFunctions
from devstack.paths import supabase_directory
from devstack.postgres import Postgres

SECRET = "whsec_soak"
DATABASE = "soak"
# Events received so soon after a kill may have been in the hands of the dead, or waited for its successor.
RESTART_SECONDS = 3.0
DEADLINE_SECONDS = 60
_WAITS = """
select
    count(*),
    coalesce(percentile_cont(0.50) within group (order by waits.seconds), 0)::float8,
    coalesce(percentile_cont(0.99) within group (order by waits.seconds), 0)::float8,
    coalesce(max(waits.seconds), 0)::float8
from (
    select extract(epoch from settled_at - received_at) as seconds from billing.stripe_events
    where stripe_event_id ^@ 'evt_soak' and not exists (
        select from unnest(%s::timestamptz[]) as killed (at)
        where received_at between killed.at - interval '0.5 seconds' and killed.at + %s * interval '1 second'
    )
) as waits
"""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from receipt to the end of the work."""

    events: int
    p50: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured; memory in MiB, after a tenth of the time and at the end."""

    rate: int
    seconds: int
    kills: int
    all: Waits
    outside_restarts: Waits
    worker_mib: tuple[float, float]
    receiver_mib: tuple[float, float]
    cores: int | None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--rate", type=int, default=50, metavar="N", help="events a second")
    parser.add_argument("--seconds", type=int, default=600, metavar="N", help="how long")
    parser.add_argument(
        "--kill-every",
        type=float,
        default=20,
        metavar="SECONDS",
        help="kill one of the two workers; 0: never",
    )
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    outcome = _soak(options.rate, options.seconds, options.kill_every)
    if options.output:
        options.output.write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")
    _show(outcome)


def _soak(rate: int, seconds: int, kill_every: float) -> Outcome:
    pairs = rate * seconds // 2
    with ExitStack() as stack, _progress() as progress:
        task = progress.add_task("customers and their history", total=None)
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="tillbase-soak-", ignore_cleanup_errors=True)
        )
        Path(name).chmod(0o711)  # as root the server runs as a user who must pass through
        server = Postgres.start(Path(name) / "data", durable=True)
        stack.callback(server.delete)
        Shop(server, DATABASE, 2 * pairs, history(2 * pairs), [])
        functions = stack.enter_context(
            EdgeFunctions.start(
                supabase_directory() / "functions", Path(name),
                {
                    "SUPABASE_DB_URL": server.url(DATABASE),
                    "STRIPE_WEBHOOK_SECRET": SECRET,
                    "BILLING_DB_CONNECTIONS": str(CONNECTIONS),
                },
            )
        )  # fmt: skip
        workers = _Workers(server.url(DATABASE), Path(name) / "worker.log")
        stack.callback(workers.stop)
        progress.update(task, description=f"{rate} events a second", total=seconds)
        killing = threading.Thread(target=workers.kill_every, args=(kill_every,), daemon=True)
        killing.start()
        first: list[float] = []

        def watch(passed: float) -> None:
            progress.update(task, completed=passed)
            if passed > seconds / 10 and not first:
                first.extend([_mib(workers.steady.pid), _mib(functions.pid)])

        _send(f"{functions.url}/stripe-webhook", list(stream(pairs, "evt_soak")), rate, watch)
        workers.calm.set()
        killing.join()
        with psycopg.connect(server.admin_url(DATABASE), autocommit=True) as conn:
            _wait_until_empty(conn)
            _check(conn, pairs)
            waits = [
                Waits(*conn.execute(_WAITS, [killed, RESTART_SECONDS]).fetchone() or ())
                for killed in ([], workers.killed_at)
            ]
        return Outcome(
            rate, seconds, len(workers.killed_at), waits[0], waits[1],
            (first[0], _mib(workers.steady.pid)), (first[1], _mib(functions.pid)), os.cpu_count(),
        )  # fmt: skip


class _Workers:
    """Two: one lives throughout, the other is killed and started again."""

    def __init__(self, url: str, log: Path) -> None:
        self._environment = os.environ | {"POSTGRES_URL": url}
        self._log = log.open("ab")
        self.steady = self._start()
        self._victim = self._start()
        self.killed_at: list[datetime] = []
        self.calm = threading.Event()

    def kill_every(self, seconds: float) -> None:
        while not self.calm.wait(seconds or None):
            self._victim.kill()
            self._victim.wait()
            self.killed_at.append(datetime.now(UTC))
            self._victim = self._start()

    def stop(self) -> None:
        for worker in (self.steady, self._victim):
            worker.terminate()
            worker.wait()
        self._log.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "worker"], env=self._environment, stderr=self._log)


def _send(url: str, events: list[Event], rate: int, watch: Callable[[float], None]) -> None:
    """Each at its time, however long others take."""
    address = urlsplit(url)
    connections = threading.local()
    started = time.monotonic()

    def post(number: int) -> None:
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
        if not hasattr(connections, "open"):
            connections.open = HTTPConnection(address.hostname or "", address.port, timeout=30)
        event = events[number]
        signature = WebhookSignature.generate_signature_header(event.body, SECRET, int(time.time()))
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        connections.open.request("POST", address.path, event.body.encode(), headers)
        answer = connections.open.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for _ in threads.map(post, range(len(events))):
            watch(time.monotonic() - started)


def _wait_until_empty(conn: psycopg.Connection) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while conn.execute(
        "select exists (select from billing.stripe_events where status = 'queued')"
    ).fetchone() == (True,):
        assert time.monotonic() < deadline, "events are left in the queue"
        time.sleep(0.1)


def _check(conn: psycopg.Connection, pairs: int) -> None:
    """A figure counts only if each event was applied once, and the ledger adds up."""
    statuses = (
        "select status, count(*) from billing.stripe_events where stripe_event_id ^@ 'evt_soak' group by 1"
    )
    assert conn.execute(statuses).fetchall() == [("applied", 2 * pairs)]
    months = "select count(*) from billing.credit_grants where source = 'stripe.monthly_allocation'"
    assert conn.execute(months).fetchone() == (3 * pairs,), "a month of each, and one more of half of them"
    assert conn.execute("select * from billing.ledger_discrepancies limit 5").fetchall() == []


def _mib(pid: int) -> float:
    return round(psutil.Process(pid).memory_info().rss / 1024**2, 1)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _show(outcome: Outcome) -> None:
    out = Console(highlight=False)
    out.print(
        f"{outcome.all.events:,} events at {outcome.rate} a second, {outcome.kills} kills of one of two workers"
    )
    for what, waits in (
        ("all", outcome.all),
        (f"not within {RESTART_SECONDS:.0f} s of a kill", outcome.outside_restarts),
    ):
        out.print(f"  {what}: p50 {waits.p50:.3f} s, p99 {waits.p99:.3f} s, longest {waits.longest:.3f} s")
    for what, (early, late) in (("worker", outcome.worker_mib), ("receiver", outcome.receiver_mib)):
        out.print(f"  memory of the {what}: {early:.0f} MiB, at the end {late:.0f} MiB")


if __name__ == "__main__":
    main()
