"""Subscriptions → plans, periods and cancellations."""

from typing import LiteralString

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.paging import Order, page_of
from cli.dashboard.render import database, page, waiting
from cli.database import rows

# In the order of the tabs; incomplete statuses come last.
STATUSES = (
    "active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete", "incomplete_expired"
)  # fmt: skip

_COUNTS: LiteralString = """
    select status, count(*) as number from billing.subscriptions
    where livemode = (select billing.is_livemode()) group by status
"""

_SUBSCRIPTIONS: LiteralString = """
    select * from billing.admin_subscriptions
    where livemode = (select billing.is_livemode()) and (%(status)s::text is null or status = %(status)s)
"""


def show(request: Request) -> Response:
    """The list."""
    wanted = request.query_params.get("status", "")
    status = wanted if wanted in STATUSES else None
    with database(request).reading() as conn:
        common = waiting(conn)
        counts = {each["status"]: each["number"] for each in rows(conn, _COUNTS, {})}
        order = Order("started_at", "stripe_subscription_id")
        found, following = page_of(conn, request, _SUBSCRIPTIONS, order, status=status)
    return page(
        request, "subscriptions.jinja", found=found, following=following, status=status,
        statuses=[each for each in STATUSES if counts.get(each)], counts=counts, **common,
    )  # fmt: skip
