"""The real Supabase CLI pushes our migrations to a fresh project and ends where our own runner ends."""

import shutil
import subprocess
from pathlib import Path

import pytest

from devstack.migrate import migrate
from devstack.paths import migrations_directory, supabase_directory
from devstack.scaffold import DefaultGrants
from tests.databases import Databases
from tests.supabase_cli import run
from tests.support import Database

pytestmark = [pytest.mark.node, pytest.mark.slow]


def push(program: Path, project: Path, url: str) -> str:
    """What `supabase db push` says, on either stream."""
    result = run(program, project, "db", "push", f"--remote={url}", "--yes")
    return result.stdout + result.stderr


def schema_of(database: Database) -> list[str]:
    """Every object with its owner and grants, without the CLI's own bookkeeping."""
    command = [database.server.bin("pg_dump"), "--schema-only", "--restrict-key=same"]
    command += ["--exclude-schema=supabase_migrations", database.admin_url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("default_grants", ["none", "all"])
def test_push_applies_every_migration_and_a_second_push_finds_nothing_to_do(
    request: pytest.FixtureRequest,
    databases: Databases,
    supabase_cli: Path,
    tmp_path: Path,
    default_grants: DefaultGrants,
) -> None:
    ours: Database = request.getfixturevalue(
        "database" if default_grants == "none" else "database_of_older_project"
    )
    project = tmp_path / "project"
    shutil.copytree(supabase_directory(), project / "supabase", ignore=shutil.ignore_patterns("node_modules"))
    files = sorted(path.name for path in migrations_directory().glob("*.sql"))
    with databases.fresh(default_grants) as pushed:
        first = push(supabase_cli, project, pushed.url)
        assert [file for file in files if f"Applying migration {file}" not in first] == []
        assert "up to date" in push(supabase_cli, project, pushed.url)
        assert migrate(pushed.url, migrations_directory()) == []
        assert schema_of(pushed) == schema_of(ours)


def test_push_finds_nothing_to_do_where_our_runner_has_been(
    supabase_cli: Path, tmp_path: Path, database: Database
) -> None:
    shutil.copytree(
        supabase_directory(), tmp_path / "supabase", ignore=shutil.ignore_patterns("node_modules")
    )
    assert "up to date" in push(supabase_cli, tmp_path, database.url)
