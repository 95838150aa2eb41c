"""Stripe's lists → the inbox, page by page; where it was stopped, it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from cli.database import Connection, row, rows
from cli.reconcile.kinds import KINDS, Kind
from cli.reconcile.own_events import Body, own_event, receive, understood
from cli.reconcile.stripe_lists import Page, StripeLists
from worker.events.objects import Charge, Customer

_ADVANCE = (
    "select billing.advance_backfill(list => %(list)s, last_stripe_id => %(last)s, objects => %(objects)s, "
    "is_complete => %(is_complete)s)"
)


@dataclass(slots=True)
class Brought:
    """What a list had: objects that were read, and events that were queued for them."""

    list: str
    objects: int = 0
    queued: int = 0


def backfill(conn: Connection, stripe: StripeLists, on_page: Callable[[Kind, int], None]) -> list[Brought]:
    """Read what is left of every list. Raises CliError; what was received until then stays."""
    livemode: bool = row(conn, "select billing.is_livemode() as it", {})["it"]
    held = {each["list"]: each for each in rows(conn, "select * from billing.backfilled_lists", {})}
    result: list[Brought] = []
    for kind in KINDS:
        if kind.is_recent_only:
            continue
        brought = Brought(kind.name)
        result.append(brought)
        progress = held.get(kind.name, {"is_complete": False, "last_stripe_id": None})
        if progress["is_complete"]:
            continue
        on_page(kind, 0)
        for page in stripe.pages(kind.path, kind.params, progress["last_stripe_id"]):
            brought.queued += _receive(conn, kind, page, livemode=livemode)
            brought.objects += len(page.bodies)
            on_page(kind, len(page.bodies))
    return result


def _receive(conn: Connection, kind: Kind, page: Page, *, livemode: bool) -> int:
    wanted = [body for body in page.bodies if _is_wanted(body)]
    events = [own_event("backfill", kind, body, page.as_of, livemode=livemode) for body in wanted]
    with conn.transaction():
        answers = receive(conn, events)
        arguments = {
            "list": kind.name,
            "last": page.bodies[-1]["id"] if page.bodies else None,
            "objects": len(page.bodies),
            "is_complete": page.is_last,
        }
        conn.execute(_ADVANCE, arguments)
    return answers.count("queued")


def _is_wanted(body: Body) -> bool:
    """A payment that failed is no history that anything depends on."""
    match understood(body):
        case Charge() as charge:
            return charge.status == "succeeded"
        case Customer() as customer:
            return not customer.is_deleted
        case _:
            return True
