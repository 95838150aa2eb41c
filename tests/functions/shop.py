"""A shop's back end: the edge functions on a database, a Stripe of their own, and users who press buttons."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
import stripe
import uvicorn

from devstack.functions import EdgeFunctions
from devstack.paths import supabase_directory
from devstack.tokens import SigningKeys
from stripe_local.app import create_app
from stripe_local.world import World
from tests.functions.support import Answer, post
from tests.sql.calls import call, item, sync_price, sync_product, sync_subscription
from tests.support import Database, account_of, create_user

SITE = "https://app.example.com"
ISSUER = "http://127.0.0.1:54321/auth/v1"
KEY = "sk_test_of_the_shop"
DEADLINE_SECONDS = 10


@dataclass
class User:
    id: UUID
    account_id: UUID
    token: str


@dataclass
class Shop:
    """`plan` and `pack` are ids of prices that Stripe and the database know."""

    database: Database
    url: str
    world: World
    client: Any
    keys: SigningKeys
    log: Path
    stripe_url: str
    plan: str = ""
    pack: str = ""

    def sign_up(self, email: str = "ada@example.com") -> User:
        user_id = create_user(self.database, email)
        with self.database.connect() as connection:
            account_id = account_of(connection, user_id)
        return User(user_id, account_id, self.keys.access_token(user_id, email, issuer=ISSUER))

    def press(self, function: str, who: User | str | None, **body: Any) -> Answer:
        """POST with that user's token, or with any other."""
        token = who.token if isinstance(who, User) else who
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.send(function, json.dumps(body).encode(), headers)

    def ask(self, function: str, who: User | str | None, **query: str) -> Answer:
        """GET with that user's token, or with any other."""
        token = who.token if isinstance(who, User) else who
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.send(f"{function}?{urlencode(query)}", b"", headers, "GET")

    def send(self, function: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> Answer:
        return post(f"{self.url}/{function}", body, headers, method)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def customers(self) -> list[Any]:
        return list(self.world.store.all("customer"))

    def sessions(self) -> list[Any]:
        return list(self.world.store.all("checkout.session"))

    def links(self) -> list[Any]:
        return list(self.world.store.all("payment_link"))

    def portals(self) -> list[Any]:
        return list(self.world.store.all("billing_portal.session"))

    def fail(self, **faults: float) -> None:
        """Which share of Stripe's answers is 429, 500 or none; without any all is well again."""
        self.world.faults.set({"api": {name.removeprefix("on_"): share for name, share in faults.items()}})


@contextmanager
def emulator() -> Iterator[tuple[str, World]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(base_url=url)
        config = uvicorn.Config(app, log_level="warning", date_header=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            yield url, app.state.world
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def open_shop(database: Database, directory: Path, **environment: str) -> Iterator[Shop]:
    """Serve the functions for a shop with one plan (pro_monthly) and one pack (pack_100)."""
    keys = SigningKeys.load(directory / "state")
    with emulator() as (stripe_url, world):
        environment = {
            "SUPABASE_DB_URL": database.url,
            "SUPABASE_JWKS": keys.jwks(),
            "BILLING_JWT_ISSUER": ISSUER,
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": stripe_url,
        } | environment
        with EdgeFunctions.start(supabase_directory() / "functions", directory, environment) as functions:
            assert functions.failures == {}
            client = stripe.StripeClient(KEY, base_addresses={"api": stripe_url}).v1
            shop = Shop(database, functions.url, world, client, keys, functions.log_path, stripe_url)
            stock(shop)
            yield shop


def stock(shop: Shop) -> None:
    product = shop.client.products.create({"name": "Pro"})
    order = {"product": product.id, "currency": "usd", "unit_amount": 2000}
    shop.plan = shop.client.prices.create(order | {"recurring": {"interval": "month"}}).id
    shop.pack = shop.client.prices.create(order).id
    with shop.database.connect("billing_worker") as worker:
        of_product = {"stripe_product_id": product.id}
        sync_product(worker, **of_product)
        sync_price(worker, stripe_price_id=shop.plan, lookup_key="pro_monthly", **of_product)
        pack = {"lookup_key": "pack_100", "type": "one_time", "metadata": {"pack_credits": "100"}}
        sync_price(worker, stripe_price_id=shop.pack, **pack, **of_product)
    shop.sql("update billing.settings set site_url = %s", SITE)


def link(connection: psycopg.Connection[Any], user: User, stripe_customer_id: str) -> None:
    call(connection, "link_customer", account_id=user.account_id, stripe_customer_id=stripe_customer_id)


def subscribe(shop: Shop, database: Database, user: User) -> str:
    """A subscription in Stripe, and what the worker would have written of it → its id."""
    customer = only(shop.customers())["id"]
    created = shop.client.subscriptions.create(
        {"customer": customer, "items": [{"price": shop.plan}], "payment_behavior": "default_incomplete"}
    )
    with database.connect("billing_worker") as worker:
        items = [item(stripe_price_id=shop.plan, stripe_product_id=None)]
        sync_subscription(worker, stripe_subscription_id=created.id, stripe_customer_id=customer, items=items)
    return created.id


def only(things: list[Any]) -> Any:
    assert len(things) == 1, things
    return things[0]
