"""The settings, the fraud policy and the catalogue → one page; they are changed in SQL and in Stripe."""

from typing import LiteralString

from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard.render import database, page, waiting
from cli.database import rows
from cli.fraud_policy import FIELDS, policies, value_text

_PLANS: LiteralString = """
    select plans.*, products.name from billing.plans join billing.products using (stripe_product_id)
    where plans.livemode = (select billing.is_livemode())
    order by plans.active desc, products.name, plans.recurring_interval, plans.unit_amount
    limit 200
"""
_PACKS: LiteralString = """
    select credit_packs.*, products.name from billing.credit_packs join billing.products using (stripe_product_id)
    where credit_packs.livemode = (select billing.is_livemode())
    order by credit_packs.active desc, credit_packs.pack_credits
    limit 200
"""


def show(request: Request) -> Response:
    """The settings of this installation."""
    with database(request).reading() as conn:
        common = waiting(conn)
        values = {
            "settings": rows(conn, "select * from billing.installation()", {}),
            "fields": list(FIELDS.values()),
            "policies": [
                each | {field.column: value_text(each[field.column]) for field in FIELDS.values()}
                for each in policies(conn)
            ],
            "plans": rows(conn, _PLANS, {}),
            "packs": rows(conn, _PACKS, {}),
        }
    return page(request, "settings.jinja", **values, **common)
