"""`till fraud`: read, decided and undone on real Postgres; evidence submitted to the local Stripe."""

import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cli.evidence import FIELD_LENGTH_MAX, TEXTS, Facts, check, evidence_of
from cli.main import main
from cli.output import CliError
from tests.sql.calls import balances, record_fraud_warning, spend, sync_dispute, sync_payment
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, opened
from tests.worker.events import Event
from worker.events.fetch import StripeReader

Run = Callable[..., Any]
WARNING = "issfr_1"


@pytest.fixture
def run(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Run `till fraud` within this process, in a directory of its own: its stdout and stderr."""
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "fraud", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


def told(run: Run, *arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").out)


@pytest.fixture
def account(database: Database) -> UUID:
    """Eve's, whose charge of the highest risk was warned of; the account is frozen."""
    user_id = create_user(database, "eve@example.com")
    with database.connect() as conn:
        account_id = account_of(conn, user_id)
        conn.execute("select billing.link_customer(%s, 'cus_1')", [account_id])
        with database.connect("billing_worker") as worker:
            charged_at = datetime.now(UTC) - timedelta(days=1)
            sync_payment(worker, risk_level="highest", risk_score=91, charged_at=charged_at)
            record_fraud_warning(worker)
        return account_id


@pytest.mark.usefixtures("account")
def test_open_warnings_are_listed_with_what_was_done(run: Run) -> None:
    shown = run("list").out
    for word in (WARNING, "eve@example.com (frozen)", "20.00 usd", "highest 90", "freeze_account done"):
        assert word in shown
    (row,) = told(run, "list")
    assert (row["email"], row["is_frozen"], row["actions"]) == (
        "eve@example.com",
        True,
        ["freeze_account done"],
    )
    assert told(run, "list", "--status", "closed") == []
    assert "no closed warnings" in run("list", "--status", "closed").err


def test_disputes_and_reviews_are_listed_too(run: Run, account: UUID, database: Database) -> None:
    with database.connect("billing_worker") as worker:
        sync_dispute(worker)
    assert "du_1" in run("list", "disputes").out
    assert [row["account_id"] for row in told(run, "list", "disputes")] == [str(account)]
    assert told(run, "list", "disputes", "--status", "closed") == []
    assert "no open reviews" in run("list", "reviews").err
    assert told(run, "show", "du_1")["status"] == "needs_response"


@pytest.mark.usefixtures("account")
def test_a_warning_is_shown_with_actions_and_what_the_policy_would_do(run: Run) -> None:
    shown = told(run, "show", WARNING)
    assert [action["action"] for action in shown["actions"]] == ["alert", "freeze_account"]
    assert [judged["reason"] for judged in shown["policy_now"]] == ["it is done already"] * 2
    text = run("show", WARNING).out
    assert "What was done" in text
    assert "risk highest" in text


def test_a_warning_is_worked_from_alert_to_resolution(run: Run, account: UUID, database: Database) -> None:
    by = ("--actor", "ada@example.com", "--json")
    run("note", WARNING, "called the customer", *by)
    action = next(
        row["id"] for row in told(run, "show", WARNING)["actions"] if row["action"] == "freeze_account"
    )
    assert told(run, "undo", action, "--reason", "it was her", *by[:2])["status"] == "undone"
    dry = run("refund", WARNING, "--reason", "goodwill", *by)
    assert json.loads(dry.out)["dry_run"]
    assert "--yes" in dry.err
    assert [row["action"] for row in told(run, "show", WARNING)["actions"]].count("refund") == 0
    refund = json.loads(run("refund", WARNING, "--reason", "goodwill", "--yes", *by).out)
    assert (refund["status"], refund["amount"]) == ("queued", 2000)
    assert told(run, "undo", refund["id"], "--reason", "too soon", *by[:2])["status"] == "undone"
    resolved = told(run, "resolve", WARNING, "--as", "dismissed", "--reason", "no fraud", *by[:2])
    assert (resolved["status"], resolved["notes"]) == ("dismissed", "no fraud")
    assert told(run, "list") == []
    with database.connect() as conn:
        rows = conn.execute("select distinct actor from billing.fraud_actions where actor <> 'policy'")
        assert rows.fetchall() == [("ada@example.com",)]
        assert balances(conn, account)["may_spend"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["show", "issfr_none"], "till fraud list"),
        (["resolve", "issfr_none", "--reason", "x"], "TB072"),
        (["note", "issfr_none", "x"], "TB072"),
        (["refund", "issfr_none", "--reason", "x", "--yes"], "TB072"),
        (["undo", "7", "--reason", "x"], "TB075"),
        (["evidence", "du_none"], "till fraud list disputes"),
        (["accept", "du_none"], "till fraud list disputes"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else part,
)
def test_a_refusal_is_one_line_that_says_what_to_do(run: Run, arguments: list[str], word: str) -> None:
    refused = run(*arguments, expect=1)
    assert refused.out == ""
    assert word in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["resolve", WARNING, "--as", "closed", "--reason", "x"],
        ["policy", "--set", "highest.refund"],
        ["policy", "--set", "highest.refund=maybe"],
        ["policy", "--set", "highest.refund_max=0"],
        ["policy", "--set", "highest.refund_age=soon"],
        ["policy", "--set", "tallest.refund=on"],
        ["policy", "--set", "refund=on"],
        ["policy", "--set", "shortfall=none"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    run(*arguments, expect=2)


# Policy


def level(shown: Any, name: str) -> dict[str, Any]:
    return next(row for row in shown["policy"] if row["risk_level"] == name)


def test_the_policy_is_read_as_a_table(run: Run) -> None:
    shown = run("policy").out
    assert shown.splitlines()[1].split() == ["highest", "on", "on", "off", "any", "7", "days", "off"]
    assert "clamp_and_record" in shown
    assert level(told(run, "policy"), "highest")["freeze_account"] is True


def test_a_change_is_shown_first_and_made_with_yes(run: Run) -> None:
    changes = [
        "--set", "highest.refund=on", "--set", "highest.refund_max=5000", "--set", "all.refund_age=14d",
        "--set", "elevated.freeze=on", "--set", "highest.cancel=on", "--set", "dry_run=on",
        "--set", "shortfall=allow_negative",
    ]  # fmt: skip
    tried = told(run, "policy", *changes)
    assert tried["dry_run"]
    assert level(tried, "highest")["refund_amount_max"] == 5000
    assert level(told(run, "policy"), "highest")["refund"] is False
    assert "on *" in run("policy", *changes).out
    run("policy", *changes, "--yes")
    made = told(run, "policy")
    assert level(made, "highest") == {
        "risk_level": "highest", "alert": True, "freeze_account": True, "refund": True,
        "refund_amount_max": 5000, "refund_age_max": "14 days", "cancel_subscription": True,
    }  # fmt: skip
    assert level(made, "elevated")["freeze_account"] is True
    assert {row["refund_age_max"] for row in made["policy"]} == {"14 days"}
    assert (made["dry_run"], made["shortfall"]) == (True, "allow_negative")
    assert "dry run" in run("policy").out
    run("policy", "--set", "highest.refund_max=any", "--yes")
    assert level(told(run, "policy"), "highest")["refund_amount_max"] is None


@pytest.mark.usefixtures("account")
def test_a_policy_is_tried_on_the_open_warnings(run: Run, database: Database) -> None:
    now = told(run, "policy", "--preview")["preview"]
    assert [(row["action"], row["is_due"]) for row in now] == [("alert", False), ("freeze_account", False)]
    tried = told(run, "policy", "--set", "highest.refund=on")["preview"]
    assert [(row["action"], row["amount"]) for row in tried if row["is_due"]] == [("refund", 2000)]
    assert "20.00 usd" in run("policy", "--set", "highest.refund=on").out
    with database.connect() as conn:
        assert conn.execute("select from billing.fraud_actions where action = 'refund'").fetchall() == []


# Evidence


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def disputed(database: Database, local: Local, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shop, str]]:
    """A shop in which a pack was bought, used and disputed; and the dispute's id."""
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    monkeypatch.setenv("STRIPE_API_BASE", local.url)
    monkeypatch.setattr("cli.stripe_key.REQUEST_RETRIES", 0)
    with opened(database, StripeReader(KEY, local.url)) as shop:
        user_id = create_user(database, "ada@example.com")
        with database.connect(admin=True) as admin:
            admin.execute("alter table auth.sessions add column ip inet, add column user_agent text")
            admin.execute(
                "insert into auth.sessions (id, user_id, created_at, ip, user_agent) "
                "values (gen_random_uuid(), %s, now() - interval '1 hour', '203.0.113.7', 'Firefox')",
                [user_id],
            )
        shop.app.execute("update billing.settings set refund_policy = 'Refunds within 14 days.'")
        account = account_of(shop.app, user_id)
        customer = local.customer(name="Ada Lovelace", email="ada@example.com")
        shop.app.execute("select billing.link_customer(%s, %s)", [account, customer.id])
        price = local.price(2000, None, metadata={"pack_credits": "500"})
        session = local.client.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": customer.id,
                "line_items": [{"price": price.id, "quantity": 1}],
                "success_url": "https://app.example",
            }
        )
        local.control(f"checkout_sessions/{session.id}/complete", {"payment_method": "pm_card_visa"})
        tell(shop, local)
        spend(shop.app, account, 120, description="Rendered a film")
        (charge,) = local.world.store.all("charge")
        dispute = local.control(f"charges/{charge['id']}/dispute")["id"]
        tell(shop, local)
        yield shop, dispute


def tell(shop: Shop, local: Local) -> None:
    shop.receive(
        *(
            Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
            for body in local.world.events.bodies()
        )
    )
    shop.drain()


def test_evidence_is_what_the_database_knows(
    run: Run, disputed: tuple[Shop, str], local: Local, tmp_path: Path
) -> None:
    _, dispute = disputed
    shown = told(run, "evidence", dispute)
    found = shown["evidence"]
    assert shown["submitted"] is False
    assert json.loads((tmp_path / f"evidence_{dispute}.json").read_text()) == found
    assert (found["customer_name"], found["customer_email_address"]) == ("Ada Lovelace", "ada@example.com")
    assert found["customer_purchase_ip"] == "203.0.113.7"
    assert found["refund_policy_disclosure"] == "Refunds within 14 days."
    assert "500 credits" in found["product_description"]
    assert f"{datetime.now(UTC):%d %B %Y}" in found["service_date"]
    log = found["access_activity_log"].splitlines()
    assert any("signed in (IP address 203.0.113.7, Firefox)" in line for line in log)
    assert log[-1].endswith("used 120 credits: Rendered a film")
    assert "gave 500 credits, of which 120 were used since" in found["uncategorized_text"]
    assert "20.00 usd" in found["uncategorized_text"]
    # Nothing went to Stripe.
    assert local.client.disputes.retrieve(dispute).evidence_details.submission_count == 0
    assert "Refunds within 14 days." in run("evidence", dispute).out


@pytest.mark.parametrize(
    ("magic", "status", "balance"), [("winning_evidence", "won", 380), ("losing_evidence", "lost", 0)]
)
def test_evidence_is_submitted_once_as_the_file_says(
    run: Run, disputed: tuple[Shop, str], local: Local, tmp_path: Path, magic: str, status: str, balance: int
) -> None:
    shop, dispute = disputed
    file = tmp_path / "mine.json"
    run("evidence", dispute, "--file", file)
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600  # names, addresses
    edited = json.loads(file.read_text()) | {"uncategorized_text": magic}
    file.write_text(json.dumps(edited))
    done = told(run, "evidence", dispute, "--file", file, "--yes")
    assert (done["submitted"], done["status"]) == (True, status)
    arrived = local.client.disputes.retrieve(dispute)
    assert {name: arrived.evidence[name] for name in edited} == edited
    assert arrived.evidence_details.submission_count == 1
    events = len(local.event_types())
    # Again: nothing more happens; other evidence is refused.
    assert told(run, "evidence", dispute, "--file", file, "--yes")["status"] == status
    assert len(local.event_types()) == events
    file.write_text(json.dumps(edited | {"customer_name": "Eve"}))
    assert "one submission" in run("evidence", dispute, "--file", file, "--yes", expect=1).err
    local.world.pretended_time = local.world.wall_time() + 60
    tell(shop, local)
    assert shop.value("select status from billing.disputes") == status
    assert shop.value("select balance from billing.credit_balances where balance > 0 or debt > 0") == (
        balance or None
    )
    shop.assert_sound()


def test_a_dispute_is_accepted_with_yes_and_its_credits_are_revoked(
    run: Run, disputed: tuple[Shop, str], local: Local
) -> None:
    shop, dispute = disputed
    tried = told(run, "accept", dispute)
    assert (tried["dry_run"], tried["status"]) == (True, "needs_response")
    assert local.client.disputes.retrieve(dispute).status == "needs_response"
    done = told(run, "accept", dispute, "--actor", "grace", "--yes")
    assert (done["dry_run"], done["status"]) == (False, "lost")
    assert local.client.disputes.retrieve(dispute).metadata["tillbase_actor"] == "grace"
    tell(shop, local)
    assert shop.app.execute("select balance from billing.credit_balances").fetchone() == (0,)
    # Again: nothing more happens. One that is won is not given away.
    assert told(run, "accept", dispute, "--yes")["status"] == "lost"
    local.control(f"disputes/{dispute}/decide", {"status": "won"})
    assert "only one that needs a response can be accepted" in run("accept", dispute, "--yes", expect=1).err


def test_a_decided_dispute_takes_no_evidence(run: Run, disputed: tuple[Shop, str], local: Local) -> None:
    _, dispute = disputed
    local.control(f"disputes/{dispute}/decide", {"status": "lost"})
    assert "takes no evidence" in run("evidence", dispute, "--yes", expect=1).err


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("[]", "not a JSON object"),
        ("{", "cannot be read as JSON"),
        ('{"customer_nam": "Ada"}', "customer_nam"),
        ('{"customer_name": 7}', "is not text"),
        ('{"receipt": "https://x"}', "file_"),
        (json.dumps({"uncategorized_text": "x" * 20_001}), "20,000"),
    ],
    ids=["list", "broken", "unknown", "number", "file", "long"],
)
def test_a_file_that_stripe_would_refuse_is_refused_before(
    run: Run, disputed: tuple[Shop, str], local: Local, tmp_path: Path, written: str, word: str
) -> None:
    _, dispute = disputed
    file = tmp_path / "mine.json"
    file.write_text(written)
    assert word in run("evidence", dispute, "--file", file, "--yes", expect=1).err
    assert file.read_text() == written
    assert local.client.disputes.retrieve(dispute).evidence_details.submission_count == 0


NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
PAYMENT: dict[str, Any] = {
    "reason": "fraudulent", "stripe_charge_id": "ch_1", "amount": 2000, "amount_refunded": 0, "currency": "usd",
    "charged_at": NOW, "receipt_url": None, "risk_level": None, "risk_score": None, "is_liability_shifted": False,
    "account_id": "a", "customer_name": None, "customer_email": None, "user_email": "ada@example.com",
    "signed_up_at": NOW, "email_confirmed_at": None, "last_sign_in_at": None,
}  # fmt: skip


def test_no_field_is_longer_than_stripe_takes_and_the_latest_usage_is_kept() -> None:
    usage = [
        {
            "occurred_at": NOW + timedelta(minutes=minute),
            "amount": -1,
            "description": f"Picture {minute} {'x' * 60}",
        }
        for minute in range(1000)
    ]
    found = evidence_of(Facts(PAYMENT, usage=usage, refund_policy="y" * 30_000))
    assert max(map(len, found.values())) <= FIELD_LENGTH_MAX
    log = found["access_activity_log"].splitlines()
    assert "earlier lines left out" in log[0]
    assert "Picture 999 " in log[-1]
    assert "1,000 credits in 1,000 actions" in found["uncategorized_text"]
    assert check(found, "it") == found
    with pytest.raises(CliError, match="150,000"):
        check(dict.fromkeys(sorted(TEXTS)[:8], "x" * FIELD_LENGTH_MAX), "it")


@pytest.mark.parametrize(
    ("canceled_at", "said"),
    [
        (None, "Subscription sub_1 has not been cancelled."),
        (NOW + timedelta(days=1), "was cancelled on 2026-11-06 12:00:00 UTC, after this payment."),
        (NOW - timedelta(days=1), None),
    ],
    ids=["never", "after", "before"],
)
def test_a_cancellation_is_rebutted_where_the_books_say_so(
    canceled_at: datetime | None, said: str | None
) -> None:
    invoice = {"stripe_subscription_id": "sub_1", "canceled_at": canceled_at, "hosted_invoice_url": None}
    payment = PAYMENT | {"reason": "subscription_canceled"}
    found = evidence_of(Facts(payment, invoices=[invoice])).get("cancellation_rebuttal")
    assert found is None if said is None else said in (found or "")
    assert "cancellation_rebuttal" not in evidence_of(Facts(PAYMENT, invoices=[invoice]))
