"""Linking a Stripe customer to an account: once, for ever, and what was known of the customer comes along."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    answer,
    balance,
    fetch,
    fetch_one,
    item,
    link,
    record_fraud_warning,
    refused,
    sync_checkout_session,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_subscription,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user


@pytest.fixture
def other_account(database: Database, conn: Connection) -> UUID:
    return account_of(conn, create_user(database))


def test_link_binds_a_customer_to_an_account(app: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    customer = fetch_one(
        app, "select account_id, stripe_customer_id, livemode, linked_at from billing.customers"
    )
    assert (customer["stripe_customer_id"], customer["account_id"]) == ("cus_1", account)
    assert (customer["livemode"], customer["linked_at"] is not None) == (False, True)


def test_link_takes_the_mode_of_the_installation_unless_told(
    app: Connection, conn: Connection, account: UUID
) -> None:
    conn.execute("update billing.settings set livemode = true")
    link(app, account, "cus_live")
    link(app, account, "cus_test", livemode=False)
    assert value(app, "select livemode from billing.customers where stripe_customer_id = 'cus_live'") is True
    assert value(app, "select livemode from billing.customers where stripe_customer_id = 'cus_test'") is False


def test_linking_the_same_two_again_changes_nothing(app: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    before = fetch_one(
        app, "select account_id, stripe_customer_id, livemode, linked_at from billing.customers"
    )
    link(app, account, "cus_1")
    assert (
        fetch_one(app, "select account_id, stripe_customer_id, livemode, linked_at from billing.customers")
        == before
    )


def test_customer_never_changes_its_account(app: Connection, account: UUID, other_account: UUID) -> None:
    link(app, account, "cus_1")
    with refused("TB018"):
        link(app, other_account, "cus_1")
    assert value(app, "select account_id from billing.customers") == account


def test_account_has_one_living_customer_in_each_mode(
    app: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    with refused("TB018"):
        link(app, account, "cus_2")
    conn.execute("update billing.customers set deleted_at = now() where stripe_customer_id = 'cus_1'")
    link(app, account, "cus_2")
    link(app, account, "cus_live", livemode=True)


@pytest.mark.parametrize("stripe_customer_id", ["", "1", "cus_", "acct_1", "cus_1 ", "cus_1\n", "cus_'; --"])
def test_what_is_no_customer_id_is_refused(app: Connection, account: UUID, stripe_customer_id: str) -> None:
    with refused("TB018"):
        link(app, account, stripe_customer_id)
    assert value(app, "select count(*) from billing.customers") == 0


def test_link_without_a_customer_id_is_refused(app: Connection, account: UUID) -> None:
    with refused("TB018"):
        link(app, account, None)


def test_link_to_an_unknown_account_is_refused(app: Connection, database: Database, account: UUID) -> None:
    with refused("TB004"):
        link(app, create_user(database), "cus_1")  # the id of a user, a likely mistake
    with refused("TB004"):
        link(app, None, "cus_1")


def test_link_brings_the_account_to_what_stripe_had_told_of_the_customer(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_subscription(worker)
    sync_invoice(worker, status="open", lines=[])
    sync_checkout_session(worker)
    sync_payment(worker)
    record_fraud_warning(worker, risk_level="normal")
    sync_subscription(
        worker, stripe_subscription_id="sub_2", stripe_customer_id="cus_2", items=[item("si_2")]
    )

    link(app, account, "cus_1")
    for table in ["subscriptions", "invoices", "checkout_sessions", "payments", "fraud_warnings"]:
        query = f"select account_id from billing.{table} order by created_at limit 1"
        assert value(conn, query) == account, table
    query = "select account_id from billing.subscriptions where stripe_subscription_id = 'sub_2'"
    assert value(conn, query) is None


def test_invoice_paid_before_the_link_grants_after_it(
    app: Connection, worker: Connection, account: UUID
) -> None:
    sync_price(worker, metadata={"monthly_credits": "100"})
    with refused("TB011"):
        sync_invoice(worker)
    link(app, account, "cus_1")
    assert sync_invoice(worker) == "applied"
    assert balance(app, account) == 100


def test_two_links_of_one_account_at_once_leave_one_customer(database: Database, account: UUID) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda: link(one, account, "cus_1"), lambda: link(two, account, "cus_2")])
        errors = [result for result in results if isinstance(result, psycopg.Error)]
        assert [error.sqlstate for error in errors] == ["TB018"]
        assert value(one, "select count(*) from billing.customers where account_id is not null") == 1


def test_two_links_of_one_customer_at_once_leave_one_account(
    database: Database, account: UUID, other_account: UUID
) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda: link(one, account), lambda: link(two, other_account)])
        errors = [result for result in results if isinstance(result, psycopg.Error)]
        assert [error.sqlstate for error in errors] == ["TB018"]
        assert value(one, "select account_id from billing.customers") in {account, other_account}


def test_the_same_link_twice_at_once_is_one_link(database: Database, account: UUID) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        assert at_once([lambda: link(one, account), lambda: link(two, account)]) == [None, None]
        assert value(one, "select account_id from billing.customers") == account


@pytest.mark.parametrize("is_known", [True, False])
def test_state_that_arrives_while_a_link_commits_gets_the_account(
    database: Database, worker: Connection, conn: Connection, account: UUID, is_known: bool
) -> None:
    if is_known:
        sync_payment(worker)
    with database.connect("service_role", autocommit=False) as linking:
        link(linking, account)
        with blocked(worker, conn, lambda: sync_subscription(worker)) as arrival:
            linking.commit()
            assert arrival.result() == "applied"
    assert value(conn, "select account_id from billing.subscriptions") == account


def test_link_that_comes_while_state_arrives_brings_the_account_to_it(
    database: Database, app: Connection, conn: Connection, account: UUID
) -> None:
    with database.connect("billing_worker", autocommit=False) as arriving:
        sync_subscription(arriving)
        with blocked(app, conn, lambda: link(app, account)) as linking:
            arriving.commit()
            linking.result()
    assert value(conn, "select account_id from billing.subscriptions") == account


def sync_customer(worker: Connection, **more: Any) -> str:
    arguments = {
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "email": "ada@example.com",
        "name": "Ada",
        "is_deleted": False,
        "as_of": JANUARY,
    }
    return answer(worker, "sync_customer", **(arguments | more))


def test_customer_keeps_its_newest_state(worker: Connection, conn: Connection) -> None:
    assert sync_customer(worker) == "applied"
    assert sync_customer(worker, email="new@example.com", as_of=JANUARY + SECOND) == "applied"
    assert sync_customer(worker, email="late@example.com", as_of=JANUARY - SECOND) == "stale"
    assert sync_customer(worker, email="tie@example.com", as_of=JANUARY + SECOND) == "refetch"
    assert value(conn, "select email from billing.customers") == "new@example.com"


def test_account_may_have_a_new_customer_once_its_own_was_deleted(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    with refused("TB018"):
        link(app, account, "cus_2")
    sync_customer(worker, is_deleted=True)
    assert sync_customer(worker) == "refetch"
    link(app, account, "cus_2")
    linked = "select stripe_customer_id, account_id, deleted_at is null as living from billing.customers order by id"
    assert [tuple(row.values()) for row in fetch(conn, linked)] == [
        ("cus_1", account, False),
        ("cus_2", account, True),
    ]
