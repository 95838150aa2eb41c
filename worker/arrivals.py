"""Stripe's list of events, and the inbox → events that Stripe has and that never arrived."""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import tuple_row

from worker.events.decide import DECIDERS

# What Stripe sent a moment ago may still be on its way; older events have arrived or will not by themselves.
ARRIVAL = timedelta(minutes=10)
PERIOD = timedelta(days=1)
PAGES_MAX = 10
PAGE = 100

_TEST_ONLY = "test_helpers."

StripeEvent = dict[str, Any]


def events_of(*, livemode: bool) -> list[str]:
    """The events that this version handles, as an endpoint of that mode may ask for them."""
    return sorted(event for event in DECIDERS if not (livemode and event.startswith(_TEST_ONLY)))


def pages(
    client: Any, types: Collection[str], since: datetime, until: datetime
) -> Iterator[list[StripeEvent]]:
    """Page by page, newest first, as Stripe lists them: its events of these types in that time.

    Stripe keeps events for thirty days. Raises stripe.StripeError.
    """
    path = (
        f"/v1/events?limit={PAGE}&created[gte]={int(since.timestamp())}&created[lte]={int(until.timestamp())}"
    )
    after = ""
    while True:
        page = json.loads(client.raw_request("get", path + after).body)
        yield [event for event in page["data"] if event["type"] in types]
        if not page["has_more"]:
            return
        after = f"&starting_after={page['data'][-1]['id']}"


def unreceived(conn: Connection[Any], events: Sequence[StripeEvent]) -> list[StripeEvent]:
    """Those of the events that the inbox has not. Raises psycopg.Error."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(
            "select * from billing.unreceived_events(event_ids => %s::text[])",
            [[event["id"] for event in events]],
        ).fetchall()
    missing = {event_id for (event_id,) in found}
    return [event for event in events if event["id"] in missing]


def undelivered(
    conn: Connection[Any], client: Any, types: Collection[str], since: datetime, until: datetime
) -> Iterator[list[StripeEvent]]:
    """The same page by page, for who may ask Stripe and the database in turn."""
    for page in pages(client, types, since, until):
        yield unreceived(conn, page)
