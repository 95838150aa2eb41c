"""SQL files of `supabase/migrations` → a database with each of them applied once, as the Supabase CLI does it."""

import re
from pathlib import Path
from typing import LiteralString, cast

import psycopg

from devstack.errors import MigrationError

_FILE_NAME = re.compile(r"^([0-9]{14})_([a-z0-9_]+)\.sql$")
_RECORD = """
    insert into supabase_migrations.schema_migrations (version, statements, name)
    values (%s, %s, %s)
"""
_HISTORY = """
    select pg_advisory_lock(hashtextextended('supabase_migrations.schema_migrations', 0));
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (
        version text not null primary key,
        statements text[],
        name text
    );
"""


def migrate(url: str, directory: Path) -> list[str]:
    """Apply the files of `directory` that the database does not have yet, in order; returns their names.

    `url` logs in as `postgres`, which is not a superuser, so that what works here works on Supabase. Each file and
    its row in `supabase_migrations.schema_migrations` are one transaction: a failed file leaves nothing behind.
    """
    files = _migration_files(directory)
    applied: list[str] = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("set client_min_messages = warning")  # hides "already exists, skipping"
        connection.execute(_HISTORY)
        history = connection.execute("select version, statements from supabase_migrations.schema_migrations")
        known: dict[str, list[str] | None] = dict(history.fetchall())
        for version, path in files.items():
            if version not in known:
                _refuse_out_of_order(version, path, known)
                _apply(connection, version, path)
                applied.append(path.name)
            else:
                _refuse_changed(path, known[version])
    return applied


def _migration_files(directory: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: name it <14 digits>_<lower case words>.sql")
        other = files.setdefault(match[1], path)
        if other != path:
            raise MigrationError(
                f"{path.name} and {other.name} have the same version: give one of them another"
            )
    return files


def _refuse_out_of_order(version: str, path: Path, known: dict[str, list[str] | None]) -> None:
    newest = max(known, default="")
    if version < newest:
        raise MigrationError(f"{path.name} is older than {newest}, which is applied: give it a later version")


def _refuse_changed(path: Path, statements: list[str] | None) -> None:
    """Refuse a file that was edited after it was applied: the database would differ from the files.

    The Supabase CLI does not check this; rows that it wrote, one entry for each statement, are not checked.
    """
    if statements is not None and len(statements) == 1 and _bare(statements[0]) != _bare(_text(path)):
        raise MigrationError(
            f"{path.name} was changed after it was applied to this database: recreate the database"
        )


def _bare(text: str) -> str:
    return re.sub(r"[\s;]+", "", text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MigrationError(
            f"{path.name}: byte {error.start} is not UTF-8: save the file as UTF-8"
        ) from error


def _apply(connection: psycopg.Connection, version: str, path: Path) -> None:
    text = _text(path)
    # A file may change settings for itself, but not for the next file.
    connection.execute("reset all")
    connection.execute("set client_min_messages = warning")
    try:
        with connection.transaction():
            # Without parameters this is one simple query with many statements, exactly as in the file.
            connection.execute(cast(LiteralString, text))
            connection.execute(_RECORD, [version, [text], path.stem.partition("_")[2]])
    except psycopg.Error as error:
        raise MigrationError(_explain(path, text, error)) from error


def _explain(path: Path, text: str, error: psycopg.Error) -> str:
    """One line: file, line if known, message, and Postgres's details."""
    place = path.name
    if error.diag.statement_position:
        line = text.count("\n", 0, int(error.diag.statement_position) - 1) + 1
        place = f"{place}, line {line}"
    message = error.diag.message_primary or str(error)
    context = (error.diag.context or "").partition("\n")[0]
    details = [part for part in (error.diag.message_detail, error.diag.message_hint, context) if part]
    told = " ".join([message, *(f"({detail})" for detail in details)])
    return f"{place}: {' '.join(told.split())}"
