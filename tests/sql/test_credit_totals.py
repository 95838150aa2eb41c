"""Totals of all accounts: every entry is in them once, whatever commits while they are counted."""

from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import Connection, fetch, grant, spend, value
from tests.sql.races import at_once
from tests.support import Database

# Without the ten seconds for sessions that have not reported yet what they began.
AT_ONCE = """
create or replace function billing._credits_are_final_until() returns timestamptz language sql volatile
set search_path = pg_catalog, pg_temp as $$
    select least(min(pg_stat_activity.xact_start), now()) from pg_stat_activity
    where pg_stat_activity.datname = current_database() and pg_stat_activity.pid <> pg_backend_pid()
$$
"""


@pytest.fixture
def counted(admin: Connection, conn: Connection, worker: Connection) -> Any:
    """Count, and read the totals by kind."""
    admin.execute(AT_ONCE)

    def totals() -> dict[str, int]:
        worker.execute("select billing.count_credits()")
        rows = fetch(conn, "select kind, credits from billing.credit_totals order by kind")
        return {row["kind"]: int(row["credits"]) for row in rows}

    return totals


def test_totals_are_the_sums_of_all_entries_by_kind(
    conn: Connection, account: UUID, other: UUID, counted: Any
) -> None:
    assert counted() == {}
    grant(conn, account, 100)
    grant(conn, other, 50)
    spend(conn, account, 30)
    assert counted() == {"grant": 150, "spend": -30}
    for _ in range(3):
        assert counted() == {"grant": 150, "spend": -30}
    spend(conn, other, 5)
    assert counted() == {"grant": 150, "spend": -35}
    balances = value(conn, "select sum(balance) from billing.credit_balances")
    assert value(conn, "select sum(credits) from billing.credit_totals") == balances == 115


def test_an_entry_that_commits_late_is_counted_then_and_once(
    database: Database, conn: Connection, account: UUID, other: UUID, counted: Any
) -> None:
    with database.connect(autocommit=False) as late:
        late.execute("select 1")
        grant(conn, other, 1)  # begins and commits while the other is under way
        grant(late, account, 100)
        grant(conn, other, 10)
        for _ in range(3):
            assert counted() == {}, "what began after the one that is under way waits for it"
        late.commit()
    for _ in range(3):
        assert counted() == {"grant": 111}
    grant(conn, other, 1000)
    for _ in range(3):
        assert counted() == {"grant": 1111}


def test_an_entry_among_transactions_that_overlap_is_counted(
    database: Database, conn: Connection, account: UUID, counted: Any
) -> None:
    """The count gets on from one to the next, and the entry is younger than the last of them."""
    under_way = [database.connect(autocommit=False) for _ in range(3)]
    first, second, third = under_way
    try:
        first.execute("select 1")
        second.execute("select 1")
        assert counted() == {}
        first.commit()
        third.execute("select 1")
        grant(conn, account, 7)
        assert counted() == {}
        second.commit()
        assert counted() == {}
        third.commit()
        assert counted() == {"grant": 7}
    finally:
        for one in under_way:
            one.close()


def test_many_that_move_credits_while_they_are_counted_are_counted_once_each(
    database: Database, conn: Connection, account: UUID, other: UUID, counted: Any
) -> None:
    accounts = [account, other]

    def move(number: int) -> None:
        with database.connect() as own:
            for step in range(15):
                grant(own, accounts[(number + step) % 2], 7)

    def count() -> None:
        with database.connect("billing_worker") as own:
            for _ in range(40):
                own.execute("select billing.count_credits()")

    assert at_once([lambda number=number: move(number) for number in range(4)] + [count, count]) == [None] * 6
    assert counted() == {"grant": 4 * 15 * 7}
    assert value(conn, "select id_floor > 0 from billing.credit_count")


def test_nothing_younger_than_ten_seconds_is_counted(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    grant(conn, account, 100)
    worker.execute("select billing.count_credits()")
    assert fetch(conn, "select * from billing.credit_totals") == []
    assert value(conn, "select now() - counted_until >= interval '10 seconds' from billing.credit_count")


def test_metrics_have_what_the_tables_have(
    conn: Connection, worker: Connection, app: Connection, account: UUID, counted: Any
) -> None:
    grant(conn, account, 100)
    spend(conn, account, 30)
    counted()
    conn.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, settled_at, "
        "created_at) select 'evt_' || status, 'x', false, '{}', status, 'why', now(), now() "
        "from unnest(array['dead', 'parked']) as status"
    )
    conn.execute(
        "select billing.receive_stripe_event('evt_q', 'x', null, 1, false, '{}'); "
        "update billing.stripe_events set received_at = now() - interval '60 seconds' where status = 'queued'"
    )
    worker.execute("select billing.start_worker()")
    rows = {
        (row["name"], row["label"]): row["value"] for row in fetch(app, "select * from billing.metrics()")
    }
    assert {state: rows["events", state] for state in ("queued", "parked", "dead")} == {
        "queued": 1, "parked": 1, "dead": 1,
    }  # fmt: skip
    assert 60 <= rows["oldest_event_age", None] < 120
    assert (rows["credits", "grant"], rows["credits", "spend"]) == (100, -30)
    assert rows["credits_outstanding", None] == 70
    assert rows["workers", "seen"] == 1
    assert rows["worker_last_seen", None] > 0


def test_what_is_counted_is_read_from_an_index_of_just_those_rows(admin: Connection) -> None:
    """So a scrape costs the same whatever the number of accounts, entries and events."""
    admin.execute("set enable_seqscan = off")  # as the worker does; the tables of a test are small
    with admin.transaction():
        admin.execute("select * from billing.metrics()")
        admin.execute("select billing.count_credits()")
        scanned = fetch(
            admin, "select relname from pg_stat_xact_user_tables where seq_scan > 0 order by relname"
        )
    names = {row["relname"] for row in scanned}
    assert (
        names & {"stripe_events", "notifications", "credit_entries", "credit_balances", "accounts"} == set()
    )
