"""An event's text → our own dataclasses, or the path that was wrong."""

import copy
import json
from typing import Any

import pytest

from tests.worker import events
from tests.worker.events import Event, message, moment
from worker.errors import UnknownShape
from worker.events.normalise import normalise
from worker.events.normalise_money import READERS
from worker.events.objects import (
    CheckoutSession,
    CreditNote,
    CreditNoteLine,
    Dispute,
    Invoice,
    InvoiceLine,
    InvoicePayment,
    PaymentIntent,
    PaymentMethod,
    Price,
    Refund,
    StripeObject,
    Subscription,
    SubscriptionItem,
)
from worker.events.shapes import Node

BODIES: dict[str, dict[str, Any]] = {
    "product.created": events.product(),
    "price.created": events.price(),
    "customer.subscription.created": events.subscription(),
    "invoice.paid": events.invoice(),
    "charge.succeeded": events.charge(),
    "checkout.session.completed": events.checkout_session(),
    "credit_note.created": events.credit_note(),
    "radar.early_fraud_warning.created": events.fraud_warning(),
}

# Type of event, path in its object, a value it must not have, what the reason says.
WRONG: list[tuple[str, str, Any, str]] = [
    ("product.created", "name", None, "name is missing or null, expected text"),
    ("product.created", "metadata", [], "metadata is a list, expected an object"),
    ("product.created", "metadata.monthly_credits", 5, "metadata.monthly_credits is a number"),
    ("product.created", "active", "yes", "active is text, expected true or false"),
    ("price.created", "product", None, "product is missing or null, expected an id"),
    ("price.created", "unit_amount", "1000", "unit_amount is text, expected a whole number"),
    ("price.created", "unit_amount", 10.5, "unit_amount is a number, expected a whole number"),
    ("price.created", "recurring.interval", {}, "recurring.interval is an object, expected text"),
    ("customer.subscription.created", "customer", 7, "customer is a number, expected an object"),
    (
        "customer.subscription.created",
        "start_date",
        True,
        "start_date is true or false, expected a whole number",
    ),
    (
        "customer.subscription.created",
        "start_date",
        10**20,
        "start_date is a number, expected a Unix time",
    ),
    ("customer.subscription.created", "items", None, "items is missing or null, expected an object"),
    ("customer.subscription.created", "items.data", {}, "items.data is an object, expected a list"),
    (
        "customer.subscription.created",
        "items.data.0.price",
        "price_1",
        "items.data[0].price is text, expected an object",
    ),
    ("customer.subscription.created", "items.data.0.quantity", "1", "items.data[0].quantity is text"),
    ("invoice.paid", "status", "", "status is empty, expected text"),
    ("invoice.paid", "parent.subscription_details", "sub_1", "parent.subscription_details is text"),
    ("invoice.paid", "lines.has_more", None, "lines.has_more is missing or null"),
    ("invoice.paid", "lines.data.0", None, "lines.data[0] is missing or null, expected an object"),
    ("invoice.paid", "lines.data.0.period.end", None, "lines.data[0].period.end is missing or null"),
    (
        "invoice.paid",
        "lines.data.0.parent.subscription_item_details.subscription_item",
        None,
        "lines.data[0].parent.subscription_item_details.subscription_item is missing or null",
    ),
    (
        "invoice.paid",
        "lines.data.0.parent.subscription_item_details.proration_details",
        {"credited_items": {"invoice": "in_1", "invoice_line_items": ["il_1", None]}},
        "lines.data[0].parent.subscription_item_details.proration_details.credited_items.invoice_line_items.1 is",
    ),
    (
        "invoice.paid",
        "lines.data.0.discount_amounts",
        {},
        "lines.data[0].discount_amounts is an object, expected a list",
    ),
    ("credit_note.created", "lines", None, "lines is missing or null, expected an object"),
    ("credit_note.created", "lines.data.0.amount", None, "lines.data[0].amount is missing or null"),
    ("charge.succeeded", "outcome", "normal", "outcome is text, expected an object"),
    ("charge.succeeded", "amount_refunded", None, "amount_refunded is missing or null"),
    ("checkout.session.completed", "payment_status", None, "payment_status is missing or null"),
    ("radar.early_fraud_warning.created", "charge", None, "charge is missing or null, expected an id"),
    ("radar.early_fraud_warning.created", "object", 1, "object is a number, expected text"),
]


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(body)
    *parents, last = path.split(".")
    found: Any = body
    for key in parents:
        found = found[int(key) if key.isdigit() else key]
    found[int(last) if last.isdigit() else last] = value
    return body


@pytest.mark.parametrize("event_type", BODIES)
def test_each_kind_of_object_is_read(event_type: str) -> None:
    event = normalise(message(Event(event_type, BODIES[event_type])))
    assert event.object is not None
    assert (event.type, event.created_at) == (event_type, moment(events.JANUARY))


@pytest.mark.parametrize(("event_type", "path", "value", "reason"), WRONG)
def test_a_wrong_value_is_refused_with_its_path(event_type: str, path: str, value: Any, reason: str) -> None:
    body = changed(BODIES[event_type], path, value)
    with pytest.raises(UnknownShape) as refusal:
        normalise(message(Event(event_type, body)))
    assert str(refusal.value).startswith(f"event.data.object.{reason}")


def test_an_invoice_is_read_field_by_field() -> None:
    event = normalise(message(events.paid()))
    assert event.object == Invoice(
        stripe_invoice_id="in_1_0",
        stripe_customer_id="cus_1",
        stripe_subscription_id="sub_1",
        livemode=False,
        status="paid",
        billing_reason="subscription_create",
        collection_method="charge_automatically",
        currency="usd",
        subtotal=1000,
        total=1000,
        amount_due=1000,
        amount_paid=1000,
        attempt_count=1,
        next_payment_attempt_at=None,
        hosted_invoice_url="https://invoice.stripe.com/i/1",
        invoiced_at=moment(events.JANUARY),
        paid_at=moment(events.JANUARY),
        lines=(
            InvoiceLine(
                stripe_line_id="il_1_0",
                stripe_subscription_id="sub_1",
                stripe_subscription_item_id="si_1",
                stripe_price_id="price_pro",
                amount=1000,
                quantity=1,
                is_proration=False,
                period_start=moment(events.JANUARY),
                period_end=moment(events.JANUARY + events.MONTH_SECONDS),
                credited_line_ids=None,
                credited_invoice_id=None,
                discount=0,
                tax=0,
            ),
        ),
    )


def test_a_line_of_an_invoice_item_belongs_to_no_subscription_item() -> None:
    line = events.invoice_line(
        parent={
            "type": "invoice_item_details",
            "invoice_item_details": {"invoice_item": "ii_1", "proration": True},
            "subscription_item_details": None,
        }
    )
    body = changed(events.invoice(), "lines.data.0", line)
    found = normalise(message(Event("invoice.paid", body))).object
    assert isinstance(found, Invoice)
    assert found.lines is not None
    assert (found.lines[0].stripe_subscription_item_id, found.lines[0].is_proration) == (None, True)


def test_expanded_references_are_read_as_their_ids() -> None:
    body = events.subscription(customer={"id": "cus_9", "object": "customer"})
    body = changed(body, "items.data.0.price.product", events.product())
    found = normalise(message(Event("customer.subscription.updated", body))).object
    assert isinstance(found, Subscription)
    assert found.stripe_customer_id == "cus_9"
    assert found.items == (
        SubscriptionItem(
            "si_1",
            "price_pro",
            "prod_pro",
            1,
            moment(events.JANUARY),
            moment(events.JANUARY + events.MONTH_SECONDS),
        ),
    )


def test_paused_collection_is_seen_whatever_its_behaviour() -> None:
    body = events.subscription(pause_collection={"behavior": "void", "resumes_at": None})
    found = normalise(message(Event("customer.subscription.updated", body))).object
    assert isinstance(found, Subscription)
    assert found.is_collection_paused


@pytest.mark.parametrize(
    ("event_type", "key"),
    [("invoice.paid", "lines"), ("customer.subscription.updated", "items"), ("credit_note.created", "lines")],
)
def test_a_list_that_was_cut_short_is_not_taken_for_the_whole(event_type: str, key: str) -> None:
    body = BODIES[event_type.replace("updated", "created")]
    found = normalise(message(Event(event_type, changed(body, f"{key}.has_more", True)))).object
    assert getattr(found, key) is None


def test_a_kind_of_object_without_use_here_is_none() -> None:
    assert normalise(message(Event("charge.succeeded", {"object": "balance"}))).object is None


@pytest.mark.parametrize("body", ["", "not json", "[1, 2", "{", '{"data": '])
def test_what_is_no_json_is_refused(body: str) -> None:
    with pytest.raises(UnknownShape, match="not valid JSON"):
        normalise(message(Event("invoice.paid", None, body=body)))


@pytest.mark.parametrize("body", ["null", "1", "[]", '"text"'])
def test_json_that_is_no_object_is_refused(body: str) -> None:
    with pytest.raises(UnknownShape, match=r"event is .*, expected an object"):
        normalise(message(Event("invoice.paid", None, body=body)))


def test_json_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(UnknownShape, match="not valid JSON"):
        normalise(message(Event("invoice.paid", None, body="[" * 200_000)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a\x00b", r"\\u0000"), ("\ud800", "half of a surrogate"), ("\udc00x", "half of a surrogate")],
)
def test_text_that_postgres_cannot_store_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnknownShape, match=reason):
        normalise(message(events.paid(hosted_invoice_url=text)))


@pytest.mark.parametrize("text", ["\U0001f600", "back\\u0000slash"])
def test_text_that_only_looks_unstorable_is_read(text: str) -> None:
    event = events.paid(hosted_invoice_url=text)
    assert "\\u" in json.dumps(text)
    found = normalise(message(event)).object
    assert isinstance(found, Invoice)
    assert found.hosted_invoice_url == text


AT = moment(events.JANUARY)
MONEY: list[tuple[dict[str, Any], StripeObject]] = [
    (
        events.payment_intent(metadata={"pack": "1"}),
        PaymentIntent(
            "pi_1", "cus_1", "ch_1", "pm_1", False, "succeeded", "usd", 1000, 900, None, {"pack": "1"}, AT
        ),
    ),
    (
        events.payment_intent(
            customer=None, latest_charge=None, last_payment_error={"code": "card_declined"}
        ),
        PaymentIntent(
            "pi_1", None, None, "pm_1", False, "succeeded", "usd", 1000, 900, "card_declined", {}, AT
        ),
    ),
    (
        events.invoice_payment(),
        InvoicePayment("inpay_1", "in_1_0", "pi_1", None, False, "paid", "usd", 1000, AT),
    ),
    (
        events.invoice_payment(
            status="open",
            amount_paid=None,
            payment={"type": "charge", "charge": "ch_1"},
            status_transitions={},
        ),
        InvoicePayment("inpay_1", "in_1_0", None, "ch_1", False, "open", "usd", None, None),
    ),
    (
        events.refund(reason="fraudulent", status="failed", failure_reason="lost_or_stolen_card"),
        Refund("re_1", "ch_1", "pi_1", "failed", "usd", 1000, "fraudulent", "lost_or_stolen_card", AT),
    ),
    (
        events.dispute(),
        Dispute(
            "du_1",
            "ch_1",
            "pi_1",
            False,
            "needs_response",
            "usd",
            1000,
            "fraudulent",
            moment(events.JANUARY + events.MONTH_SECONDS),
            AT,
        ),
    ),
    (
        events.credit_note(),
        CreditNote(
            "cn_1",
            "in_1_0",
            False,
            "issued",
            "usd",
            500,
            0,
            None,
            AT,
            (CreditNoteLine("il_1_0", 500),),
            (),
            0,
        ),
    ),
    (
        events.payment_method(),
        PaymentMethod("pm_1", "cus_1", False, "card", "finger_1", None, None, None, None, AT),
    ),
    (
        events.payment_method(type="link", card=None, customer=None),
        PaymentMethod("pm_1", None, False, "link", None, None, None, None, None, AT),
    ),
]


@pytest.mark.parametrize(("body", "expected"), MONEY)
def test_what_moves_money_is_read_field_by_field(body: dict[str, Any], expected: StripeObject) -> None:
    assert READERS[body["object"]](Node(body, "body")) == expected


def note_of(**changes: Any) -> CreditNote:
    found = normalise(message(Event("credit_note.created", events.credit_note(**changes)))).object
    assert isinstance(found, CreditNote)
    return found


def note_line(**changes: Any) -> CreditNoteLine:
    lines = events.credit_note()["lines"] | {"data": [events.credit_note_line(**changes)]}
    [found] = note_of(lines=lines).lines or ()
    return found


def test_a_line_of_a_credit_note_that_names_no_line_of_the_invoice_is_of_none() -> None:
    assert note_line(type="custom_line_item", invoice_line_item=None) == CreditNoteLine(None, 500)


@pytest.mark.parametrize(
    ("changes", "amount"),
    [
        ({"discount_amount": 100}, 400),
        ({"taxes": [{"amount": 95, "tax_behavior": "exclusive"}]}, 595),
        ({"taxes": [{"amount": 80, "tax_behavior": "inclusive"}]}, 500),
        ({"discount_amount": 100, "taxes": [{"amount": 76, "tax_behavior": "exclusive"}]}, 476),
        ({"taxes": None, "tax_amounts": [{"amount": 95, "inclusive": False}]}, 595),
        ({"taxes": None, "tax_amounts": [{"amount": 80, "inclusive": True}]}, 500),
        ({"taxes": None}, 500),
    ],
)
def test_a_line_of_a_credit_note_credits_what_is_left_after_discount_and_tax(
    changes: dict[str, Any], amount: int
) -> None:
    assert note_line(**changes).amount == amount


@pytest.mark.parametrize(
    ("changes", "refunds"),
    [
        ({"refunds": [{"amount_refunded": 200, "refund": "re_1"}]}, ("re_1",)),
        (
            {
                "refunds": [
                    {"amount_refunded": 200, "refund": events.refund()},
                    {"amount_refunded": 300, "refund": "re_2"},
                ]
            },
            ("re_1", "re_2"),
        ),
        ({"refunds": [{"amount_refunded": 200, "refund": "re_1"}], "refund": "re_1"}, ("re_1",)),
        ({"refunds": [{"amount_refunded": 200, "refund": None, "type": "payment_record_refund"}]}, ()),
        ({"refund": events.refund()}, ("re_1",)),
    ],
)
def test_the_refunds_of_a_credit_note_are_their_ids(
    changes: dict[str, Any], refunds: tuple[str, ...]
) -> None:
    assert note_of(**changes).stripe_refund_ids == refunds


@pytest.mark.parametrize(("kind", "before", "after"), [("pre_payment", 500, 0), ("post_payment", 0, 500)])
def test_an_old_credit_note_is_wholly_of_the_kind_that_it_names(kind: str, before: int, after: int) -> None:
    found = note_of(type=kind, pre_payment_amount=None, post_payment_amount=None)
    assert (found.pre_payment_amount, found.amount) == (before, after)


def test_a_credit_note_may_be_of_both_kinds() -> None:
    found = note_of(type="mixed", pre_payment_amount=200, post_payment_amount=300)
    assert (found.pre_payment_amount, found.amount) == (200, 300)


@pytest.mark.parametrize(("custom", "expected"), [(None, False), ({"minimum": 100, "maximum": None}, True)])
def test_a_price_tells_whether_customers_choose_its_amount(custom: Any, expected: bool) -> None:
    body = events.price(type="one_time", recurring=None, unit_amount=None, custom_unit_amount=custom)
    found = normalise(message(Event("price.created", body))).object
    assert isinstance(found, Price)
    assert found.has_custom_amount is expected


@pytest.mark.parametrize("of_product", [False, True])
@pytest.mark.parametrize(
    ("custom", "metadata", "expected"),
    [
        (None, "pack_credits", True),
        (None, "credits_per_unit", False),
        ({"minimum": 100}, "credits_per_unit", True),
        ({"minimum": 100}, "pack_credits", False),
    ],
)
def test_a_price_declares_credits_by_what_its_kind_of_amount_calls_for(
    custom: Any, metadata: str, expected: bool, of_product: bool
) -> None:
    declared, none = {metadata: "100"}, {"colour": "red"}
    price = events.price(
        custom_unit_amount=custom,
        metadata=none if of_product else declared,
        product=events.product(metadata=declared if of_product else none),
    )
    item = {"id": "li_1", "object": "item", "price": price, "quantity": 1, "amount_total": 2500}
    listing = {"object": "list", "has_more": False, "data": [item]}
    body = events.checkout_session(mode="payment", line_items=listing)
    found = normalise(message(Event("checkout.session.completed", body))).object
    assert isinstance(found, CheckoutSession)
    [line] = found.lines or ()
    assert (line.declares_credits, line.amount_total) == (expected, 2500)
