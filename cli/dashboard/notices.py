"""The outbox → sent, waiting and failed notifications."""

from typing import LiteralString

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.paging import PAGE_ROWS
from cli.dashboard.render import database, page, waiting
from cli.database import rows

STATUSES = ("all", "queued", "sending", "delivered", "digested", "skipped", "dead")

_NOTIFICATIONS: LiteralString = """
    select *, billing.owner_email(account_id) as email from billing.notifications
    where (%(status)s = 'all' or status = %(status)s) and (%(before)s::bigint is null or id < %(before)s)
    order by id desc
    limit %(limit)s
"""


def show(request: Request) -> Response:
    """The list."""
    status = request.query_params.get("status", "all")
    before = request.query_params.get("before", "")
    if status not in STATUSES:
        raise HTTPException(404)
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(
            conn,
            _NOTIFICATIONS,
            {
                "status": status,
                "before": int(before) if before.isdecimal() and len(before) < 19 else None,
                "limit": PAGE_ROWS + 1,
            },
        )
    shown = found[:PAGE_ROWS]
    return page(
        request, "notifications.jinja", found=shown, status=status, statuses=STATUSES,
        following=shown[-1]["id"] if len(found) > PAGE_ROWS else None, **common,
    )  # fmt: skip
