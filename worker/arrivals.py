"""Stripe's list of events, and the inbox → events that Stripe has and that never arrived."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import tuple_row

from worker.events.decide import DECIDERS

# What Stripe sent a moment ago may still be on its way; older events have arrived or will not by themselves.
ARRIVAL = timedelta(minutes=10)
# What is looked at: the events of a day, but no more than so many pages, 10,000 events.
PERIOD = timedelta(days=1)
PAGES_MAX = 100
PAGE = 100
# Stripe allows 25 requests a second in a sandbox, and others use the account too.
REQUESTS_PER_SECOND = 15

_TEST_ONLY = "test_helpers."

StripeEvent = dict[str, Any]


def events_of(*, livemode: bool) -> list[str]:
    """The events that this version handles, as an endpoint of that mode may ask for them."""
    return sorted(event for event in DECIDERS if not (livemode and event.startswith(_TEST_ONLY)))


@dataclass(frozen=True, slots=True)
class Looked:
    """Events that were looked at, newest first. `since`: of before there may be more, which were not looked at."""

    events: list[StripeEvent]
    since: datetime
    is_cut: bool


def newest(client: Any, types: Collection[str], since: datetime, until: datetime) -> Looked:
    """The events of that time, as far as PAGES_MAX reach, without their bodies. Raises stripe.StripeError."""
    events: list[StripeEvent] = []
    reached = since
    read = pages(client, types, since, until)
    for _ in range(PAGES_MAX):
        page = next(read, None)
        if page is None:
            return Looked(events, since, is_cut=False)
        events += [{name: event[name] for name in ("id", "type", "created")} for event in page.events]
        reached = page.reached or reached
    return Looked(events, reached, is_cut=next(read, None) is not None)


@dataclass(frozen=True, slots=True)
class Page:
    """Events of the types that were wanted; `reached`: when the oldest event of the page happened."""

    events: list[StripeEvent]
    reached: datetime | None


def pages(client: Any, types: Collection[str], since: datetime, until: datetime) -> Iterator[Page]:
    """Page by page, newest first, as Stripe lists them: its events of these types in that time.

    Stripe keeps events for thirty days. Raises stripe.StripeError.
    """
    path = (
        f"/v1/events?limit={PAGE}&created[gte]={int(since.timestamp())}&created[lte]={int(until.timestamp())}"
    )
    after = ""
    while True:
        began_seconds = time.monotonic()
        page = json.loads(client.raw_request("get", path + after).body)
        data: list[StripeEvent] = page["data"]
        reached = datetime.fromtimestamp(data[-1]["created"], UTC) if data else None
        yield Page([event for event in data if event["type"] in types], reached)
        if not page["has_more"]:
            return
        after = f"&starting_after={data[-1]['id']}"
        time.sleep(max(0.0, began_seconds + 1 / REQUESTS_PER_SECOND - time.monotonic()))


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
        yield unreceived(conn, page.events)
