"""Accounts → the list, and a page for each: what was paid, what it is worth, what the ledger holds, what is missing."""

from typing import Any, LiteralString
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard import charts
from cli.dashboard.database import first
from cli.dashboard.paging import PAGE_ROWS, Order, page_of
from cli.dashboard.render import database, number, page, waiting
from cli.database import rows
from cli.explain import case_of

CHART_DAYS = 90
ROWS_MAX = 10

_ACCOUNT: LiteralString = """
    select accounts.*, balances.overdraft, balances.spend_cap, balances.spend_cap_period, balances.spent_in_period,
        balances.low_balance_threshold
    from billing.admin_accounts as accounts
    join billing.credit_balances as balances on balances.account_id = accounts.id
    where accounts.id = %(id)s
"""

# The balance at each day's end, from today's balance backwards; the movements come from an index.
_LEVELS: LiteralString = """
    with moved as (
        select (occurred_at at time zone 'utc')::date as day, sum(amount) as net
        from billing.credit_entries
        where account_id = %(id)s
            and occurred_at >= (%(now)s::timestamptz at time zone 'utc')::date - (%(days)s::integer - 1)
        group by 1
    )
    select series.day::date as day, (balances.balance - coalesce(sum(moved.net) over later, 0))::bigint as level
    from generate_series(
        (%(now)s::timestamptz at time zone 'utc')::date - (%(days)s::integer - 1),
        (%(now)s::timestamptz at time zone 'utc')::date, interval '1 day'
    ) as series (day)
    cross join (select balance from billing.credit_balances where account_id = %(id)s) as balances
    left join moved on moved.day = series.day::date
    window later as (order by series.day desc rows between unbounded preceding and 1 preceding)
    order by series.day
"""
_ENTRIES: LiteralString = """
    select id, kind, amount, balance_after, source, description, feature, actor, occurred_at, reference_id
    from billing.credit_entries
    where account_id = %(id)s and (%(before)s::bigint is null or id < %(before)s)
    order by id desc
    limit %(limit)s
"""
_PARTS: dict[str, LiteralString] = {
    "lots": """
        select id, amount, remaining, held, priority, effective_at, expires_at, source, description, entry_id
        from billing.credit_grants where account_id = %(id)s and closed_at is null
        order by priority, expires_at nulls last, id limit %(limit)s
    """,
    "holds": """
        select id, amount, captured, description, expires_at, created_at, frozen_grant_id from billing.credit_holds
        where account_id = %(id)s and status = 'held' order by expires_at limit %(limit)s
    """,
    "customers": """
        select stripe_customer_id, email, name, livemode, deleted_at, duplicate_of from billing.customers
        where account_id = %(id)s order by duplicate_of nulls first, id limit %(limit)s
    """,
    "subscriptions": """
        select * from billing.admin_subscriptions where account_id = %(id)s order by started_at desc limit %(limit)s
    """,
    "payments": """
        select stripe_charge_id, charged_at, amount, amount_refunded, currency, status, is_disputed, risk_level,
            failure_code, receipt_url
        from billing.payments where account_id = %(id)s order by charged_at desc limit %(limit)s
    """,
    "warnings": """
        select * from billing.admin_fraud_warnings where account_id = %(id)s order by warned_at desc limit %(limit)s
    """,
    "actions": """
        select * from billing.fraud_actions where account_id = %(id)s order by decided_at desc, id desc limit %(limit)s
    """,
}


def listing(request: Request) -> Response:
    """The newest accounts."""
    with database(request).reading() as conn:
        common = waiting(conn)
        found, following = page_of(
            conn,
            request,
            "select * from billing.admin_accounts where true",
            Order("created_at", "id", "uuid"),
        )
    return page(request, "accounts.jinja", found=found, following=following, **common)


def show(request: Request) -> Response:
    """One account."""
    account_id = request.path_params["account_id"]
    before = request.query_params.get("before", "")
    is_proved = "prove" in request.query_params
    asked: dict[str, Any] = {
        "id": account_id,
        "limit": ROWS_MAX,
        "before": int(before) if before.isdecimal() and len(before) < 19 else None,
    }
    with database(request).reading() as conn:
        common = waiting(conn)
        account = first(conn, _ACCOUNT, asked)
        if account is None:
            raise HTTPException(404)
        case = case_of(conn, account_id, is_proved=is_proved)
        levels = rows(conn, _LEVELS, asked | {"now": common["now"], "days": CHART_DAYS})
        entries = rows(conn, _ENTRIES, asked | {"limit": PAGE_ROWS + 1})
        parts = {name: rows(conn, query, asked) for name, query in _PARTS.items()}
    shown = entries[:PAGE_ROWS]
    return page(
        request,
        "account.jinja",
        account=account,
        case=case,
        is_proved=is_proved,
        levels=charts.line(
            [charts.Figure(each["day"], each["level"]) for each in levels], write=number, name="credits"
        ),
        entries=shown,
        following=shown[-1]["id"] if len(entries) > PAGE_ROWS else None,
        is_first=asked["before"] is None,
        # Sent with the form, so that a double click adjusts once.
        key=f"dashboard:{uuid4()}",
        **parts,
        **common,
    )
