"""Overview → revenue, credit liability, and what needs attention."""

from typing import Any, LiteralString

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard import charts
from cli.dashboard.attention import waiting_kinds
from cli.dashboard.database import first
from cli.dashboard.render import database, money, number, page, waiting
from cli.database import row, rows

DAYS = (30, 90, 365)

# Payments by their day, and refunds by theirs.
_REVENUE: LiteralString = """
    with days as (
        select day::date as day from generate_series(
            (%(now)s::timestamptz at time zone 'utc')::date - (%(days)s::integer - 1),
            (%(now)s::timestamptz at time zone 'utc')::date, interval '1 day'
        ) as day
    ),
    paid as (
        select (charged_at at time zone 'utc')::date as day, sum(amount) as amount
        from billing.payments
        where status = 'succeeded' and currency = %(currency)s and livemode = (select billing.is_livemode())
            and charged_at >= (%(now)s::timestamptz at time zone 'utc')::date - %(days)s::integer
        group by 1
    ),
    returned as (
        select (refunded_at at time zone 'utc')::date as day, sum(amount) as amount
        from billing.refunds
        where status not in ('failed', 'canceled') and currency = %(currency)s
            and refunded_at >= (%(now)s::timestamptz at time zone 'utc')::date - %(days)s::integer
        group by 1
    )
    select days.day, coalesce(paid.amount, 0)::bigint as paid, coalesce(returned.amount, 0)::bigint as returned
    from days left join paid using (day) left join returned using (day)
    order by days.day
"""

_CURRENCIES: LiteralString = """
    select currency, sum(amount)::bigint as amount, count(*) as payments
    from billing.payments
    where status = 'succeeded' and livemode = (select billing.is_livemode())
        and charged_at >= (%(now)s::timestamptz at time zone 'utc')::date - %(days)s::integer
    group by currency order by count(*) desc, currency
"""

# From today's balances backwards: adds up only later movements.
_LIABILITY: LiteralString = """
    with moved as (
        select (occurred_at at time zone 'utc')::date as day, sum(amount) as net,
            sum(amount) filter (where amount > 0) as came, -sum(amount) filter (where amount < 0) as went
        from billing.credit_entries
        where occurred_at >= (%(now)s::timestamptz at time zone 'utc')::date - (%(days)s::integer - 1)
        group by 1
    ),
    today as (
        select coalesce(sum(balance), 0) as total, coalesce(sum(held), 0) as held, coalesce(sum(debt), 0) as debt,
            count(*) filter (where balance > 0) as accounts
        from billing.credit_balances
    )
    select
        series.day::date as day, today.held::bigint, today.debt::bigint, today.accounts,
        coalesce(moved.came, 0)::bigint as came, coalesce(moved.went, 0)::bigint as went,
        (today.total - coalesce(sum(moved.net) over later, 0))::bigint as outstanding
    from generate_series(
        (%(now)s::timestamptz at time zone 'utc')::date - (%(days)s::integer - 1),
        (%(now)s::timestamptz at time zone 'utc')::date, interval '1 day'
    ) as series (day)
    cross join today
    left join moved on moved.day = series.day::date
    window later as (order by series.day desc rows between unbounded preceding and 1 preceding)
    order by series.day
"""

_SUBSCRIBERS: LiteralString = """
    select
        count(*) filter (where is_live) as live,
        count(*) filter (where status = 'trialing') as trialing,
        count(*) filter (where status = 'past_due') as past_due
    from billing.admin_subscriptions where livemode = (select billing.is_livemode())
"""

_LAST_EVENT: LiteralString = """
    select received_at, type from billing.stripe_events order by received_at desc limit 1
"""


def show(request: Request) -> Response:
    """The first page."""
    days = _days(request)
    with database(request).reading() as conn:
        common = waiting(conn)
        asked = {"now": common["now"], "days": days}
        currencies = rows(conn, _CURRENCIES, asked)
        currency = _currency(request, currencies)
        money_flow = rows(conn, _REVENUE, asked | {"currency": currency})
        liability = rows(conn, _LIABILITY, asked)
        values = {
            "subscribers": row(conn, _SUBSCRIBERS, {}),
            "state": row(conn, "select * from billing.worker_state()", {}),
            "last_event": first(conn, _LAST_EVENT, {}),
        }
    return page(
        request,
        "overview.jinja",
        days=days,
        choices=DAYS,
        currency=currency,
        currencies=[each["currency"] for each in currencies],
        paid=sum(each["paid"] for each in money_flow),
        returned=sum(each["returned"] for each in money_flow),
        payments=next((each["payments"] for each in currencies if each["currency"] == currency), 0),
        today=liability[-1],
        granted=sum(each["came"] for each in liability),
        used=sum(each["went"] for each in liability),
        attention=list(waiting_kinds(common["waiting"])),
        revenue=charts.bars(
            [charts.Figure(each["day"], each["paid"], each["returned"]) for each in money_flow],
            write=lambda amount: money(amount, currency),
            names=("paid", "given back"),
        ),
        liability=charts.line(
            [charts.Figure(each["day"], each["outstanding"]) for each in liability],
            write=number,
            name="credits outstanding",
        ),
        **values,
        **common,
    )


def _days(request: Request) -> int:
    wanted = request.query_params.get("days", "")
    return int(wanted) if wanted in map(str, DAYS) else DAYS[0]


def _currency(request: Request, currencies: Any) -> str:
    """The requested currency, or else the one with the most payments."""
    known = [each["currency"] for each in currencies]
    wanted = request.query_params.get("currency", "")
    return wanted if wanted in known else known[0] if known else "usd"
