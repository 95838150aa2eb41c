"""What the documents say is so: commands run, links lead somewhere, error codes and files are the real ones."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from bench.__main__ import SUITES, arguments
from cli.commands.trigger import SCENES
from cli.main import app
from tests.reference.markdown import anchor

ROOT = Path(__file__).parents[1]
README_LINES_MAX = 150
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def shell_commands(program: str, documents: list[Path] = DOCUMENTS) -> list[str]:
    """Commands of a program in the documents' shell blocks, without comments and variables."""
    blocks = [
        block
        for document in documents
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    ]
    lines = [re.sub(r"^(\w+=\S+ +)+", "", line.strip()) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("command", shell_commands("till"))
def test_documented_till_commands_have_these_arguments(command: str) -> None:
    """With --help in place of the values: the words and the options exist. tests/test_docs_commands.py runs them."""
    words = shlex.split(command, comments=True)[1:]
    path = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output
    if words[0] == "trigger":
        assert words[1] in sorted(SCENES)


@pytest.mark.parametrize("command", shell_commands("make"))
def test_documented_make_targets_exist(command: str) -> None:
    target = shlex.split(command, comments=True)[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", shell_commands(".venv/bin/python"))
def test_documented_benchmarks_exist(command: str) -> None:
    """The module can be run, and the suites and options are those of the bench."""
    _, flag, module, *words = shlex.split(command, comments=True)
    assert flag == "-m"
    assert find_spec(module) is not None
    options = arguments().parse_args(words if module == "bench" else [])
    assert set(options.suites) <= set(SUITES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        if heading:
            assert heading in headings(path), f"{target}#{heading}"


def headings(document: Path) -> set[str]:
    """What a link into a document can name: its headings as GitHub makes ids of them, and ids of its own."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} | set(
        re.findall(r'<a id="([\w-]+)">', text)
    )


def test_documents_named_in_the_code_exist() -> None:
    """Messages, comments and help send people to these pages."""
    folders = [
        "worker",
        "cli",
        "devstack",
        "stripe_local",
        "supabase/schemas",
        "supabase/functions",
        "examples",
    ]
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*")):
        if file.suffix in {".py", ".sql", ".ts", ".js", ".jinja", ".toml"}:
            for page in re.findall(r"docs/[\w/-]+\.(?:md|toml)", file.read_text(encoding="utf-8")):
                assert (ROOT / page).exists(), f"{file.relative_to(ROOT)}: {page}"


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "docs/decisions.md"])
def test_files_named_in_the_architecture_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"`((?:tests|worker|cli|bench|supabase|docs)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path


def test_functions_called_in_the_documents_exist(conn: psycopg.Connection) -> None:
    called = {name for path in DOCUMENTS for name in re.findall(r"billing\.(\w+)\(", path.read_text())}
    found = conn.execute(
        "select proname from pg_proc where pronamespace = 'billing'::regnamespace"
    ).fetchall()
    assert called <= {name for (name,) in found}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX
