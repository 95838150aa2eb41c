"""The environment's connection string → rows as dicts; Postgres's errors → one line that says what to do."""

import getpass
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from cli.output import CliError
from devstack.env_file import read_env_file
from devstack.paths import state_directory
from worker.settings import check_postgres_url

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


def setting(name: str) -> str:
    """A setting of the environment, or else of the local stack that runs in this directory."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    local = read_env_file(state_directory() / "env").get(name)
    if local is None:
        raise CliError(f"{name} is not set: export it, or start the local stack with `till dev`")
    return local


@contextmanager
def connect(url: str | None = None) -> Generator[Connection]:
    """A connection in autocommit mode, by POSTGRES_URL unless given; errors of Postgres become one line."""
    url = url or setting("POSTGRES_URL")
    check_postgres_url(url)
    with one_line_errors("POSTGRES_URL", url):
        conn = Connection.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=10,
            row_factory=dict_row,
            application_name="till",
        )
        with conn:
            yield conn


@contextmanager
def one_line_errors(name: str, url: str) -> Generator[None]:
    """Postgres's errors → CliError that says what to do; `name` is the setting that has the URL."""
    try:
        yield
    except psycopg.Error as error:
        is_unreachable = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        raise CliError(unreachable(error, name, url) if is_unreachable else refusal(error)) from None


def rows(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Sequence[Row]:
    """All rows of a query."""
    return conn.execute(query, parameters).fetchall()


def row(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Row:
    """The one row of a query that always has one."""
    found = conn.execute(query, parameters).fetchone()
    assert found is not None
    return found


def call(conn: Connection, function: str, **arguments: Any) -> Sequence[Row]:
    """The rows of `select * from function(name => value, …)`; `function` is named with its schema."""
    query = sql.SQL("select * from {}({})").format(
        sql.Identifier(*function.split(".")),
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in arguments
        ),
    )
    return conn.execute(query, arguments).fetchall()


# A pattern of what the network or the server says → what to do; the first that fits.
_UNREACHABLE = (
    (
        "Connection refused",
        "nothing listens at {server}: start Postgres, or correct the host and port in {name}",
    ),
    ("No such file", "nothing listens at {server}: start Postgres, or correct the host in {name}"),
    ("resolve host", "there is no host {host}: correct it in {name}"),
    ("password authentication", "{server} refuses user {user} or the password: correct them in {name}"),
    ("no password supplied", "{server} wants a password: add it to {name}"),
    ("starting up|shutting down", "{server} is starting or stopping: run it again in a moment"),
    ("pg_hba.conf", "{server} does not admit user {user} from here: allow it, or correct sslmode in {name}"),
    ('role "[^"]*" does not exist', "{server} has no user {user}: correct it in {name}"),
    ('database "[^"]*" does not exist', "{server} has no database {database}: correct it in {name}"),
    ("connection slots|too many", "{server} has no connection left: close others, or run it again later"),
    ("SSL", "{server} and {name} do not agree on encryption: correct sslmode in {name}"),
    ("timeout", "{server} does not answer: check the host and port in {name}, and the network"),
    ("timed out", "{server} does not answer: check the host and port in {name}, and the network"),
    (
        "closed the connection",
        "the connection to {server} was lost: run it again, with the same --key if it has one",
    ),
)


def unreachable(error: psycopg.Error, name: str, url: str) -> str:
    """Why no connection came about, or why it was lost; the password is not repeated."""
    parts = conninfo_to_dict(url)
    host = str(parts.get("host") or "localhost")
    names = {
        "name": name,
        "host": host,
        "server": f"{host}:{parts.get('port') or 5432}",
        "user": parts.get("user") or getpass.getuser(),
        "database": parts.get("dbname") or parts.get("user") or getpass.getuser(),
    }
    told = _one_line(error)
    for sign, line in _UNREACHABLE:
        if re.search(sign, told):
            return line.format(**names)
    return f"cannot connect to {names['server']}: check {name} ({told})"


_REFUSALS = {
    **dict.fromkeys(
        ("42P01", "42883", "3F000", "42703"),
        "the database has no billing schema of this version: run `supabase db push --remote`",
    ),
    "42501": "this role may not do that: name the role `postgres` in POSTGRES_URL",
    "25006": "the database is read-only: connect to the primary, or free its disk",
    "57014": "it took longer than the database allows: run it again",
    **dict.fromkeys(
        ("40001", "40P01", "55P03"),
        "another transaction was in the way: run it again, with the same --key if it has one",
    ),
    **dict.fromkeys(
        ("57P01", "57P02", "57P03"),
        "Postgres shut the connection down: run it again, with the same --key if it has one",
    ),
}


def refusal(error: psycopg.Error) -> str:
    """What Postgres refused, on one line: our own errors with code and hint, its own by what to do about them."""
    code = error.sqlstate or ""
    if code in _REFUSALS:
        return _REFUSALS[code]
    if not code:
        return f"Postgres could not be asked: {_one_line(error)}"
    hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{error.diag.message_primary} ({code}).{hint}"


def account_id_of(conn: Connection, account: str) -> UUID:
    """An account by an id of ours or of Stripe's, or by its owner's e-mail address."""
    found = conn.execute(
        "select id from billing.find_accounts(search => %(it)s, results_max => 1, is_exact => true) as id",
        {"it": account},
    ).fetchone()
    if found is None:
        raise CliError(
            f"no account for {account!r}: give an account id, a user's id or e-mail address, or a cus_… id"
        )
    return found["id"]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
