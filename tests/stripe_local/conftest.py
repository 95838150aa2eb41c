"""A Stripe of its own for each test, a client for it, and a shop's webhook endpoint that remembers."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe
import uvicorn

from stripe_local.app import create_app
from stripe_local.world import World

KEY = "sk_test_local"
SECRET = "whsec_local_test_secret"


def until(condition: Callable[[], Any], timeout_seconds: float = 10) -> Any:
    """The first true value of the condition; AssertionError when it never comes."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("it never happened")


@dataclass
class Local:
    """An emulator that runs in a thread."""

    url: str
    world: World
    http: httpx.Client

    @cached_property
    def client(self) -> Any:
        return stripe.StripeClient(KEY, base_addresses={"api": self.url}).v1

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.post(f"{self.url}/_control/{path}", json=body or {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def deliveries(self, **filters: str) -> list[dict[str, Any]]:
        return self.http.get(f"{self.url}/_control/deliveries", params=filters).json()["deliveries"]

    def call(self, method: str, path: str, form: str = "", **headers: str) -> httpx.Response:
        """A raw request, as a client without an SDK would send it."""
        sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "GET":
            return self.http.get(f"{self.url}{path}?{form}", headers=sent)
        return self.http.request(method, self.url + path, content=form, headers=sent)

    def event_types(self) -> list[str]:
        """Every event so far, oldest first."""
        return [event["type"] for event in self.world.events.bodies()]

    def events(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.world.events.bodies() if event["type"] == event_type]

    def price(self, amount: int = 2000, interval: str | None = "month", **more: Any) -> Any:
        product = self.client.products.create({"name": "Pro"})
        order: dict[str, Any] = {"product": product.id, "currency": "usd", "unit_amount": amount, **more}
        if interval:
            order["recurring"] = {"interval": interval}
        return self.client.prices.create(order)

    def customer(self, card: str | None = "pm_card_visa", **more: Any) -> Any:
        order: dict[str, Any] = {"email": "jenny@example.com", **more}
        if card:
            order |= {"payment_method": card, "invoice_settings": {"default_payment_method": card}}
        return self.client.customers.create(order)

    def advance(self, clock: str, to: int) -> None:
        """Move a test clock and wait until it has arrived."""
        self.client.test_helpers.test_clocks.advance(clock, {"frozen_time": to})
        until(lambda: self.client.test_helpers.test_clocks.retrieve(clock).status == "ready")


@dataclass
class Shop:
    """What a webhook endpoint received. `answer` decides the status of each request."""

    url: str
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[bytes], int] = lambda body: 200

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]


@pytest.fixture
def shop() -> Iterator[Shop]:
    """An endpoint on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = received.answer(body)
            received.received.append((dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received = Shop(f"http://127.0.0.1:{server.server_port}/webhook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def _serve(webhook_url: str | None) -> Iterator[Local]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(webhook_url=webhook_url, webhook_secret=SECRET, seed=7, base_url=url)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", date_header=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: server.started)
    # Without TLS there is nothing to verify, and the authorities would be read for each client.
    with httpx.Client(timeout=30, trust_env=False, verify=False) as http:
        yield Local(url, app.state.world, http)
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def local() -> Iterator[Local]:
    """An emulator that nobody listens to."""
    yield from _serve(None)


@pytest.fixture
def wired(shop: Shop) -> Iterator[Local]:
    """An emulator that sends every event to the shop."""
    yield from _serve(shop.url)
