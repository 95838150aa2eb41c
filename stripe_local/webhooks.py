"""Events → signed HTTP requests to every subscribed endpoint, retried until answered with 2xx."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from stripe_local.api_spec import VERSION
from stripe_local.archive import Archive
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.versions import BORN, event_in_version

# Stripe tries three times over a few hours in a sandbox; here the hours are seconds.
RETRY_DELAYS_SECONDS = (1.0, 5.0, 30.0)
TIMEOUT_SECONDS = 30.0
KEPT_DELIVERIES = 20_000
OPEN = ("waiting", "sending", "retrying")


@dataclass
class Delivery:
    """One event on its way to one endpoint."""

    id: str
    event: str
    event_type: str
    endpoint: str
    url: str
    api_version: str
    state: str = "waiting"
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    next_attempt_at: float | None = None
    # The body, if it differs from the stored event.
    body: str | None = None


@dataclass
class Lane:
    """The queue of one endpoint and the tasks that empty it."""

    queue: deque[Delivery] = field(default_factory=deque[Delivery])
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    ready: asyncio.Event = field(default_factory=asyncio.Event)


def signature(secret: str, body: str, timestamp: int) -> str:
    """The Stripe-Signature header."""
    digest = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Webhooks:
    """Deliveries leave in the order of the events unless faults or `concurrency` say otherwise."""

    def __init__(self, state: State, bodies: Archive) -> None:
        self._state = state
        # Of the events, by their ids.
        self._bodies = bodies
        self._lanes: dict[str, Lane] = {}
        self._client: httpx.AsyncClient | None = None
        self.deliveries: dict[str, Delivery] = {}
        self._by_event: dict[str, list[Delivery]] = {}
        self._open = 0
        self._retrying = 0
        self.retry_delays: tuple[float, ...] = RETRY_DELAYS_SECONDS
        self.timeout_seconds = TIMEOUT_SECONDS
        self.concurrency = 1
        self._retries: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30)
        self._client = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        for endpoint in self._endpoints():
            self._wake(endpoint["id"])

    async def stop(self) -> None:
        for handle in self._retries:
            handle.cancel()
        for lane in self._lanes.values():
            await _cancel(lane.tasks)
        self._lanes.clear()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _endpoints(self) -> Iterator[Object]:
        yield from self._state.store.all("webhook_endpoint")

    def announce(self, event_id: str, event: Object) -> None:
        """Queue the event for every enabled endpoint that asked for its type."""
        for endpoint in self._endpoints():
            wanted: list[str] = endpoint["enabled_events"]
            version = endpoint.get("api_version") or VERSION
            if version[:10] < BORN.get(event["data"]["object"]["object"], ""):
                continue
            if endpoint["status"] == "enabled" and ("*" in wanted or event["type"] in wanted):
                self.queue(event_id, event["type"], endpoint, version)

    def queue(
        self, event_id: str, event_type: str, endpoint: Object, api_version: str, body: str | None = None
    ) -> Delivery:
        """One more delivery to this endpoint."""
        delivery = Delivery(
            id="del_" + self._state.store.token(16),
            event=event_id,
            event_type=event_type,
            endpoint=endpoint["id"],
            url=endpoint["url"],
            api_version=api_version,
            body=body,
        )
        self.deliveries[delivery.id] = delivery
        self._by_event.setdefault(event_id, []).append(delivery)
        self._forget_old()
        self._open += 1
        self._lanes.setdefault(endpoint["id"], Lane()).queue.append(delivery)
        self._wake(endpoint["id"])
        return delivery

    def _forget_old(self) -> None:
        if len(self.deliveries) > KEPT_DELIVERIES:
            oldest = next(iter(self.deliveries.values()))
            if oldest.state not in OPEN:
                del self.deliveries[oldest.id]

    def of_event(self, event_id: str) -> list[Delivery]:
        """Its deliveries, the latest last."""
        return self._by_event.get(event_id, [])

    def event(self, event_id: str) -> Object | None:
        """The event as it is sent; `pending_webhooks`: endpoints that have not answered with 2xx yet."""
        body = self._bodies.get(event_id)
        if body is None:
            return None
        event: Object = json.loads(body)
        return event | {"pending_webhooks": sum(d.state in OPEN for d in self._by_event.get(event_id, ()))}

    def delivered(self, event_id: str) -> bool:
        """`delivery_success` of the list of events."""
        return all(d.state == "delivered" for d in self._by_event.get(event_id, ()))

    def pending(self) -> tuple[int, int]:
        """(deliveries that wait for their turn or their answer, deliveries that wait for a later retry)."""
        return self._open, self._retrying

    def configure(self, concurrency: int, retry_delays: tuple[float, ...], timeout_seconds: float) -> None:
        self.concurrency, self.retry_delays, self.timeout_seconds = concurrency, retry_delays, timeout_seconds
        for endpoint_id in self._lanes:
            self._wake(endpoint_id)

    def forget_endpoint(self, endpoint_id: str) -> None:
        """Stop deliveries to a deleted endpoint."""
        lane = self._lanes.pop(endpoint_id, None)
        if lane is None:
            return
        for delivery in lane.queue:
            delivery.state = "failed"
            self._open -= 1
        for task in lane.tasks:
            task.cancel()

    def _wake(self, endpoint_id: str) -> None:
        if self._client is None:
            return
        lane = self._lanes.setdefault(endpoint_id, Lane())
        lane.tasks = [task for task in lane.tasks if not task.done()]
        while len(lane.tasks) < self.concurrency:
            number = len(lane.tasks)
            lane.tasks.append(asyncio.get_running_loop().create_task(self._work(lane, number)))
        lane.ready.set()

    async def _work(self, lane: Lane, number: int) -> None:
        while number < self.concurrency:
            if not lane.queue:
                lane.ready.clear()
                await lane.ready.wait()
                continue
            index = self._state.faults.pick(len(lane.queue))
            delivery = lane.queue[index]
            del lane.queue[index]
            delivery.state = "sending"
            try:
                await self._deliver(delivery)
            finally:
                self._open -= 1
                if delivery.state == "sending":
                    delivery.state = "failed"

    async def _deliver(self, delivery: Delivery) -> None:
        faults = self._state.faults
        if faults.happens("drop"):
            delivery.state = "dropped"
            return
        if faults.delay_ms:
            await asyncio.sleep(faults.delay_ms / 1000)
        ok = await self._attempt(delivery)
        if ok and faults.happens("duplicate"):
            await self._attempt(delivery)
        if ok:
            delivery.state = "delivered"
        else:
            self._retry_later(delivery)

    def _body(self, delivery: Delivery) -> str:
        if delivery.body is not None:
            return delivery.body
        event = self.event(delivery.event) or {}
        return json.dumps(event_in_version(self._state, event, delivery.api_version))

    async def _attempt(self, delivery: Delivery) -> bool:
        endpoint = self._state.store.find("webhook_endpoint", delivery.endpoint)
        if endpoint is None or self._client is None:
            return False
        body = self._body(delivery)
        # In real time, also where the time of this Stripe is pretended: endpoints compare it with their own clock.
        header = signature(endpoint["_secret"], body, int(time.time()))
        corrupted = self._state.faults.happens("corrupt_signature")
        if corrupted:
            header = header[:-8] + ("0" * 8 if header[-8:] != "0" * 8 else "1" * 8)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": header,
            "Accept": "*/*; q=0.5, application/json",
            "Cache-Control": "no-cache",
        }
        attempt: dict[str, Any] = {"at": time.time(), "signature_corrupted": corrupted}
        delivery.attempts.append(attempt)
        started = time.monotonic()
        try:
            answer = await self._client.post(
                delivery.url, content=body.encode(), headers=headers, timeout=self.timeout_seconds
            )
            attempt |= {"status": answer.status_code, "body": answer.text[:2_000]}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            attempt |= {"status": None, "error": f"{type(error).__name__}: {error}"}
        attempt["duration_ms"] = round((time.monotonic() - started) * 1000, 1)
        return attempt["status"] is not None and 200 <= attempt["status"] < 300

    def _retry_later(self, delivery: Delivery) -> None:
        tried = len(delivery.attempts)
        if tried > len(self.retry_delays) or delivery.endpoint not in self._lanes:
            delivery.state = "failed"
            return
        delay = self.retry_delays[tried - 1]
        delivery.state, delivery.next_attempt_at = "retrying", time.time() + delay
        self._retrying += 1
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._retries.discard(handle)
            self._retrying -= 1
            delivery.next_attempt_at = None
            lane = self._lanes.get(delivery.endpoint)
            if lane is None:
                delivery.state = "failed"
                return
            delivery.state = "waiting"
            self._open += 1
            lane.queue.append(delivery)
            self._wake(delivery.endpoint)

        handle = loop.call_later(delay, again)
        self._retries.add(handle)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
