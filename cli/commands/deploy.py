"""`till deploy --check`: what is missing before customers can pay, in order, each with the command that does it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.app import App
from cli.findings import report
from cli.output import AsJson, err

app = App(panel="Install and check")


@app.command()
def deploy(
    check: Annotated[bool, typer.Option("--check", help="List what is missing, and change nothing.")] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Check a deployment in Stripe's test mode instead of live mode.")
    ] = False,
    project: Annotated[
        Path, typer.Option("--project", help="Where the Supabase project is.", metavar="DIRECTORY")
    ] = Path(),
    url: Annotated[
        str | None,
        typer.Option(
            "--functions-url",
            help="Where the edge functions are, if not in the linked project.",
            metavar="URL",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is missing before customers can pay, in order.

    Each with the command that does it. Exits 1 if something is missing.
    Reads POSTGRES_URL and STRIPE_API_KEY, and asks the database, the edge functions, Stripe and the Supabase CLI.
    """
    if not check:
        raise typer.BadParameter(
            "the Supabase CLI deploys; this lists what is missing, and the commands", param_hint="--check"
        )
    from cli.deploy.walk import walk

    with err.status("") as status:
        results = walk(project, url, livemode=not test, progress=status.update)
    report(
        results,
        as_json=as_json,
        all_well="Nothing is missing. Look at what is marked –, then run till doctor.",
    )
