"""docs/reference/crash-points.md: where each test kills, a section for each."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.crash.points import Points

PAGE = Path(__file__).parents[2] / "docs/reference/crash-points.md"

HEAD = """\
# Crash points

Where the tests kill the worker, the receiver and the edge functions with `kill -9`: after each statement and each
request, when Postgres or Stripe has done it and the process does not know yet; and before each request that changes
something or notifies somebody. Before anything else is the same as after what went before it. A statement in a
transaction is a point too: what it did must be gone.

After each kill the process is started again. When nothing is left to do, the ledger and the paid credits have no
discrepancies, the queues are empty, and every charge, refund, invoice item, message and credit is there once. The
tests find the points themselves: a new statement or request is a new point, and the tests fail until it has been
killed there and `make snapshots` has listed it here. `make chaos` also kills at each point alone: the first time it is
reached, or the second (`CRASH_TIMES=3 make chaos`: or the third).
"""


Test = TypeVar("Test", bound=Callable[..., Any])


def section(name: str) -> Callable[[Test], Test]:
    """The section that lists a test's points."""

    def name_it(test: Test) -> Test:
        test.section = name  # type: ignore[attr-defined]
        return test

    return name_it


def check(name: str, points: Points, config: pytest.Config) -> None:
    """That the process was killed at the points that a section lists; it is written anew when that is asked for."""
    if points.is_alone:
        return
    if config.getoption("update_snapshots") and set(points_of(name)) != set(points.killed):
        write(name, points.killed)
    assert set(points.killed) == set(points_of(name)), "other points than listed: `make snapshots`"


def sections() -> set[str]:
    """The names of the page's sections."""
    return set(_sections())


def points_of(section: str) -> list[str]:
    """The points that the page lists."""
    text = _sections().get(section, "")
    return re.findall(r"^- (.*)$", text.replace("`", ""), re.MULTILINE)


def write(section: str, points: Collection[str]) -> None:
    """Replace a section, or add it at the end."""
    found = _sections()
    lines = "\n".join(f"- {when} `{what}`" for when, _, what in (point.partition(" ") for point in points))
    found[section] = f"{lines}\n"
    PAGE.write_text(
        HEAD + "".join(f"\n## {name}\n\n{text}" for name, text in found.items()), encoding="utf-8"
    )


def _sections() -> dict[str, str]:
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    parts = (part.partition("\n\n") for part in text.split("\n## ")[1:])
    return {name: body for name, _, body in parts}
