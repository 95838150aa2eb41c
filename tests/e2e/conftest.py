"""One local stack for all tests of this folder: everything real, from a signed delivery to what a user reads."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import stripe
from psycopg.rows import dict_row

from cli.main import main
from cli.shop import Shop
from devstack.stack import Stack
from tests import containers
from tests.e2e.api import App, opened

DEADLINE_SECONDS = 30


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running local stack; with a server in a container where the tests run on one."""
    server = request.getfixturevalue("server") if containers.image() else None
    with tempfile.TemporaryDirectory(prefix="tillbase-stack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False, server=server) as stack:
            yield stack


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    """A shop on the stack's Stripe."""
    with Shop(stack.settings) as shop:
        yield shop


@pytest.fixture
def clients(stack: Stack) -> Iterator[App]:
    """Clients of the Data API: the server's, and one for each user that signs up."""
    with opened(stack.settings) as clients:
        yield clients


@pytest.fixture
def db(stack: Stack) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection as `postgres`, rows as dicts."""
    with psycopg.Connection[dict[str, Any]].connect(
        stack.settings["POSTGRES_URL"], autocommit=True, prepare_threshold=None, row_factory=dict_row
    ) as conn:
        yield conn


@pytest.fixture
def program(stack: Stack) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user would, with the stack's settings."""

    def run(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", *arguments],
            env={**os.environ, **stack.settings, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == expect, done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def till(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same within this process, which takes a tenth of the time."""
    for name, value in {**stack.settings, "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["till", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        told = capsys.readouterr()
        assert (exited.value.code or 0) == expect, told
        return subprocess.CompletedProcess(arguments, expect, told.out, told.err)

    return run


@pytest.fixture
def email(shop: Shop) -> str:
    """A new user's address."""
    address = f"{uuid4().hex}@example.com"
    shop.sign_up(address)
    return address


class Deliverer:
    """Stripe as seen by the endpoint: signs bodies and posts them."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings

    def __call__(self, event: dict[str, Any]) -> httpx.Response:
        payload = json.dumps(event)
        signature = stripe.WebhookSignature.generate_signature_header(
            payload, self._settings["STRIPE_WEBHOOK_SECRET"]
        )
        return httpx.post(
            self._settings["WEBHOOK_URL"],
            content=payload,
            headers={"Stripe-Signature": signature, "Content-Type": "application/json"},
            timeout=DEADLINE_SECONDS,
        )


@pytest.fixture
def deliver(stack: Stack) -> Deliverer:
    """Post a signed event to the real edge function."""
    return Deliverer(stack.settings)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true answer of `condition`; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain until {what}")
        time.sleep(0.02)
    return answer
