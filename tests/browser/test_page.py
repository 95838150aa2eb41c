"""What holds of every page: keyboard, narrow screens, colours of the night, text that stays text."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from cli.shop import Shop
from tests.browser.conftest import PASSWORD, Visitor

Picture = Callable[[Visitor, str], None]
PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "color_scheme": "dark"}
FOCUSABLE = "a[href], button:enabled, input:enabled, select:enabled"
# The controls in the order in which they get the focus, each as its number and the style of its outline then.
LISTEN = """(controls) => {
    globalThis.focused ?? addEventListener("focusin", ({ target }) => {
        const number = [...document.querySelectorAll(controls)].indexOf(target);
        if (number >= 0) focused.push([number, getComputedStyle(target).outlineStyle]);
    });
    document.activeElement.blur();
    globalThis.focused = [];
}"""
# Between two looks at them.
PRESSES = 10
VISIBLE = """(controls) => controls.flatMap((each, number) =>
    each.checkVisibility({ visibilityProperty: true }) && each.getBoundingClientRect().width ? [number] : [])"""


def tab_through(page: Page) -> set[int]:
    """Which of the page's controls the Tab key comes to; each must show that it has the focus."""
    page.evaluate(LISTEN, FOCUSABLE)
    focused: list[tuple[int, str]] = []
    while len(focused) == len(dict(focused)):  # until one comes again
        before = len(focused)
        for _ in range(PRESSES):
            page.keyboard.press("Tab")
        focused = page.evaluate("focused")
        assert len(focused) > before, "Tab comes to no control"
    without = [number for number, outline in focused if outline == "none"]
    assert not without, f"controls that do not show their focus: {without}"
    return {number for number, _ in focused}


def visible(page: Page) -> set[int]:
    return set(page.locator(FOCUSABLE).evaluate_all(VISIBLE))


def test_everything_is_done_with_the_keyboard(visitor: Visitor) -> None:
    page, press = visitor.page, visitor.page.keyboard.press
    visitor.open()
    assert tab_through(page) == visible(page)
    page.get_by_label("E-mail").focus()
    page.keyboard.type(visitor.email)
    press("Tab")
    page.keyboard.type(PASSWORD)
    press("Tab")
    press("Tab")
    press("Enter")  # Create account
    visitor.has(0)
    expect(visitor.offer("Starter").get_by_role("button")).to_have_count(2)
    expect(visitor.offer("500 credits").get_by_role("button")).to_be_visible()
    assert tab_through(page) == visible(page)
    visitor.offer("50 credits").get_by_role("button").focus()
    press("Enter")
    expect(page.get_by_text("test mode")).to_be_visible()
    assert tab_through(page) == visible(page)
    page.get_by_label("Promotion code").focus()
    press("Enter")
    visitor.has(50)
    page.get_by_label("About").focus()
    page.keyboard.type("keys")
    press("Enter")
    visitor.has(25)
    visitor.button("Sign out").focus()
    press("Space")
    expect(visitor.button("Sign in")).to_be_visible()


def test_nothing_is_wider_than_a_narrow_phone(visit: Callable[..., Visitor], picture: Picture) -> None:
    visitor = visit(**PHONE)
    page = visitor.page
    visitor.email = "a.rather.long.address.that.would.not.fit@subdomain.of.example.com"
    visitor.open()
    assert visitor.overflow_px() == 0
    visitor.sign_up()
    expect(visitor.offer("500 credits").get_by_role("button")).to_be_visible()
    assert visitor.overflow_px() == 0
    visitor.choose("Studio")
    assert visitor.overflow_px() == 0
    visitor.pay("pm_card_authenticationRequired")
    expect(visitor.button("Complete authentication")).to_be_visible()
    assert visitor.overflow_px() == 0
    visitor.button("Complete authentication").click()
    visitor.has(2200)
    visitor.write("a topic of sixty letters, which is the longest that it takes")
    visitor.has(2175)
    expect(page.locator("#subscription-state")).to_be_visible()
    assert visitor.overflow_px() == 0
    picture(visitor, "19-phone")
    visitor.button("Invoices and more").click()
    expect(page.get_by_role("heading", name="Your subscriptions")).to_be_visible()
    assert visitor.overflow_px() == 0


def test_the_night_has_its_own_colours(visit: Callable[..., Visitor], picture: Picture) -> None:
    paper: list[tuple[int, ...]] = []
    for scheme in ("light", "dark"):
        visitor = visit(color_scheme=scheme)
        visitor.open()
        colour = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
        paper.append(tuple(map(int, re.findall(r"\d+", colour))))
    picture(visitor, "20-dark")
    light, dark = paper
    assert min(light) > 200
    assert max(dark) < 60


def test_a_name_from_the_shop_is_text_and_never_markup(visitor: Visitor, shop: Shop) -> None:
    trap = "<script>globalThis.trapped = 1</script><img src=x onerror='globalThis.trapped = 1'>"
    product = shop.stripe.products.create({"name": trap, "description": trap})
    price = shop.stripe.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 100,
            "recurring": {"interval": "month"},
            "metadata": {"monthly_credits": "7"},
        }
    )
    shop.settle()
    try:
        visitor.sign_up()
        visitor.choose(trap)
        expect(visitor.page.get_by_role("cell", name=trap)).to_be_visible()
        visitor.pay()
        visitor.has(7)
        expect(visitor.page.locator("#subscription-state")).to_contain_text(trap)
        visitor.write(trap[:60])
        visitor.warned("Not enough credits")
        visitor.forgive(402)
        assert visitor.page.evaluate("globalThis.trapped") is None
        visitor.button("Invoices and more").click()
        # The portal's own heading first: the shop's page shows the name in a heading too.
        expect(visitor.page.get_by_role("heading", name="Your subscriptions")).to_be_visible()
        expect(visitor.page.get_by_role("heading", name=trap)).to_be_visible()
        assert visitor.page.evaluate("globalThis.trapped") is None
    finally:
        shop.stripe.prices.update(price.id, {"active": False})
        shop.settle()


def test_a_wrong_password_and_a_short_one_are_told(visitor: Visitor) -> None:
    visitor.sign_up()
    visitor.button("Sign out").click()
    page = visitor.page
    page.get_by_label("E-mail").fill(visitor.email)
    page.get_by_label("Password").fill("wrong horse")
    visitor.button("Sign in").click()
    visitor.warned("Invalid login credentials")
    visitor.forgive(400)
    visitor.button("Create account").click()
    visitor.warned("User already registered")
    visitor.forgive(422)
    page.get_by_label("Password").fill("short")
    visitor.button("Create account").click()  # the browser itself says no
    assert page.evaluate("document.querySelector('#password').validity.tooShort")


def test_the_page_runs_its_own_scripts_only(visitor: Visitor) -> None:
    answer = visitor.page.goto(visitor.url)
    assert answer
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    visitor.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'trapped = 1'}))"
    )
    assert visitor.page.evaluate("globalThis.trapped") is None
    assert "Content Security Policy" in visitor.complaints.pop()


def test_two_people_in_one_browser_see_their_own(visitor: Visitor) -> None:
    visitor.sign_up()
    visitor.choose("50 credits")
    visitor.pay()
    visitor.has(50)
    visitor.button("Sign out").click()
    expect(visitor.button("Sign in")).to_be_visible()
    visitor.email = f"other-{visitor.email}"
    visitor.sign_up()
    expect(visitor.page.locator("#history tr")).to_have_count(0)
    expect(visitor.page.locator("#subscription")).to_be_hidden()
