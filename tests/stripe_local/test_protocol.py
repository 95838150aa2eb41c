"""What a client sees before any resource: keys, versions, forms, paging, expansion, idempotency, errors."""

import asyncio
import base64

import pytest
import stripe

from tests.stripe_local.conftest import KEY, Local


def _error(
    local: Local, method: str, path: str, form: str = "", **headers: str
) -> tuple[int, dict[str, str]]:
    answer = local.call(method, path, form, **headers)
    return answer.status_code, answer.json()["error"]


def test_a_secret_key_is_asked_for(local: Local) -> None:
    for header, status in (
        ("", 401),
        ("Bearer nonsense", 401),
        ("Bearer sk_live_abcdef", 401),
        ("Bearer pk_test_abcdef", 403),
        ("Bearer rk_test_abcdef", 200),
        (f"Basic {base64.b64encode(b'sk_test_abc:').decode()}", 200),
    ):
        answer = local.call("GET", "/v1/customers", Authorization=header)
        assert answer.status_code == status, header


def test_a_restricted_key_may_do_what_it_was_given(local: Local) -> None:
    local.control("settings", {"restricted_keys": {"rk_test_reader": {"customers": "read"}}})
    allowed = {"Authorization": "Bearer rk_test_reader"}
    assert local.call("GET", "/v1/customers", **allowed).status_code == 200
    assert local.call("POST", "/v1/customers", **allowed).status_code == 403
    assert local.call("GET", "/v1/products", **allowed).status_code == 403


def test_unknown_paths_answer_with_stripes_body(local: Local) -> None:
    for path in ("/v1/nonsense", "/v1/customers/cus_1/nonsense", "/elsewhere"):
        status, error = _error(local, "GET", path)
        assert (status, error["type"]) == (404, "invalid_request_error")
        assert error["message"].startswith(f"Unrecognized request URL (GET: {path})")


def test_what_stripe_has_and_the_emulator_has_not_is_said_aloud(local: Local) -> None:
    status, error = _error(local, "GET", "/v1/payouts")
    assert (status, error["code"]) == (501, "not_emulated")


def test_malformed_parameters_are_named(local: Local) -> None:
    for path, form, code, param in (
        ("/v1/customers", "colour=red", "parameter_unknown", "colour"),
        ("/v1/customers", "address[colour]=red", "parameter_unknown", "address[colour]"),
        ("/v1/customers", "balance=1.5", "parameter_invalid_integer", "balance"),
        ("/v1/customers", "email=", "parameter_invalid_empty", "email"),
        ("/v1/customers", "metadata=a", None, "metadata"),
        ("/v1/products", "", "parameter_missing", "name"),
        ("/v1/prices", "currency=usd&unit_amount=x&product=p", "parameter_invalid_integer", "unit_amount"),
        ("/v1/prices", "currency=usd&product=prod_none&unit_amount=1", "resource_missing", "product"),
        ("/v1/checkout/sessions", "mode=rent", None, "mode"),
        ("/v1/subscriptions", "customer=cus_none", "resource_missing", "customer"),
    ):
        status, error = _error(local, "POST", path, form)
        assert (status, error.get("code"), error.get("param")) == (400, code, param), form


def test_a_missing_object_is_404_with_its_name(local: Local) -> None:
    status, error = _error(local, "GET", "/v1/customers/cus_none")
    assert status == 404
    assert error["code"] == "resource_missing"
    assert error["message"] == "No such customer: 'cus_none'"
    assert error["doc_url"] == "https://stripe.com/docs/error-codes/resource-missing"


def test_every_answer_names_its_request_and_version(local: Local) -> None:
    answer = local.call("GET", "/v1/customers", Stripe_Version="2025-02-24.acacia")
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["stripe-version"] == "2025-02-24.acacia"
    assert answer.headers["date"]
    assert _error(local, "GET", "/v1/customers", Stripe_Version="tomorrow")[0] == 400


def test_the_same_idempotency_key_gives_the_first_answer_again(local: Local) -> None:
    options = {"idempotency_key": "order-1"}
    first = local.client.customers.create({"email": "a@example.com"}, options)
    assert local.client.customers.create({"email": "a@example.com"}, options).id == first.id
    again = local.call("POST", "/v1/customers", "email=a%40example.com", Idempotency_Key="order-1")
    assert again.headers["idempotent-replayed"] == "true"
    assert len(local.client.customers.list().data) == 1


def test_an_idempotency_key_refuses_other_arguments(local: Local) -> None:
    options = {"idempotency_key": "order-2"}
    local.client.customers.create({"email": "a@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError):
        local.client.customers.create({"email": "b@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError):
        local.client.products.create({"name": "Pro"}, options)


def test_a_refused_form_does_not_use_up_its_idempotency_key(local: Local) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        local.client.products.create({}, {"idempotency_key": "order-3"})
    assert local.client.products.create({"name": "Pro"}, {"idempotency_key": "order-3"}).name == "Pro"


def test_a_decline_is_replayed_too(local: Local) -> None:
    order = {
        "amount": 900,
        "currency": "usd",
        "payment_method": "pm_card_visa_chargeDeclined",
        "confirm": True,
    }
    intents = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            local.client.payment_intents.create(order, {"idempotency_key": "pay-1"})
        intents.append(caught.value.error.payment_intent.id)
    assert intents[0] == intents[1]


def test_lists_are_paged_both_ways(local: Local) -> None:
    made = [local.client.customers.create({"description": str(n)}).id for n in range(7)]
    newest_first = made[::-1]
    assert [c.id for c in local.client.customers.list({"limit": 3}).auto_paging_iter()] == newest_first
    page = local.client.customers.list({"limit": 2, "ending_before": made[0]})
    assert [c.id for c in page.data] == [made[2], made[1]]
    assert page.has_more
    assert _error(local, "GET", "/v1/customers", "limit=101")[1]["param"] == "limit"
    assert _error(local, "GET", "/v1/customers", "starting_after=cus_none")[1]["param"] == "starting_after"


def test_expansion_reaches_into_lists_and_includable_keys(local: Local) -> None:
    sub = local.client.subscriptions.create(
        {
            "customer": local.customer().id,
            "items": [{"price": local.price().id}],
            "expand": ["customer", "latest_invoice.payments"],
        }
    )
    assert sub.customer.email == "jenny@example.com"
    assert sub.latest_invoice.payments.data[0].payment.payment_intent.startswith("pi_")
    page = local.client.charges.list({"expand": ["data.customer", "data.refunds"]})
    assert page.data[0].customer.object == "customer"
    assert page.data[0].refunds.data == []
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        local.client.customers.list({"expand": ["email"]})


@pytest.mark.filterwarnings(
    "ignore:Use 'content=<...>':DeprecationWarning"
)  # the SDK's own way of using httpx
def test_the_asynchronous_client_works_as_well(local: Local) -> None:
    async def play() -> str:
        http = stripe.HTTPXClient()
        client = stripe.StripeClient(KEY, base_addresses={"api": local.url}, http_client=http)
        made = await client.v1.customers.create_async({"email": "async@example.com"})
        await http.close_async()
        return made.email

    assert asyncio.run(play()) == "async@example.com"


def test_payment_method_types_is_refused_from_endive_on(local: Local) -> None:
    form = "amount=900&currency=usd&payment_method_types[]=card"
    status, error = _error(local, "POST", "/v1/payment_intents", form, Stripe_Version="2026-10-28.endive")
    assert (status, error["code"]) == (400, "payment_method_types_no_longer_supported")
    assert (
        local.call("POST", "/v1/payment_intents", form, Stripe_Version="2026-03-25.dahlia").status_code == 200
    )


def test_injected_faults_strike_the_api(local: Local) -> None:
    for name, error in (("429", stripe.RateLimitError), ("500", stripe.APIError)):
        local.control("faults", {"api": {name: 1}, "seed": 1})
        with pytest.raises(error):
            local.client.customers.list()
    local.control("faults", {})
    assert local.client.customers.list().data == []


def test_search_finds_by_field_and_metadata(local: Local) -> None:
    wanted = local.client.customers.create({"email": "a@example.com", "metadata": {"user": "7"}})
    local.client.customers.create({"email": "b@example.com"})
    query = {"query": "email:'a@example.com' AND metadata['user']:'7'"}
    assert [c.id for c in local.client.customers.search(query).data] == [wanted.id]
    with pytest.raises(stripe.InvalidRequestError):
        local.client.customers.search({"query": "((("})
