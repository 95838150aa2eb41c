"""The inbox of Stripe events → received events, their outcome, and dead letters."""

from typing import LiteralString

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.database import first
from cli.dashboard.paging import Order, page_of
from cli.dashboard.render import database, page, waiting
from cli.event_body import readable

# Those with an index; `till events list` has the others.
STATUSES = ("all", "dead", "parked", "waiting")

_EVENTS: LiteralString = """
    select stripe_event_id, type, api_version, status, attempts, last_error, waiting_for, created_at, received_at
    from billing.stripe_events
    where (%(status)s = 'all' or status = %(status)s)
        and (%(type)s = '' or type = %(type)s)
"""
# Those that Stripe did not give data for.
_WAITING: LiteralString = """
    select stripe_event_id, type, api_version, 'waiting' as status, stripe_lookups.attempts, last_error,
        'Stripe' as waiting_for, created_at, received_at
    from billing.stripe_lookups join billing.stripe_events using (stripe_event_id)
    where stripe_lookups.attempts > 3 and (%(type)s = '' or type = %(type)s)
"""
# The account or the customer that it is about.
_OWNER: LiteralString = """
    select accounts.id as account_id, billing.owner_email(accounts.id) as email
    from billing.find_accounts(%(id)s, 1) as accounts (id)
"""
_CUSTOMER: LiteralString = (
    "select id as stripe_customer_id from billing.find_customers(%(id)s, 1) as customers (id)"
)


def events(request: Request) -> Response:
    """The list."""
    status = request.query_params.get("status", "all")
    if status not in STATUSES:
        raise HTTPException(404)
    kind = request.query_params.get("type", "").strip()
    with database(request).reading() as conn:
        common = waiting(conn)
        counts = {
            "dead": common["waiting"]["dead_events"],
            "parked": common["waiting"]["parked_events"],
            "waiting": common["waiting"]["waiting_events"],
        }
        order = Order("received_at", "stripe_event_id")
        query = _WAITING if status == "waiting" else _EVENTS
        found, following = page_of(conn, request, query, order, status=status, type=kind)
    return page(
        request, "inbox.jinja", found=found, following=following, status=status, statuses=STATUSES,
        counts=counts, type=kind, **common,
    )  # fmt: skip


def show(request: Request) -> Response:
    """One event: its outcome and its body."""
    event_id = request.path_params["event_id"]
    with database(request).reading() as conn:
        common = waiting(conn)
        event = first(
            conn, "select * from billing.stripe_events where stripe_event_id = %(id)s", {"id": event_id}
        )
        owner = first(conn, _OWNER, {"id": event_id})
        customer = first(conn, _CUSTOMER, {"id": event_id}) if owner is None else None
    if event is None:
        raise HTTPException(404)
    return page(
        request,
        "event.jinja",
        event=event,
        owner=owner,
        customer=customer,
        body=readable(event["payload"]),
        **common,
    )
