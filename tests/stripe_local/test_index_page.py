"""The page at the root, and the page of each object: links, and buttons for time, banks and deliveries."""

import re
import threading
import time
from typing import Any

import pytest

from tests.stripe_local.conftest import Local, Shop


@pytest.fixture
def charge(local: Local) -> Any:
    """A paid charge of a customer."""
    customer = local.customer()
    intent = local.client.payment_intents.create(
        {
            "amount": 1900,
            "currency": "usd",
            "customer": customer.id,
            "payment_method": customer.invoice_settings.default_payment_method,
            "confirm": True,
            "off_session": True,
        }
    )
    return local.client.charges.retrieve(intent.latest_charge)


def see(local: Local, path: str = "/") -> str:
    answer = local.http.get(f"{local.url}{path}")
    assert answer.status_code == 200, path
    return answer.text


def press(local: Local, path: str, **form: str) -> Any:
    """A button of a page, which must have it."""
    assert f'action="{path}"' in see(local, form.get("back", "/"))
    answer = local.http.post(f"{local.url}{path}", data=form)
    assert answer.status_code == 303, answer.text
    return answer


def test_every_object_of_the_root_page_has_a_page(local: Local, charge: Any) -> None:
    price = local.price()
    local.client.subscriptions.create({"customer": charge.customer, "items": [{"price": price.id}]})
    local.client.payment_links.create({"line_items": [{"price": price.id, "quantity": 1}]})
    root = see(local)
    links = set(re.findall(r'href="(/test/objects/[^"]+)"', root))
    kinds = {link.split("/")[-1].partition("_")[0] for link in links}
    assert {"ch", "cus", "sub", "in", "evt", "plink"} <= kinds
    for link in links:
        page = see(local, link)
        assert f"<title>{link.split('/')[-1]}</title>" in page
        # The objects that it names are links too.
        for other in set(re.findall(r'href="(/test/[^"]+)"', page)):
            assert local.http.get(f"{local.url}{other}").status_code in (200, 404)
    [hosted] = set(re.findall(r'href="(/b/[^"]+)"', root))
    assert local.http.get(f"{local.url}{hosted}").status_code == 303


def test_links_to_stripes_dashboard_lead_to_the_same_object(local: Local, charge: Any) -> None:
    for path in (f"/test/payments/{charge.id}", f"/test/customers/{charge.customer}"):
        assert charge.customer in see(local, path)
    found = local.http.get(f"{local.url}/test/search", params={"query": charge.id})
    assert found.headers["location"] == f"/test/payments/{charge.id}"
    for unknown in ("ch_none", "none", "%3Cscript%3E"):
        answer = local.http.get(f"{local.url}/test/objects/{unknown}")
        assert answer.status_code == 404
        assert "<script" not in answer.text


def test_the_bank_disputes_warns_and_decides(local: Local, charge: Any) -> None:
    press(local, f"/charges/{charge.id}/early_fraud_warning")
    press(local, f"/charges/{charge.id}/dispute")
    [dispute] = local.client.disputes.list().data
    assert (dispute.charge, dispute.status) == (charge.id, "needs_response")
    [warning] = local.client.radar.early_fraud_warnings.list().data
    assert warning.charge == charge.id
    root = see(local)
    assert f"/charges/{charge.id}/dispute" not in root
    assert f"/charges/{charge.id}/early_fraud_warning" not in root
    here = f"/test/objects/{dispute.id}"
    done = press(local, f"/disputes/{dispute.id}/decide", status="lost", back=here)
    assert done.headers["location"] == here
    assert local.client.disputes.retrieve(dispute.id).status == "lost"
    unknown = local.http.post(f"{local.url}/disputes/du_none/decide", data={"status": "won"})
    assert unknown.status_code == 400
    assert "Nothing happened" in unknown.text


def test_an_event_is_sent_again(wired: Local) -> None:
    local = wired
    local.client.customers.create({"email": "ada@example.com"})
    local.control("wait_idle", {"timeout_s": 10})
    [event] = local.events("customer.created")
    assert len(local.deliveries(event=event["id"])) == 1
    press(local, f"/events/{event['id']}/deliver")
    local.control("wait_idle", {"timeout_s": 10})
    assert [each["state"] for each in local.deliveries(event=event["id"])] == ["delivered", "delivered"]
    assert "delivered (200)" in see(local)


def test_an_event_on_its_way_is_shown(shop: Shop, wired: Local) -> None:
    came, answers = threading.Event(), threading.Event()

    def answer(_: bytes) -> int:
        came.set()
        answers.wait(10)
        return 200

    shop.answer = answer
    wired.client.customers.create({"email": "ada@example.com"})
    assert came.wait(10)
    try:
        assert "sending" in see(wired)
    finally:
        answers.set()


def test_a_clock_is_advanced(local: Local) -> None:
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": int(time.time()), "name": "Spring"})
    press(local, f"/clocks/{clock.id}/advance", days="31")
    moved = local.client.test_helpers.test_clocks.retrieve(clock.id)
    assert moved.frozen_time == clock.frozen_time + 31 * 86_400


@pytest.mark.parametrize(
    "path",
    ["/charges/{}/dispute", "/_control/charges/{}/dispute", "/events/{}/deliver", "/clocks/{}/advance"],
)
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_form_of_another_site_does_nothing(local: Local, charge: Any, path: str, origin: str) -> None:
    """Also what a page sends as plain text, for which browsers ask nobody first."""
    headers = {"origin": origin, "content-type": "text/plain"}
    answer = local.http.post(local.url + path.format(charge.id), content="{}", headers=headers)
    assert answer.status_code == 403
    assert local.client.disputes.list().data == []


@pytest.mark.parametrize("path", ["/", "/v1/customers", "/_control/deliveries", "/charges/{}/dispute"])
def test_a_foreign_name_that_leads_here_reads_and_does_nothing(local: Local, charge: Any, path: str) -> None:
    """DNS rebinding: to the browser, the page of evil.example and this server are one site."""
    host = f"evil.example:{local.url.rpartition(':')[2]}"
    headers = {"host": host, "origin": f"http://{host}", "authorization": "Bearer sk_test_x"}
    method = "POST" if path.endswith("/dispute") else "GET"
    answer = local.http.request(method, local.url + path.format(charge.id), headers=headers)
    assert (answer.status_code, answer.text) == (403, "invalid Host header: use 127.0.0.1\n")
    assert local.client.disputes.list().data == []


def test_a_name_is_shown_and_never_markup(local: Local) -> None:
    trap = '"><script>alert(1)</script>'
    customer = local.client.customers.create({"email": trap + "@example.com", "name": trap})
    for path in ("/", f"/test/customers/{customer.id}"):
        assert "<script" not in see(local, path)
