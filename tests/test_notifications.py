"""`till notifications`: what is listed, what is queued again, and a test that arrives or says why it did not."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from cli.main import main
from tests.sql.test_notifications import settle, statuses, take, tell
from tests.support import Database
from tests.worker.inboxes import MailServer, Webhook, mail_server, webhook

Connection = psycopg.Connection[Any]
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `till notifications` within this process: its stdout and stderr."""
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: str, exits: int = 0, **variables: str) -> tuple[str, str]:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["till", "notifications", *words])
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == exits, captured.err
        return captured.out, captured.err

    return run


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with database.connect("billing_worker") as connection:
        yield connection


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


def test_dead_ones_are_listed_with_their_reason_and_queued_again(
    conn: Connection, worker: Connection, run: Run
) -> None:
    tell(conn, kind="silence")
    tell(conn, kind="event_dead")
    first, second = take(worker)
    settle(worker, first)
    settle(worker, second, "dead", reason="mailto-1: 550 no such mailbox")
    out, _ = run("list", "--status", "dead", "--json")
    (listed,) = json.loads(out)
    assert (listed["kind"], listed["last_error"]) == ("event_dead", "mailto-1: 550 no such mailbox")
    out, _ = run("list")
    assert "silence" in out
    assert "550 no such mailbox" in out
    out, _ = run("retry", "--status", "dead", "--json")
    assert json.loads(out) == [{"id": second["id"], "status": "queued"}]
    assert statuses(conn) == {"delivered": 1, "queued": 1}
    out, _ = run("retry", str(first["id"]), "--json")
    assert json.loads(out) == [{"id": first["id"], "status": "delivered"}]


def test_wrong_usage_and_unknown_ids_are_named(run: Run) -> None:
    run("retry", exits=2)
    run("retry", "1", "--status", "dead", exits=2)
    run("retry", "--status", "delivered", exits=2)
    _, err = run("retry", "404", exits=1)
    assert "there is no notification 404 (TB065)" in err


def test_a_test_arrives_by_every_channel(run: Run, mail: MailServer, hook: Webhook) -> None:
    out, _ = run("test", "--json", TILLBASE_NOTIFY_URLS=f"{mail.url} {hook.url}")
    assert [row["outcome"] for row in json.loads(out)] == ["sent", "sent"]
    assert mail.mails[0].message["Subject"] == hook.bodies[0]["title"] == "A test of Tillbase's notifications"


def test_a_test_for_a_customer_goes_to_the_address_given(run: Run, mail: MailServer) -> None:
    run("test", "--to", "ada@example.com", TILLBASE_CUSTOMER_MAIL_URL=mail.url)
    assert [letter.recipients for letter in mail.mails] == [["ada@example.com"]]


def test_a_test_that_fails_says_why_without_secrets(run: Run, mail: MailServer, hook: Webhook) -> None:
    hook.status = 404
    out, err = run("test", "--json", exits=1, TILLBASE_NOTIFY_URLS=f"{mail.url} {hook.url}")
    told = json.loads(out)
    assert [row["outcome"] for row in told] == ["sent", "failed"]
    assert "error=404" in told[1]["reason"]
    assert "1 of 2 channels" in err
    assert "s3cret-t0ken" not in out + err


@pytest.mark.parametrize("words", [[], ["--to", "ada@example.com"]])
def test_without_a_url_the_variable_is_named(run: Run, words: list[str]) -> None:
    _, err = run("test", *words, exits=1)
    assert ("TILLBASE_CUSTOMER_MAIL_URL" if words else "TILLBASE_NOTIFY_URLS") in err
