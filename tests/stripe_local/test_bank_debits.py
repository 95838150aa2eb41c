"""SEPA and US bank debits, manual capture, and what each payment moves on the balance."""

from typing import Any

import pytest
import stripe

from tests.stripe_local.conftest import Local, until

START = 1_800_000_000
DAY = 86_400
ANNA = {"name": "Anna", "email": "anna@example.com"}
GOOD, REFUSED, TAKEN_BACK = "DE89370400440532013000", "DE62370400440532013001", "DE35370400440532013002"


@pytest.fixture
def clock(local: Local) -> str:
    return local.client.test_helpers.test_clocks.create({"frozen_time": START}).id


def _sepa(local: Local, iban: str) -> str:
    order = {"type": "sepa_debit", "sepa_debit": {"iban": iban}, "billing_details": ANNA}
    return local.client.payment_methods.create(order).id


def _debtor(local: Local, clock: str, method: str) -> Any:
    customer = local.customer(None, test_clock=clock)
    attached = local.client.payment_methods.attach(method, {"customer": customer.id}).id
    settings = {"default_payment_method": attached}
    return local.client.customers.update(customer.id, {"invoice_settings": settings})


def test_subscription_runs_while_its_first_debit_is_processed_and_is_paid_days_later(
    local: Local, clock: str
) -> None:
    customer = _debtor(local, clock, _sepa(local, GOOD))
    price = local.price(2000, currency="eur")
    sub = local.client.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id}], "expand": ["latest_invoice"]}
    )
    assert (sub.status, sub.latest_invoice.status) == ("active", "open")
    assert "invoice.paid" not in local.event_types()
    local.advance(clock, START + 4 * DAY)
    assert local.client.invoices.retrieve(sub.latest_invoice.id).status == "open"
    local.advance(clock, START + 5 * DAY)
    assert local.client.invoices.retrieve(sub.latest_invoice.id).status == "paid"
    types = [kind for kind in local.event_types() if kind.startswith(("charge.", "payment_intent."))]
    assert types == [
        "payment_intent.created", "charge.pending", "payment_intent.processing", "charge.succeeded",
        "payment_intent.succeeded",
    ]  # fmt: skip
    charge = local.client.charges.list({"customer": customer.id}).data[0]
    assert charge.payment_method_details.sepa_debit.last4 == "3000"


def test_debit_that_the_bank_refuses_makes_the_subscription_past_due(local: Local, clock: str) -> None:
    customer = _debtor(local, clock, "pm_usBankAccount_insufficientFunds")
    order = {"customer": customer.id, "items": [{"price": local.price(2000).id}]}
    sub = local.client.subscriptions.create(order)
    assert sub.status == "active"
    local.advance(clock, START + 4 * DAY)
    failed = local.client.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert (failed.status, failed.latest_invoice.status) == ("past_due", "open")
    (event,) = local.events("payment_intent.payment_failed")
    assert event["data"]["object"]["last_payment_error"]["code"] == "insufficient_funds"


def test_checkout_completes_unpaid_and_tells_what_the_bank_answered(local: Local) -> None:
    local.control("settings", {"debit_seconds": 0})
    price = local.price(2000, None, currency="eur")
    for iban, word, status in ((GOOD, "succeeded", "paid"), (REFUSED, "failed", "unpaid")):
        session = local.client.checkout.sessions.create(
            {
                "mode": "payment",
                "line_items": [{"price": price.id, "quantity": 1}],
                "success_url": "http://127.0.0.1/ok",
            }
        )
        done = local.control(
            f"checkout_sessions/{session.id}/complete", {"payment_method": _sepa(local, iban)}
        )
        assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
        until(lambda word=word: local.events(f"checkout.session.async_payment_{word}"))
        assert local.client.checkout.sessions.retrieve(session.id).payment_status == status


def test_debit_that_the_payer_takes_back_is_a_dispute_that_is_lost(local: Local, clock: str) -> None:
    customer = _debtor(local, clock, _sepa(local, TAKEN_BACK))
    intent = local.client.payment_intents.create(
        {
            "amount": 900,
            "currency": "eur",
            "customer": customer.id,
            "payment_method": customer.invoice_settings.default_payment_method,
            "confirm": True,
        }
    )
    assert intent.status == "processing"
    local.advance(clock, START + 5 * DAY)
    (dispute,) = local.client.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.status, dispute.reason) == ("lost", "debit_not_authorized")
    with pytest.raises(stripe.InvalidRequestError, match="support the following currencies: eur"):
        local.client.payment_intents.create(
            {"amount": 900, "currency": "usd", "payment_method": _sepa(local, GOOD), "confirm": True}
        )


def test_bank_can_be_made_to_answer(local: Local, clock: str) -> None:
    customer = _debtor(local, clock, "pm_usBankAccount_processing")
    order = {
        "customer": customer.id,
        "items": [{"price": local.price(2000).id}],
        "expand": ["latest_invoice.payments"],
    }
    sub = local.client.subscriptions.create(order)
    intent = sub.latest_invoice.payments.data[0].payment.payment_intent
    local.control(f"payment_intents/{intent}/settle", {"succeeds": True})
    assert local.client.invoices.retrieve(sub.latest_invoice.id).status == "paid"


def test_each_movement_is_on_the_balance(local: Local) -> None:
    paid = local.client.payment_intents.create(
        {"amount": 10_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
         "expand": ["latest_charge.balance_transaction"]}
    )  # fmt: skip
    moved = paid.latest_charge.balance_transaction
    assert (moved.amount, moved.fee, moved.net, moved.status, moved.type) == (
        10_000,
        320,
        9_680,
        "pending",
        "charge",
    )
    local.client.refunds.create({"charge": paid.latest_charge.id, "amount": 1_000})
    local.control(f"charges/{paid.latest_charge.id}/dispute")
    found = local.client.balance_transactions.list().data
    assert [(one.type, one.amount, one.fee) for one in found] == [
        ("adjustment", -10_000, 1_500), ("refund", -1_000, 0), ("charge", 10_000, 320),
    ]  # fmt: skip
    source = paid.latest_charge.id
    assert len(local.client.balance_transactions.list({"source": source}).data) == 2
    assert local.client.balance_transactions.retrieve(moved.id).id == moved.id


def test_authorization_is_captured_in_part_or_given_up_after_a_week(local: Local) -> None:
    order = {"amount": 1_000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
             "capture_method": "manual"}  # fmt: skip
    held, forgotten = (local.client.payment_intents.create(order) for _ in range(2))
    assert local.client.charges.retrieve(held.latest_charge).balance_transaction is None
    captured = local.client.payment_intents.capture(
        held.id, {"amount_to_capture": 700, "metadata": {"a": "b"}}
    )
    assert (captured.amount_received, captured.metadata["a"]) == (700, "b")
    assert local.client.balance_transactions.list().data[0].amount == 700
    while (due := local.world.timers.next_due(None)) is not None:
        local.world.pretended_time = due
        local.world.timers.pop(None)[1]()
    given_up = local.client.payment_intents.retrieve(forgotten.id)
    assert (given_up.status, given_up.cancellation_reason) == ("canceled", "automatic")
    assert local.event_types()[-2:] == ["charge.expired", "payment_intent.canceled"]
