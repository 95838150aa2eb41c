"""The local Stripe, served over HTTP from a thread: what people do there, and its time, which the simulator moves.

Acts of the business call the API directly, so that faults hit the workers' requests only.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import uvicorn

from devstack.processes import HOST
from stripe_local.api import Api, Request
from stripe_local.app import create_app
from stripe_local.control import ACTS
from stripe_local.errors import StripeError
from stripe_local.store import Object
from stripe_local.values import is_array, is_hash
from stripe_local.world import World

KEY = "sk_test_simulated"
TIMERS_AT_ONCE = 20
Answer = TypeVar("Answer")


class Refused(Exception):
    """What Stripe refuses doesn't happen: its message says why."""


class Shop:
    """One Stripe. Its state changes in its own thread only."""

    def __init__(self, seed: int, now: int, webhook_url: str, webhook_secret: str) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind((HOST, 0))
        self._listener.listen(256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        app = create_app(webhook_url=webhook_url, webhook_secret=webhook_secret, seed=seed, base_url=self.url)
        self.world: World = app.state.world
        self.world.pretended_time = now
        self._api = Api(self.world)
        config = uvicorn.Config(app, log_level="critical", date_header=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="stripe")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        while not self._server.started:
            self.do(lambda: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._server.serve(sockets=[self._listener])

    def do(self, work: Callable[[], Answer]) -> Answer:
        """Do something in Stripe's thread and return its answer."""
        done: Future[Answer] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)
        return done.result()

    @property
    def now(self) -> int:
        return self.world.wall_time()

    def until(self, target: int) -> None:
        """Let what is due happen, each at its own moment."""
        while not self.do(lambda: self._run_timers(target)):
            pass

    def _run_timers(self, target: int) -> bool:
        world = self.world
        for _ in range(TIMERS_AT_ONCE):
            due = world.timers.next_due(None)
            if due is None or due > target:
                world.pretended_time = max(target, world.wall_time())
                return True
            world.pretended_time = max(due, world.wall_time())
            _, action = world.timers.pop(None)
            action()
        return False

    def post(self, path: str, **parameters: Any) -> Any:
        return self._call("POST", path, parameters)

    def delete(self, path: str, **parameters: Any) -> Any:
        return self._call("DELETE", path, parameters)

    def _call(self, method: str, path: str, parameters: dict[str, Any]) -> Any:
        form, headers = urlencode(list(flat(parameters))), {"authorization": f"Bearer {KEY}"}
        answer = self.do(lambda: self._api.answer(Request(method, f"/v1/{path}", "", form, headers)))
        body = json.loads(answer.body)
        if answer.status != 200:
            raise Refused(f"{method} {path}: {body['error']['message']}")
        return body

    def control(self, act: str, identifier: str, **given: Any) -> Object:
        """What a browser, a bank or luck does: one of the control endpoints."""
        try:
            return self.do(lambda: ACTS[act](self.world, given, identifier))
        except StripeError as error:
            raise Refused(f"{act}: {error}") from error

    def take_lost(self, *, again: bool) -> int:
        """Webhooks that never arrived, and that were not taken before; how many. `again`: they are sent again."""

        def work() -> int:
            webhooks = self.world.webhooks
            lost = [each for each in webhooks.deliveries.values() if each.state in ("dropped", "failed")]
            for each in lost:
                each.state = "taken"
                if again:
                    endpoint = self.world.store.get("webhook_endpoint", each.endpoint)
                    webhooks.queue(each.event, each.event_type, endpoint, each.api_version)
            return len(lost)

        return self.do(work)

    def under_way(self) -> int:
        """Deliveries that wait for their turn, their answer or a later attempt."""
        return sum(self.world.webhooks.pending())


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Parameters as Stripe's clients write them into a form."""
    if is_hash(value):
        return [p for key, each in value.items() for p in flat(each, f"{name}[{key}]" if name else key)]
    if is_array(value):
        return [p for number, each in enumerate(value) for p in flat(each, f"{name}[{number}]")]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    return [(name, str(value))]
