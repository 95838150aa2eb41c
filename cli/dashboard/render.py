"""A template and values → a page; the formats of amounts, times and states."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cli.dashboard.attention import badges
from cli.dashboard.database import ServiceDatabase
from cli.dashboard.session import Session
from cli.database import Connection, row
from cli.findings import Finding
from cli.stripe_pages import dashboard_url
from worker.money import money_text

LINKS = (
    ("/", "Overview"),
    ("/fraud", "Fraud"),
    ("/disputes", "Disputes"),
    ("/accounts", "Accounts"),
    ("/subscriptions", "Subscriptions"),
    ("/inbox", "Inbox"),
    ("/notifications", "Notifications"),
    ("/worker", "Worker"),
    ("/doctor", "Doctor"),
    ("/settings", "Settings"),
)

# The colour of a state: needs action, good, in progress, over.
_MOODS = {
    "bad": "open dead failed highest needs_response appeal_needs_response warning_needs_response past_due unpaid "
    "frozen lost uncollectible error missing too_much",
    "good": "applied active succeeded done delivered paid won resolved approved captured normal complete granted free",
    "busy": "queued sending parked trialing pending under_review appeal_under_review elevated held incomplete warning "
    "waiting due unlinked",
}
MOODS = {state: mood for mood, states in _MOODS.items() for state in states.split()}

_WAITING = """
    select *, billing.is_livemode() as livemode, billing.current_time() as now, now() as real_now,
        (select value #>> '{}' from billing.installation() where name = 'stripe_account_id') as stripe_account_id
    from billing.admin_attention
"""


class Renderer:
    """The templates, and the common parts of all pages."""

    def __init__(self, session: Session, actor: str, place: str, stripe_base: str | None) -> None:
        self._session = session
        self._actor = actor
        self._place = place
        # The local Stripe shows its objects itself, at the addresses of Stripe's Dashboard.
        self._stripe_base = stripe_base

    def bare(self, status: int, title: str, advice: str) -> Response:
        """A page without a menu and data, for browsers that are not signed in."""
        return HTMLResponse(
            _templates().get_template("bare.jinja").render(title=title, advice=advice), status
        )

    def full(self, request: Request, template: str, status: int, values: Mapping[str, Any]) -> Response:
        """A page with the menu. A page that refreshes itself leaves messages to the next complete one."""
        is_refresh = "x-refresh" in request.headers
        counted: Mapping[str, Any] | None = values.get("waiting")
        html = (
            _templates()
            .get_template(template)
            .render(
                actor=self._actor,
                csrf=self._session.csrf,
                flashes=[] if is_refresh else self._session.take_flashes(),
                links=LINKS,
                badges=badges(counted) if counted else {},
                place=self._place,
                stripe_url=partial(self._stripe_url, counted),
                path=request.url.path,
                query=request.query_params,
                here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                **{"waiting": None, "now": datetime.now(UTC)} | dict(values),
            )
        )
        return HTMLResponse(html, status)

    def _stripe_url(self, counted: Mapping[str, Any] | None, stripe_id: str) -> str:
        """The page of an object in Stripe's Dashboard, of this installation's account and mode."""
        if self._stripe_base:
            return dashboard_url(stripe_id, livemode=False, dashboard=self._stripe_base.rstrip("/"))
        livemode, account = (counted["livemode"], counted["stripe_account_id"]) if counted else (False, None)
        return dashboard_url(stripe_id, livemode=livemode, account=account)


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
        "ago": ago, "badge": badge, "broken": broken, "commands": commands, "day": day,
        "fraud": fraud, "money": money, "moment": moment,
        "number": number, "setting": setting, "signed": signed, "words": words,
    })  # fmt: skip
    environment.globals.update({"link": link, "step_of": step_of})
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


# What a finding is about → the page where it is mended, and what is done there.
_STEPS = {
    "dead_event": ("/inbox/{}", "Open the event"),
    "parked_event": ("/inbox/{}", "Open the event"),
    "waiting_event": ("/inbox/{}", "Open the event"),
    "unlinked": ("/customers/{}", "Link the customer"),
    "dispute": ("/disputes/{}", "Open the dispute"),
    "review": ("/fraud/held", "Approve or refuse"),
    "discrepancy": ("?prove=1", "Check every entry now"),
    "dead_events": ("/inbox?status=dead", "Open them"),
    "parked_events": ("/inbox?status=parked", "Open them"),
    "waiting_events": ("/inbox?status=waiting", "Open them"),
    "notifications": ("/notifications?status=dead", "Open them"),
    "discrepancies": ("/worker#proof", "See which"),
    "worker": ("/worker", "Open the worker's page"),
    "queue": ("/worker", "Open the worker's page"),
}


def step_of(finding: Finding) -> tuple[str, str] | None:
    """The page of the dashboard where a finding is mended, and the words of its link."""
    path, text = _STEPS.get(finding.check, ("", ""))
    return (path.format(quote(finding.about, safe="")), text) if path else None


def broken(text: str) -> Markup:
    """A name that may be broken after its dots: `checkout.session.completed`."""
    return escape(text).replace(".", Markup(".<wbr>"))


def commands(text: str) -> Markup:
    """Advice, its commands as code and its address as a link."""
    if text.startswith(("https://", "http://")):
        return Markup('<a href="{0}" target="_blank" rel="noopener noreferrer">{0}</a>').format(text)
    parts = _COMMAND.split(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


# As far as a command goes within a sentence.
_COMMAND = re.compile(r"((?:till|supabase|select) .+?)(?=, |; | and |$)")
