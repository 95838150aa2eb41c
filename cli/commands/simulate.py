"""`till simulate`: a whole business on a stack of its own, with faults, judged by an independent oracle."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.app import App
from cli.output import AsJson, counted, err, out, print_json
from cli.tables import print_table

if TYPE_CHECKING:  # the whole stack takes its time to load: only who runs it waits
    from simulator.run import Outcome

app = App(panel="Local stack")
SHOWN_MAX = 10


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="The same number: the same business and faults.", min=0)] = 1,
    days: Annotated[int, typer.Option(help="How long the business runs.", min=1, max=3650)] = 365,
    customers: Annotated[int, typer.Option(help="How many customers join.", min=1, max=10_000)] = 200,
    plans: Annotated[
        Path | None,
        typer.Option(
            help="The plan file to sell. Default: one of the simulator's.", exists=True, dir_okay=False
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="How many workers run.", min=1, max=8)] = 2,
    no_faults: Annotated[bool, typer.Option("--no-faults", help="Inject no faults.")] = False,
    adversary: Annotated[
        bool, typer.Option("--adversary", help="One customer in four looks for credits that nobody pays for.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with charts here.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a business under faults, and check every credit.

    Starts a Postgres, a receiver, workers and a local Stripe of its own, and touches nothing else.
    An independent calculation says what each account must have. Exits 1 if something differs.
    """
    from cli.simulation import CommandLine, declared
    from simulator.report import PLANS, document, page
    from simulator.run import Wanted
    from simulator.run import simulate as run

    chosen = plans or PLANS
    wanted = Wanted(seed, days, customers, workers, faults=not no_faults, adversary=adversary)
    with _progress(days) as advance:
        outcome = run(wanted, CommandLine(declared(chosen)), advance)
    if report is not None:
        report.write_text(page(outcome, chosen), encoding="utf-8")
    if as_json:
        print_json(document(outcome))
    else:
        _print(outcome)
    if report is not None:
        err.print(f"written: {report}", style="dim", highlight=False, soft_wrap=True)
    if not outcome.is_sound:
        _say_what_differs(outcome, chosen)
        raise typer.Exit(1)


def _print(outcome: "Outcome") -> None:
    from simulator.report import figures

    print_table(
        ("what", "value"),
        (("", row) for row in figures(outcome)),
        wrapped=(),
        numbers=("value",),
        headed=False,
    )
    if any(outcome.faults.values()):
        out.print()
        rows = sorted(outcome.faults.items(), key=lambda each: -each[1])
        print_table(
            ("fault", "times"),
            (("", (name, f"{count:,}")) for name, count in rows if count),
            wrapped=(),
            numbers=("times",),
        )
    if outcome.is_sound:
        out.print(
            "nothing differs: the proofs are empty, and the oracle agrees to the credit", highlight=False
        )


def _say_what_differs(outcome: "Outcome", plans: Path) -> None:
    from simulator.report import command

    found = outcome.differences
    for each in found[:SHOWN_MAX]:
        err.print(escape(str(each)), highlight=False, soft_wrap=True)
    if len(found) > SHOWN_MAX:
        err.print(
            f"and {len(found) - SHOWN_MAX:,} more: --json has all of them", style="dim", highlight=False
        )
    err.print(
        f"[bold red]error:[/] {counted(len(found), 'difference')}. Repeat it: "
        f"{escape(command(outcome.wanted, plans))}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


@contextmanager
def _progress(days: int) -> Generator[Callable[[float], None]]:
    progress = Progress(
        "{task.description}",
        BarColumn(),
        TextColumn("day {task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with progress:
        task = progress.add_task("living", total=days)
        yield lambda day: progress.update(task, completed=day)
