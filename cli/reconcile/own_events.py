"""Objects as Stripe answered them → events of our own, which the inbox takes like Stripe's.

An id says which command made the event, of which object, and has a digest of what was read, so that the same state is
received once: till_reconcile_sub_1Q…_3fa91c0be2d4.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import stripe

from cli.database import Connection, rows
from cli.reconcile.kinds import Kind
from worker.events.normalise import normalise_object
from worker.events.objects import StripeObject
from worker.events.shapes import Node

Command = Literal["reconcile", "backfill"]
Body = dict[str, Any]

_DIGEST_LENGTH = 12


def understood(body: Body) -> StripeObject:
    """The object as the worker reads it. Raises UnknownShape."""
    found = normalise_object(Node(body, str(body.get("id"))))
    assert found is not None
    return found


def own_event(
    command: Command, kind: Kind, body: Body, as_of: datetime, *, livemode: bool, seen: str = ""
) -> dict[str, Any]:
    """An event that reports the object's state as of Stripe's answer. `seen`: what else tells it from others."""
    state = json.dumps(body, sort_keys=True) + seen
    digest = hashlib.sha256(state.encode()).hexdigest()[:_DIGEST_LENGTH]
    event: dict[str, Any] = {
        "id": f"till_{command}_{body['id']}_{digest}",
        "object": "event",
        "api_version": stripe.api_version,
        "created": int(as_of.timestamp()),
        "livemode": livemode,
        "type": kind.event_type(understood(body)),
        # The worker reads the line items of a session with their products, which no list includes.
        "data": {"object": {name: value for name, value in body.items() if name != "line_items"}},
    }
    return event


def receive(conn: Connection, events: Sequence[dict[str, Any]]) -> list[str]:
    """Queue events; the answer to each: queued, duplicate or ignored."""
    given = [
        {name: event[name] for name in ("id", "type", "api_version", "created", "livemode")}
        | {"payload": json.dumps(event)}
        for event in events
    ]
    found = rows(
        conn,
        "select answer from billing.receive_own_events(events => %(events)s::jsonb)",
        {"events": json.dumps(given)},
    )
    return [each["answer"] for each in found]
