"""Signed events over HTTP → requests a second of the webhook receiver, against a bare Deno handler.

The floor writes the same two rows into the same tables by one statement, over as many connections.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from deno import find_deno_bin

from bench.load import CONNECTIONS, requests, send
from bench.measure import Comparison, Suite
from bench.stream import stream
from devstack.functions import EdgeFunctions
from devstack.migrate import migrate
from devstack.paths import migrations_directory, supabase_directory
from devstack.postgres import Postgres
from devstack.scaffold import create_database

PAIRS = 1_000
WARM_UP_PAIRS = 200
DATABASE = "receive"
SECRET = "whsec_bench"
FLOOR = Path(__file__).with_name("floor_receive.ts")

COMPARISONS = (Comparison("receive", floor="receive_floor", unit="events/s", wanted=0.80),)
_STORED = """
select count(*) from billing.stripe_events join pgmq.q_stripe_events on message ->> 'event_id' = stripe_event_id
where status = 'queued'
"""


@contextmanager
def receive(server: Postgres) -> Iterator[Suite]:
    """Both handlers listen throughout, each with a database connection for every HTTP connection."""
    create_database(server, DATABASE)
    migrate(server.url(DATABASE), migrations_directory())
    numbers = count()
    with (
        psycopg.connect(server.url(DATABASE), autocommit=True) as conn,
        tempfile.TemporaryDirectory() as directory,
        _product(server, Path(directory)) as product_url,
        _floor(server) as floor_url,
    ):
        urls = {"receive": product_url, "receive_floor": floor_url}

        def measure(side: str, pairs: int = PAIRS) -> float:
            prepared = requests(urls[side], SECRET, stream(pairs, f"evt_{next(numbers)}"))
            conn.execute("truncate billing.stripe_events, pgmq.q_stripe_events")
            figure = send(urls[side], prepared)
            assert conn.execute(_STORED).fetchone() == (2 * pairs,), f"{side} lost events"
            return figure

        for side in urls:
            measure(side, WARM_UP_PAIRS)
        yield Suite(
            {side: lambda side=side: measure(side) for side in urls},
            COMPARISONS,
        )


@contextmanager
def _product(server: Postgres, directory: Path) -> Iterator[str]:
    environment = {
        "SUPABASE_DB_URL": server.url(DATABASE),
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "BILLING_DB_CONNECTIONS": str(CONNECTIONS),
    }
    with EdgeFunctions.start(supabase_directory() / "functions", directory, environment) as functions:
        yield f"{functions.url}/stripe-webhook"


@contextmanager
def _floor(server: Postgres) -> Iterator[str]:
    command = [find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock"]
    command += ["--allow-net", "--allow-env", str(FLOOR), server.url(DATABASE), SECRET, str(CONNECTIONS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.terminate()
