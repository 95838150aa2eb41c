"""The real Supabase CLI pushes our migrations to a fresh project and ends where our own runner ends."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cli.local.migrate import migrate
from cli.local.scaffold import DefaultGrants, create_database, drop_database
from cli.paths import migrations_directory, supabase_directory
from tests.support import Database

VERSION = "3.1.0"

pytestmark = [pytest.mark.node, pytest.mark.slow]


@pytest.fixture(scope="module")
def supabase_cli() -> Path:
    """The CLI's program, installed once for all checkouts of this user; skips aloud where that can't be."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not on PATH: migrations are not pushed with the real Supabase CLI")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tillbase"
    cache.mkdir(parents=True, exist_ok=True)
    installed = cache / f"supabase-cli-{VERSION}"
    with (cache / "supabase-cli.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.is_dir():
            _install(installed)
    return installed / "node_modules" / ".bin" / "supabase"


def _install(directory: Path) -> None:
    """Install aside and rename: one cut short is not taken for a whole one."""
    building = Path(tempfile.mkdtemp(prefix="building-", dir=directory.parent))
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", building, f"supabase@{VERSION}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"npm cannot install supabase@{VERSION}: {result.stderr.strip()[-300:]}")
        building.rename(directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def push(program: Path, project: Path, url: str) -> str:
    """What `supabase db push` says, on either stream."""
    result = subprocess.run(
        [program, "db", "push", f"--remote={url}", "--yes"],
        cwd=project,
        # Its own home, so that neither a login nor a setting of this user plays a part.
        env={**os.environ, "HOME": str(project), "DO_NOT_TRACK": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = result.stdout + result.stderr
    assert result.returncode == 0, told
    return told


def schema_of(database: Database) -> list[str]:
    """Every object with its owner and grants, without the CLI's own bookkeeping."""
    command = [database.server.bin("pg_dump"), "--schema-only", "--restrict-key=same"]
    command += ["--exclude-schema=supabase_migrations", database.admin_url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("default_grants", ["none", "all"])
def test_push_applies_every_migration_and_a_second_push_finds_nothing_to_do(
    request: pytest.FixtureRequest, supabase_cli: Path, tmp_path: Path, default_grants: DefaultGrants
) -> None:
    ours: Database = request.getfixturevalue(
        "database" if default_grants == "none" else "database_of_older_project"
    )
    project = tmp_path / "project"
    shutil.copytree(supabase_directory(), project / "supabase", ignore=shutil.ignore_patterns("node_modules"))
    files = sorted(path.name for path in migrations_directory().glob("*.sql"))
    pushed = Database(ours.server, f"{ours.name}_pushed")
    create_database(pushed.server, pushed.name, default_grants=default_grants)
    try:
        first = push(supabase_cli, project, pushed.url)
        assert [file for file in files if f"Applying migration {file}" not in first] == []
        assert "up to date" in push(supabase_cli, project, pushed.url)
        assert migrate(pushed.url, migrations_directory()) == []
        assert schema_of(pushed) == schema_of(ours)
    finally:
        drop_database(pushed.server, pushed.name)


def test_push_finds_nothing_to_do_where_our_runner_has_been(
    supabase_cli: Path, tmp_path: Path, database: Database
) -> None:
    shutil.copytree(
        supabase_directory(), tmp_path / "supabase", ignore=shutil.ignore_patterns("node_modules")
    )
    assert "up to date" in push(supabase_cli, tmp_path, database.url)
