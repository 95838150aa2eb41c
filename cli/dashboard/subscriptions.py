"""Subscriptions → plans, periods and cancellations."""

from typing import LiteralString

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.paging import PAGE_ROWS, cursor, pages
from cli.dashboard.render import database, page, waiting
from cli.database import rows

# In the order of the tabs; incomplete statuses come last.
STATUSES = (
    "active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete", "incomplete_expired"
)  # fmt: skip

_COUNTS: LiteralString = """
    select status, count(*) as number from billing.subscriptions
    where livemode = billing.is_livemode() group by status
"""

_SUBSCRIPTIONS: LiteralString = """
    with listed as (
        select * from billing.subscriptions
        where livemode = billing.is_livemode() and (%(status)s::text is null or status = %(status)s)
            and (
                %(before_at)s::timestamptz is null
                or (started_at, stripe_subscription_id) < (%(before_at)s::timestamptz, %(before_id)s::text)
            )
        order by started_at desc, stripe_subscription_id desc
        limit %(limit)s
    )
    select listed.*, emails.email, items.plans, items.period_end
    from listed
    left join lateral (
        select
            string_agg(
                coalesce(nullif(plans.nickname, ''), products.name, subscription_items.stripe_price_id)
                    || case when subscription_items.quantity > 1 then ' × ' || subscription_items.quantity else '' end,
                ', ' order by subscription_items.stripe_subscription_item_id
            ) as plans,
            max(subscription_items.current_period_end) as period_end
        from billing.subscription_items
        left join billing.plans on plans.stripe_price_id = subscription_items.stripe_price_id
        left join billing.products on products.stripe_product_id = plans.stripe_product_id
        where subscription_items.stripe_subscription_id = listed.stripe_subscription_id
    ) as items on true
    left join billing.account_emails(array(select listed.account_id from listed)) as emails
        on emails.account_id = listed.account_id
    order by listed.started_at desc, listed.stripe_subscription_id desc
"""


def show(request: Request) -> Response:
    """The list."""
    wanted = request.query_params.get("status", "")
    status = wanted if wanted in STATUSES else None
    with database(request).reading() as conn:
        common = waiting(conn)
        counts = {each["status"]: each["number"] for each in rows(conn, _COUNTS, {})}
        found = rows(conn, _SUBSCRIPTIONS, {"status": status, "limit": PAGE_ROWS + 1} | cursor(request))
    shown, following = pages(found, "started_at", "stripe_subscription_id")
    return page(
        request, "subscriptions.jinja", found=shown, following=following, status=status,
        statuses=[each for each in STATUSES if counts.get(each)], counts=counts, **common,
    )  # fmt: skip
