"""The local Stripe's first page in a real browser: what it shows, its buttons, and a narrow phone."""

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from cli.shop import Shop
from devstack.stack import Stack
from tests.browser.conftest import Visitor
from tests.browser.test_dashboard import CONTRAST
from tests.browser.test_page import tab_through, visible

PHONE = {"viewport": {"width": 375, "height": 760}, "has_touch": True}


@pytest.fixture
def root(visit: Callable[..., Visitor], stack: Stack, shop: Shop) -> Callable[..., Visitor]:
    """Opens the page, with a payment, a test clock and their events on it."""
    buyer = shop.sign_up("root@example.com")
    shop.pay_once(buyer, 1900)
    shop.stripe.test_helpers.test_clocks.create({"frozen_time": int(time.time()), "name": "Spring"})
    price = shop.stripe.prices.create(
        {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Loose"}}
    )
    shop.stripe.payment_links.create({"line_items": [{"price": price.id, "quantity": 1}]})
    shop.settle()

    def open_page(**options: object) -> Visitor:
        visitor = visit(**options)
        visitor.page.goto(stack.settings["STRIPE_API_BASE"])
        return visitor

    return open_page


def test_a_payment_is_disputed_and_decided_by_clicking(
    root: Callable[..., Visitor], shop: Shop, picture: Callable[..., None]
) -> None:
    visitor = root()
    page = visitor.page
    picture(visitor, "43-local-stripe")
    page.get_by_role("row").filter(has=page.get_by_role("button", name="Warn of fraud")).first.get_by_role(
        "button", name="Warn of fraud"
    ).click()
    page.get_by_role("button", name="Dispute it").first.click()
    page.get_by_role("button", name="Lost").first.click()
    page.wait_for_load_state()
    [dispute] = shop.stripe.disputes.list({"limit": 1}).data
    assert dispute.status == "lost"
    page.get_by_role("link", name=dispute.id).first.click()
    expect(page.get_by_role("heading", name="Dispute")).to_be_visible()
    page.get_by_role("link", name=str(dispute.charge)).first.click()
    expect(page.get_by_role("heading", name="Charge")).to_be_visible()


def test_a_clock_is_advanced_and_an_event_sent_again(root: Callable[..., Visitor], shop: Shop) -> None:
    page = root().page
    [clock] = shop.stripe.test_helpers.test_clocks.list({"limit": 1}).data
    page.get_by_role("row").filter(has_text=clock.id).get_by_role("button", name="+1 month").click()
    page.wait_for_load_state()
    moved = shop.stripe.test_helpers.test_clocks.retrieve(clock.id)
    assert moved.frozen_time == clock.frozen_time + 31 * 86_400
    shop.settle()
    [event] = shop.stripe.events.list({"limit": 1}).data
    page.reload()
    row = page.get_by_role("row").filter(has_text=event.id)
    row.get_by_role("button", name="Send again").click()
    page.wait_for_load_state()
    shop.settle()
    page.reload()
    expect(row).to_contain_text("delivered (200), delivered (200)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone_and_controls_stand_out(
    root: Callable[..., Visitor], shop: Shop, scheme: str
) -> None:
    page = root(**PHONE, color_scheme=scheme).page
    customer = shop.stripe.customers.list({"limit": 1}).data[0]
    for path in ("/", f"/test/customers/{customer.id}"):
        page.goto(page.url.split("/test/")[0].rstrip("/") + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        # Nor is anything cut off inside of its box.
        assert page.evaluate(
            "[...document.querySelectorAll('main, table, pre, td')]"
            ".filter((each) => each.scrollWidth > each.clientWidth + 1).length"
        ) == 0  # fmt: skip
        assert page.evaluate(CONTRAST) == [], path


def test_every_control_is_reached_with_the_keyboard(root: Callable[..., Visitor]) -> None:
    page = root().page
    assert tab_through(page) == visible(page)
