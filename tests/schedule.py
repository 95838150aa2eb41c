"""Tests → units that one process runs in a piece, the longest first, so that no process works alone at the end.

A file is a unit: what its tests share is made once, not by every process. The tests of some folders share a stack.
pytest-xdist 3.8 has a mark for that, which does nothing with pytest 9.2: it writes the group into `Item._nodeid`, which
is not read any more.
"""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Share a stack.
_FOLDERS = ("tests/browser", "tests/e2e")
# Take ten seconds and more, the longest first. The last to begin are those of the SQL, which are short.
LONGEST = (
    *_FOLDERS,
    "tests/reconcile/test_damages.py",
    "tests/adopt/test_first_evening.py",
    "tests/adopt/test_init.py",
    "tests/worker/test_image.py",
    "tests/oracle/test_lives_agree.py",
    "tests/worker/test_process.py",
    "tests/test_tutorial.py",
    "tests/test_docs_commands.py",
    "tests/devstack/test_project.py",
    "tests/devstack/test_data_api.py",
    "tests/devstack/test_postgres.py",
    "tests/test_release.py",
    "tests/properties/test_ledger_machine.py",
    "tests/properties/test_adversary.py",
    "tests/properties/test_adversary_finds.py",
    "tests/test_types.py",
    "tests/chaos/test_kills.py",
    "tests/chaos/test_faults.py",
)


def order(items: list[pytest.Item], root: Path) -> None:
    """Put the units in the order in which they begin."""
    first = {name: number for number, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        name = unit(item.path.relative_to(root).as_posix())
        return first.get(name, len(first) + name.startswith("tests/sql/"))

    items.sort(key=rank)


def unit(path: str) -> str:
    """The folder or the file."""
    return next((folder for folder in _FOLDERS if path.startswith(f"{folder}/")), path)


class LongestFirst(LoadScopeScheduling):
    """Gives each process the next unit when it has two tests left."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests, which says little here

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid.partition("::")[0])
