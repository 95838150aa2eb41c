"""An id of Stripe's → its page in Stripe's Dashboard."""

from urllib.parse import quote

DASHBOARD = "https://dashboard.stripe.com"
# Kinds of objects that have a page of their own; the Dashboard's search finds the others by their id.
PAGES = {
    "cus": "customers",
    "sub": "subscriptions",
    "sub_sched": "subscription_schedules",
    "in": "invoices",
    "pi": "payments",
    "ch": "payments",
    "py": "payments",
    "re": "refunds",
    "pyr": "refunds",
    "dp": "disputes",
    "du": "disputes",
    "prod": "products",
    "price": "prices",
    "plink": "payment-links",
    "evt": "events",
    "we": "webhooks",
    "po": "payouts",
    "req": "logs",
}


def dashboard_url(
    stripe_id: str, *, livemode: bool, account: str | None = None, dashboard: str = DASHBOARD
) -> str:
    """The page of an object: its own, else what the Dashboard's search finds by its id."""
    parts = [dashboard, *([account] if account else []), *([] if livemode else ["test"])]
    kinds = [kind for kind in PAGES if stripe_id.startswith(f"{kind}_")]
    page = PAGES[max(kinds, key=len)] if kinds else None
    here = quote(stripe_id, safe="")
    return "/".join([*parts, page, here] if page else [*parts, f"search?query={here}"])
