"""The doctor's page: the findings of `till doctor`; Stripe is asked when asked for, and no page waits for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.dashboard.doctor import Checkup
from cli.findings import Finding
from tests.dashboard.conftest import Browser, served
from tests.sql.calls import Connection
from tests.stripe_local.conftest import KEY, Local, _serve, until
from tests.support import Database


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


def test_what_is_wrong_in_the_database_is_said_at_once_with_what_mends_it(
    browser: Browser, admin: Connection
) -> None:
    admin.execute("revoke select on public.credit_balance from authenticated")
    admin.execute("drop index billing.payments_charged")
    page = browser.get("/doctor").text
    text = browser.see("/doctor")
    assert "rights on public.credit_balance is not as shipped" in text
    assert "no worker is connected" in text
    assert "<code>till worker run</code>" in page
    assert "objects and rights : wrong" in text
    assert "ledger : good" in text
    assert "not checked yet" in text


def test_stripe_is_asked_when_asked_for_and_says_when(
    database: Database, local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    monkeypatch.setenv("STRIPE_API_BASE", local.url)
    monkeypatch.setenv("WEBHOOK_URL", "https://shop.example/functions/v1/stripe-webhook")
    with served(database.url) as browser:
        browser.enter()
        assert "Stripe key" not in browser.see("/doctor")
        assert browser.post("/doctor/check").headers["location"] == "/doctor"
        text = until(
            lambda: "Data API" in (told := browser.see("/doctor")) and " checking since" not in told and told
        )
        assert "Stripe key : good" in text
        assert "webhook endpoint : wrong" in text
        assert "till webhook create" in text
        assert "Data API : not checked" in text


def test_a_check_that_breaks_is_no_check_that_found_nothing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Iterator[Any]:
        yield "Stripe key", lambda: []
        yield "Data API", lambda: [][1]

    monkeypatch.setattr("cli.dashboard.doctor._elsewhere", broken)
    browser.post("/doctor/check")
    text = until(
        lambda: " checked " in (told := browser.see("/doctor")) and "checking since" not in told and told
    )
    assert "Data API could not be checked (IndexError)" in text
    assert "Data API : wrong" in text


def test_a_page_does_not_wait_for_a_stripe_that_hangs(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hanging(*_: Any) -> Iterator[Any]:
        def check() -> list[Finding]:
            answers.wait(30)
            return [Finding("stripe", "it hung", "wait")]

        yield "Stripe", check

    monkeypatch.setattr("cli.dashboard.doctor._elsewhere", hanging)
    browser.post("/doctor/check")
    assert "Checking Stripe …" in browser.see("/doctor")
    assert 'data-refresh="2"' in browser.get("/doctor").text
    browser.post("/doctor/check")  # one at a time
    answers.set()
    text = until(
        lambda: "it hung" in (told := browser.see("/doctor")) and "checking since" not in told and told
    )
    assert text.count("it hung") == 1
    assert "data-refresh" not in browser.get("/doctor").text


def test_one_thread_looks_and_an_error_is_a_finding() -> None:
    from cli.output import CliError

    checkup = Checkup()

    def failing() -> Iterator[Any]:
        raise CliError("POSTGRES_URL leads nowhere: correct it")
        yield

    checkup.start(failing)
    until(lambda: not checkup.is_running)
    [[finding]] = checkup.results.values()
    assert isinstance(finding, Finding)
    assert (finding.what, finding.mend) == ("POSTGRES_URL leads nowhere", "correct it")
    assert checkup.checked_at is not None
