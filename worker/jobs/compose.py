"""A notification → its subject, text and HTML, by the template of its kind.

A template is text. Its HTML is made of that text, escaped as a whole, so nothing of a payload is ever markup; what a
payload says is one line without control characters, and pings nobody in a chat.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import structlog
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, Template, TemplateNotFound, select_autoescape

from worker.jobs.outbox import Notification
from worker.money import money_text

TEMPLATES = Path(__file__).parent / "templates"
VALUE_LENGTH_MAX = 300
SUBJECT_LENGTH_MAX = 150

_KIND = re.compile(r"[a-z][a-z0-9_]*")
_WEB_ADDRESS = re.compile(r"https?://[!#-;=?-~]+")  # neither quotes nor angle brackets
_NO_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")
# @everyone, <@user>, <!channel>: a zero-width space makes them plain text.
_PINGS = re.compile(r"@(?=everyone|here|channel)|<(?=[@!#])")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send. `key` is the same for each attempt; `facts` is for programs."""

    key: str
    subject: str
    text: str
    html: str
    facts: dict[str, Any]


class Composer:
    """The templates: the operator's own, then ours; `default` for a kind without a template."""

    def __init__(self, directory: Path | None = None) -> None:
        places = [FileSystemLoader(place) for place in (directory, TEMPLATES) if place is not None]
        self._jinja = Environment(
            loader=ChoiceLoader(places),
            autoescape=select_autoescape(["html"]),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters["money"] = _money
        self._jinja.filters["day"] = _day
        self._jinja.filters["day_before"] = _day_before
        self._jinja.filters["moment"] = _moment

    def compose(self, notification: Notification) -> Message:
        """Every notification becomes a message, even if its template or payload is broken."""
        kind = notification.kind
        subject, lines, link = self._read(kind, notification.payload, notification)
        if notification.digest_size is not None:
            told = [self._read(kind, payload, notification)[0] for payload in notification.first or []]
            of = {"size": notification.digest_size, "subject": subject, "told": told}
            subject, lines, link = self._read("_digest", of, notification)
        text = "\n".join([*lines, *(["", link] if link else [])])
        html = self._jinja.get_template("_mail.html").render(
            subject=subject, paragraphs=_paragraphs(lines), link=link
        )
        facts = {
            "notification": notification.key,
            "kind": kind,
            "audience": notification.audience,
            "account_id": None if notification.account_id is None else str(notification.account_id),
            "count": notification.digest_size or 1,
            "payload": notification.payload,
        }
        return Message(notification.key, subject, text, html, facts)

    def _read(
        self, name: str, payload: Mapping[str, Any], notification: Notification
    ) -> tuple[str, list[str], str | None]:
        """Subject, lines and link of a template; those of the default template if it cannot be read."""
        values = _clean({name: value for name, value in payload.items() if value is not None})
        context = values | {
            "kind": _clean(notification.kind),
            "audience": notification.audience,
            "account_id": values.get("account_id") or notification.account_id,
            "payload": values,
        }
        template = self._template(name)
        try:
            return _blocks(template, context)
        except Exception as error:  # the template does not fit the payload
            log.warning("template_failed", template=template.name, error=f"{type(error).__name__}: {error}")
            return _blocks(self._jinja.get_template("default.txt"), context)

    def _template(self, name: str) -> Template:
        try:
            if name == "_digest" or _KIND.fullmatch(name):
                return self._jinja.get_template(f"{name}.txt")
        except TemplateNotFound:
            pass
        except Exception as error:  # the operator's template is not valid
            log.warning("template_failed", template=name, error=f"{type(error).__name__}: {error}")
        return self._jinja.get_template("default.txt")


def _blocks(template: Template, context: Mapping[str, Any]) -> tuple[str, list[str], str | None]:
    def block(name: str) -> str:
        render = template.blocks.get(name)
        return "" if render is None else "".join(render(template.new_context(dict(context)))).strip()

    # Some services insert the title into HTML without escaping.
    subject = " ".join(block("subject").split())[:SUBJECT_LENGTH_MAX].translate({60: "‹", 62: "›"})
    lines = [line.strip() for line in block("text").splitlines()]
    link = block("link")
    if not subject:
        raise ValueError("the subject is empty")
    return subject, lines, link if _WEB_ADDRESS.fullmatch(link) else None


def _paragraphs(lines: list[str]) -> list[list[str]]:
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return [paragraph for paragraph in paragraphs if paragraph]


def _clean(value: Any) -> Any:
    """The payload, each text reduced to one readable line."""
    match value:
        case str() if _WEB_ADDRESS.fullmatch(value):
            return value  # the address of a bank's page may be long
        case str():
            line = _PINGS.sub("\\g<0>\u200b", _NO_TEXT.sub(" ", value).strip())
            return line if len(line) <= VALUE_LENGTH_MAX else f"{line[: VALUE_LENGTH_MAX - 1]}…"
        case dict():
            members = cast("dict[str, Any]", value)
            return {str(_clean(name)): _clean(member) for name, member in members.items()}
        case list():
            return [_clean(member) for member in cast("list[Any]", value)]
        case _:
            return value


def _money(amount: Any, currency: Any = "") -> str:
    """1900 → 19.00 usd; anything else is unchanged."""
    return money_text(amount, str(currency)) if isinstance(amount, int) and currency else str(amount)


def _day(moment: Any) -> str:
    """2026-01-31T12:00:00+00:00 → 31 January 2026; anything else is unchanged."""
    try:
        at = datetime.fromisoformat(str(moment))
    except ValueError:
        return str(moment)
    return f"{at.day} {at:%B %Y}"


def _day_before(day: Any) -> str:
    """2026-02-01 → 31 January 2026: the last day on which something is valid."""
    try:
        return _day(date.fromisoformat(str(day)) - timedelta(days=1))
    except ValueError:
        return str(day)


def _moment(moment: Any) -> str:
    """2026-01-31T12:00:00+00:00 → 31 January 2026, 12:00 UTC; anything else is unchanged."""
    try:
        at = datetime.fromisoformat(str(moment)).astimezone(UTC)
    except ValueError:
        return str(moment)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
