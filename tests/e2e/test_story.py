"""A signed event in, credits out: on the running stack, read as the user reads."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg

from cli.shop import Buyer, Shop
from stripe_local.resources.periods import months_later
from tests.e2e.conftest import Deliverer
from tests.support import as_anon, as_user

Db = psycopg.Connection[dict[str, Any]]


def balance_of(db: Db, buyer: Buyer) -> int:
    with as_user(db, buyer.user_id):
        return db.execute("select balance from public.credit_balance").fetchone()["balance"]


def sign_up(shop: Shop) -> Buyer:
    return shop.sign_up(f"{uuid4().hex}@example.com")


def event(type: str, object: dict[str, Any], created: int | None = None) -> dict[str, Any]:
    return {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": type,
        "api_version": "2026-10-28.endive",
        "created": created or int(time.time()),
        "livemode": False,
        "data": {"object": object},
    }


def paid_invoice(buyer: Buyer, price_id: str) -> dict[str, Any]:
    """A paid invoice of a subscription that nobody told us of yet."""
    unique, now = uuid4().hex, int(time.time())
    return {
        "id": f"in_{unique}",
        "object": "invoice",
        "customer": buyer.customer_id,
        "livemode": False,
        "status": "paid",
        "billing_reason": "subscription_create",
        "currency": "usd",
        "subtotal": 1900,
        "total": 1900,
        "amount_due": 1900,
        "amount_paid": 1900,
        "attempt_count": 1,
        "next_payment_attempt": None,
        "hosted_invoice_url": None,
        "created": now,
        "status_transitions": {"paid_at": now},
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": f"sub_{unique}"}},
        "lines": {
            "has_more": False,
            "data": [
                {
                    "id": f"il_{unique}",
                    "amount": 1900,
                    "quantity": 1,
                    "parent": {
                        "type": "subscription_item_details",
                        "subscription_item_details": {
                            "subscription_item": f"si_{unique}",
                            "proration": False,
                        },
                    },
                    "pricing": {"price_details": {"price": price_id, "product": "prod_x"}},
                    "period": {"start": now, "end": months_later(now, 1)},
                }
            ],
        },
    }


def test_a_paid_checkout_becomes_credits_that_only_its_user_reads(shop: Shop, db: Db) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=500, monthly_credits=1000)
    ada, bob = sign_up(shop), sign_up(shop)
    shop.pay_checkout(ada, price)
    shop.settle()

    assert balance_of(db, ada) == 1500
    assert balance_of(db, bob) == 0
    with as_user(db, ada.user_id):
        subscription = db.execute(
            "select status, stripe_price_id from public.billing_subscription"
        ).fetchall()
        sources = db.execute("select source, amount from public.credit_history order by id").fetchall()
    assert subscription == [{"status": "active", "stripe_price_id": price.id}]
    assert sources == [
        {"source": "stripe.subscription", "amount": 500},
        {"source": "stripe.monthly_allocation", "amount": 1000},
    ]
    with as_anon(db):
        plans = db.execute("select stripe_price_id from public.billing_plans").fetchall()
    assert {"stripe_price_id": price.id} in plans


def test_twenty_deliveries_at_once_and_a_second_event_of_the_payment_grant_once(
    shop: Shop, db: Db, deliver: Deliverer
) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=0, monthly_credits=1000)
    buyer = sign_up(shop)
    shop.settle()
    first = event("invoice.paid", paid_invoice(buyer, price.id))
    second = {**first, "id": f"evt_{uuid4().hex}"}

    with ThreadPoolExecutor(10) as pool:
        answers = [answer.json()["received"] for answer in pool.map(deliver, [first] * 20 + [second])]
    shop.settle()

    assert sorted(answers) == ["duplicate"] * 19 + ["queued"] * 2
    assert balance_of(db, buyer) == 1000


def test_a_paid_invoice_before_its_subscription_still_grants_once(
    shop: Shop, db: Db, deliver: Deliverer
) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=500, monthly_credits=1000)
    buyer = sign_up(shop)
    shop.settle()
    invoice = paid_invoice(buyer, price.id)
    assert deliver(event("invoice.paid", invoice)).status_code == 200
    shop.settle()
    assert balance_of(db, buyer) == 1500

    line, now = invoice["lines"]["data"][0], int(time.time())
    subscription = {
        "id": invoice["parent"]["subscription_details"]["subscription"],
        "object": "subscription",
        "customer": buyer.customer_id,
        "livemode": False,
        "status": "active",
        "currency": "usd",
        "billing_cycle_anchor": now,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "trial_start": None,
        "trial_end": None,
        "pause_collection": None,
        "metadata": {},
        "start_date": now,
        "items": {
            "has_more": False,
            "data": [
                {
                    "id": line["parent"]["subscription_item_details"]["subscription_item"],
                    "price": {"id": price.id, "product": "prod_x"},
                    "quantity": 1,
                    "current_period_start": line["period"]["start"],
                    "current_period_end": line["period"]["end"],
                }
            ],
        },
    }
    assert deliver(event("customer.subscription.created", subscription)).status_code == 200
    shop.settle()
    assert balance_of(db, buyer) == 1500


def test_an_unknown_plan_is_a_dead_letter_and_a_retry_grants_once_the_plan_is_there(
    shop: Shop, db: Db, deliver: Deliverer, till: Callable[..., Any]
) -> None:
    buyer = sign_up(shop)
    price_id = f"price_{uuid4().hex}"
    told = event("invoice.paid", paid_invoice(buyer, price_id))
    deliver(told)
    shop.settle()

    [dead] = [
        e
        for e in json.loads(till("events", "list", "--status", "dead", "--json").stdout)
        if e["stripe_event_id"] == told["id"]
    ]
    assert price_id in dead["last_error"]
    assert "billing.plans" in dead["last_error"]
    assert balance_of(db, buyer) == 0

    db.execute(
        "insert into billing.products (stripe_product_id, livemode, name) values ('prod_x', false, 'X') "
        "on conflict do nothing"
    )
    db.execute(
        "insert into billing.plans (stripe_price_id, stripe_product_id, monthly_credits) values (%s, 'prod_x', 70)",
        [price_id],
    )
    till("events", "retry", told["id"])
    shop.settle()
    assert balance_of(db, buyer) == 70
    till("events", "retry", told["id"])
    shop.settle()
    assert balance_of(db, buyer) == 70


def test_a_shape_that_nobody_knows_is_a_dead_letter_and_the_rest_flows(
    shop: Shop, db: Db, deliver: Deliverer, till: Callable[..., Any]
) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=0, monthly_credits=1000)
    buyer = sign_up(shop)
    shop.settle()
    strange = event("invoice.paid", {**paid_invoice(buyer, price.id), "lines": {"entries": []}})
    unstorable = event("invoice.paid", {**paid_invoice(buyer, price.id), "hosted_invoice_url": "a\x00b"})
    for told in (strange, unstorable, event("invoice.paid", paid_invoice(buyer, price.id))):
        assert deliver(told).status_code == 200
    shop.settle()

    assert balance_of(db, buyer) == 1000
    for told, reason in ((strange, "event.data.object.lines"), (unstorable, "\\u0000")):
        shown = json.loads(till("events", "show", told["id"], "--json").stdout)
        assert (shown["status"], json.loads(shown["payload"])["id"]) == ("dead", told["id"])
        assert reason in shown["last_error"]


def test_the_other_mode_and_unknown_types_are_recorded_and_ignored(
    deliver: Deliverer, db: Db, shop: Shop
) -> None:
    live = {**event("invoice.paid", {}), "livemode": True}
    unknown = event("climate.order.created", {"object": "climate.order"})
    assert deliver(live).json() == {"received": "ignored"}
    assert deliver(unknown).status_code == 200
    shop.settle()
    for told, reason in ((live, "livemode"), (unknown, "climate.order.created")):
        row = db.execute(
            "select status, last_error from billing.stripe_events where stripe_event_id = %s", [told["id"]]
        )
        found = row.fetchone()
        assert found["status"] == "ignored"
        assert reason in found["last_error"]


def test_five_updates_within_a_second_end_in_the_last_one(shop: Shop, db: Db) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=0, monthly_credits=1000)
    subscription = shop.pay_checkout(sign_up(shop), price)
    shop.control("post", "/faults", {"reorder": 5, "seed": 7})
    try:
        for number in range(5):
            shop.stripe.subscriptions.update(subscription, {"metadata": {"number": str(number)}})
        shop.settle()
    finally:
        shop.control("post", "/faults", {})

    found = db.execute(
        "select metadata from billing.subscriptions where stripe_subscription_id = %s", [subscription]
    )
    assert found.fetchone() == {"metadata": {"number": "4"}}


def test_a_highest_risk_fraud_warning_freezes_the_account(
    shop: Shop, db: Db, till: Callable[..., Any]
) -> None:
    buyer = sign_up(shop)
    till("credits", "grant", str(buyer.account_id), "10")
    charge = shop.pay_once(buyer, 1900)
    shop.control("post", f"/charges/{charge}/outcome", {"risk_level": "highest"})
    shop.control("post", f"/charges/{charge}/early_fraud_warning", {"fraud_type": "misc"})
    shop.settle()

    warning = db.execute(
        "select risk_level, account_id from billing.fraud_warnings where stripe_charge_id = %s", [charge]
    )
    assert warning.fetchone() == {"risk_level": "highest", "account_id": buyer.account_id}
    refused = till("credits", "spend", str(buyer.account_id), "1", expect=1)
    assert "TB003" in refused.stderr


def test_the_books_are_in_order(shop: Shop, db: Db) -> None:
    shop.settle()
    assert db.execute("select * from billing.ledger_discrepancies").fetchall() == []
