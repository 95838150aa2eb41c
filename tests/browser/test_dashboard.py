"""The administrator's dashboard in a real browser: the fraud queue from alert to resolution, and what strangers try."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, LiteralString

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, StorageState, expect

from cli.shop import Shop, find_or_create_user
from devstack.stack import Stack
from tests.browser.conftest import DEADLINE_MS
from tests.browser.scene import DEAD_EVENT, Scene, set_scene, warn
from tests.browser.test_page import tab_through, visible

SIZE = {"width": 1180, "height": 800}
NARROW = {"viewport": {"width": 320, "height": 640}, "has_touch": True}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
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

    def dispute(self) -> str:
        """The path of the dispute."""
        return "/disputes/" + self.value("select stripe_dispute_id from billing.disputes")


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
        "/", "/?days=90", "/search?q=example", "/search?q=nobody", "/fraud", office.case("annie"), "/fraud/reviews",
        "/fraud/held", "/disputes", office.dispute(), "/accounts", f"/accounts/{account}", "/customers",
        f"/customers/{office.scene.unlinked}", "/subscriptions", "/inbox", f"/inbox/{DEAD_EVENT}", "/notifications",
        "/worker", "/doctor", "/settings",
    ]  # fmt: skip


def test_the_queue_is_worked_from_alert_to_resolution_by_clicking(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page, office = administrator.page, administrator.office
    administrator.open()
    expect(page.get_by_text("credits outstanding", exact=False).first).to_be_visible()
    picture(administrator, "30-dashboard")
    page.get_by_role("link", name="Fraud 4 waiting").click()
    administrator.sees("Fraud")
    picture(administrator, "31-fraud-queue")
    page.get_by_role("link", name="Made with stolen card").click()
    expect(page.get_by_text("frozen", exact=True).first).to_be_visible()
    picture(administrator, "32-fraud-case")

    page.get_by_label("What did you find?").fill("The bank says the card was stolen")
    administrator.button(re.compile("^Refund 79.00 USD")).click()
    expect(page.get_by_role("heading", name="Refund 79.00 USD?")).to_be_visible()
    # Who, and what becomes of it; Enter alone changes nothing.
    expect(page.locator("dl")).to_contain_text("annie@example.com")
    expect(page.locator("dl")).to_contain_text("Balance after")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
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
    page.get_by_role("link", name="Fraud 3 waiting").click()
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
    waiting = int(page.title().removeprefix("(").partition(")")[0])
    other = sit_down()
    other.open(office.case("grace"))
    other.page.get_by_label("What did you find?").fill("half a sen")
    warn(office.shop, office.scene.buyers["hedy"], 1500, "normal", "made_with_lost_card")
    expect(page.get_by_role("link", name="Made with lost card")).to_be_visible()
    assert page.locator("tr[data-key]").count() == before + 1
    assert page.title().startswith(f"({waiting + 1})")
    expect(other.page.get_by_role("link", name="Fraud", exact=False).first).to_contain_text(str(before + 2))
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
    chart.press("ArrowLeft")
    chart.press("ArrowLeft")
    expect(said).not_to_have_text(today)
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
    administrator.open("/worker")
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


def test_a_dispute_is_answered_where_it_is_read(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page, office = administrator.page, administrator.office
    charge = office.shop.pay_once(office.scene.buyers["hedy"], 2100)
    dispute = office.shop.control("post", f"/charges/{charge}/dispute", {"reason": "fraudulent"})["id"]
    office.shop.settle()
    administrator.open("/")
    page.get_by_role("link", name=re.compile("disputes? needs? a response|disputes need")).click()
    page.get_by_role("link", name="Fraudulent").click()
    expect(page.get_by_role("heading", name="Answer with evidence")).to_be_visible()
    picture(administrator, "39-dispute")
    # Stripe's own page of it, which the local Stripe has at the same address.
    with page.context.expect_page() as opened:
        page.locator("#facts").get_by_role("link", name=dispute).click()
    expect(opened.value.get_by_role("heading", name="Dispute")).to_be_visible()
    assert opened.value.url.startswith(office.stack.settings["STRIPE_API_BASE"])
    opened.value.close()
    page.get_by_label("What speaks for you").fill("winning_evidence")
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    administrator.button("Submit to the bank").click()
    expect(page.get_by_role("heading", name="Submit this evidence to the bank?")).to_be_visible()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    expect(page.locator("dl")).to_contain_text("hedy@example.com")
    administrator.button("Submit").click()
    administrator.flash("Submitted: the dispute is won.")
    # Stripe tells of it, and the page shows it by itself.
    expect(page.locator("#head")).to_contain_text("won")


def test_a_customer_of_nobody_is_found_and_linked(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page, office = administrator.page, administrator.office
    customer = office.shop.stripe.customers.create({"email": "linus@example.com", "name": "Linus"})
    office.shop.settle()
    user_id = find_or_create_user(office.stack.settings["DATABASE_URL"], "linus.t@example.com")
    account = office.value("select billing.ensure_account(user_id => %s)", [user_id])
    administrator.open("/")
    page.get_by_role("searchbox", name="Search").fill(customer.id)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="linus@example.com")).to_be_visible()
    picture(administrator, "40-unlinked-customer")
    page.get_by_label("Account id, or its owner's e-mail address").fill("linus.t@example.com")
    administrator.button("Link …").click()
    expect(page.get_by_role("heading", name=f"Link {customer.id} to linus.t@example.com?")).to_be_visible()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    administrator.button("Link").click()
    expect(page).to_have_url(f"{office.url}/accounts/{account}")
    administrator.flash(f"{customer.id} is linked to linus.t@example.com. Its events go on.")


def test_the_doctor_asks_stripe_and_shows_it_by_itself(
    administrator: Administrator, picture: Callable[[Any, str], None]
) -> None:
    page = administrator.page
    administrator.open("/doctor")
    expect(page.locator("#database")).to_contain_text("ledger")
    expect(page.locator("#elsewhere")).to_contain_text("not checked yet")
    administrator.button("Check Stripe now").click()
    expect(page.locator("#elsewhere")).to_contain_text("Data API")
    expect(administrator.button("Check Stripe now")).to_be_enabled()
    expect(page.locator("#elsewhere")).to_contain_text("checked")
    picture(administrator, "41-doctor")


PHONE = {"viewport": {"width": 375, "height": 760}, "has_touch": True}


def test_on_a_phone_what_can_be_done_comes_first(
    sit_down: Callable[..., Administrator], picture: Callable[[Any, str], None]
) -> None:
    administrator = sit_down(**PHONE)
    page, office = administrator.page, administrator.office
    account = office.scene.buyers["grace"].account_id
    for path, first in {
        f"/accounts/{account}": "#findings",
        office.case("grace"): "#decide",
        office.dispute(): "#evidence",
        f"/customers/{office.scene.unlinked}": "#link",
    }.items():
        administrator.open(path)
        tops = {
            section.get_attribute("id"): (section.bounding_box() or {"y": 0})["y"]
            for section in page.locator("main section.card[id]").all()
        }
        assert f"#{min(tops, key=lambda name: tops[str(name)])}" == first, (path, tops)
        assert tops[first[1:]] < PHONE["viewport"]["height"], path
        if path.startswith("/accounts/"):
            assert tops["actions"] < min(tops[name] for name in ("payments", "timeline", "ledger", "facts"))
            picture(administrator, "42-account-phone")


CONTRAST = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((channels(colour)[3] ?? 1) > 0) return colour;
        }
    };
    const weak = [];
    const controls = "input:not([type=hidden], [type=checkbox]), textarea, select, button, a.button";
    for (const control of document.querySelectorAll(controls)) {
        const style = getComputedStyle(control);
        const outside = behind(control.parentElement);
        const inside = behind(control);
        const edge = channels(style.borderTopColor)[3] === 0 ? inside : style.borderTopColor;
        const text = ratio(style.color, inside);
        const hint = control.matches("input, textarea")
            ? ratio(getComputedStyle(control, "::placeholder").color, inside) : 21;
        if (control.disabled) continue;
        if (ratio(edge, outside) < 3 || text < 4.5 || hint < 4.5)
            weak.push([control.outerHTML.slice(0, 90), ratio(edge, outside), text, hint]);
    }
    return weak;
}"""


def test_controls_stand_out_from_what_is_around_them(administrator: Administrator) -> None:
    """WCAG 2.2: 3:1 for the edge of a control, 4.5:1 for its text and its hint; in both modes, by day and night."""
    page = administrator.page
    page.emulate_media(reduced_motion="reduce")
    for path in every_page(administrator.office):
        administrator.open(path)
        for is_live in (False, True):
            page.evaluate("(isLive) => document.body.classList.toggle('live', isLive)", is_live)
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(CONTRAST) == [], (path, scheme, is_live)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_live_mode_cannot_be_missed(sit_down: Callable[..., Administrator], scheme: str) -> None:
    administrator = sit_down(color_scheme=scheme)
    administrator.open("/")
    page = administrator.page
    colour = "getComputedStyle(document.querySelector('.top')).backgroundColor"
    before = page.evaluate(colour)
    page.evaluate("document.body.classList.add('live')")
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate(colour)))
    assert before != page.evaluate(colour)
    assert red > 150 > 2 * max(green, blue)
    page.mouse.wheel(0, 2000)  # it stays in sight
    assert (page.locator(".top").bounding_box() or {})["y"] == 0


def test_nothing_is_wider_than_a_narrow_phone(
    sit_down: Callable[..., Administrator], picture: Callable[[Any, str], None]
) -> None:
    administrator = sit_down(**NARROW)
    for path in every_page(administrator.office):
        administrator.open(path)
        for scheme in SCHEMES:
            administrator.page.emulate_media(color_scheme=scheme)
            assert administrator.overflow_px() == 0, (path, scheme)
        if path == "/?days=90":
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
