"""`python -m bench.scale`: the same work in a small and in a large database → what grows, as a table and JSON.

Milliseconds of one connection at a time: the median, and what one call in a hundred exceeds. Reads of users go
through row level security, pages through the dashboard's own server.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import LiteralString
from uuid import UUID

import httpx
import psycopg
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.ledger import account_id, user_id
from bench.shop import link, receive
from bench.size import EVENTS, load
from bench.stream import catalogue, customer_ids, history, stream
from cli.dashboard.serve import listen
from cli.dashboard.serve import server as dashboard_server
from cli.dashboard.session import Session
from devstack.postgres import Postgres
from devstack.postgres_install import chosen_major
from worker.events.drain import drain
from worker.sessions import connect
from worker.settings import Settings

LATEST = Path(__file__).with_name("scale.json")
SMALL = 10_000
LARGE = 1_000_000
REPEATS = 300
PAIRS = 300
# A quarter of 8 GB of memory for Postgres's buffers, and room for loads and sorts: its defaults are for less.
SERVER = {"shared_buffers": "2GB", "max_wal_size": "8GB", "maintenance_work_mem": "1GB", "work_mem": "64MB"}

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds at each size; `slowest` is of the hundredth part that took longest, where there are enough."""

    name: str
    small: float
    large: float
    slowest: float | None

    @property
    def growth(self) -> float:
        return self.large / self.small


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one database."""

    milliseconds: dict[str, list[float]]
    sizes: dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument(
        "--small", type=int, default=SMALL, metavar="N", help="accounts of the small database"
    )
    parser.add_argument("--large", type=int, default=LARGE, metavar="N", help="accounts of the large one")
    parser.add_argument("--output", type=Path, default=LATEST, help="the JSON file to write")
    options = parser.parse_args()
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="tillbase-scale-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root the server runs as a user who must pass through
        server = Postgres.start(Path(name) / "data", durable=True, settings=SERVER)
        try:
            small, large = (_figures_of(server, accounts) for accounts in (options.small, options.large))
        finally:
            server.delete()
    rows = [_row(what, small, large) for what in small.milliseconds]
    options.output.write_text(
        json.dumps(
            {
                "postgres": chosen_major(),
                "cores": os.cpu_count(),
                "small": options.small,
                "large": options.large,
                "rows": [asdict(row) for row in rows],
                "megabytes": large.sizes,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    console.print(_table(rows, options.small, options.large))


def _figures_of(server: Postgres, accounts: int) -> Figures:
    name = f"size_{accounts}"
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("")

        def advance(what: str) -> None:
            progress.update(task, description=f"{accounts:,} accounts: {what}")

        load(server, name, accounts, advance)
        milliseconds: dict[str, list[float]] = {}
        for what, repeats, call in _work(server, name, accounts):
            advance(what)
            milliseconds[what] = _timed(call, repeats)
        advance("done")
    with psycopg.connect(server.admin_url(name)) as conn:
        sizes = dict(conn.execute(_SIZES).fetchall())
    return Figures(milliseconds, sizes)


_SIZES = """
select format('%I.%I', nspname, relname), (pg_total_relation_size(pg_class.oid) / 1048576)::bigint
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind = 'r' and nspname in ('billing', 'pgmq') and pg_total_relation_size(pg_class.oid) > 10 * 1048576
order by 2 desc
"""


def _timed(call: Call, repeats: int) -> list[float]:
    if repeats > 1:
        for _ in range(5):
            call()
    found: list[float] = []
    for _ in range(repeats):
        clock = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - clock))
    return found


def _work(server: Postgres, name: str, accounts: int) -> Iterator[tuple[str, int, Call]]:
    """What is timed, how often, and the call that does it once."""
    dice, numbers = Random(1), count()
    url = server.url(name)

    def some() -> int:
        return dice.randint(2, accounts)

    with (
        psycopg.connect(url, autocommit=True) as conn,
        psycopg.connect(server.admin_url(name), autocommit=True) as admin,
        connect(Settings(url)) as worker,
    ):
        # Work of the worker, first: months that have begun.
        yield (
            "a month of 10,000 accounts",
            1,
            lambda: conn.execute("select billing.allocate_due_credits(null, 10000)"),
        )
        while conn.execute("select accounts from billing.allocate_due_credits(null, 10000)").fetchone() != (
            0,
        ):
            pass
        admin.execute(
            "vacuum analyze billing.credit_balances, billing.credit_schedules, billing.credit_grants"
        )
        yield (
            "a month, when none is due",
            REPEATS,
            lambda: conn.execute("select billing.allocate_due_credits()"),
        )
        yield "expiry, when none is due", REPEATS, lambda: conn.execute("select billing.expire_due_credits()")

        def spend(number: int) -> None:
            conn.execute(
                "select billing.spend_credits(account_id => %s, amount => 1, idempotency_key => %s)",
                [account_id(number), f"scale {next(numbers)}"],
            )

        def hold() -> None:
            conn.execute(
                "select billing.capture_hold(hold_id => id, amount => 1, idempotency_key => %(key)s) from "
                "billing.hold_credits(account_id => %(account)s, amount => 2, idempotency_key => %(key)s)",
                {"account": account_id(some()), "key": f"scale {next(numbers)}"},
            )

        def grant() -> None:
            conn.execute(
                "select billing.grant_credits(account_id => %s, amount => 5, idempotency_key => %s)",
                [account_id(some()), f"scale {next(numbers)}"],
            )

        def deliver() -> None:
            conn.execute(
                "select billing.receive_stripe_event(%s, 'radar.ignored', '2026-10-28.endive', 1, false, '{}')",
                [f"evt_scale_{next(numbers)}"],
            )

        yield "spend_credits", REPEATS, lambda: spend(some())
        yield "hold_credits and capture_hold", REPEATS, hold
        yield "grant_credits", REPEATS, grant
        yield "receive_stripe_event", REPEATS, deliver
        yield "spend_credits, the large account", REPEATS, lambda: spend(1)

        def as_user(number: int, query: LiteralString, *parameters: UUID) -> None:
            claims = json.dumps({"sub": str(user_id(number)), "role": "authenticated"})
            with conn.transaction():
                conn.execute(_AS_USER, [claims])
                assert conn.execute(query, parameters).fetchone() is not None

        yield (
            "credit_balance under RLS",
            REPEATS,
            lambda: as_user(some(), "select * from public.credit_balance"),
        )
        history_page = "select * from public.credit_history order by id desc limit 50"
        yield "credit_history under RLS, a page", REPEATS, lambda: as_user(some(), history_page)
        yield "credit_history under RLS, the large account", REPEATS, lambda: as_user(1, history_page)
        of_account = "select * from public.credit_history where account_id = %s order by id desc limit 50"
        yield (
            "credit_history of one account, the large account",
            REPEATS,
            lambda: as_user(1, of_account, account_id(1)),
        )
        usage = "select * from public.credit_usage(%s, now() - interval '30 days', now())"

        def see_usage(number: int) -> None:
            as_user(number, usage, account_id(number))

        yield "credit_usage of a month", REPEATS, lambda: see_usage(some())
        yield "credit_usage of a month, the large account", 3, lambda: see_usage(1)

        yield "drain of 600 events", 1, _drained(conn, worker)

        with _dashboard(url) as get:
            yield "dashboard: overview", 30, lambda: get("/")
            yield "dashboard: accounts", 30, lambda: get("/accounts")
            yield "dashboard: one account", 100, lambda: get(f"/accounts/{account_id(some())}")
            yield "dashboard: the large account", 30, lambda: get(f"/accounts/{account_id(1)}")
            yield "dashboard: customers", 30, lambda: get("/customers")
            yield "dashboard: events", 30, lambda: get("/inbox")
            yield "dashboard: disputes", 30, lambda: get("/disputes")
            yield "dashboard: worker", 30, lambda: get("/worker")
            yield "dashboard: search by e-mail", 100, lambda: get(f"/search?q={some()}@example.com")

        yield (
            "check_account",
            100,
            lambda: conn.execute("select * from billing.check_account(%s)", [account_id(some())]),
        )
        yield (
            "check_account, the large account",
            1,
            lambda: conn.execute("select * from billing.check_account(%s)", [account_id(1)]),
        )
        yield (
            "running check, 100 accounts",
            10,
            lambda: conn.execute("select * from billing.prove_accounts(100, 60000)"),
        )
        yield "count_credits, for the first time", 1, lambda: admin.execute("select billing.count_credits()")
        yield (
            "metrics",
            30,
            lambda: admin.execute("select billing.count_credits(); select count(*) from billing.metrics()"),
        )
        yield "watch", 10, lambda: admin.execute("select billing.watch()")
        yield (
            "export_account",
            1,
            lambda: admin.execute("select * from billing.export_account(%s)", [account_id(some())]),
        )

        def prove() -> None:
            found = admin.execute("select * from billing.ledger_discrepancies limit 5").fetchall()
            assert found == [], found

        # A figure counts only if the ledger adds up.
        yield "ledger_discrepancies, whole", 1, prove


_AS_USER = "select set_config('request.jwt.claims', %s, true), set_config('role', 'authenticated', true)"


def _drained(conn: psycopg.Connection, worker: psycopg.Connection) -> Call:
    """Renewals and changes of customers that are new here, by the worker's own drain."""
    link(conn, customer_ids(2 * PAIRS))
    receive(conn, [*catalogue(), *history(2 * PAIRS)])
    while drain(worker):
        pass
    receive(conn, list(stream(PAIRS, "evt_scale")))

    def empty() -> None:
        while drain(worker):
            pass

    return empty


@contextmanager
def _dashboard(url: str) -> Iterator[Callable[[str], None]]:
    session = Session()
    listener = listen(0)
    serving = dashboard_server(listener, session, postgres_url=url, actor="scale")
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=origin, timeout=600) as client:
            client.get("/", params={"token": session.token})

            def get(path: str) -> None:
                answer = client.get(path, follow_redirects=True)
                assert answer.status_code == 200, (path, answer.status_code)

            yield get
    finally:
        serving.should_exit = True
        thread.join()


def _row(what: str, small: Figures, large: Figures) -> Row:
    of_small, of_large = small.milliseconds[what], large.milliseconds[what]
    slowest = sorted(of_large)[int(0.99 * len(of_large))] if len(of_large) >= 100 else None
    return Row(
        what,
        round(statistics.median(of_small), 2),
        round(statistics.median(of_large), 2),
        None if slowest is None else round(slowest, 2),
    )


def _table(rows: Sequence[Row], small: int, large: int) -> Table:
    title = (
        f"Milliseconds, with {small:,} and with {large:,} accounts; "
        f"the large database has {11 * large:,} entries and {EVENTS * large:,} events"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for heading in ("", f"{small:,}", f"{large:,}", "times", "1 % take"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for row in rows:
        colour = "green" if row.growth < 2 else "yellow" if row.growth < 10 else "red"
        table.add_row(
            row.name,
            f"{row.small:,.2f}",
            f"{row.large:,.2f}",
            f"[{colour}]{row.growth:.1f}",
            "" if row.slowest is None else f"{row.slowest:,.2f}",
        )
    return table


if __name__ == "__main__":
    main()
