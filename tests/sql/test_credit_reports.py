"""The ledger read over time: balance as of a moment, statement of a period, usage by day, pages of history."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    Connection,
    Row,
    adjust,
    available,
    balance,
    capture,
    discrepancies,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    reinstate,
    revoke,
    schedule,
    spend,
    transfer,
    value,
)
from tests.support import Database, account_of, as_anon, as_user, create_user

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def noon(admin: Connection) -> datetime:
    """Billing's clock stands shortly after the noon to come (UTC), so that days of 24 hours stay apart."""
    now: datetime = value(admin, "select now()")
    at = now.replace(hour=12, minute=0, second=0, microsecond=0) + DAY
    move_clock(admin, at - now)
    return at


def go_to(admin: Connection, noon: datetime, days: float) -> None:
    """Billing's clock: so many days after `noon`, at least."""
    now: datetime = value(admin, "select now()")
    move_clock(admin, noon + days * DAY - now)


def as_of(conn: Connection, account: UUID, moment: datetime | None) -> int | None:
    return value(conn, "select public.credit_balance_as_of(%s, %s)", [account, moment])


def statement(conn: Connection, account: UUID, start: datetime, end: datetime) -> list[Row]:
    return fetch(conn, "select * from public.credit_statement(%s, %s, %s)", [account, start, end])


def movements(rows: list[Row]) -> dict[tuple[str, str | None], tuple[int, int]]:
    """(kind, feature) → (entries, amount) of a statement."""
    return {
        (row["kind"], row["feature"]): (row["entries"], row["amount"])
        for row in rows
        if row["line"] == "movement"
    }


def usage(conn: Connection, account: UUID, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    rows = fetch(conn, "select * from public.credit_usage(%s, %s, %s)", [account, start, end])
    return [(row["day"], row["feature"], row["spends"], row["credits"]) for row in rows]


# A balance as of a moment.


def test_balance_as_of_a_moment_is_what_it_was_then(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    grant(app, account, 100)
    go_to(admin, noon, 1)
    spend(app, account, 30)
    go_to(admin, noon, 2)
    adjust(app, account, 5)
    half_past = [noon + (number - 0.5) * DAY for number in range(4)]
    assert [as_of(app, account, moment) for moment in half_past] == [0, 100, 70, 75]
    assert as_of(app, account, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert as_of(app, account, noon + 1000 * DAY) == balance(app, account) == 75


def test_balance_as_of_the_moment_of_a_movement_counts_it(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    at = spend(app, account, 30)["occurred_at"]
    assert (as_of(app, account, at - MICROSECOND), as_of(app, account, at)) == (100, 70)


def test_lot_counts_until_its_expiry_though_it_was_swept_later(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    expires_at = noon + DAY
    grant(app, account, 100, expires_at=expires_at)
    schedule(app, account, 7, noon + 2 * DAY)
    go_to(admin, noon, 5)
    expire_due(app)
    assert as_of(app, account, expires_at - MICROSECOND) == 100
    assert as_of(app, account, expires_at) == 0
    assert as_of(app, account, noon + 2 * DAY - MICROSECOND) == 0
    assert as_of(app, account, noon + 2 * DAY) == 7


def test_past_balance_is_not_changed_by_what_happens_later(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    """A refund to a lot that is long gone, and a reinstatement, happen now: yesterday stays as it was."""
    grant(app, account, 100, expires_at=noon + DAY)
    spent = spend(app, account, 60)
    revocation = revoke(app, lots(app, account)[0]["id"], 15)
    go_to(admin, noon, 3)
    expire_due(app)
    yesterday = noon + 2 * DAY
    assert as_of(app, account, yesterday) == 0
    refund(app, spent["id"])
    reinstate(app, revocation["id"])
    expire_due(app)
    assert discrepancies(app) == []
    assert balance(app, account) == 0
    assert as_of(app, account, yesterday) == 0
    assert as_of(app, account, noon + 1000 * DAY) == 0


def test_past_balance_is_never_below_zero_without_debt(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    grant(app, account, 100, expires_at=noon + DAY)
    held = hold(app, account, 80, expires_in=5 * DAY)
    go_to(admin, noon, 2)
    capture(app, held["id"], 50)
    go_to(admin, noon, 3)
    capture(app, held["id"], 10, release_rest=True)
    expire_due(app)
    assert balance(app, account) == 0
    for days in [0.5, 1.5, 2.5, 3.5]:
        seen = as_of(app, account, noon + days * DAY)
        assert seen is not None
        assert seen >= 0
    assert discrepancies(app) == []


# A statement of a period.


def test_statement_leads_from_the_opening_to_the_closing_balance(
    database: Database, app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    other = account_of(app, create_user(database))
    grant(app, account, 100, source="plan")
    spend(app, account, 10, feature="images")
    go_to(admin, noon, 2)
    start = noon + DAY
    grant(app, account, 50, source="pack", expires_at=noon + 3 * DAY)
    for amount in [3, 4]:
        spent = spend(app, account, amount, feature="images")
    spend(app, account, 5, feature="films")
    spend(app, account, 6)
    refund(app, spent["id"], 2)
    capture(app, hold(app, account, 20, feature="films")["id"], 8, release_rest=True)
    transfer(app, account, other, 9)
    adjust(app, account, -1)
    go_to(admin, noon, 4)
    expire_due(app)
    end = noon + 3.5 * DAY
    spend(app, account, 2, feature="images")

    rows = statement(app, account, start, end)
    assert [row["line"] for row in rows[:1] + rows[-1:]] == ["opening", "closing"]
    assert {row["line"] for row in rows[1:-1]} == {"movement"}
    assert movements(rows) == {
        ("grant", None): (1, 50),
        ("spend", "images"): (2, -7),
        ("spend", "films"): (1, -5),
        ("spend", None): (1, -6),
        ("refund", "images"): (1, 2),
        ("capture", "films"): (1, -8),
        ("transfer_out", None): (1, -9),
        ("adjustment", None): (1, -1),
        ("expiry", None): (1, -(50 - 7 - 5 - 6 + 2 - 8 - 9 - 1)),
    }
    opening, closing = rows[0]["amount"], rows[-1]["amount"]
    assert opening == 90
    assert opening + sum(row["amount"] for row in rows[1:-1]) == closing
    assert closing == balance(app, account) + 2
    assert discrepancies(app) == []


def test_statements_of_adjoining_periods_meet(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    for number in range(5):
        go_to(admin, noon, number)
        grant(app, account, 10 * (number + 1))
        spend(app, account, number + 1)
    borders = [noon + (number - 0.5) * DAY for number in range(6)]
    statements = [statement(app, account, start, end) for start, end in pairwise(borders)]
    for rows in statements:
        assert rows[0]["amount"] + sum(row["amount"] for row in rows[1:-1]) == rows[-1]["amount"]
    for before, after in pairwise(statements):
        assert before[-1]["amount"] == after[0]["amount"]
    assert (statements[0][0]["amount"], statements[-1][-1]["amount"]) == (0, balance(app, account))


def test_period_begins_with_its_start_and_ends_before_its_end(app: Connection, account: UUID) -> None:
    at = grant(app, account, 10)["occurred_at"]
    rows = statement(app, account, at, at + MICROSECOND)
    assert [row["amount"] for row in rows] == [0, 10, 10]
    rows = statement(app, account, at - HOUR, at)
    assert [row["amount"] for row in rows] == [0, 0]
    rows = statement(app, account, at + MICROSECOND, at + HOUR)
    assert [row["amount"] for row in rows] == [10, 10]


def test_statement_of_a_quiet_period_is_opening_and_closing(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    now = datetime.now(UTC)
    assert [(row["line"], row["amount"]) for row in statement(app, account, now + DAY, now + 2 * DAY)] == [
        ("opening", 10),
        ("closing", 10),
    ]


# Usage by day.


def test_usage_is_counted_by_day_and_feature_less_refunds(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    grant(app, account, 1000)
    spend(app, account, 10, feature="images")
    spend(app, account, 20, feature="images")
    spend(app, account, 3)
    go_to(admin, noon, 1)
    held = hold(app, account, 50, feature="films")
    capture(app, held["id"], 7)
    late = spend(app, account, 5, feature="images")
    refund(app, late["id"], 2)
    adjust(app, account, -100)
    revoke(app, lots(app, account)[0]["id"], 100)
    today, tomorrow = noon.date(), noon.date() + DAY
    assert usage(app, account, noon - DAY, noon + 9 * DAY) == [
        (today, "images", 2, 30),
        (today, None, 1, 3),
        (tomorrow, "films", 1, 7),
        (tomorrow, "images", 1, 3),
    ]
    assert usage(app, account, noon + 0.5 * DAY, noon + 9 * DAY) == [
        (tomorrow, "films", 1, 7),
        (tomorrow, "images", 1, 3),
    ]
    assert usage(app, account, noon + 5 * DAY, noon + 9 * DAY) == []


def test_usage_goes_by_days_of_utc_whatever_the_session_thinks(
    app: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    grant(app, account, 100)
    go_to(admin, noon, 11.75 / 24)
    spend(app, account, 1)
    go_to(admin, noon, 12.25 / 24)
    spend(app, account, 2)
    expected = [(noon.date(), None, 1, 1), (noon.date() + DAY, None, 1, 2)]
    for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"]:
        app.execute(f"set timezone = '{zone}'".encode())
        assert usage(app, account, noon - DAY, noon + 9 * DAY) == expected


def test_spend_up_to_counts_what_it_took(app: Connection, account: UUID, noon: datetime) -> None:
    grant(app, account, 10)
    entry = spend(app, account, 100, up_to=True, feature="images")
    assert (entry["amount"], entry["up_to"]) == (-10, 100)
    assert usage(app, account, noon - DAY, noon + DAY) == [(noon.date(), "images", 1, 10)]
    rows = statement(app, account, noon - DAY, noon + DAY)
    assert movements(rows)["spend", "images"] == (1, -10)
    assert as_of(app, account, noon + DAY) == 0


# Who sees what.


@pytest.fixture
def two_users(database: Database, app: Connection) -> list[tuple[UUID, UUID]]:
    """User and account of two people: 100 and 200 granted, 1 and 2 spent."""
    people = []
    for number in [1, 2]:
        user_id = create_user(database)
        account_id = account_of(app, user_id)
        grant(app, account_id, 100 * number)
        spend(app, account_id, number, feature="images")
        hold(app, account_id, 10)
        people.append((user_id, account_id))
    return people


def test_signed_in_user_reads_reports_of_the_own_account_only(
    conn: Connection, two_users: list[tuple[UUID, UUID]]
) -> None:
    (mine, my_account), (_, their_account) = two_users
    start, end = datetime.now(UTC) - DAY, datetime.now(UTC) + DAY
    with as_user(conn, mine):
        assert as_of(conn, my_account, end) == 99
        assert [row["amount"] for row in statement(conn, my_account, start, end)] == [0, 100, -1, 99]
        assert [row[1:] for row in usage(conn, my_account, start, end)] == [("images", 1, 1)]

        assert as_of(conn, their_account, end) is None
        rows = statement(conn, their_account, start, end)
        assert not [row for row in rows if row["amount"] is not None or row["line"] == "movement"]
        assert usage(conn, their_account, start, end) == []


def test_signed_in_user_sees_the_own_balance_and_history_only(
    conn: Connection, two_users: list[tuple[UUID, UUID]]
) -> None:
    for number, (user_id, account_id) in enumerate(two_users, start=1):
        with as_user(conn, user_id):
            row = fetch_one(conn, "select account_id, balance, held, available from public.credit_balance")
            rows = fetch(conn, "select account_id, amount from public.credit_history order by id")
        total = 99 * number
        assert row == {"account_id": account_id, "balance": total, "held": 10, "available": total - 10}
        assert [row["amount"] for row in rows] == [100 * number, -number]
        assert {row["account_id"] for row in rows} == {account_id}


def test_signed_in_user_sees_what_time_did_before_any_sweep(
    database: Database, app: Connection, conn: Connection, admin: Connection
) -> None:
    user_id = create_user(database)
    account_id = account_of(app, user_id)
    grant(app, account_id, 40, expires_at=datetime.now(UTC) + DAY)
    grant(app, account_id, 10)
    hold(app, account_id, 30, expires_in=2 * DAY)
    schedule(app, account_id, 7, datetime.now(UTC) + DAY)
    seen = []
    for days in [0, 1.5, 2.5]:
        move_clock(admin, days * DAY)
        with as_user(conn, user_id):
            mine = value(conn, "select available from public.credit_balance")
        assert mine == available(app, account_id)
        seen.append(mine)
    assert seen == [20, 17, 17]
    expire_due(app)
    assert available(app, account_id) == balance(app, account_id) == 17
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    "query",
    [
        "select public.credit_balance_as_of(gen_random_uuid(), now())",
        "select * from public.credit_statement(gen_random_uuid(), now(), now())",
        "select * from public.credit_usage(gen_random_uuid(), now(), now())",
        "select * from public.credit_usage_by_actor(gen_random_uuid(), now(), now())",
        "select * from public.budgets",
        "select public.set_budget(gen_random_uuid(), 'agent:x', 1, 'day')",
        "select * from public.credit_balance",
    ],
)
def test_visitor_reads_no_report(conn: Connection, query: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), as_anon(conn):
        conn.execute(query.encode())


@pytest.mark.parametrize(
    "function",
    [
        "grant_credits(gen_random_uuid(), 1, 'x')",
        "spend_credits(gen_random_uuid(), 1, 'x')",
        "spend_credits_batch('[]')",
        "hold_credits(gen_random_uuid(), 1, 'x')",
        "set_credit_limits(gen_random_uuid(), 1000)",
    ],
)
def test_signed_in_user_moves_no_credits(database: Database, conn: Connection, function: str) -> None:
    user_id = create_user(database)
    for schema in ["public", "billing"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), as_user(conn, user_id):
            conn.execute(f"select * from {schema}.{function}".encode())


# Usage by actor.


def test_usage_by_actor_is_what_each_spent_less_refunds(
    database: Database, app: Connection, conn: Connection, admin: Connection, account: UUID, noon: datetime
) -> None:
    go_to(admin, noon, 0)
    grant(app, account, 100)
    spend(app, account, 5, actor="agent:writer", feature="text")
    refunded = spend(app, account, 7, actor="agent:writer", feature="video")
    spend(app, account, 2)
    adjust(app, account, -1)
    go_to(admin, noon, 1)
    refund(app, refunded["id"], 3)
    capture(app, hold(app, account, 9, actor="key:7")["id"], 4)
    query = "select * from public.credit_usage_by_actor(%s, %s, %s)"
    period = [account, noon - DAY, noon + 3 * DAY]
    expected = [
        (noon.date(), "agent:writer", 2, 12),
        (noon.date(), None, 1, 2),
        ((noon + DAY).date(), "agent:writer", 0, -3),
        ((noon + DAY).date(), "key:7", 1, 4),
    ]
    assert [tuple(row.values()) for row in fetch(app, query, period)] == expected
    owner = value(app, "select owner_id from billing.accounts where id = %s", [account])
    with as_user(conn, owner):
        assert [tuple(row.values()) for row in fetch(conn, query, period)] == expected
    with as_user(conn, create_user(database)):
        assert fetch(conn, query, period) == []


# Pages of history.


def test_history_is_paged_by_id_without_gap_or_repetition(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    for _ in range(10):
        spend(app, account, 1)
    query = (
        "select id, amount, balance_after from public.credit_history where account_id = %s and id < %s "
        "order by id desc limit 4"
    )
    pages: list[list[Row]] = []
    before = 2**63 - 1
    while page := fetch(app, query, [account, before]):
        pages.append(page)
        before = page[-1]["id"]
        # What happens between two pages is newer than both.
        grant(app, account, 1)
    assert [len(page) for page in pages] == [4, 4, 3]
    rows = [row for page in pages for row in page]
    assert [row["balance_after"] for row in rows] == [*range(90, 101)]
    assert len({row["id"] for row in rows}) == 11


def test_history_shows_no_keys_and_no_actors(app: Connection, account: UUID) -> None:
    adjust(app, account, 10, "secret-key", actor="ada@example.com")
    row = fetch_one(app, "select * from public.credit_history")
    assert set(row) == {
        "id",
        "account_id",
        "kind",
        "amount",
        "balance_after",
        "source",
        "reference_id",
        "description",
        "feature",
        "metadata",
        "occurred_at",
    }


def test_reports_of_no_account_are_empty(app: Connection) -> None:
    nobody = UUID(int=0)
    now = datetime.now(UTC)
    assert as_of(app, nobody, now) is None
    assert usage(app, nobody, now - DAY, now) == []
    assert not [row for row in statement(app, nobody, now - DAY, now) if row["amount"] is not None]


def test_spending_up_to_refuses_what_spending_refuses(app: Connection, account: UUID) -> None:
    with refused("TB001"):
        spend(app, account, 5, up_to=True)
    grant(app, account, 3)
    assert spend(app, account, 5, "job", up_to=True)["amount"] == -3
    grant(app, account, 9)
    assert spend(app, account, 5, "job", up_to=True)["amount"] == -3
    with refused("TB005"):
        spend(app, account, 0, up_to=True)
    assert balance(app, account) == 9
