"""An outcome → rows for people, a JSON document, and one HTML page with charts that loads nothing."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from simulator.run import Moment, Outcome, Wanted

# What is sold if no plan file is given.
PLANS = Path(__file__).with_name("plans.toml")
WIDTH, HEIGHT = 640, 200
_CREDITS = (("granted", "granted"), ("spent", "spent"), ("taken_back", "taken back or expired"))


def command(wanted: Wanted, plans: Path) -> str:
    """What repeats it."""
    words = ["till", "simulate"]
    for name in ("seed", "days", "customers", "workers"):
        words += [f"--{name}", str(getattr(wanted, name))]
    if not wanted.faults:
        words.append("--no-faults")
    if wanted.adversary:
        words.append("--adversary")
    if plans != PLANS:
        words += ["--plans", str(plans)]
    return shlex.join(words)


def document(outcome: Outcome) -> dict[str, Any]:
    """All of it, for programs."""
    wanted = outcome.wanted
    return {
        "seed": wanted.seed,
        "days": wanted.days,
        "customers": wanted.customers,
        "workers": wanted.workers,
        "adversary": wanted.adversary,
        "is_sound": outcome.is_sound,
        "differences": [asdict(each) for each in outcome.differences],
        "moments": [asdict(moment) for moment in outcome.moments],
        "acts": dict(sorted(outcome.done.items())),
        "refused": dict(sorted(outcome.refused.items())),
        "spends": dict(sorted(outcome.spent.items())),
        "faults": {name: count for name, count in sorted(outcome.faults.items()) if count},
        "seconds": round(outcome.seconds, 1),
    }


def figures(outcome: Outcome) -> list[tuple[str, str]]:
    """What it came to: name, value."""
    last = outcome.moments[-1] if outcome.moments else None
    rows = [
        ("customers", f"{last.customers if last else 0:,}"),
        ("days", f"{last.day if last else 0:,.0f} of {outcome.wanted.days:,}"),
        ("quiet moments judged", f"{len(outcome.moments):,}"),
        ("acts of customers", f"{sum(outcome.done.values()):,}"),
        ("spends, holds, batches", f"{sum(outcome.spent.values()):,}"),
        ("events of Stripe", f"{last.events if last else 0:,}"),
        ("faults injected", f"{sum(outcome.faults.values()):,}"),
    ]
    if last:
        rows += [(f"credits {label}", f"{getattr(last, name):,}") for name, label in _CREDITS]
        rows.append(("longest drain", f"{max(moment.drain_seconds for moment in outcome.moments):.1f} s"))
    return [*rows, ("took", f"{outcome.seconds:.0f} s")]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart as the points of an SVG path."""

    label: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over days. `marks`: (y, label) of the grid."""

    title: str
    lines: list[Line]
    marks: list[tuple[float, str]]
    last_day: int


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: str
    percent: float


def page(outcome: Outcome, plans: Path) -> str:
    """The page."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape())
    return environment.get_template("report.html").render(
        outcome=outcome,
        plans=plans.name,
        command=command(outcome.wanted, plans),
        figures=figures(outcome),
        charts=list(_charts(outcome.moments)),
        faults=_bars(sorted(outcome.faults.items(), key=lambda each: -each[1])),
        acts=sorted(outcome.done.items()),
        width=WIDTH,
        height=HEIGHT,
    )


def _charts(moments: Sequence[Moment]) -> Iterator[Chart]:
    if not moments:
        return
    days = [0.0, *(moment.day for moment in moments)]

    def of(title: str, names: Sequence[tuple[str, str]], unit: str = "") -> Chart:
        values = {label: [0.0, *(float(getattr(m, name)) for m in moments)] for name, label in names}
        top = _round_up(max(max(each) for each in values.values()))
        lines = [Line(label, _path(days, each, top)) for label, each in values.items()]
        marks = [(HEIGHT * (1 - share), f"{top * share:,.6g}{unit}") for share in (0, 0.5, 1)]
        return Chart(title, lines, marks, round(days[-1]))

    yield of("Customers", [("customers", "customers")])
    yield of("Credits, all together", _CREDITS)
    yield of("Faults, all together", [("faults_so_far", "faults")])
    yield of("Until everything was at rest", [("drain_seconds", "seconds")], " s")


def _path(days: Sequence[float], values: Sequence[float], top: float) -> str:
    points = [
        f"{WIDTH * day / days[-1]:.1f} {HEIGHT * (1 - value / top):.1f}"
        for day, value in zip(days, values, strict=True)
    ]
    return f"M{' L'.join(points)}"


def _round_up(value: float) -> float:
    """The next of 2, 4, 6, 8, 10, 20 …, half of which is round too."""
    power = 10 ** (len(str(int(max(value, 1)))) - 1)
    return next((power * digit for digit in (2, 4, 6, 8) if power * digit >= value), power * 10)


def _bars(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    top = max((count for _, count in counts), default=1) or 1
    return [Bar(name, f"{count:,}", 100 * count / top) for name, count in counts if count]
