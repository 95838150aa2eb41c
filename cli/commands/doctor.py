"""`till doctor`: checks an installation, and says how to fix what is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from cli.app import App
from cli.findings import Result, report
from cli.output import AsJson, err

app = App(panel="Install and check")


@app.command()
def doctor(
    project: Annotated[
        Path, typer.Option("--project", help="Where the Supabase project is.", metavar="DIRECTORY")
    ] = Path(),
    url: Annotated[
        str | None,
        typer.Option(
            "--webhook-url", help="The webhook endpoint's URL, if not the linked project's.", metavar="URL"
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Prove every account now; takes as long as the ledger is large.")
    ] = False,
    security: Annotated[
        bool,
        typer.Option(
            "--security",
            help="Check privileges, roles and schemas instead, and try what clients must not do.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check database, worker, Stripe and the project's files.

    Exits 1 if something is broken.
    Reads POSTGRES_URL and STRIPE_API_KEY, and SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY where they are set. Changes
    nothing.

    With --security every attempt is rolled back; SUPABASE_USER_TOKEN is the access token of a signed-in user to try
    as one.
    """
    from cli.doctor.checks import checks, security_checks

    results: dict[str, list[Result]] = {}
    with err.status("") as status:
        for name, check in security_checks() if security else checks(project, url, full=full):
            status.update(name)
            results[name] = list(check())
    report(
        results, as_json=as_json, all_well="No security problem found." if security else "Nothing is wrong."
    )
