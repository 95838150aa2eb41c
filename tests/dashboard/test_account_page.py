"""The page of an account: from payments to worth to ledger, what is missing and why, and what it costs to show."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from dateutil.relativedelta import relativedelta
from psycopg.rows import dict_row

from cli.explain import case_of
from tests.dashboard.conftest import Browser
from tests.security.test_plans_of_queries import plan_nodes
from tests.sql.calls import (
    Connection,
    grant,
    hold,
    item,
    line,
    link,
    spend,
    sync_dispute,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_subscription,
)
from tests.support import Database
from tests.worker.events import Event, receive

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
END = START + relativedelta(months=1)
OF_ITEM = {"stripe_subscription_item_id": "si_1", "stripe_price_id": "price_1"}
ENTRIES = 30_000


@pytest.fixture
def subscriber(app: Connection, worker: Connection, account: UUID) -> UUID:
    """Ada, who paid for a month of 100 credits and spent 30."""
    link(app, account)
    sync_product(worker, stripe_product_id="prod_1", name="Pro")
    sync_price(worker, stripe_price_id="price_1", metadata={"monthly_credits": "100"})
    names = {"stripe_subscription_id": "sub_1", "stripe_customer_id": "cus_1"}
    sync_subscription(
        worker, **names, billing_cycle_anchor=START, started_at=START,
        items=[item(**OF_ITEM, current_period_start=START, current_period_end=END)],
    )  # fmt: skip
    sync_invoice(
        worker,
        **names,
        stripe_invoice_id="in_1",
        lines=[line("il_1", **OF_ITEM, period_start=START, period_end=END)],
    )
    spend(app, account, 30, description="Rendered a video")
    return account


def test_the_way_from_payment_to_credits_is_shown(browser: Browser, subscriber: UUID) -> None:
    text = browser.see(f"/accounts/{subscriber}")
    line_shown = f"Pro {START.day} {START:%b %Y} – {END.day} {END:%b %Y} 20.00 USD"
    for part in ("in_1", line_shown, "Month", "100 100 70 granted", "Rendered a video", "−30"):
        assert part in text, part
    assert "Nothing is missing: every payment was turned into credits." in text


def test_objects_lead_to_stripes_dashboard_of_the_mode_and_the_account(
    browser: Browser, subscriber: UUID, database: Database
) -> None:
    page = f"/accounts/{subscriber}"
    assert 'href="https://dashboard.stripe.com/test/invoices/in_1"' in browser.get(page).text
    with database.connect(admin=True) as admin:
        admin.execute("update billing.settings set stripe_account_id = 'acct_1', livemode = true")
    html = browser.get(page).text
    assert 'href="https://dashboard.stripe.com/acct_1/invoices/in_1"' in html
    assert 'href="https://dashboard.stripe.com/acct_1/subscriptions/sub_1"' in html


def test_what_is_missing_is_named_with_its_command_and_its_page(
    browser: Browser, app: Connection, worker: Connection, admin: Connection, subscriber: UUID
) -> None:
    sync_payment(worker)
    sync_dispute(worker)
    hold(app, subscriber, 5)
    app.execute("select billing.freeze_account(%s, 'Odd', 'grace')", [subscriber])
    receive(admin, Event("invoice.paid", {"id": "in_2", "customer": "cus_1"}, id="evt_1"))
    admin.execute(
        "update billing.stripe_events set status = 'dead', settled_at = now(), last_error = 'no such price'"
    )
    page = browser.get(f"/accounts/{subscriber}").text
    text = browser.see(f"/accounts/{subscriber}")
    assert "invoice.paid evt_1 is dead: no such price" in text
    assert "<code>till events show evt_1</code>, then <code>till events retry evt_1</code>" in page
    assert 'href="/inbox/evt_1"' in page
    assert 'href="/disputes/du_1"' in page
    assert "till accounts unfreeze ada@example.com" in text
    assert "5 credits are held for work in progress" in text
    assert "Nothing is missing" not in text


def test_a_grant_that_is_gone_is_missing(browser: Browser, admin: Connection, subscriber: UUID) -> None:
    admin.execute("set session_replication_role = replica")
    for table in ("credit_consumptions", "credit_grants", "credit_entries"):
        admin.execute(f"delete from billing.{table}".encode())
    admin.execute("update billing.credit_balances set balance = 0")
    text = browser.see(f"/accounts/{subscriber}")
    assert "100 0 0 missing" in text
    assert "paid_and_not_granted" in text
    assert "till credits recalculate" in text


def test_every_entry_is_checked_when_asked(browser: Browser, admin: Connection, subscriber: UUID) -> None:
    admin.execute("set session_replication_role = replica")
    admin.execute("update billing.credit_balances set balance = balance + 1")
    page = f"/accounts/{subscriber}"
    assert "Nothing is missing" in browser.see(page)
    assert f'href="{page}?prove=1"' in browser.get(page).text
    proved = browser.get(f"{page}?prove=1").text
    assert "balance_is_the_sum_of_entries" in proved
    assert "data-refresh" not in proved  # or each refresh would check them again


def test_the_page_of_a_large_account_reads_no_table_as_a_whole(
    database: Database, app: Connection, worker: Connection, admin: Connection, subscriber: UUID
) -> None:
    """However much an account spends: its page reads what it shows, and the payments."""
    admin.execute("set session_replication_role = replica")
    admin.execute(
        "insert into billing.credit_entries (account_id, kind, amount, balance_after, source, key_space, "
        "idempotency_key, occurred_at) select %s, 'spend', -1, n, 'app', 'caller', 'k' || n, now() "
        "from generate_series(1, %s) as n",
        [subscriber, ENTRIES],
    )
    admin.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, created_at, settled_at) "
        "select 'evt_' || n, 'invoice.paid', false, '{}', 'applied', now(), now() from generate_series(1, %s) as n",
        [ENTRIES],
    )
    admin.execute("analyze")
    seen: list[str] = []

    class Watched(psycopg.Cursor[dict[str, object]]):
        def execute(self, query, params=None, **more):  # type: ignore[no-untyped-def]
            seen.append(psycopg.ClientCursor(self.connection).mogrify(query, params))
            return super().execute(query, params, **more)

    with database.connect("service_role") as conn:
        conn.row_factory, conn.cursor_factory = dict_row, Watched
        case_of(conn, subscriber, is_proved=False)
    assert len(seen) > 8
    for query in seen:
        nodes = plan_nodes(app, query)
        read = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes
            if node.get("Relation Name") in ("credit_entries", "stripe_events")
        )
        assert read <= 200, query


def test_grants_by_hand_are_no_payments(browser: Browser, app: Connection, account: UUID) -> None:
    grant(app, account, 50, description="Welcome")
    text = browser.see(f"/accounts/{account}")
    assert "No payments yet" in text
    assert "no Stripe customer belongs to this account" in text
