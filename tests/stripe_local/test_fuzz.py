"""Whatever a client sends: an answer with a body in Stripe's form, and never a failure of our own."""

import json
import os
from random import Random
from typing import Any
from urllib.parse import urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stripe_local.api import Api, Request
from stripe_local.routes import HANDLERS
from stripe_local.world import World
from tests.stripe_local.conformance import problems
from tests.stripe_local.form_maker import FormMaker

PLAYED = sorted(HANDLERS)
# Deletions come seldom, so that there is something to work on.
DRAWN = [operation for operation in PLAYED for _ in range(1 if operation.startswith("DELETE") else 4)]
# Small answers that the SDK types elsewhere than in a class of their own name.
NOT_JUDGED = {"account", "customer_balance_transaction"}
# The same requests in every run: what a new seed finds is to be found by looking for it, not by somebody else's push.
UNHURRIED = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "30")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def _call(api: Api, method: str, path: str, form: str) -> tuple[int, dict[str, Any]]:
    answer = api.answer(Request(method, path, "", form, {"authorization": "Bearer sk_test_fuzz"}))
    return answer.status, json.loads(answer.body)


def _shop() -> Api:
    """A world with one of each."""
    api = Api(World(seed=3))
    for path, form in (
        ("/v1/customers", "email=a%40example.com&payment_method=pm_card_visa"),
        ("/v1/products", "name=Pro&id=prod_x"),
        ("/v1/prices", "product=prod_x&currency=usd&unit_amount=900&recurring[interval]=month"),
        ("/v1/prices", "product=prod_x&currency=usd&unit_amount=90000&recurring[interval]=year"),
        ("/v1/prices", "product=prod_x&currency=usd&unit_amount=900"),
        ("/v1/coupons", "percent_off=10&id=c"),
        ("/v1/test_helpers/test_clocks", "frozen_time=1800000000"),
    ):
        assert _call(api, "POST", path, form)[0] == 200
    customer = next(iter(api.world.store.all("customer")))["id"]
    price, *_, pack = (price["id"] for price in api.world.store.all("price"))
    order = f"customer={customer}&items[0][price]={price}&default_payment_method=pm_card_visa"
    payment = f"customer={customer}&amount=900&currency=usd&confirm=true&payment_method=pm_card_create"
    cart = f"mode=payment&success_url=http://x&line_items[0][quantity]=1&line_items[0][price]={pack}"
    offers = (
        "features[subscription_update][enabled]=true&features[subscription_update][default_allowed_updates][0]=price&features[subscription_update][products][0]"
        f"[product]=prod_x&features[subscription_update][products][0][prices][0]={price}"
    )
    for path, form in (
        ("/v1/subscriptions", order),
        ("/v1/subscriptions", f"{order}&trial_period_days=5"),
        ("/v1/payment_intents", f"{payment}Dispute"),
        ("/v1/payment_intents", f"{payment}IssuerFraudRecord"),
        (
            "/v1/payment_intents",
            f"{payment}Dispute&capture_method=manual".replace("confirm=true", "confirm=false"),
        ),
        ("/v1/payment_intents", f"{payment}Dispute&capture_method=manual"),
        ("/v1/charges", "amount=900&currency=usd&source=tok_visa&capture=false"),
        (
            "/v1/payment_intents",
            "amount=900&currency=usd&confirm=true&payment_method=pm_card_riskLevelElevated",
        ),
        ("/v1/setup_intents", f"customer={customer}"),
        ("/v1/checkout/sessions", cart),
        ("/v1/payment_links", f"line_items[0][quantity]=1&line_items[0][price]={price}"),
        ("/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]=c"),
        ("/v1/invoices", f"customer={customer}"),
        ("/v1/billing_portal/configurations", f"{offers}&features[subscription_pause][enabled]=true"),
        ("/v1/invoiceitems", f"customer={customer}&amount=100&currency=usd"),
    ):
        assert _call(api, "POST", path, form)[0] == 200, path
    return api


@UNHURRIED
@given(seed=st.integers(0, 2**32))
def test_no_sequence_of_requests_makes_it_fail(seed: int) -> None:
    api, random = _shop(), Random(seed)
    maker = FormMaker(api.world, random)
    for _ in range(120):
        method, path, drawn = maker.request(random.choice(DRAWN))
        fields = [(name, value) for name, value in drawn if not name.startswith("expand")]
        status, body = _call(api, method, path, urlencode(fields, errors="replace"))
        assert status in (200, 400, 402, 404), body
        assert ("error" in body) == (status != 200)
        if status == 200 and body["object"] not in NOT_JUDGED:
            assert problems(body) == []
        assert all(c["status"] == "ready" for c in api.world.store.all("test_helpers.test_clock"))
        while random.random() < 0.3 and api.world.timers.next_due(None) is not None:
            api.world.timers.pop(None)[1]()


@UNHURRIED
@given(
    body=st.text(max_size=60),
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    path=st.text(max_size=30),
)
def test_no_bytes_make_it_fail(body: str, method: str, path: str) -> None:
    api = Api(World(seed=3))
    for target in ("/v1/customers", "/v1/" + path):
        assert _call(api, method, target, body)[0] in (200, 400, 404, 501)
