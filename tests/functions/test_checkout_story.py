"""Everything real: a click in the app, a card on Stripe's page, credits in the account, and the portal."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import stripe

from devstack.stack import Stack
from devstack.tokens import SigningKeys, find_or_create_user

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 30


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)
    return answer


def test_a_plan_is_bought_on_the_local_stack() -> None:
    with tempfile.TemporaryDirectory(prefix="tillbase-stack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False) as stack:
            _buy(stack.settings, SigningKeys.load(Path(name)))


def _buy(settings: dict[str, str], keys: SigningKeys) -> None:
    client = stripe.StripeClient(
        settings["STRIPE_API_KEY"], base_addresses={"api": settings["STRIPE_API_BASE"]}
    ).v1
    credits = {"initial_credits": "50", "monthly_credits": "500"}
    product = client.products.create({"name": "Pro", "metadata": credits})
    client.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 2000,
            "recurring": {"interval": "month"},
            "lookup_key": "pro",
        }
    )
    user_id = find_or_create_user(settings["DATABASE_URL"], "ada@example.com")
    headers = {"Authorization": f"Bearer {keys.access_token(user_id, 'ada@example.com')}"}

    def press(function: str, **body: Any) -> httpx.Response:
        url = f"{settings['FUNCTIONS_URL']}/{function}"
        return httpx.post(url, json=body, headers=headers, timeout=DEADLINE_SECONDS)

    def opened() -> Any:
        answer = press("checkout", plan="pro", success_url="http://localhost:5173/thanks")
        return answer.json() if answer.status_code == 200 else None

    session = until(opened, "the worker knew the plan")
    assert press("portal", flow="cancel").status_code == 409
    paid = httpx.post(
        f"{settings['STRIPE_API_BASE']}/_control/checkout_sessions/{session['id']}/complete",
        json={"payment_method": "pm_card_visa"},
    )
    assert paid.status_code == 200
    with psycopg.connect(settings["POSTGRES_URL"], autocommit=True) as db:
        query = "select balance from billing.credit_balances where balance = 550"
        until(lambda: db.execute(query).fetchall(), "the credits came")
    until(lambda: press("portal", flow="cancel").status_code == 200, "the portal knew the subscription")
    again = press("checkout", plan="pro")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_subscribed")
