"""Every kind has a template, and every template says what its payload does."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from worker.jobs.compose import TEMPLATES, Composer, Message
from worker.jobs.outbox import Notification

ACCOUNT = UUID("6b1f0c52-0000-4000-8000-000000000000")
DAY = "2027-01-05T12:00:00+00:00"
PRICE = {"amount": 1900, "currency": "usd"}
URL = "https://invoice.stripe.com/i/acct_1/test_1?s=ap"

# Kind → payload as its source writes it, the subject, and what the text must say.
CASES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "fraud_warning": (
        {"stripe_charge_id": "ch_1", "fraud_type": "made_with_stolen_card", "risk_level": "highest", **PRICE},
        "Early fraud warning: 19.00 usd",
        ["made with stolen card", "Risk: highest", "Charge: ch_1", f"Account: {ACCOUNT}"],
    ),
    "fraud_action_failed": (
        {
            "action": "cancel_subscription",
            "reason": "no such subscription",
            "stripe_subscription_id": "sub_1",
        },
        "Stripe refused to cancel subscription",
        ["no such subscription", "sub_1"],
    ),
    "review_opened": (
        {"stripe_review_id": "prv_1", "stripe_charge_id": None, "reason": "rule"},
        "A payment is held for review (rule)",
        ["Review: prv_1"],
    ),
    "dispute_opened": (
        {"stripe_dispute_id": "du_1", "reason": "fraudulent", "evidence_due_at": DAY, **PRICE},
        "Dispute opened: 19.00 usd",
        ["fraudulent", "5 January 2027", "du_1"],
    ),
    "dispute_closed": (
        {"stripe_dispute_id": "du_1", "status": "won", "evidence_due_at": None, **PRICE},
        "Dispute won: 19.00 usd",
        ["du_1"],
    ),
    "account_frozen": ({"reason": "stolen card"}, "An account was frozen", ["stolen card", str(ACCOUNT)]),
    "refund_applied": (
        {"stripe_refund_id": "re_1", "amount": 500, "currency": "jpy", "reason": None},
        "Refund: 500 jpy",
        ["re_1"],
    ),
    "credits_held": (
        {"kind": "initial", "amount": 100, "status": "pending", "matched_account_id": "other"},
        "Credits held for review: 100",
        ["other", "initial credits wait for you", "till credits review list"],
    ),
    "event_waiting": (
        {
            "stripe_event_id": "evt_1",
            "type": "invoice.paid",
            "reason": "STRIPE_API_KEY is not set",
            "received_at": DAY,
            "first": [
                {"stripe_event_id": "evt_1", "type": "invoice.paid", "reason": "STRIPE_API_KEY is not set"},
                {"stripe_event_id": "evt_2", "type": "charge.succeeded", "reason": None},
            ],
        },
        "A Stripe event has waited for more than an hour: invoice.paid",
        ["STRIPE_API_KEY is not set", "evt_2 (charge.succeeded)", "till events show evt_1"],
    ),
    "entitlement_discrepancy": (
        {
            "invariant": "paid_and_not_granted",
            "business_key": "monthly:si_1:2026-01-01T00:00:00Z",
            "expected": 100,
            "found": 0,
            "detail": "monthly:si_1:2026-01-01T00:00:00Z: worth 100, posted 0",
        },
        "Credits don't match what was paid: paid and not granted",
        ["worth 100, posted 0", "Paid for: 100 credits. Granted: 0.", "billing.check_account"],
    ),
    "ledger_discrepancy": (
        {
            "invariant": "balance_is_the_sum_of_entries",
            "business_key": None,
            "expected": None,
            "found": None,
            "detail": "balance 11, entries 10",
        },
        "The ledger doesn't add up: balance is the sum of entries",
        ["balance 11, entries 10", "billing.check_account"],
    ),
    "user_deleted_while_subscribed": (
        {"stripe_subscription_id": "sub_1", "stripe_customer_id": "cus_1", "status": "active"},
        "A deleted user still has a subscription",
        ["Subscription: sub_1 (active)", "cus_1", "on_user_deleted"],
    ),
    "recharge_paused": ({"reason": "no_pack"}, "A recharge is paused: no pack", [str(ACCOUNT)]),
    "overage_failed": (
        {
            "overage_id": "6b1f0c52-0000-4000-8000-000000000000",
            "reason": "the price is inactive",
            "credits": 50,
            "stripe_customer_id": "cus_1",
            **PRICE,
        },
        "An overage could not be billed",
        ["19.00 usd", "the price is inactive", "till overage retry 6b1f0c52-0000-4000-8000-000000000000"],
    ),
    "event_dead": (
        {"stripe_event_id": "evt_1", "type": "customer.updated", "reason": "event.data is missing"},
        "A Stripe event needs you: customer.updated",
        ["event.data is missing", "till events retry evt_1"],
    ),
    "credits_not_granted": (
        {"stripe_event_id": "evt_1", "type": "invoice.paid", "reason": "no plan", "waiting_for": "price_1"},
        "A payment came in, and its credits could not be granted",
        ["no plan", "price_1", "till events show evt_1"],
    ),
    "worker_missing": (
        {"since": DAY},
        "No worker is running",
        ["No worker has been seen since 5 January 2027, ", "till worker run"],
    ),
    "worker_back": (
        {"since": DAY, "until": DAY},
        "A worker runs again",
        ["No worker was seen from 5 January 2027, ", "till doctor"],
    ),
    "events_missing": (
        {"count": 3, "stripe_event_id": "evt_1", "type": "invoice.paid", "created_at": DAY},
        "Stripe has 3 events that never arrived",
        ["evt_1 (invoice.paid) of 5 January 2027", "till webhook verify", "till events replay"],
    ),
    "stripe_key": (
        {"reason": "STRIPE_API_KEY is not set", "since": DAY},
        "The worker can't use its Stripe key",
        ["STRIPE_API_KEY is not set, since 5 January 2027", "restart the worker"],
    ),
    "plan_without_credits": (
        {"stripe_price_id": "price_1", "name": "pro"},
        "Customers pay for pro and get nothing",
        ["price_1", "monthly_credits", "till plans push"],
    ),
    "notifications_undeliverable": (
        {"count": 2, "last_id": 7},
        "2 notifications could not be delivered",
        ["till notifications list --status dead", "till notifications retry --status dead"],
    ),
    "silence": ({"hours": 49, "last_event_at": DAY}, "Nothing from Stripe for 49 hours", ["5 January 2027"]),
    "payment_failed": (
        {"url": URL, "next_attempt_at": DAY, "attempts": 1, **PRICE},
        "Your payment of 19.00 usd failed",
        ["5 January 2027", URL],
    ),
    "card_expiring": (
        {"brand": "visa", "last4": "4242", "expires_on": "2027-01-01"},
        "Your card ending in 4242 expires soon",
        ["Visa", "31 December 2026"],
    ),
    "low_balance": (
        {"available": 1234, "threshold": 5000},
        "Your credits are running low: 1,234 left",
        ["5,000"],
    ),
    "credits_expiring": (
        {"credits": 1234, "expires_at": DAY},
        "1,234 of your credits expire on 5 January 2027",
        ["1,234"],
    ),
    "receipt": ({"credits": 1234, "url": URL, **PRICE}, "1,234 credits for 19.00 usd", [URL]),
    "recharge_capped": ({"count": 10, **PRICE}, "Your credits were not recharged", ["10, 19.00 usd"]),
    "recharge_failed": (
        {"reason": "card_declined", "credits": 500, "url": None, **PRICE},
        "We could not recharge your credits",
        ["19.00 usd", "500 credits", "card declined"],
    ),
    "recharge_requires_action": (
        {"credits": 500, "url": URL, **PRICE},
        "Please confirm the payment of 19.00 usd",
        ["500 credits", URL],
    ),
    "test": ({"note": "Nothing happened."}, "A test of Tillbase's notifications", ["Nothing happened."]),
}


def compose(kind: str, payload: dict[str, Any], audience: str = "customer", **more: Any) -> Message:
    fields: dict[str, Any] = {"digest_size": None, "first": None} | more
    created_at = datetime(2027, 1, 1, tzinfo=UTC)
    return Composer().compose(
        Notification(
            msg_id=7,
            id=7,
            audience=audience,
            kind=kind,
            account_id=ACCOUNT,
            payload=payload,
            attempts=1,
            delivered_to=[],
            email=None,
            created_at=created_at,
            **fields,
        )
    )


@pytest.mark.parametrize("kind", CASES)
def test_a_kind_says_what_its_payload_does(kind: str) -> None:
    payload, subject, lines = CASES[kind]
    with capture_logs() as logs:
        message = compose(kind, payload)
    assert logs == []
    assert message.subject == subject
    for line in lines:
        assert line in message.text
    assert "None" not in message.subject + message.text


@pytest.mark.parametrize("kind", CASES)
def test_an_empty_payload_becomes_a_message(kind: str) -> None:
    with capture_logs():
        message = compose(kind, {})
    assert message.subject
    assert "None" not in message.subject + message.text


def test_unknown_values_are_left_out() -> None:
    nothing = dict.fromkeys(CASES["fraud_warning"][0])
    with capture_logs() as logs:
        message = compose("fraud_warning", nothing)
    assert logs == []
    assert message.subject == "Early fraud warning: a payment"
    assert "None" not in message.text


def test_a_kind_without_a_template_becomes_a_message() -> None:
    message = compose("meteor_struck", {"crater_width": 12, "where": "Ries"})
    assert message.subject == "meteor struck"
    for line in ("crater width: 12", "where: Ries", f"account: {ACCOUNT}"):
        assert line in message.text


def test_every_kind_that_the_database_knows_has_a_template(conn: psycopg.Connection) -> None:
    row = conn.execute(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'notification_kind_is_known'"
    ).fetchone()
    assert row is not None
    assert set(re.findall(r"'(\w+)'", row[0])) == {*CASES}


def test_every_template_is_tried_here() -> None:
    assert {file.stem for file in TEMPLATES.glob("[!_]*.txt")} == {*CASES, "default"}


def test_a_failed_recharge_names_the_account_to_administrators() -> None:
    message = compose("recharge_failed", {"reason": "x", "credits": 5, **PRICE}, audience="administrators")
    assert message.subject == "A recharge failed"
    assert f"Account: {ACCOUNT}" in message.text


def test_a_digest_names_the_first_and_counts_the_rest() -> None:
    first = [{"amount": 100 * n, "currency": "usd"} for n in range(1, 6)]
    message = compose("fraud_warning", first[0], digest_size=1200, first=first)
    assert message.subject == "1,200 × Early fraud warning: 1.00 usd"
    assert "Early fraud warning: 5.00 usd" in message.text
    assert "and 1,195 more" in message.text
    assert (message.facts["count"], message.key) == (1200, "notification-7-1798761600000000")


def test_the_html_links_to_web_addresses_only() -> None:
    assert f'<a href="{URL}">' in compose("receipt", CASES["receipt"][0]).html
    for url in ("javascript:alert(1)", "https://x/ onclick=", 'https://x/"><script>', "data:text/html,x"):
        assert "<a " not in compose("receipt", CASES["receipt"][0] | {"url": url}).html
