"""What is clicked is written: by the function of the command line, with who and why; refusals are told."""

import re
from uuid import UUID

import pytest

from tests.dashboard.conftest import ACTOR, Browser, text_of
from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    balance,
    entries,
    fetch,
    fetch_one,
    grant,
    link,
    record_fraud_warning,
    sync_payment,
    value,
)
from tests.support import Database, create_user
from tests.worker.events import Event, receive

CASE = "/fraud/issfr_1"


@pytest.fixture
def case(app: Connection, worker: Connection, account: UUID) -> UUID:
    """An open warning about a payment of 20.00 of an account that is not frozen."""
    link(app, account)
    sync_payment(worker)
    record_fraud_warning(worker, risk_level="normal", risk_score=10)
    return account


def last_action(app: Connection) -> tuple[str, str, str, str]:
    row = fetch(
        app, "select action, status, reason, actor from billing.fraud_actions order by id desc limit 1"
    )[0]
    return row["action"], row["status"], row["reason"], row["actor"]


@pytest.mark.parametrize("decision", ["resolved", "dismissed"])
def test_a_warning_is_closed_and_opened_again(
    browser: Browser, app: Connection, case: UUID, decision: str
) -> None:
    browser.act(f"{CASE}/resolve", CASE, decision=decision, reason="It was her")
    row = fetch_one(app, "select status, notes, processed_at from billing.fraud_warnings")
    assert (row["status"], row["notes"]) == (decision, "It was her")
    assert row["processed_at"]
    assert last_action(app) == ("note", "done", f"{decision}: It was her", ACTOR)
    assert "No open warnings" in browser.see("/fraud")
    assert "Reopen" in browser.see(CASE)
    browser.act(f"{CASE}/resolve", CASE, decision="open", reason="Another look")
    assert value(app, "select status from billing.fraud_warnings") == "open"


def test_a_note_is_kept_with_its_author(browser: Browser, app: Connection, case: UUID) -> None:
    assert browser.act(f"{CASE}/note", CASE, reason="Called, no answer") == "Noted."
    assert last_action(app) == ("note", "done", "Called, no answer", ACTOR)
    assert "Called, no answer" in browser.see(CASE)
    assert value(app, "select status from billing.fraud_warnings") == "open"


def test_an_account_is_frozen_and_unfrozen_from_its_case(
    browser: Browser, app: Connection, case: UUID
) -> None:
    browser.act(f"/accounts/{case}/freeze", CASE, reason="Stolen card")
    assert value(app, "select frozen_reason from billing.accounts") == "Stolen card"
    assert last_action(app) == ("freeze_account", "done", "Stolen card", ACTOR)
    page = browser.see(CASE)
    assert "Unfreeze account" in page
    browser.act(f"/accounts/{case}/unfreeze", f"/accounts/{case}", reason="It was her")
    assert value(app, "select frozen_at from billing.accounts") is None
    assert last_action(app) == ("unfreeze_account", "done", "It was her", ACTOR)


def test_a_freeze_is_undone_where_it_is_listed(browser: Browser, app: Connection, case: UUID) -> None:
    browser.act(f"/accounts/{case}/freeze", CASE, reason="Stolen card")
    action_id = value(app, "select id from billing.fraud_actions where action = 'freeze_account'")
    assert f"/fraud/actions/{action_id}/undo" in browser.get(CASE).text
    browser.act(f"/fraud/actions/{action_id}/undo", CASE, reason="A mistake")
    row = fetch_one(
        app, "select status, undone_by, undone_reason from billing.fraud_actions where id = %s", [action_id]
    )
    assert row == {"status": "undone", "undone_by": ACTOR, "undone_reason": "A mistake"}
    assert value(app, "select frozen_at from billing.accounts") is None
    assert f"/fraud/actions/{action_id}/undo" not in browser.get(CASE).text


def test_a_refund_is_asked_about_and_then_queued_once(
    browser: Browser, app: Connection, admin: Connection, case: UUID
) -> None:
    grant(app, case, 300)
    grant(app, case, 200)
    admin.execute("update billing.credit_grants set stripe_payment_intent_id = 'pi_1' where amount = 200")
    assert "Refund 20.00 USD" in browser.see(CASE)
    question = browser.post(f"{CASE}/refund", back=CASE, reason="Stolen card")
    assert question.status_code == 200
    assert "Refund 20.00 USD? Account ada@example.com Balance now 500 Balance after 300" in text_of(question)
    assert fetch(app, "select from billing.fraud_actions where action = 'refund'") == []
    for _ in range(2):
        browser.act(f"{CASE}/refund", CASE, reason="Stolen card", confirmed="yes")
    row = fetch_one(
        app, "select status, amount, actor, reason from billing.fraud_actions where action = 'refund'"
    )
    assert row == {"status": "queued", "amount": 2000, "actor": ACTOR, "reason": "Stolen card"}
    assert "Refund 20.00 USD queued" in browser.see(CASE)
    assert "…</button>" not in browser.get(CASE).text
    action_id = value(app, "select id from billing.fraud_actions where action = 'refund'")
    assert browser.act(f"/fraud/actions/{action_id}/undo", CASE, reason="No") == "Undone."


def test_what_can_not_be_refunded_is_refused_with_the_reason(
    browser: Browser, app: Connection, worker: Connection, case: UUID
) -> None:
    sync_payment(worker, is_disputed=True, as_of=JANUARY + SECOND)
    assert "Refund 20.00" not in browser.see(CASE)
    told = browser.act(f"{CASE}/refund", CASE, reason="Stolen card", confirmed="yes")
    assert told.startswith("charge ch_1 is disputed and can't be refunded (TB074).")


@pytest.mark.parametrize("path", [f"{CASE}/note", f"{CASE}/resolve", f"{CASE}/refund", "/accounts/{}/freeze"])
def test_nothing_is_done_without_a_reason(browser: Browser, app: Connection, case: UUID, path: str) -> None:
    before = fetch(app, "select * from billing.fraud_actions")
    assert "(TB" in browser.act(path.format(case), CASE, decision="resolved", reason="  ")
    assert fetch(app, "select * from billing.fraud_actions") == before
    assert value(app, "select frozen_at from billing.accounts") is None


def test_credits_are_given_once_however_often_the_form_is_sent(
    browser: Browser, app: Connection, account: UUID
) -> None:
    page = f"/accounts/{account}"
    for _ in range(2):
        told = browser.act(f"{page}/adjust", page, amount="1,500", reason="Sorry", key="dashboard:1")
        assert told == "1,500 credits were given."
    assert entries(app, account) == [("adjustment", 1500)]
    assert fetch_one(app, "select actor, description from billing.credit_entries") == {
        "actor": ACTOR,
        "description": "Sorry",
    }
    keys = {browser.get(page).text.split('name="key" value="')[1].split('"')[0] for _ in range(2)}
    assert len(keys) == 2


def test_credits_are_taken_after_a_question_and_never_below_zero(
    browser: Browser, app: Connection, account: UUID
) -> None:
    page = f"/accounts/{account}"
    grant(app, account, 100)
    question = browser.post(f"{page}/adjust", back=page, amount="-40", reason="Twice", key="dashboard:1")
    asked = text_of(question)
    assert "Take 40 credits from ada@example.com?" in asked
    assert "Balance now 100 Balance after 60" in asked
    # The safe answer has the focus.
    assert re.search(r'href="/accounts/[^"]*" autofocus>Cancel<', question.text)
    assert question.text.count("autofocus") == 1
    assert balance(app, account) == 100
    browser.act(f"{page}/adjust", page, amount="-40", reason="Twice", key="dashboard:1", confirmed="yes")
    assert balance(app, account) == 60
    for confirmed in ({"confirmed": "yes"}, {}):  # refused before it is asked about
        told = browser.act(
            f"{page}/adjust", page, amount="-61", reason="More", key="dashboard:2", **confirmed
        )
        assert "(TB001)" in told
    assert balance(app, account) == 60


@pytest.mark.parametrize("amount", ["", "0", "-0", "1.5", "1e3", "ten", "9" * 30, "--1", "٣"])
def test_an_amount_that_is_none_is_refused(
    browser: Browser, app: Connection, account: UUID, amount: str
) -> None:
    told = browser.act(f"/accounts/{account}/adjust", "/accounts", amount=amount, reason="x", key="k")
    assert told.startswith("Enter a whole number")
    assert entries(app, account) == []


@pytest.mark.parametrize(("decision", "credits"), [("approve", 100), ("refuse", 0)])
def test_held_credits_are_decided_on(
    browser: Browser, app: Connection, account: UUID, database: Database, decision: str, credits: int
) -> None:
    create_user(database, "adam@example.com")
    with database.connect(admin=True) as admin:
        admin.execute(
            "insert into billing.held_credits (account_id, kind, amount, idempotency_key, source, description, "
            "card_fingerprint, matched_account_id, held_at) select mine.id, 'initial', 100, 'initial:1', "
            "'stripe.subscription', 'Initial credits', 'card', other.id, now() "
            "from billing.accounts as mine, billing.accounts as other where mine.id = %s and other.id <> mine.id",
            [account],
        )
    assert "100 initial" in browser.see("/fraud/held")
    held_id = value(app, "select id from billing.held_credits")
    browser.act(f"/fraud/held/{held_id}/review", "/fraud/held", decision=decision, reason="Siblings")
    assert balance(app, account) == credits
    assert value(app, "select reviewed_by from billing.held_credits") == ACTOR
    assert "No credits under review" in browser.see("/fraud/held")


@pytest.fixture
def dead(database: Database) -> list[str]:
    """Two dead letters and one that was applied."""
    ids = [f"evt_{number}" for number in range(3)]
    with database.connect(admin=True) as admin:
        receive(admin, *(Event("invoice.paid", {"id": "in_1"}, id=event_id) for event_id in ids))
        admin.execute("delete from pgmq.q_stripe_events")
        admin.execute(
            "update billing.stripe_events set status = 'dead', settled_at = now(), last_error = 'why'"
        )
        admin.execute("update billing.stripe_events set status = 'applied' where stripe_event_id = 'evt_2'")
    return ids


def queued(database: Database) -> list[str]:
    with database.connect(admin=True) as admin:
        return [
            row["id"]
            for row in fetch(
                admin, "select message ->> 'event_id' as id from pgmq.q_stripe_events order by 1"
            )
        ]


def test_a_dead_letter_goes_back_to_the_queue(browser: Browser, database: Database, dead: list[str]) -> None:
    assert browser.act("/inbox/evt_0/retry", "/inbox/evt_0") == "Queued again."
    assert queued(database) == ["evt_0"]
    assert "queued" in browser.see("/inbox/evt_0")
    assert browser.act("/inbox/evt_2/retry", "/inbox/evt_2") == "It is applied; nothing was changed."
    assert "(TB014)" in browser.act("/inbox/evt_9/retry", "/inbox")
    assert queued(database) == ["evt_0"]


def test_all_dead_letters_go_back_at_once(browser: Browser, database: Database, dead: list[str]) -> None:
    told = browser.act("/inbox/retry", "/inbox?status=dead", status="dead")
    assert told == "2 events are queued again."
    assert queued(database) == dead[:2]
    assert "No dead letters" in browser.see("/inbox?status=dead")
    assert browser.post("/inbox/retry", status="applied").status_code == 404


def test_a_notification_that_died_is_tried_again(browser: Browser, database: Database) -> None:
    with database.connect(admin=True) as admin:
        admin.execute(
            "insert into billing.notifications (audience, kind, dedupe_key, status, last_error, first_attempt_at) "
            "values ('administrators', 'silence', 'k', 'dead', 'no route', now())"
        )
        notification_id = value(admin, "select id from billing.notifications")
        assert "no route" in browser.see("/notifications?status=dead")
        assert "Notifications 1 waiting" in browser.see("/")
        told = browser.act(f"/notifications/{notification_id}/retry", "/notifications")
        assert told == "It will be sent again."
        assert value(admin, "select status from billing.notifications") == "queued"


def test_what_is_to_be_told_waits_for_a_whole_page(browser: Browser, case: UUID) -> None:
    assert browser.post(f"{CASE}/note", back=CASE, reason="Called").status_code == 303
    assert "Noted." not in browser.get(CASE, headers={"x-refresh": "1"}).text
    assert "Noted." in browser.get(CASE).text
    assert "Noted." not in browser.get(CASE).text


@pytest.mark.parametrize(
    "back",
    ["https://evil.example", "//evil.example", "/\\evil.example", "", "javascript:alert(1)", "/a\r\nx: y"],
)
def test_nobody_is_sent_elsewhere(browser: Browser, dead: list[str], back: str) -> None:
    assert browser.post("/inbox/evt_0/retry", back=back).headers["location"] == "/"
