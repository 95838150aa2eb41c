"""Subscriptions, their invoices and the clock that moves them."""

import itertools
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.stripe_local.conftest import Local

DAY, HOUR = 86_400, 3_600


def _at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())


def _clock(local: Local, *moment: int) -> str:
    return local.client.test_helpers.test_clocks.create({"frozen_time": _at(*moment)}).id


def _period(subscription: Any) -> tuple[str, str]:
    item = subscription["items"].data[0]
    ends = (item.current_period_start, item.current_period_end)
    start, end = (datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d") for moment in ends)
    return start, end


def _subscribe(local: Local, customer: Any, price: Any, **more: Any) -> Any:
    return local.client.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id}], **more}
    )


def test_a_paid_subscription_is_active_with_a_paid_invoice(local: Local) -> None:
    price = local.price(2000, metadata={"monthly_credits": "100"})
    sub = _subscribe(local, local.customer(), price, metadata={"user": "u1"})
    invoice = local.client.invoices.retrieve(sub.latest_invoice, {"expand": ["payments"]})
    line = invoice.lines.data[0]
    assert (sub.status, invoice.status, invoice.amount_paid) == ("active", "paid", 2000)
    assert invoice.billing_reason == "subscription_create"
    assert invoice.parent.subscription_details.subscription == sub.id
    assert invoice.parent.subscription_details.metadata.to_dict() == {"user": "u1"}
    assert line.pricing.price_details.price == price.id
    assert line.parent.subscription_item_details.subscription_item == sub["items"].data[0].id
    assert line.period.start == sub["items"].data[0].current_period_start
    intent = invoice.payments.data[0].payment.payment_intent
    found = local.client.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent}}
    )
    assert [payment.invoice for payment in found.data] == [invoice.id]


def test_the_events_of_a_first_payment_are_those_of_stripe(local: Local) -> None:
    customer, price = local.customer(), local.price()
    before = len(local.event_types())
    _subscribe(local, customer, price)
    assert local.event_types()[before:] == [
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]


def test_month_ends_are_counted_from_the_anchor(local: Local) -> None:
    clock = _clock(local, 2026, 1, 31, 10)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    seen = [_period(sub)]
    for _ in range(4):
        local.advance(clock, sub["items"].data[0].current_period_end + 2 * HOUR)
        sub = local.client.subscriptions.retrieve(sub.id)
        seen.append(_period(sub))
    days = ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30"]
    assert seen == list(itertools.pairwise(days))


def test_a_renewal_is_invoiced_at_once_and_paid_an_hour_later(local: Local) -> None:
    clock = _clock(local, 2026, 3, 10)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    local.advance(clock, _at(2026, 4, 10, 0, 30))
    renewed = local.client.subscriptions.retrieve(sub.id)
    draft = local.client.invoices.retrieve(renewed.latest_invoice)
    assert (_period(renewed), draft.status) == (("2026-04-10", "2026-05-10"), "draft")
    (update,) = [
        e
        for e in local.events("customer.subscription.updated")
        if "items" in e["data"]["previous_attributes"]
    ]
    former = update["data"]["previous_attributes"]["items"]["data"][0]
    assert former["current_period_start"] == sub["items"].data[0].current_period_start
    local.advance(clock, _at(2026, 4, 10, 1, 30))
    paid = local.client.invoices.retrieve(draft.id)
    assert (paid.status, paid.billing_reason) == ("paid", "subscription_cycle")
    assert paid.lines.data[0].period.start == _at(2026, 4, 10)


def test_events_carry_the_time_of_the_wall_and_objects_that_of_their_clock(local: Local) -> None:
    clock = _clock(local, 2020, 1, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    (paid,) = local.events("invoice.paid")
    assert sub.created == _at(2020, 1, 1)
    assert paid["data"]["object"]["created"] == _at(2020, 1, 1)
    assert abs(paid["created"] - local.world.wall_time()) < 60


def test_a_year_of_several_subscriptions_comes_in_order_of_time(local: Local) -> None:
    clock, price = _clock(local, 2026, 1, 31), local.price()
    for _ in range(3):
        _subscribe(local, local.customer(test_clock=clock), price)
    local.advance(clock, _at(2027, 1, 31, 2))
    invoices = list(local.client.invoices.list({"limit": 100}).auto_paging_iter())
    cycles = [i for i in invoices if i.billing_reason == "subscription_cycle"]
    assert len(cycles) == 36
    assert all(invoice.status == "paid" for invoice in cycles)
    paid = [e["data"]["object"]["status_transitions"]["paid_at"] for e in local.events("invoice.paid")]
    assert paid == sorted(paid)


@pytest.mark.slow
def test_a_thousand_subscriptions_pass_a_year_in_under_a_minute(local: Local) -> None:
    price, clocks = local.price(), []
    buyer = "payment_method=pm_card_visa&invoice_settings[default_payment_method]=pm_card_visa"
    for _ in range(112):
        clocks.append(_clock(local, 2026, 1, 31))
        for _ in range(3):
            customer = local.call("POST", "/v1/customers", f"{buyer}&test_clock={clocks[-1]}").json()["id"]
            for _ in range(3):
                order = f"customer={customer}&items[0][price]={price.id}"
                assert local.call("POST", "/v1/subscriptions", order).status_code == 200
    # The processor's time: other programs on the machine are not this test's subject.
    started = time.process_time()
    for clock in clocks:
        local.advance(clock, _at(2027, 1, 31, 2))
    assert time.process_time() - started < 60
    cycles = [i for i in local.world.store.all("invoice") if i["billing_reason"] == "subscription_cycle"]
    assert len(cycles) == 112 * 9 * 12
    assert {i["status"] for i in cycles} == {"paid"}


def test_a_declined_first_payment_leaves_the_subscription_incomplete_until_it_expires(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    sub = _subscribe(local, local.customer("pm_card_chargeCustomerFail", test_clock=clock), local.price())
    assert sub.status == "incomplete"
    assert local.events("invoice.payment_failed")
    local.advance(clock, _at(2026, 1, 2))
    assert local.client.subscriptions.retrieve(sub.id).status == "incomplete_expired"


def test_error_if_incomplete_makes_nothing_when_the_card_declines(local: Local) -> None:
    customer, price = local.customer("pm_card_chargeCustomerFail"), local.price()
    with pytest.raises(stripe.CardError):
        _subscribe(local, customer, price, payment_behavior="error_if_incomplete")
    assert local.client.subscriptions.list({"status": "all"}).data == []


def test_without_a_payment_method_a_paid_subscription_is_refused(local: Local) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        _subscribe(local, local.customer(None), local.price())


def test_failing_renewals_are_retried_and_then_cancelled(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    customer = local.customer(test_clock=clock)
    sub = _subscribe(local, customer, local.price())
    broken = local.client.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    local.client.customers.update(customer.id, {"invoice_settings": {"default_payment_method": broken.id}})
    local.advance(clock, _at(2026, 2, 1, 2))
    assert local.client.subscriptions.retrieve(sub.id).status == "past_due"
    invoice = local.client.invoices.list({"status": "open"}).data[0]
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (1, _at(2026, 2, 4, 1))
    local.advance(clock, _at(2026, 2, 25))
    ended = local.client.subscriptions.retrieve(sub.id)
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    assert len(local.events("invoice.payment_failed")) == 4


def test_a_new_card_rescues_a_past_due_subscription(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    customer = local.customer(test_clock=clock)
    sub = _subscribe(local, customer, local.price())
    for card, expected, day in (("pm_card_chargeCustomerFail", "past_due", 1), ("pm_card_visa", "active", 5)):
        method = local.client.payment_methods.attach(card, {"customer": customer.id})
        local.client.customers.update(
            customer.id, {"invoice_settings": {"default_payment_method": method.id}}
        )
        local.advance(clock, _at(2026, 2, day, 2))
        assert local.client.subscriptions.retrieve(sub.id).status == expected


def test_a_trial_costs_nothing_warns_and_then_bills(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price(), trial_period_days=10)
    first = local.client.invoices.retrieve(sub.latest_invoice)
    assert (sub.status, first.total, first.status) == ("trialing", 0, "paid")
    local.advance(clock, _at(2026, 1, 8, 1))
    assert len(local.events("customer.subscription.trial_will_end")) == 1
    local.advance(clock, _at(2026, 1, 11, 2))
    sub = local.client.subscriptions.retrieve(sub.id)
    assert (sub.status, _period(sub)) == ("active", ("2026-01-11", "2026-02-11"))
    assert local.client.invoices.retrieve(sub.latest_invoice).amount_paid == 2000


def test_a_trial_without_a_card_ends_as_its_settings_say(local: Local) -> None:
    price, clock = local.price(), _clock(local, 2026, 1, 1)
    made = {}
    for behavior in ("cancel", "pause"):
        settings = {"end_behavior": {"missing_payment_method": behavior}}
        customer = local.customer(None, test_clock=clock)
        made[behavior] = _subscribe(local, customer, price, trial_period_days=5, trial_settings=settings).id
    local.advance(clock, _at(2026, 1, 7))
    assert local.client.subscriptions.retrieve(made["cancel"]).status == "canceled"
    paused = local.client.subscriptions.retrieve(made["pause"])
    assert paused.status == "paused"
    assert paused.status_details.paused.subscription.type == "trial_end_without_payment_method"


def test_cancelling_at_the_end_of_the_period_ends_it_there(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    scheduled = local.client.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    assert scheduled.cancel_at == _at(2026, 2, 1)
    local.advance(clock, _at(2026, 2, 1, 1))
    assert local.client.subscriptions.retrieve(sub.id).status == "canceled"
    assert len(local.events("customer.subscription.deleted")) == 1
    assert len(local.events("invoice.paid")) == 1


def test_an_upgrade_is_prorated_on_the_next_invoice_or_at_once(local: Local) -> None:
    clock = _clock(local, 2026, 4, 1)
    cheap, dear = local.price(3000), local.price(6000)
    for behavior in ("create_prorations", "always_invoice"):
        sub = _subscribe(local, local.customer(test_clock=clock), cheap)
        item = sub["items"].data[0].id
        half = {"proration_date": _at(2026, 4, 16), "proration_behavior": behavior}
        changed = local.client.subscriptions.update(
            sub.id, {"items": [{"id": item, "price": dear.id}], **half}
        )
        invoice = local.client.invoices.retrieve(changed.latest_invoice)
        if behavior == "always_invoice":
            assert (invoice.billing_reason, invoice.amount_paid) == ("subscription_update", 1500)
            amounts = [line.amount for line in invoice.lines.data]
            assert amounts == [-1500, 3000]
            assert all(line.parent.subscription_item_details.proration for line in invoice.lines.data)
        else:
            assert invoice.billing_reason == "subscription_create"
            assert len(local.client.invoice_items.list({"pending": True}).data) == 2
            preview = local.client.invoices.create_preview({"subscription": sub.id})
            assert preview.total == 6000 + 1500


def test_changing_the_interval_starts_a_new_period_and_credits_the_rest(local: Local) -> None:
    clock = _clock(local, 2026, 4, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price(3000))
    local.advance(clock, _at(2026, 4, 16))
    yearly = local.price(30000, "year")
    change = {"items": [{"id": sub["items"].data[0].id, "price": yearly.id}]}
    changed = local.client.subscriptions.update(sub.id, change)
    invoice = local.client.invoices.retrieve(changed.latest_invoice)
    assert _period(changed) == ("2026-04-16", "2027-04-16")
    assert (invoice.total, invoice.status) == (30000 - 1500, "paid")


def test_a_downgrade_leaves_credit_that_the_next_invoice_uses(local: Local) -> None:
    clock = _clock(local, 2026, 4, 1)
    customer = local.customer(test_clock=clock)
    sub = _subscribe(local, customer, local.price(6000))
    local.advance(clock, _at(2026, 4, 16))
    item, cheap = sub["items"].data[0].id, local.price(3000)
    order = {"items": [{"id": item, "price": cheap.id}], "proration_behavior": "always_invoice"}
    local.client.subscriptions.update(sub.id, order)
    assert local.client.customers.retrieve(customer.id).balance == -1500
    local.advance(clock, _at(2026, 5, 1, 2))
    last = local.client.invoices.retrieve(local.client.subscriptions.retrieve(sub.id).latest_invoice)
    assert (last.total, last.amount_paid, last.starting_balance, last.ending_balance) == (
        3000,
        1500,
        -1500,
        0,
    )


def test_discounts_last_as_long_as_their_coupon(local: Local) -> None:
    clock = _clock(local, 2026, 1, 15)
    coupon = local.client.coupons.create(
        {"percent_off": 50, "duration": "repeating", "duration_in_months": 2}
    )
    sub = _subscribe(
        local, local.customer(test_clock=clock), local.price(), discounts=[{"coupon": coupon.id}]
    )
    local.advance(clock, _at(2026, 4, 15, 2))
    paid = [event["data"]["object"]["amount_paid"] for event in local.events("invoice.paid")]
    assert paid == [1000, 1000, 2000, 2000]
    assert local.client.subscriptions.retrieve(sub.id).discounts == []


def test_a_hundred_percent_off_is_a_paid_invoice_without_a_payment(local: Local) -> None:
    coupon = local.client.coupons.create({"percent_off": 100, "duration": "forever"})
    sub = _subscribe(local, local.customer(None), local.price(), discounts=[{"coupon": coupon.id}])
    invoice = local.client.invoices.retrieve(sub.latest_invoice, {"expand": ["payments"]})
    assert (sub.status, invoice.status, invoice.total, invoice.payments.data) == ("active", "paid", 0, [])


def test_graduated_tiers_make_a_line_each(local: Local) -> None:
    tiers = [{"up_to": 5, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 80}]
    product = local.client.products.create({"name": "Seats"})
    price = local.client.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "recurring": {"interval": "month"},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": tiers,
        }
    )
    order = {"customer": local.customer().id, "items": [{"price": price.id, "quantity": 8}]}
    invoice = local.client.invoices.retrieve(local.client.subscriptions.create(order).latest_invoice)
    assert [(line.quantity, line.amount) for line in invoice.lines.data] == [(5, 500), (3, 240)]


def test_a_paused_subscription_stands_still_until_it_is_resumed(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    assert local.client.subscriptions.pause(sub.id, {"type": "subscription"}).status == "paused"
    local.advance(clock, _at(2026, 3, 10))
    assert len(local.events("invoice.paid")) == 1
    resumed = local.client.subscriptions.resume(sub.id)
    assert (resumed.status, _period(resumed)) == ("active", ("2026-03-10", "2026-04-10"))
    assert len(local.events("invoice.paid")) == 2


def test_pause_collection_voids_the_invoices_and_keeps_the_status(local: Local) -> None:
    clock = _clock(local, 2026, 1, 1)
    sub = _subscribe(local, local.customer(test_clock=clock), local.price())
    local.client.subscriptions.update(sub.id, {"pause_collection": {"behavior": "void"}})
    local.advance(clock, _at(2026, 2, 1, 2))
    sub = local.client.subscriptions.retrieve(sub.id)
    assert (sub.status, local.client.invoices.retrieve(sub.latest_invoice).status) == ("active", "void")


def test_an_invoice_paid_out_of_band_says_paid_and_nothing_of_a_payment(local: Local) -> None:
    customer = local.customer()
    local.client.invoice_items.create({"customer": customer.id, "amount": 500, "currency": "usd"})
    draft = local.client.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    paid = local.client.invoices.pay(draft.id, {"paid_out_of_band": True})
    assert (paid.status, paid.parent, paid.amount_due) == ("paid", None, 500)
    assert [t for t in local.event_types() if t in ("invoice.paid", "invoice.payment_succeeded")] == [
        "invoice.paid"
    ]


def test_deleting_a_customer_ends_the_subscriptions(local: Local) -> None:
    customer = local.customer()
    sub = _subscribe(local, customer, local.price())
    assert local.client.customers.delete(customer.id).deleted
    assert local.client.subscriptions.retrieve(sub.id).status == "canceled"
    assert local.client.customers.retrieve(customer.id).deleted


def test_a_refused_change_changes_nothing(local: Local) -> None:
    sub = _subscribe(local, local.customer(), local.price())
    before = local.call("GET", f"/v1/subscriptions/{sub.id}").json()
    order = {
        "metadata": {"a": "b"},
        "discounts": [{"coupon": "none"}],
        "items": [{"price": local.price().id}],
    }
    with pytest.raises(stripe.InvalidRequestError):
        local.client.subscriptions.update(sub.id, order)
    assert local.call("GET", f"/v1/subscriptions/{sub.id}").json() == before


def test_a_credit_note_lowers_what_is_due_or_gives_back_what_was_paid(local: Local) -> None:
    customer = local.customer()
    local.client.invoice_items.create({"customer": customer.id, "amount": 1000, "currency": "usd"})
    draft = local.client.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    local.client.invoices.finalize_invoice(draft.id)
    local.client.credit_notes.create({"invoice": draft.id, "amount": 400})
    paid = local.client.invoices.pay(draft.id)
    assert (paid.amount_paid, paid.pre_payment_credit_notes_amount) == (600, 400)
    note = local.client.credit_notes.create(
        {"invoice": draft.id, "amount": 300, "refund_amount": 200, "credit_amount": 100}
    )
    assert local.client.refunds.retrieve(note.refunds[0].refund).amount == 200
    assert local.client.customers.retrieve(customer.id).balance == -100
    with pytest.raises(stripe.InvalidRequestError, match="must equal"):
        local.client.credit_notes.create({"invoice": draft.id, "amount": 300, "refund_amount": 200})


def _paid(local: Local, **more: Any) -> Any:
    sub = _subscribe(local, local.customer(), local.price(1000), **more)
    return local.client.invoices.retrieve(sub.latest_invoice)


def test_a_credit_note_of_a_line_credits_its_discount_too(local: Local) -> None:
    coupon = local.client.coupons.create({"percent_off": 25, "duration": "forever"})
    invoice = _paid(
        local, discounts=[{"coupon": coupon.id}], items=[{"price": local.price(1000).id, "quantity": 4}]
    )
    line = invoice.lines.data[0]
    one = {"type": "invoice_line_item", "invoice_line_item": line.id}
    note = local.client.credit_notes.create(
        {"invoice": invoice.id, "lines": [one | {"quantity": 1}], "refund_amount": 750}
    )
    [credited] = note.lines.data
    assert (credited.invoice_line_item, credited.amount, credited.quantity) == (line.id, 1000, 1)
    assert (credited.unit_amount, credited.discount_amount) == (1000, 250)
    assert (note.subtotal, note.discount_amount, note.total, note.amount) == (1000, 250, 750, 750)
    assert (note.pre_payment_amount, note.post_payment_amount, note.type) == (0, 750, "post_payment")
    assert note.refunds[0].amount_refunded == 750
    part = {"invoice": invoice.id, "lines": [one | {"amount": 3001}], "refund_amount": 2251}
    with pytest.raises(stripe.InvalidRequestError, match="more than its amount"):
        local.client.credit_notes.create(part)
    rest = {"invoice": invoice.id, "lines": [one | {"amount": 3000}], "out_of_band_amount": 2250}
    last = local.client.credit_notes.create(rest)
    assert (last.amount, last.out_of_band_amount, last.refunds) == (2250, 2250, [])
    assert last.lines.data[0].quantity is None


def test_a_credit_note_may_be_of_refunds_that_were_made_before(local: Local) -> None:
    invoice = _paid(local)
    paid = local.client.invoices.retrieve(invoice.id, {"expand": ["payments"]})
    intent = paid.payments.data[0].payment.payment_intent
    refund = local.client.refunds.create({"payment_intent": intent, "amount": 400})
    order = {"invoice": invoice.id, "amount": 500, "refunds": [{"refund": refund.id}], "credit_amount": 100}
    note = local.client.credit_notes.create(order | {"expand": ["refunds.refund"]})
    assert [(found.refund.id, found.amount_refunded) for found in note.refunds] == [(refund.id, 400)]
    assert len(local.client.refunds.list({}).data) == 1
    assert local.client.customers.retrieve(invoice.customer).balance == -100
    with pytest.raises(stripe.InvalidRequestError, match="exceed"):
        local.client.credit_notes.create({"invoice": invoice.id, "amount": 501, "out_of_band_amount": 501})


def test_a_credit_note_of_an_open_invoice_is_before_the_payment(local: Local) -> None:
    sub = _subscribe(local, local.customer(), local.price(1000), payment_behavior="default_incomplete")
    line = local.client.invoices.retrieve(sub.latest_invoice).lines.data[0]
    lines = [{"type": "invoice_line_item", "invoice_line_item": line.id, "amount": 400}]
    note = local.client.credit_notes.create({"invoice": sub.latest_invoice, "lines": lines})
    assert (note.type, note.pre_payment_amount, note.post_payment_amount) == ("pre_payment", 400, 0)
    assert local.client.invoices.pay(sub.latest_invoice).amount_paid == 600


def test_ending_a_trial_now_bills_or_pauses(local: Local) -> None:
    price = local.price()
    paying = _subscribe(local, local.customer(), price, trial_period_days=10)
    assert local.client.subscriptions.update(paying.id, {"trial_end": "now"}).status == "active"
    assert local.client.invoices.list({"subscription": paying.id}).data[0].amount_paid == 2000
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    poor = _subscribe(local, local.customer(None), price, trial_period_days=10, trial_settings=settings)
    assert local.client.subscriptions.update(poor.id, {"trial_end": "now"}).status == "paused"
    assert len(local.events("customer.subscription.paused")) == 1


def test_price_described_in_place_can_be_bought_at_checkout_added_and_scheduled(local: Local) -> None:
    product = local.client.products.create({"name": "Pro"}).id
    described = {
        "currency": "usd",
        "product": product,
        "recurring": {"interval": "month"},
        "unit_amount": 700,
    }
    items = [{"price_data": described, "quantity": 1}]
    session = local.client.checkout.sessions.create(
        {"mode": "subscription", "line_items": items, "success_url": "http://127.0.0.1/ok"}
    )
    bought = local.control(f"checkout_sessions/{session.id}/complete")
    assert (bought["amount_total"], bought["payment_status"]) == (700, "paid")
    customer = bought["customer"]
    changed = local.client.subscriptions.update(bought["subscription"], {"items": items})
    assert [item.price.unit_amount for item in changed["items"].data] == [700, 700]
    schedule = local.client.subscription_schedules.create(
        {"customer": customer, "start_date": "now", "phases": [{"items": items}]}
    )
    started = local.client.subscriptions.retrieve(schedule.subscription)
    assert started["items"].data[0].price.unit_amount == 700


def test_price_that_was_never_used_is_deleted_and_its_product_after_it(local: Local) -> None:
    unused, used = local.price(1000), local.price(2000)
    local.client.subscriptions.create({"customer": local.customer().id, "items": [{"price": used.id}]})
    refused = local.http.post(f"{local.url}/_control/prices/{used.id}/delete")
    assert (refused.status_code, "was used" in refused.text) == (400, True)
    with pytest.raises(stripe.InvalidRequestError, match="one or more user-created prices"):
        local.client.products.delete(unused.product)
    local.control(f"prices/{unused.id}/delete")
    local.client.products.delete(unused.product)
    assert local.event_types()[-3:] == ["price.deleted", "plan.deleted", "product.deleted"]
    plan = local.client.plans.create(
        {"currency": "usd", "interval": "month", "amount": 5, "product": used.product}
    )
    local.client.plans.delete(plan.id)
    assert local.event_types()[-2:] == ["price.deleted", "plan.deleted"]
