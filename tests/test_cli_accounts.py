"""`till accounts`, `customers` and `subscriptions` on real Postgres."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.cli import Till
from tests.sql.calls import FEBRUARY, grant, sync_price, sync_product, sync_subscription
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


# Export and erase


@pytest.mark.usefixtures("ada")
def test_a_person_is_exported_to_the_screen_or_to_a_file_of_ones_own(till: Till, tmp_path: Path) -> None:
    printed = json.loads(till("accounts", "export", "ada@example.com").out)
    assert [row["email"] for row in printed["user"]] == ["ada@example.com"]
    assert [row["amount"] for row in printed["credit_entries"]] == [100]
    file = tmp_path / "ada.json"
    assert "rows are in" in till("accounts", "export", "ada@example.com", "--file", file).err
    assert json.loads(file.read_text()) == printed
    assert file.stat().st_mode & 0o777 == 0o600
    assert "File exists" in till.refused("accounts", "export", "ada@example.com", "--file", file)


def test_an_erasure_is_shown_first_and_done_with_consent(
    till: Till, ada: UUID, conn: psycopg.Connection[Any]
) -> None:
    ask = ("accounts", "erase", "ada@example.com", "--reason", "asked for", "--actor", "root")
    for more in ((), ("--dry-run",)):
        shown = till(*ask, *more)
        assert "nothing was done" in shown.err
    planned = till.json(*ask)
    assert planned == {
        "dry_run": True, "account_id": str(ada), "customers": 0, "entries_kept": 1, "credits_forfeited": 100,
        "email": "ada@example.com", "events_emptied": 0, "replayed": False,
    }  # fmt: skip
    assert conn.execute("select count(*) from billing.erasures").fetchone() == (0,)
    assert "not both" in till(*ask, "--yes", "--dry-run", expect=2).err
    done = till(*ask, "--yes")
    assert "delete the user in Supabase Auth" in done.err
    row = conn.execute("select account_id, reason, actor from billing.erasures").fetchone()
    assert row == (ada, "asked for", "root")
    again = till("accounts", "erase", ada, "--reason", "again", "--yes")
    assert "already erased: nothing was changed" in again.err
    assert till.json("accounts", "erase", ada, "--reason", "again", "--yes")["replayed"] is True


@pytest.mark.parametrize(("answer", "is_erased"), [(True, True), (False, False)])
def test_in_a_terminal_an_erasure_asks(
    till: Till,
    ada: UUID,
    conn: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,
    is_erased: bool,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
    printed = till("accounts", "erase", ada, "--reason", "asked for", expect=0 if answer else 1)
    assert "nothing was done" not in printed.err if answer else True
    assert conn.execute("select count(*) from billing.erasures").fetchone() == (int(is_erased),)


def test_an_erasure_names_what_stands_in_its_way_and_customers_with_the_same_address(
    till: Till, ada: UUID, conn: psycopg.Connection[Any], worker: psycopg.Connection[Any]
) -> None:
    conn.execute("select billing.link_customer(%s, 'cus_1')", [ada])
    sync_product(worker)
    sync_price(worker)
    sync_subscription(worker)
    message = till.refused("accounts", "erase", ada, "--reason", "asked for", "--yes")
    assert message.startswith("subscription sub_1 is active (TB080). Cancel it in Stripe")
    sync_subscription(worker, status="canceled", as_of=FEBRUARY)
    worker.execute("select billing.sync_customer('cus_2', false, 'Ada@example.com', 'A', false, now())")
    assert till.json("accounts", "erase", ada, "--reason", "asked for")["same_email"] == "cus_2"
    till("accounts", "erase", "cus_2", "--reason", "asked for", "--yes")
    assert conn.execute(
        "select email from billing.customers where stripe_customer_id = 'cus_2'"
    ).fetchone() == (None,)
    assert "cus_2" in till("accounts", "export", "cus_2").out
