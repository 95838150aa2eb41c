"""Stripe's products and prices: read page by page with the Date of each answer; created once, also after retries."""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast
from urllib.parse import quote

import stripe
from stripe.params import PriceCreateParams, PriceUpdateParams, ProductCreateParams, ProductUpdateParams

from cli.database import setting
from cli.output import CliError
from cli.stripe_key import stripe_client
from worker.settings import Settings
from worker.stripe_api import is_replayed

Body = dict[str, Any]
ObjectKind = Literal["product", "price"]

PAGE = 100  # Stripe's maximum
KEYS_TRIED_MAX = 5

_PATHS: dict[ObjectKind, str] = {"product": "/v1/products", "price": "/v1/prices"}


@dataclass(frozen=True, slots=True)
class Read:
    """One object as Stripe answered it, with the Date of the answer."""

    kind: ObjectKind
    body: Body
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All products and prices of an account, active and archived, by their ids."""

    products: dict[str, Read] = field(default_factory=dict[str, Read])
    prices: dict[str, Read] = field(default_factory=dict[str, Read])

    def __iter__(self) -> Iterator[Read]:
        """Products first, because they complete what their prices declare."""
        yield from self.products.values()
        yield from self.prices.values()

    def __len__(self) -> int:
        return len(self.products) + len(self.prices)


class StripeAccount:
    """The account of STRIPE_API_KEY."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client

    def read_catalogue(self, on_page: Callable[[int], None]) -> Catalogue:
        """Every product and price. `on_page` is called with the number of objects of a page."""
        found = Catalogue()
        kinds: tuple[tuple[ObjectKind, dict[str, Read]], ...] = (
            ("product", found.products),
            ("price", found.prices),
        )
        for kind, objects in kinds:
            for page in self._pages(kind):
                objects |= {read.body["id"]: read for read in page}
                on_page(len(page))
        return found

    def read(self, kind: ObjectKind, stripe_id: str) -> Read | None:
        """One object; None if it was deleted."""
        try:
            body, as_of = self._get(f"{_PATHS[kind]}/{quote(stripe_id, safe='')}")
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return None
            raise
        return None if body.get("deleted") else Read(kind, body, as_of)

    def create_product(self, params: ProductCreateParams) -> str:
        """Create a product, once even if repeated; returns its id."""
        return self._once(
            "product", params, lambda key: self._client.v1.products.create(params, {"idempotency_key": key})
        )

    def create_price(self, params: PriceCreateParams) -> str:
        """Create a price, once even if repeated; returns its id."""
        return self._once(
            "price", params, lambda key: self._client.v1.prices.create(params, {"idempotency_key": key})
        )

    def update_product(self, stripe_id: str, params: ProductUpdateParams) -> None:
        self._client.v1.products.update(stripe_id, params)

    def update_price(self, stripe_id: str, params: PriceUpdateParams) -> None:
        self._client.v1.prices.update(stripe_id, params)

    def _pages(self, kind: ObjectKind) -> Generator[list[Read]]:
        params: dict[str, Any] = {"limit": PAGE}
        if kind == "price":
            params["expand"] = ["data.currency_options"]
        while True:
            body, as_of = self._get(_PATHS[kind], params)
            members: list[Body] = body["data"]
            yield [Read(kind, member, as_of) for member in members]
            if not body["has_more"] or not members:
                return
            params["starting_after"] = members[-1]["id"]

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> tuple[Body, datetime]:
        # raw_request, because only the raw answer has both the Date and a body that the worker's normaliser reads.
        client: Any = self._client
        response = client.raw_request("get", path, **(params or {}))
        as_of = parsedate_to_datetime(response.headers["Date"])
        if as_of.tzinfo is None:
            raise CliError(f"Stripe's answer has no readable Date header: {response.headers['Date']}")
        return response.data, as_of

    def _once(
        self,
        kind: ObjectKind,
        params: Mapping[str, Any],
        create: Callable[[str], stripe.Product | stripe.Price],
    ) -> str:
        for key in idempotency_keys(kind, params):
            try:
                made = create(key)
            except stripe.APIError as error:
                if is_replayed(error.headers):
                    continue
                raise
            if not is_replayed(made.last_response.headers if made.last_response else None) or self._stands(
                kind, made.id, params
            ):
                return made.id
        raise CliError(
            "Stripe repeats the answer of an earlier request instead of creating anything: try again in 24 hours"
        )

    def _stands(self, kind: ObjectKind, stripe_id: str, params: Mapping[str, Any]) -> bool:
        found = self.read(kind, stripe_id)
        return found is not None and (
            kind == "product" or found.body.get("lookup_key") == params.get("lookup_key")
        )


def stripe_settings() -> Settings:
    """The database and Stripe: both from the environment, or else both from the local stack of this directory.

    Never one of each, because a local Stripe's prices would get into another database.
    """
    names = ("POSTGRES_URL", "STRIPE_API_KEY")
    told = [name for name in names if os.environ.get(name, "").strip()]
    if len(told) == 1:
        [missing] = set(names) - set(told)
        raise CliError(
            f"{missing} is not set beside {told[0]}: export both, or neither to use the local stack"
        )
    if told:
        return Settings.from_env(os.environ)
    return Settings.from_env({name: setting(name) for name in (*names, "STRIPE_API_BASE")})


def idempotency_keys(kind: ObjectKind, params: Mapping[str, Any]) -> Iterator[str]:
    """The idempotency keys for creating an object, in order.

    The first is the same in every process, so that a repeated or concurrent push gets the first answer. Stripe keeps
    answers for a day, including its own failures, whatever happened to the object since: if a repeated answer is no
    longer true, the next key is used.
    """
    digest = hashlib.sha256(json.dumps([kind, params], sort_keys=True).encode()).hexdigest()[:40]
    for turn in range(1, KEYS_TRIED_MAX + 1):
        yield f"till-plans-{digest}-{turn}"


@contextmanager
def stripe_account(settings: Settings) -> Generator[StripeAccount]:
    """The account; an error of Stripe is one line that says what to do."""
    with stripe_client(settings) as client:
        yield StripeAccount(client)


def metadata_of(body: Body) -> dict[str, str]:
    """An object's metadata, empty where it has none."""
    return cast("dict[str, str]", body.get("metadata") or {})
