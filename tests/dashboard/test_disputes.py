"""A dispute is answered where it is read: with evidence or by accepting, once, at Stripe, after a question."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.dashboard.conftest import ACTOR, Browser, served, text_of
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.test_fraud_cli import tell
from tests.worker.conftest import Shop, opened
from worker.events.fetch import StripeReader


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def disputed(
    database: Database, local: Local, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Shop, str, Browser]]:
    """A disputed pack of 500 credits, of which 120 are spent; and the dashboard with a key of the local Stripe."""
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    monkeypatch.setenv("STRIPE_API_BASE", local.url)
    monkeypatch.setattr("cli.stripe_key.REQUEST_RETRIES", 0)
    with opened(database, StripeReader(KEY, local.url)) as shop:
        account = account_of(shop.app, create_user(database, "ada@example.com"))
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
        shop.app.execute("select billing.spend_credits(%s, 120, 'job')", [account])
        (charge,) = local.world.store.all("charge")
        dispute = local.control(f"charges/{charge['id']}/dispute")["id"]
        tell(shop, local)
        with served(database.url) as browser:
            yield shop, dispute, browser.enter()


def of_stripe(local: Local, dispute: str) -> Any:
    return local.client.disputes.retrieve(dispute)


def answered(browser: Browser, path: str, **form: str) -> str:
    """What is said after a confirmed answer, on a page that asks for no second one."""
    done = browser.post(path, back="/disputes", confirmed="yes", **form)
    assert done.status_code == 303, text_of(done)
    assert done.headers["location"].endswith("?answered=1")
    page = browser.get(done.headers["location"]).text
    assert "Submit to the bank" not in page
    told = re.search(r'<p class="flash good"[^>]*>(.*?)</p>', page)
    assert told
    return told[1]


def test_it_is_counted_and_read_with_its_evidence(disputed: tuple[Shop, str, Browser]) -> None:
    _, dispute, browser = disputed
    assert "1 dispute needs a response" in browser.see("/")
    assert "Disputes 1 waiting" in browser.see("/worker")
    assert f'href="/disputes/{dispute}"' in browser.get("/disputes").text
    text = browser.see(f"/disputes/{dispute}")
    for part in (
        "Ada Lovelace",
        "ada@example.com",
        "Frozen credits 380",
        "Contested 20.00 USD",
        "The payment gave 500 credits, of which 120 were used since.",
    ):
        assert part in text, part


def test_evidence_is_chosen_asked_about_and_submitted_once(
    disputed: tuple[Shop, str, Browser], local: Local
) -> None:
    _, dispute, browser = disputed
    page = f"/disputes/{dispute}"
    form = {"use_customer_name": "on", "use_uncategorized_text": "on", "statement": "She wrote\r\nto us."}
    question = browser.post(f"{page}/answer", back=page, **form)
    asked = text_of(question)
    assert "Account ada@example.com Balance now 380 Balance after 380" in asked
    assert "Evidence customer name, uncategorized text" in asked
    assert of_stripe(local, dispute).evidence_details.submission_count == 0
    assert answered(browser, f"{page}/answer", **form) == "Submitted: the dispute is under review."
    arrived = of_stripe(local, dispute)
    assert arrived.evidence.customer_name == "Ada Lovelace"
    assert arrived.evidence.uncategorized_text.startswith("She wrote\nto us.\n\nPayment ch_")
    assert arrived.evidence.customer_email_address is None
    assert arrived.metadata["tillbase_actor"] == ACTOR
    # Other evidence is refused: the bank takes one submission.
    told = browser.act(f"{page}/answer", page, statement="More", confirmed="yes")
    assert "the bank takes one submission" in told


def test_nothing_chosen_is_nothing_submitted(disputed: tuple[Shop, str, Browser], local: Local) -> None:
    _, dispute, browser = disputed
    page = f"/disputes/{dispute}"
    assert browser.act(f"{page}/answer", page, confirmed="yes").startswith("Choose some evidence")
    assert of_stripe(local, dispute).status == "needs_response"


def test_it_is_accepted_after_a_question_with_the_balance_that_remains(
    disputed: tuple[Shop, str, Browser], local: Local
) -> None:
    shop, dispute, browser = disputed
    page = f"/disputes/{dispute}"
    asked = text_of(browser.post(f"{page}/accept", back=page))
    assert "Accept the dispute of 20.00 USD?" in asked
    assert "Account ada@example.com Balance now 380 Balance after 0" in asked
    assert of_stripe(local, dispute).status == "needs_response"
    assert answered(browser, f"{page}/accept") == "Accepted: the dispute is lost."
    assert of_stripe(local, dispute).metadata["tillbase_actor"] == ACTOR
    tell(shop, local)
    # What was foretold.
    assert shop.app.execute("select balance from billing.credit_balances").fetchone() == (0,)
    assert "The dispute is closed." in browser.see(page)
    assert "All quiet" in browser.see("/")
    # Again changes nothing.
    assert answered(browser, f"{page}/accept") == "Accepted: the dispute is lost."


def test_without_a_key_it_says_where_to_answer(disputed: tuple[Shop, str, Browser], database: Database,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    _, dispute, _ = disputed
    monkeypatch.delenv("STRIPE_API_KEY")
    with served(database.url) as browser:
        page = f"/disputes/{dispute}"
        text = text_of(browser.enter().get(page))
        assert f"till fraud accept {dispute}" in text
        assert "STRIPE_API_KEY is not set" in browser.act(f"{page}/accept", page, confirmed="yes")
