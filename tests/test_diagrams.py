"""The diagrams of the documents: Mermaid takes them, and what they draw of the database is in it."""

import json
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from deno import find_deno_bin

ROOT = Path(__file__).parents[1]
DIAGRAMS = [
    (path.relative_to(ROOT), diagram)
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    for diagram in re.findall(r"^```mermaid\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
]
TIMEOUT_SECONDS = 180


def parsed(diagrams: list[str]) -> list[str | None]:
    """What Mermaid's parser says of each."""
    command = [find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--allow-all"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("diagrams.js"))],
        input=json.dumps(diagrams), capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_mermaid_takes_every_diagram() -> None:
    broken = "flowchart LR\n    a -->"
    *answers, complaint = parsed([*(diagram for _, diagram in DIAGRAMS), broken])
    assert complaint is not None
    wrong = [(str(path), answer) for (path, _), answer in zip(DIAGRAMS, answers, strict=True) if answer]
    assert wrong == []


def test_tables_and_columns_in_diagrams_exist(conn: psycopg.Connection) -> None:
    drawn = [diagram for _, diagram in DIAGRAMS if diagram.startswith("erDiagram")]
    assert drawn
    columns: dict[str, set[str]] = {}
    for table, column in conn.execute(
        "select table_name::text, column_name::text from information_schema.columns where table_schema = 'billing'"
    ):
        columns.setdefault(table, set()).add(column)
    for diagram in drawn:
        for pair in re.findall(r"^    (\w+) [|}o]+--[|{o]+ (\w+) :", diagram, re.MULTILINE):
            assert set(pair) <= columns.keys(), pair
        for table, body in re.findall(r"^    (\w+) \{\n(.*?)^    \}", diagram, re.MULTILINE | re.DOTALL):
            assert set(re.findall(r"^ +\w+ (\w+)", body, re.MULTILINE)) <= columns[table], table
