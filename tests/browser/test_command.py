"""`till dev --example`: one command, the page at the address that it prints, nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from devstack.env_file import read_env_file

READY_SECONDS = 60
TILL = [sys.executable, "-c", "from cli.main import main; main()"]


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory that Postgres can reach, also when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="tillbase-example-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TILL, "dev", *arguments],
        env={**os.environ, "TILL_STATE": str(state), "COLUMNS": "200"},
        capture_output=True, text=True, check=False, timeout=READY_SECONDS,
    )  # fmt: skip


def test_the_example_is_served_until_ctrl_c(state: Path) -> None:
    process = subprocess.Popen(
        [*TILL, "dev", "--example", "--fresh"],
        env={**os.environ, "TILL_STATE": str(state)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    assert process.stdout
    with process:
        for line in process.stderr:
            if line.startswith("ready."):
                break
        children = psutil.Process(process.pid).children(recursive=True)
        url = next(line.split()[-1] for line in process.stdout if line.startswith("Example app"))
        settings = read_env_file(state / "env")
        assert "Haiku" in httpx.get(url).text
        assert httpx.get(f"{url}/config.json").json() == {
            "url": settings["SUPABASE_URL"],
            "publishableKey": settings["SUPABASE_PUBLISHABLE_KEY"],
        }
        for path in ("/server.ts", "/../server.ts", "/functions/haiku/index.ts", "/nothing"):
            assert httpx.get(url + path).status_code == 404
        plans = httpx.get(
            f"{settings['SUPABASE_URL']}/rest/v1/billing_plans?select=lookup_key",
            headers={"apikey": settings["SUPABASE_PUBLISHABLE_KEY"]},
        ).json()
        assert sorted(plan["lookup_key"] for plan in plans) == ["starter_monthly", "studio_monthly"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=READY_SECONDS)
    assert process.returncode == 0
    assert not any(child.is_running() for child in children)


def test_it_begins_with_an_empty_shop_and_needs_the_whole_stack(state: Path) -> None:
    (state / "postgres").mkdir()
    refused = run(state, "--example")
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        "error: the example begins with an empty shop: add --fresh, which forgets the data of earlier runs"
    )
    for arguments in (["--only", "stripe"], ["--no-migrate"]):
        assert run(state, "--example", "--fresh", *arguments).returncode == 2
    assert (state / "postgres").exists()
