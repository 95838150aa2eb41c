"""The first page: links to objects and hosted pages, and buttons for what Stripe leaves to time, banks and luck."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stripe_local import control
from stripe_local.api_spec import VERSION
from stripe_local.errors import StripeError
from stripe_local.resources import account
from stripe_local.store import Object
from stripe_local.templating import Endpoint, form_of, message, money, page
from stripe_local.webhooks import Delivery
from stripe_local.world import World

SHOWN_ROWS = 15
EVENT_ROWS = 25
STEPS = ((1, "+1 day"), (7, "+1 week"), (31, "+1 month"), (366, "+1 year"))
# The control endpoints that have a button.
BUTTONS = (
    "charges/{identifier}/dispute",
    "charges/{identifier}/early_fraud_warning",
    "charges/{identifier}/review",
    "disputes/{identifier}/decide",
    "events/{identifier}/deliver",
)


def index(world: World) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return page(
            "index.jinja",
            version=VERSION,
            now=world.wall_time(),
            clocks=_newest(world, "test_helpers.test_clock"),
            steps=STEPS,
            charges=[_charge(world, each) for each in _newest(world, "charge")],
            customers=_newest(world, "customer"),
            subscriptions=_newest(world, "subscription"),
            disputes=_newest(world, "dispute"),
            pages=_pages(world),
            events=[
                {
                    "id": identifier,
                    "type": event_type,
                    "created": created,
                    "deliveries": _deliveries(world, identifier),
                }
                for identifier, event_type, created in islice(world.events.newest_first(), EVENT_ROWS)
            ],
            endpoints=list(world.store.all("webhook_endpoint")),
        )

    return endpoint


def _newest(world: World, kind: str) -> list[Object]:
    return list(islice(world.store.newest_first(kind), SHOWN_ROWS))


def _charge(world: World, charge: Object) -> dict[str, Any]:
    """A payment, and what can still happen to it."""
    warned = any(each["charge"] == charge["id"] for each in world.store.all("radar.early_fraud_warning"))
    is_good = charge["status"] == "succeeded"
    return {
        "id": charge["id"],
        "customer": charge.get("customer"),
        "amount": money(charge["amount"], charge["currency"]),
        "state": "refunded" if charge["refunded"] else "disputed" if charge["disputed"] else charge["status"],
        "risk": charge["outcome"]["risk_level"],
        "can_dispute": is_good and not charge["disputed"] and not charge["refunded"],
        "can_warn": is_good and not warned,
    }


def _pages(world: World) -> list[tuple[str, str, str]]:
    """Hosted pages that wait for somebody: what for, their address, the object's id."""
    sessions = (each for each in world.store.newest_first("checkout.session") if each["status"] == "open")
    links = (each for each in world.store.newest_first("payment_link") if each["active"])
    invoices = (each for each in world.store.newest_first("invoice") if each.get("status") == "open")
    return [
        *(("Checkout", f"/c/pay/{each['id']}", each["id"]) for each in _some(sessions)),
        *(("Payment Link", f"/b/{each['id']}", each["id"]) for each in _some(links)),
        *(("Invoice to pay", f"/invoices/{each['id']}", each["id"]) for each in _some(invoices)),
    ]


def _some(objects: Iterable[Object]) -> Iterable[Object]:
    return islice(objects, SHOWN_ROWS)


def _deliveries(world: World, event_id: str) -> list[dict[str, str]]:
    """Where the event was sent, and the last answer of each."""
    return [
        {"state": each.state, "url": each.url, "answer": _answer(each)}
        for each in world.webhooks.of_event(event_id)
    ]


def _answer(delivery: Delivery) -> str:
    # An attempt that waits for its answer has neither.
    answers = (attempt.get("status") or attempt.get("error") for attempt in delivery.attempts)
    return ", ".join(str(answer) for answer in answers if answer is not None)


def act(world: World, path: str) -> Endpoint:
    """The button of a control endpoint; its fields are the endpoint's."""
    done = control.ACTS[path]

    async def endpoint(request: Request) -> Response:
        fields: dict[str, Any] = await form_of(request)
        back = fields.pop("back", "/")
        try:
            done(world, fields, request.path_params["identifier"])
        except StripeError as problem:
            return message("Nothing happened", problem.message, link="/", status=400)
        return RedirectResponse(back if back.startswith("/test/") else "/", 303)

    return endpoint


def advance(world: World) -> Endpoint:
    """The button beside a clock."""

    async def endpoint(request: Request) -> Response:
        clock = world.store.find("test_helpers.test_clock", request.path_params["identifier"])
        days = (await form_of(request)).get("days", "1")
        if clock is None or not days.isdecimal() or not 1 <= int(days[:6]) <= 3_660:
            return message("No such clock, or no such time", status=400)
        try:
            account.advance_clock(world, {"frozen_time": clock["_now"] + int(days) * 86_400}, clock["id"])
        except StripeError as problem:
            return message("The clock did not move", problem.message, link="/", status=400)
        return RedirectResponse("/", 303)

    return endpoint
