"""The migrated database → types for supabase-js and supabase-py, held against `types`, and what an app has of them.

They are what the real Supabase CLI makes of the schema `public`, and of the tables in `billing` whose rows RPCs return
or Realtime sends. A change that is meant is written by `make types`.
"""

import difflib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
from deno import find_deno_bin

from tests.sql.calls import Connection, value
from tests.supabase_cli import run
from tests.support import Database, account_of, as_role, as_user, create_user

ROOT = Path(__file__).parents[1]
TYPES = ROOT / "types"
PROGRAMS = Path(__file__).parent / "types"
TIMEOUT_SECONDS = 180
DIFF_LINES_MAX = 40

HEADERS = {
    "typescript": """\
// What the Supabase CLI makes of the schema public, and of rows that RPCs return or Realtime sends: of billing,
// which is not exposed to the Data API. Not written by hand: `make types`.
""",
    "python": """\
# What the Supabase CLI makes of the schema public, and of rows that RPCs return or Realtime sends: of billing,
# which is not exposed to the Data API. Not written by hand: `make types`.
# ruff: noqa
""",
}
FORMATTERS = {
    "typescript": [find_deno_bin(), "fmt", "--no-config", "--ext=ts", "-"],
    "python": [sys.executable, "-m", "ruff", "format", "--stdin-filename=types/tillbase.py", "-"],
}


def formatted(language: str, text: str) -> str:
    result = subprocess.run(
        FORMATTERS[language], input=text, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def rows_for_apps(conn: Connection) -> set[str]:
    """Tables of `billing` whose rows the functions in `public` return, or Realtime sends."""
    return {
        name
        for (name,) in conn.execute(
            """
            select relname from pg_proc
            join pg_class on pg_class.reltype = prorettype and relnamespace = 'billing'::regnamespace
            where pronamespace = 'public'::regnamespace
            union
            select tablename from pg_publication_tables where schemaname = 'billing'
            """
        )
    }


def typescript_for_apps(text: str, rows: set[str]) -> str:
    """Of `billing` these rows, without what they refer to there, and nothing else."""
    begin, end = text.index('  "billing": {\n'), text.index('  "public": {\n')
    head, billing = text[:begin], text[begin:end]
    tables = re.findall(r'^      "(\w+)": \{\n.*?^      \};\n', billing, re.MULTILINE | re.DOTALL)
    assert rows <= set(tables)
    kept = [
        re.sub(
            r"^( +Relationships:) \[\n.*?^        \];$", r"\1 [];", entry[0], flags=re.MULTILINE | re.DOTALL
        )
        for entry in re.finditer(r'^      "(\w+)": \{\n.*?^      \};\n', billing, re.MULTILINE | re.DOTALL)
        if entry[1] in rows and "        Row: {" in entry[0]
    ]
    nothing = "".join(
        f"    {kind}: {{ [_ in never]: never }};\n"
        for kind in ("Views", "Functions", "Enums", "CompositeTypes")
    )
    return f'{head}  "billing": {{\n    Tables: {{\n{"".join(kept)}    }};\n{nothing}  }};\n{text[end:]}'


def python_for_apps(text: str, rows: set[str]) -> str:
    """The models of `public`, and of these rows of `billing` what is read."""
    head, *classes = re.split(r"^(?=class )", text, flags=re.MULTILINE)
    names = {f"Billing{''.join(part.capitalize() for part in row.split('_'))}" for row in rows}
    of = [re.match(r"class (\w+)", model) for model in classes]
    found = {match[1] for match in of if match}
    assert names <= found
    return head + "".join(
        model
        for model, match in zip(classes, of, strict=True)
        if match and (match[1] in names or not match[1].startswith("Billing"))
    )


FOR_APPS = {"typescript": typescript_for_apps, "python": python_for_apps}


def compare(name: str, text: str, config: pytest.Config) -> None:
    """Hold text against a file in `types`, or write it with `--update-snapshots`."""
    path = TYPES / name
    if config.getoption("update_snapshots"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"there is no types/{name}: write it with `make types`"
    lines = [known.splitlines() for known in (path.read_text(encoding="utf-8"), text)]
    diff = difflib.unified_diff(*lines, "committed", "generated", n=1, lineterm="")
    told = "\n".join(islice(diff, DIFF_LINES_MAX))
    assert told == "", f"types/{name} is not what the migrations give: `make types`\n{told}"


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize(("language", "name"), [("typescript", "tillbase.ts"), ("python", "tillbase.py")])
def test_types_are_as_committed(
    language: str,
    name: str,
    supabase_cli: Path,
    database: Database,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    command = ["gen", "types", f"--lang={language}", "--schema=public,billing", f"--remote={database.url}"]
    made = formatted(language, run(supabase_cli, tmp_path, *command).stdout)
    with database.connect() as conn:
        kept = FOR_APPS[language](made, rows_for_apps(conn))
    compare(name, formatted(language, HEADERS[language] + kept), pytestconfig)


def with_mistakes(program: str, mistakes: dict[str, str]) -> str:
    for right, wrong in mistakes.items():
        assert program.count(right) == 1, right
        program = program.replace(right, wrong)
    return program


def deno_check(file: Path) -> list[str]:
    """The errors that the type checker of Deno finds."""
    result = subprocess.run(
        [find_deno_bin(), "check", "--quiet", "--no-lock", "--no-config", str(file)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, "NO_COLOR": "1"},
    )
    errors = re.findall(r"^TS\d+ \[ERROR\]: (.*)", result.stderr, re.MULTILINE)
    assert (result.returncode == 0) == (errors == []), result.stderr
    return errors


def test_supabase_js_reads_with_the_types_of_the_schema() -> None:
    assert deno_check(PROGRAMS / "program.ts") == []


def test_supabase_js_refuses_what_the_schema_has_not(tmp_path: Path) -> None:
    mistakes = {
        "../../types/tillbase.ts": (TYPES / "tillbase.ts").as_uri(),
        '"balance, held, available"': '"balance, helt, available"',
        "idempotency_key:": "key:",
        "entry.balance_after": "entry.balance_before",
        "change.new.balance": "change.new.ballance",
    }
    program = tmp_path / "program.ts"
    program.write_text(with_mistakes((PROGRAMS / "program.ts").read_text(), mistakes))
    errors = "\n".join(deno_check(program))
    assert "column 'helt' does not exist on 'credit_balance'" in errors
    assert "'key' does not exist in type" in errors
    assert "Property 'balance_before' does not exist on type" in errors
    assert "Property 'ballance' does not exist on type" in errors


@pytest.mark.slow
def test_pyright_accepts_the_types_and_refuses_what_the_schema_has_not(tmp_path: Path) -> None:
    program = (PROGRAMS / "program.py").read_text()
    (tmp_path / "tillbase.py").write_text((TYPES / "tillbase.py").read_text())
    (tmp_path / "right.py").write_text(program)
    mistakes = {").available": ").availlable", ").balance_after": ").balance_before"}
    (tmp_path / "wrong.py").write_text(with_mistakes(program, mistakes))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run(
        [*command, "tillbase.py", "right.py", "wrong.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    told = [
        (Path(found["file"]).name, re.findall('attribute "(.*?)"', found["message"])[0])
        for found in json.loads(result.stdout)["generalDiagnostics"]
    ]
    assert told == [("wrong.py", "availlable"), ("wrong.py", "balance_before")]


@pytest.fixture(scope="module")
def models() -> Iterator[ModuleType]:
    """types/tillbase.py, imported; there is a `types` in the standard library, so not by its name."""
    spec = importlib.util.spec_from_file_location("tillbase", TYPES / "tillbase.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic looks for the names in annotations
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


def test_rows_of_the_data_api_pass_through_the_python_models(
    models: ModuleType, database: Database, conn: Connection
) -> None:
    user = create_user(database)
    account = account_of(conn, user)
    with as_role(conn, "service_role"):
        query = (
            "select to_json(e)::text from public.grant_credits(%s, 500, 'once', description => 'Hello') as e"
        )
        entry = models.BillingCreditEntries.model_validate_json(value(conn, query, [account]))
    with as_user(conn, user):
        query = "select to_json(b)::text from public.credit_balance as b"
        balance = models.PublicCreditBalance.model_validate_json(value(conn, query))
        query = "select to_json(h)::text from public.credit_history as h"
        moved = models.PublicCreditHistory.model_validate_json(value(conn, query))
    assert (entry.account_id, entry.amount, entry.balance_after) == (account, 500, 500)
    assert (balance.account_id, balance.balance, balance.available) == (account, 500, 500)
    assert (moved.id, moved.description, moved.occurred_at) == (entry.id, "Hello", entry.occurred_at)
