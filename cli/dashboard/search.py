"""An address, a name, an id of ours or of Stripe's → the page of it, or a list of what it may be."""

from typing import LiteralString

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cli.dashboard.database import first
from cli.dashboard.paging import PAGE_ROWS
from cli.dashboard.render import database, page, waiting
from cli.database import Connection, rows
from cli.explain import find_customers

_ACCOUNTS: LiteralString = """
    select * from billing.admin_accounts where id in (select billing.find_accounts(%(search)s, %(limit)s))
    order by created_at desc, id desc
"""
# Objects that have a page of their own here.
_PAGES: tuple[tuple[str, LiteralString], ...] = (
    ("/inbox/", "select from billing.stripe_events where stripe_event_id = %(search)s"),
    ("/disputes/", "select from billing.disputes where stripe_dispute_id = %(search)s"),
    ("/fraud/", "select from billing.fraud_warnings where stripe_early_fraud_warning_id = %(search)s"),
)


def show(request: Request) -> Response:
    """The one page that is meant, or the accounts and customers that may be."""
    text = request.query_params.get("q", "").strip()
    if not text:
        return RedirectResponse("/accounts", 303)
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(conn, _ACCOUNTS, {"search": text, "limit": PAGE_ROWS})
        customers = find_customers(conn, text)
        to = _own_page(conn, text)
    if to is None and len(found) == 1 and not customers:
        to = f"/accounts/{found[0]['id']}"
    if to is None and len(customers) == 1 and not found:
        to = f"/customers/{customers[0]['stripe_customer_id']}"
    if to is not None:
        return RedirectResponse(to, 303)
    return page(request, "search.jinja", found=found, customers=customers, text=text, **common)


def _own_page(conn: Connection, text: str) -> str | None:
    for prefix, query in _PAGES:
        if first(conn, query, {"search": text}) is not None:
            return prefix + text
    return None
