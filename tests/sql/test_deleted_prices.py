"""Prices and products that were deleted in Stripe: off sale for good, whatever arrives late, and kept."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    answer,
    balance,
    fetch,
    line,
    link,
    refused,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.test_packs import pack
from tests.support import Database, as_anon, create_user

KINDS = {"plan": "plans", "pack": "credit_packs"}


def make(worker: Connection, kind: str, **more: Any) -> str:
    if kind == "pack":
        pack(worker, **more)
        return "price_pack"
    sync_price(worker, **({"metadata": {"monthly_credits": "100"}} | more))
    return "price_1"


def on_sale(conn: Connection, kind: str = "plan") -> list[Any]:
    return fetch(conn, f"select stripe_price_id from billing.{KINDS[kind]} where active")


def delete(worker: Connection, price_id: str, as_of: Any = JANUARY + SECOND) -> str:
    return answer(worker, "delete_price", stripe_price_id=price_id, as_of=as_of)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_price_is_off_sale_and_kept(conn: Connection, worker: Connection, kind: str) -> None:
    price = make(worker, kind)
    assert len(on_sale(conn, kind)) == 1
    assert (delete(worker, price), delete(worker, price)) == ("applied", "stale")
    assert on_sale(conn, kind) == []
    assert value(conn, f"select count(*) from billing.{KINDS[kind]}") == 1


def test_it_is_not_on_the_page_of_plans_nor_at_checkout(
    database: Database, conn: Connection, worker: Connection
) -> None:
    conn.execute("update billing.settings set site_url = 'https://app.example.com'")
    sync_product(worker)
    price = make(worker, "plan", lookup_key="pro")
    delete(worker, price)
    assert fetch(conn, "select * from public.billing_plans") == []
    with as_anon(conn):
        assert fetch(conn, "select * from public.billing_plans") == []
    user = create_user(database)
    with database.connect("billing_checkout") as buyer:
        for name in (price, "pro"):
            with refused("TB042"):
                answer(buyer, "prepare_checkout", user_id=user, plan=name, pack=None, quantity=1, success_url=None,
                       cancel_url=None)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_update_does_not_bring_it_back(conn: Connection, worker: Connection, kind: str) -> None:
    price = make(worker, kind)
    delete(worker, price)
    make(worker, kind, nickname="Late", as_of=JANUARY + 5 * SECOND)
    assert on_sale(conn, kind) == []
    assert value(conn, f"select nickname from billing.{KINDS[kind]}") == "Late"


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_that_arrives_first_holds_for_what_comes_after(
    conn: Connection, worker: Connection, kind: str
) -> None:
    delete(worker, {"plan": "price_1", "pack": "price_pack"}[kind])
    make(worker, kind)
    assert on_sale(conn, kind) == []


def test_a_one_time_price_becomes_a_pack_that_is_not_on_sale(conn: Connection, worker: Connection) -> None:
    """Declared by its product after the price was deleted."""
    sync_product(worker)
    sync_price(worker, type="one_time", metadata={})
    delete(worker, "price_1")
    sync_product(worker, metadata={"pack_credits": "10"}, as_of=JANUARY + 9 * SECOND)
    assert on_sale(conn, "pack") == []


def test_nor_does_a_person_put_it_on_sale_by_hand(conn: Connection, worker: Connection) -> None:
    price = make(worker, "plan")
    delete(worker, price)
    conn.execute("update billing.plans set active = true")
    assert on_sale(conn) == []


def test_what_was_paid_for_is_granted_all_the_same(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    link(conn, account)
    price = make(worker, "plan")
    delete(worker, price)
    sync_subscription(worker)
    sync_invoice(worker, lines=[line()])
    assert balance(conn, account) == 100


def test_a_deleted_product_takes_its_prices_off_the_page(conn: Connection, worker: Connection) -> None:
    sync_product(worker)
    make(worker, "plan")
    product = {"stripe_product_id": "prod_1", "as_of": JANUARY + SECOND}
    assert answer(worker, "delete_product", **product) == "applied"
    assert answer(worker, "delete_product", **product) == "stale"
    with as_anon(conn):
        assert fetch(conn, "select * from public.billing_plans") == []
    sync_product(worker, name="Late", as_of=JANUARY + 5 * SECOND)
    assert fetch(conn, "select name, active from billing.products") == [{"name": "Late", "active": False}]


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_at_the_same_moment_does_not_bring_it_back(
    database: Database, conn: Connection, worker: Connection, kind: str
) -> None:
    price = make(worker, kind)
    for turn in range(2, 12):
        with database.connect("billing_worker") as other, ThreadPoolExecutor(2) as pool:
            conn.execute("delete from billing.deleted_prices")
            conn.execute(f"update billing.{KINDS[kind]} set active = true")
            done = [
                pool.submit(delete, worker, price),
                pool.submit(make, other, kind, as_of=JANUARY + turn * SECOND),
            ]
            assert done[0].result() == "applied"
            done[1].result()
        assert on_sale(conn, kind) == []
