"""What a check of `till doctor` found."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is its name for programs; `mend` a command, or what to do; of an error credits or payments depend."""

    check: str
    what: str
    mend: str
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A check that could not be made, and what it lacks."""

    check: str
    why: str


Result = Finding | Skipped
