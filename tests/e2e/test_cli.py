"""The command line against a running stack."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from cli.commands.trigger import SCENES
from devstack.stack import Stack

Till = Callable[..., Any]


def test_grant_spend_balance_and_history_agree(program: Till, till: Till, email: str) -> None:
    granted = json.loads(
        program("credits", "grant", email, "100", "--key", "gift", "--description", "A gift", "--json").stdout
    )
    again = json.loads(
        till("credits", "grant", email, "100", "--key", "gift", "--description", "A gift", "--json").stdout
    )
    assert again["id"] == granted["id"]
    till("credits", "spend", email, "30", "--key", "job", "--description", "A job")
    assert json.loads(till("credits", "balance", email, "--json").stdout)["available"] == 70

    history = json.loads(till("credits", "history", email, "--json").stdout)
    assert [(entry["kind"], entry["amount"], entry["balance_after"]) for entry in history] == [
        ("spend", -30, 70),
        ("grant", 100, 100),
    ]
    older = json.loads(till("credits", "history", email, "--before", str(history[0]["id"]), "--json").stdout)
    assert [entry["id"] for entry in older] == [granted["id"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["credits", "spend", "{email}", "1"], "TB001"),
        (["credits", "balance", "nobody@example.com"], "no account for"),
        (["credits", "balance", "cus_unknown"], "no account for"),
        (["events", "show", "evt_unknown"], "till events list"),
        (["events", "retry", "evt_unknown"], "TB014"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    till: Till, email: str, arguments: list[str], says: str
) -> None:
    refused = till(*(argument.format(email=email) for argument in arguments), expect=1)
    assert refused.stdout == ""
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["credits", "spend", "x", "0"],
        ["credits", "grant", "x", "1.5"],
        ["events", "retry"],
        ["trigger", "no.such"],
    ],
)
def test_wrong_usage_exits_with_2(till: Till, arguments: list[str]) -> None:
    till(*arguments, expect=2)


def test_a_token_is_what_the_published_keys_verify(till: Till, stack: Stack) -> None:
    address = f"{uuid4().hex}@example.com"
    token = till("token", "--user", address).stdout.strip()
    keys = jwt.PyJWKSet.from_json(stack.settings["SUPABASE_JWKS"])
    claims = jwt.decode(token, keys.keys[0], algorithms=["ES256"], audience="authenticated")
    assert (claims["email"], claims["role"]) == (address, "authenticated")
    assert till("token", "--user", address).returncode == 0
    assert json.loads(till("credits", "balance", claims["sub"], "--json").stdout)["balance"] == 0


@pytest.mark.parametrize("event", sorted(SCENES))
def test_trigger_has_stripe_send_the_event(till: Till, event: str) -> None:
    event_id = till("trigger", event, "--user", f"{uuid4().hex}@example.com").stdout.strip()
    shown = json.loads(till("events", "show", event_id, "--json").stdout)
    assert (shown["type"], shown["status"]) == (event, "applied")


def test_trigger_says_when_nothing_arrives(till: Till, stack: Stack) -> None:
    faults = f"{stack.settings['STRIPE_API_BASE']}/_control/faults"
    httpx.post(faults, json={"drop": 1.0}).raise_for_status()
    try:
        answer = till("trigger", "product.created", expect=1)
    finally:
        httpx.post(faults, json={"drop": 0.0}).raise_for_status()
    assert "did not arrive: look into functions.log" in answer.stderr


def test_listing_filters_by_status_and_type(till: Till) -> None:
    till("trigger", "product.created")
    found = json.loads(
        till("events", "list", "--type", "product.created", "--status", "applied", "--json").stdout
    )
    assert found
    assert {(event["type"], event["status"]) for event in found} == {("product.created", "applied")}
    assert "product.created" in till("events", "list").stdout
