"""`python -m bench.report`: what was measured → the tables and the picture of docs/performance.md and docs/scale.md.

bench/latest.json is of `python -m bench`, bench/scale.json of `python -m bench.scale`. Where one was not run, its page
is left as it is.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import scale
from bench.__main__ import LATEST
from bench.measure import Row

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
SCALE_PAGE = DOCS / "scale.md"
PICTURE = DOCS / "pictures" / "performance.svg"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
LARGEST_TABLES = 6

_WIDTH, _LEFT, _BAR, _LINE = 720, 190, 400, 26


def main() -> None:
    if LATEST.exists():
        rows = [Row(**row) for row in json.loads(LATEST.read_text(encoding="utf-8"))]
        _fill(PAGE, _table(rows))
        PICTURE.write_text(_picture(rows), encoding="utf-8")
    if scale.LATEST.exists():
        _fill(SCALE_PAGE, _scale_table(json.loads(scale.LATEST.read_text(encoding="utf-8"))))


def _fill(page: Path, figures: str) -> None:
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, tail = rest.split(END)
    page.write_text(f"{head}{BEGIN}{figures}{END}{tail}", encoding="utf-8")


def _scale_table(found: dict[str, Any]) -> str:
    lines = [
        f"| milliseconds | {found['small']:,} accounts | {found['large']:,} accounts | times | 1 % take more than |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in found["rows"]:
        row = scale.Row(**each)
        slowest = "" if row.slowest is None else _number(row.slowest)
        lines.append(
            f"| {row.name} | {_number(row.small)} | {_number(row.large)} | {row.growth:.1f} | {slowest} |"
        )
    largest = list(found["megabytes"].items())[:LARGEST_TABLES]
    sizes = ", ".join(f"`{name}` {size / 1024:.1f} GB" for name, size in largest)
    return "\n".join([*lines, "", f"The largest tables, with their indexes: {sizes}.", ""])


def _table(rows: Sequence[Row]) -> str:
    first = rows[0]
    lines = [
        f"{first.machine}; PostgreSQL {first.postgres}, Python {first.python}, Deno {first.deno}.",
        "",
        "| row | unit | figure | floor | ratio | wanted | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    lines += (
        f"| {row.name} | {row.unit} | {_number(row.value)} | {_number(row.floor)} "
        f"| {row.ratio:.2f} | {row.limit} | {'reached' if row.is_reached else 'missed'} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def _picture(rows: Sequence[Row]) -> str:
    """A bar for each row: how much of what is wanted was reached, where the line is all of it."""
    height = _LINE * (len(rows) + 1)
    line = _LEFT + _BAR / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, row in enumerate(rows):
        top = _LINE * number + _LINE / 2
        share = row.wanted / row.ratio if row.less_is_better else row.ratio / row.wanted
        colour = "#2f855a" if row.is_reached else "#c05621"
        width = min(share, 2) * _BAR / 2
        parts.append(
            f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{row.name}</text>'
            f'<rect x="{_LEFT}" y="{top}" width="{width:.0f}" height="18" fill="{colour}"/>'
            f'<text x="{_LEFT + _BAR + 12}" y="{top + 13}">{row.ratio:.2f} of {row.wanted:.2f}</text>'
        )
    parts.append(
        f'<line x1="{line}" y1="0" x2="{line}" y2="{height}" stroke="#1a202c" stroke-dasharray="4 3"/>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


if __name__ == "__main__":
    main()
