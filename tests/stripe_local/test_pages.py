"""Checkout, payment links and the portal, as a browser and as the control endpoints drive them."""

import re
import time
from typing import Any

import pytest
import stripe

from tests.stripe_local.conftest import Local


def _session(local: Local, price: Any, **more: Any) -> Any:
    recurring = price.type == "recurring"
    order = {
        "mode": "subscription" if recurring else "payment",
        "line_items": [{"price": price.id, "quantity": 1}],
        "success_url": "http://127.0.0.1/ok?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1/no",
    }
    return local.client.checkout.sessions.create(order | more)


def test_a_browser_pays_on_the_page_and_comes_back(local: Local) -> None:
    session = _session(local, local.price(), client_reference_id="user-1")
    page = local.http.get(session.url)
    assert "20.00 USD" in page.text
    assert 'href="http://127.0.0.1/no"' in page.text
    paid = local.http.post(session.url, content="email=anna%40example.com&payment_method=pm_card_visa")
    assert (paid.status_code, paid.headers["location"]) == (
        303,
        f"http://127.0.0.1/ok?session_id={session.id}",
    )
    done = local.client.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert done.customer_details.email == "anna@example.com"
    assert done.subscription.status == "active"
    assert done.line_items.data[0].amount_total == 2000


def test_a_decline_leaves_the_session_open_and_says_so(local: Local) -> None:
    session = _session(local, local.price(900, None))
    for card in ("pm_card_visa_chargeDeclined", "pm_card_chargeCustomerFail"):
        refused = local.http.post(session.url, content=f"email=a%40example.com&payment_method={card}")
        assert refused.status_code == 402
        assert "Your card was declined" in refused.text
    assert local.client.checkout.sessions.retrieve(session.id).status == "open"
    assert local.control(f"checkout_sessions/{session.id}/complete")["payment_status"] == "paid"


CHALLENGED = (
    "pm_card_authenticationRequiredOnSetup",
    "pm_card_authenticationRequired",
    "pm_card_threeDSecure2Required",
)


def _challenge(local: Local, session: Any, card: str) -> str:
    """Pay is pressed, and the bank asks → the address of its page."""
    asked = local.http.post(session.url, data={"email": "a@example.com", "payment_method": card})
    assert (asked.status_code, asked.headers["location"]) == (303, f"/c/pay/{session.id}/authenticate")
    page = local.http.get(f"{session.url}/authenticate")
    assert "20.00 USD" in page.text
    assert local.client.checkout.sessions.retrieve(session.id).status == "open"
    return f"{session.url}/authenticate"


@pytest.mark.parametrize("card", CHALLENGED)
@pytest.mark.parametrize("interval", ["month", None])
def test_the_bank_says_yes_and_the_session_is_paid(local: Local, card: str, interval: str | None) -> None:
    session = _session(local, local.price(interval=interval))
    bank = _challenge(local, session, card)
    back = local.http.post(bank, data={"succeeds": "true"})
    assert back.headers["location"] == f"http://127.0.0.1/ok?session_id={session.id}"
    done = local.client.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status, done.customer_details.email) == (
        "complete",
        "paid",
        "a@example.com",
    )
    assert local.http.post(bank, data={"succeeds": "true"}).status_code == 404
    assert len(local.client.charges.list({}).data) == 1


@pytest.mark.parametrize("interval", ["month", None])
def test_the_bank_says_no_and_another_card_pays(local: Local, interval: str | None) -> None:
    session = _session(local, local.price(interval=interval))
    bank = _challenge(local, session, CHALLENGED[0])
    back = local.http.post(bank, data={"succeeds": "false"})
    assert back.headers["location"] == f"/c/pay/{session.id}?redirect_status=failed"
    assert (
        "unable to authenticate your payment method"
        in local.http.get(local.url + back.headers["location"]).text
    )
    (intent,) = local.client.payment_intents.list({}).data
    assert (intent.status, intent.latest_charge) == ("requires_payment_method", None)
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"
    assert local.client.checkout.sessions.retrieve(session.id).status == "open"
    assert [t for t in local.event_types() if t.startswith("payment_intent.")] == [
        "payment_intent.created", "payment_intent.requires_action", "payment_intent.payment_failed",
    ]  # fmt: skip
    assert local.http.post(session.url, data={"email": "a@example.com"}).status_code == 303
    assert local.client.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_the_bank_is_not_asked_about_what_is_refused_anyway(local: Local) -> None:
    session = _session(local, local.price(), allow_promotion_codes=True)
    form = {"email": "a@example.com", "payment_method": CHALLENGED[0], "promotion_code": "WINTER"}
    wrong = local.http.post(session.url, data=form)
    assert (wrong.status_code, "This code is invalid" in wrong.text) == (400, True)
    assert 'value="a@example.com"' in wrong.text  # what was typed in is still there
    bank = _challenge(local, session, CHALLENGED[0])
    local.client.checkout.sessions.expire(session.id)
    assert "This session has expired" in local.http.post(bank, data={"succeeds": "true"}).text
    assert local.client.charges.list({}).data == []


def test_a_session_whose_day_is_over_says_so_and_tells_the_shop(local: Local) -> None:
    session = _session(local, local.price())
    local.world.pretended_time = session.expires_at - 1
    assert "This session has expired" not in local.http.get(session.url).text
    local.world.pretended_time = session.expires_at
    page = local.http.get(session.url)
    assert "This session has expired" in page.text
    assert 'href="http://127.0.0.1/no"' in page.text
    assert [event["data"]["object"]["id"] for event in local.events("checkout.session.expired")] == [
        session.id
    ]
    assert "This session has expired" in local.http.post(session.url, data={"email": "a@example.com"}).text


def test_what_is_paid_already_leads_back_to_the_shop(local: Local) -> None:
    session = _session(local, local.price())
    local.http.post(session.url, data={"email": "a@example.com"})
    page = local.http.get(session.url).text
    assert "This session was paid already" in page
    assert f'href="http://127.0.0.1/ok?session_id={session.id}"' in page


def test_names_from_the_shop_are_shown_as_text(local: Local) -> None:
    product = local.client.products.create({"name": "<script>alert(1)</script>"})
    order = {"product": product.id, "currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}}
    price = local.client.prices.create(order)
    customer = local.customer()
    local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    for url in (
        _session(local, price).url,
        _portal(local, customer, subscription_cancel={"enabled": True}).url,
    ):
        page = local.http.get(url).text
        assert "<script" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_the_subscription_carries_what_the_session_was_told(local: Local) -> None:
    customer = local.customer(None)
    session = _session(
        local,
        local.price(),
        customer=customer.id,
        metadata={"cart": "7"},
        subscription_data={"metadata": {"account": "acc-1"}, "trial_period_days": 7},
    )
    assert session.amount_total == 0
    done = local.control(f"checkout_sessions/{session.id}/complete", {"payment_method": "pm_card_visa"})
    sub = local.client.subscriptions.retrieve(done["subscription"])
    assert (sub.status, sub.metadata.to_dict(), sub.customer) == (
        "trialing",
        {"account": "acc-1"},
        customer.id,
    )
    assert (done["payment_status"], done["metadata"]) == ("no_payment_required", {"cart": "7"})
    assert sub.default_payment_method


def test_a_pack_is_paid_once_by_a_guest_or_a_customer(local: Local) -> None:
    pack = local.price(900, None)
    guest = _session(local, pack, payment_intent_data={"metadata": {"pack": "s"}})
    done = local.control(f"checkout_sessions/{guest.id}/complete", {"email": "guest@example.com"})
    assert done["customer"] is None
    intent = local.client.payment_intents.retrieve(done["payment_intent"])
    assert (intent.amount, intent.status, intent.metadata.to_dict()) == (900, "succeeded", {"pack": "s"})
    found = local.client.checkout.sessions.list({"payment_intent": intent.id}).data
    assert [session.id for session in found] == [guest.id]
    kept = _session(
        local,
        pack,
        customer=local.customer(None).id,
        payment_intent_data={"setup_future_usage": "off_session"},
    )
    customer = local.control(f"checkout_sessions/{kept.id}/complete")["customer"]
    assert len(local.client.payment_methods.list({"customer": customer}).data) == 1


def test_a_delayed_payment_is_settled_later(local: Local) -> None:
    for succeeds, event in ((True, "async_payment_succeeded"), (False, "async_payment_failed")):
        session = _session(local, local.price(900, None))
        done = local.control(f"checkout_sessions/{session.id}/complete", {"delayed": True})
        assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
        settled = local.control(f"checkout_sessions/{session.id}/settle", {"succeeds": succeeds})
        assert settled["payment_status"] == ("paid" if succeeds else "unpaid")
        assert len(local.events(f"checkout.session.{event}")) == 1


def test_an_authorized_session_is_complete_and_unpaid_until_it_is_captured(local: Local) -> None:
    session = _session(local, local.price(900, None), payment_intent_data={"capture_method": "manual"})
    done = local.control(f"checkout_sessions/{session.id}/complete")
    assert (done["status"], done["payment_status"]) == ("complete", "unpaid")
    held = local.client.payment_intents.retrieve(done["payment_intent"])
    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 900, 0)
    before = len(local.event_types())
    assert local.client.payment_intents.capture(held.id).status == "succeeded"
    assert local.event_types()[before:] == ["charge.captured", "payment_intent.succeeded"]
    assert local.client.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_a_card_that_was_declined_before_leaves_a_later_one_to_be_captured_too(local: Local) -> None:
    session = _session(local, local.price(900, None), payment_intent_data={"capture_method": "manual"})
    declined = {"email": "a@example.com", "payment_method": "pm_card_visa_chargeDeclined"}
    assert local.http.post(session.url, data=declined).status_code == 402
    done = local.control(f"checkout_sessions/{session.id}/complete")
    assert done["payment_status"] == "unpaid"
    assert local.client.payment_intents.retrieve(done["payment_intent"]).status == "requires_capture"


def test_a_one_time_price_beside_a_plan_is_on_the_first_invoice_with_its_price(local: Local) -> None:
    plan, pack = local.price(), local.price(900, None)
    both = [{"price": plan.id, "quantity": 1}, {"price": pack.id, "quantity": 2}]
    session = _session(local, plan, line_items=both)
    done = local.control(f"checkout_sessions/{session.id}/complete")
    assert (done["amount_total"], done["payment_status"]) == (3800, "paid")
    invoice = local.client.invoices.retrieve(done["invoice"])
    month, once = invoice.lines.data
    assert (invoice.billing_reason, invoice.amount_paid) == ("subscription_create", 3800)
    assert (month.parent.type, month.pricing.price_details.price) == ("subscription_item_details", plan.id)
    assert (once.parent.type, once.pricing.price_details.price) == ("invoice_item_details", pack.id)
    assert (once.amount, once.quantity, once.parent.invoice_item_details.proration) == (1800, 2, False)


def _custom(local: Local, **limits: int) -> Any:
    product = local.client.products.create({"name": "Any amount"})
    order = {"product": product.id, "currency": "usd", "custom_unit_amount": {"enabled": True, **limits}}
    return local.client.prices.create(order)


def test_the_customer_chooses_the_amount_where_the_price_leaves_it_to_them(local: Local) -> None:
    price = _custom(local, minimum=500, maximum=10000)
    assert (price.unit_amount, price.unit_amount_decimal, price.custom_unit_amount.minimum) == (
        None,
        None,
        500,
    )
    session = _session(local, price)
    assert (session.amount_total, session.payment_status) == (0, "unpaid")
    for amount, code in ((None, "parameter_missing"), (499, "amount_too_small"), (10001, "amount_too_large")):
        body = {} if amount is None else {"custom_amount": amount}
        refused = local.http.post(f"{local.url}/_control/checkout_sessions/{session.id}/complete", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
    done = local.control(f"checkout_sessions/{session.id}/complete", {"custom_amount": 2500})
    assert (done["amount_total"], done["payment_status"]) == (2500, "paid")
    assert local.client.payment_intents.retrieve(done["payment_intent"]).amount_received == 2500
    [item] = local.client.checkout.sessions.line_items.list(session.id).data
    assert (item.amount_total, item.quantity, item.price.id, item.price.unit_amount) == (
        2500,
        1,
        price.id,
        None,
    )


def test_the_page_asks_for_the_amount_and_begins_with_the_preset(local: Local) -> None:
    session = _session(local, _custom(local, preset=1500))
    assert 'name="custom_amount"' in local.http.get(session.url).text
    paid = local.http.post(session.url, data={"email": "a@example.com", "custom_amount": "1700"})
    assert paid.status_code == 303
    assert local.client.checkout.sessions.retrieve(session.id).amount_total == 1700
    other = _session(local, _custom(local, preset=1500), invoice_creation={"enabled": True})
    done = local.control(f"checkout_sessions/{other.id}/complete")
    [line] = local.client.invoices.retrieve(done["invoice"]).lines.data
    assert (line.amount, str(line.pricing.unit_amount_decimal)) == (1500, "1500")


def test_an_amount_is_chosen_behind_a_payment_link_too(local: Local) -> None:
    link = local.client.payment_links.create({"line_items": [{"price": _custom(local).id, "quantity": 1}]})
    done = local.control(f"payment_links/{link.id}/complete", {"custom_amount": 4200})
    assert (done["amount_total"], done["payment_status"]) == (4200, "paid")


def test_an_amount_to_choose_does_not_go_with_anything_else(local: Local) -> None:
    custom, plan = _custom(local), local.price()
    for mode, items in (
        ("payment", [{"price": custom.id, "quantity": 2}]),
        (
            "payment",
            [{"price": custom.id, "quantity": 1}, {"price": local.price(900, None).id, "quantity": 1}],
        ),
        ("subscription", [{"price": plan.id, "quantity": 1}, {"price": custom.id, "quantity": 1}]),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="custom_unit_amount"):
            _session(local, custom, mode=mode, line_items=items)
    order = {"product": plan.product, "currency": "usd", "recurring": {"interval": "month"}}
    with pytest.raises(stripe.InvalidRequestError, match="one-time"):
        local.client.prices.create(order | {"custom_unit_amount": {"enabled": True}})


def test_a_promotion_code_typed_in_takes_its_part_off(local: Local) -> None:
    coupon = local.client.coupons.create({"percent_off": 25, "duration": "forever"})
    local.client.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "SPRING"}
    )
    session = _session(local, local.price(), allow_promotion_codes=True)
    wrong = local.http.post(session.url, content="email=a%40example.com&promotion_code=WINTER")
    assert "This code is invalid" in wrong.text
    done = local.control(f"checkout_sessions/{session.id}/complete", {"promotion_code": "spring"})
    assert (done["amount_total"], done["total_details"]["amount_discount"]) == (1500, 500)
    assert local.client.invoices.retrieve(done["invoice"]).amount_paid == 1500


def test_a_session_expires_by_hand_and_cannot_be_paid_then(local: Local) -> None:
    session = local.client.checkout.sessions.expire(_session(local, local.price()).id)
    assert (session.status, session.url) == ("expired", None)
    answer = local.http.post(f"{local.url}/_control/checkout_sessions/{session.id}/complete", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "session_not_open")
    with pytest.raises(stripe.InvalidRequestError):
        local.client.checkout.sessions.expire(session.id)


def test_setup_mode_saves_the_card(local: Local) -> None:
    customer = local.customer(None)
    order = {"mode": "setup", "currency": "usd", "customer": customer.id, "success_url": "http://127.0.0.1/"}
    session = local.client.checkout.sessions.create(order)
    done = local.control(f"checkout_sessions/{session.id}/complete", {"payment_method": "pm_card_mastercard"})
    assert local.client.setup_intents.retrieve(done["setup_intent"]).status == "succeeded"
    (method,) = local.client.payment_methods.list({"customer": customer.id}).data
    assert method.card.brand == "mastercard"


def test_checkout_refuses_what_does_not_go_together(local: Local) -> None:
    price, pack = local.price(), local.price(900, None)
    for more in (
        {"mode": "payment"},
        {"customer": local.customer(None).id, "customer_email": "a@example.com"},
        {"allow_promotion_codes": True, "discounts": [{"coupon": "x"}]},
        {"expires_at": int(time.time()) + 60},
        {"return_url": "http://127.0.0.1/"},
        {"line_items": [{"price": pack.id, "quantity": 1}]},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            _session(local, price, **more)


def test_a_payment_link_opens_a_session_for_whoever_follows_it(local: Local) -> None:
    link = local.client.payment_links.create(
        {
            "line_items": [{"price": local.price().id, "quantity": 1}],
            "metadata": {"from": "link"},
            "after_completion": {"type": "redirect", "redirect": {"url": "http://127.0.0.1/thanks"}},
        }
    )
    opened = local.http.get(f"{link.url}?client_reference_id=user-9&prefilled_email=nine%40example.com")
    page = local.http.get(local.url + opened.headers["location"])
    assert 'value="nine@example.com"' in page.text
    paid = local.http.post(str(page.url), content="email=nine%40example.com")
    assert paid.headers["location"] == "http://127.0.0.1/thanks"
    (session,) = local.client.checkout.sessions.list({"payment_link": link.id}).data
    assert (session.client_reference_id, session.metadata.to_dict()) == ("user-9", {"from": "link"})
    assert local.client.subscriptions.retrieve(session.subscription).metadata.to_dict() == {}


def test_a_reference_that_stripe_does_not_take_is_dropped(local: Local) -> None:
    link = local.client.payment_links.create({"line_items": [{"price": local.price().id, "quantity": 1}]})
    for given, taken in (("a_B-9", "a_B-9"), ("a b", None), ("a.b", None), ("x" * 201, None), ("", None)):
        done = local.control(f"payment_links/{link.id}/complete", {"client_reference_id": given})
        assert done["client_reference_id"] == taken


def test_a_link_closes_by_hand_and_by_its_limit(local: Local) -> None:
    items = {"line_items": [{"price": local.price(900, None).id, "quantity": 1}]}
    link = local.client.payment_links.create(items)
    local.client.payment_links.update(link.id, {"active": False, "inactive_message": "Sold out"})
    assert "Sold out" in local.http.get(link.url).text
    limited = local.client.payment_links.create(
        items | {"restrictions": {"completed_sessions": {"limit": 1}}}
    )
    local.control(f"payment_links/{limited.id}/complete", {"client_reference_id": "first"})
    assert local.client.payment_links.retrieve(limited.id).active is False


def _portal(local: Local, customer: Any, **features: Any) -> Any:
    configuration = local.client.billing_portal.configurations.create({"features": features})
    return local.client.billing_portal.sessions.create(
        {"customer": customer.id, "configuration": configuration.id, "return_url": "http://127.0.0.1/account"}
    )


def _press(local: Local, url: str, **form: str) -> None:
    answer = local.http.post(url, data=form)
    assert answer.status_code in (200, 303), answer.text


def test_the_portal_cancels_in_the_flexible_way_and_takes_it_back(local: Local) -> None:
    customer = local.customer()
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": local.price().id}]})
    portal = _portal(local, customer, subscription_cancel={"enabled": True})
    assert re.search(r">Cancel plan</button>", local.http.get(portal.url).text)
    _press(local, portal.url, action="cancel", subscription=sub.id)
    leaving = local.client.subscriptions.retrieve(sub.id)
    assert leaving.cancel_at == sub["items"].data[0].current_period_end
    assert leaving.cancel_at_period_end is False
    _press(local, portal.url, action="resume", subscription=sub.id)
    assert local.client.subscriptions.retrieve(sub.id).cancel_at is None


def test_the_portal_pauses_changes_the_plan_and_the_card(local: Local) -> None:
    customer, old, new = local.customer(), local.price(2000), local.price(5000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": old.id}]})
    offered = [{"product": new.product, "prices": [new.id]}]
    portal = _portal(
        local,
        customer,
        subscription_pause={"enabled": True},
        payment_method_update={"enabled": True},
        subscription_update={"enabled": True, "default_allowed_updates": ["price"], "products": offered},
    )
    _press(local, portal.url, action="update", subscription=sub.id, price=new.id)
    assert local.client.subscriptions.retrieve(sub.id)["items"].data[0].price.id == new.id
    _press(local, portal.url, action="update_card", payment_method="pm_card_mastercard")
    default = local.client.customers.retrieve(customer.id).invoice_settings.default_payment_method
    assert local.client.payment_methods.retrieve(default).card.brand == "mastercard"
    _press(local, portal.url, action="pause", subscription=sub.id)
    assert local.client.subscriptions.retrieve(sub.id).status == "paused"
    _press(local, portal.url, action="unpause", subscription=sub.id)
    assert local.client.subscriptions.retrieve(sub.id).status == "active"


def test_checkouts_page_asks_for_the_country_and_bills_its_tax(local: Local) -> None:
    session = local.client.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price": local.price(1000, None).id, "quantity": 1}],
            "automatic_tax": {"enabled": True},
            "success_url": "http://127.0.0.1/ok",
        }
    )
    assert 'name="country"' in local.http.get(session.url).text
    form = {"email": "a@example.com", "payment_method": "pm_card_visa", "country": "de"}
    assert local.http.post(session.url, data=form).status_code == 303
    paid = local.client.checkout.sessions.retrieve(session.id)
    assert (paid.amount_total, paid.customer_details.address.country) == (1190, "DE")


def test_the_portal_downgrades_at_the_end_of_the_period_by_a_schedule(local: Local) -> None:
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000}).id
    customer, dear, cheap = local.customer(test_clock=clock), local.price(5000), local.price(2000)
    dearer = local.price(9000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": dear.id}]})
    offered = [{"product": price.product, "prices": [price.id]} for price in (dear, cheap, dearer)]
    portal = _portal(
        local,
        customer,
        subscription_update={
            "enabled": True,
            "default_allowed_updates": ["price"],
            "products": offered,
            "proration_behavior": "always_invoice",
            "schedule_at_period_end": {"conditions": [{"type": "decreasing_item_amount"}]},
        },
    )
    _press(local, portal.url, action="update", subscription=sub.id, price=cheap.id)
    planned = local.client.subscriptions.retrieve(sub.id, {"expand": ["schedule"]})
    assert planned["items"].data[0].price.id == dear.id
    assert [phase["items"][0].price for phase in planned.schedule.phases] == [dear.id, cheap.id]
    _press(local, portal.url, action="keep", subscription=sub.id)
    assert local.client.subscriptions.retrieve(sub.id).schedule is None
    _press(local, portal.url, action="update", subscription=sub.id, price=cheap.id)
    local.advance(clock, sub["items"].data[0].current_period_end + 7200)
    renewed = local.client.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert (renewed["items"].data[0].price.id, renewed.latest_invoice.amount_paid) == (cheap.id, 2000)
    assert renewed.latest_invoice.billing_reason == "subscription_cycle"
    _press(local, portal.url, action="update", subscription=sub.id, price=dearer.id)
    upgraded = local.client.subscriptions.retrieve(sub.id)
    assert (upgraded["items"].data[0].price.id, upgraded.schedule) == (dearer.id, None)


def _flow(local: Local, customer: Any, kind: str, subscription: str | None, **features: Any) -> Any:
    configuration = local.client.billing_portal.configurations.create({"features": features})
    data: dict[str, Any] = {
        "type": kind,
        "after_completion": {"type": "redirect", "redirect": {"return_url": "http://127.0.0.1/done"}},
    }
    if subscription:
        data[kind] = {"subscription": subscription}
    order = {
        "customer": customer.id,
        "configuration": configuration.id,
        "return_url": "http://127.0.0.1/account",
    }
    return local.client.billing_portal.sessions.create(order | {"flow_data": data})


def test_a_deep_link_shows_its_own_step_and_leads_back_when_it_is_done(local: Local) -> None:
    customer, old, new = local.customer(), local.price(2000), local.price(5000)
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": old.id}]})
    other = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": new.id}]})
    features = {
        "subscription_cancel": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_update": {
            "enabled": True,
            "default_allowed_updates": ["price"],
            "products": [{"product": new.product, "prices": [new.id]}],
        },
    }
    buttons = {
        "subscription_cancel": ("cancel", {"subscription": sub.id}),
        "subscription_update": ("update", {"subscription": sub.id, "price": new.id}),
        "payment_method_update": ("update_card", {"payment_method": "pm_card_mastercard"}),
    }
    for kind, (action, form) in buttons.items():
        about = sub.id if kind.startswith("subscription") else None
        portal = _flow(local, customer, kind, about, **features)
        page = local.http.get(portal.url).text
        assert re.findall('name="action" value="([a-z_]+)"', page) == [action]
        assert other.id not in page
        done = local.http.post(portal.url, data={"action": action, **form})
        assert (done.status_code, done.headers["location"]) == (303, "http://127.0.0.1/done")
    assert local.client.subscriptions.retrieve(sub.id).cancel_at is not None


def test_the_portal_allows_no_more_than_its_configuration(local: Local) -> None:
    customer, stranger = local.customer(), local.customer()
    price = local.price()
    own = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    other = local.client.subscriptions.create({"customer": stranger.id, "items": [{"price": price.id}]})
    portal = _portal(local, customer, subscription_cancel={"enabled": True})
    for form in (
        {"action": "pause", "subscription": own.id},
        {"action": "update", "subscription": own.id, "price": price.id},
        {"action": "cancel", "subscription": other.id},
    ):
        assert local.http.post(portal.url, data=form).status_code == 400
    assert local.client.subscriptions.retrieve(other.id).cancel_at is None
    flow = {"type": "subscription_pause", "subscription_pause": {"subscription": own.id}}
    with pytest.raises(stripe.InvalidRequestError):
        local.client.billing_portal.sessions.create({"customer": customer.id, "flow_data": flow})


def test_the_first_page_shows_the_shop_and_moves_its_clock(local: Local) -> None:
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000, "name": "spring"})
    customer = local.customer(test_clock=clock.id, email="<b>bold@example.com")
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": local.price().id}]})
    page = local.http.get(local.url).text
    assert sub.id in page
    assert "&lt;b&gt;bold@example.com" in page
    assert local.http.post(f"{local.url}/clocks/{clock.id}/advance", data={"days": "31"}).status_code == 303
    assert local.client.test_helpers.test_clocks.retrieve(clock.id).frozen_time == 1_800_000_000 + 31 * 86_400


def test_a_hosted_invoice_is_paid_on_its_page(local: Local) -> None:
    customer = local.customer(None)
    local.client.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "usd"})
    order = {"customer": customer.id, "collection_method": "send_invoice", "days_until_due": 5}
    draft = local.client.invoices.create(order | {"pending_invoice_items_behavior": "include"})
    url = local.client.invoices.finalize_invoice(draft.id).hosted_invoice_url
    assert "7.00 USD" in local.http.get(url).text
    bank = local.http.post(url, data={"payment_method": "pm_card_authenticationRequired"}).headers["location"]
    back = local.http.post(local.url + bank, data={"succeeds": "false"}).headers["location"]
    assert "unable to authenticate your payment method" in local.http.get(back).text
    assert local.client.invoices.retrieve(draft.id).status == "open"
    bank = local.http.post(url, data={"payment_method": "pm_card_authenticationRequired"}).headers["location"]
    local.http.post(local.url + bank, data={"succeeds": "true"})
    assert local.client.invoices.retrieve(draft.id).status == "paid"
