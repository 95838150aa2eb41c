"""Stripe's lists → pages of objects as they are, each with the Date of its answer; slowly enough for its limits."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import quote

import stripe

from cli.output import CliError
from cli.stripe_key import refusal
from worker.stripe_api import KeyRefused, NotFound, Retry, trouble_of

Body = dict[str, Any]

PAGE = 100  # Stripe's maximum
# Stripe's limit in a sandbox, and for one kind of request in live mode, is 25 a second; others use the account too.
REQUESTS_PER_SECOND = 15
TRIES_MAX = 8
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 30.0

# Lists within objects that a page shows the beginning of.
_LISTS_WITHIN = ("lines", "items", "line_items")


@dataclass(frozen=True, slots=True)
class Answer:
    """One object as it is now, and the Date of the answer."""

    body: Body
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of a list, the newest first."""

    bodies: list[Body]
    as_of: datetime
    is_last: bool


class StripeLists:
    """Reads with one key. `requests_per_second` None: without a pause, as a local Stripe may be read."""

    def __init__(
        self,
        client: stripe.StripeClient,
        requests_per_second: float | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client: Any = client
        self._pause_seconds = 1 / requests_per_second if requests_per_second else 0.0
        self._next_seconds = 0.0
        self._sleep = sleep

    def pages(self, path: str, params: Mapping[str, Any], after: str | None = None) -> Iterator[Page]:
        """Every page, from the one after the object `after`. Raises CliError."""
        cursors = [after] if after else []
        while True:
            asked = {**params, "limit": PAGE} | ({"starting_after": cursors[-1]} if cursors else {})
            try:
                body, as_of = self._get(path, asked)
            except _NoSuchObject:
                if not cursors:
                    raise
                cursors.pop()  # it was deleted meanwhile: the one before it, or from the start
                continue
            bodies: list[Body] = body["data"]
            for found in bodies:
                self._complete(found)
            is_last = not body["has_more"] or not bodies
            yield Page(bodies, as_of, is_last)
            if is_last:
                return
            cursors = [found["id"] for found in bodies]

    def read(self, path: str, stripe_id: str, params: Mapping[str, Any] | None = None) -> Answer | None:
        """One object; None if Stripe has none. Raises CliError."""
        try:
            body, as_of = self._get(f"{path}/{quote(stripe_id, safe='')}", params or {})
        except _NoSuchObject:
            return None
        self._complete(body)
        return Answer(body, as_of)

    def _complete(self, body: Body) -> None:
        for key in _LISTS_WITHIN:
            members: Any = body.get(key)
            while isinstance(members, dict) and cast("Body", members).get("has_more"):
                listing = cast("Body", members)
                after = listing["data"][-1]["id"]
                page, _ = self._get(listing["url"], {"limit": PAGE, "starting_after": after})
                listing["data"] += page["data"]
                listing["has_more"] = page["has_more"]

    def _get(self, path: str, params: Mapping[str, Any]) -> tuple[Body, datetime]:
        for attempt in range(TRIES_MAX):
            self._wait()
            try:
                response = self._client.raw_request("get", path, **params)
            except stripe.StripeError as error:
                # The key is the one that the person who runs the command exported, and was checked.
                trouble = trouble_of(error, is_our_key=True)
                if isinstance(trouble, NotFound):
                    raise _NoSuchObject(refusal(error)) from None
                if isinstance(trouble, KeyRefused) or not isinstance(trouble, Retry):
                    raise CliError(refusal(error)) from None
                if attempt == TRIES_MAX - 1:
                    raise CliError(f"{refusal(error)} ({TRIES_MAX} tries)") from None
                self._sleep(min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2**attempt))
            else:
                as_of = parsedate_to_datetime(response.headers["Date"])
                if as_of.tzinfo is None:
                    raise CliError(f"Stripe's answer has no readable Date header: {response.headers['Date']}")
                return response.data, as_of
        raise AssertionError

    def _wait(self) -> None:
        now = time.monotonic()
        if now < self._next_seconds:
            self._sleep(self._next_seconds - now)
        self._next_seconds = max(now, self._next_seconds) + self._pause_seconds


class _NoSuchObject(CliError):
    """Stripe has no such object."""
