"""Stripe ids → the objects as Stripe has them now, each with the Date of its answer. Never inside a transaction."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from typing import Any, cast

import stripe

from worker.decide import Fetched
from worker.errors import BillingError, StripeGone, StripeRefused, StripeUnavailable, UnknownShape
from worker.normalise import normalise_object
from worker.shapes import Node

# Together they stay well within the queue's visibility time-out.
REQUEST_TIMEOUT_SECONDS = 8
REQUEST_RETRIES = 1
BATCH_SECONDS = 45
PARALLEL_REQUESTS = 6

_PATHS = {
    "cus": "/v1/customers/",
    "cs": "/v1/checkout/sessions/",
    "prod": "/v1/products/",
    "price": "/v1/prices/",
    "sub": "/v1/subscriptions/",
    "in": "/v1/invoices/",
    "ch": "/v1/charges/",
    "py": "/v1/charges/",
    "re": "/v1/refunds/",
    "pyr": "/v1/refunds/",
    "dp": "/v1/disputes/",
    "du": "/v1/disputes/",
    "pi": "/v1/payment_intents/",
    "inpay": "/v1/invoice_payments/",
    "pm": "/v1/payment_methods/",
}
# What Stripe leaves out unless it is asked for.
_EXPANDED = {"cs": ["line_items.data.price.product"]}
# What can be deleted in Stripe, so that 404 is an answer like any other. The rest is kept for ever.
_DELETABLE = {"cus", "prod", "price"}


class StripeReader:
    """Reads objects from Stripe; makes a client when the first one is needed, for ordinary events need none.

    As long as the key is not known to be ours, an object that is not there says nothing: `is_our_key`.
    """

    def __init__(
        self, api_key: str | None, api_base: str | None, is_our_key: Callable[[], bool] = lambda: True
    ) -> None:
        self._api_key = api_key
        self._api_base = api_base
        self._is_our_key = is_our_key
        self._client: stripe.StripeClient | None = None

    def fetch(self, stripe_ids: Iterable[str]) -> dict[str, Fetched | BillingError]:
        """Read each object once, several at a time. What could not be read has its error in its place."""
        wanted = sorted(set(stripe_ids))
        if not wanted:
            return {}
        pool = ThreadPoolExecutor(PARALLEL_REQUESTS)
        try:
            futures = {stripe_id: pool.submit(self._fetch_one, stripe_id) for stripe_id in wanted}
            wait(futures.values(), timeout=BATCH_SECONDS)
            late = StripeUnavailable("Stripe did not answer in time")
            return {
                stripe_id: future.result() if future.done() else late for stripe_id, future in futures.items()
            }
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch_one(self, stripe_id: str) -> Fetched | BillingError:
        try:
            return self._read(stripe_id)
        except stripe.StripeError as error:
            return _classify(stripe_id, error, is_our_key=self._is_our_key())
        except BillingError as error:
            return error
        except Exception as error:  # an answer that is none of Stripe's, such as a proxy's page
            return StripeUnavailable(f"reading {stripe_id} from Stripe: {type(error).__name__}: {error}")

    def _read(self, stripe_id: str) -> Fetched:
        path = _PATHS.get(_kind(stripe_id))
        if path is None:
            raise UnknownShape(f"{stripe_id} is the id of no kind of object that is read from Stripe")
        expanded = _EXPANDED.get(_kind(stripe_id))
        body, date = self._get(path + stripe_id, {"expand": expanded} if expanded else None)
        for key in ("lines", "items", "line_items"):
            self._complete(body, key)
        found = normalise_object(Node(body, stripe_id))
        if found is None:
            raise UnknownShape(f"{stripe_id} is no object that is of use here")
        as_of = parsedate_to_datetime(date)
        if as_of.tzinfo is None:
            raise StripeUnavailable(f"reading {stripe_id} from Stripe: its Date is none, or several: {date}")
        return Fetched(found, as_of)

    def _complete(self, body: dict[str, Any], key: str) -> None:
        # A list within an object holds its first members; the rest is read page by page.
        members = body.get(key)
        while isinstance(members, dict) and cast("dict[str, Any]", members).get("has_more"):
            listing = cast("dict[str, Any]", members)
            page, _ = self._get(listing["url"], {"limit": 100, "starting_after": listing["data"][-1]["id"]})
            listing["data"] += page["data"]
            listing["has_more"] = page["has_more"]

    def _get(self, path: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], str]:
        # raw_request, for only the raw answer has both the Date and a body that the normaliser reads.
        client: Any = self._connect()
        response = client.raw_request("get", path, **(params or {}))
        return response.data, response.headers["Date"]

    def _connect(self) -> stripe.StripeClient:
        if self._api_key is None:
            raise StripeUnavailable(
                "STRIPE_API_KEY is not set, and this event cannot be judged without reading from Stripe"
            )
        if self._client is None:
            self._client = stripe.StripeClient(
                self._api_key,
                base_addresses={"api": self._api_base} if self._api_base else None,
                max_network_retries=REQUEST_RETRIES,
                http_client=stripe.RequestsClient(timeout=REQUEST_TIMEOUT_SECONDS),
            )
        return self._client


def _kind(stripe_id: str) -> str:
    return stripe_id.split("_", 1)[0]


def _classify(stripe_id: str, error: stripe.StripeError, *, is_our_key: bool) -> BillingError:
    text = f"reading {stripe_id} from Stripe: {error.user_message or error}"
    match error:
        case stripe.APIConnectionError() | stripe.RateLimitError():
            return StripeUnavailable(text)
        case stripe.AuthenticationError() | stripe.PermissionError():
            # The event is good, the key is not: it waits for a person to mend the key, however long that takes.
            return StripeUnavailable(f"{text} (check STRIPE_API_KEY and its permissions)")
        case stripe.InvalidRequestError(http_status=404) if not is_our_key:
            return StripeUnavailable(f"{text} (it is not known yet whose key STRIPE_API_KEY is)")
        case stripe.InvalidRequestError(http_status=404) if _kind(stripe_id) in _DELETABLE:
            return StripeGone(text)
        case stripe.InvalidRequestError():
            return StripeRefused(text)
        case _:
            return StripeUnavailable(text)
