"""Stripe customers that no account owns → the list, a page for each, and the forms that link or dismiss one."""

from typing import LiteralString

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cli.dashboard.database import first
from cli.dashboard.forms import ask, back, do, is_confirmed, reason, write
from cli.dashboard.paging import Order, page_of
from cli.dashboard.render import database, page, waiting
from cli.database import Connection, Row, call, rows
from cli.explain import unlinked_case

CANDIDATES_MAX = 3
ROWS_MAX = 20

_CUSTOMER: LiteralString = "select * from billing.admin_customers where stripe_customer_id = %(customer)s"
_UNLINKED: LiteralString = "select * from billing.admin_customers where status = 'unlinked'"
_CANDIDATES: LiteralString = """
    select * from billing.admin_accounts where id in (select billing.find_accounts(%(email)s, %(limit)s))
"""
_PARTS: dict[str, LiteralString] = {
    "events": """
        select stripe_event_id, type, status, last_error, received_at from billing.stripe_events
        where waiting_for = %(customer)s order by received_at desc limit %(limit)s
    """,
    "subscriptions": """
        select * from billing.admin_subscriptions where stripe_customer_id = %(customer)s
        order by started_at desc limit %(limit)s
    """,
    "payments": """
        select stripe_charge_id, charged_at, amount, amount_refunded, currency, status, is_disputed
        from billing.payments where stripe_customer_id = %(customer)s order by charged_at desc limit %(limit)s
    """,
}
# The account, and the customer that it has already in the mode of this one.
_OWNER: LiteralString = """
    select accounts.id, accounts.email, accounts.name, accounts.balance, (
        select kept.stripe_customer_id from billing.customers as kept
        where kept.account_id = accounts.id and kept.livemode = %(livemode)s and kept.deleted_at is null
            and kept.duplicate_of is null and kept.stripe_customer_id is not null
    ) as kept
    from billing.admin_accounts as accounts
    where accounts.id = (
        select billing.find_accounts(search => %(account)s, results_max => 1, is_exact => true) limit 1
    )
"""


def listing(request: Request) -> Response:
    """Those that are not linked, newest first."""
    with database(request).reading() as conn:
        common = waiting(conn)
        found, following = page_of(conn, request, _UNLINKED, Order("created_at", "stripe_customer_id"))
    return page(request, "customers.jinja", found=found, following=following, **common)


def show(request: Request) -> Response:
    """One customer; that of an account is shown with it."""
    customer_id = request.path_params["customer_id"]
    with database(request).reading() as conn:
        common = waiting(conn)
        customer = _customer(conn, customer_id)
        case = unlinked_case(conn, customer)
        asked = {"customer": customer_id, "email": customer["email"] or "", "limit": ROWS_MAX}
        parts = {name: rows(conn, query, asked) for name, query in _PARTS.items()}
        candidates = rows(conn, _CANDIDATES, asked | {"limit": CANDIDATES_MAX})
    if customer["account_id"]:
        return RedirectResponse(f"/accounts/{customer['account_id']}", 303)
    return page(
        request, "customer.jinja", customer=customer, case=case, candidates=candidates, **parts, **common
    )


def link(request: Request) -> Response:
    """Link it to an account, or merge it where the account has a customer; confirmed first, because it is for good."""
    customer_id, typed = request.path_params["customer_id"], request.state.form.get("account", "")
    with database(request).reading() as conn:
        customer = _customer(conn, customer_id)
        owner = first(conn, _OWNER, {"account": typed, "livemode": customer["livemode"]}) if typed else None
    if owner is None:
        return back(request, "bad", f"No account for “{typed}”: enter its id, or its owner's e-mail address.")
    name = owner["email"] or owner["name"] or str(owner["id"])
    if not is_confirmed(request):
        return _ask_to_link(request, customer, owner, name)

    def call_it(conn: Connection) -> str:
        if owner["kept"]:
            call(conn, "billing.merge_customer", stripe_customer_id=customer_id, duplicate_of=owner["kept"])
            return f"{customer_id} is merged into {owner['kept']} of {name}. Its events go on."
        call(conn, "billing.link_customer", account_id=owner["id"], stripe_customer_id=customer_id)
        return f"{customer_id} is linked to {name}. Its events go on."

    return write(request, call_it)


def dismiss(request: Request) -> Response:
    """Ignore a customer of another app or environment, and its events."""
    return do(
        request,
        "dismiss_customer",
        "Dismissed. Its events are ignored, now and later.",
        stripe_customer_id=request.path_params["customer_id"],
        reason=reason(request),
    )


ROUTES = [
    Route("/customers/{customer_id}/link", link, methods=["POST"]),
    Route("/customers/{customer_id}/dismiss", dismiss, methods=["POST"]),
]


def _customer(conn: Connection, customer_id: str) -> Row:
    found = first(conn, _CUSTOMER, {"customer": customer_id})
    if found is None:
        raise HTTPException(404)
    return found


def _ask_to_link(request: Request, customer: Row, owner: Row, name: str) -> Response:
    customer_id = customer["stripe_customer_id"]
    who = f"{customer_id} ({customer['email']})" if customer["email"] else customer_id
    facts = [("Customer", who), ("Account", name)]
    if owner["kept"]:
        facts.append(("Has a customer", f"{owner['kept']}: this one becomes its second"))
    balance = f"{owner['balance']:,}"
    facts += [
        ("Events that go on", f"{customer['events_waiting']:,}"),
        ("Balance now", balance),
        ("Balance after", f"{balance}, and the credits of its payments"),
    ]
    return ask(
        request,
        f"Link {customer_id} to {name}?",
        facts=facts,
        consequence="This is for good. The customer's payments give their credits to this account.",
        answer="Link",
    )
