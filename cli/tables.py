"""Rows of cells → a table that never cuts ids, however narrow the screen, so that they can be copied."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from cli.console import out

_WRAPPED_WIDTH_MIN = 24
_GAP = 2


def print_table(
    columns: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str | None]]],
    *,
    wrapped: Sequence[str],
    numbers: Sequence[str] = (),
    headed: bool = True,
) -> None:
    """Print rows, each with its style. Only `wrapped` columns are wrapped, and only on a screen where the others fit.

    On a narrower screen, in a file and in a pipe each row is one line. `numbers` are right-aligned columns.
    """
    styled = [(style, [cell or "" for cell in cells]) for style, cells in rows]
    texts = [
        [column if headed else "", *(cells[place] for _, cells in styled)]
        for place, column in enumerate(columns)
    ]
    widths = [max(cell_len(line) for text in column for line in text.split("\n")) for column in texts]
    narrow = [
        min(width, _WRAPPED_WIDTH_MIN) if column in wrapped else width
        for column, width in zip(columns, widths, strict=True)
    ]
    is_wrapped = out.is_terminal and _total(narrow) <= out.width
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=headed)
    for column in columns:
        justify = "right" if column in numbers else "left"
        table.add_column(
            column, justify=justify, no_wrap=not (is_wrapped and column in wrapped), overflow="fold"
        )
    for style, cells in styled:
        table.add_row(*map(escape, cells), style=style)
    if not is_wrapped:
        table.width = _total(widths)
    out.print(table)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
