"""A template and values → a page; the formats of amounts, times and states."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, cast
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cli.dashboard.database import ServiceDatabase
from cli.dashboard.session import Session
from cli.database import Connection, row
from worker.money import money_text

LINKS = (
    ("/", "Overview", None),
    ("/fraud", "Fraud", "open_warnings"),
    ("/disputes", "Disputes", "disputes_to_answer"),
    ("/accounts", "Accounts", None),
    ("/subscriptions", "Subscriptions", None),
    ("/inbox", "Inbox", "dead_events"),
    ("/notifications", "Notifications", "dead_notifications"),
    ("/worker", "Worker", None),
    ("/settings", "Settings", None),
)

# The colour of a state: needs action, good, in progress, over.
_MOODS = {
    "bad": "open dead failed highest needs_response appeal_needs_response past_due unpaid frozen lost uncollectible",
    "good": "applied active succeeded done delivered paid won resolved approved captured normal complete",
    "busy": "queued sending parked trialing pending under_review appeal_under_review elevated held incomplete warning",
}
MOODS = {state: mood for mood, states in _MOODS.items() for state in states.split()}

_WAITING = """
    select *, billing.is_livemode() as livemode, billing.current_time() as now, now() as real_now
    from billing.admin_attention
"""


class Renderer:
    """The templates, and the common parts of all pages."""

    def __init__(self, session: Session, actor: str) -> None:
        self._session = session
        self._actor = actor

    def bare(self, status: int, title: str, advice: str) -> Response:
        """A page without a menu and data, for browsers that are not signed in."""
        return HTMLResponse(
            _templates().get_template("bare.jinja").render(title=title, advice=advice), status
        )

    def full(self, request: Request, template: str, status: int, values: Mapping[str, Any]) -> Response:
        """A page with the menu. A page that refreshes itself leaves messages to the next complete one."""
        is_refresh = "x-refresh" in request.headers
        html = (
            _templates()
            .get_template(template)
            .render(
                actor=self._actor,
                csrf=self._session.csrf,
                flashes=[] if is_refresh else self._session.take_flashes(),
                links=LINKS,
                path=request.url.path,
                query=request.query_params,
                here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                **{"waiting": None, "now": datetime.now(UTC)} | dict(values),
            )
        )
        return HTMLResponse(html, status)


def page(request: Request, template: str, *, http_status: int = 200, **values: Any) -> Response:
    """The answer of an endpoint."""
    renderer: Renderer = request.app.state.renderer
    return renderer.full(request, template, http_status, values)


def database(request: Request) -> ServiceDatabase:
    """The database of this dashboard."""
    return request.app.state.database


def waiting(conn: Connection) -> dict[str, Any]:
    """For every page: how much needs attention, and billing time."""
    found = row(conn, _WAITING, {})
    return {"waiting": found, "now": found["now"]}


@cache
def _templates() -> Environment:
    environment: Any = Environment(
        loader=PackageLoader("cli.dashboard"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update({
        "ago": ago, "badge": badge, "day": day, "fraud": fraud, "money": money, "moment": moment,
        "number": number, "setting": setting, "signed": signed, "words": words,
    })  # fmt: skip
    environment.globals.update({"link": link})
    return environment


def money(amount: int | None, currency: str | None) -> str:
    """`1900, usd` → `19.00 USD`."""
    return (
        ""
        if amount is None
        else money_text(int(amount), currency or "").replace(currency or "", (currency or "").upper())
    )


def number(value: Any) -> str:
    """`12345` → `12,345`."""
    return "" if value is None else f"{int(value):,}"


def fraud(kind: str) -> str:
    """A fraud_type of Stripe's, as a heading."""
    return "Unspecified fraud" if kind == "misc" else words(kind).capitalize()


def signed(value: Any) -> str:
    """`12345` → `+12,345`, with a minus sign as wide as a digit."""
    return "" if value is None else f"{int(value):+,}".replace("-", "−")


def words(name: Any) -> str:
    """`freeze_account` → `freeze account`."""
    return "" if name is None else str(name).replace("_", " ")


def setting(value: Any) -> str:
    """A value as a person would write it."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case []:
            return "none"
        case list():
            return ", ".join(map(str, cast("list[Any]", value)))
        case dict():
            return json.dumps(value)
        case _:
            return str(value)


def badge(state: Any, mood: str | None = None) -> Markup:
    """A state as a coloured label."""
    if state is None:
        return Markup("")
    return Markup('<span class="badge {}">{}</span>').format(
        mood or MOODS.get(str(state), "over"), words(state)
    )


def moment(at: datetime | None) -> Markup:
    """A time, in UTC; in full in the title."""
    if at is None:
        return Markup("")
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{at.day} {at:%b %Y, %H:%M}"
    )


def day(at: datetime | date | None) -> str:
    """`26 Nov 2026`."""
    if at is None:
        return ""
    if isinstance(at, datetime):
        at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y}"


def ago(at: datetime | None, now: datetime) -> Markup:
    """How long ago, or how long until; the time itself in the title."""
    if at is None:
        return Markup("")
    span = abs(now - at)
    text = (
        "just now"
        if span < timedelta(seconds=45)
        else f"in {_span(span)}"
        if at > now
        else f"{_span(span)} ago"
    )
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", text
    )


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        count = minutes // size
        if count >= 1 or size == 1:
            count = max(count, 1)
            return f"{count} {name}{'s' if count > 1 else ''}"
    raise AssertionError


def link(path: str, **parameters: Any) -> str:
    """A path with its query; parameters without a value are left out."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
