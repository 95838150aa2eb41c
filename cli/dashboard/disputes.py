"""Disputes → the contested amounts, the deadlines for evidence, and the frozen credits."""

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.paging import Order, page_of
from cli.dashboard.render import database, page, waiting


def show(request: Request) -> Response:
    """The list."""
    open_only = request.query_params.get("show") == "open"
    with database(request).reading() as conn:
        common = waiting(conn)
        found, following = page_of(
            conn,
            request,
            "select * from billing.admin_disputes where (needs_response or not %(open_only)s)",
            Order("disputed_at", "stripe_dispute_id"),
            open_only=open_only,
        )
    return page(request, "disputes.jinja", found=found, following=following, open_only=open_only, **common)
