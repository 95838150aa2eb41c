"""A shop in the middle of its day on a local stack: history, subscribers, warnings, a dispute, a dead letter."""

import json
from dataclasses import dataclass

import psycopg

from cli.shop import Buyer, Shop
from tests.dashboard.history import play

PEOPLE = ("ada", "grace", "katherine", "barbara", "hedy", "mary", "dorothy", "annie")
DEAD_EVENT = "evt_without_parent"


@dataclass(frozen=True)
class Scene:
    """Who is in it, and the warnings about them, oldest first."""

    buyers: dict[str, Buyer]
    warnings: list[str]
    # A customer of nobody, who paid.
    unlinked: str


def set_scene(shop: Shop, database_url: str) -> Scene:
    """Play it all at the stack's Stripe, and its history in the database."""
    buyers = {name: shop.sign_up(f"{name}@example.com") for name in PEOPLE}
    regulars = [buyers[name] for name in PEOPLE[:6]]
    with psycopg.connect(database_url, autocommit=True) as admin:
        play(admin, [each.account_id for each in regulars], [each.customer_id for each in regulars])
    pro = shop.plan("Pro", unit_amount=4900, initial_credits=500, monthly_credits=1200)
    starter = shop.plan("Starter", unit_amount=1900, initial_credits=100, monthly_credits=400)
    shop.settle()
    for index, buyer in enumerate(regulars[:4]):
        shop.subscribe(buyer, pro if index % 2 == 0 else starter)
    leaving = shop.subscribe(buyers["dorothy"], starter)
    shop.stripe.subscriptions.update(leaving.id, {"cancel_at_period_end": True})
    shop.settle()
    body = {
        "id": DEAD_EVENT,
        "object": "event",
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1"}},
    }
    with shop.connect() as conn:
        conn.execute(
            "select billing.receive_stripe_event(%s, 'invoice.paid', '2026-10-28.endive', "
            "extract(epoch from now())::bigint, false, %s)",
            [DEAD_EVENT, json.dumps(body)],
        )
    warn(shop, buyers["grace"], 1900, "elevated", "unauthorized_use_of_card")
    warn(shop, buyers["annie"], 7900, "highest", "made_with_stolen_card")
    warn(shop, buyers["mary"], 4900, "normal", "misc")
    charge = shop.pay_once(buyers["barbara"], 4900)
    shop.control("post", f"/charges/{charge}/review", {"reason": "rule"})
    shop.settle()
    # Last, so that the worker's page has an event with a long name to show.
    charge = shop.pay_once(buyers["katherine"], 1900)
    shop.control("post", f"/charges/{charge}/dispute", {"reason": "product_not_received"})
    shop.settle()
    eve = shop.stripe.customers.create({"email": "eve@example.com", "name": "Eve Moneypenny"})
    intent = {
        "amount": 2900,
        "currency": "usd",
        "customer": eve.id,
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    shop.stripe.payment_intents.create(intent | {"off_session": True})
    shop.settle()
    with shop.connect() as conn:
        warned = conn.execute(
            "select stripe_early_fraud_warning_id from billing.fraud_warnings order by created_at"
        ).fetchall()
    return Scene(buyers, [warning_id for (warning_id,) in warned], eve.id)


def warn(shop: Shop, buyer: Buyer, amount: int, risk_level: str, fraud_type: str) -> None:
    """A payment, and its issuer's early warning."""
    charge = shop.pay_once(buyer, amount)
    shop.control("post", f"/charges/{charge}/outcome", {"risk_level": risk_level})
    shop.control("post", f"/charges/{charge}/early_fraud_warning", {"fraud_type": fraud_type})
