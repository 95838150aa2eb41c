"""One local stack with the example app and one Chromium for all tests of this folder; a visitor for each test."""

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from cli.example import Example, example_functions
from cli.shop import Shop
from devstack.stack import Stack

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PASSWORD = "correct horse"
WIDTH, HEIGHT = 900, 640
DEADLINE_MS = 20_000
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PICTURE_BYTES_MAX = 150_000
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, never one that Playwright downloads; skips aloud where there is none.

    Of each module its own, because Playwright's event loop runs in the main thread as long as it lives, and other tests
    run theirs there.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium: `apt-get install chromium`, or put one on the PATH")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses to work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running local stack with the example on it; its settings have EXAMPLE_URL."""
    with tempfile.TemporaryDirectory(prefix="tillbase-stack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False, more_functions=[example_functions()]) as stack:
            Example.start(stack, port=0)
            yield stack


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    """The shop's owner, at the stack's Stripe."""
    with Shop(stack.settings) as shop:
        yield shop
        shop.control("post", "/faults", {})


class Visitor:
    """A person at the example's page. `complaints` is what the browser's console has to say against it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.email = f"ada.{next(_numbers)}@example.com"
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def forgive(self, status: int) -> None:
        """Chromium complains of every answer that is a refusal; one of this status was meant."""
        expected = [text for text in self.complaints if f"status of {status} " in text]
        assert expected, f"no answer was refused with {status}"
        self.complaints = [text for text in self.complaints if text not in expected]

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name, exact=isinstance(name, str))

    def open(self) -> None:
        self.page.goto(self.url)
        expect(self.offer("Starter")).to_be_visible()

    def sign_up(self) -> None:
        self.open()
        self.page.get_by_label("E-mail").fill(self.email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.button("Create account").click()
        self.has(0)

    def has(self, credits: int) -> None:
        """Sees that many credits, without a reload."""
        expect(self.page.locator("#balance")).to_have_text(f"{credits} credits")

    def offer(self, title: str) -> Locator:
        """The card of a plan or a pack."""
        return self.page.get_by_role("listitem").filter(
            has=self.page.get_by_role("heading", name=title, exact=True)
        )

    def choose(self, title: str) -> None:
        """Goes to Stripe's page for it."""
        self.offer(title).get_by_role("button", name=re.compile("^(Subscribe|Buy)$")).click()
        expect(self.page.get_by_text("test mode")).to_be_visible()

    def pay(self, card: str = "pm_card_visa") -> None:
        self.page.get_by_label("Card", exact=True).select_option(card)
        self.button(re.compile("^(Subscribe|Pay)")).click()

    def told(self, text: str) -> None:
        expect(self.page.locator("#notice")).to_have_text(text)

    def warned(self, text: str) -> None:
        expect(self.page.get_by_role("alert")).to_contain_text(text)

    def write(self, topic: str = "the sea") -> None:
        self.page.get_by_label("About").fill(topic)
        self.button(re.compile("^Write it")).click()

    def overflow_px(self) -> int:
        """How far the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@pytest.fixture
def visit(browser: Browser, stack: Stack) -> Iterator[Callable[..., Visitor]]:
    """A new visitor in a browser window of their own, whose console must stay quiet."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        window = {"viewport": {"width": WIDTH, "height": HEIGHT}, "locale": "en-US", "timezone_id": "UTC"}
        context = browser.new_context(**(window | options))
        context.set_default_timeout(DEADLINE_MS)
        visitors.append(Visitor(context.new_page(), stack.settings["EXAMPLE_URL"]))
        return visitors[-1]

    yield make
    complaints = [visitor.complaints for visitor in visitors]
    for visitor in visitors:
        visitor.page.context.close()
    assert complaints == [[] for _ in visitors]


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit()


@pytest.fixture
def picture(pytestconfig: pytest.Config) -> Callable[[Visitor, str], None]:
    """With --update-snapshots, keeps what the visitor sees in docs/pictures; else does nothing."""

    def take(visitor: Visitor, name: str) -> None:
        if not pytestconfig.getoption("update_snapshots"):
            return
        path = PICTURES / f"{name}.png"
        visitor.page.screenshot(path=path, animations="disabled", caret="hide")
        assert path.stat().st_size < PICTURE_BYTES_MAX, f"{path} is large"

    return take


expect.set_options(timeout=DEADLINE_MS)
