"""What a check found → JSON for programs, a table for people: `till doctor`, `deploy`, `explain`, `webhook verify`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.markup import escape

from cli.output import out, print_json
from cli.tables import print_table
from worker.errors import BillingError

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is its name for programs; `mend` a command, or what to do; credits or payments depend on an error.

    `about` is the id of what it concerns, such as an event or a dispute, where it is of one thing.
    """

    check: str
    what: str
    mend: str
    severity: Severity = "error"
    about: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A check that could not be made, and what it lacks."""

    check: str
    why: str


Result = Finding | Skipped


def finding_of(check: str, error: BillingError) -> Finding:
    """An error of a command, which says what is wrong, then what to do, as a finding."""
    what, _, mend = str(error).partition(": ")
    return Finding(check, what, mend or "correct it, then run this again")


def findings_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """As programs read them."""
    return [
        {"check": each.check, "severity": each.severity, "what": each.what, "mend": each.mend}
        for each in findings
    ]


def print_findings(findings: Sequence[Finding]) -> None:
    """Errors first."""
    styles = {"error": "red", "warning": "yellow"}
    print_table(
        ("", "what", "what to do"),
        [
            (styles[each.severity], (each.severity, each.what, each.mend))
            for each in sorted(findings, key=lambda each: each.severity)
        ],
        wrapped=("what", "what to do"),
    )


def report(results: Mapping[str, Sequence[Result]], *, as_json: bool, all_well: str) -> None:
    """Print a line for each check, then what is wrong, or else `all_well`. Exits 1 if something is an error."""
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
        for name, of_check in results.items():
            _print_check(name, of_check)
        out.print()
        if findings:
            print_findings(findings)
        else:
            out.print(f"[green]{all_well}[/]")
    if any(each.severity == "error" for each in findings):
        raise typer.Exit(1)


def _print_check(name: str, results: Sequence[Result]) -> None:
    skipped = next((each.why for each in results if isinstance(each, Skipped)), None)
    severities = {each.severity for each in results if isinstance(each, Finding)}
    mark = (
        "[red]✗[/]" if "error" in severities
        else "[yellow]![/]" if severities
        else "[dim]–[/]" if skipped
        else "[green]✓[/]"
    )  # fmt: skip
    out.print(f"{mark} {name}" + (f"  [dim]{escape(skipped)}[/]" if skipped else ""), highlight=False)
