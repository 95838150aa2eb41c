"""Budgets: members, agents and API keys share an account's credits, each up to its cap, on every level at once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    Row,
    balances,
    call,
    capture,
    discrepancies,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    move_clock,
    refund,
    refused,
    release,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, as_user, create_user

MEMBER, WRITER, READER, KEY = "member:1", "agent:writer", "agent:reader", "key:7"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LENGTHS = {"hour": HOUR, "day": DAY, "week": 7 * DAY}


def set_budget(
    conn: Connection,
    account_id: UUID | None,
    actor: str | None,
    cap: Any,
    period: str | None = "month",
    parent: str | None = None,
) -> Row:
    return call(conn, "set_budget", account_id=account_id, actor=actor, cap=cap, period=period, parent=parent)


def remove_budget(conn: Connection, account_id: UUID, actor: str) -> Row:
    return call(conn, "remove_budget", account_id=account_id, actor=actor)


def used(conn: Connection, account_id: UUID) -> dict[str, tuple[int, int]]:
    """What the view says that each budget has spent and holds."""
    rows = fetch(conn, "select actor, spent, held from public.budgets where account_id = %s", [account_id])
    return {row["actor"]: (row["spent"], row["held"]) for row in rows}


def shown(conn: Connection, account_id: UUID, actor: str) -> Row:
    query = "select * from public.budgets where account_id = %s and actor = %s"
    return fetch_one(conn, query, [account_id, actor])


def detail(caught: pytest.ExceptionInfo[psycopg.Error]) -> Row:
    assert caught.value.diag.message_detail is not None
    return json.loads(caught.value.diag.message_detail)


@pytest.fixture
def tree(app: Connection, account: UUID) -> UUID:
    """Credits: member:1 may spend 100 a month; of these agent:writer 60 a day, and of these key:7 20 an hour."""
    grant(app, account, 10_000)
    set_budget(app, account, MEMBER, 100)
    set_budget(app, account, WRITER, 60, "day", MEMBER)
    set_budget(app, account, KEY, 20, "hour", WRITER)
    return account


def test_a_spend_counts_on_every_level(app: Connection, tree: UUID) -> None:
    spend(app, tree, 5, actor=KEY)
    spend(app, tree, 7, actor=WRITER)
    spend(app, tree, 11, actor=MEMBER)
    assert used(app, tree) == {KEY: (5, 0), WRITER: (12, 0), MEMBER: (23, 0)}
    assert shown(app, tree, WRITER)["remaining"] == 48
    # Nobody in particular, and somebody without a budget: the account's own cap alone judges them.
    spend(app, tree, 500)
    spend(app, tree, 500, actor="agent:stranger")
    assert used(app, tree) == {KEY: (5, 0), WRITER: (12, 0), MEMBER: (23, 0)}
    assert discrepancies(app) == []


@pytest.mark.parametrize("move", [spend, hold], ids=["spend", "hold"])
def test_the_level_with_least_left_refuses_and_says_what_is_left_and_until_when(
    app: Connection, tree: UUID, move: Callable[..., Row]
) -> None:
    spend(app, tree, 15, actor=KEY)
    with refused("TB091") as caught:
        move(app, tree, 6, "job", actor=KEY)
    assert f"budget {KEY} of account {tree} allows 5 more credits this hour, 6 are needed" in str(
        caught.value
    )
    said = detail(caught)
    resets_at = datetime.fromisoformat(said.pop("resets_at"))
    assert said == {
        "actor": KEY, "budget": KEY, "cap": 20, "period": "hour", "left": 5, "needed": 6,
    }  # fmt: skip
    now = value(app, "select billing.current_time()")
    assert resets_at == now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
    assert shown(app, tree, KEY)["resets_at"] == resets_at
    # A level above it has less.
    spend(app, tree, 42, actor=WRITER)
    with refused("TB091") as caught:
        move(app, tree, 4, actor=KEY)
    assert detail(caught)["budget"] == WRITER
    assert detail(caught)["left"] == 3
    spend(app, tree, 42, actor=MEMBER)
    with refused("TB091") as caught:
        move(app, tree, 2, actor=KEY)
    assert (detail(caught)["budget"], detail(caught)["left"]) == (MEMBER, 1)
    assert move(app, tree, 1, actor=KEY)
    assert discrepancies(app) == []


def test_of_levels_with_the_same_left_the_one_next_to_the_actor_refuses(
    app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    set_budget(app, account, "team", 10)
    set_budget(app, account, WRITER, 10, "month", "team")
    with refused("TB091") as caught:
        spend(app, account, 11, actor=WRITER)
    assert detail(caught)["budget"] == WRITER


def test_a_refused_spend_changes_nothing_on_any_level(app: Connection, tree: UUID) -> None:
    spend(app, tree, 10, actor=KEY)
    before = (used(app, tree), balances(app, tree))
    with refused("TB091"):
        spend(app, tree, 11, actor=KEY)
    with refused("TB091"):
        hold(app, tree, 11, actor=KEY)
    assert (used(app, tree), balances(app, tree)) == before
    assert value(app, "select count(*) from billing.credit_holds") == 0


def test_a_repeated_spend_counts_once(app: Connection, tree: UUID) -> None:
    set_limits(app, tree, spend_cap=40, spend_cap_period="month")
    first = spend(app, tree, 15, "job", actor=KEY)
    # Also when the budget would not allow it a second time.
    assert spend(app, tree, 15, "job", actor=KEY) == first
    held = hold(app, tree, 5, "work", actor=KEY)
    assert hold(app, tree, 5, "work", actor=KEY) == held
    assert used(app, tree)[KEY] == (15, 5)
    assert balances(app, tree)["spent_in_period"] == 15
    with refused("TB002"):
        spend(app, tree, 15, "job", actor=WRITER)


def test_the_accounts_cap_is_the_level_above_all(app: Connection, tree: UUID) -> None:
    set_limits(app, tree, spend_cap=30, spend_cap_period="hour")
    spend(app, tree, 18, actor=KEY)
    with refused("TB021") as caught:
        spend(app, tree, 13, actor=WRITER)
    assert "may spend 12 more credits this hour, 13 are needed" in str(caught.value)
    said = detail(caught)
    assert datetime.fromisoformat(said.pop("resets_at")) > value(app, "select billing.current_time()")
    assert said == {"budget": None, "cap": 30, "period": "hour", "left": 12, "needed": 13}
    with refused("TB091"):
        spend(app, tree, 3, actor=KEY)
    assert spend(app, tree, 12, actor=WRITER)
    assert used(app, tree)[MEMBER] == (30, 0)
    assert balances(app, tree)["spent_in_period"] == 30


@pytest.mark.parametrize("capped", [False, True])
def test_spending_up_to_takes_what_the_tightest_level_leaves(
    app: Connection, tree: UUID, capped: bool
) -> None:
    if capped:
        set_limits(app, tree, spend_cap=10_000, spend_cap_period="total")
    spend(app, tree, 90, actor=MEMBER)
    entry = spend(app, tree, 50, "job", actor=KEY, up_to=True)
    assert (entry["amount"], entry["up_to"]) == (-10, 50)
    assert spend(app, tree, 50, "job", actor=KEY, up_to=True) == entry
    with refused("TB091") as caught:
        spend(app, tree, 50, actor=KEY, up_to=True)
    assert (detail(caught)["budget"], detail(caught)["left"]) == (MEMBER, 0)
    assert spend(app, tree, 5, actor="agent:stranger", up_to=True)["amount"] == -5
    set_budget(app, tree, "agent:free", None)
    assert spend(app, tree, 5, actor="agent:free", up_to=True)["amount"] == -5
    assert discrepancies(app) == []


def test_a_batch_is_judged_by_each_actors_levels_and_all_or_none(app: Connection, tree: UUID) -> None:
    set_budget(app, tree, READER, 50, "day", MEMBER)

    def batch(**amounts: int) -> list[Row]:
        jobs = [
            {"account_id": str(tree), "amount": amount, "idempotency_key": key, "actor": actor}
            for key, amount in amounts.items()
            for actor in [{"k": KEY, "w": WRITER, "r": READER, "x": "agent:x"}[key[0]]]
        ]
        return fetch(app, "select * from billing.spend_credits_batch(%s)", [Jsonb(jobs)])

    batch(k1=5, w1=10, r1=20, k2=5, x1=300)
    assert used(app, tree) == {KEY: (10, 0), WRITER: (20, 0), READER: (20, 0), MEMBER: (40, 0)}
    for amounts in ({"k3": 5, "k4": 6}, {"w3": 41}, {"r3": 30, "w4": 31}):
        with refused("TB091"):
            batch(**amounts)
    assert used(app, tree) == {KEY: (10, 0), WRITER: (20, 0), READER: (20, 0), MEMBER: (40, 0)}
    batch(k1=5, r4=30, w5=30)
    assert used(app, tree)[MEMBER] == (100, 0)
    assert discrepancies(app) == []


def test_a_hold_counts_while_it_is_held_and_a_capture_is_spent(app: Connection, tree: UUID) -> None:
    held = hold(app, tree, 20, actor=KEY)
    assert used(app, tree) == {KEY: (0, 20), WRITER: (0, 20), MEMBER: (0, 20)}
    assert shown(app, tree, KEY)["remaining"] == 0
    with refused("TB091"):
        spend(app, tree, 1, actor=KEY)
    capture(app, held["id"], 12)
    assert used(app, tree) == {KEY: (12, 8), WRITER: (12, 8), MEMBER: (12, 8)}
    release(app, held["id"])
    assert used(app, tree) == {KEY: (12, 0), WRITER: (12, 0), MEMBER: (12, 0)}
    held = hold(app, tree, 8, actor=KEY)
    capture(app, held["id"], 3, release_rest=True)
    assert used(app, tree) == {KEY: (15, 0), WRITER: (15, 0), MEMBER: (15, 0)}
    # A lower cap does not break what is already held.
    held = hold(app, tree, 5, actor=KEY)
    set_budget(app, tree, KEY, 1, "hour", WRITER)
    capture(app, held["id"], 5)
    assert used(app, tree)[KEY] == (20, 0)
    assert shown(app, tree, KEY)["remaining"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("by", ["clock", "movement"])
def test_an_expired_hold_gives_its_room_back(admin: Connection, app: Connection, tree: UUID, by: str) -> None:
    held = hold(app, tree, 20, expires_in="10 minutes", actor=KEY)
    hold(app, tree, 5, expires_in="10 minutes", actor=WRITER)
    hold(app, tree, 5, expires_in="10 minutes")
    capture(app, held["id"], 4)
    move_clock(admin, DAY)
    if by == "clock":
        expire_due(app)
        assert [row[1] for row in used(app, tree).values()] == [0, 0, 0]
    spend(app, tree, 20, actor=KEY)
    assert used(app, tree)[KEY] == (20, 0)
    assert discrepancies(app) == []


def test_closing_an_account_releases_what_its_holds_counted(app: Connection, tree: UUID) -> None:
    hold(app, tree, 20, actor=KEY)
    call(app, "close_account", account_id=tree, reason="leaves", actor="root")
    assert used(app, tree)[MEMBER] == (0, 0)
    with refused("TB008"):
        set_budget(app, tree, MEMBER, 5)
    assert discrepancies(app) == []


def test_a_refund_gives_back_in_the_period_of_the_spend(
    admin: Connection, app: Connection, tree: UUID
) -> None:
    first = spend(app, tree, 20, actor=KEY)
    refund(app, first["id"], 5)
    assert used(app, tree) == {KEY: (15, 0), WRITER: (15, 0), MEMBER: (15, 0)}
    held = hold(app, tree, 5, expires_in="30 days", actor=KEY)
    captured = capture(app, held["id"], 5)
    refund(app, captured["id"])
    assert used(app, tree)[KEY] == (15, 0)
    # An hour later only the day and the month still count it. Not across midnight or into another month.
    move_clock(admin, _within(app, HOUR))
    spend(app, tree, 2, actor=KEY)
    later = used(app, tree)
    refund(app, first["id"], 10)
    assert used(app, tree) == {
        KEY: (2, 0),
        WRITER: (later[WRITER][0] - 10, 0) if later[WRITER][0] > 2 else (2, 0),
        MEMBER: (later[MEMBER][0] - 10, 0) if later[MEMBER][0] > 2 else (2, 0),
    }
    assert discrepancies(app) == []


def _within(conn: Connection, step: timedelta) -> timedelta:
    """By how much the clock must move so that the next hour, but nothing longer if possible, has begun."""
    now = value(conn, "select billing.current_time()").astimezone(UTC)
    return now.replace(minute=0, second=0, microsecond=0) + step - now + timedelta(seconds=1)


def test_a_refund_of_an_earlier_period_makes_no_room(
    admin: Connection, app: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    set_budget(app, account, WRITER, 20, "hour")
    first = spend(app, account, 20, actor=WRITER)
    move_clock(admin, 2 * HOUR)
    spend(app, account, 15, actor=WRITER)
    refund(app, first["id"])
    assert used(app, account)[WRITER] == (15, 0)
    with refused("TB091"):
        spend(app, account, 6, actor=WRITER)
    assert discrepancies(app) == []


@pytest.mark.parametrize("period", ["hour", "day", "week", "month", "total"])
def test_each_period_begins_at_its_boundary_in_utc(
    admin: Connection, app: Connection, account: UUID, period: str
) -> None:
    move_clock(admin, MINUTE)  # or the last seconds of an hour would have no room for what follows
    grant(app, account, 1000)
    set_budget(app, account, WRITER, 20, period)
    set_limits(app, account, spend_cap=500, spend_cap_period=period)
    now = value(app, "select billing.current_time()").astimezone(UTC)
    boundary = shown(app, account, WRITER)["resets_at"]
    if period == "total":
        assert boundary is None
        boundary = now + 400 * DAY
    elif period == "month":
        assert boundary == datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    else:
        assert boundary == value(app, "select date_trunc(%s, %s, 'UTC')", [period, now]) + LENGTHS[period]
    move_clock(admin, MINUTE + boundary - now - timedelta(seconds=30))
    spend(app, account, 20, actor=WRITER)
    with refused("TB091"):
        spend(app, account, 1, actor=WRITER)
    held = hold(app, account, 5, expires_in="1 hour")
    move_clock(admin, MINUTE + boundary - now + timedelta(seconds=1))
    if period == "total":
        with refused("TB091"):
            spend(app, account, 1, actor=WRITER)
        assert balances(app, account)["spent_in_period"] == 20
    else:
        # The view knows before the next movement does.
        assert shown(app, account, WRITER)["spent"] == 0
        assert shown(app, account, WRITER)["resets_at"] > boundary
        spend(app, account, 20, actor=WRITER)
        assert used(app, account)[WRITER] == (20, 0)
        assert balances(app, account)["spent_in_period"] == 20
    capture(app, held["id"], 5)
    assert discrepancies(app) == []


def test_held_credits_count_in_the_period_that_runs(
    admin: Connection, app: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    set_budget(app, account, WRITER, 20, "hour")
    held = hold(app, account, 20, expires_in="10 days", actor=WRITER)
    move_clock(admin, 2 * HOUR)
    with refused("TB091"):
        spend(app, account, 1, actor=WRITER)
    capture(app, held["id"], 15)
    assert used(app, account)[WRITER] == (15, 5)
    assert discrepancies(app) == []


def test_a_budget_set_later_counts_its_whole_period(
    admin: Connection, app: Connection, account: UUID
) -> None:
    grant(app, account, 1000)
    spend(app, account, 100, actor=WRITER)
    move_clock(admin, 40 * DAY)
    spent = spend(app, account, 10, actor=WRITER)
    spend(app, account, 3, actor=READER)
    spend(app, account, 3)
    refund(app, spent["id"], 4)
    hold(app, account, 7, actor=WRITER)
    set_budget(app, account, MEMBER, 500, "total")
    set_budget(app, account, WRITER, 20, "month", MEMBER)
    assert used(app, account) == {MEMBER: (106, 7), WRITER: (6, 7)}
    set_budget(app, account, READER, 20, "total", WRITER)
    assert used(app, account) == {MEMBER: (109, 7), WRITER: (9, 7), READER: (3, 0)}
    with refused("TB091"):
        spend(app, account, 5, actor=WRITER)
    assert discrepancies(app) == []


def test_a_changed_cap_keeps_what_was_counted_and_another_period_counts_again(
    admin: Connection, app: Connection, tree: UUID
) -> None:
    spend(app, tree, 20, actor=KEY)
    assert set_budget(app, tree, KEY, 30, "hour", WRITER)["spent_in_period"] == 20
    spend(app, tree, 10, actor=KEY)
    move_clock(admin, 50 * DAY)
    spend(app, tree, 1, actor=KEY)
    assert set_budget(app, tree, KEY, 40, "total", WRITER)["spent_in_period"] == 31
    assert used(app, tree)[WRITER] == (1, 0)
    assert set_budget(app, tree, KEY, None, "day", WRITER)["cap"] is None
    assert shown(app, tree, KEY)["remaining"] is None
    spend(app, tree, 59, actor=KEY)
    with refused("TB091"):
        spend(app, tree, 1, actor=KEY)
    assert discrepancies(app) == []


def test_a_budget_that_moves_takes_what_was_spent_along(app: Connection, tree: UUID) -> None:
    spend(app, tree, 5, actor=KEY)
    hold(app, tree, 3, actor=WRITER)
    set_budget(app, tree, "member:2", 50)
    moved = set_budget(app, tree, WRITER, 60, "day", "member:2")
    assert moved["path"] == [WRITER, "member:2"]
    assert used(app, tree) == {KEY: (5, 0), WRITER: (5, 3), "member:2": (5, 3), MEMBER: (0, 0)}
    spend(app, tree, 5, actor=KEY)
    assert used(app, tree)["member:2"] == (10, 3)
    set_budget(app, tree, WRITER, 60, "day")
    assert used(app, tree)["member:2"] == (0, 0)
    assert used(app, tree)[WRITER] == (10, 3)
    assert discrepancies(app) == []


def test_a_removed_budget_leaves_its_spends_to_nobody(app: Connection, tree: UUID) -> None:
    spend(app, tree, 5, actor=KEY)
    spend(app, tree, 7, actor=WRITER)
    with refused("TB096") as caught:
        remove_budget(app, tree, WRITER)
    assert KEY in str(caught.value)
    assert remove_budget(app, tree, KEY)["spent_in_period"] == 5
    assert used(app, tree) == {WRITER: (7, 0), MEMBER: (7, 0)}
    with refused("TB095"):
        remove_budget(app, tree, KEY)
    remove_budget(app, tree, WRITER)
    remove_budget(app, tree, MEMBER)
    assert used(app, tree) == {}
    assert balances(app, tree)["has_budgets"] is False
    spend(app, tree, 500, actor=KEY)
    assert discrepancies(app) == []


def test_actors_without_a_budget_share_that_of_their_kind_or_of_all(app: Connection, account: UUID) -> None:
    grant(app, account, 1000)
    spend(app, account, 5, actor="agent:old")
    spend(app, account, 2, actor="key:old")
    spend(app, account, 2, actor="nobody")
    hold(app, account, 1, actor="agent:old")
    set_budget(app, account, MEMBER, 100)
    set_budget(app, account, "agent:*", 20, "month", MEMBER)
    set_budget(app, account, "*", 30)
    assert used(app, account) == {MEMBER: (5, 1), "agent:*": (5, 1), "*": (4, 0)}
    spend(app, account, 10, actor="agent:new")
    with refused("TB091") as caught:
        spend(app, account, 5, actor="agent:another")
    assert (detail(caught)["actor"], detail(caught)["budget"]) == ("agent:another", "agent:*")
    spend(app, account, 26, actor="key:new")
    with refused("TB091"):
        spend(app, account, 1, actor="nobody")
    spend(app, account, 100)
    # A budget of its own takes its actor out of the shared one, and back.
    set_budget(app, account, "agent:new", 50)
    assert used(app, account) == {MEMBER: (5, 1), "agent:*": (5, 1), "*": (30, 0), "agent:new": (10, 0)}
    remove_budget(app, account, "agent:new")
    assert used(app, account) == {MEMBER: (15, 1), "agent:*": (15, 1), "*": (30, 0)}
    remove_budget(app, account, "agent:*")
    assert used(app, account) == {MEMBER: (0, 0), "*": (45, 1)}
    assert discrepancies(app) == []


def test_transfers_grants_and_corrections_do_not_count(
    app: Connection, tree: UUID, database: Database, conn: Connection
) -> None:
    other = account_of(conn, create_user(database))
    transfer(app, tree, other, 500)
    call(app, "adjust_credits", account_id=tree, amount=-500, reason="x", actor=KEY, idempotency_key="k")
    assert used(app, tree) == {KEY: (0, 0), WRITER: (0, 0), MEMBER: (0, 0)}
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("TB092", ("", 5, "day", None)),
        ("TB092", (None, 5, "day", None)),
        ("TB092", ("x" * 256, 5, "day", None)),
        ("TB005", ("agent:x", -1, "day", None)),
        ("TB005", ("agent:x", Decimal("1.5"), "day", None)),
        ("TB093", ("agent:x", 5, "year", None)),
        ("TB093", ("agent:x", 5, None, None)),
        ("TB095", ("agent:x", 5, "day", "agent:missing")),
        ("TB094", (MEMBER, 5, "day", MEMBER)),
        ("TB094", (MEMBER, 5, "day", KEY)),
        ("TB094", ("agent:x", 5, "day", "agent:5")),
        ("TB094", (MEMBER, 5, "day", "agent:3")),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(
    app: Connection, tree: UUID, code: str, arguments: tuple[str, Any, str, str | None]
) -> None:
    parent: str | None = None
    for number in range(1, 6):
        set_budget(app, tree, f"agent:{number}", 5, "day", parent)
        parent = f"agent:{number}"
    before = fetch(app, "select * from billing.budgets order by actor")
    with refused(code):
        set_budget(app, tree, *arguments)
    assert fetch(app, "select * from billing.budgets order by actor") == before


def test_budgets_belong_to_one_account(
    app: Connection, tree: UUID, database: Database, conn: Connection
) -> None:
    other = account_of(conn, create_user(database))
    grant(app, other, 500)
    with refused("TB095"):
        set_budget(app, other, WRITER, 5, "day", MEMBER)
    spend(app, other, 500, actor=KEY)
    assert used(app, tree)[KEY] == (0, 0)
    for account_id in (uuid4(), None):
        with refused("TB004"):
            set_budget(app, account_id, WRITER, 5)


def test_no_counter_is_ever_below_zero(admin: Connection, tree: UUID) -> None:
    for change in (
        "spent_in_period = -1",
        "held = -1",
        "cap = -1",
        "period = 'year'",
        "path = '{agent:x}'",
        "path = '{key:7,agent:x}'",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            admin.execute(f"update billing.budgets set {change} where actor = 'key:7'".encode())


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (
            "update billing.budgets set spent_in_period = 6 where actor = 'key:7'",
            "budget_spent_what_its_actors_spent",
        ),
        ("update billing.budgets set held = 1 where actor = 'member:1'", "budget_holds_what_its_actors_hold"),
        (
            "update billing.budgets set path = '{key:7,agent:writer}' where actor = 'key:7'",
            "budget_is_below_its_parent",
        ),
        ("update billing.credit_balances set has_budgets = false", "balance_knows_of_budgets"),
        (
            "delete from billing.budgets where actor = 'agent:writer'",
            "budget_is_below_its_parent",
        ),
    ],
)
def test_damaged_budgets_are_found(
    admin: Connection, app: Connection, tree: UUID, damage: str, invariant: str
) -> None:
    spend(app, tree, 5, actor=KEY)
    assert discrepancies(app) == []
    admin.execute(damage.encode())
    assert invariant in {found for found, _ in discrepancies(app)}


def test_members_see_their_accounts_budgets_and_only_managers_set_them(
    database: Database, conn: Connection, app: Connection
) -> None:
    owner, admin_user, member, stranger = (create_user(database) for _ in range(4))
    team = call(app, "create_team", name="Team", owner_id=owner)["id"]
    for user_id, role in ((admin_user, "admin"), (member, "member")):
        call(app, "add_member", account_id=team, user_id=user_id, role=role)
    set_budget(app, team, WRITER, 5)
    for user_id, sees, may_set in (
        (owner, True, True),
        (admin_user, True, True),
        (member, True, False),
        (stranger, False, False),
    ):
        with as_user(conn, user_id) as session:
            assert len(fetch(session, "select * from public.budgets")) == int(sees)
            assert len(fetch(session, "select * from billing.budgets")) == int(sees)
            if may_set:
                call(session, "public.set_budget", account_id=team, actor="agent:x", cap=7, period="day")
                call(session, "public.remove_budget", account_id=team, actor="agent:x")
        refusals: dict[str, tuple[str, Row]] = {
            "update public.budgets set cap = 99": ("42501", {}),
            "delete from billing.budgets": ("42501", {}),
        }
        if not may_set:
            refusals |= {
                "select public.set_budget(%(team)s, 'agent:x', 7, 'day')": ("TB097", {"team": team}),
                "select public.remove_budget(%(team)s, 'agent:writer')": ("TB097", {"team": team}),
            }
        for statement, (code, parameters) in refusals.items():
            with refused(code), as_user(conn, user_id) as session:
                session.execute(statement.encode(), parameters)
    personal = account_of(conn, member)
    with as_user(conn, member) as session:
        call(session, "public.set_budget", account_id=personal, actor="agent:x", cap=7, period="day")
    assert shown(app, team, WRITER)["cap"] == 5


def test_a_removed_member_keeps_the_budget_until_somebody_removes_it(
    database: Database, app: Connection
) -> None:
    owner, member = create_user(database), create_user(database)
    team = call(app, "create_team", name="Team", owner_id=owner)["id"]
    call(app, "add_member", account_id=team, user_id=member, role="member")
    grant(app, team, 100)
    set_budget(app, team, f"member:{member}", 10)
    set_budget(app, team, WRITER, 10, "day", f"member:{member}")
    call(app, "remove_member", account_id=team, user_id=member)
    # The member's agents may still run, and stay limited.
    with refused("TB091"):
        spend(app, team, 11, actor=WRITER)


def test_thirty_two_agents_of_three_members_at_once_are_exact(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100_000)
    set_limits(app, account, spend_cap=330, spend_cap_period="total")
    for number, cap in enumerate((90, 120, 150)):
        set_budget(app, account, f"member:{number}", cap, "total")
    agents = [f"agent:{number}" for number in range(32)]
    for number, agent in enumerate(agents):
        set_budget(app, account, agent, 12, "total", f"member:{number % 3}")

    def run(session: Connection, agent: str) -> tuple[int, set[str]]:
        """Spend, hold, capture, release and refund until each level has refused: what is spent in the end."""
        total, codes = 0, set[str]()
        for turn in range(12):
            try:
                kind = turn % 4
                if kind == 0:
                    held = hold(session, account, 2, f"{agent} {turn}", actor=agent)
                    total -= capture(session, held["id"], 1, release_rest=True)["amount"]
                elif kind == 1:
                    jobs = [
                        {"account_id": str(account), "amount": 1, "idempotency_key": f"{agent} {turn} {n}",
                         "actor": agent}
                        for n in range(2)
                    ]  # fmt: skip
                    fetch(session, "select * from billing.spend_credits_batch(%s)", [Jsonb(jobs)])
                    total += 2
                elif kind == 2:
                    entry = spend(session, account, 3, f"{agent} {turn}", actor=agent, up_to=True)
                    total -= entry["amount"]
                    refund(session, entry["id"], 1, f"{agent} {turn} refund")
                    total -= 1
                else:
                    spend(session, account, 1, f"{agent} {turn}", actor=agent)
                    total += 1
            except psycopg.Error as error:
                codes.add(str(error.sqlstate))
        return total, codes

    sessions = [database.connect("service_role") for _ in agents]
    try:
        opened = [session.__enter__() for session in sessions]
        results = at_once(
            [lambda s=s, agent=agent: run(s, agent) for s, agent in zip(opened, agents, strict=True)]
        )
    finally:
        for session in sessions:
            session.__exit__(None, None, None)
    totals: list[int] = []
    codes = set[str]()
    for result in results:
        assert not isinstance(result, psycopg.Error), result
        totals.append(result[0])
        codes |= result[1]
    assert codes <= {"TB091", "TB021"}
    assert "TB091" in codes
    counted = used(app, account)
    assert [counted[agent] for agent in agents] == [(total, 0) for total in totals]
    for number in range(3):
        mine = sum(total for agent, total in enumerate(totals) if agent % 3 == number)
        assert counted[f"member:{number}"] == (mine, 0)
        assert mine <= (90, 120, 150)[number]
    assert balances(app, account)["spent_in_period"] == sum(totals) <= 330
    assert -value(
        app, "select sum(amount) from billing.credit_entries where kind in ('spend', 'capture', 'refund')"
    ) == sum(totals)
    assert discrepancies(app) == []


def test_a_budget_that_is_set_while_somebody_spends_counts_that_too(
    database: Database, conn: Connection, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as spender:
        spend(spender, account, 10, actor=WRITER)
        with blocked(app, conn, lambda: set_budget(app, account, WRITER, 15)) as waiting:
            spender.commit()
    assert waiting.result()["spent_in_period"] == 10
    with refused("TB091"):
        spend(app, account, 6, actor=WRITER)
