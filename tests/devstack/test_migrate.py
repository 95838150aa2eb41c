"""Migrations: each once, in order, whole or not at all, as the non-superuser `postgres`."""

import threading
from pathlib import Path
from typing import Any

import pytest

from devstack.errors import MigrationError
from devstack.migrate import migrate, seed
from devstack.paths import migrations_directory
from tests.support import Database

FIRST = "20260101000000_first.sql"
SECOND = "20260101000100_second_one.sql"


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name.removeprefix('_')}.sql").write_text(text, encoding="utf-8")


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_each_file_is_applied_once_in_order_by_postgres(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / SECOND).write_text("insert into things select 2; insert into things select 3;")
    (tmp_path / FIRST).write_text(
        "create table things as select 1 as n, current_user as who;\n"
        "alter table things alter who set default current_user;"
    )
    assert migrate(empty_database.url, tmp_path) == [FIRST, SECOND]
    assert migrate(empty_database.url, tmp_path) == []
    (tmp_path / "20260101000200_third.sql").write_text("delete from things where n = 2;")
    assert migrate(empty_database.url, tmp_path) == ["20260101000200_third.sql"]
    assert rows(empty_database, "select n, who from things order by n") == [(1, "postgres"), (3, "postgres")]
    history = rows(
        empty_database,
        "select version, name, statements from supabase_migrations.schema_migrations order by 1",
    )
    assert [row[:2] for row in history] == [
        ("20260101000000", "first"),
        ("20260101000100", "second_one"),
        ("20260101000200", "third"),
    ]
    assert history[2][2] == ["delete from things where n = 2;"]


def test_failing_file_leaves_nothing_behind_and_what_came_before_it_stays(
    empty_database: Database, tmp_path: Path
) -> None:
    (tmp_path / FIRST).write_text("create table things (n int);")
    (tmp_path / SECOND).write_text(
        "insert into things values (1);\n\ninsert into things\nvalues (nonsense);\n"
    )
    with pytest.raises(MigrationError) as refused:
        migrate(empty_database.url, tmp_path)
    assert str(refused.value) == f'{SECOND}, line 4: column "nonsense" does not exist'
    assert rows(empty_database, "select count(*) from things") == [(0,)]
    assert rows(empty_database, "select version from supabase_migrations.schema_migrations") == [
        ("20260101000000",)
    ]
    (tmp_path / SECOND).write_text("insert into things values (1);")
    assert migrate(empty_database.url, tmp_path) == [SECOND]


def test_file_whose_row_in_the_history_cannot_be_written_is_undone(
    empty_database: Database, tmp_path: Path
) -> None:
    (tmp_path / FIRST).write_text("create table things (n int); set role service_role;")
    with pytest.raises(MigrationError, match="permission denied for schema supabase_migrations"):
        migrate(empty_database.url, tmp_path)
    assert rows(empty_database, "select to_regclass('public.things')") == [(None,)]


def test_file_with_a_transaction_of_its_own_is_put_up_with(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_text("begin;\ncreate table things (n int);\ncommit;\n")
    (tmp_path / SECOND).write_text("insert into things values (1);")
    assert migrate(empty_database.url, tmp_path) == [FIRST, SECOND]
    assert migrate(empty_database.url, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("select 'ä→';\nselect 1 +;", r", line 2: syntax error at or near \";\"$"),
        (
            "do $$\nbegin\n  raise exception 'no way'\n  using hint = 'turn back';\nend $$;",
            r"no way \(turn back\) .*line 3",
        ),
        (
            "create table users_too (like auth.users); alter table auth.users add n int;",
            "must be owner of table users",
        ),
        ("select 1;\n\n\x00select 2;", "NUL"),
    ],
)
def test_error_is_one_line_that_names_the_file(
    empty_database: Database, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / FIRST).write_text(text, encoding="utf-8")
    with pytest.raises(MigrationError, match=told) as refused:
        migrate(empty_database.url, tmp_path)
    assert str(refused.value).startswith(FIRST)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("create table things (n int);\ncreate extension if not exists vector\nwith schema extensions;\n",
         ", line 2: the local Postgres has no extension vector (create extension if not exists vector with schema e"),
        ("-- every hour; or so\nselect cron.schedule('clean', '0 * * * *', 'select 1');\n",
         ", line 2: the local Postgres has no pg_cron (select cron.schedule('clean', '0 * * * *', 'select 1')): "),
        ("do $$ begin\n  perform net.http_get('https://example.com');\nend $$;",
         ", line 2: the local Postgres has no pg_net"),
        ("create table mine as select * from vault.secrets;", ", line 1: the local Postgres has no Supabase Vault"),
    ],
)  # fmt: skip
def test_what_this_server_lacks_is_named_with_the_statement_and_the_way_out(
    empty_database: Database, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / FIRST).write_text(text)
    with pytest.raises(MigrationError) as refused:
        migrate(empty_database.url, tmp_path)
    assert str(refused.value).startswith(f"{FIRST}{told}")
    assert "leave the file out with --skip-migration 20260101000000" in str(refused.value)
    (tmp_path / SECOND).write_text("create table others (n int);")
    assert migrate(empty_database.url, tmp_path, left_out=["20260101000000"]) == [SECOND]
    with pytest.raises(MigrationError, match="there is no migration 2024 in"):
        migrate(empty_database.url, tmp_path, left_out=["2024"])


def test_extensions_that_every_hosted_project_has_may_be_named(
    empty_database: Database, tmp_path: Path
) -> None:
    text = 'create extension if not exists "pg_net"\nwith schema "extensions";\nselect 1 +;'
    (tmp_path / FIRST).write_text(text)
    with pytest.raises(MigrationError, match=f"{FIRST}, line 3: syntax error"):
        migrate(empty_database.url, tmp_path)
    (tmp_path / FIRST).write_text(text.replace("1 +", "1"))
    assert migrate(empty_database.url, tmp_path) == [FIRST]
    assert migrate(empty_database.url, tmp_path) == []


def test_a_seed_runs_once_and_is_named_when_it_has_changed(empty_database: Database, tmp_path: Path) -> None:
    file = tmp_path / "seed.sql"
    file.write_text("create table things as select 1 as n;")
    assert seed(empty_database.url, tmp_path, [file]) == []
    assert seed(empty_database.url, tmp_path, [file]) == []
    file.write_text("insert into things values (2);")
    assert seed(empty_database.url, tmp_path, [file]) == ["seed.sql"]
    assert rows(empty_database, "select n from things") == [(1,)]
    other = tmp_path / "other.sql"
    other.write_text("insert into things values (3);\nnonsense;")
    with pytest.raises(MigrationError, match=r"other\.sql, line 2: syntax error"):
        seed(empty_database.url, tmp_path, [other])
    assert rows(empty_database, "select n from things") == [(1,)]


@pytest.mark.parametrize("name", ["20260101000000.sql", "first.sql", "v1_first.sql"])
def test_file_with_a_name_that_would_be_skipped_is_refused(
    empty_database: Database, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("select 1;")
    (tmp_path / "README.md").write_text("not SQL")
    with pytest.raises(MigrationError, match=r"skips .*: call it <14 digits>"):
        migrate(empty_database.url, tmp_path)


def test_two_files_of_one_version_are_refused(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_text("select 1;")
    (tmp_path / "20260101000000_again.sql").write_text("select 1;")
    with pytest.raises(MigrationError, match="the same version"):
        migrate(empty_database.url, tmp_path)


def test_file_older_than_what_is_applied_is_refused(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / SECOND).write_text("select 1;")
    migrate(empty_database.url, tmp_path)
    (tmp_path / FIRST).write_text("select 1;")
    with pytest.raises(MigrationError, match=f"{FIRST} is older than 20260101000100"):
        migrate(empty_database.url, tmp_path)


def test_file_changed_after_it_was_applied_is_refused_unless_only_in_white_space(
    empty_database: Database, tmp_path: Path
) -> None:
    (tmp_path / FIRST).write_text("create table things (n int);")
    migrate(empty_database.url, tmp_path)
    (tmp_path / FIRST).write_text("create table things (\n    n int\n);\n")
    assert migrate(empty_database.url, tmp_path) == []
    (tmp_path / FIRST).write_text("create table things (n bigint);")
    with pytest.raises(MigrationError, match="changed after it was applied"):
        migrate(empty_database.url, tmp_path)


def test_what_a_file_sets_ends_with_it(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_text("set search_path = ''; set statement_timeout = '1h';")
    (tmp_path / SECOND).write_text(
        "create table things as select current_setting('statement_timeout') as timeout;"
    )
    migrate(empty_database.url, tmp_path)
    assert rows(empty_database, "select timeout from public.things") == [("0",)]


def test_dollar_quotes_semicolons_and_atomic_bodies_pass_as_they_stand(
    empty_database: Database, tmp_path: Path
) -> None:
    (tmp_path / FIRST).write_text(
        """
        -- a comment; with a semicolon
        create function one() returns int language sql begin atomic; select 1; end;
        create function two() returns text language plpgsql as $f$ begin return $x$;'$$$x$; end $f$;
        create table seen as select one(), two() || '; %s %(n)s' as two;
        """
    )
    migrate(empty_database.url, tmp_path)
    assert rows(empty_database, "select * from seen") == [(1, ";'$$; %s %(n)s")]


def test_two_runs_at_once_apply_each_file_once(empty_database: Database, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_text("create table things (n int); select pg_sleep(0.2);")
    (tmp_path / SECOND).write_text("insert into things values (1);")
    results: list[list[str]] = []
    runs = [
        threading.Thread(target=lambda: results.append(migrate(empty_database.url, tmp_path)))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(results, key=len) == [[], [FIRST, SECOND]]


def test_no_directory_is_no_migration(empty_database: Database, tmp_path: Path) -> None:
    assert migrate(empty_database.url, tmp_path / "none") == []


@pytest.mark.parametrize("kind", ["database", "database_of_older_project"])
def test_every_migration_of_the_product_is_in_both_templates(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    applied = rows(database, "select version from supabase_migrations.schema_migrations order by version")
    assert [row[0] for row in applied] == sorted(
        path.name[:14] for path in migrations_directory().glob("*.sql")
    )
