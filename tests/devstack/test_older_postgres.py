"""Postgres 15, which older projects run: by Debian's package, in a copy of ours that has pgmq."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import postgres_install
from devstack.errors import LocalStackError

ROOT = Path(__file__).parents[2]
# An event's whole way, restores on pgmq 1.5.1, poolers, and a server that has JIT.
TESTS = (
    "tests/sql/test_accounts.py",
    "tests/sql/test_lost_messages.py",
    "tests/worker/test_compose.py",
    "tests/worker/test_pooler.py",
)


@pytest.fixture
def debian() -> postgres_install.DebianPackage:
    package = postgres_install.DEBIAN[15]
    if not (package.root / package.tree).is_dir():
        pytest.skip("there is no Postgres 15 here, so nothing ran on it: apt-get install postgresql-15")
    return package


@pytest.mark.usefixtures("debian")
def test_an_events_whole_way_on_postgres_15() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env=os.environ | {postgres_install.VERSION_VARIABLE: "15"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_debians_files_are_left_as_they_are(debian: postgres_install.DebianPackage) -> None:
    tree = postgres_install.install_directory(15)
    assert not tree.is_relative_to(debian.root)
    assert list((debian.root / debian.share).rglob("pgmq*")) == []
    assert list((tree.parents[2] / debian.share).rglob("pgmq.control"))


def test_version_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = postgres_install.DebianPackage("postgresql-15", "lib", "share", tmp_path)
    monkeypatch.setitem(postgres_install.DEBIAN, 15, missing)
    postgres_install.install_directory.cache_clear()
    with pytest.raises(
        LocalStackError, match="run `apt-get install postgresql-15`, or unset TILLBASE_POSTGRES"
    ):
        postgres_install.install_directory(15)
    postgres_install.install_directory.cache_clear()
