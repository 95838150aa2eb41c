"""Every table of schema billing → a CSV file each, all as of one moment."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from psycopg import sql

from cli.database import Connection, rows
from cli.output import CliError

_TABLES = """
    select relname from pg_catalog.pg_class
    where relnamespace = to_regnamespace('billing') and relkind = 'r' order by relname
"""


def new_directory(root: Path, now: datetime) -> Path:
    """A directory for an export, readable by its owner only: there are customers' addresses in it."""
    directory = root / f"tillbase-export-{now:%Y%m%dT%H%M%SZ}"
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise CliError(
            f"{directory} can't be made ({error.strerror}): pass --no-export, or free the name"
        ) from None
    return directory


def export(conn: Connection, directory: Path, progress: Callable[[int, int, str], None]) -> dict[str, int]:
    """Table → rows written. `progress` hears how many of how many tables are done, and the next one's name."""
    written: dict[str, int] = {}
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read read only")
        tables = [row["relname"] for row in rows(conn, _TABLES, {})]
        for done, table in enumerate(tables):
            progress(done, len(tables), table)
            query = sql.SQL("copy {} to stdout with (format csv, header)").format(
                sql.Identifier("billing", table)
            )
            with (directory / f"{table}.csv").open("wb") as file, conn.cursor() as cursor:
                with cursor.copy(query) as copy:
                    for data in copy:
                        file.write(data)
                written[table] = cursor.rowcount
        progress(len(tables), len(tables), "")
    return written
