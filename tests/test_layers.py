"""`supabase/schemas` → which file makes what and names whom: a file builds only on those before it."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from devstack.paths import schemas_directory
from devstack.release import schema_files

SCHEMAS = schemas_directory()
FILES = schema_files(SCHEMAS)
_MAKES = re.compile(
    r"^create (?:constraint )?(?:function|table|view|domain|trigger) (?:(billing|public)\.)?(\w+)",
    re.MULTILINE,
)
_NAMES = re.compile(r"\b(billing|public)\.(\w+)")
# Prose: comments, and the hints of errors, which tell people where to look.
_PROSE = re.compile(r"--[^\n]*|^comment on .*$|hint = '(?:[^']|'')*'", re.MULTILINE)

# What moves credits, and the only files that may. A plain spend is the one that doesn't go by the kernel.
KERNEL = "30_ledger/15_posting.sql"
PLAIN_SPEND = "30_ledger/30_spend_credits.sql"
MOVED_IN = {
    r"insert into billing\.credit_entries\b": {KERNEL, PLAIN_SPEND},
    r"insert into billing\.credit_consumptions\b": {KERNEL, PLAIN_SPEND},
    r"insert into billing\.credit_grants\b": {KERNEL},
    r"update billing\.credit_balances\b[^;]*?(?:set|,)\s+balance = ": {KERNEL, PLAIN_SPEND},
    # What is scheduled is written before it opens.
    r"update billing\.credit_grants\b[^;]*?(?:set|,)\s+remaining = ": {
        KERNEL,
        PLAIN_SPEND,
        "30_ledger/18_open_lot.sql",
    },
}


def made() -> Iterator[tuple[str, Path]]:
    for file in FILES:
        for schema, name in _MAKES.findall(file.read_text(encoding="utf-8")):
            yield f"{schema}.{name}" if schema else name, file


MADE_IN = dict(made())


def short(path: Path) -> str:
    return str(path.relative_to(SCHEMAS))


@pytest.mark.parametrize("file", FILES, ids=short)
def test_files_name_only_what_comes_before_them(file: Path) -> None:
    """In their folder and in the folders before it: so a file is understood by reading upwards."""
    text = _PROSE.sub("", file.read_text(encoding="utf-8"))
    named = {f"{schema}.{name}" for schema, name in _NAMES.findall(text)}
    later = {name: short(MADE_IN[name]) for name in named if name in MADE_IN and MADE_IN[name] > file}
    assert later == {}


def test_each_object_is_made_in_one_file() -> None:
    files: dict[str, set[str]] = {}
    for name, file in made():
        files.setdefault(name, set()).add(short(file))
    assert {name: found for name, found in files.items() if len(found) > 1} == {}


def test_every_table_stands_whole_in_its_file() -> None:
    """What is added to it elsewhere would have to be looked for."""
    added = re.compile(
        r"^(?:alter table|create (?:unique )?index \w+ on|create policy \w+ on) (billing\.\w+)", re.MULTILINE
    )
    elsewhere = {
        (short(file), table)
        for file in FILES
        for table in added.findall(file.read_text(encoding="utf-8"))
        if MADE_IN[table] != file
    }
    assert elsewhere == set()


@pytest.mark.parametrize(("statement", "files"), MOVED_IN.items(), ids=MOVED_IN)
def test_credits_are_moved_by_the_posting_kernel_alone(statement: str, files: set[str]) -> None:
    texts = {short(file): _PROSE.sub("", file.read_text(encoding="utf-8")) for file in FILES}
    assert {name for name, text in texts.items() if re.search(statement, text)} == files


def test_nothing_is_in_the_database_that_no_file_makes(conn: psycopg.Connection) -> None:
    found = conn.execute(
        """
        select format('%s.%s', pronamespace::regnamespace, proname) from pg_proc
        where pronamespace = 'billing'::regnamespace
        union
        select format('%s.%s', relnamespace::regnamespace, relname) from pg_class
        where relnamespace = 'billing'::regnamespace and relkind in ('r', 'v')
        """
    ).fetchall()
    assert {name for (name,) in found} - set(MADE_IN) == set()
