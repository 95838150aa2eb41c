"""The customer portal by clicking: cancel and take it back, change the plan, another card, invoices."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor

Picture = Callable[[Visitor, str], None]


@pytest.fixture
def subscriber(visitor: Visitor) -> Visitor:
    visitor.sign_up()
    visitor.choose("Starter")
    visitor.pay()
    visitor.has(500)
    expect(visitor.page.locator("#subscription-state")).to_contain_text("Starter, active.")
    return visitor


def heading(visitor: Visitor, name: str) -> None:
    expect(visitor.page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def test_a_plan_is_cancelled_at_the_end_of_its_period_and_kept_after_all(
    subscriber: Visitor, picture: Picture
) -> None:
    state = subscriber.page.locator("#subscription-state")
    subscriber.button("Cancel").click()
    heading(subscriber, "Cancel your plan")
    picture(subscriber, "14-cancel")
    subscriber.button("Cancel plan").click()
    expect(state).to_contain_text("Starter, active. It ends on")
    expect(subscriber.button("Cancel")).to_be_hidden()
    subscriber.has(500)
    picture(subscriber, "15-cancelled")
    subscriber.button("Invoices and more").click()
    heading(subscriber, "Your subscriptions")
    expect(subscriber.page.get_by_text("visa 4242", exact=True)).to_be_visible()
    picture(subscriber, "16-portal")
    subscriber.button("Don't cancel").click()
    expect(subscriber.button("Cancel plan")).to_be_visible()
    subscriber.page.get_by_role("link", name="Return").click()
    expect(state).to_contain_text("The next period begins on")


def test_the_plan_and_the_card_are_changed(subscriber: Visitor, picture: Picture) -> None:
    subscriber.offer("Studio").get_by_role("button", name="Change to Studio").click()
    heading(subscriber, "Change your plan")
    picture(subscriber, "17-change")
    subscriber.button("Change plan").click()
    expect(subscriber.page.locator("#subscription-state")).to_contain_text("Studio, active.")
    expect(subscriber.offer("Studio").get_by_text("Your plan")).to_be_visible()
    expect(subscriber.offer("Starter").get_by_role("button", name="Change to Starter")).to_be_visible()

    subscriber.button("Update card").click()
    heading(subscriber, "Update your card")
    subscriber.page.get_by_label("Another card").select_option("pm_card_mastercard")
    picture(subscriber, "18-card")
    subscriber.button("Use this card").click()
    expect(subscriber.page.locator("#subscription-state")).to_be_visible()
    subscriber.button("Update card").click()
    expect(subscriber.page.get_by_text("mastercard 4444")).to_be_visible()
    subscriber.page.get_by_label("Another card").select_option("pm_card_visa_chargeDeclined")
    subscriber.button("Use this card").click()
    subscriber.warned("Your card was declined.")
    subscriber.forgive(400)
    expect(subscriber.page.get_by_text("mastercard 4444")).to_be_visible()
