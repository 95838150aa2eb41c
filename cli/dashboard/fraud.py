"""Early fraud warnings, reviews and credits under review → the queue, and each case with its actions."""

from typing import LiteralString

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.database import first
from cli.dashboard.paging import PAGE_ROWS, Order, page_of
from cli.dashboard.render import database, page, waiting
from cli.database import rows

STATUSES = ("open", "resolved", "dismissed", "all")

_WARNINGS: LiteralString = """
    select * from billing.admin_fraud_warnings where (%(status)s = 'all' or status = %(status)s)
"""

_CASE: LiteralString = """
    select
        warnings.*, accounts.frozen_reason, accounts.closed_at, accounts.created_at as account_since, accounts.balance,
        accounts.held
    from billing.admin_fraud_warnings as warnings
    left join billing.admin_accounts as accounts on accounts.id = warnings.account_id
    where warnings.stripe_early_fraud_warning_id = %(warning_id)s
"""

_ACTIONS: LiteralString = """
    select * from billing.fraud_actions
    where stripe_early_fraud_warning_id = %(warning_id)s
        or (account_id = %(account_id)s and stripe_early_fraud_warning_id is null)
    order by decided_at desc, id desc
    limit 100
"""

_OTHERS: LiteralString = """
    select stripe_early_fraud_warning_id, warned_at, fraud_type, status from billing.fraud_warnings
    where account_id = %(account_id)s and stripe_early_fraud_warning_id <> %(warning_id)s
    order by warned_at desc limit 10
"""

_DISPUTES: LiteralString = """
    select * from billing.disputes where stripe_charge_id = %(charge_id)s order by disputed_at desc
"""

_REVIEWS: LiteralString = """
    select * from billing.admin_reviews order by is_open desc, opened_at desc limit %(limit)s
"""

_HELD: LiteralString = """
    select * from billing.admin_credit_reviews where %(status)s = 'all' or status = %(status)s
    order by id desc limit %(limit)s
"""


def warnings(request: Request) -> Response:
    """The queue."""
    status = request.query_params.get("status", "open")
    if status not in STATUSES:
        raise HTTPException(404)
    with database(request).reading() as conn:
        common = waiting(conn)
        order = Order("warned_at", "stripe_early_fraud_warning_id")
        found, following = page_of(conn, request, _WARNINGS, order, status=status)
        dry_run = first(conn, "select value from billing.installation() where name = 'fraud_dry_run'", {})
    return page(
        request, "fraud.jinja", found=found, following=following, status=status, statuses=STATUSES,
        is_dry_run=bool(dry_run and dry_run["value"]), **common,
    )  # fmt: skip


def show(request: Request) -> Response:
    """One case."""
    warning_id = request.path_params["warning_id"]
    with database(request).reading() as conn:
        common = waiting(conn)
        case = first(conn, _CASE, {"warning_id": warning_id})
        if case is None:
            raise HTTPException(404)
        asked = {
            "warning_id": warning_id,
            "account_id": case["account_id"],
            "charge_id": case["stripe_charge_id"],
        }
        verdicts = rows(conn, "select * from billing.judge_fraud_warning(%(warning_id)s)", asked)
        actions = rows(conn, _ACTIONS, asked)
        others = rows(conn, _OTHERS, asked)
        disputes = rows(conn, _DISPUTES, asked)
    left_over = (case["amount"] or 0) - (case["amount_refunded"] or 0)
    has_refund = any(each["action"] == "refund" and each["status"] in ("queued", "done") for each in actions)
    can_refund = left_over > 0 and not case["is_disputed"] and not has_refund
    return page(
        request, "case.jinja", case=case, verdicts=verdicts, actions=actions, others=others, disputes=disputes,
        left_over=left_over, can_refund=can_refund, **common,
    )  # fmt: skip


def reviews(request: Request) -> Response:
    """Radar's reviews; decisions are made in Stripe."""
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(conn, _REVIEWS, {"limit": PAGE_ROWS})
    return page(request, "reviews.jinja", found=found, **common)


def held(request: Request) -> Response:
    """Initial and trial credits under review, because the card was seen on another account."""
    status = request.query_params.get("status", "pending")
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(conn, _HELD, {"status": status, "limit": PAGE_ROWS})
    return page(request, "held.jinja", found=found, status=status, **common)
