"""Tax rates, automatic tax and tax ids on invoices, sessions and credit notes."""

from typing import Any

import pytest
import stripe

from stripe_local.errors import invalid
from stripe_local.resources import collection
from tests.stripe_local.conftest import Local, until

BERLIN = {"country": "DE", "city": "Berlin"}


def _rate(local: Local, percentage: float, *, inclusive: bool = False) -> str:
    order = {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive}
    return local.client.tax_rates.create(order).id


def _subscribe(local: Local, customer: Any, price: Any, **more: Any) -> Any:
    order = {"customer": customer.id, "items": [{"price": price.id}], "expand": ["latest_invoice"], **more}
    return local.client.subscriptions.create(order)


def test_exclusive_rate_is_added_and_an_inclusive_one_is_a_part(local: Local) -> None:
    customer, price = local.customer(), local.price(2000)
    added = _subscribe(local, customer, price, default_tax_rates=[_rate(local, 20)]).latest_invoice
    assert (added.subtotal, added.total, added.total_excluding_tax, added.amount_paid) == (
        2000,
        2400,
        2000,
        2400,
    )
    (tax,) = added.lines.data[0].taxes
    assert (tax.amount, tax.tax_behavior, tax.taxable_amount) == (400, "exclusive", 2000)
    within = _subscribe(
        local, customer, price, default_tax_rates=[_rate(local, 25, inclusive=True)]
    ).latest_invoice
    assert (within.subtotal, within.total, within.total_excluding_tax, within.amount_paid) == (
        2000,
        2000,
        1600,
        2000,
    )
    assert [tax.amount for tax in within.total_taxes] == [400]


def test_rate_of_an_item_goes_before_that_of_its_subscription_and_discounts_before_tax(local: Local) -> None:
    customer, price, other = local.customer(), local.price(2000), local.price(1000)
    half = local.client.coupons.create({"percent_off": 50, "duration": "forever"}).id
    items = [{"price": price.id, "tax_rates": [_rate(local, 10)]}, {"price": other.id}]
    more = {"discounts": [{"coupon": half}], "default_tax_rates": [_rate(local, 20)]}
    sub = _subscribe(local, customer, price, **more, items=items)
    assert [line.taxes[0].amount for line in sub.latest_invoice.lines.data] == [100, 100]
    assert (sub.latest_invoice.subtotal, sub.latest_invoice.total) == (3000, 1700)
    with pytest.raises(stripe.InvalidRequestError, match="No such tax rate"):
        _subscribe(local, customer, price, default_tax_rates=["txr_none"])
    assert [one.id for one in local.client.subscriptions.list().data] == [sub.id]


def test_automatic_tax_goes_by_the_customers_country_and_says_where_it_cannot(local: Local) -> None:
    price = local.price(1000)
    nowhere = local.customer()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        _subscribe(local, nowhere, price, automatic_tax={"enabled": True})
    assert refused.value.code == "customer_tax_location_invalid"
    berlin = local.customer(address=BERLIN)
    invoice = _subscribe(local, berlin, price, automatic_tax={"enabled": True}).latest_invoice
    assert (invoice.total, invoice.automatic_tax.status) == (1190, "complete")
    assert invoice.total_taxes[0].taxability_reason == "standard_rated"
    rate = local.client.tax_rates.retrieve(invoice.total_taxes[0].tax_rate_details.tax_rate)
    assert (rate.country, rate.percentage, rate.inclusive) == ("DE", 19, False)
    within = local.price(1190, tax_behavior="inclusive")
    part = _subscribe(local, berlin, within, automatic_tax={"enabled": True}).latest_invoice
    assert (part.total, part.total_excluding_tax) == (1190, 1000)
    oregon = local.customer(address={"country": "US", "state": "OR"})
    assert _subscribe(local, oregon, price, automatic_tax={"enabled": True}).latest_invoice.total == 1000


@pytest.mark.parametrize(("more", "reason"), [
    ({"tax_exempt": "exempt"}, "customer_exempt"),
    ({"tax_exempt": "reverse"}, "reverse_charge"),
    ({"tax_id_data": [{"type": "eu_vat", "value": "DE123456789"}]}, "reverse_charge"),
])  # fmt: skip
def test_who_bears_no_tax_is_shown_why(local: Local, more: dict[str, Any], reason: str) -> None:
    customer = local.customer(address=BERLIN, **more)
    invoice = _subscribe(local, customer, local.price(1000), automatic_tax={"enabled": True}).latest_invoice
    assert (invoice.total, invoice.total_taxes[0].taxability_reason) == (1000, reason)


def test_tax_ids_are_kept_verified_shown_on_invoices_and_deleted(local: Local) -> None:
    customer = local.customer(address=BERLIN)
    bad = local.client.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE111111111"})
    good = local.client.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    assert (bad.verification.status, good.verification.status, good.country) == (
        "unverified",
        "verified",
        "DE",
    )
    invoice = _subscribe(local, customer, local.price(1000)).latest_invoice
    assert [one.value for one in invoice.customer_tax_ids] == ["DE111111111", "DE123456789"]
    assert local.client.customers.tax_ids.delete(customer.id, bad.id).deleted
    assert [one.id for one in local.client.customers.tax_ids.list(customer.id).data] == [good.id]
    with pytest.raises(stripe.InvalidRequestError, match="No such tax_id"):
        local.client.customers.tax_ids.retrieve(customer.id, bad.id)
    assert local.event_types().count("customer.tax_id.created") == 2


def test_renewal_whose_customer_moved_nowhere_is_not_finalized(local: Local) -> None:
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000}).id
    customer = local.customer(address=BERLIN, test_clock=clock)
    sub = _subscribe(local, customer, local.price(1000), automatic_tax={"enabled": True})
    local.client.customers.update(customer.id, {"address": ""})
    local.advance(clock, 1_800_000_000 + 32 * 86_400)
    (failed,) = local.events("invoice.finalization_failed")
    error = failed["data"]["object"]["last_finalization_error"]
    assert error["code"] == "customer_tax_location_invalid"
    local.client.customers.update(customer.id, {"address": BERLIN})
    paid = local.client.invoices.pay(failed["data"]["object"]["id"])
    assert (paid.status, paid.total, sub.latest_invoice.total) == ("paid", 1190, 1190)


def test_error_after_finalization_is_not_hidden(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000}).id
    _subscribe(local, local.customer(test_clock=clock), local.price(1000))

    def fail(*_: Any) -> None:
        raise invalid("The collection failed.")

    monkeypatch.setattr(collection, "advance", fail)
    local.client.test_helpers.test_clocks.advance(clock, {"frozen_time": 1_800_000_000 + 32 * 86_400})
    until(lambda: local.client.test_helpers.test_clocks.retrieve(clock).status == "internal_failure")


def test_checkout_asks_where_the_payer_is_and_adds_the_tax(local: Local) -> None:
    pack = local.price(1000, None)
    order: dict[str, Any] = {
        "mode": "payment",
        "line_items": [{"price": pack.id, "quantity": 2}],
        "success_url": "http://127.0.0.1/ok",
        "automatic_tax": {"enabled": True},
        "customer_creation": "always",
        "tax_id_collection": {"enabled": True},
    }
    session = local.client.checkout.sessions.create(order)
    assert (session.amount_total, session.automatic_tax.status) == (2000, "requires_location_inputs")
    done = local.control(
        f"checkout_sessions/{session.id}/complete",
        {"address": BERLIN, "tax_id": {"type": "ch_vat", "value": "CHE-1"}},
    )
    assert (done["amount_subtotal"], done["amount_total"], done["total_details"]["amount_tax"]) == (
        2000,
        2380,
        380,
    )
    assert done["automatic_tax"]["status"] == "complete"
    assert done["customer_details"]["tax_ids"] == [{"type": "ch_vat", "value": "CHE-1"}]
    (item,) = local.client.checkout.sessions.line_items.list(session.id).data
    assert (item.amount_subtotal, item.amount_tax, item.amount_total) == (2000, 380, 2380)
    assert local.client.payment_intents.retrieve(done["payment_intent"]).amount == 2380
    with pytest.raises(stripe.InvalidRequestError) as refused:
        local.client.checkout.sessions.create(
            {key: value for key, value in order.items() if key != "customer_creation"}
            | {"customer": local.customer().id}
        )
    assert refused.value.code == "customer_tax_location_invalid"


def test_tax_id_typed_in_at_checkout_counts_for_its_own_tax(local: Local) -> None:
    session = local.client.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price": local.price(1000, None).id, "quantity": 1}],
            "success_url": "http://127.0.0.1/ok",
            "automatic_tax": {"enabled": True},
            "tax_id_collection": {"enabled": True},
        }
    )
    path = f"checkout_sessions/{session.id}/complete"
    vat = {"type": "eu_vat", "value": "DE123456789"}
    done = local.control(path, {"address": BERLIN, "tax_id": vat})
    assert (done["amount_total"], done["total_details"]["amount_tax"]) == (1000, 0)
    assert local.client.payment_intents.retrieve(done["payment_intent"]).amount == 1000
    assert done["customer_details"]["tax_ids"] == [vat]


def test_checkout_of_a_plan_bills_the_tax_of_the_address_that_it_saves(local: Local) -> None:
    customer = local.customer()
    session = local.client.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "customer_update": {"address": "auto"},
            "automatic_tax": {"enabled": True},
            "line_items": [{"price": local.price(1000).id, "quantity": 1}],
            "success_url": "http://127.0.0.1/ok",
        }
    )
    done = local.control(f"checkout_sessions/{session.id}/complete", {"address": BERLIN})
    invoice = local.client.invoices.retrieve(done["invoice"])
    assert (done["amount_total"], invoice.total, invoice.total_excluding_tax) == (1190, 1190, 1000)
    assert local.client.customers.retrieve(customer.id).address.country == "DE"


def test_credit_note_returns_the_tax_of_what_it_credits(local: Local) -> None:
    customer, price = local.customer(), local.price(2000)
    invoice = _subscribe(local, customer, price, default_tax_rates=[_rate(local, 20)]).latest_invoice
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 500}
    note = local.client.credit_notes.create({"invoice": invoice.id, "lines": [line], "refund_amount": 600})
    assert (note.subtotal, note.total, note.total_excluding_tax) == (500, 600, 500)
    assert [(tax.amount, tax.taxable_amount) for tax in note.total_taxes] == [(100, 500)]


def test_older_versions_have_their_own_names_for_tax(local: Local) -> None:
    customer, price = local.customer(), local.price(2000)
    invoice = _subscribe(local, customer, price, default_tax_rates=[_rate(local, 20)]).latest_invoice
    shown = local.call("GET", f"/v1/invoices/{invoice.id}", Stripe_Version="2025-02-24.acacia").json()
    assert (shown["tax"], shown["total_tax_amounts"][0]["amount"], shown["total_tax_amounts"][0]["inclusive"]) == (
        400, 400, False,
    )  # fmt: skip
    assert shown["lines"]["data"][0]["tax_amounts"][0]["taxable_amount"] == 2000
