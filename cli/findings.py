"""What a check found → JSON for programs, a table for people: `till doctor`, `explain` and `webhook verify`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
