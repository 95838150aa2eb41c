"""A running receiver, deliveries as Stripe makes them, and what they left in the database."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from stripe import WebhookSignature

from devstack.functions import EdgeFunctions
from devstack.paths import supabase_directory

SECRET = "whsec_of_the_endpoint"
TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]
    seconds: float


@contextmanager
def receiver(database_url: str, directory: Path, secret: str = SECRET, **environment: str) -> Iterator[str]:
    """Serve the edge functions on that database → URL of the receiver."""
    environment |= {"SUPABASE_DB_URL": database_url, "STRIPE_WEBHOOK_SECRET": secret}
    with EdgeFunctions.start(supabase_directory() / "functions", directory, environment) as functions:
        assert functions.failures == {}
        yield f"{functions.url}/stripe-webhook"


def event(**changes: Any) -> dict[str, Any]:
    """An event that Stripe could have sent a moment ago, with an id of its own."""
    return {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": "invoice.paid",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()) - 2,
        "livemode": False,
        "data": {"object": {"id": "in_1", "object": "invoice"}},
    } | changes


def sign(body: str, secret: str = SECRET, *, age_seconds: int = 0) -> str:
    return WebhookSignature.generate_signature_header(body, secret, int(time.time()) - age_seconds)


def post(url: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> Answer:
    started = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
    try:
        target = urlsplit(url)
        connection.request(method, f"{target.path}?{target.query}".rstrip("?"), body, dict(headers))
        response = connection.getresponse()
        text = response.read()
        return Answer(
            response.status,
            json.loads(text) if text else None,
            dict(response.headers),
            time.monotonic() - started,
        )
    finally:
        connection.close()


def deliver(url: str, what: dict[str, Any] | str, secret: str = SECRET, *, age_seconds: int = 0) -> Answer:
    """Sign and send an event, or a body as it is."""
    body = what if isinstance(what, str) else json.dumps(what)
    header = sign(body, secret, age_seconds=age_seconds)
    return post(url, body.encode(), {"Stripe-Signature": header, "Content-Type": "application/json"})


def stored(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """(event id, status, payload) of every event in the inbox."""
    return connection.execute(
        "select stripe_event_id, status, payload from billing.stripe_events order by received_at"
    ).fetchall()


def queued(connection: psycopg.Connection[Any]) -> list[Any]:
    """The messages in the queue."""
    return [row[0] for row in connection.execute("select message from pgmq.q_stripe_events order by msg_id")]
