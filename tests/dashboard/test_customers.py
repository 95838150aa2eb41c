"""Customers that no account owns: listed, explained, linked after a question, merged, dismissed."""

from uuid import UUID

import pytest

from tests.dashboard.conftest import ACTOR, Browser, text_of
from tests.sql.calls import Connection, fetch_one, grant, link, sync_payment, value

PAGE = "/customers/cus_9"


@pytest.fixture
def eve(admin: Connection, worker: Connection) -> str:
    """A customer of nobody who paid, and for whom an event waits."""
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email, name) values "
        "('cus_9', false, 'ada@example.com', 'Eve Moneypenny')"
    )
    admin.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, waiting_for, "
        "settled_at, created_at) values ('evt_1', 'invoice.paid', false, '{}', 'parked', 'no account', 'cus_9', now(), "
        "now())"
    )
    sync_payment(worker, stripe_charge_id="ch_9", stripe_payment_intent_id="pi_9", stripe_customer_id="cus_9")
    return "cus_9"


def owner(app: Connection) -> UUID | None:
    return value(app, "select account_id from billing.customers where stripe_customer_id = 'cus_9'")


def test_it_is_listed_and_explained_with_the_account_that_it_may_be(
    browser: Browser, eve: str, account: UUID
) -> None:
    assert "Unlinked customers 1" in browser.see("/accounts")
    assert "Eve Moneypenny" in browser.see("/customers")
    text = browser.see(PAGE)
    for part in (
        "is not linked to an account, so its payments wait",
        "invoice.paid evt_1 is parked: no account",
        "20.00 USD",
        "ada@example.com has the same e-mail address",
        "till customers link EMAIL cus_9",
    ):
        assert part in text, part
    assert browser.get("/inbox/evt_1").text.count(f'href="{PAGE}"') == 2


def test_it_is_linked_after_a_question_that_names_the_account(
    browser: Browser, app: Connection, eve: str, account: UUID
) -> None:
    grant(app, account, 25)
    question = browser.post(f"{PAGE}/link", back=PAGE, account="ada@example.com")
    asked = text_of(question)
    assert "Link cus_9 to ada@example.com?" in asked
    assert "Events that go on 1" in asked
    assert "Balance now 25" in asked
    assert owner(app) is None
    told = browser.post(f"{PAGE}/link", back=PAGE, account="ada@example.com", confirmed="yes")
    assert told.status_code == 303
    assert owner(app) == account
    assert browser.get(PAGE).headers["location"] == f"/accounts/{account}"
    assert "cus_9 is linked to ada@example.com" in browser.see(f"/accounts/{account}")


def test_a_second_customer_of_an_account_is_merged(
    browser: Browser, app: Connection, eve: str, account: UUID
) -> None:
    link(app, account, "cus_1")
    asked = text_of(browser.post(f"{PAGE}/link", back=PAGE, account=str(account)))
    assert "cus_1: this one becomes its second" in asked
    browser.post(f"{PAGE}/link", back=PAGE, account=str(account), confirmed="yes")
    row = fetch_one(
        app, "select account_id, duplicate_of from billing.customers where stripe_customer_id = 'cus_9'"
    )
    assert row == {"account_id": account, "duplicate_of": "cus_1"}


@pytest.mark.parametrize("typed", ["", "nobody@example.com", "moneypenny", "evt_1", "ada@", "'; drop table"])
def test_what_names_no_account_links_nothing(
    browser: Browser, app: Connection, eve: str, account: UUID, typed: str
) -> None:
    told = browser.act(f"{PAGE}/link", PAGE, account=typed, confirmed="yes")
    assert told.startswith("No account for")
    assert owner(app) is None


def test_a_customer_of_another_app_is_dismissed(browser: Browser, app: Connection, eve: str) -> None:
    assert browser.act(f"{PAGE}/dismiss", PAGE, reason="Another app").startswith("Dismissed")
    row = fetch_one(
        app, "select status, dismissed_by from billing.customers where stripe_customer_id = 'cus_9'"
    )
    assert row == {"status": "dismissed", "dismissed_by": ACTOR}
    assert value(app, "select status from billing.stripe_events") == "ignored"
    assert "was dismissed, so its payments are ignored" in browser.see(PAGE)
