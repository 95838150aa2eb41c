"""The stack and its worker over time: restarts, crashes, the end."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest

from cli.shop import Shop
from devstack.env_file import read_env_file
from devstack.postgres import Postgres
from devstack.stack import Stack
from tests.e2e.conftest import wait_until
from worker.events.inbox import VISIBILITY_SECONDS


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that Postgres can reach, also when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="tillbase-dev-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_postgres_stopped_and_started_under_the_worker_loses_nothing_and_doubles_nothing(
    directory: Path,
) -> None:
    with Stack.start(directory) as stack, Shop(stack.settings) as shop:
        price = shop.plan("Plan", unit_amount=1900, initial_credits=500, monthly_credits=1000)
        buyers = [shop.sign_up(f"{uuid4().hex}@example.com") for _ in range(6)]
        postgres = stack.parts["Postgres"]
        assert isinstance(postgres, Postgres)
        for number, buyer in enumerate(buyers):
            shop.pay_checkout(buyer, price)
            if number in (1, 3):
                postgres.restart("immediate" if number == 3 else "fast")
        # Stripe sends again what the endpoint could not take; here, at once rather than within the hour.
        wait_until(lambda: not _undelivered(shop), "every event was delivered")
        # What was in the worker's hands at a crash comes back after the visibility time-out.
        shop.settle(timeout_seconds=VISIBILITY_SECONDS + 30)

        with shop.connect() as conn:
            balances = conn.execute("select balance from billing.credit_balances").fetchall()
            assert balances == [(1500,)] * 6
            assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []


def _undelivered(shop: Shop) -> list[str]:
    missed = shop.stripe.events.list({"delivery_success": False, "limit": 100}).data
    for event in missed:
        shop.control("post", f"/events/{event.id}/deliver", {})
    return [event.id for event in missed]


def test_a_user_of_an_earlier_run_buys_again_though_stripe_has_forgotten_everything(directory: Path) -> None:
    for balance in (1500, 3000):
        with Stack.start(directory) as stack, Shop(stack.settings) as shop:
            buyer = shop.sign_up("ada@example.com")
            price = shop.plan("Plan", unit_amount=1900, initial_credits=500, monthly_credits=1000)
            shop.pay_checkout(buyer, price)
            shop.settle()
            with shop.connect() as conn:
                found = conn.execute("select balance from billing.credit_balances").fetchall()
            assert found == [(balance,)]


def test_till_dev_writes_its_settings_and_leaves_no_process_behind(directory: Path) -> None:
    env_file = directory / "stack.env"
    dev = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "dev", "--env-file", str(env_file)],
        env={**os.environ, "TILL_STATE": str(directory / ".till")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: env_file.exists() or dev.poll() is not None, "the stack is ready")
        settings = read_env_file(env_file)
        assert set(settings) >= {
            "DATABASE_URL", "POSTGRES_URL", "WEBHOOK_URL", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_BASE", "STRIPE_API_KEY",
            "FUNCTIONS_URL", "DASHBOARD_URL", "WORKER_METRICS_URL", "SUPABASE_JWKS",
        }  # fmt: skip
        with psycopg.connect(settings["POSTGRES_URL"]) as conn:
            assert conn.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (
                False,
            )
        assert httpx.get(settings["WEBHOOK_URL"]).status_code == 405
        assert "till_events_total" in httpx.get(settings["WORKER_METRICS_URL"]).text
        with httpx.Client(follow_redirects=True) as browser:
            assert "Overview" in browser.get(settings["DASHBOARD_URL"]).text
        assert httpx.get(settings["DASHBOARD_URL"]).status_code == 401
        children = psutil.Process(dev.pid).children(recursive=True)
        assert len(children) >= 4
    finally:
        dev.send_signal(signal.SIGINT)
        _, said = dev.communicate(timeout=30)
    assert dev.returncode == 0, said.decode()
    assert [
        child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ] == []


def test_till_dev_killed_takes_its_processes_with_it(directory: Path) -> None:
    if sys.platform != "linux":
        pytest.skip(
            "only Linux ties a child's life to its parent's; elsewhere the next start names what is left"
        )
    env_file = directory / "stack.env"
    dev = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "dev", "--env-file", str(env_file)],
        env={**os.environ, "TILL_STATE": str(directory / ".till")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: env_file.exists() or dev.poll() is not None, "the stack is ready")
    children = psutil.Process(dev.pid).children(recursive=True)
    assert len(children) >= 4
    dev.kill()
    dev.wait()
    wait_until(lambda: not any(_alive(child) for child in children), "all of its processes ended")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_demo_tells_the_story_and_proves_the_books(directory: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "demo"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert demo.returncode == 0, demo.stderr
    assert "ledger discrepancies: 0" in demo.stdout
    assert "balance as Ada reads it: 2360" in demo.stdout
