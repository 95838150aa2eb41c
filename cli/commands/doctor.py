"""`till doctor`: whether everything is all right, and what mends what is not."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.app import App
from cli.findings import Finding, Result, Skipped, findings_json, print_findings
from cli.output import AsJson, err, out, print_json

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
    from cli.doctor.checks import checks

    results: dict[str, list[Result]] = {}
    with err.status("") as status:
        for name, check in checks(project, url, full=full):
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
