"""A quarter of a shop's life in a database: payments, credits granted and spent, each written on its day.

By the functions of the product and at their own time, which a superuser has moved back for the while; so the ledger is
as sound as any.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

DAYS = 89
Connection = psycopg.Connection[Any]

_TIME = """
    create or replace function billing.current_time() returns timestamptz
    language sql stable security definer set search_path = ''
    as $$ select now() + clock.ahead_by - interval '{days} days' from billing.clock $$
"""


@contextmanager
def days_ago(admin: Connection, days: int) -> Iterator[None]:
    """Billing time is so many days back."""
    found = admin.execute("select pg_get_functiondef('billing.current_time'::regproc)").fetchone()
    assert found is not None
    admin.execute(_TIME.format(days=days).encode())
    try:
        yield
    finally:
        admin.execute(str(found[0]).encode())


def play(admin: Connection, account_ids: list[UUID], customer_ids: list[str]) -> None:
    """Each account pays every month, buys packs, and spends most days; some of it is given back."""
    chance = random.Random(7)
    today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    paid = 0
    for day in range(DAYS, 0, -1):
        at = today - timedelta(days=day)
        with days_ago(admin, day):
            for index, (account_id, customer_id) in enumerate(zip(account_ids, customer_ids, strict=True)):
                started = day <= DAYS - 6 * index
                if not started:
                    continue
                since = DAYS - 6 * index - day
                if since % 30 == 0 or chance.random() < 0.45:
                    paid += 1
                    amount, credits = (
                        ((4900, 1200), (1900, 400))[index % 2]
                        if since % 30 == 0
                        else chance.choice([(900, 80), (1900, 170), (2900, 260)])
                    )
                    _pay(admin, f"ch_history{paid:04}", customer_id, amount, at)
                    _grant(
                        admin,
                        account_id,
                        credits,
                        f"history-{paid}",
                        "Pro, monthly" if since % 30 == 0 else "Pack",
                    )
                    if chance.random() < 0.1:
                        _give_back(admin, f"ch_history{paid:04}", amount // 2, at + timedelta(hours=5))
                for times in range(chance.randrange(3)):
                    _spend(admin, account_id, chance.randrange(20, 75), f"job-{day}-{index}-{times}")
    for index, account_id in enumerate(account_ids):
        admin.execute(
            "update billing.accounts set created_at = %s where id = %s",
            [today - timedelta(days=DAYS - 6 * index + 1), account_id],
        )


def _pay(admin: Connection, charge_id: str, customer_id: str, amount: int, at: datetime) -> None:
    admin.execute(
        "insert into billing.payments (stripe_charge_id, stripe_customer_id, account_id, livemode, status, currency, "
        "amount, risk_level, risk_score, charged_at, as_of) select %s, stripe_customer_id, account_id, false, "
        "'succeeded', 'usd', %s, 'normal', 12, %s, %s from billing.customers where stripe_customer_id = %s",
        [charge_id, amount, at, at, customer_id],
    )


def _give_back(admin: Connection, charge_id: str, amount: int, at: datetime) -> None:
    admin.execute(
        "insert into billing.refunds (stripe_refund_id, stripe_charge_id, status, currency, amount, refunded_at, "
        "as_of) values (%s, %s, 'succeeded', 'usd', %s, %s, %s)",
        [f"re_{charge_id}", charge_id, amount, at, at],
    )
    admin.execute(
        "update billing.payments set amount_refunded = %s where stripe_charge_id = %s", [amount, charge_id]
    )


def _grant(admin: Connection, account_id: UUID, credits: int, key: str, description: str) -> None:
    admin.execute(
        "select billing.grant_credits(account_id => %s, amount => %s, idempotency_key => %s, description => %s)",
        [account_id, credits, key, description],
    )


def _spend(admin: Connection, account_id: UUID, credits: int, key: str) -> None:
    admin.execute(
        "select billing.spend_credits(account_id => %s, amount => %s, idempotency_key => %s, description => %s) "
        "from billing.credit_balances where account_id = %s and balance - held >= %s",
        [account_id, credits, key, "Rendered a video", account_id, credits],
    )
