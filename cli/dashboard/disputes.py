"""Disputes → the contested amounts, the deadlines for evidence, and the frozen credits."""

from typing import LiteralString

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.paging import PAGE_ROWS, cursor, pages
from cli.dashboard.render import database, page, waiting
from cli.database import rows

_DISPUTES: LiteralString = """
    with listed as (
        select * from billing.disputes
        where (not %(open_only)s or status in ('needs_response', 'appeal_needs_response', 'warning_needs_response'))
            and (
                %(before_at)s::timestamptz is null
                or (disputed_at, stripe_dispute_id) < (%(before_at)s::timestamptz, %(before_id)s::text)
            )
        order by disputed_at desc, stripe_dispute_id desc
        limit %(limit)s
    ),
    joined as (
        select listed.*, payments.account_id, payments.stripe_customer_id
        from listed left join billing.payments on payments.stripe_charge_id = listed.stripe_charge_id
    )
    select joined.*, emails.email
    from joined
    left join billing.account_emails(array(select joined.account_id from joined)) as emails
        on emails.account_id = joined.account_id
    order by joined.disputed_at desc, joined.stripe_dispute_id desc
"""


def show(request: Request) -> Response:
    """The list."""
    open_only = request.query_params.get("show") == "open"
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(conn, _DISPUTES, {"open_only": open_only, "limit": PAGE_ROWS + 1} | cursor(request))
    shown, following = pages(found, "disputed_at", "stripe_dispute_id")
    return page(request, "disputes.jinja", found=shown, following=following, open_only=open_only, **common)
