"""What is wrong with the installation as a whole: noticed by the database, told once, told again when it comes back.

The local Postgres has no pg_net. In its place is what we need of it: `net.http_post` of the same signature, which puts
each call down in a table. These tests show what is posted and when; none of them shows that the real one sends it.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    Connection,
    Row,
    call,
    fetch,
    fetch_one,
    link,
    refused,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once
from tests.sql.test_notification_sources import told
from tests.sql.test_stripe_events import receive
from tests.support import Database

URL = "https://hooks.slack.com/services/T0/B0/s3cret-t0ken"
PG_NET = """
create schema net;
create table net.calls (
    id bigint generated always as identity, url text, body jsonb, params jsonb, headers jsonb, timeout_milliseconds int
);
create function net.http_post(
    url text, body jsonb default '{}', params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds int default 5000
) returns bigint
language sql
begin atomic
    insert into net.calls (url, body, params, headers, timeout_milliseconds)
    values (url, body, params, headers, timeout_milliseconds) returning id;
end;
grant usage on schema net to postgres;
grant insert, select on net.calls to postgres;
"""
# The test's server is as young as the test.
UP_FOR_DAYS = """
create or replace function billing._up_since() returns timestamptz language sql stable
set search_path = pg_catalog, pg_temp as $$ select pg_catalog.now() - interval '3 days' $$
"""


@pytest.fixture
def up(admin: Connection) -> None:
    """A Postgres that has run for days."""
    admin.execute(UP_FOR_DAYS)


@pytest.fixture
def posts(admin: Connection, conn: Connection) -> Callable[[], list[str]]:
    """What is posted, where pg_net and a webhook are there."""
    admin.execute(PG_NET)
    conn.execute("update billing.settings set alert_webhook_url = %s", [URL])

    def texts() -> list[str]:
        calls = fetch(conn, "select * from net.calls order by id")
        assert {each["url"] for each in calls} <= {URL}
        assert all(set(each["body"]) == {"text"} for each in calls)
        return [each["body"]["text"] for each in calls]

    return texts


def watch(worker: Connection) -> None:
    worker.execute("select billing.watch()")


def age(conn: Connection, minutes: float) -> None:
    """The last sign of life of all workers was so long ago."""
    conn.execute("update billing.workers set last_seen_at = now() - %s", [timedelta(minutes=minutes)])


def alerts(conn: Connection, kind: str) -> list[Row]:
    return fetch(conn, "select * from billing.alerts where kind = %s order by id", [kind])


# A worker that is missed


def test_a_worker_reports_its_sign_of_life_and_its_key(conn: Connection, worker: Connection) -> None:
    call(worker, "start_worker")
    age(conn, 60)
    for error in ("STRIPE_API_KEY is not set", "STRIPE_API_KEY is not set", None):
        call(worker, "report_worker", stripe_key_error=error)
    row = fetch_one(conn, "select now() - last_seen_at as ago, stripe_key_failing_since from billing.workers")
    assert row["ago"] < timedelta(minutes=1)
    assert row["stripe_key_failing_since"] is None


def test_a_missing_worker_is_told_once_and_again_after_it_was_back(
    conn: Connection, worker: Connection, up: None, posts: Callable[[], list[str]]
) -> None:
    call(worker, "start_worker")
    for minutes, outages in ((1, 0), (4, 1), (6, 1)):
        age(conn, minutes)
        watch(worker)
        assert len(told(conn, "worker_missing")) == len(posts()) == outages
    assert told(conn, "worker_missing")[0]["audience"] == "administrators"
    assert "no worker has been seen since" in posts()[0]
    assert "till worker run" in posts()[0]

    call(worker, "report_worker", stripe_key_error=None)
    for _ in range(2):
        watch(worker)
    [back] = told(conn, "worker_back")
    assert back["payload"].keys() == {"since", "until"}
    assert posts()[1].endswith("a worker runs again.")
    assert len(posts()) == 2

    age(conn, 4)
    watch(worker)
    assert len(told(conn, "worker_missing")) == 2
    assert len(posts()) == 3


def test_the_posts_name_the_installation_and_nothing_secret(
    conn: Connection, worker: Connection, up: None, posts: Callable[[], list[str]]
) -> None:
    conn.execute("update billing.settings set site_url = 'https://app.example.com/home', livemode = true")
    call(worker, "start_worker")
    age(conn, 4)
    watch(worker)
    assert posts()[0].startswith("Tillbase, https://app.example.com, live mode: no worker")
    shown = value(conn, "select value from billing.installation() where name = 'alert_webhook_url'")
    assert shown == "https://hooks.slack.com/…"


def test_a_message_that_no_worker_could_send_in_time_is_left_to_the_one_that_says_it_is_over(
    conn: Connection, worker: Connection, up: None
) -> None:
    call(worker, "start_worker")
    age(conn, 4)
    watch(worker)
    call(worker, "report_worker", stripe_key_error=None)
    watch(worker)
    rows = {row["kind"]: row for row in told(conn)}
    assert (rows["worker_missing"]["status"], rows["worker_back"]["status"]) == ("skipped", "queued")
    jobs = fetch(conn, "select id from billing.queued_jobs()")
    assert [row["id"] for row in jobs] == [str(rows["worker_back"]["id"])]


def test_before_the_first_worker_one_is_expected_once_an_event_waits(
    conn: Connection, worker: Connection, app: Connection, up: None
) -> None:
    watch(worker)
    receive(app)
    watch(worker)
    assert told(conn) == []
    conn.execute("update billing.stripe_events set received_at = now() - interval '4 minutes'")
    watch(worker)
    assert len(told(conn, "worker_missing")) == 1


def test_an_outage_of_postgres_is_none_of_the_workers(conn: Connection, worker: Connection) -> None:
    conn.execute("update billing.settings set worker_missing_after = '20 days'")
    call(worker, "start_worker")
    age(conn, 21 * 24 * 60)
    watch(worker)
    assert told(conn) == []


def test_an_open_alert_stays_open_while_postgres_has_just_started(
    conn: Connection, worker: Connection, admin: Connection, up: None
) -> None:
    call(worker, "start_worker")
    age(conn, 4)
    watch(worker)
    admin.execute(UP_FOR_DAYS.replace("3 days", "1 second"))
    watch(worker)
    assert [alert["ended_at"] for alert in alerts(conn, "worker_missing")] == [None]


def test_it_is_switched_off_by_the_setting(conn: Connection, worker: Connection, up: None) -> None:
    conn.execute("update billing.settings set worker_missing_after = null")
    call(worker, "start_worker")
    age(conn, 60)
    watch(worker)
    assert told(conn) == []


def test_ten_that_watch_at_once_tell_once(
    database: Database, conn: Connection, worker: Connection, up: None, posts: Callable[[], list[str]]
) -> None:
    call(worker, "start_worker")
    age(conn, 4)
    watching = [database.connect("billing_worker") for _ in range(10)]
    try:
        assert at_once([lambda one=one: watch(one) for one in watching]) == [None] * 10
    finally:
        for one in watching:
            one.close()
    assert len(told(conn, "worker_missing")) == len(posts()) == 1


def test_a_webhook_that_cannot_be_posted_to_stops_nothing(
    conn: Connection, worker: Connection, admin: Connection, up: None, posts: Callable[[], list[str]]
) -> None:
    admin.execute("alter table net.calls add constraint broken check (false)")
    call(worker, "start_worker")
    age(conn, 4)
    notices: list[str] = []
    worker.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    watch(worker)
    assert len(told(conn, "worker_missing")) == 1
    assert notices == ["the alert could not be posted by pg_net (23514)"]


def test_without_pg_net_the_notification_is_there_all_the_same(
    conn: Connection, worker: Connection, up: None
) -> None:
    conn.execute("update billing.settings set alert_webhook_url = %s", [URL])
    call(worker, "start_worker")
    age(conn, 4)
    notices: list[str] = []
    worker.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    watch(worker)
    assert len(told(conn, "worker_missing")) == 1
    assert notices == []


def test_an_address_that_is_none_is_refused(conn: Connection) -> None:
    for url in ("ftp://example.com", "hooks.slack.com/services", "https://user:secret@example.com/"):
        with refused("23514"):
            conn.execute("update billing.settings set alert_webhook_url = %s", [url])


# The Stripe key


def test_a_key_that_fails_is_told_after_a_quarter_of_an_hour(conn: Connection, worker: Connection) -> None:
    call(worker, "start_worker")
    call(worker, "report_worker", stripe_key_error="STRIPE_API_KEY is not set")
    watch(worker)
    assert told(conn) == []
    conn.execute("update billing.workers set stripe_key_failing_since = now() - interval '16 minutes'")
    for _ in range(2):
        call(worker, "report_worker", stripe_key_error="STRIPE_API_KEY is not set")
        watch(worker)
    [row] = told(conn, "stripe_key")
    assert row["payload"]["reason"] == "STRIPE_API_KEY is not set"
    call(worker, "report_worker", stripe_key_error=None)
    for is_open in (True, False):  # a worker that has just started may not know yet
        watch(worker)
        assert [alert["ended_at"] is None for alert in alerts(conn, "stripe_key")] == [is_open]
        conn.execute("update billing.workers set started_at = now() - interval '3 minutes'")


# Plans


@pytest.fixture
def subscribe(conn: Connection, worker: Connection, account: UUID) -> Callable[..., None]:
    """A subscriber of a plan, with a paid invoice."""

    def subscribe(**price: Any) -> None:
        link(conn, account)
        sync_product(worker)
        sync_price(worker, **price)
        sync_subscription(worker)
        sync_invoice(worker)
        conn.execute("update billing.subscription_items set current_period_end = now() + interval '1 month'")

    return subscribe


def test_a_paid_plan_that_gives_nothing_is_told_at_its_first_payment(
    conn: Connection, worker: Connection, subscribe: Callable[..., None]
) -> None:
    watch(worker)
    assert told(conn) == []
    subscribe(metadata={}, lookup_key="pro")
    for _ in range(2):
        watch(worker)
    [row] = told(conn, "plan_without_credits")
    assert row["payload"] == {"stripe_price_id": "price_1", "name": "pro"}
    conn.execute("update billing.plans set monthly_credits = 5")
    watch(worker)
    assert [alert["ended_at"] is None for alert in alerts(conn, "plan_without_credits")] == [False]
    conn.execute("update billing.plans set monthly_credits = 0")
    watch(worker)
    assert len(told(conn, "plan_without_credits")) == 2


def test_what_a_plan_without_credits_has_behind_it_is_not_read_every_minute(
    conn: Connection, admin: Connection, worker: Connection, subscribe: Callable[..., None]
) -> None:
    """100,000 subscriptions that have ended, and then one that lives."""
    subscribe(metadata={}, lookup_key="pro")
    admin.execute("delete from billing.subscription_items")
    admin.execute(
        "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, livemode, status, "
        "billing_cycle_anchor, started_at, ended_at, as_of) "
        "select 'sub_ended_' || n, stripe_customer_id, false, 'canceled', now() - '2 years'::interval, "
        "now() - '2 years'::interval, now() - '1 year'::interval, now() "
        "from billing.customers, generate_series(1, 100000) as n"
    )
    admin.execute(
        "insert into billing.subscription_items (stripe_subscription_item_id, stripe_subscription_id, "
        "stripe_price_id, current_period_start, current_period_end, quantity) "
        "select 'si_' || n, 'sub_ended_' || n, 'price_1', now() - '13 months'::interval, "
        "now() - '1 year'::interval, 1 from generate_series(1, 100000) as n"
    )
    admin.execute("analyze billing.subscriptions, billing.subscription_items")
    for setting in (
        "enable_seqscan = off",
        "plan_cache_mode = force_generic_plan",
    ):  # as in a worker's session
        admin.execute(f"set {setting}".encode())

    def rows_read() -> int:
        # Or what the inserts looked up may still be counted here.
        admin.execute("select pg_stat_force_next_flush()")
        with admin.transaction():
            admin.execute("select billing._watch_plans()")
            return value(
                admin,
                "select coalesce(sum(idx_tup_fetch), 0) + coalesce(sum(seq_tup_read), 0) "
                "from pg_stat_xact_user_tables where relname in ('subscription_items', 'subscriptions')",
            )

    assert rows_read() < 100  # of 100,000; the planner looks at both ends of the index
    assert told(conn, "plan_without_credits") == []
    admin.execute(
        "insert into billing.subscription_items (stripe_subscription_item_id, stripe_subscription_id, "
        "stripe_price_id, current_period_start, current_period_end, quantity) "
        "values ('si_1_live', 'sub_1', 'price_1', now(), now() + '1 month'::interval, 1)"
    )
    assert rows_read() < 100
    assert len(told(conn, "plan_without_credits")) == 1


@pytest.mark.parametrize(
    "price",
    [
        {"metadata": {"monthly_credits": "5"}},
        {"metadata": {"features": '{"seats": 3}'}},
        {"metadata": {}, "unit_amount": 0},
    ],
    ids=["credits", "features", "free"],
)
def test_a_plan_that_gives_something_or_costs_nothing_is_none(
    conn: Connection, worker: Connection, subscribe: Callable[..., None], price: dict[str, Any]
) -> None:
    subscribe(**price)
    watch(worker)
    assert told(conn, "plan_without_credits") == []


# Notifications


def let_one_die(conn: Connection, key: str, kind: str = "test") -> None:
    conn.execute(
        "insert into billing.notifications (audience, kind, dedupe_key, status, last_error) "
        "values ('administrators', %s, %s, 'dead', '550 no such user ada@example.com')",
        [kind, key],
    )


def test_undeliverable_notifications_are_told_once_a_day_at_most(
    conn: Connection, worker: Connection, posts: Callable[[], list[str]]
) -> None:
    watch(worker)
    assert told(conn) == []
    let_one_die(conn, "a")
    for _ in range(2):
        watch(worker)
        let_one_die(conn, "b" + str(value(conn, "select count(*) from billing.notifications")))
    assert len(told(conn, "notifications_undeliverable")) == len(posts()) == 1
    assert "1 notification could not be delivered" in posts()[0]
    assert "ada@example.com" not in posts()[0] + str(told(conn, "notifications_undeliverable")[0]["payload"])
    conn.execute("update billing.alerts set began_at = now() - interval '25 hours'")
    for _ in range(2):
        watch(worker)
    assert len(told(conn, "notifications_undeliverable")) == 2
    conn.execute("update billing.notifications set status = 'skipped' where status = 'dead'")
    watch(worker)
    assert {alert["ended_at"] is None for alert in alerts(conn, "notifications_undeliverable")} == {False}


def test_that_notifications_die_is_no_reason_for_more_of_them(conn: Connection, worker: Connection) -> None:
    let_one_die(conn, "a", "notifications_undeliverable")
    watch(worker)
    assert len(told(conn)) == 1


# Events that never arrived


def test_events_that_the_inbox_has_not_are_told_apart(
    conn: Connection, worker: Connection, app: Connection
) -> None:
    receive(app, "evt_2")
    found = fetch(worker, "select * from billing.unreceived_events(array['evt_3', 'evt_2', 'evt_1'])")
    assert [row["unreceived_events"] for row in found] == ["evt_3", "evt_1"]
    assert value(worker, "select billing.receiving_since() <= now()")


def test_what_till_queued_did_not_arrive_from_stripe(conn: Connection, worker: Connection) -> None:
    conn.execute(
        "select billing.receive_own_events(%s)",
        ['[{"id": "till_backfill_cus_1_0", "type": "customer.updated", "api_version": null, "created": 1, '
         '"livemode": false, "payload": "{}"}]'],
    )  # fmt: skip
    assert value(worker, "select billing.receiving_since()") is None


def test_missing_events_are_told_once_until_they_have_arrived(conn: Connection, worker: Connection) -> None:
    def report(missing: int) -> None:
        call(
            worker, "report_arrivals", missing=missing, event_id="evt_1", type="invoice.paid",
            created_at="2026-11-30 10:00Z",
        )  # fmt: skip

    for missing, times in ((0, 0), (3, 1), (4, 1), (0, 1), (1, 2)):
        report(missing)
        assert len(told(conn, "events_missing")) == times
    assert told(conn, "events_missing")[0]["payload"]["count"] == 3
