"""Overage on the running stack: spent by the app's server, billed by the worker, read by the owner of the account."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest

from cli.shop import Buyer, Shop
from tests.e2e.api import App, Refused
from tests.e2e.conftest import wait_until
from tests.support import as_user

Db = psycopg.Connection[dict[str, Any]]


def overages_of(db: Db, buyer: Buyer) -> list[tuple[int, int, str]]:
    with as_user(db, buyer.user_id):
        rows = db.execute("select credits, amount, status from public.billing_overages").fetchall()
    return [(row["credits"], row["amount"], row["status"]) for row in rows]


def balance_of(db: Db, buyer: Buyer) -> int:
    with as_user(db, buyer.user_id):
        row = db.execute("select balance from public.credit_balance").fetchone()
    assert row is not None
    return row["balance"]


@dataclass(frozen=True)
class Subscriber:
    """On a test clock, with 400 credits a month and 100 more on account at 1 cent each."""

    buyer: Buyer
    clock: str
    period_end: datetime

    def advance(self, shop: Shop, to: datetime) -> None:
        shop.stripe.test_helpers.test_clocks.advance(self.clock, {"frozen_time": int(to.timestamp())})


def subscriber(shop: Shop, db: Db, interval: Literal["month", "year"] = "month") -> Subscriber:
    pack = shop.pack(f"Overage {uuid4().hex}", unit_amount=1, pack_credits=1)
    product = shop.stripe.products.create({"name": f"Plan {uuid4().hex}"})
    terms = {"monthly_credits": "400", "overage_limit": "100", "overage_pack": pack.id}
    price = shop.stripe.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 1900,
            "recurring": {"interval": interval},
            "metadata": terms,
        }
    )
    clock = shop.clock(datetime.now(UTC))
    buyer = shop.sign_up(f"{uuid4().hex}@example.com", clock=clock)
    subscription = shop.subscribe(buyer, price)
    shop.settle()
    limit = "select overage_limit from billing.credit_balances where account_id = %s"
    wait_until(
        lambda: db.execute(limit, [buyer.account_id]).fetchone() == {"overage_limit": 100}, "the limit is set"
    )
    period_end = datetime.fromtimestamp(subscription["items"].data[0].current_period_end, UTC)
    return Subscriber(buyer, clock, period_end)


def spend(clients: App, buyer: Buyer, amount: int) -> None:
    clients.server.rpc(
        "spend_credits", account_id=str(buyer.account_id), amount=amount, idempotency_key=uuid4().hex
    )


def assert_sound(db: Db, buyer: Buyer) -> None:
    discrepancies = "select * from billing.ledger_discrepancies where account_id = %s"
    assert db.execute(discrepancies, [buyer.account_id]).fetchall() == []


def test_a_subscriber_who_spends_beyond_the_plan_is_billed_with_the_renewal(
    shop: Shop, db: Db, clients: App
) -> None:
    subscribed = subscriber(shop, db)
    buyer, period_end = subscribed.buyer, subscribed.period_end
    for amount in (390, 60):
        spend(clients, buyer, amount)
    with pytest.raises(Refused) as caught:
        spend(clients, buyer, 51)
    assert caught.value.code == "TB001"
    assert balance_of(db, buyer) == -50

    subscribed.advance(shop, period_end + timedelta(minutes=10))
    wait_until(lambda: overages_of(db, buyer) == [(50, 50, "draft")], "the overage is on a draft")
    settled = (
        "select stripe_invoice_item_id is not null as is_billed from billing.overages where account_id = %s"
    )
    wait_until(
        lambda: db.execute(settled, [buyer.account_id]).fetchone() == {"is_billed": True},
        "the overage is billed",
    )
    subscribed.advance(shop, period_end + timedelta(hours=2))
    wait_until(lambda: overages_of(db, buyer) == [(50, 50, "paid")], "the overage is paid")
    assert balance_of(db, buyer) == 400
    [invoice] = [
        found
        for found in shop.stripe.invoices.list({"customer": buyer.customer_id}).data
        if found.billing_reason == "subscription_cycle"
    ]
    assert sorted(line.amount for line in invoice.lines.data) == [50, 1900]
    assert_sound(db, buyer)


def test_a_month_of_a_yearly_plan_is_billed_alone_and_its_refund_takes_as_much(
    shop: Shop, db: Db, clients: App
) -> None:
    subscribed = subscriber(shop, db, "year")
    buyer = subscribed.buyer
    spend(clients, buyer, 450)
    subscribed.advance(shop, datetime.now(UTC) + timedelta(days=32))
    wait_until(lambda: overages_of(db, buyer) == [(50, 50, "paid")], "the overage is paid")
    wait_until(lambda: balance_of(db, buyer) == 400, "the credits are granted")
    [charge] = [
        charge
        for charge in shop.stripe.charges.list({"customer": buyer.customer_id}).data
        if charge.amount == 50
    ]
    shop.stripe.refunds.create({"charge": charge.id})
    shop.settle()
    # The new month's credits had repaid what was owed, so the pack's are unspent and go: 450 of 800 were used.
    wait_until(lambda: balance_of(db, buyer) == 350, "the refund is known")
    assert_sound(db, buyer)


def test_a_recharge_that_repays_in_time_leaves_nothing_to_bill(shop: Shop, db: Db, clients: App) -> None:
    subscribed = subscriber(shop, db)
    buyer = subscribed.buyer
    pack = shop.pack(f"Recharge {uuid4().hex}", unit_amount=300, pack_credits=300)
    shop.settle()
    clients.server.rpc(
        "set_recharge", account_id=str(buyer.account_id), threshold=10, stripe_price_id=pack.id
    )
    spend(clients, buyer, 450)
    wait_until(lambda: balance_of(db, buyer) == 250, "the recharge is paid")
    subscribed.advance(shop, subscribed.period_end + timedelta(hours=2))
    wait_until(lambda: balance_of(db, buyer) == 650, "the renewal is granted")
    shop.settle()
    assert overages_of(db, buyer) == []
    assert_sound(db, buyer)
