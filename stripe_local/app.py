"""HTTP → the API under /v1, the control endpoints under /_control, and the pages for a browser."""

import asyncio
import contextlib
import json
import re
import sys
import time
import traceback
from collections.abc import AsyncGenerator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from stripe_local import control, pages
from stripe_local.api import Answer, Api, Request
from stripe_local.errors import StripeError, unknown_url
from stripe_local.guard import Guard
from stripe_local.resources import account
from stripe_local.world import World

MAX_BODY_BYTES = 1_000_000
TIMEOUT_FAULT_SECONDS = 120
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+\Z")


def create_app(
    *,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    seed: int | None = None,
    base_url: str = "http://127.0.0.1",
) -> Starlette:
    """The emulator as an ASGI app. `webhook_url` becomes an endpoint that gets every event."""
    world = World(seed)
    world.base_url = base_url
    if webhook_url:
        secret = webhook_secret or "whsec_" + world.store.token(32)
        account.add_endpoint(world, webhook_url, ["*"], secret)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        await world.webhooks.start()
        clock = asyncio.create_task(wall_clock(world))
        yield
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        await world.webhooks.stop()

    app = Starlette(
        routes=[Mount("/v1", app=ApiEndpoint(world)), *control.routes(world), *pages.routes(world)],
        middleware=[Middleware(Guard)],
        lifespan=lifespan,
        exception_handlers={HTTPException: _not_found, StripeError: _stripe_error},
    )
    app.state.world = world
    return app


async def wall_clock(world: World) -> None:
    """Run what is due in real time: renewals, expiries, pending refunds."""
    changed = asyncio.Event()
    world.timers.on_change = changed.set
    while True:
        due = world.timers.next_due(None)
        changed.clear()
        if due is not None and due <= time.time():
            _, action = world.timers.pop(None)
            try:
                action()
            except Exception:
                traceback.print_exc(file=sys.stderr)
            continue
        wait = None if due is None else min(3_600.0, due - time.time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), wait)


class ApiEndpoint:
    """The ASGI side of the API: bodies, injected faults, and our own errors."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.api = Api(world)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        request = Request(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            body=body.decode("utf-8", "replace"),
            headers=headers,
            base_url=f"http://{host}" if _HOST.match(host) else self.world.base_url,
        )
        fault = self.world.faults.api_fault()
        answer = _faulty(int(fault)) if fault in ("429", "500") else self._answer(request)
        if fault == "timeout":
            await _leave_hanging(receive)
            return
        await _respond(send, answer)

    def _answer(self, request: Request) -> Answer:
        try:
            return self.api.answer(request)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            error = StripeError(500, "The emulator failed: its log says how.", kind="api_error")
            return Answer(500, json.dumps(error.body("req_failed")))


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def _faulty(status: int) -> Answer:
    if status == 429:
        error = StripeError(429, "Too many requests (injected fault)", code="rate_limit")
        return Answer(429, json.dumps(error.body("req_fault")), {"Stripe-Rate-Limited-Reason": "global-rate"})
    error = StripeError(500, "An unknown error occurred (injected fault)", kind="api_error")
    return Answer(500, json.dumps(error.body("req_fault")), {"Request-Id": "req_fault"})


async def _leave_hanging(receive: Receive) -> None:
    """Do the work but never answer, until the client gives up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_FAULT_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass


async def _respond(send: Send, answer: Answer) -> None:
    body = answer.body.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(
            (name.lower().encode(), value.encode("latin-1", "replace"))
            for name, value in answer.headers.items()
        ),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _not_found(request: HttpRequest, error: Exception) -> Response:
    missing = unknown_url(request.method, request.url.path)
    return JSONResponse(missing.body("req_" + "0" * 14), 404)


async def _stripe_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, StripeError)
    body: dict[str, Any] = error.body("req_control")
    return JSONResponse(body, error.status)
