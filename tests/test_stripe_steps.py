"""The command line's driver of steps: the calls that a step names, made by stripe-python against the local Stripe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import stripe

from cli.output import CliError
from cli.stripe_steps import _answers, carry_out
from tests.stripe_local.conftest import KEY, Local, _serve

Call = dict[str, Any]


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


def ask(local: Local, *calls: Call) -> list[Any]:
    client = stripe.StripeClient(KEY, base_addresses={"api": local.url}, max_network_retries=0)
    return list(_answers(client, list(calls)))


def call(method: str, path: str, params: Call | None = None, **more: Any) -> Call:
    given = {"method": method, "path": path, "params": params or {}, "keep": ["id"]}
    return {"idempotency_key": None, "find": None} | given | more


def create(token: str, key: str) -> Call:
    params = {"email": "a+b@example.com", "metadata": {"tillbase_claim": token}}
    return call("post", "/v1/customers", params, idempotency_key=key)


def look(token: str) -> Call:
    params = {"email": "a+b@example.com", "limit": 100, "created[gte]": 1}
    return call("get", "/v1/customers", params, find={"tillbase_claim": token})


def test_calls_are_made_under_their_keys_and_only_what_is_kept_comes_back(local: Local) -> None:
    first = ask(local, create("ours", "key"))
    assert ask(local, create("ours", "key")) == first
    [customer] = local.client.customers.list().data
    assert first == [{"body": {"id": customer.id}}]
    assert (customer.email, customer.metadata.tillbase_claim) == ("a+b@example.com", "ours")


def test_what_is_found_by_its_metadata_ends_the_calls(local: Local) -> None:
    ask(local, create("another's", "1"))
    missed = ask(local, look("ours"), create("ours", "2"))
    assert [answer["body"] is None for answer in missed] == [True, False]
    assert ask(local, look("ours"), create("ours", "3")) == missed[1:]
    assert len(local.client.customers.list().data) == 2


def test_the_first_failure_ends_the_calls_and_is_reported_with_its_key(local: Local) -> None:
    price = {
        "line_items": [{"price": "price_none", "quantity": 1}],
        "mode": "payment",
        "success_url": "https://a",
    }
    refused = call("post", "/v1/checkout/sessions", price, idempotency_key="key")
    made, failed = ask(local, create("ours", "1"), refused, create("ours", "2"))
    assert "body" in made
    assert failed["idempotency_key"] == "key"
    assert {name: failed["error"][name] for name in ("status", "type", "code", "param")} == {
        "status": 400, "type": "invalid_request_error", "code": "resource_missing", "param": "line_items[0][price]",
    }  # fmt: skip
    assert "price_none" in failed["error"]["message"]
    [reused] = ask(local, create("other", "1"))
    assert (reused["error"]["status"], reused["error"]["type"]) == (400, "idempotency_error")


@pytest.mark.parametrize("fault", [500, 429])
def test_a_status_of_stripe_s_is_reported(local: Local, fault: int) -> None:
    local.world.faults.set({"api": {str(fault): 1}})
    [failed] = ask(local, create("ours", "1"))
    assert failed["error"]["status"] == fault


def test_where_stripe_gave_no_answer_there_is_no_status(local: Local) -> None:
    [strange] = ask(local, create("ours", "1") | {"keep": ["no_such_field"]})
    assert strange["error"]["status"] is None
    away = stripe.StripeClient(KEY, base_addresses={"api": "http://127.0.0.1:1"}, max_network_retries=0)
    [failed] = _answers(away, [create("ours", "1")])
    assert (failed["error"]["status"], failed["idempotency_key"]) == (None, "1")
    assert failed["error"]["message"]


def test_a_result_and_a_refusal_need_neither_stripe_nor_the_database() -> None:
    nothing: Any = None
    assert carry_out(nothing, nothing, {"done": {"id": "cs_1"}}, "continue_checkout") == {"id": "cs_1"}
    refusal = {"code": "TB064", "message": "it was superseded", "hint": "Begin again."}
    with pytest.raises(CliError, match=r"^it was superseded \(TB064\)\. Begin again\.$"):
        carry_out(nothing, nothing, {"refused": refusal}, "continue_checkout")


def test_the_last_answer_of_a_last_step_is_the_result(local: Local) -> None:
    client = stripe.StripeClient(KEY, base_addresses={"api": local.url})
    step: Call = {"livemode": False, "calls": [create("ours", "1")], "state": {}, "is_last": True}
    no_database: Any = None
    made = carry_out(no_database, client, step, "continue_portal")
    assert made == {"id": local.client.customers.list().data[0].id}


def test_steps_that_lead_in_a_circle_end(monkeypatch: pytest.MonkeyPatch) -> None:
    step: Call = {"livemode": False, "calls": [], "state": {}, "is_last": False}
    asked: list[str] = []

    def again(_conn: Any, function: str, **_: Any) -> Call:
        asked.append(function)
        return step

    monkeypatch.setattr("cli.stripe_steps.answer", again)
    nothing: Any = None
    with pytest.raises(CliError, match="run it again"):
        carry_out(nothing, nothing, step, "continue_checkout")
    assert asked == ["continue_checkout"] * 50
