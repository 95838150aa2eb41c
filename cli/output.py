"""Rows → a table for people or JSON for programs, on stdout; everything else goes to stderr."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.highlighter import JSONHighlighter
from rich.text import Text

from cli.console import CONTROLS, err, out
from cli.tables import print_table
from worker.errors import BillingError

__all__ = [
    "AsJson", "CliError", "counted", "err", "out", "print_fields", "print_json", "print_rows", "time_text",
]  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Texts that people write, as long as they like: a screen wraps them.
_PROSE = (
    "description",
    "reason",
    "last_error",
    "notes",
    "frozen_reason",
    "dismissed_reason",
    "metadata",
    "payload",
)


class CliError(BillingError):
    """A command failed; the message says what to do next."""


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str, numbers: Sequence[str] = ()
) -> None:
    """Print a listing. `numbers` are right-aligned columns; `empty` is printed if there are no rows.

    People see no column that is empty in every row.
    """
    if as_json:
        print_json(rows)
    elif not rows:
        err.print(empty, style="dim")
    else:
        names = [name for name in rows[0] if any(row[name] not in (None, "", {}, []) for row in rows)]
        print_table(
            [_header(name) for name in names],
            (("", [_cell(name, row[name]) for name in names]) for row in rows),
            wrapped=[_header(name) for name in _PROSE],
            numbers=[_header(name) for name in numbers],
        )


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one record, a line for each field that has a value."""
    shown = {name: value for name, value in fields.items() if value is not None}
    print_table(
        ("field", "value"),
        (("", (name.replace("_", " "), _cell(name, value))) for name, value in shown.items()),
        wrapped=("value",) if any(name in _PROSE for name in shown) else (),
        headed=False,
    )


def print_json(value: Any) -> None:
    """Print one JSON document, its times and durations as in ISO 8601, in UTC."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, indent=2)
    text = CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    out.print(JSONHighlighter()(Text(text)) if out.is_terminal else Text(text))


_OF_ONE = {"are": "is", "were": "was", "have": "has"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """A number with its noun, and with a verb that is given for many: 1 event waits, 1,200 events wait."""
    if number == 1:
        return f"1 {noun} {_OF_ONE.get(verb, f'{verb}s')}" if verb else f"1 {noun}"
    return f"{number:,} {noun}s {verb}".rstrip()


def time_text(moment: datetime) -> str:
    """A moment as people read it, and as options take it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return f"P{value.days}DT{value.seconds}S"
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case _:
            return str(value)


def _header(name: str) -> str:
    return name.removeprefix("stripe_").removesuffix("_id").replace("_", " ")


def _cell(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return time_text(value)
        case bool():
            return "yes" if value else "no"
        case int() if name != "id" and not name.endswith("_id"):  # ids can be copied as a whole
            return f"{value:,}"
        case dict() | list():
            return json.dumps(value, default=_plain, ensure_ascii=False)
        case _:
            return str(value)
