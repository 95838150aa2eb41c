"""Figures over time → the geometry of a chart, in hundredths of its width and height.

Shapes are stretched to the available space; the labels around them are HTML, so they keep their size on a phone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

WIDTH = 1000
HEIGHT = 300
_GAP = 0.25
Write = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One point in time or day; `minus` is the returned part of the day's amount."""

    at: date | datetime
    value: int
    minus: int = 0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Spot:
    """The area in which a pointer shows a figure."""

    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. `scale`: the marks of the y axis from the top; `ends`: the first and the last day."""

    kind: str
    scale: list[str]
    grid: list[float]
    zero: float
    ends: tuple[str, str]
    spots: list[Spot]
    rows: list[tuple[str, list[str]]]
    columns: list[str]
    line: str = ""
    area: str = ""
    bars: list[Box] | None = None
    minus_bars: list[Box] | None = None


def line(figures: Sequence[Figure], *, write: Write, name: str) -> Chart | None:
    """A value over time, with a step at each change. None if there is nothing to draw."""
    if len(figures) < 2:
        return None
    bottom, top = _bounds([figure.value for figure in figures])
    y_of = _y(bottom, top)
    room = WIDTH / len(figures)
    heights = [y_of(figure.value) for figure in figures]
    steps = "".join(f"H{index * room:.1f}V{y:.1f}" for index, y in enumerate(heights) if index)
    path = f"M0 {heights[0]:.1f}{steps}H{WIDTH}"
    spots = [
        Spot(index * room, room, f"{_when(figure.at)}: {write(figure.value)}")
        for index, figure in enumerate(figures)
    ]
    return Chart(
        "line",
        *_scale(bottom, top, write),
        y_of(0),
        (_day(figures[0].at), _day(figures[-1].at)),
        spots,
        [(_when(figure.at), [write(figure.value)]) for figure in figures],
        [name],
        line=path,
        area=f"{path}V{y_of(0):.1f}H0Z",
    )


def bars(figures: Sequence[Figure], *, write: Write, names: tuple[str, str]) -> Chart | None:
    """The amount of each day, and in front of it the returned amount. None if there is nothing to draw."""
    if not any(figure.value or figure.minus for figure in figures):
        return None
    bottom, top = _bounds([max(figure.value, figure.minus) for figure in figures])
    y_of = _y(bottom, top)
    room = WIDTH / len(figures)
    ups: list[Box] = []
    downs: list[Box] = []
    spots: list[Spot] = []
    for index, figure in enumerate(figures):
        x, width = (index + _GAP / 2) * room, room * (1 - _GAP)
        if figure.value:
            ups.append(Box(x, y_of(figure.value), width, y_of(0) - y_of(figure.value)))
        if figure.minus:
            downs.append(Box(x, y_of(figure.minus), width, y_of(0) - y_of(figure.minus)))
        text = f"{_when(figure.at)}: {write(figure.value)}"
        if figure.minus:
            text += f", {names[1]} {write(figure.minus)}"
        spots.append(Spot(index * room, room, text))
    return Chart(
        "bars",
        *_scale(bottom, top, write),
        y_of(0),
        (_day(figures[0].at), _day(figures[-1].at)),
        spots,
        [(_when(figure.at), [write(figure.value), write(figure.minus)]) for figure in figures],
        list(names),
        bars=ups,
        minus_bars=downs,
    )


def _bounds(values: Sequence[int]) -> tuple[int, int]:
    """Round numbers around the values and zero."""
    top, bottom = max(0, *values), min(0, *values)
    unit = _round_up(max(top, -bottom, 1))
    if not bottom:
        return 0, unit
    # As many half units as are needed above and below zero.
    half = unit // 2
    return bottom // half * half, -(-top // half) * half


def _round_up(value: int) -> int:
    """The next of 2, 4, 6, 8, 10, 20 …: its half is a round number too."""
    power = 10 ** (len(str(value)) - 1)
    digits = (1, 2, 4, 6, 8) if power > 1 else (2, 4, 6, 8)
    return next((power * digit for digit in digits if power * digit >= value), power * 10)


def _y(bottom: int, top: int) -> Callable[[int], float]:
    return lambda value: round(HEIGHT * (top - value) / ((top - bottom) or 1), 2)


def _scale(bottom: int, top: int, write: Write) -> tuple[list[str], list[float]]:
    return [write(top), write((top + bottom) // 2), write(bottom)], [0, HEIGHT / 2, HEIGHT]


def _day(at: date | datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def _when(at: date | datetime) -> str:
    return f"{_day(at)}, {at:%H:%M}" if isinstance(at, datetime) else _day(at)
