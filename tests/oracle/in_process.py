"""A local Stripe without a server: calls go straight to its API, its time follows its test clock."""

import json
import threading
from typing import Any
from urllib.parse import urlencode, urlsplit

import stripe

from simulator.shop import flat
from stripe_local.api import Api, Request
from stripe_local.control import ACTS
from stripe_local.resources.account import run_until
from stripe_local.store import Object
from stripe_local.world import World
from worker.events.fetch import StripeReader
from worker.stripe_api import StripeAccess

KEY = "sk_test_oracle"


class Refused(Exception):
    """Stripe's error: its message says what it did not like."""


class Stripe:
    """One Stripe with one test clock, on which every customer hangs."""

    def __init__(self, seed: int, now: int) -> None:
        self.world = World(seed)
        self.api = Api(self.world)
        self.world.pretended_time = now
        self.clock = self.post("test_helpers/test_clocks", frozen_time=now)["id"]
        self._lock = threading.Lock()

    @property
    def now(self) -> int:
        return self.world.wall_time()

    def post(self, path: str, **parameters: Any) -> Any:
        return self.call("post", path, parameters)

    def delete(self, path: str, **parameters: Any) -> Any:
        return self.call("delete", path, parameters)

    def call(self, method: str, path: str, parameters: dict[str, Any]) -> Any:
        answer = self.answer(method, f"/v1/{path}", urlencode(list(flat(parameters))))
        body = json.loads(answer[0])
        if answer[1] != 200:
            raise Refused(f"{method} {path}: {body['error']['message']}")
        return body

    def answer(self, method: str, path: str, form: str, query: str = "") -> tuple[str, int, dict[str, str]]:
        headers = {"authorization": f"Bearer {KEY}"}
        answer = self.api.answer(Request(method.upper(), path, query, form, headers))
        return answer.body, answer.status, answer.headers

    def control(self, act: str, identifier: str, **given: Any) -> Object:
        """What a browser, a bank or luck does: one of the control endpoints."""
        try:
            return ACTS[act](self.world, given, identifier)
        except Exception as error:
            raise Refused(f"{act}: {error}") from error

    def wait(self, seconds: int) -> None:
        """Let time pass: what is due happens at its own moment, and its events say so."""
        target = self.now + seconds
        clock = self.world.store.get("test_helpers.test_clock", self.clock)
        while (due := self.world.timers.next_due(self.clock)) is not None and due <= target:
            self.world.pretended_time = max(due, self.now)
            run_until(self.world, clock, self.now, 1_000)
        self.world.pretended_time = target
        run_until(self.world, clock, target, 1)

    def reader(self) -> StripeReader:
        """What the worker reads objects with."""
        return _Reader(self)

    def access(self) -> StripeAccess:
        """What the worker's jobs ask Stripe with."""
        return _Access(self)


class _Http(stripe.RequestsClient):
    def __init__(self, local: Stripe) -> None:
        super().__init__()
        self._local = local
        self._lock = threading.Lock()

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        parts = urlsplit(url)
        with self._lock:
            return self._local.answer(method, parts.path, post_data or "", parts.query)


class _Reader(StripeReader):
    def __init__(self, local: Stripe) -> None:
        super().__init__(KEY, None)
        self._stripe.client = stripe.StripeClient(KEY, http_client=_Http(local))


class _Access(StripeAccess):
    def __init__(self, local: Stripe) -> None:
        super().__init__(KEY, None)
        self.client = stripe.StripeClient(KEY, http_client=_Http(local))
