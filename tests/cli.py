"""`till` within this process, on a test's own database."""

import json
import sys
from typing import Any

import pytest

from cli.main import main


class Till:
    """Runs `till` with these settings: its stdout and stderr."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: str
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: object, expect: int = 0) -> Any:
        """Run it; `expect` is the exit code."""
        self._monkeypatch.setattr(sys, "argv", ["till", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = self._capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    def json(self, *arguments: object) -> Any:
        """The document that it prints with --json."""
        return json.loads(self(*arguments, "--json").out)

    def refused(self, *arguments: object, expect: int = 1) -> str:
        """The one line that it fails with."""
        captured = self(*arguments, expect=expect)
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        return captured.err.strip().removeprefix("error: ")
