"""Lists too long for a page: everything once, in order, also when more comes in meanwhile."""

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from cli.dashboard.paging import PAGE_ROWS
from tests.dashboard.conftest import Browser
from tests.sql.calls import Connection, grant, record_fraud_warning, sync_payment


def every_page(browser: Browser, path: str, pattern: str) -> list[str]:
    """What matches on all pages, in order; each page leads to the next one."""
    found: list[str] = []
    while True:
        html = browser.get(path).text
        found += re.findall(pattern, html)
        following = re.search(r'rel="next" href="([^"#]*)', html)
        if not following:
            return found
        path = following[1].replace("&amp;", "&")


@pytest.fixture
def crowd(conn: Connection, admin: Connection, app: Connection, worker: Connection) -> int:
    """So many of everything that they fill two pages and a bit; and many of one moment."""
    many = 2 * PAGE_ROWS + 7
    admin.execute(
        "with users as (insert into auth.users (id, email) select gen_random_uuid(), 'user' || i || '@example.com' "
        "from generate_series(1, %s) as i returning id) select count(*) from users", [many],
    )  # fmt: skip
    admin.execute("update billing.accounts set created_at = '2026-01-01'")
    admin.execute(
        "insert into billing.customers (stripe_customer_id, account_id, livemode) "
        "select 'cus_' || row_number() over (), id, false from billing.accounts"
    )
    admin.execute(
        "insert into billing.fraud_warnings (stripe_early_fraud_warning_id, stripe_charge_id, stripe_customer_id, "
        "account_id, livemode, fraud_type, actionable, warned_at, as_of) "
        "select 'issfr_' || n, 'ch_' || n, stripe_customer_id, account_id, false, 'misc', true, "
        "timestamptz '2026-01-01' + (n / 30) * interval '1 day', now() "
        "from (select *, row_number() over () as n from billing.customers) as customers"
    )
    admin.execute(
        "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, account_id, livemode, status, "
        "billing_cycle_anchor, started_at, as_of) select 'sub_' || n, stripe_customer_id, account_id, false, 'active', "
        "now(), timestamptz '2026-01-01' + (n / 30) * interval '1 day', now() "
        "from (select *, row_number() over () as n from billing.customers) as customers"
    )
    admin.execute(
        "insert into billing.disputes (stripe_dispute_id, stripe_charge_id, livemode, status, currency, amount, "
        "disputed_at, as_of) select 'du_' || n, 'ch_' || n, false, 'needs_response', 'usd', 1, '2026-01-01', now() "
        "from generate_series(1, %s) as n", [many],
    )  # fmt: skip
    admin.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, settled_at, last_error, "
        "created_at, received_at) select 'evt_' || n, 'invoice.paid', false, '{}', 'dead', now(), 'why', now(), "
        "timestamptz '2026-01-01' + (n / 30) * interval '1 day' from generate_series(1, %s) as n", [many],
    )  # fmt: skip
    admin.execute(
        "insert into billing.notifications (audience, kind, dedupe_key, status, last_error) "
        "select 'administrators', 'test', 'key ' || n, 'dead', 'reason ' || n from generate_series(1, %s) as n",
        [many],
    )  # fmt: skip
    return many


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/fraud", r'data-key="(issfr_\d+)"'),
        ("/fraud?status=all", r'data-key="(issfr_\d+)"'),
        ("/disputes", r'data-key="(du_\d+)"'),
        ("/disputes?show=open", r'data-key="(du_\d+)"'),
        ("/accounts", r'data-key="([0-9a-f-]{36})"'),
        ("/subscriptions", r'data-key="(sub_\d+)"'),
        ("/subscriptions?status=active", r'data-key="(sub_\d+)"'),
        ("/inbox", r'data-key="(evt_\d+)"'),
        ("/inbox?status=dead&type=invoice.paid", r'data-key="(evt_\d+)"'),
        ("/notifications?status=dead", r"reason (\d+)"),
    ],
)  # fmt: skip
def test_pages_have_everything_once(browser: Browser, crowd: int, path: str, pattern: str) -> None:
    found = every_page(browser, path, pattern)
    assert len(found) == crowd
    assert len(set(found)) == crowd


def test_what_comes_meanwhile_moves_no_page(
    browser: Browser, crowd: int, worker: Connection, admin: Connection
) -> None:
    first = browser.get("/fraud").text
    following = re.search(r'rel="next" href="([^"]*)', first)
    assert following
    sync_payment(worker, stripe_customer_id=None)
    record_fraud_warning(worker, stripe_customer_id=None, warned_at=datetime.now(UTC))
    rest = every_page(browser, following[1].replace("&amp;", "&"), r'data-key="(issfr_\d+)"')
    assert len(rest) == crowd - PAGE_ROWS
    assert not set(rest) & set(re.findall(r'data-key="(issfr_\d+)"', first))


def test_a_ledger_is_read_page_by_page(browser: Browser, app: Connection, account: UUID) -> None:
    for number in range(2 * PAGE_ROWS + 3):
        grant(app, account, 1, description=f"grant number {number}")
    found = every_page(
        browser, f"/accounts/{account}", r"grant number (\d+)</span></div></td>\s*<td data-label=\"Credits\""
    )
    assert found == [str(number) for number in reversed(range(2 * PAGE_ROWS + 3))]


def test_the_menu_counts_what_waits(browser: Browser, worker: Connection, crowd: int) -> None:
    text = browser.see("/settings")
    assert f"Fraud {crowd} waiting" in text
    assert f"Disputes {crowd} waiting" in text
    assert f"Inbox {crowd} waiting" in text
