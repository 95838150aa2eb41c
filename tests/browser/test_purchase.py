"""The whole purchase by clicking: a plan, Stripe's page, a card, and credits that appear by themselves."""

import re
from collections.abc import Callable

from playwright.sync_api import Route, expect

from cli.shop import Shop
from tests.browser.conftest import PASSWORD, Visitor

Picture = Callable[[Visitor, str], None]
NEEDS_BANK = "pm_card_authenticationRequiredOnSetup"


def deliver_what_was_held_back(shop: Shop) -> None:
    shop.control("post", "/faults", {})
    for event in shop.stripe.events.list({"delivery_success": False, "limit": 100}).data:
        shop.control("post", f"/events/{event.id}/deliver", {})


def test_a_plan_is_bought_and_its_credits_appear_and_are_spent(
    visitor: Visitor, shop: Shop, picture: Picture
) -> None:
    visitor.email = "ada@example.com"
    page = visitor.page
    visitor.open()
    picture(visitor, "01-visitor")
    visitor.sign_up()
    picture(visitor, "02-signed-up")

    visitor.choose("Starter")
    expect(page.get_by_role("heading", name="Subscribe to Starter")).to_be_visible()
    picture(visitor, "03-checkout")
    # Stripe's events come when the buyer is back already.
    shop.control("post", "/faults", {"drop": 1})
    visitor.pay()
    visitor.told("Thank you. Your credits are on their way.")
    visitor.has(0)
    page.evaluate("globalThis.sinceTheReturn = true")
    deliver_what_was_held_back(shop)
    visitor.has(500)
    assert page.evaluate("globalThis.sinceTheReturn"), "the page was loaded again"
    visitor.told("Your credits are here.")
    expect(page.locator("#subscription-state")).to_contain_text("Starter, active. The next period begins on")
    expect(page.locator("#history tr")).to_have_count(2)
    picture(visitor, "04-credits")

    visitor.write()
    expect(page.locator("#haiku p")).to_have_count(3)
    visitor.has(475)
    expect(page.locator("#history tr").first).to_contain_text("Haiku: the sea")
    picture(visitor, "05-spent")

    visitor.button("Sign out").click()
    expect(visitor.button("Sign in")).to_be_visible()
    expect(page.locator("#balance")).to_be_hidden()
    assert page.evaluate("Object.keys(localStorage)") == []
    assert "475" not in page.inner_text("body")

    page.get_by_label("E-mail").fill(visitor.email)
    page.get_by_label("Password").fill(PASSWORD)
    visitor.button("Sign in").click()
    visitor.has(475)
    page.reload()
    visitor.has(475)


DECLINES = {
    "06-declined": ("pm_card_visa_chargeDeclined", "Your card was declined."),
    "07-no-funds": ("pm_card_visa_chargeDeclinedInsufficientFunds", "Your card has insufficient funds."),
}


def test_a_declined_card_says_why_and_another_one_pays(visitor: Visitor, picture: Picture) -> None:
    visitor.sign_up()
    visitor.choose("Starter")
    for name, (card, reason) in DECLINES.items():
        visitor.pay(card)
        visitor.warned(reason)
        visitor.forgive(402)
        expect(visitor.page.get_by_label("Card", exact=True)).to_have_value(card)
        picture(visitor, name)
    visitor.pay()
    visitor.has(500)


def test_the_bank_asks_and_is_answered(visitor: Visitor, picture: Picture) -> None:
    visitor.sign_up()
    visitor.choose("Starter")
    visitor.pay(NEEDS_BANK)
    expect(visitor.page.get_by_text("9.00 USD")).to_be_visible()
    picture(visitor, "08-bank")
    visitor.button("Fail authentication").click()
    visitor.warned("unable to authenticate your payment method")
    picture(visitor, "09-bank-said-no")
    visitor.pay(NEEDS_BANK)
    visitor.button("Complete authentication").click()
    visitor.has(500)


def test_a_purchase_is_given_up_and_taken_up_again(visitor: Visitor, picture: Picture) -> None:
    visitor.sign_up()
    visitor.choose("Starter")
    page = visitor.page.url
    visitor.page.get_by_role("link", name="Back").click()
    visitor.told("Nothing was bought.")
    visitor.has(0)
    picture(visitor, "10-given-up")
    visitor.choose("Starter")
    assert visitor.page.url == page  # the same session: there are not two that could be paid
    visitor.pay()
    visitor.has(500)


def test_an_expired_session_says_so_and_leads_back(visitor: Visitor, shop: Shop, picture: Picture) -> None:
    visitor.sign_up()
    visitor.choose("Starter")
    expired = visitor.page.url
    shop.stripe.checkout.sessions.expire(expired.rsplit("/", 1)[1])
    visitor.pay()
    expect(visitor.page.get_by_role("heading", name="This session has expired")).to_be_visible()
    picture(visitor, "11-expired")
    visitor.page.get_by_role("link", name="Continue").click()
    visitor.told("Nothing was bought.")
    shop.settle()
    visitor.choose("Starter")
    assert visitor.page.url != expired
    visitor.pay()
    visitor.has(500)


def test_a_pack_brings_credits_and_without_any_nothing_is_written(visitor: Visitor, picture: Picture) -> None:
    visitor.sign_up()
    visitor.write()
    visitor.warned("Not enough credits: a plan or a pack brings more.")
    visitor.forgive(402)
    expect(visitor.page.locator("#haiku")).to_be_hidden()
    picture(visitor, "12-refused")
    visitor.page.get_by_label("Keep my card").check()
    visitor.choose("50 credits")
    picture(visitor, "13-pack")
    visitor.pay()
    visitor.has(50)
    for left in (25, 0):
        visitor.write()
        visitor.has(left)
    visitor.write()
    visitor.warned("Not enough credits")
    visitor.forgive(402)
    visitor.has(0)


def test_a_click_whose_answer_was_lost_is_not_paid_twice(visitor: Visitor) -> None:
    visitor.sign_up()
    visitor.choose("50 credits")
    visitor.pay()
    visitor.has(50)

    def lose(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.continue_()

    visitor.page.route("**/functions/v1/haiku", lose)
    visitor.write()
    visitor.warned("That did not work. Try again.")
    visitor.has(25)
    visitor.page.unroute("**/functions/v1/haiku")
    visitor.complaints.clear()
    visitor.button(re.compile("^Write it")).click()
    expect(visitor.page.locator("#haiku p")).to_have_count(3)
    expect(visitor.page.get_by_role("alert")).to_be_hidden()
    visitor.has(25)
    visitor.button(re.compile("^Write it")).click()  # a click of its own
    visitor.has(0)


def test_who_has_a_plan_is_led_to_the_portal_instead_of_a_second_one(visitor: Visitor) -> None:
    visitor.sign_up()
    # Another tab, opened before.
    other = visitor.page.context.new_page()
    other.goto(visitor.url)
    old = other.get_by_role("listitem").filter(has_text="Starter").get_by_role("button", name="Subscribe")
    expect(old).to_be_visible()
    other.route("**/rest/v1/billing_subscription*", lambda route: route.abort())  # and it hears of nothing
    visitor.choose("Starter")
    visitor.pay()
    visitor.has(500)
    expect(visitor.offer("Starter").get_by_text("Your plan")).to_be_visible()
    expect(visitor.offer("Starter").get_by_role("button")).to_have_count(0)
    old.click()
    expect(other.get_by_role("alert")).to_contain_text("use the portal to change the plan")


def test_somebody_else_pays_by_a_link_and_the_credits_come_to_who_made_it(
    visitor: Visitor, visit: Callable[..., Visitor], picture: Picture
) -> None:
    visitor.sign_up()
    visitor.offer("Starter").get_by_role("button", name="Payment link").click()
    link = visitor.page.locator("#notice a")
    expect(link).to_be_visible()
    picture(visitor, "21-payment-link")
    payer = visit()
    payer.page.goto(link.get_attribute("href") or "")
    payer.page.get_by_label("E-mail").fill("boss@example.com")
    payer.pay()
    visitor.has(500)
    expect(visitor.page.locator("#subscription-state")).to_contain_text("Starter, active.")
