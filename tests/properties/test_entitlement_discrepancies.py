"""The proof that credits follow money notices: each way in which they can part shows as its own row,
and is told once.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    Connection,
    call,
    fetch,
    item,
    line,
    link,
    sync_checkout_session,
    sync_credit_note,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    value,
)
from tests.support import Database, account_of, create_user

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
END = START + timedelta(days=365)


def found(admin: Connection) -> set[str]:
    return {row["invariant"] for row in fetch(admin, "select * from billing.entitlement_discrepancies")}


@pytest.fixture
def paid(database: Database) -> Iterator[tuple[Connection, UUID]]:
    """A superuser's connection on which no trigger fires, and an account: a paid year with initial credits, a pack."""
    with database.connect(admin=True) as admin:
        account_id = account_of(admin, create_user(database))
        sync_product(admin, as_of=START)
        sync_price(
            admin,
            as_of=START,
            recurring_interval="year",
            metadata={"monthly_credits": "100", "initial_credits": "50"},
        )
        sync_product(admin, stripe_product_id="prod_pack", as_of=START)
        sync_price(
            admin,
            stripe_price_id="price_pack",
            stripe_product_id="prod_pack",
            type="one_time",
            metadata={"pack_credits": "300"},
            as_of=START,
        )
        link(admin, account_id)
        stretch = {"current_period_start": START, "current_period_end": END}
        state = {
            "billing_cycle_anchor": START,
            "started_at": START,
            "as_of": START,
            "items": [item(**stretch)],
        }
        sync_subscription(admin, **state)
        year = line(period_start=START, period_end=END)
        sync_invoice(admin, lines=[year], invoiced_at=START, paid_at=START, as_of=START)
        bought = {"stripe_line_item_id": "li_1", "stripe_price_id": "price_pack", "quantity": 1}
        sync_checkout_session(
            admin,
            mode="payment",
            stripe_subscription_id=None,
            stripe_invoice_id=None,
            stripe_payment_intent_id="pi_pack",
            amount_total=2000,
            lines=[{**bought, "amount_total": 2000, "declares_credits": True}],
        )
        assert value(admin, "select balance from billing.credit_balances") == 450
        assert found(admin) == set()
        admin.execute("set session_replication_role = replica")
        yield admin, account_id


Damage = Callable[[Connection], object]


def run(*statements: str) -> Damage:
    def damage(admin: Connection) -> None:
        for statement in statements:
            admin.execute(statement.encode())

    return damage


MONTHLY = "source = 'stripe.monthly_allocation'"
PACK = "source = 'stripe.pack'"
DAMAGES: dict[str, tuple[Damage, set[str]]] = {
    "a month is not granted": (
        run(f"delete from billing.credit_grants where {MONTHLY}"),
        {"paid_and_not_granted"},
    ),
    "a month is granted short": (
        run(f"update billing.credit_grants set amount = 90 where {MONTHLY}"),
        {"paid_and_not_granted"},
    ),
    "a month is granted beyond its price": (
        run(f"update billing.credit_grants set amount = 110 where {MONTHLY}"),
        {"granted_and_not_paid"},
    ),
    "a month is granted twice": (
        run(
            "insert into billing.credit_grants (account_id, entry_id, amount, remaining, effective_at, source, "
            "key_space, idempotency_key) select account_id, entry_id, amount, remaining, effective_at, source, "
            f"key_space, idempotency_key || '#2' from billing.credit_grants where {MONTHLY}"
        ),
        {"granted_and_not_paid"},
    ),
    "a month that begins only later is granted": (
        run(
            "update billing.credit_grants set idempotency_key = 'monthly:si_1:2099-01-01T00:00:00Z' "
            f"where {MONTHLY}"
        ),
        {"granted_and_not_paid", "paid_and_not_granted"},
    ),
    "a pack is not granted": (
        run(f"delete from billing.credit_grants where {PACK}"),
        {"paid_and_not_granted"},
    ),
    "a pack is granted that nobody bought": (
        run("delete from billing.pack_purchases"),
        {"granted_and_not_paid"},
    ),
    "initial credits come with no invoice": (
        run(
            "update billing.credit_grants set stripe_invoice_id = 'in_none' where source = 'stripe.subscription'"
        ),
        {"granted_and_not_paid"},
    ),
    "paid time is recorded nowhere": (
        run("delete from billing.credit_schedules"),
        {"paid_time_is_not_recorded", "granted_and_not_paid"},
    ),
    "paid time is recorded with more seats": (
        run("update billing.credit_schedules set quantity = 2"),
        {"recorded_and_not_paid", "paid_and_not_granted"},
    ),
    "paid time does not know that money was returned": (
        run("update billing.invoices set amount_returned = 100"),
        {"recorded_and_not_paid"},
    ),
    "months are counted from another anchor": (
        run("update billing.credit_schedules set anchor = anchor - interval '12 hours'"),
        {"recorded_and_not_paid", "paid_and_not_granted", "granted_and_not_paid"},
    ),
    "time is recorded that an open invoice names": (
        run("update billing.invoices set status = 'open'"),
        {"recorded_and_not_paid", "granted_and_not_paid"},
    ),
    "a carry that nobody made": (
        run("update billing.credit_balances set carried = 7"),
        {"carried_is_not_the_rest"},
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_shows(paid: tuple[Connection, UUID], damage: str) -> None:
    admin, _ = paid
    do, invariants = DAMAGES[damage]
    do(admin)
    assert found(admin) == invariants


@pytest.mark.parametrize("lost", ["year", "pack", "note"])
def test_money_that_was_returned_and_whose_credits_stayed_shows(
    paid: tuple[Connection, UUID], lost: str
) -> None:
    admin, _account_id = paid
    admin.execute("set session_replication_role = origin")
    if lost == "pack":
        sync_payment(admin, stripe_charge_id="ch_pack", stripe_payment_intent_id="pi_pack")
        sync_refund(admin, stripe_charge_id="ch_pack", stripe_payment_intent_id="pi_pack", amount=1000)
    else:
        sync_credit_note(admin, amount=2000 if lost == "year" else 1000, noted_at=START + timedelta(days=1))
    assert found(admin) == set()
    taken = fetch(admin, "select id from billing.credit_revocations")
    assert taken or lost == "note"  # months that never begin are not taken, they are cut
    admin.execute("set session_replication_role = replica")
    admin.execute("delete from billing.credit_revocations")
    if taken:
        assert "returned_and_not_taken" in found(admin)


def test_administrators_are_told_once_of_each_discrepancy(paid: tuple[Connection, UUID]) -> None:
    admin, _account_id = paid
    kinds = "select count(*) from billing.notifications where kind = 'entitlement_discrepancy'"

    def walk() -> list[tuple[int, int]]:
        rounds: list[tuple[int, int]] = []
        while not rounds or rounds[-1][0]:
            proved = call(admin, "prove_accounts", accounts_max=10)
            rounds.append((proved["accounts"], proved["discrepancies"]))
        return rounds

    assert walk() == [(1, 0), (0, 0)]
    admin.execute("update billing.credit_balances set carried = 7")
    assert walk() == [(1, 1), (0, 0)]
    assert walk() == [(1, 1), (0, 0)]
    assert value(admin, kinds) == 1
    admin.execute("update billing.credit_balances set carried = 8")
    walk()
    assert value(admin, kinds) == 2
    told = value(admin, "select payload ->> 'invariant' from billing.notifications order by id limit 1")
    assert told == "carried_is_not_the_rest"


def test_one_account_is_checked_by_itself(paid: tuple[Connection, UUID]) -> None:
    admin, account_id = paid
    check = "select * from billing.check_account(%s)"
    assert fetch(admin, check, [account_id]) == []
    admin.execute("update billing.credit_balances set carried = 7, balance = balance + 1")
    invariants: list[Any] = [row["invariant"] for row in fetch(admin, check, [account_id])]
    assert "carried_is_not_the_rest" in invariants
    assert "balance_is_the_sum_of_entries" in invariants
