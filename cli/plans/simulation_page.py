"""A simulation → one HTML page, with a picture of the credits outstanding; and its figures for tables and JSON."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any

from cli.plans.simulate import ASSUMPTIONS, Outcome, Simulation
from worker.money import money_text, whole_units

_WIDTH, _HEIGHT = 720, 240
_ROWS_MAX = 200
_STYLE = """
:root { color-scheme: light dark; --now: #6b7280; --new: #2563eb; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --now: #9ca3af; --new: #60a5fa; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 780px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
th.n, td.n { text-align: right; }
svg { width: 100%; height: auto; overflow: visible; }
text { fill: currentColor; font-size: 11px; opacity: .75; }
.now { stroke: var(--now); } .new { stroke: var(--new); } path { fill: none; stroke-width: 2; }
.key { font-weight: 600; } .key.now { color: var(--now); } .key.new { color: var(--new); }
li { margin: .2rem 0; }
"""


def figures(found: Simulation) -> list[tuple[str, str, str]]:
    """What it comes to, as people read it: name, now, new."""
    now, new = found.total("now"), found.total("new")
    rows = [
        (f"revenue, {currency}", money_text(found.revenue_now.get(currency, 0), currency),
         money_text(found.revenue_new.get(currency, 0), currency))
        for currency in sorted(found.revenue_now)
    ]  # fmt: skip
    if found.cost:
        rows.append(("cost of work", f"{float(found.cost):,.2f}", f"{float(found.cost):,.2f}"))
        rows += [
            (f"margin, {currency}", f"{_margin(found, found.revenue_now, currency):,.2f}",
             f"{_margin(found, found.revenue_new, currency):,.2f}")
            for currency in _one_currency(found)
        ]  # fmt: skip
    for name in ("granted", "used", "unpaid", "expired", "outstanding"):
        rows.append((f"credits {name}", f"{getattr(now, name):,}", f"{getattr(new, name):,}"))
    rows.append(("accounts that run dry", f"{found.dry('now'):,}", f"{found.dry('new'):,}"))
    return rows


def document(found: Simulation) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "from": found.start,
        "until": found.until,
        "now": _side(found, "now", found.revenue_now),
        "new": _side(found, "new", found.revenue_new),
        "operations": [
            {
                "operation": key,
                "calls": work.calls,
                "now": work.now,
                "new": work.new,
                "cost": float(work.cost),
                "is_in_file": work.is_in_file,
            }
            for key, work in sorted(found.operations.items())
        ],
        "accounts": [
            {
                "account_id": row.account_id,
                "email": row.email,
                "now": _outcome(row.now),
                "new": _outcome(row.new),
            }
            for row in found.accounts
        ],
        "days": [{"at": at, "now": now, "new": new} for at, now, new in found.days],
        "differs_from_ledger": found.difference,
        "assumptions": list(ASSUMPTIONS),
    }


def dry_rows(found: Simulation) -> list[tuple[str, datetime | None, datetime | None, int, int]]:
    """Accounts that run dry on either side, the most unpaid credits of the new side first."""
    dry = [row for row in found.accounts if row.now.dry_at or row.new.dry_at]
    dry.sort(key=lambda row: (-row.new.unpaid, row.account_id))
    return [
        (row.email or row.account_id, row.now.dry_at, row.new.dry_at, row.now.unpaid, row.new.unpaid)
        for row in dry
    ]


def page(found: Simulation, name: str) -> str:
    """The page; it loads nothing."""
    dry = dry_rows(found)
    shown = f"the first {_ROWS_MAX} of {len(dry):,}" if len(dry) > _ROWS_MAX else f"{len(dry):,}"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Simulation of {escape(name)}</title><style>{_STYLE}</style>
<h1>{escape(name)}, replayed</h1>
<p>{found.start:%d %b %Y} to {found.until:%d %b %Y}: <span class="key now">now</span> is what happened, <span
class="key new">new</span> the same use with the plan file.</p>
{_table(("", "now", "new"), figures(found))}
<h2>Credits outstanding</h2>
{_picture(found)}
<h2>Operations</h2>
{_table(("operation", "calls", "now", "new"), _operations(found))}
<h2>Accounts that run dry ({shown})</h2>
{_table(("account", "now", "new", "unpaid now", "unpaid new"), _dry(dry))}
<h2>What it assumes</h2>
<ul>{"".join(f"<li>{escape(line)}</li>" for line in ASSUMPTIONS)}</ul>
</html>
"""


def _operations(found: Simulation) -> Iterable[tuple[str, str, str, str]]:
    for key, work in sorted(found.operations.items()):
        new = f"{work.new:,}" if work.is_in_file else "not in file"
        yield key, f"{work.calls:,}", f"{work.now:,}", new


def _dry(rows: list[tuple[str, datetime | None, datetime | None, int, int]]) -> Iterable[tuple[str, ...]]:
    for name, now, new, unpaid_now, unpaid_new in rows[:_ROWS_MAX]:
        yield name, _day(now), _day(new), f"{unpaid_now:,}", f"{unpaid_new:,}"


def _day(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%d %b %Y}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def cells(tag: str, row: tuple[str, ...]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place else ''}>{escape(cell)}</{tag}>" for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', heads)}</tr>{body}</table>"


def _picture(found: Simulation) -> str:
    top = max(1, *(max(now, new) for _, now, new in found.days))
    step = _WIDTH / max(len(found.days) - 1, 1)

    def path(values: Iterable[int]) -> str:
        points = [
            f"{place * step:.1f} {_HEIGHT * (1 - value / top):.1f}" for place, value in enumerate(values)
        ]
        return f"M{' L'.join(points)}"

    marks = "".join(
        f'<line x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
        f'<text x="0" y="{y - 4}">{top * (_HEIGHT - y) // _HEIGHT:,}</text>'
        for y in (0, _HEIGHT // 2, _HEIGHT)
    )
    before, after = [now for _, now, _ in found.days], [new for _, _, new in found.days]
    first, last = found.days[0][0], found.days[-1][0]
    return (
        f'<svg viewBox="0 -16 {_WIDTH} {_HEIGHT + 40}" role="img" aria-label="Credits outstanding by day">'
        f'{marks}<path class="now" d="{path(before)}"/><path class="new" d="{path(after)}"/>'
        f'<text x="0" y="{_HEIGHT + 18}">{first:%d %b %Y}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 18}" text-anchor="end">{last:%d %b %Y}</text></svg>'
    )


def _side(found: Simulation, side: str, revenue: Mapping[str, int]) -> dict[str, Any]:
    return {
        **_outcome(found.total(side)),
        "accounts_dry": found.dry(side),
        "revenue": dict(revenue),
        "cost": float(found.cost),
        "margin": {currency: _margin(found, revenue, currency) for currency in _one_currency(found)},
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "granted": outcome.granted,
        "used": outcome.used,
        "unpaid": outcome.unpaid,
        "expired": outcome.expired,
        "outstanding": outcome.outstanding,
        "dry_at": outcome.dry_at,
    }


def _one_currency(found: Simulation) -> list[str]:
    """The currency of the costs: that of the revenue, if there is one."""
    return list(found.revenue_now) if len(found.revenue_now) == 1 else []


def _margin(found: Simulation, revenue: Mapping[str, int], currency: str) -> float:
    return round(float(whole_units(revenue.get(currency, 0), currency)) - float(found.cost), 2)
