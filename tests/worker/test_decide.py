"""What each type of event calls for, without a database."""

from datetime import datetime
from typing import Any

import pytest

from tests.worker import events
from tests.worker.events import JANUARY, Event, message, moment
from worker.errors import UnknownShape
from worker.events.commands import (
    Command,
    DeletePrice,
    DeleteProduct,
    RecordCard,
    RecordFraudWarning,
    RecordSavedCard,
    SyncCheckoutSession,
    SyncCreditNote,
    SyncCustomer,
    SyncDispute,
    SyncInvoice,
    SyncInvoicePayment,
    SyncPayment,
    SyncPrice,
    SyncProduct,
    SyncRefund,
    SyncReview,
    SyncSubscription,
)
from worker.events.decide import DECIDERS, IGNORED, Fetched, decide, needs, reason_to_ignore
from worker.events.normalise import normalise, normalise_object
from worker.events.objects import Charge, StripeObject
from worker.events.shapes import Node

AS_OF = moment(JANUARY)
ANSWERED_AT = moment(JANUARY + 60)

CALLS: list[tuple[str, dict[str, Any], type]] = [
    ("customer.created", events.customer(), SyncCustomer),
    ("customer.updated", events.customer(), SyncCustomer),
    ("product.created", events.product(), SyncProduct),
    ("product.updated", events.product(), SyncProduct),
    ("price.created", events.price(), SyncPrice),
    ("price.updated", events.price(), SyncPrice),
    ("invoice.paid", events.invoice(), SyncInvoice),
    ("invoice.payment_succeeded", events.invoice(), SyncInvoice),
    ("invoice.created", events.invoice(status="draft", billing_reason="subscription_cycle"), SyncInvoice),
    ("invoice.created", events.invoice(status="draft", collection_method="send_invoice"), SyncInvoice),
    ("invoice.finalized", events.invoice(status="open", collection_method="send_invoice"), SyncInvoice),
    ("invoice.payment_failed", events.invoice(status="open"), SyncInvoice),
    ("invoice.payment_action_required", events.invoice(status="open"), SyncInvoice),
    ("invoice.finalization_failed", events.invoice(status="draft"), SyncInvoice),
    ("invoice.marked_uncollectible", events.invoice(status="uncollectible"), SyncInvoice),
    ("invoice.voided", events.invoice(status="void"), SyncInvoice),
    ("checkout.session.completed", events.checkout_session(), SyncCheckoutSession),
    ("checkout.session.expired", events.checkout_session(status="expired"), SyncCheckoutSession),
    ("charge.succeeded", events.charge(), SyncPayment),
    ("charge.refunded", events.charge(amount_refunded=1000), SyncPayment),
    ("refund.created", events.refund(), SyncRefund),
    ("refund.updated", events.refund(), SyncRefund),
    ("refund.failed", events.refund(status="failed"), SyncRefund),
    ("charge.refund.updated", events.refund(), SyncRefund),
    ("charge.dispute.created", events.dispute(), SyncDispute),
    ("charge.dispute.updated", events.dispute(status="under_review"), SyncDispute),
    ("charge.dispute.funds_withdrawn", events.dispute(), SyncDispute),
    ("charge.dispute.funds_reinstated", events.dispute(status="won"), SyncDispute),
    ("charge.dispute.closed", events.dispute(status="lost"), SyncDispute),
    ("credit_note.created", events.credit_note(), SyncCreditNote),
    ("credit_note.updated", events.credit_note(), SyncCreditNote),
    ("credit_note.voided", events.credit_note(status="void"), SyncCreditNote),
    ("review.opened", events.review(), SyncReview),
    ("review.closed", events.review(open=False, closed_reason="approved"), SyncReview),
]
SUBSCRIPTION_EVENTS = [
    "created",
    "updated",
    "deleted",
    "paused",
    "resumed",
    "pending_update_applied",
    "pending_update_expired",
]


def parse(body: dict[str, Any]) -> StripeObject:
    found = normalise_object(Node(body, "body"))
    assert found is not None
    return found


def read(body: dict[str, Any], at: datetime = ANSWERED_AT) -> Fetched:
    return Fetched(parse(body), at)


@pytest.mark.parametrize(("event_type", "body", "command"), CALLS, ids=[call[0] for call in CALLS])
def test_an_object_becomes_what_it_was_when_the_event_happened(
    event_type: str, body: dict[str, Any], command: type
) -> None:
    event = normalise(message(Event(event_type, body)))
    assert needs(event) == []
    assert decide(event, {}) == [command(parse(body), AS_OF)]


@pytest.mark.parametrize("change", SUBSCRIPTION_EVENTS)
def test_a_subscription_told_by_an_event_is_not_called_fetched(change: str) -> None:
    event = normalise(message(Event(f"customer.subscription.{change}", events.subscription())))
    assert decide(event, {}) == [SyncSubscription(parse(events.subscription()), AS_OF, is_fetched=False)]


def test_what_paid_an_invoice_only_moves_forward_and_has_no_age() -> None:
    event = normalise(message(Event("invoice_payment.paid", events.invoice_payment())))
    assert needs(event) == []
    assert decide(event, {}) == [SyncInvoicePayment(parse(events.invoice_payment()))]


def test_a_card_is_seen_when_its_payment_method_was_made() -> None:
    body = events.payment_method(created=JANUARY - 60)
    event = normalise(message(Event("payment_method.attached", body)))
    assert needs(event) == []
    assert decide(event, {}) == [RecordCard("cus_1", False, "finger_1", moment(JANUARY - 60))]


def test_a_renewed_card_is_seen_when_it_was_renewed() -> None:
    body = events.payment_method(created=JANUARY - 60)
    event = normalise(message(Event("payment_method.automatically_updated", body)))
    assert decide(event, {}) == [RecordCard("cus_1", False, "finger_1", AS_OF)]


@pytest.mark.parametrize("change", ["attached", "automatically_updated", "updated", "detached"])
def test_a_saved_card_is_recorded_with_its_expiry_as_its_event_shows_it(change: str) -> None:
    card = {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2027}
    customer = None if change == "detached" else "cus_1"
    body = events.payment_method(card=card, customer=customer)
    commands = decide(normalise(message(Event(f"payment_method.{change}", body, created=JANUARY + 9))), {})
    recorded = RecordSavedCard("pm_1", customer, False, "visa", "4242", 12, 2027, moment(JANUARY + 9))
    assert commands == [recorded]


@pytest.mark.parametrize("lacking", [{"customer": None}, {"type": "link", "card": None}])
def test_a_payment_method_of_nobody_or_without_a_card_calls_for_nothing(lacking: dict[str, Any]) -> None:
    event = normalise(message(Event("payment_method.attached", events.payment_method(**lacking))))
    assert decide(event, {}) == []


def test_a_fraud_warning_takes_customer_and_risk_from_its_charge() -> None:
    event = normalise(message(Event("radar.early_fraud_warning.created", events.fraud_warning())))
    assert needs(event) == ["ch_1"]
    charge = events.charge(outcome={"risk_level": "highest", "risk_score": 95})
    assert decide(event, {"ch_1": read(charge)}) == [
        SyncPayment(parse(charge), ANSWERED_AT),
        RecordFraudWarning(event.object, "cus_1", "highest", 95, AS_OF),
    ]


def test_a_fraud_warning_whose_charge_is_no_charge_is_refused() -> None:
    event = normalise(message(Event("radar.early_fraud_warning.created", events.fraud_warning())))
    with pytest.raises(UnknownShape, match="ch_1 is not a charge"):
        decide(event, {"ch_1": read(events.product())})


def test_a_paid_invoice_with_more_lines_than_its_event_holds_is_read_whole() -> None:
    cut = events.invoice(lines=events.invoice()["lines"] | {"has_more": True})
    event = normalise(message(Event("invoice.paid", cut)))
    assert needs(event) == ["in_1_0"]
    assert decide(event, {"in_1_0": read(events.invoice())}) == [
        SyncInvoice(parse(events.invoice()), ANSWERED_AT)
    ]


@pytest.mark.parametrize("change", ["created", "updated", "voided"])
def test_a_credit_note_with_more_lines_than_its_event_holds_is_read_whole(change: str) -> None:
    cut = events.credit_note(lines=events.credit_note()["lines"] | {"has_more": True})
    event = normalise(message(Event(f"credit_note.{change}", cut)))
    assert needs(event) == ["cn_1"]
    assert decide(event, {"cn_1": read(events.credit_note())}) == [
        SyncCreditNote(parse(events.credit_note()), ANSWERED_AT)
    ]


@pytest.mark.parametrize("payment_status", ["paid", "unpaid", "no_payment_required"])
def test_what_a_complete_session_sold_is_read_from_stripe_whether_it_is_paid_or_not(
    payment_status: str,
) -> None:
    session = events.checkout_session(mode="payment", payment_status=payment_status)
    event = normalise(message(Event("checkout.session.completed", session)))
    assert needs(event) == ["cs_1"]
    whole = session | {"line_items": {"object": "list", "has_more": False, "data": []}}
    assert decide(event, {"cs_1": read(whole)}) == [SyncCheckoutSession(parse(whole), ANSWERED_AT)]


@pytest.mark.parametrize("changes", [{"mode": "subscription"}, {"mode": "payment", "status": "expired"}])
def test_a_session_that_sold_nothing_itself_needs_no_reading(changes: dict[str, Any]) -> None:
    event = normalise(message(Event("checkout.session.expired", events.checkout_session(**changes))))
    assert needs(event) == []


@pytest.mark.parametrize("event_type", ["invoice.paid", "invoice.payment_succeeded"])
def test_either_event_of_a_payment_tells_what_paid_an_old_invoice(event_type: str) -> None:
    old = events.invoice(payment_intent="pi_1")
    commands = decide(normalise(message(Event(event_type, old))), {})
    assert [type(command) for command in commands] == [SyncInvoice, SyncInvoicePayment]


def test_an_unpaid_invoice_with_many_lines_needs_no_reading() -> None:
    cut = events.invoice(status="open", lines=events.invoice()["lines"] | {"has_more": True})
    assert needs(normalise(message(Event("invoice.payment_failed", cut)))) == []


def test_a_subscription_with_more_items_than_its_event_holds_is_read_whole() -> None:
    cut = events.subscription(items=events.subscription()["items"] | {"has_more": True})
    event = normalise(message(Event("customer.subscription.updated", cut)))
    assert needs(event) == ["sub_1"]
    assert decide(event, {"sub_1": read(events.subscription())}) == [
        SyncSubscription(parse(events.subscription()), ANSWERED_AT, is_fetched=True)
    ]


@pytest.mark.parametrize("event_type", sorted(DECIDERS))
def test_an_object_of_another_kind_is_refused(event_type: str) -> None:
    event = normalise(message(Event(event_type, {"object": "balance"})))
    with pytest.raises(UnknownShape, match="unexpected kind"):
        decide(event, {})


def test_an_invoice_that_is_charged_at_once_is_recorded_when_that_has_come_out() -> None:
    body = events.invoice(status="draft", billing_reason="subscription_create")
    assert decide(normalise(message(Event("invoice.created", body, created=JANUARY))), {}) == []


def test_every_type_is_either_handled_or_ignored_for_a_reason() -> None:
    assert DECIDERS.keys() & IGNORED.keys() == set()
    assert [reason_to_ignore(event_type) for event_type in DECIDERS] == [None] * len(DECIDERS)
    assert all(reason_to_ignore(event_type) for event_type in IGNORED)
    assert IGNORED["customer.subscription.trial_will_end"]
    assert reason_to_ignore("foo.bar") == "events of type foo.bar are not used by this version"


def test_the_reader_of_a_charge_finds_its_risk() -> None:
    found = parse(events.charge(outcome={"risk_level": "elevated", "risk_score": 70}))
    assert isinstance(found, Charge)
    assert (found.risk_level, found.risk_score) == ("elevated", 70)


@pytest.mark.parametrize(("kind", "is_deleted"), [("updated", False), ("deleted", True)])
def test_only_the_deletion_of_a_customer_deletes_it(kind: str, is_deleted: bool) -> None:
    told = normalise(message(Event(f"customer.{kind}", events.customer())))
    [command] = decide(told, {})
    assert isinstance(command, SyncCustomer)
    assert command.customer.is_deleted is is_deleted


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (Event("price.deleted", events.price()), DeletePrice("price_pro", moment(JANUARY))),
        (Event("product.deleted", events.product()), DeleteProduct("prod_pro", moment(JANUARY))),
    ],
    ids=["price", "product"],
)
def test_a_deletion_in_the_catalogue_is_one_command(event: Event, command: Command) -> None:
    assert decide(normalise(message(event)), {}) == [command]
