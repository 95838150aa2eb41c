"""The receiver and the edge functions die at each thing that they ask of others, and who called them calls again."""

from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from devstack.functions import EdgeFunctions, functions_of
from devstack.paths import supabase_directory
from devstack.tokens import SigningKeys
from tests.crash import page
from tests.crash.points import Points
from tests.crash.proxies import http_proxy, postgres_proxy
from tests.functions import shop as shops
from tests.functions.shop import ISSUER, KEY, Shop, only, stock
from tests.functions.support import SECRET, Answer, deliver, event
from tests.support import Database

TRIES = 40


class Functions:
    """Deno, started again whenever it was killed."""

    def __init__(self, points: Points, directory: Path, environment: dict[str, str]) -> None:
        self._points, self._directory, self._environment = points, directory, environment
        self._running: EdgeFunctions | None = None

    def ask(self, name: str, request: Callable[[str], Answer]) -> Answer:
        """What the function answers at last; Stripe and a browser ask again as long as nothing answers."""
        for _ in range(TRIES):
            try:
                return request(f"{self._url(name)}/{name}")
            except (HTTPException, OSError):
                self.stop()
        raise AssertionError(f"it is never answered; killed {self._points.killed}")

    def stop(self) -> None:
        self._points.disarm()
        if self._running:
            self._running.stop()
        self._running = None

    def _url(self, name: str) -> str:
        if self._running is None:
            served = {name: functions_of(supabase_directory() / "functions")[name]}
            self._running = EdgeFunctions.start(served, self._directory, self._environment)
            self._points.arm(self._running.pid)
        return self._running.url


@pytest.fixture
def points(alone: tuple[str, int] | None) -> Points:
    return Points(alone)


@pytest.fixture
def listed(points: Points, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[None]:
    """Where it was killed is what the page lists."""
    yield
    page.check(request.function.section, points, pytestconfig)


@pytest.fixture
def functions(database: Database, tmp_path: Path, points: Points) -> Iterator[tuple[Functions, Shop]]:
    """The functions, and the shop that they serve."""
    keys = SigningKeys.load(tmp_path / "state")
    with (
        shops.emulator() as (stripe_url, world),
        postgres_proxy(database.server.port, points) as port,
        http_proxy(stripe_url, points) as proxied_stripe,
    ):
        client: Any = shops.stripe.StripeClient(KEY, base_addresses={"api": stripe_url}).v1
        shop = Shop(database, "", world, client, keys, tmp_path, stripe_url)
        stock(shop)
        environment = {
            "SUPABASE_DB_URL": database.url.replace(f":{database.server.port}/", f":{port}/"),
            "SUPABASE_JWKS": keys.jwks(),
            "BILLING_JWT_ISSUER": ISSUER,
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": proxied_stripe,
            "STRIPE_WEBHOOK_SECRET": SECRET,
        }
        functions = Functions(points, tmp_path, environment)
        try:
            yield functions, shop
        finally:
            functions.stop()


def press(shop: Shop, functions: Functions, name: str, user: shops.User, **body: Any) -> Answer:
    def request(url: str) -> Answer:
        shop.url = url.rpartition("/")[0]
        return shop.press(name, user, **body)

    return functions.ask(name, request)


@pytest.mark.usefixtures("listed")
@page.section("The receiver")
def test_the_receiver(functions: tuple[Functions, Shop], points: Points) -> None:
    """What was committed before a kill is a duplicate when it is sent again."""
    deno, shop = functions
    what = event()
    answer = deno.ask("stripe-webhook", lambda url: deliver(url, what))
    was_stored = "after billing.receive_stripe_event" in points.killed
    assert (answer.status, answer.body) == (200, {"received": "duplicate" if was_stored else "queued"})
    assert shop.sql("select stripe_event_id, status from billing.stripe_events") == [(what["id"], "queued")]
    assert shop.sql("select count(*) from pgmq.q_stripe_events") == [(1,)]


@pytest.mark.usefixtures("listed")
@page.section("Checkout")
def test_a_checkout(functions: tuple[Functions, Shop]) -> None:
    deno, shop = functions
    user = shop.sign_up()
    answer = press(shop, deno, "checkout", user, plan="pro_monthly")
    assert answer.status == 200, answer
    assert (only(shop.sessions())["id"], only(shop.sessions())["customer"]) == (
        answer.body["id"],
        only(shop.customers())["id"],
    )


@pytest.mark.usefixtures("listed")
@page.section("Checkout of something else")
def test_a_checkout_of_something_else(functions: tuple[Functions, Shop], points: Points) -> None:
    """Two buttons at once: the second one's session takes the place of the first one's."""
    deno, shop = functions
    user = shop.sign_up()
    points.spare(page.points_of("Checkout"))
    assert press(shop, deno, "checkout", user, plan="pro_monthly").status == 200
    points.spare(())
    answer = press(shop, deno, "checkout", user, plan="pro_monthly", quantity=2)
    assert answer.status == 200, answer
    assert [session["id"] for session in shop.sessions() if session["status"] == "open"] == [
        answer.body["id"]
    ]
    assert len(shop.customers()) == 1


@pytest.mark.usefixtures("listed")
@page.section("The portal")
def test_the_portal(functions: tuple[Functions, Shop]) -> None:
    deno, shop = functions
    user = shop.sign_up()
    customer = shop.client.customers.create({"email": "ada@example.com"})
    with shop.database.connect("service_role") as app:
        shops.link(app, user, customer.id)
    answer = press(shop, deno, "portal", user)
    assert answer.status == 200, answer
    # Each is a page that leads to the same customer; a lost one is never seen.
    assert {session["customer"] for session in shop.portals()} == {customer.id}


@pytest.mark.usefixtures("listed")
@page.section("Payment Links")
def test_a_payment_link(functions: tuple[Functions, Shop]) -> None:
    deno, shop = functions
    user = shop.sign_up()

    def request(url: str) -> Answer:
        shop.url = url.rpartition("/")[0]
        return shop.ask("payment-links", user, plan="pro_monthly")

    answer = deno.ask("payment-links", request)
    assert answer.status == 200, answer
    assert answer.body["payment_link"].startswith(only(shop.links())["url"])
