"""`till explain`: the customer's way from payment to credits, and why credits are missing."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from dateutil.relativedelta import relativedelta

from cli.main import main
from tests.sql.calls import item, line, link, sync_invoice, sync_price, sync_product, sync_subscription
from tests.support import Database, account_of, create_user

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
NAMES = {"stripe_subscription_id": "sub_1", "stripe_customer_id": "cus_1"}
OF_ITEM = {"stripe_subscription_item_id": "si_1", "stripe_price_id": "price_1"}
Explain = Callable[..., Any]


@pytest.fixture
def explain(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    monkeypatch.setenv("POSTGRES_URL", database.url)

    def run(search: str, *options: str, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "explain", search, *(options or ["--json"])])
        with pytest.raises(SystemExit) as exited:
            main()
        told = capsys.readouterr()
        assert (exited.value.code or 0) == expect, told
        return told.err if expect else told.out if options else json.loads(told.out)

    return run


@pytest.fixture
def ada(database: Database, conn: psycopg.Connection) -> UUID:
    return account_of(conn, create_user(database, "ada@example.com"))


def subscribe(conn: psycopg.Connection, credits: int = 100, **metadata: str) -> None:
    """A paid month of a plan."""
    sync_product(conn, stripe_product_id="prod_1")
    sync_price(
        conn,
        stripe_price_id="price_1",
        lookup_key="pro",
        metadata={"monthly_credits": str(credits)} | metadata,
    )
    end = START + relativedelta(months=1)
    sync_subscription(
        conn, **NAMES, billing_cycle_anchor=START, started_at=START,
        items=[item(**OF_ITEM, current_period_start=START, current_period_end=end)],
    )  # fmt: skip
    sync_invoice(
        conn,
        **NAMES,
        stripe_invoice_id="in_1",
        lines=[line("il_1", **OF_ITEM, period_start=START, period_end=end)],
    )


@pytest.mark.parametrize("search", ["ada@example.com", "cus_1", "sub_1", "in_1", "account"])
def test_by_whatever_names_her_the_payment_and_its_credits_are_shown(
    conn: psycopg.Connection, ada: UUID, explain: Explain, search: str
) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn)
    [case] = explain(str(ada) if search == "account" else search)
    assert case["account"]["account_id"] == str(ada)
    assert case["findings"] == []
    told = {each["id"]: each for each in case["timeline"]}
    assert told["in_1"]["what"] == "invoice paid"
    assert told["sub_1"]["what"] == "subscription active"
    assert [each["credits"] for each in case["timeline"] if each["what"] == "credits: grant"] == [100]


def test_each_payment_has_its_lines_its_worth_and_what_the_ledger_has(
    conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn, initial_credits="20")
    conn.execute("select billing.spend_credits(%s, 70, 'job')", [ada])
    [case] = explain("in_1")
    [payment] = case["payments"]
    assert (payment["stripe_id"], payment["status"]) == ("in_1", "paid")
    assert [each["stripe_price_id"] for each in payment["lines"]] == ["price_1"]
    told = {each["what"]: (each["worth"], each["posted"], each["state"]) for each in payment["credits"]}
    assert told == {"month": (100, 100, "granted"), "initial credits": (20, 20, "granted")}
    assert sum(each["remaining"] for each in payment["credits"]) == 50


def test_a_grant_that_is_gone_is_missing_and_named(
    database: Database, conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn)
    with database.connect(admin=True) as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("delete from billing.credit_consumptions")
        admin.execute("delete from billing.credit_grants")
        admin.execute("delete from billing.credit_entries")
        admin.execute("update billing.credit_balances set balance = 0")
    [case] = explain("cus_1")
    [month] = case["payments"][0]["credits"]
    assert (month["worth"], month["posted"], month["state"]) == (100, 0, "missing")
    assert "paid_and_not_granted" in findings(case)["discrepancy"][0]
    assert "missing" in explain("cus_1", "--")


def test_free_credits_are_shown_until_they_are_used_up(
    conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    conn.execute("select billing.set_free_credits('welcome', 50, 'once')")
    conn.execute("select billing.allocate_due_credits()")
    [case] = explain(str(ada))
    [payment] = case["payments"]
    assert (payment["what"], payment["status"]) == ("free credits", "free")
    [credits] = payment["credits"]
    assert (credits["worth"], credits["posted"], credits["remaining"], credits["state"]) == (
        50,
        50,
        50,
        "granted",
    )
    assert "no_free_credits" not in findings(case)
    conn.execute("select billing.spend_credits(%s, 50, 'job')", [ada])
    [case] = explain(str(ada))
    assert case["payments"] == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "update auth.users set email_confirmed_at = null",
            "neither an e-mail address nor a phone number is confirmed",
        ),
        ("update auth.users set banned_until = now() + interval '1 day'", "the user is banned"),
        (None, "another account of the same person gets them"),
    ],
)
def test_why_an_account_gets_no_free_credits(
    database: Database, conn: psycopg.Connection, explain: Explain, change: str | None, why: str
) -> None:
    conn.execute("select billing.set_free_credits('daily', 50, 'day')")
    create_user(database, "eve@example.com")
    eve = account_of(conn, create_user(database, "eve+2@example.com"))
    if change is not None:
        with database.connect(admin=True) as admin:
            admin.execute(change + " where email = 'eve+2@example.com'")
    [case] = explain(str(eve))
    assert findings(case)["no_free_credits"][0] == f"no free credits by the rule daily: {why}"


def test_months_of_a_paused_subscription_wait_with_the_reason(
    conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    link(conn, ada, "cus_1")
    sync_product(conn, stripe_product_id="prod_1")
    sync_price(
        conn, stripe_price_id="price_1", metadata={"monthly_credits": "100"}, recurring_interval="year"
    )
    end = START + timedelta(days=365)
    of_item = OF_ITEM | {"current_period_start": START, "current_period_end": end}
    sync_subscription(conn, **NAMES, billing_cycle_anchor=START, started_at=START, items=[item(**of_item)])
    sync_invoice(
        conn,
        **NAMES,
        stripe_invoice_id="in_1",
        lines=[line("il_1", **OF_ITEM, period_start=START, period_end=end)],
    )
    sync_subscription(
        conn, **NAMES, billing_cycle_anchor=START, started_at=START, items=[item(**of_item)], status="paused",
        as_of=datetime.now(UTC),
    )  # fmt: skip
    [case] = explain("cus_1")
    what, mend = findings(case)["waiting_months"]
    assert what.endswith(": the subscription is paused")
    assert mend == "resume it in Stripe"


def test_an_event_of_nobody_is_explained_by_itself(conn: psycopg.Connection, explain: Explain) -> None:
    conn.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, settled_at, "
        "created_at) values ('evt_1', 'payout.paid', false, '{}', 'dead', 'odd', now(), now())"
    )
    [case] = explain("evt_1")
    assert findings(case)["dead_event"][0] == "payout.paid evt_1 is dead: odd"


def findings(case: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["check"]: (each["what"], each["mend"]) for each in case["findings"]}


def test_an_account_without_a_customer_is_told_how_to_get_one(ada: UUID, explain: Explain) -> None:
    [case] = explain("ada@example.com")
    assert findings(case)["no_customer"][1] == "till customers link ada@example.com cus_…"


def test_a_plan_without_credits_is_named(conn: psycopg.Connection, ada: UUID, explain: Explain) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn, credits=0)
    [case] = explain("cus_1")
    assert findings(case)["plan_without_credits"][0] == "plan pro declares no credits"


def test_a_customer_that_no_account_owns_is_named_with_what_waits_for_it(
    conn: psycopg.Connection, explain: Explain
) -> None:
    conn.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email) values ('cus_9', false, 'eve@example.com')"
    )
    conn.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, waiting_for, "
        "settled_at, created_at) values ('evt_1', 'invoice.paid', false, '{}', 'parked', 'no account', 'cus_9', now(), "
        "now())"
    )
    for search in ("cus_9", "EVE@example.com"):
        [case] = explain(search)
        assert case["account"] is None
        assert findings(case)["unlinked"][1] == "till customers link EMAIL cus_9"
        assert findings(case)["parked_event"][1] == "till events show evt_1, then till events retry evt_1"


def test_frozen_debts_and_holds_are_reasons(conn: psycopg.Connection, ada: UUID, explain: Explain) -> None:
    conn.execute("select billing.grant_credits(%s, 100, 'first')", [ada])
    conn.execute("select billing.hold_credits(%s, 30, 'work')", [ada])
    conn.execute("select billing.freeze_account(%s, 'looked odd', 'me')", [ada])
    [case] = explain("ada@example.com")
    assert findings(case)["held"][0] == "30 credits are held for work in progress"
    assert findings(case)["frozen"][0] == "the account is frozen: looked odd"


def test_credits_under_review_are_a_reason_however_long_the_timeline(
    database: Database, conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    with database.connect(admin=True) as admin:
        admin.execute(
            "insert into billing.held_credits (account_id, kind, amount, card_fingerprint, matched_account_id, "
            "idempotency_key, source, held_at) values (%s, 'initial', 25, 'fp', %s, 'k', 'stripe.subscription', "
            "now() - interval '1 year')",
            [ada, account_of(conn, create_user(database))],
        )
    for number in range(70):
        conn.execute("select billing.grant_credits(%s, 1, %s)", [ada, f"key {number}"])
    [case] = explain("ada@example.com")
    what, mend = findings(case)["review"]
    assert what == "25 credits are under review"
    assert mend.startswith("till credits review approve ")
    assert mend.endswith(" --reason …")


def test_a_plan_of_features_lacks_nothing(conn: psycopg.Connection, ada: UUID, explain: Explain) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn, credits=0, features='{"projects": true}')
    [case] = explain("cus_1")
    assert "plan_without_credits" not in findings(case)


def test_a_ledger_that_is_off_is_said(
    database: Database, conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    conn.execute("select billing.grant_credits(%s, 100, 'first')", [ada])
    with database.connect(admin=True) as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("update billing.credit_balances set balance = 99")
    [case] = explain("ada@example.com")
    assert "balance" in findings(case)["discrepancy"][0]


def test_for_people_it_is_a_table_and_one_line_that_says_all_is_well(
    conn: psycopg.Connection, ada: UUID, explain: Explain
) -> None:
    link(conn, ada, "cus_1")
    subscribe(conn)
    told = explain("cus_1", "--")
    assert "Nothing is missing" in told
    assert "in_1" in told


def test_a_balance_of_zero_is_shown(ada: UUID, explain: Explain) -> None:
    assert [line.split() for line in explain("ada@example.com", "--").splitlines() if "balance" in line] == [
        ["balance", "0"]
    ]


def test_what_nobody_knows_is_an_error_with_what_to_do(explain: Explain) -> None:
    assert "nothing is known of 'cus_none'" in explain("cus_none", expect=1)
