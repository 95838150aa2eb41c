"""Checkout, payment links and the portal, as a browser and as the control endpoints drive them."""

import re
import time
from typing import Any

import pytest
import stripe

from tests.stripe.conftest import Local


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
    assert re.search(r">Cancel</button>", local.http.get(portal.url).text)
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
    local.http.post(url, data={"payment_method": "pm_card_visa"})
    assert local.client.invoices.retrieve(draft.id).status == "paid"
