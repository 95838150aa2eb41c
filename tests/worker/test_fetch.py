"""Stripe ids → where they are read, and what becomes of answers that cannot be used."""

from typing import Any
from urllib.parse import unquote

import pytest

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import JANUARY, Event
from tests.worker.stripe_stub import StripeStub
from worker.errors import StripeUnavailable
from worker.events.decide import Fetched
from worker.events.fetch import StripeReader
from worker.events.normalise import normalise_object
from worker.events.objects import CheckoutSession, CreditNote, Invoice
from worker.events.outcomes import Dead, Done, RetryLater
from worker.events.shapes import Node

DATE = "Thu, 01 Jan 2026 00:01:00"
WRONG_DATES = {
    "without a zone": DATE,
    "of an unknown zone": f"{DATE} -0000",
    "twice": f"{DATE} GMT\r\nDate: {DATE} GMT",
    "twice in one": f"{DATE} GMT, {DATE} GMT",
    "no date": "soon",
    "empty": "",
    "of an impossible zone": f"{DATE} +9999",
}


def spoil_dates(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    def spoiled(*_: Any, **__: Any) -> str:
        return date

    monkeypatch.setattr("tests.worker.stripe_stub.format_datetime", spoiled)


@pytest.mark.parametrize(
    ("stripe_id", "path"),
    [
        ("cus_1", "customers"),
        ("prod_1", "products"),
        ("price_1", "prices"),
        ("sub_1", "subscriptions"),
        ("in_1", "invoices"),
        ("cn_1", "credit_notes"),
        ("ch_1", "charges"),
        ("py_1", "charges"),
        ("re_1", "refunds"),
        ("pyr_1", "refunds"),
        ("dp_1", "disputes"),
        ("du_1", "disputes"),
        ("pi_1", "payment_intents"),
        ("inpay_1", "invoice_payments"),
        ("pm_1", "payment_methods"),
    ],
)
def test_an_id_tells_where_its_object_is_read(stripe: StripeStub, stripe_id: str, path: str) -> None:
    StripeReader("sk_test_1", stripe.url).fetch([stripe_id])
    assert stripe.asked == [f"/v1/{path}/{stripe_id}"]


def test_an_answer_is_of_the_second_that_its_date_names(stripe: StripeStub) -> None:
    stripe.put("customers/cus_1", events.customer())
    answer = StripeReader("sk_test_1", stripe.url).fetch(["cus_1"])["cus_1"]
    assert answer == Fetched(normalise_object(Node(events.customer(), "body")), events.moment(stripe.now))


@pytest.mark.parametrize("date", WRONG_DATES.values(), ids=WRONG_DATES)
def test_an_answer_whose_date_is_not_plain_is_no_answer(
    stripe: StripeStub, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    spoil_dates(monkeypatch, date)
    stripe.put("customers/cus_1", events.customer())
    answer = StripeReader("sk_test_1", stripe.url).fetch(["cus_1"])["cus_1"]
    assert isinstance(answer, StripeUnavailable)
    assert "cus_1" in str(answer)


def update(number: int) -> Event:
    return Event("customer.subscription.updated", events.subscription(metadata={"update": str(number)}))


def test_a_tie_waits_while_stripes_answers_have_no_plain_date(
    shop_with_stripe: Shop, stripe: StripeStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, event = shop_with_stripe, update(2)
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "2"}))
    shop.outcome(update(1))
    with monkeypatch.context() as spoiled:
        spoil_dates(spoiled, WRONG_DATES["twice"])
        assert isinstance(shop.outcome(event), RetryLater)
        assert shop.status(event) == "queued"
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()]
    shop.assert_sound()


def test_a_tie_that_stripe_answers_with_another_kind_is_dead_and_takes_nobody_with_it(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop, tie = shop_with_stripe, update(2)
    stripe.put("subscriptions/sub_1", events.fraud_warning(created=JANUARY))
    shop.outcome(update(1))
    outcome = shop.outcome(tie)
    assert isinstance(outcome, Dead)
    assert "without its charge" in outcome.reason
    shop.assert_sound()


def cut(path: str, *members: dict[str, Any], has_more: bool) -> dict[str, Any]:
    return {"object": "list", "has_more": has_more, "url": f"/v1/{path}", "data": list(members)}


def test_lines_beyond_the_first_page_are_read_of_invoices_credit_notes_and_sessions(
    stripe: StripeStub,
) -> None:
    first, second = events.invoice_line(), events.invoice_line(1, 1)
    stripe.put("invoices/in_1", events.invoice(lines=cut("invoices/in_1/lines", first, has_more=True)))
    stripe.put("invoices/in_1/lines", cut("invoices/in_1/lines", second, has_more=False))
    noted, later = events.credit_note_line(1), events.credit_note_line(2)
    stripe.put(
        "credit_notes/cn_1", events.credit_note(lines=cut("credit_notes/cn_1/lines", noted, has_more=True))
    )
    stripe.put("credit_notes/cn_1/lines", cut("credit_notes/cn_1/lines", later, has_more=False))
    sold = [
        {
            "id": f"li_{n}",
            "price": events.price(product=events.product()),
            "quantity": 1,
            "amount_total": 1000,
        }
        for n in (1, 2)
    ]
    path = "checkout/sessions/cs_1/line_items"
    stripe.put(
        "checkout/sessions/cs_1", events.checkout_session(line_items=cut(path, sold[0], has_more=True))
    )
    stripe.put(path, cut(path, sold[1], has_more=False))
    found = StripeReader("sk_test_1", stripe.url).fetch(["in_1", "cn_1", "cs_1"])
    counts = {
        stripe_id: len(answer.object.lines or ())
        for stripe_id, answer in found.items()
        if isinstance(answer, Fetched) and isinstance(answer.object, Invoice | CreditNote | CheckoutSession)
    }
    assert counts == {"cn_1": 2, "cs_1": 2, "in_1": 2}
    [page] = [asked for asked in stripe.asked if asked.startswith(f"/v1/{path}")]
    assert "data.price.product" in unquote(page)
