"""Disputes → the list, and a page for each: what is contested, the evidence that the database has, and the answer."""

from collections.abc import Callable
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cli.dashboard.actions import balances
from cli.dashboard.database import first
from cli.dashboard.forms import ask, back, is_confirmed
from cli.dashboard.paging import Order, page_of
from cli.dashboard.render import database, money, page, waiting
from cli.dashboard.session import Flash
from cli.database import Connection, Row, connect
from cli.disputes import accept as accept_dispute
from cli.disputes import collect, submit
from cli.evidence import check, evidence_of
from worker.errors import BillingError
from worker.settings import Settings

OWN_WORDS = "uncategorized_text"
NO_RIGHT = "The role of POSTGRES_URL may not read auth.users: use the role postgres."

_DISPUTE: LiteralString = """
    select disputes.*, accounts.balance, accounts.name, accounts.frozen_at, payments.amount as charged,
        payments.charged_at, payments.risk_level, payments.is_liability_shifted, coalesce((
            select sum(holds.amount - holds.captured)
            from billing.credit_holds as holds
            join billing.credit_grants as lots on lots.id = holds.frozen_grant_id
            where holds.account_id = disputes.account_id and holds.status = 'held' and (
                lots.stripe_payment_intent_id = payments.stripe_payment_intent_id
                or lots.stripe_invoice_id in (
                    select stripe_invoice_id from billing.invoice_payments
                    where stripe_payment_intent_id = payments.stripe_payment_intent_id
                        or stripe_charge_id = payments.stripe_charge_id
                )
            )
        ), 0)::bigint as frozen_credits
    from billing.admin_disputes as disputes
    left join billing.admin_accounts as accounts on accounts.id = disputes.account_id
    left join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id
    where disputes.stripe_dispute_id = %(id)s
"""


def listing(request: Request) -> Response:
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


def show(request: Request) -> Response:
    """One dispute, with the evidence while the bank waits for it."""
    dispute_id = request.path_params["dispute_id"]
    with database(request).reading() as conn:
        common = waiting(conn)
        dispute = _dispute(conn, dispute_id)
    # Stripe reports the answer in a moment; until then nobody is asked for another one.
    is_answered = "answered" in request.query_params
    is_asked = dispute["needs_response"] and not is_answered
    evidence, trouble = _collected(request, dispute_id) if is_asked else ({}, None)
    return page(
        request, "dispute.jinja", dispute=dispute, evidence=evidence, trouble=trouble, is_asked=is_asked,
        has_key="STRIPE_API_KEY" in request.app.state.environment, **common,
    )  # fmt: skip


def answer(request: Request) -> Response:
    """Submit the chosen evidence with the administrator's own words; asked first, because the bank takes it once."""
    dispute_id = request.path_params["dispute_id"]
    form = request.state.form
    collected, trouble = _collected(request, dispute_id)
    if trouble:
        return back(request, "bad", trouble)
    chosen = {name: text for name, text in collected.items() if f"use_{name}" in form}
    statement = form.get("statement", "").replace("\r\n", "\n")
    if statement:
        chosen[OWN_WORDS] = "\n\n".join(filter(None, (statement, chosen.get(OWN_WORDS))))
    if not chosen:
        return back(request, "bad", "Choose some evidence, or write what speaks for you.")
    if not is_confirmed(request):
        with database(request).reading() as conn:
            dispute = _dispute(conn, dispute_id)
        names = ", ".join(name.replace("_", " ") for name in chosen)
        return ask(
            request,
            "Submit this evidence to the bank?",
            facts=[*_facts(dispute, dispute["balance"]), ("Evidence", names)],
            consequence="The bank takes one submission, and it can't be changed. If you win, the credits are unfrozen.",
            answer="Submit",
        )
    return _at_stripe(
        request,
        dispute_id,
        lambda conn, settings: submit(
            conn, settings, dispute_id, check(chosen, "the form"), request.app.state.actor
        ),
        "Submitted",
    )


def accept(request: Request) -> Response:
    """Accept that the money is lost; asked first."""
    dispute_id = request.path_params["dispute_id"]
    if not is_confirmed(request):
        with database(request).reading() as conn:
            dispute = _dispute(conn, dispute_id)
        amount = money(dispute["amount"], dispute["currency"])
        after = None if dispute["balance"] is None else dispute["balance"] - dispute["frozen_credits"]
        return ask(
            request,
            f"Accept the dispute of {amount}?",
            facts=_facts(dispute, after),
            consequence="This can't be undone. The cardholder keeps the money, and the frozen credits are revoked.",
            answer="Accept the dispute",
        )
    return _at_stripe(
        request,
        dispute_id,
        lambda conn, settings: accept_dispute(conn, settings, dispute_id, request.app.state.actor),
        "Accepted",
    )


ROUTES = [
    Route("/disputes/{dispute_id}/answer", answer, methods=["POST"]),
    Route("/disputes/{dispute_id}/accept", accept, methods=["POST"]),
]


def _dispute(conn: Connection, dispute_id: str) -> Row:
    found = first(conn, _DISPUTE, {"id": dispute_id})
    if found is None:
        raise HTTPException(404)
    return found


def _facts(dispute: Row, balance_after: int | None) -> list[tuple[str, str]]:
    name = dispute["email"] or dispute["name"] or dispute["stripe_customer_id"] or "not linked"
    facts = [("Account", name)]
    if balance_after is not None:
        facts += balances(dispute["balance"], balance_after)
    return facts


def _collected(request: Request, dispute_id: str) -> tuple[dict[str, str], str | None]:
    """The evidence, or why there is none. Sign-ins are read as the owner: service_role may not."""
    try:
        with database(request).reading_as_owner() as conn:
            return evidence_of(collect(conn, dispute_id)), None
    except psycopg.errors.InsufficientPrivilege:
        return {}, NO_RIGHT
    except BillingError as error:
        return {}, str(error)


def _at_stripe(
    request: Request, dispute_id: str, act: Callable[[Connection, Settings], str], done: str
) -> Response:
    environment: dict[str, Any] = request.app.state.environment
    try:
        settings = Settings.from_env({**environment, "POSTGRES_URL": database(request).url})
        with connect(settings.postgres_url) as conn:
            status = act(conn, settings)
    except BillingError as error:
        return back(request, "bad", f"{str(error)[:1].upper()}{str(error)[1:]}.")
    request.app.state.session.flash(Flash("good", f"{done}: the dispute is {status.replace('_', ' ')}."))
    return RedirectResponse(f"/disputes/{quote(dispute_id, safe='')}?answered=1", 303)
