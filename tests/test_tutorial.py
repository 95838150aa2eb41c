"""docs/tutorial.md, done as a reader does it: write its files, run its commands, compare what they print."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.md"
STACK = "till dev --env-file stack.env"
# Done before the tests run.
SETUP = "make setup"
# What the worker brings about takes a moment: a reader looks again.
LOOKS = re.compile(r"\b(?:balance|history|feature)\.js$|^till (?:credits balance|events list)")
DEADLINE_SECONDS = 60

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stack")]


def steps() -> Iterator[tuple[str, str, str]]:
    """Each file and each block of commands: its name or `sh`, its text, the output that follows it."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for found in re.finditer(
        r"(?:`([\w.]+)`:\n\n)?^```(sh|js|toml)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.M | re.S
    ):
        name, language, body, output = found.groups()
        assert name or language == "sh", f"which file is this? {body}"
        yield name or "sh", body, output or ""


def as_pattern(output: str) -> re.Pattern[str]:
    """Documented output → a pattern: … is anything, trailing blanks are nothing."""
    lines = [r".*?".join(map(re.escape, line.rstrip().split("…"))) for line in output.strip().splitlines()]
    return re.compile(r"[ ]*\n".join(lines) + r"\s*", re.DOTALL)


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
            if not output or as_pattern(output).fullmatch(shown.strip()):
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
def terminal(tmp_path: Path) -> Terminal:
    """A terminal in an empty directory."""
    tmp_path.chmod(0o711)  # as root, Postgres runs as another user and must get through
    for parent in tmp_path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    return Terminal(tmp_path)


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
    while not as_pattern(output).fullmatch(log.read_text().strip()):
        assert stack.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return stack
