"""`till simulate`: a whole business on the local stack, with faults, judged by an independent oracle."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from cli.app import App
from cli.output import AsJson, err, out, print_json

if TYPE_CHECKING:
    from simulator.run import Outcome

app = App(panel="Develop")
SHOWN_MAX = 10


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="The same number: the same business and the same faults.", min=0)] = 1,
    days: Annotated[int, typer.Option(help="How long the business runs.", min=1, max=3650)] = 365,
    customers: Annotated[int, typer.Option(help="How many customers join.", min=1, max=10_000)] = 200,
    plans: Annotated[
        Path | None, typer.Option(help="A plan file to sell. Default: the simulator's own.", exists=True, dir_okay=False)
    ] = None,
    workers: Annotated[int, typer.Option(help="How many workers run.", min=1, max=8)] = 2,
    no_faults: Annotated[bool, typer.Option("--no-faults", help="Inject no faults.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page with charts here.", dir_okay=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Run a business of many customers through a time in minutes, with faults, and check every credit.

    Starts a private Postgres, the receiver, workers and the local Stripe, and touches nothing of yours.
    Exits 1 with the seed and what differed if something did.
    """
    from simulator.run import Wanted
    from simulator.run import simulate as run

    chosen = plans or Path(__file__).parents[2] / "simulator" / "plans.toml"
    wanted = Wanted(seed, days, customers, chosen, workers, faults=not no_faults)
    with _progress(days) as advance:
        outcome = run(wanted, _Tools(), advance)
    _print(outcome, as_json)
