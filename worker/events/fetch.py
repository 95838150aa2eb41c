"""References → objects as they are in Stripe now, each with the Date of the answer. Never inside a transaction."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import quote

from worker.errors import BillingError, StripeGone, StripeRefused, StripeUnavailable, UnknownShape
from worker.events.decide import Fetched
from worker.events.normalise import normalise_object
from worker.events.shapes import Node
from worker.stripe_api import NotFound, Refused, StripeAccess, Trouble

REQUEST_TIMEOUT_SECONDS = 8
REQUEST_RETRIES = 1

# The API paths of objects, by Stripe's name of their kind.
_PATHS = {
    "customer": "/v1/customers/",
    "checkout.session": "/v1/checkout/sessions/",
    "product": "/v1/products/",
    "price": "/v1/prices/",
    "subscription": "/v1/subscriptions/",
    "invoice": "/v1/invoices/",
    "credit_note": "/v1/credit_notes/",
    "charge": "/v1/charges/",
    "refund": "/v1/refunds/",
    "dispute": "/v1/disputes/",
    "payment_intent": "/v1/payment_intents/",
    "invoice_payment": "/v1/invoice_payments/",
    "payment_method": "/v1/payment_methods/",
}
# The prefixes of Stripe's own ids.
_KINDS = {
    "cus": "customer",
    "cs": "checkout.session",
    "prod": "product",
    "price": "price",
    "sub": "subscription",
    "in": "invoice",
    "cn": "credit_note",
    "ch": "charge",
    "py": "charge",
    "re": "refund",
    "pyr": "refund",
    "dp": "dispute",
    "du": "dispute",
    "pi": "payment_intent",
    "inpay": "invoice_payment",
    "pm": "payment_method",
}
# Fields that Stripe includes only on request: of an object, and of the members of one of its lists.
_EXPANDED = {"checkout.session": ["line_items.data.price.product"]}
_EXPANDED_MEMBERS = {"line_items": ["data.price.product"]}
# Kinds that can be deleted in Stripe, so that a 404 is a normal answer. Stripe keeps all others.
_DELETABLE = {"customer", "product", "price"}


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """An object of Stripe: its kind (Stripe's `object`) and its id, which the owner may have chosen."""

    kind: str
    stripe_id: str


class StripeReader:
    """Reads objects from Stripe. Until the key is known to be ours (`is_our_key`), a 404 means nothing."""

    def __init__(
        self, api_key: str | None, api_base: str | None, is_our_key: Callable[[], bool] = lambda: True
    ) -> None:
        self._stripe = StripeAccess(
            api_key, api_base, is_our_key, timeout_seconds=REQUEST_TIMEOUT_SECONDS, retries=REQUEST_RETRIES
        )

    def fetch(self, stripe_ids: Iterable[str]) -> dict[str, Fetched | BillingError]:
        """Read objects by ids that Stripe generated; their prefix tells their kind."""
        return {
            stripe_id: self.fetch_object(Reference(_KINDS.get(stripe_id.split("_", 1)[0], ""), stripe_id))
            for stripe_id in stripe_ids
        }

    def fetch_object(self, reference: Reference) -> Fetched | BillingError:
        """Read an object; if it could not be read, the error takes its place. From any thread."""
        try:
            return self._read(reference)
        except BillingError as error:
            return error
        except Exception as error:
            return _unread(reference, self._stripe.trouble_of(error))

    def _read(self, reference: Reference) -> Fetched:
        stripe_id, path = reference.stripe_id, _PATHS.get(reference.kind)
        if path is None:
            raise UnknownShape(f"{stripe_id} is not the id of an object that the worker reads from Stripe")
        expanded = _EXPANDED.get(reference.kind)
        # An id that the owner chose may contain characters that a path may not.
        body, date = self._get(path + quote(stripe_id, safe=""), {"expand": expanded} if expanded else None)
        for key in ("lines", "items", "line_items"):
            self._complete(body, key)
        found = normalise_object(Node(body, stripe_id))
        if found is None:
            raise UnknownShape(f"{stripe_id} is not an object that the worker uses")
        as_of = parsedate_to_datetime(date)
        if as_of.tzinfo is None:
            raise StripeUnavailable(
                f"reading {stripe_id} from Stripe: the answer needs one Date header, it has: {date}"
            )
        return Fetched(found, as_of)

    def _complete(self, body: dict[str, Any], key: str) -> None:
        # A list within an object contains its first members; the rest is read page by page.
        members = body.get(key)
        while isinstance(members, dict) and cast("dict[str, Any]", members).get("has_more"):
            listing = cast("dict[str, Any]", members)
            asked: dict[str, Any] = {"limit": 100, "starting_after": listing["data"][-1]["id"]}
            if key in _EXPANDED_MEMBERS:
                asked["expand"] = _EXPANDED_MEMBERS[key]
            page, _ = self._get(listing["url"], asked)
            listing["data"] += page["data"]
            listing["has_more"] = page["has_more"]

    def _get(self, path: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], str]:
        # raw_request, because only the raw answer has both the Date and a body that the normaliser reads.
        client: Any = self._stripe.client
        response = client.raw_request("get", path, **(params or {}))
        return response.data, response.headers["Date"]


def _unread(reference: Reference, trouble: Trouble) -> BillingError:
    """What becomes of an event that needs this object. It waits until the key is fixed, however long that takes."""
    text = f"reading {reference.stripe_id} from Stripe: {trouble}"
    match trouble:
        case NotFound() if reference.kind in _DELETABLE:
            return StripeGone(text)
        case Refused():
            return StripeRefused(text)
        case _:
            return StripeUnavailable(text)
