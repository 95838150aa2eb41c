"""Differences → events of our own in the inbox; a row that is ahead of Stripe is marked as older than anything."""

from collections.abc import Sequence
from typing import Any

from cli.database import Connection, row
from cli.reconcile.compare import Difference
from cli.reconcile.own_events import own_event, receive

_STATUS = "select status from billing.stripe_events where stripe_event_id = %(id)s"
_DISTRUST = (
    "select billing.distrust_stripe_row("
    "kind => %(kind)s, stripe_id => %(id)s, read_at => %(read_at)s, status => %(status)s)"
)
_WITHDRAW = (
    "select billing.withdraw_stripe_row(kind => %(kind)s, stripe_id => %(id)s, read_at => %(read_at)s)"
)
# Stripe never deletes these: a row of which it has none was written by hand, and nothing is built on it.
WITHDRAWN = ("refund", "dispute", "credit_note")


def apply(conn: Connection, found: Sequence[Difference]) -> list[dict[str, str | None]]:
    """Queue an event for each: its id and the inbox's answer; withdraw rows of which Stripe has no object."""
    livemode: bool = row(conn, "select billing.is_livemode() as it", {})["it"]
    return [_apply(conn, difference, livemode=livemode) for difference in found]


def _apply(conn: Connection, difference: Difference, *, livemode: bool) -> dict[str, str | None]:
    if difference.problem == "unknown":
        conn.execute(_WITHDRAW, _row_of(difference, difference.kind.name, difference.stripe_id))
        return {"stripe_id": difference.stripe_id, "stripe_event_id": None, "answer": "withdrawn"}
    body, as_of = difference.body, difference.as_of
    assert body is not None
    assert as_of is not None
    number = 1
    while True:
        # The same damage as before, after its event was applied, needs another one.
        seen = "" if number == 1 else f"#{number}"
        event = own_event("reconcile", difference.kind, body, as_of, livemode=livemode, seen=seen)
        with conn.transaction():
            [answer] = receive(conn, [event])
            if answer == "queued":
                _distrust(conn, difference)
        if answer != "duplicate" or row(conn, _STATUS, {"id": event["id"]})["status"] != "applied":
            return {"stripe_id": difference.stripe_id, "stripe_event_id": event["id"], "answer": answer}
        number += 1


def _distrust(conn: Connection, difference: Difference) -> None:
    ids = [("line_item", line) for line in difference.edited_lines]
    if difference.is_ahead:
        ids.append((difference.kind.name, difference.stripe_id))
    for kind, stripe_id in ids:
        conn.execute(_DISTRUST, _row_of(difference, kind, stripe_id) | {"status": difference.status})


def _row_of(difference: Difference, kind: str, stripe_id: str) -> dict[str, Any]:
    return {"kind": kind, "id": stripe_id, "read_at": difference.read_at}
