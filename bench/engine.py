"""@supabase/stripe-sync-engine, which only upserts Stripe's objects → events a second, with 8 in flight.

It has no inbox, no ledger and no transaction around an event. Node and npm's registry are needed.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from rich.console import Console

from bench.clone import copy
from bench.stream import Event, catalogue, history, stream
from devstack.postgres import Postgres
from devstack.scaffold import create_database

PACKAGES = ("@supabase/stripe-sync-engine@0.48.5", "stripe@20.4.1")
CONNECTIONS = 8
TEMPLATE = "engine"

_SCRIPT = Path(__file__).with_name("engine.mjs")
_STORED = """
select count(*) filter (where cancel_at_period_end), (select count(*) from stripe.invoices) from stripe.subscriptions
"""


class Engine:
    """Installed in a directory, with a template database in which the shop's history is applied."""

    def __init__(self, server: Postgres, directory: Path, pairs: int) -> None:
        self._server = server
        self._directory = directory
        self._pairs = pairs
        shutil.copy(_SCRIPT, directory)
        create_database(server, TEMPLATE)
        before = _written(directory / "before.jsonl", [*catalogue(), *history(2 * pairs)])
        self._events = _written(directory / "events.jsonl", list(stream(pairs, "evt_new")))
        self._run(TEMPLATE, before, "migrate")
        with psycopg.connect(server.admin_url(TEMPLATE), autocommit=True) as conn:
            conn.execute("vacuum analyze")

    def measure(self) -> float:
        """Events a second of the stream, on a copy."""
        with copy(self._server, TEMPLATE) as name:
            seconds = self._run(name, self._events)
            with psycopg.connect(self._server.admin_url(name)) as conn:
                assert conn.execute(_STORED).fetchone() == (self._pairs, 3 * self._pairs), "it lost events"
        return 2 * self._pairs / seconds

    def _run(self, name: str, events: Path, *options: str) -> float:
        command = [
            "node",
            _SCRIPT.name,
            self._server.admin_url(name),
            str(events),
            str(CONNECTIONS),
            *options,
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._directory
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while (said := process.stdout.readline()) != "ready\n":
                assert said, "the engine did not start"
            clock = time.perf_counter()
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", "the engine failed"
            return time.perf_counter() - clock


@contextmanager
def engine(server: Postgres, pairs: int) -> Iterator[Engine | None]:
    """The engine, or None with a printed reason where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="tillbase-engine-") as name:
        reason = _install(Path(name))
        if reason is not None:
            Console(stderr=True).print(f"drain_vs_engine is left out: {reason}")
        yield None if reason else Engine(server, Path(name), pairs)


def _install(directory: Path) -> str | None:
    """Why the packages cannot be installed; None when they are."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no Node with npm here"
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"npm could not install {PACKAGES[0]}"


def _written(file: Path, events: Sequence[Event]) -> Path:
    file.write_text("".join(json.dumps(json.loads(event.body)) + "\n" for event in events), encoding="utf-8")
    return file
