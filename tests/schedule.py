"""Tests → units that one process runs in a piece: a file, whose fixtures are then made once and not by every process.
Tests of one file whose parameters begin with `part0`, `part1` … are units of their own.

pytest-xdist 3.8 has a mark for such groups, which does nothing with pytest 9.2: it writes the group into
`Item._nodeid`, which is not read any more.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Their files share a stack. They take the longest, so they begin.
_FOLDERS = ("tests/browser", "tests/e2e")
# The shortest tests are the last to begin, and of these the files with the fewest, so that no process works alone at
# the end.
_SHORT = "tests/sql"
_PART = re.compile(r"\[part\d+")


def order(items: list[pytest.Item], root: Path) -> None:
    """Put the units in the order in which they begin."""
    sizes = Counter(item.path for item in items)

    def rank(item: pytest.Item) -> tuple[int, int]:
        name = unit(item.path.relative_to(root).as_posix())
        if name in _FOLDERS:
            return _FOLDERS.index(name), 0
        return len(_FOLDERS), -sizes[item.path] if name.startswith(f"{_SHORT}/") else -sys.maxsize

    items.sort(key=rank)


def unit(path: str) -> str:
    """The folder or the file."""
    return next((folder for folder in _FOLDERS if path.startswith(f"{folder}/")), path)


class Schedule(LoadScopeScheduling):
    """Gives each process the next unit when it has two tests left."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests, which says little here

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        part = _PART.search(test)
        return unit(path) + (part[0] if part else "")
