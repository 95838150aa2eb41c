"""docs/tutorial.md, done as a reader does it: write its files, run its commands, compare what they print."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.md"
STACK = "till dev --env-file stack.env"
# Done before the tests run.
SETUP = "make setup"
# What the worker brings about takes a moment: a reader looks again.
LOOKS = re.compile(r"\b(?:balance|history|feature)\.js$|^till (?:explain|doctor)")
DEADLINE_SECONDS = 60

pytestmark = pytest.mark.slow


def steps() -> Iterator[tuple[str, str, str]]:
    """Each file and each block of commands: its name or `sh`, its text, the output that follows it."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for found in re.finditer(
        r"(?:`([\w.]+)`:\n\n)?^```(sh|js|toml)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.M | re.S
    ):
        name, language, body, output = found.groups()
        assert name or language == "sh", f"which file is this? {body}"
        yield name or "sh", body, output or ""


def shows(printed: str, output: str) -> bool:
    """Whether a command printed what is documented; … is anything, a line of it any lines."""
    return _fit(*([line.rstrip() for line in text.strip().splitlines()] for text in (output, printed)))


def _fit(lines: list[str], printed: list[str]) -> bool:
    match lines:
        case []:
            return not printed
        case ["…", *rest]:
            return any(_fit(rest, printed[skipped:]) for skipped in range(len(printed) + 1))
        case [line, *rest]:
            return bool(printed) and _fits(line, printed[0]) and _fit(rest, printed[1:])
    return False


def _fits(line: str, printed: str) -> bool:
    first, *parts = line.split("…")
    if not parts:
        return printed == first
    *middle, last = parts
    if not printed.startswith(first):
        return False
    place = len(first)
    for part in middle:
        place = printed.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return printed.endswith(last) and place <= len(printed) - len(last)


class Terminal:
    """A shell in the reader's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STRIPE_", "SUPABASE_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "NO_COLOR": "1",
        }  # fmt: skip

    def run(self, commands: str, output: str) -> None:
        """Run a block; what only shows something is run again until it shows what the tutorial says."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        *changes, look = commands.strip().splitlines()
        may_repeat = LOOKS.search(look) is not None
        printed = self._bash("\n".join(changes)) if may_repeat and changes else ""
        while True:
            shown = printed + self._bash(look if may_repeat else commands)
            if not output or shows(shown, output):
                return
            wrong = f"{commands}printed\n{shown}instead of\n{output}"
            assert may_repeat, wrong
            assert time.monotonic() < deadline, wrong

    def _bash(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal in an empty directory."""
    with tempfile.TemporaryDirectory(prefix="tillbase-tutorial-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        yield Terminal(Path(name))


def test_the_tutorial_is_what_happens(terminal: Terminal) -> None:
    stack: subprocess.Popen[bytes] | None = None
    try:
        for name, body, output in steps():
            if name != "sh":
                (terminal.directory / name).write_text(body, encoding="utf-8")
            elif body.strip() == STACK:
                stack = start_stack(terminal, output)
            elif body.strip() != SETUP:
                assert stack is not None
                terminal.run(body, output)
    finally:
        if stack is not None:
            stack.send_signal(signal.SIGINT)
            stack.wait(60)


def start_stack(terminal: Terminal, output: str) -> subprocess.Popen[bytes]:
    """The first terminal: it prints what is documented, and goes on."""
    log = terminal.directory / "dev.log"
    with log.open("wb") as file:
        stack = subprocess.Popen(
            STACK.split(),
            cwd=terminal.directory,
            env=terminal.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not shows(log.read_text(), output):
        assert stack.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return stack
