"""`python -m bench.report`: bench/latest.json → the table and the picture of docs/performance.md."""

import json
from collections.abc import Sequence
from pathlib import Path

from bench.__main__ import LATEST
from bench.measure import Row

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "pictures" / "performance.svg"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

_WIDTH, _LEFT, _BAR, _LINE = 720, 190, 400, 26


def main() -> None:
    rows = [Row(**row) for row in json.loads(LATEST.read_text(encoding="utf-8"))]
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{BEGIN}{_table(rows)}{END}{tail}", encoding="utf-8")
    PICTURE.write_text(_picture(rows), encoding="utf-8")


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
