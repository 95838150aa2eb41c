"""The administrator's dashboard in a real browser: the fraud queue from alert to resolution, and what strangers try."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, StorageState, expect

from cli.shop import Shop
from devstack.stack import Stack
from tests.browser.conftest import DEADLINE_MS
from tests.browser.scene import DEAD_EVENT, Scene, set_scene, warn
from tests.browser.test_page import tab_through, visible

SIZE = {"width": 1180, "height": 800}
NARROW = {"viewport": {"width": 320, "height": 640}, "has_touch": True}
TRAP = "<img src=x onerror='globalThis.trapped=1'><script>globalThis.trapped=1</script>"
TRAPPED = "globalThis.trapped"


@dataclass(frozen=True)
class Office:
    """A stack in the middle of its day, and what the browser that has opened its dashboard keeps."""

    stack: Stack
    shop: Shop
    scene: Scene
    url: str
    door: StorageState

    def value(self, query: LiteralString, parameters: Sequence[Any] = ()) -> Any:
        """The first value of a query."""
        with self.shop.connect() as conn:
            found = conn.execute(query, parameters).fetchone()
        assert found
        return found[0]

    def case(self, of: str) -> str:
        """The path of the case of somebody's account."""
        return "/fraud/" + self.value(
            "select stripe_early_fraud_warning_id from billing.fraud_warnings where account_id = %s",
            [self.scene.buyers[of].account_id],
        )


class Administrator:
    """A person at the dashboard. `complaints` is what the browser's console has to say against it."""

    def __init__(self, page: Page, office: Office) -> None:
        self.page = page
        self.office = office
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str = "/") -> None:
        answer = self.page.goto(self.office.url + path)
        assert answer
        assert answer.ok, path

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    def sees(self, heading: str) -> None:
        """A page with this heading, whose keys work by now."""
        expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        self.page.wait_for_load_state()

    def flash(self, text: str) -> None:
        expect(self.page.locator(".flash").first).to_have_text(text)
        self.page.wait_for_load_state()

    def overflow_px(self) -> int:
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@pytest.fixture(scope="module")
def office(browser: Browser) -> Iterator[Office]:
    with tempfile.TemporaryDirectory(prefix="tillbase-dashboard-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False) as stack, Shop(stack.settings) as shop:
            scene = set_scene(shop, stack.settings["DATABASE_URL"])
            address = stack.settings["DASHBOARD_URL"]
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            assert "token" not in page.url
            yield Office(stack, shop, scene, address.partition("/?")[0], context.storage_state())
            context.close()


@pytest.fixture
def sit_down(browser: Browser, office: Office) -> Iterator[Callable[..., Administrator]]:
    """An administrator at a window of their own, whose console must stay quiet."""
    seated: list[Administrator] = []

    def make(**options: Any) -> Administrator:
        window = {"viewport": SIZE, "locale": "en-US", "timezone_id": "UTC", "storage_state": office.door}
        context = browser.new_context(**(window | options))
        context.set_default_timeout(DEADLINE_MS)
        seated.append(Administrator(context.new_page(), office))
        return seated[-1]

    yield make
    complaints = [each.complaints for each in seated]
    for each in seated:
        each.page.context.close()
    assert complaints == [[] for _ in seated]


@pytest.fixture
def administrator(sit_down: Callable[..., Administrator]) -> Administrator:
    return sit_down()


def every_page(office: Office) -> list[str]:
    account = office.scene.buyers["grace"].account_id
    return [
        "/", "/?days=90", "/fraud", office.case("annie"), "/fraud/reviews", "/fraud/held", "/disputes", "/accounts",
        f"/accounts/{account}", "/subscriptions", "/inbox", f"/inbox/{DEAD_EVENT}", "/notifications", "/worker?prove=1",
        "/settings",
    ]  # fmt: skip


def test_the_queue_is_worked_from_alert_to_resolution_by_clicking(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page, office = administrator.page, administrator.office
    administrator.open()
    expect(page.get_by_text("credits outstanding", exact=False).first).to_be_visible()
    picture(administrator, "30-dashboard")
    page.get_by_role("link", name="Fraud 3 waiting").click()
    administrator.sees("Fraud")
    picture(administrator, "31-fraud-queue")
    page.get_by_role("link", name="Made with stolen card").click()
    expect(page.get_by_text("frozen", exact=True).first).to_be_visible()
    picture(administrator, "32-fraud-case")

    page.get_by_label("What did you find?").fill("The bank says the card was stolen")
    administrator.button(re.compile("^Refund 79.00 USD")).click()
    expect(page.get_by_role("heading", name="Refund 79.00 USD?")).to_be_visible()
    picture(administrator, "33-refund-question")
    administrator.button("Refund 79.00 USD").click()
    administrator.flash("The worker sends the refund to Stripe.")
    # Without a reload: the worker has asked Stripe, and Stripe has told of it.
    expect(page.locator("#facts")).to_contain_text("79.00 USD refunded")
    expect(page.locator("#history")).not_to_contain_text("queued")
    [refund] = office.shop.stripe.refunds.list({"limit": 10}).data
    assert (refund.amount, refund.status) == (7900, "succeeded")

    page.get_by_label("What did you find?").fill("Refunded; stays frozen")
    administrator.button("Resolve").click()
    administrator.flash("Resolved.")
    picture(administrator, "34-fraud-resolved")
    page.get_by_role("link", name="Fraud 2 waiting").click()
    expect(page.locator("#queue")).not_to_contain_text("Made with stolen card")
    page.get_by_role("link", name="Resolved").click()
    expect(page.locator("#queue")).to_contain_text("annie@example.com")
    assert office.value(
        "select status || ': ' || notes from billing.fraud_warnings where stripe_charge_id = %s", [refund.charge]
    ) == "resolved: Refunded; stays frozen"  # fmt: skip


def test_the_queue_is_worked_with_the_keyboard_alone(administrator: Administrator) -> None:
    page, office, press = administrator.page, administrator.office, administrator.page.keyboard.press
    account_id = office.scene.buyers["mary"].account_id
    administrator.open()
    press("g")
    press("f")
    administrator.sees("Fraud")
    for _ in range(page.locator("tr[data-key]").count()):
        press("j")
        if "mary@" in page.locator("tr.here").inner_text():
            break
    press("Enter")
    expect(page.get_by_role("heading", name="Unspecified fraud")).to_be_visible()
    page.wait_for_load_state()
    assert tab_through(page) == visible(page)
    page.evaluate("document.activeElement.blur()")
    press("r")
    page.keyboard.type("Asked her bank to call back")
    for _ in range(4):
        press("Tab")
    expect(administrator.button("Freeze account")).to_be_focused()
    press("Enter")
    administrator.flash("The account is frozen.")
    assert office.value("select frozen_reason from billing.accounts where id = %s", [account_id])
    page.locator("summary", has_text="Undo").focus()
    press("Enter")
    press("Tab")
    page.keyboard.type("The bank says it is hers")
    press("Enter")
    administrator.flash("Undone.")
    assert office.value("select frozen_at is null from billing.accounts where id = %s", [account_id])
    press("r")
    page.keyboard.type("No fraud")
    press("Tab")
    press("Tab")
    press("Space")
    administrator.flash("Dismissed: no fraud.")
    assert office.value(
        "select status from billing.fraud_warnings where account_id = %s", [account_id]
    ) == "dismissed"  # fmt: skip


def test_an_alert_appears_by_itself_and_leaves_what_is_typed(
    administrator: Administrator, sit_down: Callable[..., Administrator]
) -> None:
    page, office = administrator.page, administrator.office
    administrator.open("/fraud")
    before = page.locator("tr[data-key]").count()
    other = sit_down()
    other.open(office.case("grace"))
    other.page.get_by_label("What did you find?").fill("half a sen")
    warn(office.shop, office.scene.buyers["hedy"], 1500, "normal", "made_with_lost_card")
    expect(page.get_by_role("link", name="Made with lost card")).to_be_visible()
    assert page.locator("tr[data-key]").count() == before + 1
    assert page.title().startswith(f"({before + 1})")
    expect(other.page.locator("#menu")).to_contain_text(str(before + 1))
    expect(other.page.get_by_label("What did you find?")).to_have_value("half a sen")


def test_an_account_is_found_and_its_balance_read(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page, office = administrator.page, administrator.office
    account_id = office.scene.buyers["grace"].account_id
    administrator.open("/accounts")
    page.keyboard.press("/")
    page.keyboard.type("grace@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="grace@example.com")).to_be_visible()
    picture(administrator, "35-account")
    chart = page.locator("#levels svg")
    said = page.locator("#levels .says")
    today = said.inner_text()
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert said.inner_text() != today
    pointed_at = said.inner_text()
    # The page refreshes itself, and the chart is left to its reader.
    office.value("select billing.spend_credits(%s, 7, 'a', 'While it is pointed at')", [account_id])
    expect(page.locator("#ledger")).to_contain_text("While it is pointed at")
    expect(chart).to_be_focused()
    assert said.inner_text() == pointed_at
    page.locator("#levels .spot").first.hover()
    assert "credits" not in said.inner_text()
    assert said.inner_text() == page.locator("#levels .spot").first.get_attribute("data-text")
    page.locator("#levels summary").click()
    expect(page.locator("#levels tbody tr")).to_have_count(90)
    # So is the table while it is open, wherever the focus is.
    page.locator("h1").click()
    with page.expect_response(lambda answer: "x-refresh" in answer.request.headers):
        office.value("select billing.spend_credits(%s, 5, 'b', 'While it is open')", [account_id])
    with page.expect_response(lambda answer: "x-refresh" in answer.request.headers):
        expect(page.locator("#ledger")).to_contain_text("While it is open")
    expect(page.locator("#levels tbody tr").first).to_be_visible()
    page.get_by_label("Adjust the balance").fill("25")
    page.get_by_label("Reason for the adjustment").fill("For the outage")
    administrator.button("Adjust").click()
    administrator.flash("25 credits were given.")
    expect(page.locator("#ledger")).to_contain_text("For the outage")


def test_a_dead_letter_is_retried(administrator: Administrator, picture: Callable[[Any, str], None]) -> None:
    page = administrator.page
    administrator.open("/inbox?status=dead")
    page.get_by_role("link", name="invoice.paid").click()
    picture(administrator, "36-dead-letter")
    administrator.button("Retry").click()
    administrator.flash("Queued again.")
    # The worker reads it again, and it is as wrong as before.
    expect(page.locator("#facts")).to_contain_text("2")
    administrator.open("/worker?prove=1")
    expect(page.get_by_text("The ledger and the payments agree")).to_be_visible()
    expect(page.locator("#tiles")).to_contain_text("Workers connected\n1", use_inner_text=True)
    expect(page.locator("#figures")).to_contain_text("batches")


def test_it_works_without_scripts(sit_down: Callable[..., Administrator]) -> None:
    administrator = sit_down(java_script_enabled=False)
    page = administrator.page
    administrator.open(administrator.office.case("grace"))
    page.get_by_label("What did you find?").fill("Nothing moves here, and all of it works")
    administrator.button("Add note").click()
    administrator.flash("Noted.")
    expect(page.locator("#history")).to_contain_text("all of it works")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_narrow_phone(
    sit_down: Callable[..., Administrator], picture: Callable[[Any, str], None], scheme: str
) -> None:
    administrator = sit_down(**NARROW, color_scheme=scheme)
    for path in every_page(administrator.office):
        administrator.open(path)
        assert administrator.overflow_px() == 0, path
        if scheme == "dark" and path == "/?days=90":
            picture(administrator, "37-dashboard-phone")


def test_the_night_has_its_own_colours(
    sit_down: Callable[..., Administrator], picture: Callable[[Any, str], None]
) -> None:
    paper: list[tuple[int, ...]] = []
    for scheme in ("light", "dark"):
        administrator = sit_down(color_scheme=scheme)
        administrator.open("/?days=90")
        colour = administrator.page.evaluate("getComputedStyle(document.body).backgroundColor")
        paper.append(tuple(map(int, re.findall(r"\d+", colour))))
    picture(administrator, "38-dashboard-dark")
    light, dark = paper
    assert min(light) > 200
    assert max(dark) < 60


def test_every_control_is_reached_and_shows_its_focus(administrator: Administrator) -> None:
    for path in every_page(administrator.office):
        administrator.open(path)
        assert tab_through(administrator.page) == visible(administrator.page), path


def test_a_strangers_text_does_not_run(administrator: Administrator) -> None:
    page, office = administrator.page, administrator.office
    buyer = office.shop.sign_up(f"{TRAP.replace(' ', '/')}@example.com".lower())
    warn(office.shop, buyer, 1300, "highest", "misc")
    office.shop.settle()
    office.value("select billing.note_fraud(stripe_early_fraud_warning_id, %s, %s) from billing.fraud_warnings "
                 "where account_id = %s", [TRAP, TRAP, buyer.account_id])  # fmt: skip
    case = "/fraud/" + office.value(
        "select stripe_early_fraud_warning_id from billing.fraud_warnings where account_id = %s",
        [buyer.account_id],
    )
    for path in ("/", "/fraud", case, "/accounts", f"/accounts/{buyer.account_id}", "/notifications"):
        administrator.open(path)
        assert page.evaluate(TRAPPED) is None, path
        assert page.locator("img").count() == 0, path
    administrator.open(case)
    expect(page.locator("#history")).to_contain_text(TRAP)
    page.get_by_label("What did you find?").fill(TRAP)
    administrator.button("Add note").click()
    administrator.flash("Noted.")
    expect(page.locator("#history").get_by_text(TRAP)).to_have_count(
        3
    )  # note, author, and the one just written
    assert page.evaluate(TRAPPED) is None


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'trapped = 1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"globalThis.trapped = 1\">')",
        "document.body.setAttribute('onclick', 'globalThis.trapped = 1'), document.body.click()",
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://evil.example/?a'}))",
        "document.body.append(Object.assign(document.createElement('iframe'), {src: 'https://evil.example/'}))",
        "fetch('https://evil.example/')",
        "document.body.setAttribute('style', 'background: url(https://evil.example)')",
    ],
    ids=["script", "markup", "handler", "picture", "frame", "fetch", "style"],
)
def test_what_is_injected_is_blocked_by_the_browser(administrator: Administrator, attempt: str) -> None:
    page = administrator.page
    answered: list[str] = []
    page.on("response", lambda response: answered.append(response.url))
    administrator.open("/fraud")
    with page.expect_console_message(
        lambda message: "Content Security Policy" in message.text or "Trusted" in message.text
    ):
        page.evaluate(
            f"async () => {{ try {{ await ({attempt}) }} catch (error) {{ console.error(String(error)) }} }}"
        )
    assert page.evaluate(TRAPPED) is None
    assert all(url.startswith(administrator.office.url) for url in answered)
    administrator.complaints.clear()


@pytest.mark.parametrize(("neighbour", "status"), [("http://evil.example", 401), ("http://127.0.0.1:1", 403)])
def test_a_form_on_another_page_is_refused(administrator: Administrator, neighbour: str, status: int) -> None:
    """From another site the browser sends no cookie; from another port of this machine it does, and an Origin."""
    page, office = administrator.page, administrator.office
    case = office.case("grace")
    page.context.route(
        f"{neighbour}/**",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{office.url}{case}/resolve'><input name=reason value=evil>"
            "<input name=decision value=dismissed><button>Win a prize</button></form>",
        ),
    )
    page.goto(f"{neighbour}/")
    with page.expect_navigation() as answered:
        page.get_by_role("button").click()
    assert answered.value
    assert answered.value.status == status
    assert office.value("select count(*) from billing.fraud_actions where reason = 'evil'") == 0
    assert any(f"status of {status} " in text for text in administrator.complaints)
    administrator.complaints.clear()


def test_another_browser_stays_outside(browser: Browser, office: Office) -> None:
    context = browser.new_context()
    page = context.new_page()
    for address in (office.url, office.stack.settings["DASHBOARD_URL"]):
        answer = page.goto(address)
        assert answer
        assert answer.status == 401
        expect(page.get_by_role("heading")).to_have_text("You are not signed in")
    context.close()
