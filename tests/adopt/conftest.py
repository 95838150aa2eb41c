"""A Supabase project of somebody's own, and `till` run in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import main

CONFIG = """\
project_id = "shop"

[db]
major_version = 17

# Greets.
[functions.hello]
verify_jwt = true
"""
# Dated later than anything of ours.
MIGRATION = "20300101000000_create_accounts.sql"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A table named as one of ours, a function, and a migration that is dated in the future."""
    root = tmp_path / "shop"
    for name, text in {
        "supabase/config.toml": CONFIG,
        f"supabase/migrations/{MIGRATION}": "create table public.accounts (id integer primary key);\n",
        "supabase/functions/hello/index.ts": 'Deno.serve(() => new Response("hello"));\n',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


Init = Callable[..., dict[str, Any]]


@pytest.fixture
def init(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Init:
    """`till init … --json` in the project → what it says; `refused=True`: the line of its error."""

    def run(*options: str, refused: bool = False) -> Any:
        command = ["till", "init", "--project", str(project), "--json", *options]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == (1 if refused else 0), told.err
        return told.err if refused else json.loads(told.out)

    return run


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
