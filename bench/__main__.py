"""`python -m bench [suite …]`: measure, print the table, write `bench/latest.json`."""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import psycopg
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.allocate import allocate
from bench.drain import drain
from bench.expire import expire
from bench.measure import Place, Row, Suite, measure
from bench.memory import memory
from bench.receive import receive
from bench.spend import spend
from bench.work import work
from devstack.postgres import Postgres
from devstack.postgres_install import WHEELS, chosen_major

LATEST = Path(__file__).with_name("latest.json")
ROUNDS = 5

# A suite gets a durable Postgres and yields what it has made ready there.
SUITES: Mapping[str, Callable[[Postgres], AbstractContextManager[Suite]]] = {
    "receive": receive,
    "drain": drain,
    "spend": spend,
    "work": work,
    "expire": expire,
    "allocate": allocate,
    "memory": memory,
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="suite", help=f"all of them, or some of: {', '.join(SUITES)}"
    )
    parser.add_argument(
        "--postgres",
        type=int,
        action="append",
        choices=WHEELS,
        help="version to measure on, once for each; without it the one that TILLBASE_POSTGRES asks for",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times that each side is measured")
    parser.add_argument("--output", type=Path, default=LATEST, help="the JSON file to write")
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    every_row: list[Row] = []
    for major in options.postgres or [chosen_major()]:
        rows = _measure_on(major, options.suites or list(SUITES), options.rounds)
        every_row += rows
        # After each version: the second one may take long.
        options.output.write_text(
            json.dumps([asdict(row) for row in every_row], indent=2) + "\n", encoding="utf-8"
        )
        Console().print(_table(rows))


def _measure_on(major: int, suites: Sequence[str], rounds: int) -> list[Row]:
    """Measure on a fresh server of that version."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tillbase-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root the server runs as a user who must pass through
        server = Postgres.start(Path(name) / "data", major=major, durable=True)
        try:
            place = Place.here(_version(server))
            for suite_name in suites:
                with SUITES[suite_name](server) as suite:
                    rows += _run(suite, place, rounds)
        finally:
            server.delete()
    return rows


def _version(server: Postgres) -> str:
    with psycopg.connect(server.admin_url()) as conn:
        found = conn.execute("show server_version").fetchone()
    assert found is not None
    return found[0]


def _run(suite: Suite, place: Place, rounds: int) -> list[Row]:
    console = Console(stderr=True)
    rounds = min(rounds, suite.rounds_max or rounds)
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=rounds * len(suite.sides), completed=-1)
        rows = measure(suite, place, rounds, lambda name: progress.update(task, advance=1, description=name))
        progress.update(task, advance=1)
    return rows


def _table(rows: Sequence[Row]) -> Table:
    title = f"PostgreSQL {rows[0].postgres}: medians, and ratios to a floor measured in the same run"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for heading in ("", "unit", "value", "floor", "ratio", "wanted", "spread", "n"):
        table.add_column(heading, justify="left" if heading in {"", "unit"} else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            row.unit,
            f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:,.2f}",
            f"{row.floor:,.0f}" if row.floor >= 100 else f"{row.floor:,.2f}",
            f"[{'green' if row.is_reached else 'red'}]{row.ratio:.2f}",
            row.limit,
            f"{row.spread:.0%}",
            str(row.n) if row.size is None else f"{row.n}×{row.size // 1000}k",
        )
    return table


if __name__ == "__main__":
    main()
