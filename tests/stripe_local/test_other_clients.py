"""Clients that we did not write, unpatched: stripe-node under Deno, and the real Stripe CLI."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deno import find_deno_bin

from tests.stripe_local.conftest import SECRET, Local, until

CLI = "@stripe/cli@1.52.0"
TIMEOUT_SECONDS = 300

# Every event of `stripe trigger`: those that are played make the event; the rest is about products that the emulator
# leaves out (Issuing, Identity, Connect, quotes, payouts) and is not claimed. Three scripts about schedules (aborted,
# completed, expiring) have nobody pay, or advance too little for what they are named after.
TRIGGERS = [line.split() for line in Path(__file__).with_name("triggers.txt").read_text().splitlines()]
PLAYED = [name for verdict, name in TRIGGERS if verdict == "played"]
# Names of the CLI's own for a story rather than for an event: what they make instead.
ALIASES = {
    "subscription.payment_failed": "invoice.payment_failed",
    "subscription.payment_succeeded": "invoice.payment_succeeded",
}


def test_stripe_node_works_under_deno(local: Local) -> None:
    script = Path(__file__).with_name("drive.ts")
    port = str(urlsplit(local.url).port)
    run = subprocess.run(
        [find_deno_bin(), "run", "--no-lock", "--quiet", "--allow-net", "--allow-env", "--allow-read", "--allow-sys",
         str(script), port, SECRET],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "status": "active",
        "paid": "paid",
        "tax": 400,
        "schedule": "active",
        "refused": "cash_balance",
        "types": local.event_types()[:-3][::-1],
        "declined": "generic_decline",
        "verified": "evt_1",
    }


@pytest.fixture(scope="session")
def stripe_cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real CLI's binary, from its npm package."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not on PATH: the real Stripe CLI is not driven")
    folder = tmp_path_factory.mktemp("stripe-cli")
    install = ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), CLI]
    result = subprocess.run(install, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if result.returncode != 0:
        pytest.skip(f"npm cannot install {CLI}: {result.stderr.strip()[-300:]}")
    found = sorted((folder / "node_modules" / "@stripe").glob("cli-*/bin/stripe*"))
    if not found:
        pytest.skip("the Stripe CLI's package has no binary for this platform")
    return found[0]


def _run(cli: Path, home: Path, local: Local, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--api-key", "sk_test_1234567890", "--api-base", local.url]
    # With telemetry the CLI sometimes panics while it exits ("WaitGroup is reused"), its work done.
    quiet = {"STRIPE_CLI_TELEMETRY_OPTOUT": "1"}
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), **quiet}
    command = [str(cli), *arguments, *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=60
    )


def _came(local: Local, event: str, before: int) -> bool:
    """Of a bank debit a moment later."""
    try:
        return bool(until(lambda: len(local.events(event)) > before, 5))
    except AssertionError:
        return False


@pytest.mark.node
@pytest.mark.slow
def test_the_stripe_cli_triggers_every_event_that_we_claim(
    local: Local, stripe_cli: Path, tmp_path: Path
) -> None:
    helped = subprocess.run(
        [str(stripe_cli), "trigger", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    listed = helped.partition("Supported events:")[2].partition("Usage:")[0].split()
    assert sorted(listed) == sorted([*(name for _, name in TRIGGERS), *ALIASES])
    local.control("settings", {"debit_seconds": 0})
    failed: dict[str, str] = {}
    for name in [*PLAYED, *ALIASES]:
        event = ALIASES.get(name, name)
        before = len(local.events(event))
        run = _run(stripe_cli, tmp_path, local, "trigger", name)
        if run.returncode != 0 or not _came(local, event, before):
            failed[name] = run.stdout + run.stderr
    assert failed == {}


@pytest.mark.node
@pytest.mark.slow
def test_the_stripe_cli_makes_and_reads_resources(local: Local, stripe_cli: Path, tmp_path: Path) -> None:
    made = _run(stripe_cli, tmp_path, local, "customers", "create", "-d", "email=cli@example.com")
    customer = json.loads(made.stdout)
    shown = _run(stripe_cli, tmp_path, local, "get", f"/v1/customers/{customer['id']}")
    assert json.loads(shown.stdout)["email"] == "cli@example.com"
