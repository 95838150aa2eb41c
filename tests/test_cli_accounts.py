"""`till accounts`, `customers` and `subscriptions` on real Postgres."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.cli import Till
from tests.sql.calls import grant, sync_price, sync_product, sync_subscription
from tests.support import Database, account_of, create_user


@pytest.fixture
def till(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    return Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")


@pytest.fixture
def worker(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect("billing_worker") as conn:
        yield conn


@pytest.fixture
def ada(database: Database, conn: psycopg.Connection[Any]) -> UUID:
    """Ada's account, with 100 credits."""
    account_id = account_of(conn, create_user(database, "ada@example.com"))
    grant(conn, account_id, 100)
    return account_id


def park(database: Database, conn: psycopg.Connection[Any], customer: str) -> None:
    """An event that waits for the customer's link."""
    received = (
        "select billing.receive_stripe_event('evt_1', 'invoice.paid', '2026-04-22.dahlia', 1, false, '{}')"
    )
    conn.execute(received)
    with database.connect(admin=True) as admin:
        parked = "set status = 'parked', waiting_for = %s, last_error = 'waits', settled_at = now()"
        admin.execute(f"update billing.stripe_events {parked}", [customer])


# Accounts


@pytest.mark.usefixtures("ada")
def test_accounts_are_listed_and_searched_by_what_people_type(till: Till, database: Database) -> None:
    create_user(database, "eve@example.com")
    assert [row["email"] for row in till.json("accounts", "list")] == ["eve@example.com", "ada@example.com"]
    [found] = till.json("accounts", "list", "--search", "ADA@")
    assert (found["status"], found["balance"], found["available"]) == ("active", 100, 100)
    assert till.json("accounts", "list", "--frozen") == []
    assert "no such accounts" in till("accounts", "list", "--search", "nobody@example.com").err
    assert "eve@example.com" in till("accounts", "list", "--limit", 1).out


def test_an_account_is_shown_with_what_belongs_to_it(
    till: Till, ada: UUID, conn: psycopg.Connection[Any], worker: psycopg.Connection[Any]
) -> None:
    conn.execute("select billing.link_customer(%s, 'cus_1')", [ada])
    sync_product(worker)
    sync_price(worker)
    subscription = sync_subscription(worker)
    shown = till.json("accounts", "show", "cus_1")
    assert (shown["id"], shown["balance"], shown["frozen_at"]) == (str(ada), 100, None)
    assert [customer["stripe_customer_id"] for customer in shown["customers"]] == ["cus_1"]
    assert [one["status"] for one in shown["subscriptions"]] == ["active"]
    text = till("accounts", "show", "ada@example.com").out
    for word in (str(ada), "cus_1", "customers", "subscriptions"):
        assert word in text
    assert subscription == "applied"


@pytest.mark.usefixtures("ada")
def test_an_account_is_frozen_and_unfrozen(till: Till) -> None:
    freeze = ("accounts", "freeze", "ada@example.com", "--reason", "stolen card")
    assert till.json(*freeze)["frozen_reason"] == "stolen card"
    assert [row["status"] for row in till.json("accounts", "list", "--frozen")] == ["frozen"]
    assert "TB003" in till.refused("credits", "spend", "ada@example.com", 1)
    assert till.json("accounts", "unfreeze", "ada@example.com", "--reason", "known")["frozen_at"] is None


@pytest.mark.usefixtures("ada")
def test_closing_an_account_is_shown_first(till: Till) -> None:
    close = ("accounts", "close", "ada@example.com", "--reason", "Moved away")
    planned = till.json(*close)
    assert (planned["dry_run"], planned["forfeited"]) == (True, 100)
    assert till.json("credits", "balance", "ada@example.com")["balance"] == 100
    done = till.json(*close, "--yes")
    assert (done["dry_run"], done["forfeited"]) == (False, 100)
    assert till.json("accounts", "reopen", "ada@example.com")["closed_at"] is None


# Customers


def test_unlinked_customers_are_listed_with_what_waits_and_linked(
    till: Till, ada: UUID, database: Database, conn: psycopg.Connection[Any], worker: psycopg.Connection[Any]
) -> None:
    sync_product(worker)
    sync_price(worker)
    sync_subscription(worker)
    park(database, conn, "cus_1")
    [waiting] = till.json("customers", "list")
    assert (waiting["stripe_customer_id"], waiting["status"], waiting["events_waiting"]) == (
        "cus_1",
        "unlinked",
        1,
    )

    link = ("customers", "link", "cus_1", "ada@example.com")
    planned = till.json(*link)
    assert (planned["dry_run"], planned["account_id"]) == (True, str(ada))
    assert (planned["events_that_go_on"], planned["subscriptions"]) == (1, 1)
    assert "--yes" in till(*link).err
    assert len(till.json("customers", "list")) == 1, "a dry run did something"
    assert till.json(*link, "--yes")["dry_run"] is False
    assert till.json("customers", "list") == []
    assert [row["account_id"] for row in till.json("customers", "list", "--status", "linked")] == [str(ada)]
    assert [event["status"] for event in till.json("events", "list")] == ["queued"]
    assert till.json("customers", "link", "ada@example.com", "cus_1", "--yes")["account_id"] == str(ada)


@pytest.mark.usefixtures("ada")
def test_a_second_customer_is_merged_and_another_one_dismissed(
    till: Till, worker: psycopg.Connection[Any]
) -> None:
    sync_product(worker)
    sync_price(worker)
    for number in (1, 2, 3):
        sync_subscription(worker, stripe_subscription_id=f"sub_{number}", stripe_customer_id=f"cus_{number}")
    till("customers", "link", "cus_1", "ada@example.com", "--yes")
    assert "TB018" in till.refused("customers", "link", "cus_2", "ada@example.com", "--yes")
    assert till.json("customers", "merge", "cus_2", "cus_1")["dry_run"] is True
    merged = till.json("customers", "merge", "cus_2", "cus_1", "--yes")
    assert (merged["duplicate_of"], merged["subscriptions"]) == ("cus_1", 1)
    till("customers", "dismiss", "cus_3", "--yes")
    listed = {
        row["stripe_customer_id"]: row["status"] for row in till.json("customers", "list", "--status", "all")
    }
    assert listed == {"cus_1": "linked", "cus_2": "duplicate", "cus_3": "dismissed"}
    assert "no unlinked customers" in till("customers", "list").err


# Subscriptions


def test_subscriptions_are_listed_by_account_and_status_and_shown(
    till: Till, ada: UUID, conn: psycopg.Connection[Any], worker: psycopg.Connection[Any]
) -> None:
    conn.execute("select billing.link_customer(%s, 'cus_1')", [ada])
    sync_product(worker)
    sync_price(worker)
    sync_subscription(worker)
    [listed] = till.json("subscriptions", "list", "--account", "ada@example.com", "--status", "active")
    assert (listed["stripe_subscription_id"], listed["email"]) == ("sub_1", "ada@example.com")
    assert listed["current_period_end"].endswith("Z")
    assert till.json("subscriptions", "list", "--status", "past_due") == []
    assert "sub_1" in till("subscriptions", "list").out
    shown = till.json("subscriptions", "show", "sub_1")
    assert [item["stripe_price_id"] for item in shown["items"]] == ["price_1"]
    assert "price_1" in till("subscriptions", "show", "sub_1").out
    assert "till subscriptions list" in till.refused("subscriptions", "show", "sub_none")
