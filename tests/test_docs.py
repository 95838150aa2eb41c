"""What the documents say is so: commands run, links lead somewhere, error codes and files are the real ones."""

import re
import shlex
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from cli.commands.trigger import events as triggers
from cli.main import app
from worker.events.decide import DECIDERS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def shell_commands(program: str) -> list[str]:
    """Commands of a program in the documents' shell blocks, without comments and variables."""
    blocks = [
        block
        for document in DOCUMENTS
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    ]
    lines = [re.sub(r"^(\w+=\S+ +)+", "", line.strip()) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("command", shell_commands("till"))
def test_documented_till_commands_have_these_arguments(command: str) -> None:
    """With --help in place of the values: the words and the options exist. tests/e2e runs them for real."""
    words = shlex.split(command, comments=True)[1:]
    path = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    shown = CliRunner(env={"COLUMNS": "100"}).invoke(app, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output
    if words[0] == "trigger":
        assert words[1] in triggers()


@pytest.mark.parametrize("command", shell_commands("make"))
def test_documented_make_targets_exist(command: str) -> None:
    target = shlex.split(command, comments=True)[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "docs/decisions.md"])
def test_files_named_in_the_architecture_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"`((?:tests|worker|cli|bench|supabase|docs)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", ["README.md", "docs/install.md"])
def test_functions_called_in_the_documents_exist(conn: psycopg.Connection, document: str) -> None:
    text = (ROOT / document).read_text()
    called = set(re.findall(r"billing\.(\w+)\(", text))
    found = conn.execute(
        "select proname from pg_proc where pronamespace = 'billing'::regnamespace"
    ).fetchall()
    assert called <= {name for (name,) in found}


def test_documented_events_are_those_handled() -> None:
    text = (ROOT / "docs/install.md").read_text()
    listed = set(
        re.findall(r"`((?:[a-z_]+\.)+[a-z_]+)`", text.split("with these events:")[1].split("Then declare")[0])
    )
    assert listed == set(DECIDERS)
