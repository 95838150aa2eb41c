"""Sides to compare → medians over interleaved rounds, as rows of a value and its floor."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["events/s", "spends/s", "lots/s", "rows/s", "ms"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row to be measured: the side of this name against the side that is its floor."""

    name: str
    floor: str
    unit: Unit
    wanted: float

    @property
    def less_is_better(self) -> bool:
        return self.unit == "ms"


@dataclass(frozen=True, slots=True)
class Suite:
    """Sides that are measured in turn, each by a call that returns one figure, and the rows made of them.

    A slow one says by `rounds_max` how often that may be at most.
    """

    sides: Mapping[str, Callable[[], float]]
    comparisons: Sequence[Comparison]
    rounds_max: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of `n` rounds. `ratio` is value / floor; `spread` its range over the rounds, relative to it."""

    name: str
    unit: Unit
    value: float
    floor: float
    ratio: float
    n: int
    spread: float


def measure(suite: Suite, rounds: int, advance: Callable[[str], None]) -> list[Row]:
    """Every side once in each round, each round beginning with another side; `advance` hears each name first."""
    names = list(suite.sides)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            advance(name)
            figures[name].append(suite.sides[name]())
    return [_row(comparison, figures) for comparison in suite.comparisons]


def _row(comparison: Comparison, figures: Mapping[str, Sequence[float]]) -> Row:
    values, floors = figures[comparison.name], figures[comparison.floor]
    ratios = [value / floor for value, floor in zip(values, floors, strict=True)]
    value, floor = statistics.median(values), statistics.median(floors)
    return Row(
        name=comparison.name,
        unit=comparison.unit,
        value=round(value, 2),
        floor=round(floor, 2),
        ratio=round(value / floor, 3),
        n=len(values),
        spread=round((max(ratios) - min(ratios)) / (value / floor), 3),
    )
