"""What the Supabase CLI's linters say of a database with our migrations: `db lint`, `db advisors`."""

import json
from pathlib import Path
from typing import Any

import pytest

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from tests.supabase_cli import run
from tests.support import Database

SCHEMAS = "billing,public"


def _findings(text: str) -> list[Any]:
    """The JSON document that lines for people may stand around."""
    start = text.find("[")
    return json.loads(text[start : text.rindex("]") + 1]) if start >= 0 else []


@pytest.mark.node
@pytest.mark.slow
def test_db_lint_finds_no_error(supabase_cli: Path, tmp_path: Path, database: Database) -> None:
    """It checks every function with plpgsql_check, which not every Postgres has."""
    with database.connect(admin=True) as admin:
        query = "select count(*) from pg_available_extensions where name = 'plpgsql_check'"
        row = admin.execute(query).fetchone()
        if row == (0,):
            pytest.skip(
                f"this Postgres {database.server.major} has no plpgsql_check, so `supabase db lint` was not run: "
                "apt-get install postgresql-15-plpgsql-check, TILLBASE_POSTGRES=15"
            )
        # On Supabase `postgres` may create it; here only a superuser.
        admin.execute("create extension plpgsql_check with schema public")
    command = ("db", "lint", f"--remote={database.admin_url}", f"--schema={SCHEMAS}", "--level=error")
    result = run(supabase_cli, tmp_path, *command, "--fail-on=none", "--output=json", "--yes")
    issues = [
        (each["function"], issue["level"], issue["message"])
        for each in _findings(result.stdout)
        for issue in each["issues"]
    ]
    assert issues == []


@pytest.mark.node
@pytest.mark.slow
def test_db_advisors_find_nothing_of_ours(supabase_cli: Path, tmp_path: Path, database: Database) -> None:
    command = ("db", "advisors", f"--remote={database.url}", "--type=all", "--level=warn", "--fail-on=none")
    result = run(supabase_cli, tmp_path, *command, "--output=json", "--yes")
    found = [(each["name"], each["detail"]) for each in _findings(result.stdout)]
    assert [each for each in found if each[0] != "function_search_path_mutable"] == []
    # Private helpers of one expression, which only inline without a setting of their own.
    assert [detail for _, detail in found if "`billing._" not in detail] == []


def test_no_function_hides_a_name_or_assigns_another_number_of_values(
    empty_database: Database,
) -> None:
    """plpgsql's own checks, which are errors here: on every Postgres."""
    with empty_database.connect(admin=True) as admin:
        admin.execute(
            f"alter database {empty_database.name} set plpgsql.extra_errors = "
            "'shadowed_variables,strict_multi_assignment'"
        )
    assert migrate(empty_database.url, migrations_directory())
