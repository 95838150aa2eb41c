"""Cards and what comes of them: declines, authentication, refunds, disputes, warnings, reviews."""

import pytest
import stripe

from tests.stripe_local.conftest import Local, until


def _pay(local: Local, card: str, **more: object) -> object:
    order = {"amount": 1500, "currency": "usd", "payment_method": card, "confirm": True, **more}
    return local.client.payment_intents.create(order)


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_chargeDeclinedFraudulent", "card_declined", "fraudulent"),
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
    ],
)
def test_a_declining_card_answers_402_with_the_intent(
    local: Local, card: str, code: str, decline_code: str | None
) -> None:
    with pytest.raises(stripe.CardError) as caught:
        _pay(local, card)
    error = caught.value
    assert (error.http_status, error.code) == (402, code)
    assert getattr(error.error, "decline_code", None) == decline_code
    assert error.error.payment_intent.status == "requires_payment_method"
    (failed,) = local.events("charge.failed")
    assert failed["data"]["object"]["failure_code"] == code
    assert len(local.events("payment_intent.payment_failed")) == 1


def test_a_card_that_always_declines_cannot_be_attached_and_one_that_fails_later_can(local: Local) -> None:
    customer = local.customer(None)
    with pytest.raises(stripe.CardError):
        local.client.payment_methods.attach("pm_card_visa_chargeDeclined", {"customer": customer.id})
    attached = local.client.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    assert [m.id for m in local.client.payment_methods.list({"customer": customer.id}).data] == [attached.id]


def test_a_test_card_number_is_the_card_and_any_other_is_refused(local: Local) -> None:
    card = {"number": "4000000000009995", "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    method = local.client.payment_methods.create({"type": "card", "card": card})
    assert method.card.last4 == "9995"
    with pytest.raises(stripe.CardError, match="incorrect"):
        local.client.payment_methods.create({"type": "card", "card": card | {"number": "4242424242424241"}})


def test_authentication_is_asked_for_and_given(local: Local) -> None:
    customer = local.customer(None)
    waiting = _pay(
        local, "pm_card_authenticationRequired", customer=customer.id, return_url="http://127.0.0.1/back"
    )
    assert waiting.status == "requires_action"
    assert waiting.next_action.redirect_to_url.url.startswith(local.url)
    page = local.http.get(waiting.next_action.redirect_to_url.url)
    assert "Complete authentication" in page.text
    back = local.http.post(waiting.next_action.redirect_to_url.url, content="succeeds=true")
    assert back.status_code == 303
    assert back.headers["location"].startswith(f"http://127.0.0.1/back?payment_intent={waiting.id}")
    assert local.client.payment_intents.retrieve(waiting.id).status == "succeeded"


def test_authentication_that_fails_leaves_the_intent_without_a_method(local: Local) -> None:
    waiting = _pay(local, "pm_card_authenticationRequired")
    local.control(f"payment_intents/{waiting.id}/authenticate", {"succeeds": False})
    intent = local.client.payment_intents.retrieve(waiting.id)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"


def test_off_session_a_card_that_wants_authentication_is_declined(local: Local) -> None:
    customer = local.customer(None)
    with pytest.raises(stripe.CardError) as caught:
        _pay(local, "pm_card_authenticationRequired", customer=customer.id, off_session=True)
    assert caught.value.code == "authentication_required"


def test_a_card_that_was_set_up_pays_off_session(local: Local) -> None:
    customer = local.customer(None)
    setup = local.client.setup_intents.create(
        {"customer": customer.id, "payment_method": "pm_card_authenticationRequiredOnSetup", "confirm": True}
    )
    assert setup.status == "requires_action"
    local.control(f"setup_intents/{setup.id}/authenticate")
    paid = _pay(local, setup.payment_method, customer=customer.id, off_session=True)
    assert paid.status == "succeeded"


def test_radar_blocks_the_highest_risk_unless_its_rule_is_off(local: Local) -> None:
    with pytest.raises(stripe.CardError) as caught:
        _pay(local, "pm_card_riskLevelHighest")
    blocked = local.client.charges.retrieve(caught.value.error.charge)
    assert (blocked.outcome.type, blocked.outcome.risk_level) == ("blocked", "highest")
    local.control("settings", {"block_highest_risk": False})
    charge = local.client.charges.retrieve(_pay(local, "pm_card_riskLevelHighest").latest_charge)
    assert (charge.status, charge.outcome.type, charge.outcome.risk_level) == (
        "succeeded",
        "authorized",
        "highest",
    )


def test_the_issuers_card_raises_an_early_fraud_warning_that_a_refund_settles(local: Local) -> None:
    paid = _pay(local, "pm_card_createIssuerFraudRecord")
    (warning,) = local.client.radar.early_fraud_warnings.list({"payment_intent": paid.id}).data
    assert (warning.charge, warning.actionable) == (paid.latest_charge, True)
    assert local.client.charges.retrieve(warning.charge).outcome.risk_level == "normal"
    local.client.refunds.create({"payment_intent": paid.id})
    (update,) = local.events("radar.early_fraud_warning.updated")
    assert update["data"]["previous_attributes"] == {"actionable": True}


def test_a_warning_and_a_risk_can_be_given_to_any_charge(local: Local) -> None:
    charge = _pay(local, "pm_card_visa").latest_charge
    local.control(f"charges/{charge}/outcome", {"risk_level": "highest"})
    warning = local.control(f"charges/{charge}/early_fraud_warning", {"fraud_type": "made_with_lost_card"})
    assert warning["fraud_type"] == "made_with_lost_card"
    assert local.client.charges.retrieve(charge).outcome.risk_level == "highest"


def test_refunds_add_up_and_stop_at_the_amount(local: Local) -> None:
    paid = _pay(local, "pm_card_visa")
    local.client.refunds.create({"payment_intent": paid.id, "amount": 500})
    charge = local.client.charges.retrieve(paid.latest_charge)
    assert (charge.amount_refunded, charge.refunded) == (500, False)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        local.client.refunds.create({"payment_intent": paid.id, "amount": 1001})
    local.client.refunds.create({"charge": paid.latest_charge})
    assert local.client.charges.retrieve(paid.latest_charge).refunded
    with pytest.raises(stripe.InvalidRequestError) as caught:
        local.client.refunds.create({"charge": paid.latest_charge})
    assert caught.value.code == "charge_already_refunded"


@pytest.mark.parametrize(
    ("card", "first", "succeeds", "last", "refunded"),
    [
        ("pm_card_pendingRefund", "pending", True, "succeeded", 1500),
        ("pm_card_refundFail", "succeeded", False, "failed", 0),
    ],
)
def test_refunds_that_take_their_time(
    local: Local, card: str, first: str, succeeds: bool, last: str, refunded: int
) -> None:
    paid = _pay(local, card)
    refund = local.client.refunds.create({"payment_intent": paid.id})
    assert refund.status == first
    local.control(f"refunds/{refund.id}/settle", {"succeeds": succeeds})
    assert local.client.refunds.retrieve(refund.id).status == last
    assert local.client.charges.retrieve(paid.latest_charge).amount_refunded == refunded
    assert bool(local.events("refund.failed")) == (last == "failed")


@pytest.mark.parametrize(("evidence", "status"), [("winning_evidence", "won"), ("losing_evidence", "lost")])
def test_the_magic_evidence_decides_a_dispute(local: Local, evidence: str, status: str) -> None:
    paid = _pay(local, "pm_card_createDispute")
    (dispute,) = local.client.disputes.list({"payment_intent": paid.id}).data
    assert dispute.status == "needs_response"
    assert local.client.charges.retrieve(paid.latest_charge).disputed
    with pytest.raises(stripe.InvalidRequestError, match="charged back"):
        local.client.refunds.create({"payment_intent": paid.id})
    local.client.disputes.update(dispute.id, {"evidence": {"uncategorized_text": evidence}})
    (closed,) = local.events("charge.dispute.closed")
    assert closed["data"]["object"]["status"] == status
    assert bool(local.events("charge.dispute.funds_reinstated")) == (status == "won")


def test_what_a_won_dispute_returns_is_pending_until_it_is_available(local: Local) -> None:
    paid = _pay(local, "pm_card_createDispute")
    (dispute,) = local.client.disputes.list({"payment_intent": paid.id}).data
    local.client.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})

    def shown() -> list[tuple[str, str]]:
        moved = local.client.disputes.retrieve(dispute.id).balance_transactions
        assert [local.client.balance_transactions.retrieve(one.id) for one in moved] == moved
        return [(one.reporting_category, one.status) for one in moved]

    assert shown() == [("dispute", "available"), ("dispute_reversal", "pending")]
    local.world.pretended_time = local.world.wall_time() + 2 * 86_400
    assert shown() == [("dispute", "available"), ("dispute_reversal", "available")]


def test_an_inquiry_moves_no_money_until_it_escalates(local: Local) -> None:
    paid = _pay(local, "pm_card_createDisputeInquiry")
    (inquiry,) = local.client.disputes.list({"payment_intent": paid.id}).data
    assert (inquiry.status, inquiry.balance_transactions) == ("warning_needs_response", [])
    assert not local.events("charge.dispute.funds_withdrawn")
    local.client.disputes.update(
        inquiry.id, {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}
    )
    assert local.client.disputes.retrieve(inquiry.id).status == "needs_response"
    assert local.events("charge.dispute.funds_withdrawn")


def test_an_elevated_risk_waits_for_a_review(local: Local) -> None:
    charge = local.client.charges.retrieve(_pay(local, "pm_card_riskLevelElevated").latest_charge)
    assert (charge.outcome.risk_level, charge.outcome.type) == ("elevated", "manual_review")
    assert [review.id for review in local.client.reviews.list().data] == [charge.review]
    assert local.client.reviews.approve(charge.review).closed_reason == "approved"
    assert local.client.reviews.list().data == []


def test_an_authorized_payment_is_captured_or_given_back(local: Local) -> None:
    held = _pay(local, "pm_card_visa", capture_method="manual")
    assert (held.status, held.amount_capturable) == ("requires_capture", 1500)
    captured = local.client.payment_intents.capture(held.id, {"amount_to_capture": 1000})
    assert (captured.status, captured.amount_received) == ("succeeded", 1000)
    other = _pay(local, "pm_card_visa", capture_method="manual")
    assert local.client.payment_intents.cancel(other.id).status == "canceled"


def test_a_pending_refund_arrives_by_itself_in_real_time(local: Local) -> None:
    refund = local.client.refunds.create({"payment_intent": _pay(local, "pm_card_pendingRefund").id})
    until(lambda: local.client.refunds.retrieve(refund.id).status == "succeeded")
    (update,) = local.events("refund.updated")
    assert update["data"]["previous_attributes"] == {"status": "pending"}
    assert update["request"] == {"id": None, "idempotency_key": None}
