"""STRIPE_API_KEY → clients of Stripe; an exception of a request → what it means, the same for every caller."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import stripe

from worker import metrics
from worker.errors import StripeUnavailable
from worker.traces import span

REQUEST_TIMEOUT_SECONDS = 20

_MISSING = "resource_missing"


class NoStripeKey(StripeUnavailable):
    """STRIPE_API_KEY is not set: set it to a key of this installation's Stripe account."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request got no good answer: one line for a log or a row, and Stripe's own code where it gave one."""

    error: str
    text: str
    code: str | None = None

    advice = ""

    def __str__(self) -> str:
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.error}: {self.text}{advice}"


@dataclass(frozen=True, slots=True)
class Refused(Trouble):
    """Stripe refuses this request and will refuse it again."""


@dataclass(frozen=True, slots=True)
class NotFound(Refused):
    """The Stripe account of this installation has no such object."""


@dataclass(frozen=True, slots=True)
class Retry(Trouble):
    """Later the same request may succeed. `is_in_doubt`: Stripe may have done it, and its answer was lost."""

    is_in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class KeyRefused(Retry):
    """There is no key, Stripe does not know it, or it lacks a permission (`is_known`): a person must mend it."""

    is_known: bool = False

    advice = "check STRIPE_API_KEY and its permissions"


@dataclass(frozen=True, slots=True)
class KeyUnknown(Retry):
    """Stripe has no such object, which says nothing: the key may be of another account."""

    advice = "the Stripe account of STRIPE_API_KEY is not known yet"


def trouble_of(error: Exception, *, is_our_key: bool) -> Trouble:
    """What an exception of a request means. `is_our_key`: the key is known to be of this installation's account."""
    name, code = type(error).__name__, getattr(error, "code", None)
    text = " ".join(str(getattr(error, "user_message", None) or error).split())
    match error:
        case NoStripeKey():
            return KeyRefused(name, text)
        case stripe.AuthenticationError():
            return KeyRefused(name, text, code)
        case stripe.PermissionError():
            return KeyRefused(name, text, code, is_known=True)
        case stripe.RateLimitError() | stripe.IdempotencyError():
            return Retry(name, text, code)
        case stripe.InvalidRequestError() if error.http_status == 404 or code == _MISSING:
            return NotFound(name, text, code) if is_our_key else KeyUnknown(name, text, code)
        case stripe.InvalidRequestError():
            return Refused(name, text, code)
        case _:  # also an answer that is none of Stripe's, such as a proxy's page
            return Retry(name, text, code, is_in_doubt=True)


def is_replayed(headers: Mapping[str, str] | None) -> bool:
    """Whether an answer is one that Stripe kept for the request's Idempotency-Key."""
    found = {name.lower(): value for name, value in (headers or {}).items()}
    return found.get("idempotent-replayed", "").lower() == "true"


class WatchedHttp(stripe.RequestsClient):
    """Each request is counted by its outcome, and is a span of a trace: by method and path, without what is sent."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        path = urlsplit(url).path
        with span(
            "stripe " + method.upper(), **{"http.request.method": method.upper(), "url.path": path}
        ) as current:
            try:
                client: Any = super()
                answer: tuple[bytes, int, Mapping[str, str]] = client.request(method, url, headers, post_data)
            except Exception:
                metrics.STRIPE_REQUESTS.labels("failed").inc()
                raise
            metrics.STRIPE_REQUESTS.labels(_outcome_of(answer[1])).inc()
            if current is not None:
                current.set_attribute("http.response.status_code", answer[1])
            return answer


def _outcome_of(status: int) -> str:
    if status < 400:
        return "ok"
    if status >= 500:
        return "failed"
    return {401: "key_refused", 403: "key_refused", 429: "rate_limited"}.get(status, "refused")


class StripeAccess:
    """This installation's key. Its client is made when it is first needed, for most events and jobs need none."""

    def __init__(
        self,
        api_key: str | None,
        api_base: str | None,
        is_our_key: Callable[[], bool] = lambda: True,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        retries: int = 0,
    ) -> None:
        self._api_key = api_key
        self._api_base = api_base
        self._is_our_key = is_our_key
        self._timeout_seconds = timeout_seconds
        self._retries = retries

    @cached_property
    def client(self) -> stripe.StripeClient:
        """Raises NoStripeKey."""
        if self._api_key is None:
            raise NoStripeKey
        return stripe_client(self._api_key, self._api_base, self._timeout_seconds, self._retries)

    @property
    def v1(self) -> Any:
        """Stripe's objects by name. Raises NoStripeKey."""
        return self.client.v1

    def trouble_of(self, error: Exception) -> Trouble:
        """What an exception of a request with this key means."""
        return trouble_of(error, is_our_key=self._is_our_key())


def stripe_client(
    api_key: str,
    api_base: str | None,
    timeout_seconds: float,
    retries: int = 0,
    http: stripe.HTTPClient | None = None,
) -> stripe.StripeClient:
    """A client of the API version that stripe-python is pinned to.

    `api_base` None: Stripe itself. Without `retries` an attempt is one request, and the caller retries.
    """
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else None,
        max_network_retries=retries,
        http_client=http or WatchedHttp(timeout=timeout_seconds),
    )


@contextmanager
def opened_client(
    api_key: str, api_base: str | None, timeout_seconds: float, retries: int = 0
) -> Generator[stripe.StripeClient]:
    """The same for a short while; its connections are closed at the end."""
    http = WatchedHttp(timeout=timeout_seconds)
    try:
        yield stripe_client(api_key, api_base, timeout_seconds, retries, http)
    finally:
        http.close()


def key_of_step(key: UUID, step: str) -> str:
    """An Idempotency-Key for a further request of the row that has `key`: always the same, and different for other
    rows.
    """
    return str(uuid5(key, step))
