"""What the edge functions test of themselves, under their own runtime."""

import subprocess
from pathlib import Path

import pytest
from deno import find_deno_bin

from devstack.functions import function_names
from devstack.paths import supabase_directory

FUNCTIONS = supabase_directory() / "functions"
TIMEOUT_SECONDS = 180


def deno(command: str, name: str, files: list[Path], *options: str) -> None:
    """Run a Deno command with the settings of one function; fail with what it said."""
    config = FUNCTIONS / name / "deno.json"
    run = subprocess.run(
        [find_deno_bin(), command, *options, "--no-lock", "--config", str(config), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        cwd=FUNCTIONS,
    )
    assert run.returncode == 0, f"deno {command} {name}:\n{run.stdout}\n{run.stderr}"


@pytest.mark.parametrize("name", function_names(FUNCTIONS))
def test_function_type_checks(name: str) -> None:
    deno("check", name, [FUNCTIONS / name / "index.ts"])


@pytest.mark.parametrize("name", function_names(FUNCTIONS))
def test_function_passes_its_own_tests_without_network_or_files(name: str) -> None:
    tests = sorted((FUNCTIONS / name).glob("*_test.ts"))
    assert tests, f"{name} has no tests"
    deno("test", name, tests, "--no-prompt", "--no-check")
