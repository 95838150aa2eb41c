"""What the pages say: the figures, and text that stays text; with which privileges the data is read."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cli.dashboard.database import ServiceDatabase
from tests.dashboard.conftest import Browser, served
from tests.dashboard.history import DAYS, play
from tests.sql.calls import (
    Connection,
    adjust,
    call,
    fetch,
    grant,
    hold,
    link,
    record_fraud_warning,
    spend,
    sync_dispute,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    value,
)
from tests.support import Database, account_of, create_user
from tests.worker.events import Event, receive

TRAP = "\"'><script>document.title='trapped'</script><img src=x onerror=alert(1)>{{ 7*7 }}"
PAGES = (
    "/", "/?days=365", "/search?q=nobody", "/fraud", "/fraud?status=all", "/fraud/reviews", "/fraud/held", "/disputes",
    "/disputes?show=open", "/accounts", "/customers", "/subscriptions", "/inbox", "/inbox?status=dead",
    "/inbox?status=waiting", "/notifications", "/worker", "/doctor", "/settings",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_installation_has_pages_too(browser: Browser, path: str) -> None:
    assert "Tillbase" in browser.see(path)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/fraud/issfr_none",
        "/inbox/evt_none",
        "/disputes/du_none",
        "/customers/cus_none",
        f"/accounts/{UUID(int=1)}",
        "/accounts/1",
        "/fraud?status=x",
    ],
)
def test_what_is_not_there_is_said_so(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "Nothing is here" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/fraud?before=x", "/fraud?before=2026-01-01~x", "/accounts?before=2026-01-01~x", "/inbox?before=~~",
     "/notifications?before=99999999999999999999", "/?days=x&currency=%3Cb%3E", "/subscriptions?status=x",
     "/search?q=cus_%27", "/search?q=%25", "/search?q=evt_%27"],
)  # fmt: skip
def test_a_crooked_address_is_no_accident(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 200


def test_a_strangers_text_is_shown_and_never_markup(
    database: Database,
    browser: Browser,
    app: Connection,
    worker: Connection,
    conn: Connection,
    admin: Connection,
) -> None:
    email = "x\"'><script>alert(1)</script>@example.com"
    account = account_of(conn, create_user(database, email))
    admin.execute("update billing.accounts set name = %s", [TRAP])
    link(app, account)
    sync_product(worker, stripe_product_id="prod_1", name=TRAP, metadata={"monthly_credits": "1"})
    sync_price(worker, stripe_product_id="prod_1", nickname=TRAP, lookup_key=TRAP)
    sync_subscription(worker)
    adjust(app, account, 10, reason=TRAP)
    grant(app, account, 10, description=TRAP)
    hold(app, account, 5, description=TRAP)
    sync_payment(worker, failure_code=TRAP)
    record_fraud_warning(worker, fraud_type=TRAP)
    sync_dispute(worker, reason=TRAP)
    app.execute("select billing.note_fraud('issfr_1', %s, %s)", [TRAP, TRAP])
    receive(admin, Event(TRAP, {"name": TRAP}, id="evt_1"))
    admin.execute(
        "update billing.stripe_events set status = 'dead', settled_at = now(), last_error = %s, api_version = %s",
        [TRAP, TRAP],
    )
    admin.execute(
        "insert into billing.notifications (audience, kind, dedupe_key, account_id, status, last_error) "
        "values ('customer', 'test', 'k', %s, 'dead', %s)",
        [account, TRAP],
    )
    admin.execute(
        "update billing.settings set checkout_branding = jsonb_build_object('name', %s::text)", [TRAP]
    )
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email, name) values ('cus_9', false, %s, %s)",
        [email, TRAP],
    )
    pages = [
        *PAGES,
        "/fraud/issfr_1",
        "/inbox/evt_1",
        "/disputes/du_1",
        "/customers/cus_9",
        f"/accounts/{account}",
    ]
    seen = {path: browser.get(path) for path in pages}
    for path, answer in seen.items():
        assert answer.status_code == 200, path
        assert answer.text.count("<script") == 1, path
        assert "<img" not in answer.text, path
    assert f"&gt;{'&lt;script&gt;'}" in seen["/fraud/issfr_1"].text
    for path in (
        "/fraud/issfr_1",
        f"/accounts/{account}",
        "/inbox/evt_1",
        "/disputes",
        "/disputes/du_1",
        "/customers/cus_9",
        "/subscriptions",
        "/settings",
        "/notifications",
    ):
        assert "onerror=alert(1)" in seen[path].text, path
    for path in ("/accounts", "/fraud", "/fraud/issfr_1", "/disputes/du_1"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;@example.com" in seen[path].text, path
    searched = browser.get("/search", params={"q": f"nobody {TRAP}"})
    assert searched.text.count("<script") == 1
    told = browser.act("/fraud/issfr_1/resolve", reason="because", decision=TRAP)
    assert "(TB073)" in told
    assert browser.get("/fraud").text.count("<script") == 1


def test_anything_is_found_from_any_page(
    database: Database,
    browser: Browser,
    app: Connection,
    worker: Connection,
    admin: Connection,
    conn: Connection,
    account: UUID,
) -> None:
    link(app, account)
    sync_subscription(worker)
    sync_payment(worker)
    sync_dispute(worker)
    record_fraud_warning(worker)
    receive(admin, Event("invoice.paid", {"id": "in_1"}, id="evt_1"))
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email, name) values "
        "('cus_9', false, 'eve@example.com', 'Eve Moneypenny')"
    )
    owner = value(conn, "select owner_id from billing.accounts where id = %s", [account])
    other = account_of(conn, create_user(database, "adam@example.com"))
    create_user(database, "nada@example.com")  # has all of hers in it, and is not meant
    assert 'action="/search"' in browser.get("/worker").text

    def leads_to(text: str) -> str | None:
        return browser.get("/search", params={"q": text}).headers.get("location")

    for text in (
        "ada@example.com",
        " ADA@Example.com ",
        str(account),
        str(owner).upper(),
        "cus_1",
        "sub_1",
        "ch_1",
        "pi_1",
    ):
        assert leads_to(text) == f"/accounts/{account}", text
    assert leads_to("evt_1") == "/inbox/evt_1"
    assert leads_to("du_1") == "/disputes/du_1"
    assert leads_to("issfr_1") == "/fraud/issfr_1"
    assert leads_to("cus_9") == leads_to("moneypenny") == "/customers/cus_9"
    assert leads_to("adam@") == f"/accounts/{other}"
    assert leads_to("") == "/accounts"
    both = browser.get("/search", params={"q": "example"}).text
    assert str(account) in both
    assert str(other) in both
    assert "/customers/cus_9" in both
    for text in ("ad", "cus_2", str(uuid4()), "%"):
        assert "Nothing is known of" in browser.get("/search", params={"q": text}).text, text


def test_the_overview_adds_up_to_what_a_plain_count_says(
    database: Database, browser: Browser, admin: Connection, conn: Connection, app: Connection
) -> None:
    accounts = [account_of(conn, create_user(database, f"user{n}@example.com")) for n in range(3)]
    for n, account in enumerate(accounts):
        link(app, account, f"cus_{n}")
    play(admin, accounts, [f"cus_{n}" for n in range(len(accounts))])
    assert fetch(conn, "select * from billing.ledger_discrepancies") == []
    today = datetime.now(UTC).date()
    paid = fetch(conn, "select amount, charged_at from billing.payments")
    back = fetch(conn, "select amount, refunded_at from billing.refunds")
    for days in (30, 90):
        since = today - timedelta(days=days - 1)
        came = sum(row["amount"] for row in paid if row["charged_at"].astimezone(UTC).date() >= since)
        went = sum(row["amount"] for row in back if row["refunded_at"].astimezone(UTC).date() >= since)
        text = browser.see(f"/?days={days}")
        assert f"{(came - went) / 100:,.2f} USD in {days} days" in text
        assert f"{came / 100:,.2f} USD paid" in text
    for ago in (0, 1, 40, DAYS - 1):
        day = today - timedelta(days=ago)
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)
        owed = value(
            app, "select sum(public.credit_balance_as_of(account_id, %s)) from billing.credit_balances", [end]
        )
        assert f"{day.day} {day:%b %Y}: {owed:,}<" in browser.get("/?days=90").text
        one = value(app, "select public.credit_balance_as_of(%s, %s)", [accounts[0], end])
        assert f"{day.day} {day:%b %Y}: {one:,}<" in browser.get(f"/accounts/{accounts[0]}").text


# Rows by themselves, without what leads to them.
WAITING = {
    "dispute needs a response": (
        "/disputes",
        "insert into billing.disputes (stripe_dispute_id, stripe_charge_id, livemode, status, currency, amount, "
        "disputed_at, as_of) values ('du_1', 'ch_1', false, 'needs_response', 'usd', 1900, now(), now())",
    ),
    "early fraud warning is open": (
        "/fraud",
        "insert into billing.fraud_warnings (stripe_early_fraud_warning_id, stripe_charge_id, livemode, fraud_type, "
        "actionable, warned_at, as_of) values ('issfr_1', 'ch_1', false, 'misc', true, now(), now())",
    ),
    "Radar review is open": (
        "/fraud",
        "insert into billing.reviews (stripe_review_id, livemode, is_open, reason, opened_at, as_of) "
        "values ('prv_1', false, true, 'rule', now(), now())",
    ),
    "grant of credits is under review": (
        "/fraud",
        "insert into billing.held_credits (account_id, matched_account_id, kind, amount, card_fingerprint, "
        "idempotency_key, source, held_at) values (gen_random_uuid(), gen_random_uuid(), 'initial', 5, 'f', 'k', "
        "'test', now())",
    ),
    "event could not be applied": (
        "/inbox",
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, created_at, "
        "settled_at) values ('evt_1', 'invoice.paid', false, '{}', 'dead', 'why', now(), now())",
    ),
    "event waits for its customer to be linked": (
        "/inbox",
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, created_at, "
        "settled_at) values ('evt_1', 'invoice.paid', false, '{}', 'parked', 'why', now(), now())",
    ),
    "event waits for data from Stripe": (
        "/inbox",
        "insert into billing.stripe_lookups (stripe_event_id, msg_id, attempts) values ('evt_1', 1, 4)",
    ),
    "notification could not be delivered": (
        "/notifications",
        "insert into billing.notifications (audience, kind, dedupe_key, status, last_error) "
        "values ('administrators', 'test', 'one', 'dead', 'why')",
    ),
    "discrepancy of the ledger was found": (
        "/worker",
        "insert into billing.found_discrepancies (account_id, invariant, detail) "
        "values (gen_random_uuid(), 'test', 'why')",
    ),
}


@pytest.mark.parametrize("what", WAITING)
def test_all_is_quiet_only_when_nothing_waits(
    database: Database, browser: Browser, admin: Connection, what: str
) -> None:
    page, row = WAITING[what]
    with database.connect(application_name="till worker"):
        assert "All quiet" in browser.see("/")
        assert "waiting" not in browser.get("/").text.split("<main")[0]
        admin.execute("set session_replication_role = replica")
        admin.execute(row.encode())
        text = browser.see("/")
        assert "All quiet" not in text
        assert f"1 {what}" in text
        menu = browser.get("/settings").text.split("<main")[0]
        assert re.search(f'<a href="{page}">[^<]*<span class="count">1<', menu)
        assert "<title>(1) " in menu


def test_without_a_worker_it_is_not_quiet(browser: Browser) -> None:
    assert "No worker is connected" in browser.see("/")
    assert "All quiet" not in browser.see("/")


def test_the_header_says_which_database_and_which_mode(
    database: Database, browser: Browser, admin: Connection
) -> None:
    parts = conninfo_to_dict(database.url)
    text = browser.see("/")
    assert f"Test mode {parts['host']}:{parts['port']} / {parts['dbname']}" in text
    assert '<body class=""' in browser.get("/").text
    admin.execute("update billing.settings set livemode = true")
    for path in ("/", "/doctor", "/settings"):
        html = browser.get(path).text
        assert '<body class="live"' in html
        assert "Live mode" in html


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://postgres:hunter2@db.abc.supabase.co:5432/postgres", "db.abc.supabase.co / postgres"),
        ("postgresql://postgres.abc:hunter2@aws-0-eu.pooler.supabase.com/postgres", "abc / postgres"),
        ("postgresql://me:hunter2@localhost:6000/shop", "localhost:6000 / shop"),
        ("postgresql:///shop", "localhost / shop"),
    ],
)
def test_a_database_is_named_without_its_password(url: str, place: str) -> None:
    assert ServiceDatabase(url).place == place


def test_currencies_are_not_added_together(browser: Browser, worker: Connection) -> None:
    at = datetime.now(UTC)
    for number, (currency, amount) in enumerate([("usd", 1900), ("usd", 100), ("jpy", 5000)]):
        sync_payment(
            worker,
            stripe_charge_id=f"ch_{number}",
            stripe_customer_id=None,
            currency=currency,
            amount=amount,
            charged_at=at,
        )
    sync_refund(worker, stripe_charge_id="ch_0", amount=500, refunded_at=at)
    assert "15.00 USD in 30 days" in browser.see("/")
    assert "5,000 JPY in 30 days" in browser.see("/?currency=jpy")


def test_an_account_shows_what_it_has(
    browser: Browser, app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account)
    sync_product(worker)
    sync_price(worker)
    sync_subscription(worker)
    sync_payment(worker)
    grant(app, account, 1200)
    spend(app, account, 200, description="Rendered a video")
    hold(app, account, 300, description="Rendering")
    text = browser.see(f"/accounts/{account}")
    for part in (
        "1,000 credits, 300 held",
        "Available 700",
        "Held 300",
        "−200",
        "Rendered a video",
        "20.00 USD",
        "sub_1",
        "cus_1",
    ):
        assert part in text, part


def test_what_the_running_proof_found_is_named_until_it_is_in_order(
    browser: Browser, app: Connection, admin: Connection, account: UUID
) -> None:
    def prove() -> str:
        while call(app, "prove_accounts", accounts_max=100)["accounts"]:
            pass
        return browser.see("/worker")

    grant(app, account, 10)
    assert "No accounts checked yet" in browser.see("/worker")
    assert "The ledger and the payments agree" in prove()
    admin.execute("update billing.credit_balances set balance = balance + 1")
    text = prove()
    assert "balance is the sum of entries" in text
    assert "ada@example.com" in text
    admin.execute("update billing.credit_balances set balance = balance - 1")
    assert "The ledger and the payments agree" in prove()


def test_the_worker_is_seen_when_it_is_connected(browser: Browser, database: Database) -> None:
    assert "No worker is connected" in browser.see("/worker")
    with database.connect(application_name="till worker"):
        assert "Workers connected 1" in browser.see("/worker")


def test_books_are_read_as_the_apps_server_and_not_written(database: Database) -> None:
    service = ServiceDatabase(database.url)
    service.open()
    try:
        with service.reading() as conn:
            [row] = conn.execute("select current_user::text as name").fetchall()
            assert row == {"name": "service_role"}
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), service.reading() as conn:
            conn.execute("select billing.ensure_account(%s)", [uuid4()])
        with pytest.raises(psycopg.errors.InsufficientPrivilege), service.writing() as conn:
            conn.execute("update billing.credit_balances set balance = 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), service.reading() as conn:
            conn.execute("select * from auth.users")
    finally:
        service.close()


def test_without_the_schema_it_says_what_to_do(empty_database: Database) -> None:
    with served(empty_database.url) as browser:
        answer = browser.enter().get("/")
    assert answer.status_code == 500
    assert "supabase db push" in answer.text


def test_without_postgres_it_says_so_and_keeps_the_password() -> None:
    with served("postgresql://postgres:hunter2@127.0.0.1:1/nowhere") as browser:
        answer = browser.enter().get("/")
    assert answer.status_code == 503
    assert "Postgres does not answer" in answer.text
    assert "hunter2" not in answer.text
