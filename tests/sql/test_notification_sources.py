"""Which facts are told, to whom and how often: replays, late and reordered events tell nobody twice."""

from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    call,
    fetch,
    grant,
    link,
    move_clock,
    spend,
    sync_invoice,
    sync_price,
    sync_subscription,
    value,
)
from tests.sql.test_notifications import opt_in
from tests.sql.test_packs import PACK_CREDITS, buy, pack
from tests.sql.test_stripe_events import read, receive, settle
from tests.support import Database, account_of, create_user

QUARTER = timedelta(minutes=15)


def told(conn: Connection, kind: str | None = None) -> list[Row]:
    rows = fetch(conn, "select * from billing.notifications order by id")
    return [row for row in rows if kind in (None, row["kind"])]


def payload(conn: Connection) -> Row:
    (only,) = told(conn)
    return only["payload"]


@pytest.fixture
def subscriber(conn: Connection, worker: Connection, account: UUID) -> UUID:
    """An account that subscribes to 100 credits a month."""
    link(conn, account)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    return account


# Events that were set aside


def test_a_dead_event_is_reported_in_its_own_transaction(
    conn: Connection, app: Connection, worker: Connection
) -> None:
    receive(app, type="customer.updated")
    (message,) = read(worker)
    with worker.transaction(force_rollback=True):
        settle(worker, message, "dead", "because")
    assert told(conn) == []
    settle(worker, message, "dead", "because")
    (row,) = told(conn)
    assert (row["audience"], row["kind"], row["payload"]["reason"]) == (
        "administrators",
        "event_dead",
        "because",
    )


@pytest.mark.parametrize("status", ["applied", "ignored"])
def test_applied_events_notify_nobody(
    conn: Connection, app: Connection, worker: Connection, status: str
) -> None:
    receive(app)
    (message,) = read(worker)
    settle(worker, message, status, None if status == "applied" else "not for us")
    assert told(conn) == []


def test_an_event_that_is_dead_again_is_reported_again(
    conn: Connection, app: Connection, worker: Connection
) -> None:
    for times in (1, 2):
        receive(app)
        (message,) = read(worker)
        settle(worker, message, "dead", "because")
        settle(worker, message, "dead", "because")
        assert len(told(conn, "credits_not_granted")) == times
        app.execute("select billing.retry_stripe_event('evt_1')")


def age_events(conn: Connection, by: timedelta) -> None:
    conn.execute("update billing.stripe_events set settled_at = settled_at - %s", [by])


@pytest.mark.parametrize(
    ("status", "event_type", "kind"),
    [
        ("dead", "invoice.paid", "credits_not_granted"),
        ("parked", "checkout.session.completed", "credits_not_granted"),
        ("dead", "customer.subscription.updated", "event_dead"),
        ("parked", "customer.updated", None),
    ],
)
def test_an_event_that_is_retried_automatically_is_reported_after_a_while(
    conn: Connection, app: Connection, worker: Connection, status: str, event_type: str, kind: str | None
) -> None:
    receive(app, type=event_type)
    (message,) = read(worker)
    settle(worker, message, status, "because", "price_1")
    worker.execute("select billing.enqueue_reminders()")
    assert told(conn) == []
    age_events(conn, QUARTER)
    for _ in range(2):
        worker.execute("select billing.enqueue_reminders()")
    assert [row["kind"] for row in told(conn)] == ([kind] if kind else [])


HOUR = timedelta(hours=1, seconds=1)


def test_unpaid_events_of_an_unlinked_customer_are_reported_once_after_an_hour(
    conn: Connection, app: Connection, worker: Connection
) -> None:
    for number in range(3):
        receive(app, f"evt_{number}", type="customer.subscription.updated")
    for message in read(worker):
        settle(worker, message, "parked", "cus_1 is linked to no account", "cus_1")
    age_events(conn, QUARTER)
    worker.execute("select billing.enqueue_reminders()")
    assert told(conn) == []
    age_events(conn, HOUR)
    for _ in range(2):
        worker.execute("select billing.enqueue_reminders()")
    (only,) = told(conn)
    assert (only["kind"], only["audience"]) == ("event_waiting", "administrators")
    assert only["payload"]["waiting_for"] == "cus_1"


def test_events_queued_for_an_hour_are_reported_with_the_reason(
    conn: Connection, app: Connection, worker: Connection
) -> None:
    for number in range(12):
        receive(app, f"evt_{number:02}", type="checkout.session.completed")
        conn.execute(
            "update billing.stripe_events set received_at = received_at + %s where stripe_event_id = %s",
            [timedelta(seconds=number), f"evt_{number:02}"],
        )
    for message in read(worker, batch_size=20):
        call(
            worker, "delay_stripe_event", msg_id=message["msg_id"], event_id=message["stripe_event_id"],
            delay_seconds=60, reason="STRIPE_API_KEY is not set", excused=True,
        )  # fmt: skip
    worker.execute("select billing.enqueue_reminders()")
    assert told(conn) == []
    conn.execute("update billing.stripe_events set received_at = received_at - %s", [HOUR + QUARTER])
    for _ in range(2):
        worker.execute("select billing.enqueue_reminders()")
    (only,) = told(conn)
    assert only["kind"] == "event_waiting"
    assert only["payload"]["stripe_event_id"] == "evt_00"
    assert {event["reason"] for event in only["payload"]["first"]} == {"STRIPE_API_KEY is not set"}
    assert len(only["payload"]["first"]) == 10


@pytest.mark.slow
def test_reminders_do_not_read_parked_events_that_were_reported(
    database: Database, conn: Connection, worker: Connection
) -> None:
    with database.connect(admin=True) as admin:
        admin.execute(
            "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, "
            "waiting_for, created_at, received_at, settled_at, notified_at) "
            "select 'evt_' || n, 'invoice.paid', false, '{}', 'parked', 'x', 'cus_' || n, now(), now(), "
            "now() - interval '1 day', now() from generate_series(1, 200000) as n"
        )
        admin.execute("vacuum analyze billing.stripe_events")
        count = (
            "select (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int "
            "from pg_statio_all_tables where relname = 'stripe_events'"
        )

        def pages() -> int:
            worker.execute("select pg_stat_force_next_flush()")
            worker.execute("select 1")
            return value(admin, count)

        worker.execute("set enable_seqscan = off")
        before = pages()
        worker.execute("select billing.enqueue_reminders()")
        assert pages() - before < 50
    assert told(conn) == []


def test_an_event_that_was_applied_meanwhile_is_not_reported(
    conn: Connection, app: Connection, worker: Connection
) -> None:
    receive(app)
    (message,) = read(worker)
    settle(worker, message, "dead", "because", "price_1")
    age_events(conn, QUARTER)
    app.execute("select billing.retry_stripe_event('evt_1')")
    worker.execute("select billing.enqueue_reminders()")
    assert told(conn) == []


# Silence


def silent_for(conn: Connection, hours: float) -> None:
    conn.execute(
        "update billing.stripe_events set received_at = now() - %s", [timedelta(hours=hours, seconds=1)]
    )


def test_a_silence_is_reported_once(
    conn: Connection, app: Connection, worker: Connection, subscriber: UUID
) -> None:
    receive(app)
    for hours, times in ((47, 0), (48, 1)):
        silent_for(conn, hours)
        received_at = value(conn, "select received_at from billing.stripe_events")
        for _ in range(2):
            worker.execute("select billing.enqueue_reminders()")
            assert len(told(conn, "silence")) == times
        assert received_at == value(conn, "select received_at from billing.stripe_events")
    assert told(conn, "silence")[0]["payload"]["hours"] == 48
    receive(app, "evt_2")
    worker.execute("select billing.enqueue_reminders()")
    silent_for(conn, 60)
    worker.execute("select billing.enqueue_reminders()")
    assert len(told(conn, "silence")) == 2


def test_no_silence_is_reported_without_subscribers_or_if_disabled(
    conn: Connection, app: Connection, worker: Connection, subscriber: UUID
) -> None:
    receive(app)
    silent_for(conn, 100)
    conn.execute("update billing.settings set silence_after = null")
    worker.execute("select billing.enqueue_reminders()")
    conn.execute("update billing.settings set silence_after = '2 days'")
    sync_subscription(worker, status="canceled", ended_at=FEBRUARY, as_of=FEBRUARY)
    worker.execute("select billing.enqueue_reminders()")
    assert told(conn, "silence") == []


# Payments


def fail(worker: Connection, attempts: int = 1, **more: Any) -> str:
    failed: Row = {
        "status": "open",
        "billing_reason": "subscription_cycle",
        "amount_paid": 0,
        "paid_at": None,
        "lines": [],
        "attempt_count": attempts,
        "hosted_invoice_url": "https://invoice.stripe.com/i/1",
    }
    return sync_invoice(worker, **(failed | more))


def test_each_failed_attempt_is_reported_once(conn: Connection, worker: Connection, subscriber: UUID) -> None:
    opt_in(conn, "payment_failed")
    for attempts in (1, 1, 2):
        fail(worker, attempts, as_of=JANUARY + attempts * SECOND)
    assert fail(worker, 1) == "stale"
    assert [(row["account_id"], row["payload"]["attempts"]) for row in told(conn)] == [
        (subscriber, 1),
        (subscriber, 2),
    ]
    assert told(conn)[0]["payload"]["url"] == "https://invoice.stripe.com/i/1"


@pytest.mark.parametrize(
    "more",
    [{"attempts": 0}, {"billing_reason": "subscription_create"}, {"amount_due": 0}, {"status": "paid"}],
    ids=str,
)
def test_only_failures_are_reported(
    conn: Connection, worker: Connection, subscriber: UUID, more: Row
) -> None:
    opt_in(conn, "payment_failed")
    fail(worker, **more)
    assert told(conn) == []


def test_a_failure_that_arrives_after_the_payment_is_not_reported(
    conn: Connection, worker: Connection, subscriber: UUID
) -> None:
    opt_in(conn, "payment_failed")
    sync_invoice(worker, billing_reason="subscription_cycle", attempt_count=2)
    assert fail(worker, 1) == "stale"
    assert told(conn) == []


def test_a_receipt_names_the_credits_and_is_sent_once(
    conn: Connection, worker: Connection, subscriber: UUID
) -> None:
    opt_in(conn, "receipt")
    for seconds in range(2):
        sync_invoice(worker, as_of=JANUARY + seconds * SECOND)
    assert payload(conn) == {"credits": 100, "amount": 2000, "currency": "usd"}


def test_a_payment_without_credits_has_no_receipt(
    conn: Connection, worker: Connection, subscriber: UUID
) -> None:
    opt_in(conn, "receipt")
    sync_invoice(worker, lines=[])
    assert told(conn) == []


def test_a_pack_has_a_receipt(conn: Connection, worker: Connection, account: UUID) -> None:
    link(conn, account)
    pack(worker)
    opt_in(conn, "receipt")
    for _ in range(2):
        buy(worker)
    assert payload(conn) == {"credits": PACK_CREDITS, "amount": 2000, "currency": "usd"}


def test_disabled_kinds_write_no_row(conn: Connection, worker: Connection, subscriber: UUID) -> None:
    fail(worker)
    sync_invoice(worker, attempt_count=2)
    save_card(worker)
    worker.execute("select billing.enqueue_reminders()")
    expire(conn, subscriber, "6 days")
    assert look(worker) is None
    assert told(conn) == []


# Cards


def save_card(worker: Connection, card: str = "pm_1", months: int = 0, **more: Any) -> str:
    """A card that is good to the end of the month so many months from now."""
    year, month = value(
        worker,
        "select array[extract(year from it)::int, extract(month from it)::int] "
        "from (select now() at time zone 'UTC' + make_interval(months => %s) as it) as later",
        [months],
    )
    arguments: Row = {
        "stripe_payment_method_id": card,
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "card_brand": "visa",
        "card_last4": "4242",
        "card_exp_month": month,
        "card_exp_year": year,
        "as_of": JANUARY,
    }
    return answer(worker, "record_saved_card", **(arguments | more))


def remind_of_cards(conn: Connection, worker: Connection) -> int:
    worker.execute("select billing.enqueue_reminders()")
    return len(told(conn, "card_expiring"))


def test_an_expiring_card_is_reported_once(conn: Connection, worker: Connection, subscriber: UUID) -> None:
    opt_in(conn, "card_expiring")
    save_card(worker)
    save_card(worker, "pm_2", months=3)
    assert [remind_of_cards(conn, worker) for _ in range(2)] == [1, 1]
    (row,) = told(conn)
    assert (row["account_id"], row["payload"]["last4"]) == (subscriber, "4242")


@pytest.mark.parametrize(
    "change", [{"months": 40}, {"stripe_customer_id": None}], ids=["renewed", "detached"]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["in order", "late"])
def test_a_renewed_or_detached_card_is_not_reported(
    conn: Connection, worker: Connection, subscriber: UUID, change: Row, is_late: bool
) -> None:
    opt_in(conn, "card_expiring")
    steps: list[Row] = [{}, change | {"as_of": JANUARY + SECOND}]
    results = [save_card(worker, **step) for step in (reversed(steps) if is_late else steps)]
    assert results == (["applied", "stale"] if is_late else ["applied", "applied"])
    assert remind_of_cards(conn, worker) == 0


def test_two_states_of_one_second_give_the_same_row_in_either_order(
    conn: Connection, worker: Connection
) -> None:
    states: list[Row] = [{"months": 0}, {"months": 40}, {"stripe_customer_id": None}]
    for number, order in enumerate(permutations(states)):
        for state in order:
            save_card(worker, f"pm_{number}", **state)
    assert fetch(conn, "select distinct stripe_customer_id from billing.saved_cards") == [
        {"stripe_customer_id": None}
    ]


def test_a_card_that_will_not_be_charged_again_is_not_reported(
    conn: Connection, worker: Connection, subscriber: UUID
) -> None:
    opt_in(conn, "card_expiring")
    save_card(worker)
    sync_subscription(worker, status="canceled", ended_at=FEBRUARY, as_of=FEBRUARY)
    assert remind_of_cards(conn, worker) == 0


# Credits that expire


def expire(conn: Connection, account: UUID, after: str, amount: int = 10) -> None:
    """Credits that were granted long ago and expire after so long from now."""
    expires_at = value(conn, "select now() + %s::interval", [after])
    grant(conn, account, amount, expires_at=expires_at)
    conn.execute("update billing.credit_grants set effective_at = now() - interval '30 days'")


def look(worker: Connection, after: UUID | None = None, accounts_max: int = 100) -> UUID | None:
    return answer(worker, "enqueue_expiring_credits", after_account_id=after, accounts_max=accounts_max)


def test_expiring_credits_are_reported_once_for_each_day(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    opt_in(conn, "credits_expiring")
    expire(conn, account, "6 days", 10)
    expire(conn, account, "6 days", 5)
    expire(conn, account, "8 days")
    spend(conn, account, 3)
    for _ in range(2):
        assert look(worker) is None
    assert payload(conn)["credits"] == 12


def test_the_clock_writes_the_notice_without_a_movement(
    database: Database, conn: Connection, worker: Connection, account: UUID
) -> None:
    opt_in(conn, "credits_expiring")
    expire(conn, account, "20 days")
    look(worker)
    assert told(conn) == []
    with database.connect(admin=True) as admin:
        move_clock(admin, timedelta(days=14))
    look(worker)
    assert len(told(conn)) == 1


def test_lots_shorter_than_the_notice_are_not_reported(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    opt_in(conn, "credits_expiring")
    grant(conn, account, 10, expires_at=value(conn, "select now() + interval '3 days'"))
    look(worker)
    assert told(conn) == []


def test_accounts_are_checked_in_chunks_without_gaps(
    database: Database, conn: Connection, worker: Connection
) -> None:
    opt_in(conn, "credits_expiring")
    accounts = sorted(account_of(conn, create_user(database)) for _ in range(5))
    for account in accounts:
        expire(conn, account, "6 days")
    calls, after = 0, None
    while calls == 0 or after is not None:
        after = look(worker, after, accounts_max=2)
        calls += 1
    assert calls == 3
    assert sorted(row["account_id"] for row in told(conn)) == accounts
