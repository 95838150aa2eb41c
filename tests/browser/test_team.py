"""A team in the example: created, joined by a link, paid for by its owner, used by its members."""

import re
from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visitor

Picture = Callable[[Visitor, str], None]


def create(visitor: Visitor, name: str) -> None:
    visitor.sign_up()
    visitor.page.get_by_label("Share credits with other people").fill(name)
    visitor.button("Create a team").click()
    expect(visitor.page.get_by_role("heading", name=name)).to_be_visible()


def invite(owner: Visitor, email: str) -> str:
    """The link that the owner would send."""
    owner.page.get_by_label("Invite somebody").fill(email)
    owner.button("Invite").click()
    href = owner.page.locator("#notice a").get_attribute("href")
    assert href
    return href


def join(visitor: Visitor, link: str) -> None:
    visitor.page.goto(link)
    visitor.told("Sign in with the address that was invited.")
    visitor.page.get_by_label("E-mail").fill(visitor.email)
    visitor.page.get_by_label("Password").fill("correct horse")
    visitor.button("Create account").click()


def member(visitor: Visitor, email: str) -> Locator:
    return visitor.page.locator("#members tr").filter(has_text=email)


def test_a_team_shares_what_its_owner_buys(visit: Callable[..., Visitor], picture: Picture) -> None:
    owner, lin = visit(), visit()
    create(owner, "Rocket")
    owner.choose("50 credits")
    owner.pay()
    owner.has(50)

    join(lin, invite(owner, lin.email))
    lin.told("Welcome to the team.")
    lin.has(50)
    # Members spend; owners and admins buy.
    expect(lin.page.get_by_role("heading", name="Credit packs")).to_be_hidden()
    expect(lin.button("Subscribe")).to_have_count(0)
    expect(lin.button("Invite")).to_be_hidden()
    lin.write()
    lin.has(25)
    expect(member(lin, lin.email)).to_contain_text("25")
    lin.page.get_by_label("Account").select_option("My own")
    lin.has(0)

    owner.page.reload()
    owner.has(25)
    budget = owner.page.get_by_label(f"Monthly budget of {lin.email}")
    budget.fill("40")
    budget.press("Enter")
    owner.told(f"The budget of {lin.email} is saved.")
    lin.page.get_by_label("Account").select_option("Rocket")
    lin.has(25)
    lin.write("the moon")
    lin.warned("Your budget in this team is used up")
    lin.forgive(402)
    budget.fill("")
    budget.press("Enter")
    owner.told(f"The budget of {lin.email} is saved.")
    budget.fill("200")
    budget.press("Enter")
    owner.told(f"The budget of {lin.email} is saved.")
    member(owner, lin.email).get_by_role("combobox").select_option("admin")
    expect(member(owner, lin.email).get_by_role("combobox")).to_have_value("admin")
    owner.page.locator("#team").scroll_into_view_if_needed()
    picture(owner, "22-team")
    owner.page.set_viewport_size({"width": 320, "height": 640})
    assert owner.overflow_px() == 0
    lin.page.get_by_label("Account").select_option("My own")
    lin.page.get_by_label("Account").select_option("Rocket")
    expect(lin.button("Invite")).to_be_visible()
    expect(lin.page.get_by_role("heading", name="Credit packs")).to_be_visible()

    owner.button(f"Remove {lin.email}").click()
    expect(member(owner, lin.email)).to_have_count(0)
    lin.page.reload()
    lin.has(0)
    expect(lin.page.get_by_label("Account")).to_be_hidden()


def test_the_last_owner_stays(visitor: Visitor) -> None:
    create(visitor, "Solo")
    visitor.button("Leave the team").click()
    visitor.warned("a team needs an owner")
    visitor.forgive(400)


def test_an_invitation_is_for_one_address(visit: Callable[..., Visitor]) -> None:
    owner, stranger = visit(), visit()
    create(owner, "Closed")
    join(stranger, invite(owner, f"lin.{owner.email}"))
    stranger.warned(re.sub(r"\s+", " ", "invitation"))
    stranger.forgive(400)
    stranger.has(0)
    expect(stranger.page.get_by_label("Account")).to_be_hidden()
