"""A database that cannot be used is one line that says why and what to do; nothing of the driver's own."""

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from cli.database import unreachable
from devstack.processes import free_port
from tests.cli import Till
from tests.support import Database

MakeTill = Callable[[str], Till]


@pytest.fixture
def till_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> MakeTill:
    return lambda url: Till(monkeypatch, capsys, POSTGRES_URL=url, DATABASE_URL=url)


def test_nothing_listens(till_on: MakeTill) -> None:
    port = free_port()
    url = f"postgresql://ada:secret@127.0.0.1:{port}/app"
    line = f"nothing listens at 127.0.0.1:{port}: start Postgres, or correct the host and port in"
    assert till_on(url).refused("credits", "balance", "ada") == f"{line} POSTGRES_URL"
    assert till_on(url).refused("token", "--user", "ada@example.com") == f"{line} DATABASE_URL"


def test_there_is_no_such_host(till_on: MakeTill) -> None:
    told = till_on("postgresql://ada:secret@none.invalid/app").refused("accounts", "list")
    assert told == "there is no host none.invalid: correct it in POSTGRES_URL"


def test_there_is_no_such_database(till_on: MakeTill, database: Database) -> None:
    parts = urlsplit(database.url)
    told = till_on(urlunsplit(parts._replace(path="/none"))).refused("accounts", "list")
    assert told == f"{parts.hostname}:{parts.port} has no database none: correct it in POSTGRES_URL"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "FATAL: the database system is starting up",
            "db:5432 is starting or stopping: run it again in a moment",
        ),
        (
            'FATAL: no pg_hba.conf entry for host "::1", user "ada", database "app", no encryption',
            "db:5432 does not admit user ada from here: allow it, or correct sslmode in POSTGRES_URL",
        ),
        ('FATAL: role "ada" does not exist', "db:5432 has no user ada: correct it in POSTGRES_URL"),
        (
            'FATAL: too many connections for database "app"',
            "db:5432 has no connection left: close others, or run it again later",
        ),
    ],
)
def test_what_a_server_says_is_not_taken_for_a_missing_database(said: str, line: str) -> None:
    error = psycopg.OperationalError(said)
    assert unreachable(error, "POSTGRES_URL", "postgresql://ada:secret@db/app") == line


def test_the_password_is_wrong(till_on: MakeTill, database: Database) -> None:
    parts = urlsplit(database.url)
    wrong = f"{parts.username}:wrong@{parts.hostname}:{parts.port}"
    told = till_on(urlunsplit(parts._replace(netloc=wrong))).refused("accounts", "list")
    assert told == (
        f"{parts.hostname}:{parts.port} refuses user {parts.username} or the password: correct them in POSTGRES_URL"
    )


def test_it_is_no_connection_string_and_is_not_repeated(till_on: MakeTill) -> None:
    told = till_on("mysql://ada:secret@localhost/app").refused("accounts", "list")
    assert told.startswith("POSTGRES_URL is not a connection string: ")
    assert "secret" not in told


@pytest.mark.parametrize("command", ["accounts list", "credits allocate", "plans list", "events retry evt_1"])
def test_the_migrations_were_not_pushed(till_on: MakeTill, empty_database: Database, command: str) -> None:
    told = till_on(empty_database.url).refused(*command.split())
    assert told == "the database has no billing schema of this version: run `supabase db push --remote`"


def test_the_role_may_not(till_on: MakeTill, database: Database) -> None:
    told = till_on(f"{database.url}?options=-c%20role%3Danon").refused("accounts", "list")
    assert told == "this role may not do that: name the role `postgres` in POSTGRES_URL"


def test_the_database_is_read_only(till_on: MakeTill, database: Database) -> None:
    url = f"{database.url}?options=-c%20default_transaction_read_only%3Don"
    told = till_on(url).refused("customers", "dismiss", "cus_1", "--yes")
    assert told == "the database is read-only: connect to the primary, or free its disk"


def test_it_takes_too_long(till_on: MakeTill, database: Database) -> None:
    url = f"{database.url}?options=-c%20statement_timeout%3D1s"
    with database.connect(admin=True, autocommit=False) as admin:
        admin.execute("lock table billing.accounts")
        told = till_on(url).refused("accounts", "list")
    assert told == "it took longer than the database allows: run it again"
