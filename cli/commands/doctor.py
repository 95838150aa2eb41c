"""`till doctor`: whether everything is all right, and what mends what is not."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.app import App
from cli.commands.webhook import webhook_url
from cli.database import Connection, connect, setting
from cli.doctor.files import files
from cli.findings import Finding, Result, Skipped, finding_of, findings_json, print_findings
from cli.output import AsJson, CliError, err, out, print_json
from worker.errors import BillingError

if TYPE_CHECKING:
    from worker.settings import Settings

REQUEST_TIMEOUT_SECONDS = 20

Check = Callable[[], Iterable[Result]]


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
    as_json: AsJson = False,
) -> None:
    """Check database, worker, Stripe and the project's files.

    Exits 1 if something is broken.
    Reads POSTGRES_URL and STRIPE_API_KEY, and SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY where they are set. Changes
    nothing.
    """
    results: dict[str, list[Result]] = {}
    with err.status("") as status:
        for name, check in _checks(project, url, full=full):
            status.update(name)
            results[name] = list(check())
    findings = [each for of_check in results.values() for each in of_check if isinstance(each, Finding)]
    if as_json:
        print_json(
            {
                "checks": [
                    {"name": name, "ok": not any(isinstance(each, Finding) for each in of_check),
                     "skipped": next((each.why for each in of_check if isinstance(each, Skipped)), None)}
                    for name, of_check in results.items()
                ],
                "findings": findings_json(findings),
            }
        )  # fmt: skip
    else:
        _print(results, findings)
    if any(each.severity == "error" for each in findings):
        raise typer.Exit(1)


def _checks(directory: Path, url: str | None, *, full: bool) -> Iterator[tuple[str, Check]]:
    """In the order in which a reader would mend them: files, database, Stripe, clients."""
    from cli.doctor import database

    yield "project files", lambda: files(directory)
    with ExitStack() as stack:
        try:
            settings = _settings()
            conn = stack.enter_context(connect())
        except BillingError as error:
            trouble = finding_of("connection", error)
            yield "connection", lambda: [trouble]
        else:
            yield "pooler", lambda: database.pooler(conn)
            for name, check in database.CHECKS.items():
                yield name, lambda check=check: database.run(conn, check)
            if full:
                yield "proofs", lambda: database.run(conn, database.proofs)
            yield from _stripe_checks(conn, settings, url or _webhook_url(directory))
    yield "Data API", _data_api


def _settings() -> "Settings":
    """As other commands read them, but a database of the environment is checked without a key as well."""
    from cli.plans.catalogue import stripe_settings
    from worker.settings import Settings

    return Settings.from_env(os.environ) if os.environ.get("POSTGRES_URL", "").strip() else stripe_settings()


def _stripe_checks(conn: Connection, settings: "Settings", url: str | None) -> Iterator[tuple[str, Check]]:
    from cli.doctor import stripe_checks
    from worker.stripe_api import stripe_client

    key = settings.stripe_api_key
    if key is None:
        yield "Stripe", lambda: [Skipped("stripe", "STRIPE_API_KEY is not set")]
        return
    client = stripe_client(key, settings.stripe_api_base, REQUEST_TIMEOUT_SECONDS, retries=1)
    livemode = stripe_checks.is_live_key(settings)
    checks: dict[str, Check] = {
        "Stripe key": lambda: stripe_checks.key(conn, settings),
        "Stripe permissions": lambda: stripe_checks.permissions(client),
        "webhook endpoint": lambda: _no_url() if url is None else stripe_checks.endpoint(client, url),
        "arrival of events": lambda: stripe_checks.arrived(conn, client, livemode=livemode),
        "clock": lambda: stripe_checks.clock(conn, client),
    }
    for name, check in checks.items():
        yield name, lambda check=check: stripe_checks.run(check)


def _no_url() -> list[Result]:
    return [Skipped("webhook", "no project is linked here: pass --webhook-url")]


def _webhook_url(directory: Path) -> str | None:
    try:
        return webhook_url(directory)
    except CliError:
        return None


def _data_api() -> Iterator[Result]:
    from cli.doctor.data_api import visitor

    try:
        url, key = setting("SUPABASE_URL"), setting("SUPABASE_PUBLISHABLE_KEY")
    except CliError:
        yield Skipped("data_api", "SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY are not set")
        return
    yield from visitor(url, key)


def _print(results: dict[str, list[Result]], findings: list[Finding]) -> None:
    """A line for each check, then what is wrong."""
    for name, of_check in results.items():
        skipped = next((each.why for each in of_check if isinstance(each, Skipped)), None)
        severities = {each.severity for each in of_check if isinstance(each, Finding)}
        mark = (
            "[red]✗[/]" if "error" in severities
            else "[yellow]![/]" if severities
            else "[dim]–[/]" if skipped
            else "[green]✓[/]"
        )  # fmt: skip
        out.print(f"{mark} {name}" + (f"  [dim]{escape(skipped)}[/]" if skipped else ""), highlight=False)
    out.print()
    if findings:
        print_findings(findings)
    else:
        out.print("[green]Nothing is wrong.[/]")
