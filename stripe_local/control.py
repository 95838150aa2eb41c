"""/_control: actions of browsers and banks, and chance events, as JSON in and out."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stripe_local.api_spec import VERSION
from stripe_local.errors import malformed, no_such
from stripe_local.render import render
from stripe_local.resources import (
    bank_debits,
    catalog,
    checkout_completion,
    disputes,
    payment_intents,
    payment_links,
    payments,
    radar,
    refunds,
    setup_intents,
)
from stripe_local.store import Object
from stripe_local.values import is_array, is_hash
from stripe_local.versions import event_in_version
from stripe_local.world import World

Given = dict[str, Any]
Act = Callable[[World, Given, str], Any]
MAX_REDELIVERIES = 1_000


def complete_session(world: World, given: Given, identifier: str) -> Object:
    """{"payment_method", "email", "name", "promotion_code", "custom_amount", "delayed"}: press Pay."""
    return checkout_completion.complete(world, world.store.get("checkout.session", identifier), given)


def settle_session(world: World, given: Given, identifier: str) -> Object:
    """{"succeeds": true}: the bank's answer to a delayed payment."""
    session = world.store.get("checkout.session", identifier)
    return checkout_completion.settle(world, session, bool(given.get("succeeds", True)))


def complete_link(world: World, given: Given, identifier: str) -> Object:
    """{"payment_method", "client_reference_id", "email", "name", "custom_amount"}: follow the link and pay."""
    link = world.store.get("payment_link", identifier)
    query = {"client_reference_id": given.get("client_reference_id"), "prefilled_email": given.get("email")}
    session = payment_links.open_session(world, link, query)
    return checkout_completion.complete(world, session, given)


def deliver(world: World, given: Given, identifier: str) -> Given:
    """{"times", "api_version", "as_new_event"}: the event again, to every enabled endpoint."""
    event = world.events.get(identifier)
    if event is None:
        raise no_such("event", identifier)
    times, version = given.get("times", 1), given.get("api_version") or VERSION
    if not isinstance(times, int) or not 1 <= times <= MAX_REDELIVERIES:
        raise malformed(f"times is between 1 and {MAX_REDELIVERIES}.", "times")
    if not isinstance(version, str):
        raise malformed("Invalid string", "api_version")
    event = event_in_version(world, event, version)
    if given.get("as_new_event"):
        event |= {"id": world.store.new_id("event"), "created": world.wall_time()}
        world.events.keep(event, announce=False)
    body = json.dumps(event)
    queued = [
        world.webhooks.queue(event["id"], event["type"], endpoint, version, body).id
        for _ in range(times)
        for endpoint in list(world.store.all("webhook_endpoint"))
        if endpoint["status"] == "enabled"
    ]
    return {"event": event["id"], "deliveries": queued}


def warn(world: World, given: Given, identifier: str) -> Object:
    """{"fraud_type"}: the issuer sends an early fraud warning about this charge."""
    charge = world.store.get("charge", identifier)
    return radar.warn(world, charge, given.get("fraud_type", "unauthorized_use_of_card"))


def set_outcome(world: World, given: Given, identifier: str) -> Object:
    """{"risk_level", "risk_score"}: Radar's assessment of the charge."""
    charge = world.store.get("charge", identifier)
    level = given.get("risk_level", "normal")
    if level not in payments.RISK_SCORES:
        raise malformed(f"Invalid risk_level: must be one of {', '.join(payments.RISK_SCORES)}", "risk_level")
    score = given.get("risk_score", payments.RISK_SCORES[level])
    with world.updating(charge, "charge.updated"):
        charge["outcome"] = {**charge["outcome"], "risk_level": level, "risk_score": score}
    return charge


def dispute(world: World, given: Given, identifier: str) -> Object:
    """{"reason", "inquiry"}: the payer disputes the charge."""
    charge = world.store.get("charge", identifier)
    return disputes.open_dispute(
        world, charge, given.get("reason", "fraudulent"), inquiry=bool(given.get("inquiry", False))
    )


def decide_dispute(world: World, given: Given, identifier: str) -> Object:
    """{"status": "won" | "lost" | "warning_closed"}: the bank's decision."""
    if given.get("status") not in ("won", "lost", "warning_closed"):
        raise malformed("Invalid status: must be one of won, lost, or warning_closed", "status")
    return disputes.finish(world, world.store.get("dispute", identifier), given["status"])


def review(world: World, given: Given, identifier: str) -> Object:
    """{"reason": "rule" | "manual"}: a review of this charge is opened."""
    return radar.open_review(world, world.store.get("charge", identifier), given.get("reason", "manual"))


def authenticate_payment(world: World, given: Given, identifier: str) -> Object:
    """{"succeeds": true}: the payer passes or fails the bank's challenge."""
    intent = world.store.get("payment_intent", identifier)
    return payment_intents.authenticate(world, intent, bool(given.get("succeeds", True)))


def authenticate_setup(world: World, given: Given, identifier: str) -> Object:
    """The same for a setup intent."""
    intent = world.store.get("setup_intent", identifier)
    return setup_intents.authenticate(world, intent, bool(given.get("succeeds", True)))


def settle_refund(world: World, given: Given, identifier: str) -> Object:
    """{"succeeds": true}: a pending refund arrives, or any refund fails, now."""
    refund = world.store.get("refund", identifier)
    refunds.settle(world, refund, "pending" if given.get("succeeds", True) else "failed")
    return refund


def settle_debit(world: World, given: Given, identifier: str) -> Object:
    """{"succeeds": true}: the bank answers to a debit that is processing."""
    intent = world.store.get("payment_intent", identifier)
    return bank_debits.settle(world, intent, succeeds=bool(given.get("succeeds", True)))


def delete_price(world: World, given: Given, identifier: str) -> Object:
    """A price that was never used, deleted in the Dashboard: the API has no such thing."""
    return catalog.delete_price(world, identifier)


ACTS: dict[str, Act] = {
    "charges/{identifier}/dispute": dispute,
    "charges/{identifier}/early_fraud_warning": warn,
    "charges/{identifier}/outcome": set_outcome,
    "charges/{identifier}/review": review,
    "checkout_sessions/{identifier}/complete": complete_session,
    "checkout_sessions/{identifier}/settle": settle_session,
    "disputes/{identifier}/decide": decide_dispute,
    "events/{identifier}/deliver": deliver,
    "payment_intents/{identifier}/authenticate": authenticate_payment,
    "payment_intents/{identifier}/settle": settle_debit,
    "payment_links/{identifier}/complete": complete_link,
    "prices/{identifier}/delete": delete_price,
    "refunds/{identifier}/settle": settle_refund,
    "setup_intents/{identifier}/authenticate": authenticate_setup,
}


async def _given(request: Request) -> Given:
    body = await request.body()
    if not body:
        return {}
    try:
        value: Any = json.loads(body)
    except ValueError as error:
        raise malformed("The body must be a JSON object.") from error
    if not is_hash(value):
        raise malformed("The body must be a JSON object.")
    return value


def routes(world: World) -> list[BaseRoute]:
    """Every control endpoint."""

    def acting(act: Act) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            answer = act(world, await _given(request), request.path_params["identifier"])
            return JSONResponse(render(world, answer) if "_sequence" in answer else answer)

        return endpoint

    async def health(_: Request) -> Response:
        return JSONResponse({"ok": True, "api_version": VERSION})

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            return JSONResponse(world.faults.set(await _given(request)))
        return JSONResponse(world.faults.settings())

    async def deliveries(request: Request) -> Response:
        wanted = request.query_params
        found = [
            asdict(delivery) | {"type": delivery.event_type}
            for delivery in world.webhooks.deliveries.values()
            if wanted.get("event") in (None, delivery.event)
            and wanted.get("endpoint") in (None, delivery.endpoint)
            and wanted.get("state") in (None, delivery.state)
            and wanted.get("type") in (None, delivery.event_type)
        ]
        for delivery in found:
            del delivery["body"], delivery["event_type"]
        return JSONResponse({"deliveries": found})

    async def wait_idle(request: Request) -> Response:
        return JSONResponse(await idle(world, (await _given(request)).get("timeout_s", 30)))

    async def settings(request: Request) -> Response:
        return JSONResponse(configure(world, await _given(request)))

    return [
        Route("/_control/health", health),
        Route("/_control/faults", faults, methods=["GET", "POST"]),
        Route("/_control/deliveries", deliveries),
        Route("/_control/wait_idle", wait_idle, methods=["POST"]),
        Route("/_control/settings", settings, methods=["POST"]),
        *(Route(f"/_control/{path}", acting(act), methods=["POST"]) for path, act in ACTS.items()),
    ]


async def idle(world: World, timeout_seconds: Any) -> Given:
    """Return when no clock is advancing and every delivery was answered or waits for a later retry."""
    if not isinstance(timeout_seconds, int | float) or timeout_seconds < 0:
        raise malformed("Invalid number", "timeout_s")
    deadline = time.monotonic() + timeout_seconds
    while True:
        # One iteration of the event loop, so that new deliveries have started.
        await asyncio.sleep(0.01)
        waiting, retrying = world.webhooks.pending()
        if not waiting and not world.busy:
            return {"idle": True, "waiting": 0, "waiting_for_retry": retrying}
        if time.monotonic() >= deadline:
            return {"idle": False, "waiting": waiting, "waiting_for_retry": retrying}


def configure(world: World, given: Given) -> Given:
    """Settings of Stripe's Dashboard, and of this emulator's deliveries; answers with all settings."""
    known: dict[str, Callable[[Any], bool]] = {
        "after_retries": lambda value: value in ("canceled", "unpaid", "past_due"),
        "block_highest_risk": lambda value: isinstance(value, bool),
        "debit_seconds": lambda value: isinstance(value, int | float) and value >= 0,
        "restricted_keys": lambda value: is_hash(value),
        "retry_days": _numbers,
        "webhook_concurrency": lambda value: isinstance(value, int) and 1 <= value <= 64,
        "webhook_retry_delays_s": _numbers,
        "webhook_timeout_s": lambda value: isinstance(value, int | float) and value > 0,
    }
    for name, value in given.items():
        if name not in known or not known[name](value):
            raise malformed(f"Unknown or invalid setting: {name}", name)
    for name in ("after_retries", "block_highest_risk", "debit_seconds", "restricted_keys", "retry_days"):
        if name in given:
            setattr(world.settings, name, given[name])
    webhooks = world.webhooks
    webhooks.configure(
        given.get("webhook_concurrency", webhooks.concurrency),
        tuple(given.get("webhook_retry_delays_s", webhooks.retry_delays)),
        given.get("webhook_timeout_s", webhooks.timeout_seconds),
    )
    return {
        **asdict(world.settings),
        "webhook_concurrency": webhooks.concurrency,
        "webhook_retry_delays_s": list(webhooks.retry_delays),
        "webhook_timeout_s": webhooks.timeout_seconds,
    }


def _numbers(value: Any) -> bool:
    return is_array(value) and all(isinstance(element, int | float) and element >= 0 for element in value)
