"""`till accounts`, `customers` and `subscriptions` on real Postgres."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli.main import main
from tests.support import Database, create_user

Run = Callable[..., Any]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `till` within this process: its stdout and stderr."""
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


def told(run: Run, *arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").out)


def test_an_account_is_frozen_and_unfrozen(run: Run, database: Database) -> None:
    create_user(database, "eve@example.com")
    freeze = ("accounts", "freeze", "eve@example.com", "--reason", "stolen card")
    assert told(run, *freeze)["frozen_reason"] == "stolen card"
    unfreeze = ("accounts", "unfreeze", "eve@example.com", "--reason", "known")
    assert told(run, *unfreeze)["frozen_at"] is None
