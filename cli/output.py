"""Rows → a table for people or JSON for programs, on stdout; everything else goes to stderr."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from worker.errors import BillingError

# C0 except tab and newline, C1, and characters that change the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class SafeConsole(Console):
    """Removes control characters: a text that a customer wrote must not control this terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's own, with its own colours and cursor movements."""
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROLS.search(segment.text):
                segment = Segment(_CONTROLS.sub("\ufffd", segment.text), segment.style)
            yield segment


out = SafeConsole(soft_wrap=True)
err = SafeConsole(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class CliError(BillingError):
    """A command failed; the message says what to do next."""


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str, numbers: Sequence[str] = ()
) -> None:
    """Print a listing. `numbers` are right-aligned columns; `empty` is printed if there are no rows."""
    if as_json:
        print_json(rows)
    elif not rows:
        err.print(empty, style="dim")
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in rows[0]:
            table.add_column(name.replace("_", " "), justify="right" if name in numbers else "left")
        for row in rows:
            table.add_row(*(_cell(name, value) for name, value in row.items()))
        out.print(table)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    out.print_json(json.dumps(value, default=str), highlight=out.is_terminal)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one record, a line for each field that has a value."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in fields.items():
        if value is not None:
            table.add_row(name.replace("_", " "), _cell(name, value))
    out.print(table)


def _cell(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case bool():
            return "yes" if value else "no"
        case int() if name != "id" and not name.endswith("_id"):  # ids can be copied as a whole
            return f"{value:,}"
        case dict() | list():
            return escape(json.dumps(value, default=str))
        case _:
            return escape(str(value))
