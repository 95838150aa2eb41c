"""Rows of cells → a table that never cuts ids, however narrow the screen, so that they can be copied."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from cli.output import out

_WRAPPED_WIDTH_MIN = 24
_GAP = 2


def print_table(
    columns: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str | None]]],
    *,
    wrapped: Sequence[str],
    numbers: Sequence[str] = (),
) -> None:
    """Print rows, each with its style. Only `wrapped` columns are wrapped, and only on a screen.

    If the screen is too narrow for the others, it breaks the lines itself. `numbers` are right-aligned columns.
    """
    styled = [(style, [cell or "" for cell in cells]) for style, cells in rows]
    table = Table(box=None, header_style="bold", pad_edge=False)
    needed = -_GAP
    for place, column in enumerate(columns):
        is_wrapped = column in wrapped and out.is_terminal
        justify = "right" if column in numbers else "left"
        table.add_column(column, justify=justify, no_wrap=not is_wrapped, overflow="fold")
        lines = [line for _, cells in styled for line in cells[place].split("\n")]
        width = max(map(cell_len, [column, *lines]))
        needed += _GAP + (min(width, _WRAPPED_WIDTH_MIN) if is_wrapped else width)
    for style, cells in styled:
        table.add_row(*map(escape, cells), style=style)
    if needed > out.width:
        table.width = needed
    out.print(table)
