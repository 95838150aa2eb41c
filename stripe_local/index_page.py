"""The first page: customers, subscriptions, payments, deliveries, and clocks with buttons to advance them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stripe_local.api_spec import VERSION
from stripe_local.errors import StripeError
from stripe_local.resources import (
    account,
)
from stripe_local.store import Object
from stripe_local.templating import Endpoint, form_of, message, moment, money, page
from stripe_local.world import World

SHOWN_ROWS = 25


STEPS = ((1, "+1 day"), (7, "+1 week"), (31, "+1 month"), (366, "+1 year"))


def index(world: World) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return page(
            "index.jinja",
            version=VERSION,
            now=world.wall_time(),
            clocks=list(world.store.newest_first("test_helpers.test_clock"))[:SHOWN_ROWS],
            steps=STEPS,
            tables=_tables(world),
        )

    return endpoint


def _tables(world: World) -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    def newest(kind: str) -> list[Object]:
        return [stored for _, stored in zip(range(SHOWN_ROWS), world.store.newest_first(kind), strict=False)]

    sent = list(world.webhooks.deliveries.values())[: -SHOWN_ROWS - 1 : -1]
    return [
        (
            "Customers",
            ("id", "e-mail", "balance", "clock"),
            [
                (c["id"], c.get("email", ""), c["balance"], c.get("test_clock", ""))
                for c in newest("customer")
            ],
        ),
        (
            "Subscriptions",
            ("id", "customer", "status", "started"),
            [(s["id"], s["customer"], s["status"], moment(s["start_date"])) for s in newest("subscription")],
        ),
        (
            "Payments",
            ("charge", "amount", "status", "risk", "customer"),
            [
                (
                    c["id"],
                    money(c["amount"], c["currency"]),
                    "refunded" if c["refunded"] else "disputed" if c["disputed"] else c["status"],
                    c["outcome"]["risk_level"],
                    c.get("customer", ""),
                )
                for c in newest("charge")
            ],
        ),
        (
            "Deliveries",
            ("event", "type", "to", "state", "answers"),
            [
                (
                    d.event,
                    d.event_type,
                    d.url,
                    d.state,
                    ", ".join(str(a["status"] or a["error"]) for a in d.attempts),
                )
                for d in sent
            ],
        ),
    ]


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
