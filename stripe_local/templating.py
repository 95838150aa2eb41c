"""Values and a template → an HTML page."""

import re
import time
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stripe_local.resources.cards import CARDS, TestCard

ZERO_DECIMAL = {
    "bif",
    "clp",
    "djf",
    "gnf",
    "jpy",
    "kmf",
    "krw",
    "mga",
    "pyg",
    "rwf",
    "ugx",
    "vnd",
    "vuv",
    "xaf",
    "xof",
}


def _choice(card: TestCard) -> dict[str, str]:
    spaced = " ".join(re.findall(".{1,4}", card.number))
    name = re.sub("([A-Z])", r" \1", card.names[0].removeprefix("card_")).replace("_", " ").lower()
    outcome = card.decline[1].replace("_", " ") if card.decline else name
    return {"value": f"pm_{card.names[0]}", "label": f"{spaced} · {outcome}"}


def _card_choices() -> list[dict[str, Any]]:
    """Every test card, by what comes of it."""
    groups: dict[str, list[dict[str, str]]] = {
        title: [] for title in ("Pays", "Declined", "The bank asks (3-D Secure)", "Pays, then trouble")
    }
    for card in CARDS:
        paid, declined, asks, trouble = groups.values()
        troublesome = card.after or card.refund != "succeeded" or card.risk_level != "normal"
        group = declined if card.decline else asks if card.authentication != "never" else paid
        (trouble if group is paid and troublesome else group).append(_choice(card))
    return [{"title": title, "cards": cards} for title, cards in groups.items()]


CARD_CHOICES = _card_choices()


Endpoint = Callable[[Request], Awaitable[Response]]


def money(amount: int | None, currency: str | None) -> str:
    """`2000, usd` → `20.00 USD`."""
    if amount is None:
        return ""
    code = (currency or "").lower()
    return f"{amount} {code.upper()}" if code in ZERO_DECIMAL else f"{amount / 100:.2f} {code.upper()}"


def every(recurring: dict[str, Any]) -> str:
    """How often a price is due: `every month`; nothing for one that is due once."""
    if not recurring:
        return ""
    count, interval = recurring["interval_count"], recurring["interval"]
    return f"every {interval}" if count == 1 else f"every {count} {interval}s"


def moment(seconds: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if seconds is not None else ""


def day(seconds: int | None) -> str:
    return moment(seconds)[:10]


@cache
def _templates() -> Any:
    """Jinja is only loaded once somebody looks."""
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True)


def page(name: str, status: int = 200, **values: Any) -> Response:
    helpers: dict[str, Any] = {"money": money, "moment": moment, "day": day, "cards": CARD_CHOICES}
    return HTMLResponse(_templates().get_template(name).render(**helpers | values), status)


def message(title: str, *lines: str, link: str | None = None, status: int = 200) -> Response:
    return page("message.jinja", status, title=title, lines=lines, link=link)


async def form_of(request: Request) -> dict[str, str]:
    body = (await request.body()).decode("utf-8", "replace")
    return {key: value for key, value in parse_qsl(body, max_num_fields=100) if value}
