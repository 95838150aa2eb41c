"""A full queue → events a second: of one worker and of two, and of a renewal after five years.

The floor writes the same rows by bare statements. Where npm is there, the worker is also compared with Supabase's sync
engine on the same events.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psycopg

from bench.drainer import Drainer
from bench.engine import engine
from bench.ledger import make_bare, rows_by_table
from bench.measure import Comparison, Suite
from bench.shop import Shop
from bench.stream import RENEWED_AT, history, renewals, stream
from devstack.postgres import Postgres

PAIRS = 1_000
SUBSCRIBERS = 150
MONTHS = 60

COMPARISONS = (
    Comparison("drain_1_worker", floor="drain_bare", unit="events/s", wanted=0.50),
    Comparison("drain_2_workers", floor="drain_1_worker", unit="events/s", wanted=1.50),
    # What the machine has left for a second one: two such loops against one.
    Comparison("drain_bare_2", floor="drain_bare", unit="events/s", wanted=1.00),
    Comparison("renewal_year_5", floor="renewal_first", unit="events/s", wanted=0.80),
)

VS_ENGINE = Comparison("drain_vs_engine", floor="engine", unit="events/s", wanted=1.00)

_RENEWED = f"""
select count(*), count(credit_grants.id), count(credit_schedules.stripe_line_id) from billing.invoices
left join billing.credit_grants using (stripe_invoice_id)
left join billing.credit_schedules using (stripe_invoice_id)
where invoices.invoiced_at = to_timestamp({RENEWED_AT})
"""


@contextmanager
def drain(server: Postgres) -> Iterator[Suite]:
    """Each side drains a copy of a full queue; processes are up and connected before the clock starts."""
    shop = Shop(server, "shop", 2 * PAIRS, history(2 * PAIRS), stream(PAIRS, "evt_new"))
    young, old = (
        Shop(
            server,
            f"shop_of_{months}_months",
            SUBSCRIBERS,
            history(SUBSCRIBERS, months),
            renewals(SUBSCRIBERS, months),
        )
        for months in (1, MONTHS)
    )
    rows: dict[str, int] = {}
    sides: dict[str, Callable[[], float | Mapping[str, float]]] = {
        "drain_bare": lambda: _measure(server, shop, PAIRS, "bare", 1, rows),
        "drain_bare_2": lambda: _measure(server, shop, PAIRS, "bare", 2, rows),
        "drain_1_worker": lambda: _measure(server, shop, PAIRS, "product", 1, rows),
        "drain_2_workers": lambda: _measure(server, shop, PAIRS, "product", 2, rows),
        "renewal_first": lambda: _measure(server, young, SUBSCRIBERS, "product", 1),
        "renewal_year_5": lambda: _measure(server, old, SUBSCRIBERS, "product", 1),
    }
    with engine(server, PAIRS) as peer:
        if peer is None:
            yield Suite(sides, COMPARISONS)
        else:
            one_worker = sides["drain_1_worker"]
            sides["drain_1_worker"] = lambda: dict.fromkeys(
                ["drain_1_worker", "drain_vs_engine"], one_worker()
            )
            sides["engine"] = peer.measure
            yield Suite(sides, [*COMPARISONS, VS_ENGINE])


def _measure(
    server: Postgres, shop: Shop, pairs: int, side: str, processes: int, rows: dict[str, int] | None = None
) -> float:
    """Events a second, two of each pair. `rows` are what the first side left in each table: the others must, too."""
    with shop.copy() as name:
        if side == "bare":
            with psycopg.connect(server.admin_url(name), autocommit=True) as conn:
                make_bare(conn)
        seconds = _drain(server.url(name), side, processes)
        with psycopg.connect(server.admin_url(name)) as conn:
            _check(conn, pairs, side)
            if rows is not None:
                found = rows_by_table(conn)
                found.pop("billing.workers")  # one for each process
                if not rows:
                    rows.update(found)
                assert found == rows, f"{side} wrote other rows: {set(found.items()) ^ set(rows.items())}"
    return 2 * pairs / seconds


def _drain(url: str, side: str, processes: int) -> float:
    with ExitStack() as stack:
        started = [stack.enter_context(Drainer(url, side)) for _ in range(processes)]
        clock = time.perf_counter()
        for drainer in started:
            drainer.go()
        for drainer in started:
            drainer.wait()
        return time.perf_counter() - clock


def _check(conn: psycopg.Connection, pairs: int, side: str) -> None:
    """A figure counts only if all of the work was done, and the product's only if the ledger adds up too."""
    left = conn.execute("select count(*) from pgmq.q_stripe_events").fetchone()
    assert left == (0,), f"{side} left messages in the queue"
    status = "select stripe_event_id, last_error from billing.stripe_events where status <> 'applied' limit 3"
    assert conn.execute(status).fetchall() == [], f"{side} did not apply events"
    assert conn.execute(_RENEWED).fetchone() == (pairs, pairs, pairs), (
        f"{side} did not write what renewals write"
    )
    if side == "product":
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []
