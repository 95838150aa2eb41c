"""The environment's connection string → rows as dicts; Postgres's errors → one line that says what to do."""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
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


_NO_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


@contextmanager
def connect() -> Generator[Connection]:
    """A connection in autocommit mode, by POSTGRES_URL."""
    url = setting("POSTGRES_URL")
    check_postgres_url(url)
    try:
        conn = Connection.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=10,
            row_factory=dict_row,
            application_name="till",
        )
    except psycopg.OperationalError as error:
        raise CliError(f"cannot connect to Postgres ({_one_line(error)}): check POSTGRES_URL") from None
    with conn:
        try:
            yield conn
        except _NO_SCHEMA:
            raise CliError(
                "the database has no billing schema of this version: run `supabase db push`"
            ) from None
        except psycopg.Error as error:
            raise CliError(refusal(error)) from None


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


def refusal(error: psycopg.Error) -> str:
    """An error of Postgres with its code and its hint, on one line."""
    if error.sqlstate is None:
        return _one_line(error)
    hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{error.diag.message_primary} ({error.sqlstate}).{hint}"


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
