"""What belongs to the account itself: events, webhook endpoints, test clocks, the account object."""

import asyncio
import fnmatch
import sys
import traceback
from urllib.parse import urlsplit

from stripe_local.errors import invalid, no_such
from stripe_local.parameters import Params
from stripe_local.render import listed, page
from stripe_local.resources.common import deleted, in_range
from stripe_local.state import ACCOUNT_COUNTRY, ACCOUNT_CURRENCY, ACCOUNT_NAME
from stripe_local.store import Object
from stripe_local.world import World, merge_metadata, put

MAX_EVENT_TYPES = 20
MAX_ENDPOINTS = 16
CLOCK_LIFETIME_SECONDS = 7 * 86_400
# Advancing works so long within the request; what is left goes on in the background.
ADVANCE_SLICE_STEPS = 200


def account(world: World, params: Params) -> Object:
    """The emulator's own account."""
    return {
        "id": world.account_id,
        "object": "account",
        "business_profile": {"name": ACCOUNT_NAME},
        "business_type": None,
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": ACCOUNT_COUNTRY,
        "default_currency": ACCOUNT_CURRENCY,
        "details_submitted": True,
        "email": "local@example.com",
        "payouts_enabled": True,
        "settings": None,
        "type": "standard",
    }


def retrieve_event(world: World, params: Params, identifier: str) -> Object:
    event = world.events.get(identifier)
    if event is None:
        raise no_such("event", identifier)
    return event


def list_events(world: World, params: Params) -> Object:
    """Newest first, 30 days back; by type (with *), types, created, delivery_success."""
    types: list[str] = list(params.get("types") or ())
    if len(types) > MAX_EVENT_TYPES:
        raise invalid(f"You may only specify up to {MAX_EVENT_TYPES} event types.", "types")
    if "type" in params:
        types.append(params["type"])
    found: list[str] = []
    for identifier, event_type, created in world.events.newest_first():
        if types and not any(fnmatch.fnmatchcase(event_type, wanted) for wanted in types):
            continue
        if "created" in params and not in_range(created, params["created"]):
            continue
        if (
            "delivery_success" in params
            and world.webhooks.delivered(identifier) != params["delivery_success"]
        ):
            continue
        found.append(identifier)
    return _page_of_events(world, found, params)


def _page_of_events(world: World, ids: list[str], params: Params) -> Object:
    """Only the events of the page are unpacked."""
    stubs: list[Object] = [{"id": identifier, "object": "event"} for identifier in ids]
    answer = listed(world, stubs, params, "/v1/events")
    return page(
        [world.events.get(stub["id"]) or stub for stub in answer["data"]], "/v1/events", answer["has_more"]
    )


def create_endpoint(world: World, params: Params) -> Object:
    """The secret is in this answer and in no later one."""
    if sum(1 for _ in world.store.all("webhook_endpoint")) >= MAX_ENDPOINTS:
        raise invalid(f"You have reached the maximum of {MAX_ENDPOINTS} test webhook endpoints.")
    _check_url(params["url"])
    secret = "whsec_" + world.store.token(32)
    endpoint = add_endpoint(world, params["url"], params["enabled_events"], secret, params.get("api_version"))
    put(endpoint, params, "description")
    merge_metadata(endpoint, params.get("metadata"))
    return endpoint | {"secret": secret}


def add_endpoint(
    world: World, url: str, enabled_events: list[str], secret: str, api_version: str | None = None
) -> Object:
    return world.store.add(
        "webhook_endpoint",
        {
            "api_version": api_version,
            "created": world.wall_time(),
            "enabled_events": list(enabled_events),
            "metadata": {},
            "status": "enabled",
            "url": url,
            "_secret": secret,
        },
    )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(ord(letter) <= 32 for letter in url):
        raise invalid("Invalid URL: must be an http or https address.", "url", "url_invalid")


def update_endpoint(world: World, params: Params, identifier: str) -> Object:
    endpoint = world.store.get("webhook_endpoint", identifier)
    if "url" in params:
        _check_url(params["url"])
    put(endpoint, params, "description", "enabled_events", "url")
    merge_metadata(endpoint, params.get("metadata"))
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    return endpoint


def delete_endpoint(world: World, params: Params, identifier: str) -> Object:
    world.store.get("webhook_endpoint", identifier)
    world.store.remove("webhook_endpoint", identifier)
    world.webhooks.forget_endpoint(identifier)
    return deleted("webhook_endpoint", identifier)


def create_clock(world: World, params: Params) -> Object:
    """Time for the customers that are created on it."""
    frozen: int = params["frozen_time"]
    if not 0 < frozen < 4_102_444_800:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp.", "frozen_time")
    now = world.wall_time()
    clock = world.store.add(
        "test_helpers.test_clock",
        {
            "created": now,
            "deletes_after": now + CLOCK_LIFETIME_SECONDS,
            "frozen_time": frozen,
            "name": params.get("name"),
            "status": "ready",
            "status_details": {},
            "_now": frozen,
        },
    )
    world.emit("test_helpers.test_clock.created", clock)
    return clock


def advance_clock(world: World, params: Params, identifier: str) -> Object:
    """`advancing`: what is due by then happens in order of time, then `test_helpers.test_clock.ready`."""
    clock = world.store.get("test_helpers.test_clock", identifier)
    target: int = params["frozen_time"]
    if clock["status"] == "advancing":
        raise invalid("The test clock is already advancing.", code="test_clock_advancing")
    if target <= clock["frozen_time"]:
        raise invalid("The frozen_time must be after the test clock's current frozen time.", "frozen_time")
    if target >= 4_102_444_800:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp.", "frozen_time")
    clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    world.emit("test_helpers.test_clock.advancing", clock)
    shown = dict(clock)
    if not run_until(world, clock, target, ADVANCE_SLICE_STEPS):
        world.background(_go_on(world, clock, target))
    return shown


def run_until(world: World, clock: Object, target: int, steps: int) -> bool:
    """Run at most `steps` timers; True when the clock has reached its time."""
    request, world.request = world.request, world.automatic
    try:
        for _ in range(steps):
            due = world.timers.next_due(clock["id"])
            if due is None or due > target:
                break
            at, action = world.timers.pop(clock["id"])
            clock["_now"] = max(clock["_now"], at)
            action()
        else:
            return False
        clock |= {"status": "ready", "status_details": {}, "frozen_time": target, "_now": target}
        world.emit("test_helpers.test_clock.ready", clock)
    except Exception:
        # A bug of the emulator: the clock fails, as Stripe's would, and the log has the error.
        traceback.print_exc(file=sys.stderr)
        clock |= {"status": "internal_failure", "status_details": {}}
        world.emit("test_helpers.test_clock.internal_failure", clock)
    finally:
        world.request = request
    return True


async def _go_on(world: World, clock: Object, target: int) -> None:
    while clock["id"] in world.store.tables["test_helpers.test_clock"]:
        if run_until(world, clock, target, 20):
            return
        await asyncio.sleep(0)


def delete_clock(world: World, params: Params, identifier: str) -> Object:
    """Deletes its customers and their objects too."""
    clock = world.store.get("test_helpers.test_clock", identifier)
    world.timers.drop(identifier)
    for kind in ("customer", "subscription", "invoice", "invoiceitem"):
        for stored in list(world.store.all(kind)):
            if stored.get("test_clock") == identifier:
                world.store.remove(kind, stored["id"])
    world.store.remove("test_helpers.test_clock", identifier)
    world.emit("test_helpers.test_clock.deleted", clock)
    return deleted("test_helpers.test_clock", identifier)
