"""docs/reference is what the code, the catalogue and the examples give: `make reference` writes it."""

import re

import psycopg
import pytest

from cli.plans.file import PACK_METADATA, PLAN_METADATA
from tests.reference import access, edge_functions, events, metadata, settings
from tests.reference.catalogue import ROOT, columns, functions
from tests.reference.cli import cli
from tests.reference.errors import errors, raises
from tests.reference.examples import run_examples
from tests.reference.sql_functions import sql_functions
from tests.reference.views import views
from tests.support import Database
from worker.events.decide import DECIDERS

PAGES = ROOT / "docs/reference"
# Written by hand or by other commands; every other page is generated here.
BY_HAND = {"README.md", "glossary.md", "mutants.md", "crash-points.md"}


@pytest.fixture
def pages(database: Database) -> dict[str, str]:
    """Name → text of every generated page."""
    with database.connect() as conn:
        made = {
            "views.md": views(conn),
            "edge-functions.md": edge_functions.edge_functions(conn),
            "cli.md": cli(),
            "settings.md": settings.settings(conn),
            "environment.md": settings.environment(),
            "stripe-events.md": events.stripe_events(),
            "metadata.md": metadata.metadata(conn),
            "errors.md": errors(),
            "access.md": access.access(conn),
        }
        return made | {"sql-functions.md": sql_functions(conn, run_examples(database))}


@pytest.mark.usefixtures("fresh_commands")
def test_the_reference_is_as_committed(pages: dict[str, str], pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("update_snapshots"):
        PAGES.mkdir(exist_ok=True)
        for name, text in pages.items():
            (PAGES / name).write_text(text, encoding="utf-8")
    committed = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert committed.keys() - BY_HAND == pages.keys()
    stale = [name for name, text in pages.items() if committed[name] != text]
    assert stale == [], "the code says something else: `make reference`"


def test_every_function_has_an_example_and_a_comment(conn: psycopg.Connection, database: Database) -> None:
    found = functions(conn)
    assert [one.name for one in found if not one.comment] == []
    assert {one.function for one in run_examples(database)} == {one.name for one in found}


def test_every_column_that_clients_read_and_every_setting_has_a_comment(conn: psycopg.Connection) -> None:
    names = [
        f"public.{name}"
        for (name,) in conn.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v' "
            "and relowner = 'postgres'::regrole"
        )
    ]
    silent = [
        f"{relation}.{column.name}"
        for relation in [*names, "billing.settings"]
        for column in columns(conn, relation)
        if not column.comment and column.name not in {"id", "updated_at"}
    ]
    assert silent == []


def test_every_error_of_the_schemas_is_listed() -> None:
    raised = {
        code
        for file in (ROOT / "supabase/schemas").glob("*/*.sql")
        for code in re.findall(r"errcode =>? '(TB\d+)'", file.read_text())
    }
    assert {one.code for one in raises()} == raised


def test_every_event_says_what_it_does() -> None:
    assert [name for name in DECIDERS if not events.effect(name)] == []


def test_the_metadata_keys_are_those_that_the_schemas_read() -> None:
    assert set(metadata.keys_read()) == set(metadata.KEYS) == set(PLAN_METADATA) | set(PACK_METADATA)


def test_the_environment_variables_are_those_that_the_code_reads() -> None:
    described = {name for names in settings.VARIABLES.values() for name in names}
    assert set(settings.variables_read()) == described


def test_every_field_of_the_edge_functions_is_described(pages: dict[str, str]) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (?:text|UUID|number|boolean) \| (.*) \|$", pages["edge-functions.md"], re.M
    )
    assert rows
    assert [field for field, meaning in rows if not meaning] == []
