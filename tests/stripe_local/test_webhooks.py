"""Events on their way to a shop: signed, retried, repeated, spoiled, and in old shapes."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import stripe

from tests.stripe_local.conftest import SECRET, Local, Shop, until

REPOSITORY = Path(__file__).parents[2]


def test_every_event_arrives_signed_and_in_order(wired: Local, shop: Shop) -> None:
    customer, price = wired.customer(), wired.price()
    wired.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    assert wired.control("wait_idle") == {"idle": True, "waiting": 0, "waiting_for_retry": 0}
    assert shop.types() == wired.event_types()
    for headers, body in shop.received:
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert event.api_version == "2026-10-28.endive"
        assert event.pending_webhooks == 1


def test_events_name_the_request_that_caused_them(wired: Local) -> None:
    wired.client.customers.create({"email": "a@example.com"}, {"idempotency_key": "k-1"})
    (event,) = wired.events("customer.created")
    assert event["request"]["idempotency_key"] == "k-1"
    assert event["request"]["id"].startswith("req_")


def test_a_refused_delivery_is_tried_again_by_the_schedule(wired: Local, shop: Shop) -> None:
    wired.control("settings", {"webhook_retry_delays_s": [0.05, 0.05]})
    answers = iter((500, 302, 200))
    shop.answer = lambda body: next(answers)
    wired.client.customers.create({"email": "a@example.com"})
    (delivery,) = until(lambda: wired.deliveries(state="delivered"))
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 302, 200]
    assert [event["id"] for event in shop.events()] == [delivery["event"]] * 3


def test_delivery_success_finds_what_never_arrived(wired: Local, shop: Shop) -> None:
    wired.control("settings", {"webhook_retry_delays_s": []})
    shop.answer = lambda body: 500 if b"lost@" in body else 200
    wired.client.customers.create({"email": "found@example.com"})
    wired.client.customers.create({"email": "lost@example.com"})
    wired.control("wait_idle")
    (missed,) = wired.client.events.list({"delivery_success": False, "types": ["customer.*"]}).data
    assert missed.data.object.email == "lost@example.com"
    assert wired.client.events.retrieve(missed.id).pending_webhooks == 0


def test_wait_idle_says_what_waits_for_a_later_retry(wired: Local, shop: Shop) -> None:
    shop.answer = lambda body: 503
    wired.control("settings", {"webhook_retry_delays_s": [60]})
    wired.client.customers.create({"email": "a@example.com"})
    assert wired.control("wait_idle") == {"idle": True, "waiting": 0, "waiting_for_retry": 1}


def test_endpoints_get_what_they_asked_for_in_their_version(local: Local, shop: Shop) -> None:
    order = {"url": shop.url, "enabled_events": ["invoice.paid"], "api_version": "2025-02-24.acacia"}
    endpoint = local.client.webhook_endpoints.create(order)
    assert endpoint.secret.startswith("whsec_")
    assert "secret" not in local.client.webhook_endpoints.retrieve(endpoint.id)
    customer, price = local.customer(), local.price()
    sub = local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    local.control("wait_idle")
    ((headers, body),) = shop.received
    stripe.WebhookSignature.verify_header(body.decode(), headers["Stripe-Signature"], endpoint.secret, 300)
    invoice = json.loads(body)["data"]["object"]
    assert json.loads(body)["api_version"] == "2025-02-24.acacia"
    assert invoice["subscription"] == sub.id
    assert invoice["paid"] is True
    assert invoice["charge"].startswith("ch_")
    assert "parent" not in invoice
    assert invoice["lines"]["data"][0]["price"]["id"] == price.id
    assert invoice["lines"]["data"][0]["proration"] is False
    local.client.webhook_endpoints.update(endpoint.id, {"disabled": True})
    local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    local.control("wait_idle")
    assert len(shop.received) == 1


@pytest.mark.parametrize(
    ("version", "top_level_period", "coupon_on_discount", "ui_mode"),
    [
        ("2024-12-18.acacia", True, True, "hosted"),
        ("2025-08-27.basil", False, True, "hosted"),
        ("2026-02-25.clover", False, False, "hosted"),
        ("2026-08-26.dahlia", False, False, "hosted_page"),
        ("2026-10-28.endive", False, False, "hosted_page"),
    ],
)
def test_each_family_of_versions_has_its_shapes(
    local: Local, version: str, top_level_period: bool, coupon_on_discount: bool, ui_mode: str
) -> None:
    coupon = local.client.coupons.create({"percent_off": 10, "duration": "forever"})
    price = local.price()
    order = {
        "customer": local.customer().id,
        "items": [{"price": price.id}],
        "discounts": [{"coupon": coupon.id}],
    }
    sub = local.client.subscriptions.create(order)
    shown = local.call(
        "GET", f"/v1/subscriptions/{sub.id}", "expand[]=discounts", Stripe_Version=version
    ).json()
    assert ("current_period_end" in shown) == top_level_period
    assert ("current_period_end" in shown["items"]["data"][0]) != top_level_period
    discount = shown["discounts"][0]
    assert ("coupon" in discount) == coupon_on_discount
    assert ("source" in discount) != coupon_on_discount
    cart = {
        "mode": "subscription",
        "line_items": [{"price": price.id, "quantity": 1}],
        "success_url": "http://x",
    }
    session = local.client.checkout.sessions.create(cart)
    shown = local.call("GET", f"/v1/checkout/sessions/{session.id}", Stripe_Version=version).json()
    assert shown["ui_mode"] == ui_mode


def test_an_event_is_delivered_again_as_often_as_wanted(wired: Local, shop: Shop) -> None:
    wired.client.customers.create({"email": "a@example.com"})
    (event,) = wired.events("customer.created")
    wired.control(f"events/{event['id']}/deliver", {"times": 3})
    wired.control("wait_idle")
    assert [e["id"] for e in shop.events()] == [event["id"]] * 4


def test_an_event_is_told_a_second_time_under_an_id_of_its_own(wired: Local, shop: Shop) -> None:
    price = wired.price()
    wired.client.subscriptions.create({"customer": wired.customer().id, "items": [{"price": price.id}]})
    (event,) = wired.events("invoice.paid")
    again = wired.control(
        f"events/{event['id']}/deliver", {"as_new_event": True, "api_version": "2025-02-24.acacia"}
    )
    wired.control("wait_idle")
    last = shop.events()[-1]
    assert last["id"] == again["event"] != event["id"]
    assert last["data"]["object"]["id"] == event["data"]["object"]["id"]
    assert "subscription" in last["data"]["object"]
    assert wired.client.events.retrieve(last["id"]).api_version == "2025-02-24.acacia"


def test_faults_duplicate_drop_and_mix_up(wired: Local, shop: Shop) -> None:
    wired.control("faults", {"duplicate": 1})
    wired.client.customers.create({"email": "a@example.com"})
    wired.control("wait_idle")
    assert shop.types() == ["customer.created"] * 2
    wired.control("faults", {"drop": 1})
    wired.client.customers.create({"email": "b@example.com"})
    wired.control("wait_idle")
    assert len(shop.received) == 2
    wired.control("faults", {"reorder": 20, "seed": 5})
    customer, price = wired.customer(), wired.price()
    wired.control("wait_idle")
    start = len(shop.received)
    wired.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    wired.control("wait_idle")
    told = wired.event_types()[-len(shop.types()[start:]) :]
    assert sorted(shop.types()[start:]) == sorted(told)
    assert shop.types()[start:] != told


def test_a_corrupted_signature_does_not_verify(wired: Local, shop: Shop) -> None:
    wired.control("faults", {"corrupt_signature": 1})
    wired.client.customers.create({"email": "a@example.com"})
    wired.control("wait_idle")
    headers, body = shop.received[0]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
    assert wired.deliveries()[0]["attempts"][0]["signature_corrupted"]


@pytest.mark.slow
def test_hundreds_of_events_a_second_reach_one_endpoint(wired: Local, shop: Shop) -> None:
    wired.client.customers.create({"email": "a@example.com"})
    wired.control("wait_idle")
    (event,) = wired.events("customer.created")
    started = time.monotonic()
    wired.control(f"events/{event['id']}/deliver", {"times": 600})
    assert wired.control("wait_idle")["idle"]
    assert len(shop.received) == 601
    assert 600 / (time.monotonic() - started) > 100, "a third of what it does on an idle machine"


def test_a_timed_out_call_was_carried_out_and_its_repetition_is_a_replay(local: Local) -> None:
    local.control("faults", {"api": {"timeout": 1}})
    headers = {"Authorization": "Bearer sk_test_x", "Idempotency-Key": "t-1"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{local.url}/v1/customers", data={"email": "a@example.com"}, headers=headers, timeout=0.3)
    local.control("faults", {})
    again = httpx.post(f"{local.url}/v1/customers", data={"email": "a@example.com"}, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(local.client.customers.list().data) == 1


def test_it_starts_from_the_command_line_in_a_moment_and_stops_when_told(shop: Shop) -> None:
    command = [sys.executable, "-m", "stripe_local", "--port", "0"]
    options = ["--webhook-url", shop.url, "--webhook-secret", SECRET]
    started = time.monotonic()
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        deadline = threading.Timer(20, process.kill)
        deadline.start()
        line = process.stdout.readline().strip()
        took = time.monotonic() - started
        url = line.rpartition(" ")[2]
        assert httpx.get(f"{url}/_control/health").json()["ok"] is True
        httpx.post(f"{url}/v1/customers", headers={"Authorization": "Bearer sk_test_x"})
        until(lambda: shop.types() == ["customer.created"])
        process.terminate()
        process.wait(10)
        deadline.cancel()
    assert took < 3, "under a second on an idle machine"
