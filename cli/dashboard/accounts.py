"""Accounts → a search, and a page for each: balance, ledger, lots, holds, subscriptions, payments."""

from typing import Any, LiteralString
from uuid import UUID, uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cli.dashboard import charts
from cli.dashboard.database import first
from cli.dashboard.paging import PAGE_ROWS, cursor, pages
from cli.dashboard.render import database, number, page, waiting
from cli.database import rows

CHART_DAYS = 90
ROWS_MAX = 20

_LISTED: LiteralString = """
    select
        accounts.id, accounts.kind, accounts.name, accounts.created_at, accounts.frozen_at, accounts.closed_at,
        balances.balance, balances.held, balances.debt, emails.email
    from listed
    join billing.accounts on accounts.id = listed.id
    join billing.credit_balances as balances on balances.account_id = accounts.id
    left join billing.account_emails(array(select listed.id from listed)) as emails on emails.account_id = accounts.id
    order by accounts.created_at desc, accounts.id desc
"""
_FOUND: LiteralString = f"""
    with listed as (select id from billing.find_accounts(%(search)s, %(limit)s) as id)
    {_LISTED}
"""  # noqa: S608 - our own text
_NEWEST: LiteralString = f"""
    with listed as (
        select id from billing.accounts
        where %(before_at)s::timestamptz is null or (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
        order by created_at desc, id desc
        limit %(limit)s
    )
    {_LISTED}
"""  # noqa: S608 - our own text

_ACCOUNT: LiteralString = """
    select accounts.*, balances.balance, balances.held, balances.debt, balances.withheld, balances.overdraft,
        balances.spend_cap, balances.spend_cap_period, balances.spent_in_period, balances.low_balance_threshold,
        emails.email
    from billing.accounts
    join billing.credit_balances as balances on balances.account_id = accounts.id
    left join lateral billing.account_emails(array[accounts.id]) as emails on true
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
        select subscriptions.*, (
            select string_agg(coalesce(nullif(plans.nickname, ''), products.name, items.stripe_price_id), ', ')
            from billing.subscription_items as items
            left join billing.plans on plans.stripe_price_id = items.stripe_price_id
            left join billing.products on products.stripe_product_id = plans.stripe_product_id
            where items.stripe_subscription_id = subscriptions.stripe_subscription_id
        ) as plans
        from billing.subscriptions where account_id = %(id)s order by started_at desc limit %(limit)s
    """,
    "payments": """
        select stripe_charge_id, charged_at, amount, amount_refunded, currency, status, is_disputed, risk_level,
            failure_code, receipt_url
        from billing.payments where account_id = %(id)s order by charged_at desc limit %(limit)s
    """,
    "warnings": """
        select stripe_early_fraud_warning_id, warned_at, fraud_type, status from billing.fraud_warnings
        where account_id = %(id)s order by warned_at desc limit %(limit)s
    """,
    "actions": """
        select * from billing.fraud_actions where account_id = %(id)s order by decided_at desc, id desc limit %(limit)s
    """,
}


def search(request: Request) -> Response:
    """The results of a search, or else the newest accounts; an id opens its account at once."""
    text = request.query_params.get("q", "").strip()
    with database(request).reading() as conn:
        common = waiting(conn)
        if text:
            found, following = rows(conn, _FOUND, {"search": text, "limit": PAGE_ROWS}), None
        else:
            listed = rows(conn, _NEWEST, {"limit": PAGE_ROWS + 1} | cursor(request, UUID))
            found, following = pages(listed, "created_at", "id")
    if text and len(found) == 1:
        return RedirectResponse(f"/accounts/{found[0]['id']}", 303)
    return page(request, "accounts.jinja", found=found, following=following, text=text, **common)


def show(request: Request) -> Response:
    """One account."""
    account_id = request.path_params["account_id"]
    before = request.query_params.get("before", "")
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
        levels = rows(conn, _LEVELS, asked | {"now": common["now"], "days": CHART_DAYS})
        entries = rows(conn, _ENTRIES, asked | {"limit": PAGE_ROWS + 1})
        parts = {name: rows(conn, query, asked) for name, query in _PARTS.items()}
    shown = entries[:PAGE_ROWS]
    return page(
        request,
        "account.jinja",
        account=account,
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
