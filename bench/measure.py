"""Sides to compare → medians over interleaved rounds, as rows of a value and its floor."""

import os
import platform
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psycopg

Unit = Literal["events/s", "spends/s", "lots/s", "rows/s", "slots/s", "ms", "MB", "times"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row to be measured: the side of this name against the side that is its floor.

    `size` is how many of what the unit counts each round has, where the suite can be made smaller.
    """

    name: str
    floor: str
    unit: Unit
    wanted: float
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """Sides that are measured in turn, each by a call, and the rows made of them.

    A call returns the figure of its side; one that measures several things at once returns them all, by name. A slow
    suite says by `rounds_max` how often it may be measured at most.
    """

    sides: Mapping[str, Callable[[], float | Mapping[str, float]]]
    comparisons: Sequence[Comparison]
    rounds_max: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of `n` rounds. `ratio` is value / floor; `spread` its range over the rounds, relative to it.

    `size` is how much was measured in each round, where the suite can be made smaller. Where it was measured:
    `postgres` is the server's version, `python` and `deno` run our side, `machine` is what all of it ran on.
    """

    name: str
    unit: Unit
    value: float
    floor: float
    ratio: float
    n: int
    spread: float
    size: int | None
    wanted: float
    postgres: str
    python: str
    deno: str
    machine: str

    @property
    def less_is_better(self) -> bool:
        return self.unit in {"ms", "MB"}

    @property
    def is_reached(self) -> bool:
        return self.ratio <= self.wanted if self.less_is_better else self.ratio >= self.wanted

    @property
    def limit(self) -> str:
        """What is wanted, with its sign."""
        return f"{'≤' if self.less_is_better else '≥'} {self.wanted:.2f}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured: versions, and the machine."""

    postgres: str
    python: str
    deno: str
    machine: str

    @classmethod
    def here(cls, postgres: str) -> "Place":
        return cls(postgres, platform.python_version(), version("deno"), _machine())


def _machine() -> str:
    """Processor, number of cores, memory and system (Linux)."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("ascii"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+([0-9]+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    gigabytes = round(int(memory[1]) / 1024 / 1024) if memory else 0
    return f"{os.cpu_count()} x {processor}, {gigabytes} GB, {platform.system()} {platform.release()}"


def measure(suite: Suite, place: Place, rounds: int, advance: Callable[[str], None]) -> list[Row]:
    """Every side once in each round, each round beginning with another side; `advance` hears each name first."""
    names = list(suite.sides)
    figures: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            advance(name)
            found = suite.sides[name]()
            for of, figure in found.items() if isinstance(found, Mapping) else [(name, found)]:
                figures[of].append(figure)
    return [_row(comparison, figures, place) for comparison in suite.comparisons]


def peak_megabytes(conn: psycopg.Connection) -> float:
    """The most memory that the server's process for the connection ever held, shared buffers included (Linux)."""
    status = Path(f"/proc/{conn.info.backend_pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) / 1024


def _row(comparison: Comparison, figures: Mapping[str, Sequence[float]], place: Place) -> Row:
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
        size=comparison.size,
        wanted=comparison.wanted,
        postgres=place.postgres,
        python=place.python,
        deno=place.deno,
        machine=place.machine,
    )
