"""Events that Stripe has and the inbox has not → the inbox, as if their webhook had arrived."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from cli.database import Connection, row


def receive(conn: Connection, event: dict[str, Any]) -> str:
    """'queued', 'duplicate' or 'ignored', as the webhook would have answered. Raises psycopg.Error."""
    return row(
        conn,
        "select billing.receive_stripe_event(event_id => %(id)s, type => %(type)s, api_version => %(api_version)s, "
        "created => %(created)s, livemode => %(livemode)s, payload => %(payload)s) as answer",
        {
            "id": event["id"],
            "type": event["type"],
            "api_version": event["api_version"],
            "created": event["created"],
            "livemode": event["livemode"],
            "payload": json.dumps(event),
        },
    )["answer"]


def replay(
    conn: Connection, events: Sequence[dict[str, Any]], advance: Callable[[], None]
) -> list[dict[str, Any]]:
    """Receive events, oldest first; event, type and answer of each."""
    result: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda each: each["created"]):
        result.append({"stripe_event_id": event["id"], "type": event["type"], "answer": receive(conn, event)})
        advance()
    return result
