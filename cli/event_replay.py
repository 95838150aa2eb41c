"""Events that Stripe has and the inbox has not → the inbox, as if their webhook had arrived."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from cli.database import Connection, row, rows

PAGE = 100


def undelivered(
    conn: Connection, client: Any, types: Collection[str], since: datetime, until: datetime
) -> Iterator[list[dict[str, Any]]]:
    """Page by page, newest first, as Stripe lists them: events of these types in that time that the inbox has not.

    Stripe keeps events for thirty days. Raises stripe.StripeError.
    """
    path = (
        f"/v1/events?limit={PAGE}&created[gte]={int(since.timestamp())}&created[lte]={int(until.timestamp())}"
    )
    after = ""
    while True:
        page = json.loads(client.raw_request("get", path + after).body)
        sent = [event for event in page["data"] if event["type"] in types]
        held = rows(
            conn,
            "select stripe_event_id from billing.stripe_events where stripe_event_id = any (%(ids)s)",
            {"ids": [event["id"] for event in sent]},
        )
        known = {each["stripe_event_id"] for each in held}
        yield [event for event in sent if event["id"] not in known]
        if not page["has_more"]:
            return
        after = f"&starting_after={page['data'][-1]['id']}"


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
