"""A Payment Link on the running stack: handed out, paid, credits; its price archived, the link closed in Stripe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import psycopg

from cli.shop import Shop
from devstack.stack import Stack
from devstack.tokens import SigningKeys, find_or_create_user
from tests.e2e.conftest import wait_until

Db = psycopg.Connection[dict[str, Any]]
Till = Callable[..., Any]


def test_a_plan_is_sold_by_a_link_until_its_price_ends(stack: Stack, shop: Shop, db: Db, till: Till) -> None:
    name = f"link_{uuid4().hex[:8]}"
    price = shop.plan(name, unit_amount=2000, initial_credits=50, monthly_credits=500)
    email = f"{uuid4().hex}@example.com"
    user_id = find_or_create_user(stack.settings["DATABASE_URL"], email)
    keys = SigningKeys.load(Path(stack.settings["TILL_STATE"]))
    headers = {"Authorization": f"Bearer {keys.access_token(user_id, email)}"}

    def ask(**query: str) -> httpx.Response:
        url = f"{stack.settings['FUNCTIONS_URL']}/payment-links"
        return httpx.get(url, params=query, headers=headers, timeout=30)

    wait_until(lambda: ask(plan=name).status_code == 200, "the worker knew the plan")
    url = ask(plan=name).json()["payment_link"]
    assert ask().json()["payment_links"][name].partition("?")[0] == url.partition("?")[0]
    [reference] = parse_qs(urlsplit(url).query)["client_reference_id"]
    [link] = [
        link for link in json.loads(till("links", "list", "--json").stdout) if link["lookup_key"] == name
    ]

    # Somebody who knows no more than the account's id, and somebody with the user's own URL.
    complete = f"{stack.settings['STRIPE_API_BASE']}/_control/payment_links/{link['stripe_payment_link_id']}/complete"
    forged = httpx.post(complete, json={"client_reference_id": str(user_id), "email": email}).json()
    paid = httpx.post(complete, json={"client_reference_id": reference, "email": "boss@example.com"}).json()
    of_user = "from billing.accounts join billing.credit_balances on account_id = id where owner_id = %s"
    wait_until(
        lambda: db.execute(f"select {of_user} and balance = 550".encode(), [user_id]).fetchall(),
        "the credits came",
    )
    owners = "select stripe_customer_id, account_id is not null as linked from billing.customers"
    linked = {row["stripe_customer_id"]: row["linked"] for row in db.execute(owners).fetchall()}
    assert (linked[paid["customer"]], linked[forged["customer"]]) == (True, False)
    parked = json.loads(till("events", "list", "--status", "parked", "--json").stdout)
    assert any(forged["id"] in event["last_error"] and "unsigned" in event["last_error"] for event in parked)
    wait_until(lambda: ask(plan=name).status_code == 409, "the subscription was known")
    assert ask(plan=name).json()["error"]["code"] == "already_subscribed"

    shop.stripe.prices.update(price.id, {"active": False})
    wait_until(
        lambda: not shop.stripe.payment_links.retrieve(link["stripe_payment_link_id"]).active,
        "the worker had closed the link in Stripe",
    )
    assert "no longer active" in httpx.get(link["url"]).text
    assert ask(plan=name).status_code == 404
