"""Customers: linked to an account once and for ever, merged with their duplicates, kept as Stripe tells of them."""

from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    balance,
    call,
    fetch,
    fetch_one,
    item,
    line,
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

TRIAL: Row = {
    "status": "trialing",
    "trial_start": JANUARY,
    "trial_end": FEBRUARY,
    "billing_cycle_anchor": FEBRUARY,
}


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


def tables_of_customers(conn: Connection) -> list[str]:
    """Every table whose rows are of a customer, and so of an account, once it is known whose the customer is."""
    query = """
        select table_name from information_schema.columns
        join information_schema.tables using (table_catalog, table_schema, table_name)
        where table_schema = 'billing' and column_name in ('stripe_customer_id', 'account_id')
            and table_type = 'BASE TABLE' and table_name not in ('customers', 'erasures')
        group by 1 having count(*) = 2 and bool_or(column_name = 'account_id' and is_nullable = 'YES')
    """
    return [row["table_name"] for row in fetch(conn, query)]


def test_link_brings_the_account_to_what_stripe_had_told_of_the_customer(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_subscription(worker)
    sync_invoice(worker, status="open", lines=[])
    sync_checkout_session(worker)
    sync_payment(worker, card_fingerprint="finger")
    record_fraud_warning(worker, risk_level="normal")
    sync_subscription(
        worker, stripe_subscription_id="sub_2", stripe_customer_id="cus_2", items=[item("si_2")]
    )

    link(app, account, "cus_1")
    tables = tables_of_customers(conn)
    assert "subscriptions" in tables
    for table in tables:
        query = f"select account_id from billing.{table} where stripe_customer_id = 'cus_1'"
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


def merge(conn: Connection, stripe_customer_id: str | None, duplicate_of: str | None) -> None:
    call(conn, "merge_customer", stripe_customer_id=stripe_customer_id, duplicate_of=duplicate_of)


def customers(conn: Connection) -> dict[str, tuple[Any, ...]]:
    """Customer → account, what it is a duplicate of."""
    query = "select stripe_customer_id as id, account_id, duplicate_of from billing.customers"
    return {row["id"]: (row["account_id"], row["duplicate_of"]) for row in fetch(conn, query)}


def customers_as_they_are(conn: Connection) -> list[Row]:
    """Every column of every customer."""
    return fetch(conn, "select customers::text from billing.customers order by id")


def test_deletion_told_late_takes_nothing_back(worker: Connection, conn: Connection) -> None:
    sync_customer(worker, email="new@example.com", as_of=JANUARY + SECOND)
    assert sync_customer(worker, email="old@example.com", is_deleted=True) == "applied"
    held = fetch_one(conn, "select email, as_of, deleted_at from billing.customers")
    assert tuple(held.values()) == ("new@example.com", JANUARY + SECOND, JANUARY)


def test_deletion_without_details_keeps_those_that_are_known(worker: Connection, conn: Connection) -> None:
    sync_customer(worker)
    later = JANUARY + SECOND
    assert sync_customer(worker, email=None, name=None, is_deleted=True, as_of=later) == "applied"
    held = fetch_one(conn, "select email, name, as_of, deleted_at from billing.customers")
    assert tuple(held.values()) == ("ada@example.com", "Ada", later, later)


def test_deletion_has_the_last_word_within_a_second(worker: Connection, conn: Connection) -> None:
    sync_customer(worker)
    assert sync_customer(worker, email="last@example.com", is_deleted=True) == "applied"
    assert value(conn, "select email from billing.customers") == "last@example.com"


def test_customer_may_lose_its_email_while_it_lives(worker: Connection, conn: Connection) -> None:
    sync_customer(worker)
    assert sync_customer(worker, email=None, as_of=JANUARY + SECOND) == "applied"
    assert value(conn, "select email from billing.customers") is None


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_a_deleted_customer_is_the_same_in_any_order(
    worker: Connection, conn: Connection, order: tuple[int, ...]
) -> None:
    told: list[dict[str, Any]] = [
        {"email": "first@example.com", "as_of": JANUARY},
        {"email": "last@example.com", "as_of": JANUARY + SECOND},
        {"email": "last@example.com", "is_deleted": True, "as_of": JANUARY + SECOND},
        {"email": "last@example.com", "is_deleted": True, "as_of": JANUARY + 2 * SECOND},  # told twice
    ]
    for position in order:
        assert sync_customer(worker, **told[position]) in {"applied", "stale", "refetch"}
    held = fetch_one(conn, "select email, as_of, deleted_at from billing.customers")
    assert tuple(held.values()) == ("last@example.com", JANUARY + 2 * SECOND, JANUARY + SECOND)


def test_deletion_told_again_needs_no_asking(worker: Connection) -> None:
    sync_customer(worker, is_deleted=True)
    assert sync_customer(worker, is_deleted=True) == "stale"
    assert sync_customer(worker, is_deleted=True, as_of=JANUARY + SECOND) == "applied"


def test_deletion_stops_the_credits_of_the_subscriptions(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account)
    sync_price(worker, recurring_interval="year", metadata={"monthly_credits": "100"})
    year = {"current_period_end": JANUARY + timedelta(days=365)}
    sync_subscription(worker, items=[item(**year)])
    sync_invoice(worker, lines=[line(period_end=year["current_period_end"])])
    sync_customer(worker, is_deleted=True, as_of=JANUARY + SECOND)
    reasons = "select distinct disarmed_reason from billing.credit_schedules"
    assert value(conn, reasons) == "customer_deleted"


def test_deleted_customer_is_linked_beside_a_living_one(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_customer(worker, is_deleted=True)
    with refused("TB011"):
        sync_invoice(worker)
    link(app, account, "cus_2")
    link(app, account, "cus_1")
    assert customers(conn) == {"cus_1": (account, None), "cus_2": (account, None)}
    assert sync_invoice(worker) == "applied"
    assert balance(app, account) == 100
    with refused("TB018"):
        link(app, account, "cus_3")


def test_link_waits_for_a_deletion_that_is_being_told(
    database: Database, app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_customer(worker)
    link(app, account, "cus_2")
    with database.connect("billing_worker", autocommit=False) as telling:
        sync_customer(telling, is_deleted=True, as_of=JANUARY + SECOND)
        with blocked(app, conn, lambda: link(app, account, "cus_1")) as linking:
            telling.commit()
            linking.result()
    assert customers(conn) == {"cus_1": (account, None), "cus_2": (account, None)}


def test_living_customer_is_linked_after_a_deleted_one(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_customer(worker, is_deleted=True)
    link(app, account, "cus_1")
    link(app, account, "cus_2")
    assert customers(conn) == {"cus_1": (account, None), "cus_2": (account, None)}


def test_trial_of_a_customer_that_nobody_linked_gives_its_credits_with_the_link(
    app: Connection, worker: Connection, account: UUID
) -> None:
    sync_price(worker, metadata={"trial_credits": "7"})
    sync_subscription(worker, **TRIAL)
    link(app, account)
    assert balance(app, account) == 7
    link(app, account)
    assert balance(app, account) == 7


def test_link_and_deletion_wait_for_no_plan(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_subscription(worker, **TRIAL)
    link(app, account)
    assert value(conn, "select account_id from billing.subscriptions") == account
    assert sync_customer(worker, is_deleted=True) == "applied"


def test_duplicate_gets_the_account_and_what_stripe_had_told_of_it(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_price(worker, metadata={"monthly_credits": "100", "trial_credits": "7"})
    sync_subscription(worker, stripe_customer_id="cus_2", **TRIAL)
    sync_payment(worker, stripe_customer_id="cus_2")
    record_fraud_warning(worker, stripe_customer_id="cus_2")

    merge(app, "cus_2", "cus_1")
    assert customers(conn) == {"cus_1": (account, None), "cus_2": (account, "cus_1")}
    assert value(conn, "select account_id from billing.subscriptions") == account
    assert value(conn, "select account_id from billing.payments") == account
    assert balance(app, account) == 7
    assert value(conn, "select frozen_at is not null from billing.accounts where id = %s", [account])
    assert value(app, "select linked_at is not null from billing.customers where duplicate_of is not null")


def test_payment_of_a_duplicate_grants_to_the_account(
    app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_price(worker, metadata={"monthly_credits": "100"})
    with refused("TB011"):
        sync_invoice(worker, stripe_customer_id="cus_2")
    merge(app, "cus_2", "cus_1")
    assert sync_invoice(worker, stripe_customer_id="cus_2") == "applied"
    assert balance(app, account) == 100


def test_merging_the_same_two_again_changes_nothing(app: Connection, conn: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    merge(app, "cus_2", "cus_1")
    before = customers_as_they_are(conn)
    merge(app, "cus_2", "cus_1")
    assert customers_as_they_are(conn) == before


def test_duplicate_is_not_the_account_s_customer(app: Connection, conn: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    merge(app, "cus_2", "cus_1")
    with refused("TB018"):
        link(app, account, "cus_3")
    conn.execute("update billing.customers set deleted_at = now() where stripe_customer_id = 'cus_1'")
    link(app, account, "cus_3")
    assert customers(conn)["cus_3"] == (account, None)


def test_customer_that_was_linked_and_deleted_may_be_merged(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    merge(app, "cus_9", "cus_1")
    sync_customer(worker, is_deleted=True)
    link(app, account, "cus_2")
    merge(app, "cus_1", "cus_2")
    assert customers(conn) == {
        "cus_1": (account, "cus_2"),
        "cus_2": (account, None),
        "cus_9": (account, "cus_2"),  # a duplicate is of a customer that is none
    }


@pytest.mark.parametrize(
    ("stripe_customer_id", "duplicate_of", "sqlstate"),
    [
        ("cus_1", "cus_1", "TB033"),  # itself
        ("cus_2", "cus_unknown", "TB033"),
        ("cus_2", "cus_unlinked", "TB033"),
        ("cus_2", "cus_duplicate", "TB033"),
        ("cus_2", "cus_deleted", "TB033"),
        ("cus_live", "cus_1", "TB033"),
        ("cus_1", "cus_duplicate", "TB033"),  # in a circle
        ("cus_other", "cus_1", "TB018"),
        ("acct_1", "cus_1", "TB018"),
        ("cus_2", "acct_1", "TB018"),
        (None, "cus_1", "TB018"),
        ("cus_2", None, "TB018"),
    ],
)
def test_what_is_no_duplicate_is_refused(
    app: Connection,
    worker: Connection,
    conn: Connection,
    account: UUID,
    other_account: UUID,
    stripe_customer_id: str | None,
    duplicate_of: str | None,
    sqlstate: str,
) -> None:
    sync_customer(worker, stripe_customer_id="cus_deleted", is_deleted=True)
    sync_customer(worker, stripe_customer_id="cus_unlinked")
    sync_customer(worker, stripe_customer_id="cus_live", livemode=True)
    link(app, account, "cus_1")
    link(app, account, "cus_deleted")
    link(app, other_account, "cus_other")
    merge(app, "cus_duplicate", "cus_1")
    before = customers_as_they_are(conn)
    with refused(sqlstate):
        merge(app, stripe_customer_id, duplicate_of)
    assert customers_as_they_are(conn) == before


def test_merges_into_two_accounts_at_once_leave_one(
    database: Database, account: UUID, other_account: UUID
) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        link(one, account, "cus_1")
        link(two, other_account, "cus_2")
        results = at_once([lambda: merge(one, "cus_3", "cus_1"), lambda: merge(two, "cus_3", "cus_2")])
        errors = [result for result in results if isinstance(result, psycopg.Error)]
        assert [error.sqlstate for error in errors] == ["TB018"]
        assert customers(one)["cus_3"] in {(account, "cus_1"), (other_account, "cus_2")}


def test_the_same_merge_twice_at_once_is_one(database: Database, account: UUID) -> None:
    with database.connect("service_role") as one, database.connect("service_role") as two:
        link(one, account, "cus_1")
        assert at_once([lambda: merge(one, "cus_2", "cus_1"), lambda: merge(two, "cus_2", "cus_1")]) == [
            None,
            None,
        ]
        assert customers(one) == {"cus_1": (account, None), "cus_2": (account, "cus_1")}


def test_state_that_arrives_while_a_merge_commits_gets_the_account(
    database: Database, app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    with database.connect("service_role", autocommit=False) as merging:
        merge(merging, "cus_2", "cus_1")
        with blocked(worker, conn, lambda: sync_subscription(worker, stripe_customer_id="cus_2")) as arrival:
            merging.commit()
            assert arrival.result() == "applied"
    assert value(conn, "select account_id from billing.subscriptions") == account


def test_merge_that_comes_while_state_arrives_brings_the_account_to_it(
    database: Database, app: Connection, conn: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    with database.connect("billing_worker", autocommit=False) as arriving:
        sync_subscription(arriving, stripe_customer_id="cus_2")
        with blocked(app, conn, lambda: merge(app, "cus_2", "cus_1")) as merging:
            arriving.commit()
            merging.result()
    assert value(conn, "select account_id from billing.subscriptions") == account


def test_merge_over_the_data_api_is_the_same(app: Connection, conn: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    call(app, "public.merge_customer", stripe_customer_id="cus_2", duplicate_of="cus_1")
    assert customers(conn)["cus_2"] == (account, "cus_1")
