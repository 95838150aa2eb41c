"""SQL files of `supabase/migrations`, and seeds → a database with each applied once, as the Supabase CLI does it."""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import LiteralString, cast

import psycopg

from devstack.errors import MigrationError

_FILE_NAME = re.compile(r"^([0-9]+)_(.*)\.sql$")
_EXTENSION = re.compile(r"create\s+extension\s+(?:if\s+not\s+exists\s+)?\"?([\w-]+)\"?[^;]*;", re.IGNORECASE)
# Every hosted project has these from the start, so migrations that were pulled from one begin with them. The local
# Postgres can't have them, and `scaffold` gives what migrations use of uuid-ossp.
_OF_THE_PLATFORM = {
    "pg_graphql",
    "pg_net",
    "pgjwt",
    "pgsodium",
    "pg_stat_statements",
    "supabase_vault",
    "uuid-ossp",
}
# Schemas of the platform, which exist on Supabase and not here → what has them.
_SERVICES = {
    "cron": "pg_cron",
    "net": "pg_net",
    "vault": "Supabase Vault",
    "realtime": "Supabase Realtime",
    "graphql": "pg_graphql",
    "supabase_functions": "Database Webhooks",
}
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
    create table if not exists supabase_migrations.seed_files (path text not null primary key, hash text not null);
"""
_RECORD_SEED = """
    insert into supabase_migrations.seed_files (path, hash) values (%s, %s)
    on conflict (path) do update set hash = excluded.hash
"""


def migrate(url: str, directory: Path, *, left_out: Collection[str] = ()) -> list[str]:
    """Apply the files of `directory` that the database does not have yet, in order; returns their names.

    `left_out` are versions that are not applied.

    `url` logs in as `postgres`, which is not a superuser, so that what works here works on Supabase. Each file and
    its row in `supabase_migrations.schema_migrations` are one transaction: a failed file leaves nothing behind.
    """
    files = _migration_files(directory)
    if unknown := set(left_out) - files.keys():
        raise MigrationError(
            f"there is no migration {min(unknown)} in {directory}: give the digits of its name"
        )
    applied: list[str] = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("set client_min_messages = warning")  # hides "already exists, skipping"
        connection.execute(_HISTORY)
        history = connection.execute("select version, statements from supabase_migrations.schema_migrations")
        known: dict[str, list[str] | None] = dict(history.fetchall())
        for version, path in files.items():
            if version in left_out:
                continue
            if version not in known:
                _refuse_out_of_order(version, path, known)
                _apply(connection, version, path)
                applied.append(path.name)
            else:
                _refuse_changed(path, known[version])
    return applied


def seed(url: str, root: Path, files: Sequence[Path]) -> list[str]:
    """Run the files that were not run on this database yet; returns the names of those that have changed since."""
    changed: list[str] = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute(_HISTORY)
        rows = connection.execute("select path, hash from supabase_migrations.seed_files").fetchall()
        known: dict[str, str] = dict(rows)
        for path in files:
            name = path.relative_to(root).as_posix()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if name not in known:
                _run(connection, path, _text(path), _RECORD_SEED, [name, digest])
            elif known[name] != digest:
                changed.append(name)
    return changed


def _migration_files(directory: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.match(path.name)
        if match is None:
            raise MigrationError(
                f"`supabase db push` skips {path.name}: call it <14 digits>_<words>.sql, or move it elsewhere"
            )
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
            f"{path.name} was changed after it was applied to this database: recreate the database "
            "(till dev --fresh)"
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
    row = [version, [text], path.stem.partition("_")[2]]
    _run(connection, path, _without_the_platforms(connection, text), _RECORD, row)


def _run(
    connection: psycopg.Connection, path: Path, text: str, record: LiteralString, row: Sequence[object]
) -> None:
    """A file and its record: both or nothing."""
    # A file may change settings for itself, but not for the next file.
    connection.execute("reset all")
    connection.execute("set client_min_messages = warning")
    try:
        with connection.transaction():
            # Without parameters this is one simple query with many statements, exactly as in the file.
            connection.execute(cast(LiteralString, text))
            connection.execute(record, row)
    except psycopg.Error as error:
        raise MigrationError(_explain(path, text, error)) from error


def _without_the_platforms(connection: psycopg.Connection, text: str) -> str:
    """The file without `create extension` of what every hosted project has and this server has not; lines stay."""
    if not _EXTENSION.search(text):
        return text
    rows = connection.execute(
        "select name from pg_available_extension_versions where trusted or not superuser or installed"
    )
    missing = _OF_THE_PLATFORM - {name for (name,) in rows}

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"\S", " ", match[0]) if match[1].lower() in missing else match[0]

    return _EXTENSION.sub(blank, text)


def _explain(path: Path, text: str, error: psycopg.Error) -> str:
    """One line: file, line if known, message, and Postgres's details."""
    place = path.name
    if error.diag.statement_position:
        line = text.count("\n", 0, int(error.diag.statement_position) - 1) + 1
        place = f"{place}, line {line}"
    message = error.diag.message_primary or str(error)
    context = (error.diag.context or "").partition("\n")[0]
    details = [part for part in (error.diag.message_detail, error.diag.message_hint, context) if part]
    if remedy := _remedy(path, text, error):
        place = f"{path.name}, line {remedy[0]}"
        return f"{place}: {remedy[1]}"
    told = " ".join([message, *(f"({detail})" for detail in details)])
    return f"{place}: {' '.join(told.split())}"


def _remedy(path: Path, text: str, error: psycopg.Error) -> tuple[int, str] | None:
    """What the platform has and this server has not: the line, the statement, and what to do."""
    message = error.diag.message_primary or ""
    lacking = re.search(r'extension "([^"]+)"', message) if error.sqlstate in ("0A000", "42501") else None
    for match in _EXTENSION.finditer(text):
        if lacking and match[1] == lacking[1]:
            what, statement, position = f"extension {match[1]}", match[0], match.start()
            break
    else:
        named = re.search(r'(?:schema|relation|function) "?(\w+)\b', message)
        if named is None or named[1] not in _SERVICES or error.sqlstate not in ("3F000", "42P01", "42883"):
            return None
        what = _SERVICES[named[1]]
        # In a block there is no position: the first place that names the schema.
        position = int(error.diag.statement_position or max(text.find(f"{named[1]}."), 0) + 1) - 1
        bare = re.sub(r"--[^\n]*", lambda comment: " " * len(comment[0]), text)
        statement = bare[bare.rfind(";", 0, position) + 1 :].partition(";")[0]
    line = text.count("\n", 0, position) + 1
    version = path.name.partition("_")[0]
    return line, (
        f"the local Postgres has no {what} ({_shortened(statement)}): let the migration go without it where it is "
        f"missing, or leave the file out with --skip-migration {version}"
    )


def _shortened(statement: str) -> str:
    words = " ".join(statement.rstrip(";").split())
    return words if len(words) <= 60 else f"{words[:59]}…"
