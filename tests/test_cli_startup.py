"""What every `till` loads: nothing of what only some commands need."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "stripe supabase starlette uvicorn jinja2 apprise httpx requests jwt structlog prometheus_client"
PROGRAM = """
import sys
from cli.main import main
sys.argv = ["till", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["plans", "--help"], ["dev", "--help"]])
def test_help_loads_no_library_of_a_command(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1], timeout=60,
    )  # fmt: skip
    assert sorted(set(HEAVY.split()) & set(done.stderr.split())) == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("till cred", ["credits"]), ("till trigger invoice.pa", ["invoice.paid", "invoice.payment_failed"])],
)
def test_a_shell_completes_commands_and_events(typed: str, offered: list[str]) -> None:
    words = typed.split()
    done = subprocess.run(
        [Path(sys.executable).with_name("till")],
        env={"_TILL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == offered


def test_completion_can_be_shown_and_installed(tmp_path: Path) -> None:
    till = Path(sys.executable).with_name("till")
    shown = subprocess.run(
        [till, "--show-completion", "bash"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "complete -o default -F _till_completion till" in shown.stdout
    subprocess.run(
        [till, "--install-completion", "bash"],
        env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ".bash_completions/till.sh" in (tmp_path / ".bashrc").read_text()
