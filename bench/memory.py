"""200,000 events → the memory of a process that only drains them, against what it held after the first few."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import psutil
import psycopg

from bench.drainer import Drainer
from bench.measure import Comparison, Suite
from bench.shop import Shop, receive
from bench.stream import RENEWED_AT, Event, history, stream
from devstack.postgres import Postgres

PAIRS = 1_000
ROUNDS = 100
FIRST_ROUNDS = 5

COMPARISONS = (Comparison("worker_memory_mib", floor="worker_memory_first", unit="MB", wanted=1.25),)


@contextmanager
def memory(server: Postgres) -> Iterator[Suite]:
    """The floor is the memory of the same process after 10,000 events: nothing may grow from there."""
    shop = Shop(server, "shop_for_memory", 2 * PAIRS, history(2 * PAIRS), [])
    yield Suite({"worker_memory": lambda: _measure(server, shop)}, COMPARISONS, rounds_max=1)


def _measure(server: Postgres, shop: Shop) -> Mapping[str, float]:
    with (
        shop.copy() as name,
        psycopg.connect(server.admin_url(name), autocommit=True) as conn,
        Drainer(server.url(name), "product") as worker,
    ):
        held = _held(conn, worker)
        first = list(islice(held, FIRST_ROUNDS))[-1]
        *_, last = held
        applied = conn.execute(
            "select count(*) from billing.stripe_events where stripe_event_id ^@ 'evt_round' and status = 'applied'"
        ).fetchone()
        assert applied == (2 * PAIRS * ROUNDS,), f"{applied} events were applied"
        return {"worker_memory_mib": last, "worker_memory_first": first}


def _held(conn: psycopg.Connection, worker: Drainer) -> Iterator[float]:
    """MiB after each round."""
    process = psutil.Process(worker.process.pid)
    events = _round(0)
    for number in range(ROUNDS):
        receive(conn, events)
        worker.go()
        events = _round(number + 1)
        worker.wait()
        yield process.memory_info().rss / 1024**2


def _round(number: int) -> list[Event]:
    """No two rounds have events of the same second."""
    return list(stream(PAIRS, f"evt_round_{number}", RENEWED_AT + number))
