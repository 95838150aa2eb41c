"""A click on "manage my subscription" over HTTP → a session of one's own portal, at the page that was asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions.shop import SITE, Shop, User, only, open_shop, subscribe
from tests.functions.support import Answer
from tests.support import Database


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(database, tmp_path) as shop:
        yield shop


@pytest.fixture
def user(shop: Shop) -> User:
    """Somebody who has a customer."""
    user = shop.sign_up()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    return user


def allow_every_flow(shop: Shop, user: User) -> None:
    """As the owner does it in Stripe's Dashboard: plans can be changed in the portal."""
    assert shop.press("portal", user).status == 200
    configuration = only(shop.client.billing_portal.configurations.list().data)
    product = shop.client.prices.retrieve(shop.plan).product
    update = {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "products": [{"product": product, "prices": [shop.plan]}],
    }
    shop.client.billing_portal.configurations.update(
        configuration.id, {"features": {"subscription_update": update}}
    )


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer


def test_portal_is_that_of_the_user_s_customer(shop: Shop, user: User) -> None:
    answer = shop.press("portal", user, return_url=f"{SITE}/billing")
    session = only(shop.portals())
    assert (answer.status, answer.body) == (200, {"url": session["url"]})
    assert session["customer"] == only(shop.customers())["id"]
    assert (session["return_url"], session.get("flow")) == (f"{SITE}/billing", None)


def test_without_a_return_url_users_come_back_to_the_site(shop: Shop, user: User) -> None:
    assert shop.send("portal", b"", {"Authorization": f"Bearer {user.token}"}).status == 200
    assert only(shop.portals())["return_url"] == SITE


@pytest.mark.parametrize(
    ("flow", "type_"),
    [
        ("cancel", "subscription_cancel"),
        ("update_plan", "subscription_update"),
        ("update_card", "payment_method_update"),
    ],
)
def test_deep_links_lead_to_one_page_and_back(
    shop: Shop, database: Database, user: User, flow: str, type_: str
) -> None:
    allow_every_flow(shop, user)
    subscription = subscribe(shop, database, user)
    assert shop.press("portal", user, flow=flow, return_url=f"{SITE}/done").status == 200
    session: Any = shop.portals()[-1]
    assert session["flow"]["type"] == type_
    assert session["flow"]["after_completion"]["redirect"] == {"return_url": f"{SITE}/done"}
    if flow != "update_card":
        assert session["flow"][type_]["subscription"] == subscription


def test_refusals_open_no_portal(shop: Shop, user: User) -> None:
    new, others = shop.sign_up("new@example.com"), str(user.account_id)
    assert_refused(shop.press("portal", new), 409, "no_customer")
    assert_refused(shop.press("portal", new, account_id=others), 403, "account_forbidden")
    assert_refused(shop.press("portal", new, customer=only(shop.customers())["id"]), 409, "no_customer")
    assert_refused(shop.press("portal", user, flow="cancel"), 409, "no_subscription")
    assert_refused(shop.press("portal", user, flow="update_plan"), 409, "no_subscription")
    assert_refused(shop.press("portal", user, flow="subscription_cancel"), 400, "invalid_request")
    assert_refused(shop.press("portal", user, return_url="https://evil.example"), 422, "url_not_allowed")
    assert_refused(shop.press("portal", None), 401, "unauthorized")
    assert shop.portals() == []


def test_whoever_is_frozen_can_still_cancel(shop: Shop, database: Database, user: User) -> None:
    subscribe(shop, database, user)
    shop.sql("update billing.accounts set frozen_at = now(), frozen_reason = 'fraud'")
    assert shop.press("portal", user, flow="cancel").status == 200


def test_a_flow_that_the_owner_did_not_enable_in_stripe_is_a_502(
    shop: Shop, database: Database, user: User
) -> None:
    subscribe(shop, database, user)
    assert_refused(shop.press("portal", user, flow="update_plan"), 502, "stripe_refused")
    assert "subscription_update" in shop.log.read_text(), "the log says what to enable"


@pytest.mark.parametrize("fault", [{"on_429": 1}, {"on_500": 1}, {"on_timeout": 1}], ids=str)
def test_when_stripe_fails_the_click_is_503_and_the_next_one_works(
    shop: Shop, user: User, fault: dict[str, float]
) -> None:
    shop.fail(**fault)
    answer = shop.press("portal", user)
    assert_refused(answer, 503, "stripe_unavailable")
    assert answer.headers["retry-after"].isdigit()
    assert answer.seconds < 12
    shop.fail()
    assert shop.press("portal", user).status == 200


def test_function_works_as_billing_checkout_only(shop: Shop, user: User) -> None:
    shop.sql("revoke execute on function billing.prepare_portal from billing_checkout")
    assert_refused(shop.press("portal", user), 500, "internal_error")
