"""Overage on the running stack: spent by the app's server, billed by the worker, read by the owner of the account."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from cli.shop import Buyer, Shop
from tests.support import as_user

Db = psycopg.Connection[dict[str, Any]]
DEADLINE_SECONDS = 30


def overages_of(db: Db, buyer: Buyer) -> list[tuple[int, int, str]]:
    with as_user(db, buyer.user_id):
        rows = db.execute("select credits, amount, status from public.billing_overages").fetchall()
    return [(row["credits"], row["amount"], row["status"]) for row in rows]


def balance_of(db: Db, buyer: Buyer) -> int:
    with as_user(db, buyer.user_id):
        row = db.execute("select balance from public.credit_balance").fetchone()
    assert row is not None
    return row["balance"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_subscriber_who_spends_beyond_the_plan_is_billed_with_the_renewal(shop: Shop, db: Db) -> None:
    pack = shop.pack(f"Overage {uuid4().hex}", unit_amount=1, pack_credits=1)
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=0, monthly_credits=400)
    terms = {"overage_limit": "100", "overage_pack": pack.id}
    shop.stripe.prices.update(price.id, {"metadata": terms})
    clock = shop.clock(datetime.now(UTC))
    buyer = shop.sign_up(f"{uuid4().hex}@example.com", clock=clock)
    subscription = shop.subscribe(buyer, price)
    shop.settle()
    limit = "select overage_limit from billing.credit_balances where account_id = %s"
    until(lambda: db.execute(limit, [buyer.account_id]).fetchone() == {"overage_limit": 100})

    for amount in (390, 60):
        db.execute(
            "select public.spend_credits(account_id => %s, amount => %s, idempotency_key => %s)",
            [buyer.account_id, amount, uuid4().hex],
        )
    assert balance_of(db, buyer) == -50

    period_end = datetime.fromtimestamp(subscription["items"].data[0].current_period_end, UTC)
    shop.stripe.test_helpers.test_clocks.advance(
        clock, {"frozen_time": int((period_end + timedelta(minutes=10)).timestamp())}
    )
    until(lambda: overages_of(db, buyer) == [(50, 50, "draft")])
    settled = (
        "select stripe_invoice_item_id is not null as is_billed from billing.overages where account_id = %s"
    )
    until(lambda: db.execute(settled, [buyer.account_id]).fetchone() == {"is_billed": True})
    shop.stripe.test_helpers.test_clocks.advance(
        clock, {"frozen_time": int((period_end + timedelta(hours=2)).timestamp())}
    )
    until(lambda: overages_of(db, buyer) == [(50, 50, "paid")])
    assert balance_of(db, buyer) == 400
    [invoice] = [
        found
        for found in shop.stripe.invoices.list({"customer": buyer.customer_id}).data
        if found.billing_reason == "subscription_cycle"
    ]
    assert sorted(line.amount for line in invoice.lines.data) == [50, 1900]
    discrepancies = "select * from billing.ledger_discrepancies where account_id = %s"
    assert db.execute(discrepancies, [buyer.account_id]).fetchall() == []
