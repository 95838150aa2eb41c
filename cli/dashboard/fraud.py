"""Early fraud warnings, reviews and credits under review → the queue, and each case with its actions."""

from typing import LiteralString

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.database import first
from cli.dashboard.paging import PAGE_ROWS, cursor, pages
from cli.dashboard.render import database, page, waiting
from cli.database import rows

STATUSES = ("open", "resolved", "dismissed", "all")

_WARNINGS: LiteralString = """
    with listed as (
        select * from billing.fraud_warnings
        where (%(status)s = 'all' or status = %(status)s)
            and (
                %(before_at)s::timestamptz is null
                or (warned_at, stripe_early_fraud_warning_id) < (%(before_at)s::timestamptz, %(before_id)s::text)
            )
        order by warned_at desc, stripe_early_fraud_warning_id desc
        limit %(limit)s
    )
    select
        listed.stripe_early_fraud_warning_id, listed.account_id, listed.fraud_type, listed.status, listed.warned_at,
        coalesce(listed.risk_level, payments.risk_level) as risk_level, payments.amount, payments.currency,
        payments.is_disputed, emails.email, listed.stripe_customer_id, accounts.frozen_at, listed.actionable,
        (
            select array_agg(fraud_actions.action || ':' || fraud_actions.status order by fraud_actions.id)
            from billing.fraud_actions
            where fraud_actions.stripe_early_fraud_warning_id = listed.stripe_early_fraud_warning_id
                and fraud_actions.action not in ('note', 'alert')
        ) as actions
    from listed
    left join billing.payments on payments.stripe_charge_id = listed.stripe_charge_id
    left join billing.accounts on accounts.id = listed.account_id
    left join billing.account_emails(array(select listed.account_id from listed)) as emails
        on emails.account_id = listed.account_id
    order by listed.warned_at desc, listed.stripe_early_fraud_warning_id desc
"""

_CASE: LiteralString = """
    select
        warnings.*, payments.amount, payments.amount_refunded, payments.currency, payments.charged_at,
        payments.is_disputed, payments.is_liability_shifted, payments.receipt_url,
        coalesce(warnings.risk_level, payments.risk_level) as risk,
        coalesce(warnings.risk_score, payments.risk_score) as score, payments.stripe_charge_id is not null as is_known,
        accounts.frozen_at, accounts.frozen_reason, accounts.closed_at, accounts.created_at as account_since,
        balances.balance, balances.held, emails.email
    from billing.fraud_warnings as warnings
    left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
    left join billing.accounts on accounts.id = warnings.account_id
    left join billing.credit_balances as balances on balances.account_id = warnings.account_id
    left join lateral billing.account_emails(array[warnings.account_id]) as emails on true
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
    select reviews.*, payments.amount, payments.currency, payments.risk_level, emails.email
    from (
        select * from billing.reviews order by is_open desc, opened_at desc limit %(limit)s
    ) as reviews
    left join billing.payments on payments.stripe_charge_id = reviews.stripe_charge_id
    left join lateral billing.account_emails(array[reviews.account_id]) as emails on true
    order by reviews.is_open desc, reviews.opened_at desc
"""

_HELD: LiteralString = """
    select held.*, emails.email, others.email as matched_email
    from (
        select * from billing.held_credits where %(status)s = 'all' or status = %(status)s
        order by id desc limit %(limit)s
    ) as held
    left join lateral billing.account_emails(array[held.account_id]) as emails on true
    left join lateral billing.account_emails(array[held.matched_account_id]) as others on true
    order by held.id desc
"""


def warnings(request: Request) -> Response:
    """The queue."""
    status = request.query_params.get("status", "open")
    if status not in STATUSES:
        raise HTTPException(404)
    with database(request).reading() as conn:
        common = waiting(conn)
        found = rows(conn, _WARNINGS, {"status": status, "limit": PAGE_ROWS + 1} | cursor(request))
        dry_run = first(conn, "select value from billing.installation() where name = 'fraud_dry_run'", {})
    shown, following = pages(found, "warned_at", "stripe_early_fraud_warning_id")
    return page(
        request, "fraud.jinja", found=shown, following=following, status=status, statuses=STATUSES,
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
    can_refund = case["is_known"] and left_over > 0 and not case["is_disputed"] and not has_refund
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
