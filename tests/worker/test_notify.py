"""Notifications arrive in a real SMTP server and a real webhook: nothing lost, nothing twice, nothing given away."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from tests.sql.calls import fetch, value
from tests.sql.test_notifications import WINDOW, let_pass, opt_in, tell
from tests.support import Database, account_of, as_worker, create_user
from tests.worker.conftest import end, work
from tests.worker.inboxes import HOST, MailServer, Webhook, mail_server, webhook
from worker.errors import SettingsError
from worker.jobs.channels import Channel, administrator_channels, customer_channel
from worker.jobs.notify import Notifier
from worker.jobs.run import Jobs
from worker.run import run
from worker.settings import Settings

Connection = psycopg.Connection[Any]
DEADLINE_SECONDS = 60
A_WHILE = timedelta(minutes=16)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with as_worker(database) as connection:
        yield connection


@pytest.fixture
def account(database: Database, conn: Connection) -> UUID:
    return account_of(conn, create_user(database, "ada@example.com"))


class Sender(Notifier):
    """A notifier whose work is done at once, and whose channels' rest is over when the test says so."""

    now = 0.0

    @classmethod
    def to(cls, *urls: str, customers: str | None = None, templates: Path | None = None) -> "Sender":
        channels = administrator_channels(urls)
        sender = cls(channels, customers and customer_channel(customers), templates)
        for channel in [*channels, *([sender._customer_mail] if sender._customer_mail else [])]:
            channel.clock = lambda: sender.now
        return sender

    def work(self, worker: Connection, conn: Connection | None = None) -> int:
        """Take, send and settle what is due; with `conn`, what is due in a while too."""
        if conn is not None:
            let_pass(conn, A_WHILE)
            self.now += A_WHILE.total_seconds()
        return len(work(worker, self, *self.kinds))


@pytest.fixture
def sender() -> Callable[..., Sender]:
    return Sender.to


def say(
    conn: Connection, kind: str, payload: dict[str, Any], account: UUID | None = None, audience: str = "administrators"
) -> None:  # fmt: skip
    conn.execute(
        "insert into billing.notifications (account_id, audience, kind, dedupe_key, payload) "
        "values (%s, %s, %s, gen_random_uuid(), %s)",
        [account, audience, kind, Jsonb(payload)],
    )


def states(conn: Connection) -> list[tuple[str, str | None]]:
    rows = fetch(conn, "select status, last_error from billing.notifications order by id")
    return [(row["status"], row["last_error"]) for row in rows]


WARNING = {
    "stripe_charge_id": "ch_1", "amount": 1900, "currency": "usd", "reason": "made_with_stolen_card",
    "risk_level": "elevated",
}  # fmt: skip


def test_administrators_are_notified_by_mail_and_by_webhook(
    conn: Connection,
    worker: Connection,
    mail: MailServer,
    hook: Webhook,
    account: UUID,
    sender: Callable[..., Sender],
) -> None:
    say(conn, "fraud_warning", WARNING, account)
    assert sender(mail.url, hook.url).work(worker) == 1
    (letter,) = mail.mails
    assert (letter.sender, letter.recipients) == ("till@example.org", ["ops@example.com"])
    assert letter.message["Subject"] == "Early fraud warning: 19.00 usd"
    assert letter.message["Auto-Submitted"] == "auto-generated"
    for line in ("made with stolen card", "Risk: elevated", "Charge: ch_1", f"Account: {account}"):
        assert line in letter.text
        assert line in letter.html
    ((headers, body),) = hook.posts
    assert (body["title"], body["kind"], body["payload"]) == (
        "Early fraud warning: 19.00 usd",
        "fraud_warning",
        WARNING,
    )
    assert letter.message["Message-ID"] == f"<{headers['Idempotency-Key']}@example.org>"
    assert body["notification"] == headers["Idempotency-Key"]
    assert states(conn) == [("delivered", None)]


def test_a_mail_server_that_is_down_for_a_while_loses_nothing_and_doubles_nothing(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    kinds = ["fraud_warning", "dispute_opened", "silence"]
    notifier = sender(mail.url, hook.url)
    mail.stop()
    for kind in kinds:
        say(conn, kind, WARNING)
    notifier.work(worker)
    for _ in range(5):
        notifier.work(worker, conn)
    assert [body["kind"] for body in hook.bodies] == kinds
    assert [status for status, _ in states(conn)] == ["queued"] * 3
    assert all("ConnectionRefusedError" in (error or "") for _, error in states(conn))
    mail.start()
    for _ in range(3):
        notifier.work(worker, conn)
    assert len(mail.mails) == len({letter.message["Message-ID"] for letter in mail.mails}) == 3
    assert len(hook.posts) == 3
    assert states(conn) == [("delivered", None)] * 3


def test_ten_thousand_warnings_at_once_are_one_mail(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    conn.execute(
        "insert into billing.notifications (audience, kind, dedupe_key, payload) "
        "select 'administrators', 'fraud_warning', 'w' || n, jsonb_build_object('amount', 100 * n, 'currency', 'usd') "
        "from generate_series(1, 10000) as n"
    )
    notifier = sender(mail.url, hook.url)
    notifier.work(worker)
    notifier.work(worker)
    (letter,) = mail.mails
    assert letter.message["Subject"] == "10,000 × Early fraud warning: 1.00 usd"
    for line in ("Early fraud warning: 1.00 usd", "Early fraud warning: 5.00 usd", "and 9,995 more"):
        assert line in letter.text
    assert [body["count"] for body in hook.bodies] == [10_000]


def test_what_comes_after_the_rate_is_used_up_waits_for_a_digest(
    conn: Connection, worker: Connection, mail: MailServer, sender: Callable[..., Sender]
) -> None:
    notifier = sender(mail.url)
    for _ in range(50):
        tell(conn)
        notifier.work(worker)
    assert len(mail.mails) == 5
    let_pass(conn, WINDOW)
    notifier.work(worker)
    assert len(mail.mails) == 6
    assert "45 ×" in mail.mails[-1].message["Subject"]


def test_a_failing_channel_delays_no_other_and_is_skipped_for_a_while(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    mail.refuses_password = True
    notifier = sender(mail.url_with("bob", "hunter2"), hook.url)
    conn.execute("update billing.settings set notification_rate = 1000")
    for _ in range(20):
        tell(conn)
    notifier.work(worker)
    assert (mail.connections, len(hook.posts)) == (1, 20)
    assert all("535" in (reason or "") for _, reason in states(conn))
    mail.refuses_password = False
    notifier.work(worker, conn)
    assert (len(mail.mails), len(hook.posts)) == (20, 20)


def test_a_failing_webhook_is_retried_and_its_reason_is_kept(
    conn: Connection, worker: Connection, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    hook.status = 503
    tell(conn)
    notifier = sender(hook.url)
    notifier.work(worker)
    ((status, reason),) = states(conn)
    assert (status, "error=503" in (reason or "")) == ("queued", True)
    hook.status = 200
    notifier.work(worker, conn)
    assert len(hook.posts) == 1


@pytest.mark.parametrize(
    ("refusal", "status"), [("550 no such mailbox", "dead"), ("451 come back later", "queued")]
)
def test_a_permanently_refused_address_is_dead_and_a_temporarily_refused_one_is_retried(
    conn: Connection,
    worker: Connection,
    mail: MailServer,
    account: UUID,
    sender: Callable[..., Sender],
    refusal: str,
    status: str,
) -> None:
    opt_in(conn, "low_balance", "receipt")
    mail.refusals["ada@example.com"] = refusal
    notifier = sender(customers=mail.url)
    say(conn, "receipt", {"credits": 5, "amount": 100, "currency": "usd"}, account, "customer")
    notifier.work(worker)
    assert states(conn) == [(status, f"customer: {refusal}")]
    # It is no trouble of the server's: others are written to at once.
    del mail.refusals["ada@example.com"]
    say(conn, "low_balance", {"available": 5, "threshold": 10}, account, "customer")
    notifier.work(worker)
    assert len(mail.mails) == 1
    conn.execute("select billing.retry_notification(id) from billing.notifications where status = 'dead'")
    notifier.work(worker, conn)
    assert [letter.message["Subject"] for letter in mail.mails][1:] == ["5 credits for 1.00 usd"]


def test_one_refused_administrator_does_not_stop_the_others(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    mail.refusals["gone@example.com"] = "550 no such mailbox"
    notifier = sender(mail.url.replace("/ops@", "/gone@example.com/ops@"), hook.url)
    tell(conn)
    notifier.work(worker)
    notifier.work(worker, conn)
    assert [letter.recipients for letter in mail.mails] == [["ops@example.com"]]
    assert len(hook.posts) == 1
    ((status, reason),) = states(conn)
    assert (status, "550 no such mailbox" in (reason or "")) == ("dead", True)


def test_without_opt_in_no_customer_is_written_to(
    conn: Connection, worker: Connection, mail: MailServer, account: UUID, sender: Callable[..., Sender]
) -> None:
    say(conn, "low_balance", {"available": 5, "threshold": 10}, account, "customer")
    notifier = sender(mail.url, customers=mail.url)
    notifier.work(worker)
    assert mail.mails == []
    assert states(conn)[0][0] == "skipped"
    opt_in(conn, "low_balance")
    say(conn, "low_balance", {"available": 4, "threshold": 10}, account, "customer")
    notifier.work(worker)
    (letter,) = mail.mails
    assert letter.recipients == ["ada@example.com"]
    assert letter.message["To"] == "ada@example.com"
    assert letter.message["Subject"] == "Your credits are running low: 4 left"


def test_an_account_without_an_owner_is_skipped(
    database: Database, conn: Connection, worker: Connection, mail: MailServer, sender: Callable[..., Sender]
) -> None:
    team = value(conn, "insert into billing.accounts (kind, name) values ('team', 'A') returning id")
    opt_in(conn, "receipt")
    say(conn, "receipt", {"credits": 5, "amount": 100, "currency": "usd"}, team, "customer")
    sender(customers=mail.url).work(worker)
    assert states(conn) == [("skipped", "the account has no owner with an e-mail address")]


EVIL = (
    "<script>alert(1)</script>\r\nBcc: thief@example.com\r\n\r\n@everyone <!channel> {{ 7 * 7 }} {% raise %}"
)


def test_a_payload_never_adds_markup_or_a_header(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    say(conn, "event_dead", {"type": EVIL, "reason": EVIL, "stripe_event_id": EVIL})
    say(conn, "event_waiting", {"type": EVIL, "reason": EVIL, "url": "javascript:alert(1)", EVIL: EVIL})
    say(
        conn,
        "recharge_requires_action",
        {"amount": 1, "currency": EVIL, "credits": 5, "url": f"https://x/{EVIL}"},
    )
    sender(mail.url, hook.url).work(worker)
    assert len(mail.mails) == 3
    for letter in mail.mails:
        assert letter.recipients == ["ops@example.com"]
        assert "Bcc" not in letter.message
        assert "<script" not in letter.html
        assert re.findall(r'href="[^"]*"', letter.html) == []
        assert "{{ 7 * 7 }}" in letter.text + letter.message["Subject"]
        assert "@everyone" not in letter.text
        assert "<!channel" not in letter.text
    assert "&lt;script&gt;" in mail.mails[0].html
    assert not any("<" in body["title"] for body in hook.bodies)
    assert [body["kind"] for body in hook.bodies] == [
        "event_dead",
        "event_waiting",
        "recharge_requires_action",
    ]
    assert states(conn) == [("delivered", None)] * 3


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com\r\nBcc: thief@example.com",
        "ada@example.com, thief@example.com",
        "<ada@example.com>",
        "thief@example.com <ada@example.com>",
        "no address",
    ],
)
def test_mail_is_only_sent_to_plain_addresses(
    conn: Connection,
    worker: Connection,
    mail: MailServer,
    account: UUID,
    sender: Callable[..., Sender],
    address: str,
) -> None:
    conn.execute("update auth.users set email = %s", [address])
    opt_in(conn, "receipt")
    say(conn, "receipt", {"credits": 5, "amount": 100, "currency": "usd"}, account, "customer")
    sender(customers=mail.url).work(worker)
    assert mail.mails == []
    ((status, reason),) = states(conn)
    assert (status, "cannot write to that address" in (reason or "")) == ("dead", True)


def test_a_kind_that_is_not_known_is_an_error(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="notification_kind_is_known"):
        say(conn, "meteor_struck", {})
    with pytest.raises(psycopg.errors.CheckViolation, match="notification_kind_is_known"):
        conn.execute("update billing.settings set customer_notifications = '{receipt,meteor_struck}'")


def test_a_payload_that_does_not_fit_its_template_is_sent_with_the_default(
    conn: Connection, worker: Connection, mail: MailServer, sender: Callable[..., Sender]
) -> None:
    say(conn, "low_balance", {"available": "none"})
    with capture_logs() as logs:
        sender(mail.url).work(worker)
    assert "available: none" in mail.mails[0].text
    assert [line["event"] for line in logs if line["event"] == "template_failed"] == ["template_failed"]


def test_the_operators_own_templates_come_first(
    conn: Connection, worker: Connection, mail: MailServer, tmp_path: Path, sender: Callable[..., Sender]
) -> None:
    (tmp_path / "silence.txt").write_text(
        "{% block subject %}Stille{% endblock %}{% block text %}{{ hours }} h{% endblock %}"
    )
    (tmp_path / "event_dead.txt").write_text("{% block subject %}{% nonsense %}")
    say(conn, "silence", {"hours": 49})
    say(conn, "event_dead", {"type": "invoice.paid"})
    say(conn, "account_frozen", {"reason": "why"})
    sender(mail.url, templates=tmp_path).work(worker)
    assert [letter.message["Subject"] for letter in mail.mails] == [
        "Stille",
        "event dead",
        "An account was frozen",
    ]
    assert mail.mails[0].text.strip() == "49 h"


def test_secrets_are_in_no_log_and_in_no_row(
    conn: Connection, worker: Connection, mail: MailServer, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    mail.refuses_password = True
    hook.status = 404
    urls = [
        mail.url_with("postmaster", "hunter2%40home"),
        hook.url,
        f"json://bob:pa55word@{HOST}:1/hooks/other-t0ken?+X-Key=k3y-of-mine",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?cto=0.01&rto=0.01",
    ]
    tell(conn)
    with capture_logs() as logs:
        sender(*urls).work(worker)
    told = f"{logs} {states(conn)} {administrator_channels(urls)}"
    assert "535" in told
    for secret in (
        "hunter2",
        "s3cret-t0ken",
        "pa55word",
        "other-t0ken",
        "k3y-of-mine",
        "TIiajkdnlazkcOXrIdevi7FQ",
    ):
        assert secret not in told


def test_a_servers_answer_is_kept_without_secrets(
    conn: Connection, worker: Connection, mail: MailServer, sender: Callable[..., Sender]
) -> None:
    mail.refusals["ops@example.com"] = "550 bob:hunter2 may not write here, nor may hunter2@home"
    tell(conn)
    with capture_logs() as logs:
        sender(mail.url_with("bob", "hunter2%40home")).work(worker)
    ((status, reason),) = states(conn)
    assert (status, "550" in (reason or "")) == ("dead", True)
    assert "hunter2@home" not in f"{reason} {logs}"


def test_a_crashing_channel_does_not_repeat_the_others_or_log_its_message(
    conn: Connection, worker: Connection, hook: Webhook, sender: Callable[..., Sender]
) -> None:
    def break_down(*_: Any) -> None:
        raise RuntimeError("s3cret")

    notifier = sender(hook.url)
    notifier._channels.append(Channel("broken", (), break_down, clock=lambda: notifier.now))
    tell(conn)
    with capture_logs() as logs:
        notifier.work(worker)
        notifier.work(worker, conn)
    assert len(hook.posts) == 1
    assert states(conn) == [("queued", "broken: RuntimeError")]
    assert "s3cret" not in str(logs)


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"TILLBASE_NOTIFY_URLS": "json://127.0.0.1/ok nonsense://s3cret"}, "TILLBASE_NOTIFY_URLS, no. 2"),
        ({"TILLBASE_CUSTOMER_MAIL_URL": "json://127.0.0.1/s3cret"}, "is no mailto://"),
        ({"TILLBASE_CUSTOMER_MAIL_URL": "mailto://u:s3cret@example.com?cc=a@example.com"}, "has cc or bcc"),
        ({"TILLBASE_CUSTOMER_MAIL_URL": "s3cret"}, "TILLBASE_CUSTOMER_MAIL_URL"),
        ({"TILLBASE_TEMPLATES": "/no/such/place"}, "TILLBASE_TEMPLATES"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_setting_is_named_without_its_secrets(variables: dict[str, str], what: str) -> None:
    with pytest.raises(SettingsError, match=what) as refusal:
        Notifier.of(Settings.from_env({"POSTGRES_URL": "postgresql://localhost/x"} | variables))
    assert "s3cret" not in str(refusal.value)


def test_a_stopping_worker_releases_notifications_that_it_has_not_begun(
    conn: Connection, worker: Connection, mail: MailServer, sender: Callable[..., Sender]
) -> None:
    conn.execute("update billing.settings set notification_rate = 1000")
    for _ in range(3):
        tell(conn)
    stopping, is_begun, goes_on = sender(mail.url), threading.Event(), threading.Event()
    stopping.threads = 1

    def wait_before(_message: Any, _address: str) -> None:
        is_begun.set()
        goes_on.wait(DEADLINE_SECONDS)

    stopping._channels.insert(0, Channel("slow", (), wait_before))
    jobs = Jobs(dict.fromkeys(stopping.kinds, stopping))
    jobs.tick(worker, 0)
    assert is_begun.wait(DEADLINE_SECONDS)
    threading.Timer(0.1, goes_on.set).start()
    end(jobs, worker)
    jobs.close()
    assert sorted(status for status, _ in states(conn)) == ["delivered", "queued", "queued"]
    assert len(mail.mails) == 1
    assert sender(mail.url).work(worker) == 2
    assert len(mail.mails) == 3


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_concurrent_workers_send_each_mail_once(
    database: Database, conn: Connection, mail: MailServer
) -> None:
    conn.execute("update billing.settings set notification_rate = 1000")
    for _ in range(30):
        tell(conn)
    stop = threading.Event()
    settings = Settings(database.url, notify_urls=(mail.url,))
    workers = [threading.Thread(target=run, args=[settings, stop]) for _ in range(2)]
    for thread in workers:
        thread.start()
    try:
        until(lambda: {status for status, _ in states(conn)} == {"delivered"})
    finally:
        stop.set()
        for thread in workers:
            thread.join()
    assert len(mail.mails) == len({letter.message["Message-ID"] for letter in mail.mails}) == 30


def start_worker(database: Database, log_path: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker"],
            env=os.environ | {"POSTGRES_URL": database.url} | environment,
            stderr=log,
        )


def test_a_worker_killed_between_sending_and_settling_repeats_under_the_same_message_id(
    database: Database, conn: Connection, mail: MailServer, tmp_path: Path
) -> None:
    log_path = tmp_path / "log"
    environment = {"TILLBASE_NOTIFY_URLS": mail.url_with("bob", "hunter2")}
    worker = start_worker(database, log_path, **environment)

    def kill() -> None:
        worker.kill()
        worker.wait()

    mail.before_answer = kill
    tell(conn)
    until(lambda: worker.poll() is not None)
    assert worker.returncode == -signal.SIGKILL
    mail.before_answer = lambda: None
    assert [status for status, _ in states(conn)] == ["sending"]
    worker = start_worker(database, log_path, **environment)
    try:
        until(lambda: states(conn) == [("delivered", None)])
    finally:
        worker.terminate()
    assert worker.wait(DEADLINE_SECONDS) == 0
    assert len(mail.mails) == 2
    assert len({letter.message["Message-ID"] for letter in mail.mails}) == 1
    assert "hunter2" not in log_path.read_text()


def test_a_worker_stops_with_one_line_if_a_url_is_invalid(database: Database, tmp_path: Path) -> None:
    worker = start_worker(database, tmp_path / "log", TILLBASE_NOTIFY_URLS="nonsense://s3cret")
    assert worker.wait(DEADLINE_SECONDS) == 1
    *_, line = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("error: TILLBASE_NOTIFY_URLS, no. 1")
    assert "s3cret" not in (tmp_path / "log").read_text()


def test_a_running_worker_reports_silence(database: Database, conn: Connection, hook: Webhook) -> None:
    conn.execute(
        "select billing.receive_stripe_event(event_id => 'evt_1', type => 'x', api_version => null, created => 1, "
        "livemode => false, payload => '{}')"
    )
    conn.execute("delete from pgmq.q_stripe_events")
    conn.execute(
        "update billing.stripe_events set received_at = now() - interval '3 days', settled_at = now(), "
        "status = 'applied'"
    )
    conn.execute(
        "insert into billing.customers (stripe_customer_id, livemode, as_of) values ('cus_1', false, now())"
    )
    conn.execute(
        "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, livemode, status, "
        "billing_cycle_anchor, anchors, started_at, as_of) "
        "values ('sub_1', 'cus_1', false, 'active', now(), array[now()], now(), now())"
    )
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[Settings(database.url, notify_urls=(hook.url,)), stop])
    thread.start()
    try:
        until(lambda: hook.posts)
    finally:
        stop.set()
        thread.join()
    assert hook.bodies[0]["title"] == "Nothing from Stripe for 72 hours"
