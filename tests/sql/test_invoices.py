"""Invoices and Checkout Sessions: their rows only move forward."""

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    fetch,
    fetch_one,
    line,
    sync_checkout_session,
    sync_invoice,
    value,
)


def status(conn: Connection) -> str:
    return value(conn, "select status from billing.invoices")


@pytest.mark.parametrize(
    ("held", "offered"),
    [
        ("open", "draft"),
        ("uncollectible", "open"),
        ("paid", "open"),
        ("paid", "uncollectible"),
        ("void", "open"),
    ],
)
def test_invoice_never_moves_back_however_new_the_event(
    worker: Connection, conn: Connection, held: str, offered: str
) -> None:
    sync_invoice(worker, status=held, lines=[])
    assert sync_invoice(worker, status=offered, lines=[], as_of=JANUARY + SECOND) == "stale"
    assert status(conn) == held


@pytest.mark.parametrize(
    ("held", "offered"),
    [
        ("draft", "open"),
        ("open", "paid"),
        ("open", "void"),
        ("open", "uncollectible"),
        ("uncollectible", "paid"),
    ],
)
def test_invoice_moves_forward_also_by_an_older_event(
    worker: Connection, conn: Connection, held: str, offered: str
) -> None:
    sync_invoice(worker, status=held, lines=[], as_of=JANUARY + SECOND)
    assert sync_invoice(worker, status=offered, lines=[]) == "applied"
    assert status(conn) == offered
    assert value(conn, "select as_of from billing.invoices") == JANUARY + SECOND


def test_attempts_tell_which_open_state_is_later_within_one_second(
    worker: Connection, conn: Connection
) -> None:
    assert sync_invoice(worker, status="open", attempt_count=2, lines=[]) == "applied"
    assert sync_invoice(worker, status="open", attempt_count=1, lines=[]) == "stale"
    assert value(conn, "select attempt_count from billing.invoices") == 2


def test_same_paid_state_may_be_told_again(worker: Connection, conn: Connection) -> None:
    assert sync_invoice(worker, lines=[line(stripe_subscription_item_id=None)]) == "applied"
    assert sync_invoice(worker, lines=[line(stripe_subscription_item_id=None)]) == "applied"
    assert value(conn, "select count(*) from billing.invoice_lines") == 1


def test_lines_are_kept_of_paid_invoices_only(worker: Connection, conn: Connection) -> None:
    sync_invoice(worker, status="open")
    assert fetch(conn, "select from billing.invoice_lines") == []


def test_invoice_without_a_customer_is_kept(worker: Connection, conn: Connection) -> None:
    assert sync_invoice(worker, stripe_customer_id=None, lines=[]) == "applied"
    row = fetch_one(conn, "select stripe_customer_id, account_id from billing.invoices")
    assert row == {"stripe_customer_id": None, "account_id": None}


def test_checkout_session_ends_once(worker: Connection, conn: Connection) -> None:
    assert sync_checkout_session(worker, status="open", payment_status="unpaid") == "applied"
    assert sync_checkout_session(worker) == "applied"
    assert sync_checkout_session(worker, status="expired", as_of=JANUARY + SECOND) == "stale"
    assert sync_checkout_session(worker, payment_status="unpaid", as_of=JANUARY + SECOND) == "stale"
    row = fetch_one(conn, "select status, payment_status, completed_at from billing.checkout_sessions")
    assert row == {"status": "complete", "payment_status": "paid", "completed_at": JANUARY}


def test_delayed_payment_completes_a_session_that_ended_unpaid(worker: Connection, conn: Connection) -> None:
    sync_checkout_session(worker, payment_status="unpaid")
    assert sync_checkout_session(worker, as_of=JANUARY + SECOND) == "applied"
    row = fetch_one(conn, "select payment_status, completed_at from billing.checkout_sessions")
    assert row == {"payment_status": "paid", "completed_at": JANUARY}


def test_client_reference_id_links_nothing(worker: Connection, conn: Connection, account: object) -> None:
    sync_checkout_session(worker, client_reference_id=str(account))
    assert value(conn, "select account_id from billing.checkout_sessions") is None
    assert value(conn, "select account_id from billing.customers") is None
