"""`till plans` against the local Stripe and a database of the test's own."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.main import main
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database

Run = Callable[..., Any]


@pytest.fixture
def local() -> Iterator[Local]:
    """An emulator that nobody listens to."""
    yield from _serve(None)


@pytest.fixture
def run(
    database: Database, local: Local, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `till plans` within this process: its stdout and stderr."""
    settings = {
        "POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url, "COLUMNS": "300",
        "PGOPTIONS": "-c statement_timeout=20s",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cli.stripe_key.REQUEST_RETRIES", 0)

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "plans", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run
