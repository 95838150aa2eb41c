"""Subscriptions on a Stripe test clock live at its time, also where billing time cannot be moved; others don't."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    Connection,
    allocate,
    answer,
    available,
    balance,
    discrepancies,
    entries,
    fetch,
    item,
    line,
    link,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.test_packs import buy, pack
from tests.support import Database, account_of, create_user

START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
YEAR = timedelta(days=365)
CLOCK = "clock_1"


def subscribe(worker: Connection, customer: str, clock: str | None, interval: str = "year") -> None:
    end = START + (YEAR if interval == "year" else timedelta(days=30))
    number = customer.removeprefix("cus_")
    sync_product(worker, as_of=START)
    sync_price(
        worker,
        stripe_price_id=f"price_{interval}",
        recurring_interval=interval,
        metadata={"monthly_credits": "100", "credits_rollover": "none"},
        as_of=START,
    )
    about: dict[str, Any] = {
        "stripe_price_id": f"price_{interval}",
        "stripe_subscription_item_id": f"si_{number}",
    }
    sync_subscription(
        worker,
        stripe_subscription_id=f"sub_{number}",
        stripe_customer_id=customer,
        stripe_test_clock_id=clock,
        billing_cycle_anchor=START,
        started_at=START,
        as_of=START,
        items=[item(**about, current_period_start=START, current_period_end=end)],
    )
    sync_invoice(
        worker,
        stripe_invoice_id=f"in_{number}",
        stripe_subscription_id=f"sub_{number}",
        stripe_customer_id=customer,
        invoiced_at=START,
        paid_at=START,
        as_of=START,
        lines=[line(f"il_{number}", **about, period_start=START, period_end=end)],
    )


def advance(worker: Connection, days: int, clock: str = CLOCK, livemode: bool = False) -> str:
    arguments = {
        "stripe_test_clock_id": clock,
        "livemode": livemode,
        "frozen_at": START + timedelta(days=days),
    }
    return answer(worker, "sync_test_clock", **arguments)


@pytest.fixture
def other_account(database: Database, conn: Connection) -> UUID:
    return account_of(conn, create_user(database))


@pytest.fixture
def customer(app: Connection, account: UUID) -> UUID:
    link(app, account, "cus_1")
    return account


def sound(conn: Connection) -> bool:
    return discrepancies(conn) == [] and fetch(conn, "select * from billing.entitlement_discrepancies") == []


def test_months_begin_and_expire_by_the_test_clock(
    app: Connection, worker: Connection, customer: UUID
) -> None:
    subscribe(worker, "cus_1", CLOCK)
    assert balance(app, customer) == 100
    assert advance(worker, 65) == "applied"
    assert entries(app, customer) == [("grant", 100)] * 3 + [("expiry", -100)] * 2
    assert available(app, customer) == 100
    assert sound(app)
    assert advance(worker, 65) == advance(worker, 40) == "stale"
    allocate(app)
    assert balance(app, customer) == 100


def test_what_is_paid_after_the_clock_arrived_expires_by_it_too(
    app: Connection, worker: Connection, customer: UUID
) -> None:
    advance(worker, 65)
    subscribe(worker, "cus_1", CLOCK)
    assert balance(app, customer) == 100
    assert sound(app)


def test_pack_that_is_reported_after_the_clock_arrived_expires_by_it_too(
    app: Connection, worker: Connection, customer: UUID
) -> None:
    subscribe(worker, "cus_1", CLOCK)
    advance(worker, 20)
    pack(worker, metadata={"pack_credits": "500", "pack_expires_after": "10 days"})
    buy(worker, opened_at=START, as_of=START)
    assert balance(app, customer) == 100
    assert sound(app)


def test_others_live_at_billing_time(
    app: Connection, worker: Connection, customer: UUID, other_account: UUID
) -> None:
    link(app, other_account, "cus_2")
    subscribe(worker, "cus_1", CLOCK)
    subscribe(worker, "cus_2", None)
    advance(worker, 65)
    assert (balance(app, customer), balance(app, other_account)) == (100, 100)
    assert len(entries(app, other_account)) == 1
    assert sound(app)


def test_a_clock_of_live_mode_moves_nothing(app: Connection, worker: Connection, customer: UUID) -> None:
    subscribe(worker, "cus_1", CLOCK)
    assert advance(worker, 65, livemode=True) == "stale"
    assert entries(app, customer) == [("grant", 100)]
    assert value(app, "select count(*) from billing.test_clocks") == 0
