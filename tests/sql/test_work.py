"""Priced work: held by an estimate, settled by what it used, at the price of the hold; or spent at once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.accounts import close, freeze
from tests.sql.calls import (
    Connection,
    Row,
    available,
    balance,
    balances,
    call,
    capture,
    discrepancies,
    entries,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    release,
    set_limits,
    spend,
    value,
)
from tests.sql.races import at_once, blocked
from tests.sql.work import estimate, hold_work, per_second, set_price, settle_work, spend_work
from tests.support import Database, as_user, create_user

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def credits(app: Connection, account: UUID) -> None:
    """100 credits, and a video that costs one a second."""
    grant(app, account, 100)
    per_second(app)


@pytest.fixture(autouse=True)
def sound(admin: Connection, credits: None) -> Any:
    """At the end the ledger adds up, and each charge is what its price says."""
    yield
    assert discrepancies(admin) == []


def of_hold(conn: Connection, hold_id: UUID) -> Row:
    return fetch_one(conn, "select * from billing.credit_holds where id = %s", [hold_id])


def test_work_is_held_by_its_estimate_and_settled_by_its_usage(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    assert (held["amount"], held["feature"], available(app, account)) == (40, "video", 60)
    charge = settle_work(app, held["id"], 25.5)
    assert (charge["unrounded"], charge["credits"], charge["charged"]) == (Decimal("25.5"), 26, 26)
    assert entries(app, account)[1:] == [("capture", -26)]
    assert of_hold(app, held["id"])["status"] == "captured"
    assert available(app, account) == 74
    entry = fetch_one(app, "select * from billing.credit_entries where id = %s", [charge["entry_id"]])
    assert (entry["hold_id"], entry["feature"], entry["amount"]) == (held["id"], "video", -26)


def test_usage_that_is_the_estimate_ends_the_hold(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    assert settle_work(app, held["id"], 40)["charged"] == 40
    assert (of_hold(app, held["id"])["status"], available(app, account)) == ("captured", 60)


def test_debt_charges_what_is_held_then_what_is_available_then_what_is_not(
    app: Connection, account: UUID
) -> None:
    held = hold_work(app, account, 40)
    spend(app, account, 50)
    charge = settle_work(app, held["id"], 70, description="Long video", metadata={"job": "7"})
    assert (charge["credits"], charge["charged"], charge["on_excess"]) == (70, 70, "debt")
    assert entries(app, account)[2:] == [("capture", -40), ("spend", -30)]
    assert (balance(app, account), balances(app, account)["debt"]) == (-20, 20)
    excess = fetch_one(app, "select * from billing.credit_entries where id = %s", [charge["excess_entry_id"]])
    assert (excess["debt"], excess["description"], excess["feature"]) == (20, "Long video", "video")
    grant(app, account, 50)
    assert balance(app, account) == 30


def test_debt_takes_no_credits_that_other_holds_reserve(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    other = hold(app, account, 50)
    settle_work(app, held["id"], 70)
    assert (balance(app, account), balances(app, account)["debt"]) == (30, 20)
    assert capture(app, other["id"])["amount"] == -50


def test_clip_charges_what_is_held(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    charge = settle_work(app, held["id"], 70, on_excess="clip")
    assert (charge["credits"], charge["charged"], charge["excess_entry_id"]) == (70, 40, None)
    assert (balance(app, account), of_hold(app, held["id"])["status"]) == (60, "captured")


def test_refuse_changes_nothing(app: Connection, account: UUID) -> None:
    per_second(app, on_excess="refuse")
    held = hold_work(app, account, 40)
    with refused("TB105") as caught:
        settle_work(app, held["id"], 41)
    assert f"costs 41 credits, and hold {held['id']} has 40 left" in str(caught.value)
    assert of_hold(app, held["id"]) == held
    assert len(entries(app, account)) == 1
    assert settle_work(app, held["id"], 40)["charged"] == 40


def test_the_policy_of_the_price_can_be_overridden_and_must_be_known(app: Connection, account: UUID) -> None:
    per_second(app, on_excess="clip")
    held = hold_work(app, account, 40)
    with refused("TB106"):
        settle_work(app, held["id"], 41, on_excess="forgive")
    with refused("TB105"):
        settle_work(app, held["id"], 41, on_excess="refuse")
    assert settle_work(app, held["id"], 41)["charged"] == 40


def test_what_was_captured_before_is_no_longer_held(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    capture(app, held["id"], 30)
    assert settle_work(app, held["id"], 15, on_excess="clip")["charged"] == 10
    assert balance(app, account) == 60


def test_work_is_settled_at_the_price_of_its_hold(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    later = per_second(app, 3)
    charge = settle_work(app, held["id"], 20)
    assert charge["charged"] == 20
    assert charge["operation_price_id"] != later["id"]
    assert spend_work(app, account, 20)["charged"] == 60


def test_work_of_an_operation_that_ended_can_be_settled(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    per_second(app, active=False)
    assert settle_work(app, held["id"], 20)["charged"] == 20
    for work in (hold_work, spend_work):
        with refused("TB100"):
            work(app, account, 1)


def test_work_that_used_nothing_releases_its_hold(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    charge = settle_work(app, held["id"], 0, "nothing")
    assert (charge["charged"], charge["entry_id"]) == (0, None)
    assert (of_hold(app, held["id"])["status"], available(app, account)) == ("released", 100)
    assert settle_work(app, held["id"], 0, "nothing") == charge
    assert entries(app, account) == [("grant", 100)]


def test_free_work_needs_no_credits(app: Connection, account: UUID) -> None:
    spend(app, account, 100)
    per_second(app, 0)
    held = hold_work(app, account, 40, "free", expires_in=HOUR)
    assert (held["amount"], held["status"]) == (0, "held")
    assert hold_work(app, account, 40, "free", expires_in=HOUR) == held
    assert settle_work(app, held["id"], 50)["charged"] == 0
    assert spend_work(app, account, 5)["charged"] == 0
    assert release(app, hold_work(app, account, 1)["id"])["status"] == "released"


def test_a_hold_of_nothing_expires(app: Connection, admin: Connection, account: UUID) -> None:
    held = hold_work(app, account, 0)
    move_clock(admin, 2 * HOUR)
    assert expire_due(app)["holds_expired"] == 1
    with refused("TB020"):
        settle_work(app, held["id"], 1)


@pytest.mark.parametrize(("policy", "charged"), [("debt", 150), ("clip", 0)])
def test_work_that_was_estimated_as_free_follows_the_policy(
    app: Connection, account: UUID, policy: str, charged: int
) -> None:
    held = hold_work(app, account, 0)
    with refused("TB105"):
        settle_work(app, held["id"], 150, on_excess="refuse")
    charge = settle_work(app, held["id"], 150, "late", on_excess=policy)
    assert (charge["charged"], charge["excess_entry_id"]) == (charged, None)
    assert balance(app, account) == 100 - charged
    assert settle_work(app, held["id"], 150, "late", on_excess=policy) == charge


def test_holding_is_refused_like_any_hold(app: Connection, account: UUID) -> None:
    with refused("TB001"):
        hold_work(app, account, 101)
    with refused("TB004"):
        hold_work(app, uuid4(), 1)
    with refused("TB006"):
        hold_work(app, account, 1, "x" * 256)
    for seconds in (1, 0):
        with refused("TB024"):
            hold_work(app, account, seconds, expires_in=2 * 365 * DAY)
    with refused("TB102"):
        hold_work(app, account, -1)
    with refused("TB101"):
        hold_work(app, account, {"minutes": 1})


def test_a_frozen_account_holds_and_spends_nothing_not_even_free_work(
    app: Connection, admin: Connection, account: UUID
) -> None:
    held = hold_work(app, account, 40)
    freeze(admin, account)
    for seconds in (1, 0):
        for work in (hold_work, spend_work):
            with refused("TB003"):
                work(app, account, seconds)
    # The work was done before.
    assert settle_work(app, held["id"], 120)["charged"] == 120


def test_spending_is_refused_like_any_spend(app: Connection, account: UUID) -> None:
    with refused("TB001"):
        spend_work(app, account, 101)
    with refused("TB004"):
        spend_work(app, uuid4(), 1)
    with refused("TB007"):
        spend_work(app, account, 1, metadata=Jsonb([]))
    close(app, account)
    for seconds in (1, 0):
        with refused("TB008"):
            spend_work(app, account, seconds)


def test_settling_needs_a_hold_for_priced_work(app: Connection, account: UUID) -> None:
    with refused("TB019"):
        settle_work(app, uuid4(), 1)
    with refused("TB109"):
        settle_work(app, hold(app, account, 10)["id"], 1)
    held = hold_work(app, account, 10)
    for usage, code in ((-1, "TB102"), ({"minutes": 1}, "TB101"), (None, "TB102"), (1e15, "TB104")):
        if code == "TB104":
            spend_before = balance(app, account)
            per_second(app, 10**12)
            held = hold_work(app, account, 0)
            settle_work(app, hold_work(app, account, 0)["id"], 9 * 10**6)
            assert balance(app, account) == spend_before - 9 * 10**18
            usage = 9 * 10**6
        with refused(code):
            settle_work(app, held["id"], usage)


@pytest.mark.parametrize("end", ["settled", "captured", "released", "expired"])
def test_work_is_settled_once(app: Connection, admin: Connection, account: UUID, end: str) -> None:
    held = hold_work(app, account, 40)
    if end == "settled":
        settle_work(app, held["id"], 10, "first")
    elif end == "captured":
        capture(app, held["id"])
    elif end == "released":
        release(app, held["id"])
    else:
        move_clock(admin, 2 * HOUR)
    with refused("TB020"):
        settle_work(app, held["id"], 10, "second")


def test_spending_prices_and_spends_at_once(app: Connection, account: UUID) -> None:
    charge = spend_work(app, account, 12.1, "key", description="Clip", metadata=Jsonb({"job": "7"}))
    assert spend_work(app, account, 12.1, "key", description="Clip", metadata=Jsonb({"job": "7"})) == charge
    assert (charge["charged"], charge["hold_id"], charge["on_excess"]) == (13, None, None)
    entry = fetch_one(app, "select * from billing.credit_entries where id = %s", [charge["entry_id"]])
    assert (entry["kind"], entry["amount"], entry["description"]) == ("spend", -13, "Clip")
    assert (entry["feature"], entry["metadata"]) == ("video", {"job": "7"})


def test_a_replay_returns_the_first_answer_also_after_a_change_of_price(
    app: Connection, account: UUID
) -> None:
    held = hold_work(app, account, 40, "hold")
    spent = spend_work(app, account, 10, "spend")
    per_second(app, 9)
    assert hold_work(app, account, 40, "hold") == held
    assert spend_work(app, account, 10, "spend") == spent
    settled = settle_work(app, held["id"], 60, "settle")
    per_second(app, 10, active=False)
    assert settle_work(app, held["id"], 60, "settle") == settled
    assert hold_work(app, account, 40, "hold")["id"] == held["id"]
    assert balance(app, account) == 30


@pytest.mark.parametrize("usage", [60, 30, 0])
@pytest.mark.parametrize(
    "other", [{"seconds": 61}, {"on_excess": "clip"}, {"description": "other"}, {"metadata": {"a": 1}}]
)
def test_a_settlement_with_other_arguments_is_refused(
    app: Connection, account: UUID, usage: int, other: dict[str, Any]
) -> None:
    held = hold_work(app, account, 40)
    settle_work(app, held["id"], usage, "key")
    if usage == 0 and other.keys() & {"description", "metadata"}:
        return  # nothing was charged, so there is no entry that has them
    with refused("TB002"):
        settle_work(app, held["id"], **{"seconds": usage, "key": "key", **other})


def test_a_key_belongs_to_one_movement(app: Connection, account: UUID) -> None:
    spend(app, account, 5, "spent")
    first, second = hold_work(app, account, 10, "first"), hold_work(app, account, 10, "second")
    plain = hold(app, account, 10, "plain")
    settle_work(app, first["id"], 7, "settled")
    spend_work(app, account, 7, "worked")
    spend_work(app, account, 0, "free")
    for hold_key in ("second", "plain"):
        with refused("TB002"):
            hold_work(app, account, 11, hold_key)
    with refused("TB002"):
        hold_work(app, account, 10, "plain")
    with refused("TB002"):
        hold_work(app, account, 10, "second", description="other")
    set_price(app)
    with refused("TB002"):
        hold_work(app, account, {}, "second", "chat")
    for key in ("spent", "settled", "worked", "free"):
        for usage in (7, 0):
            with refused("TB002"):
                settle_work(app, second["id"], usage, key)
    for key in ("spent", "settled"):
        for seconds in (7, 0):
            with refused("TB002"):
                spend_work(app, account, seconds, key)
    for other in ({"seconds": 8}, {"operation": "chat", "seconds": {}}, {"description": "x"}):
        with refused("TB002"):
            spend_work(app, account, **{"seconds": 7, "key": "worked", **other})
    with refused("TB002"):
        spend(app, account, 5, "settled")
    release(app, plain["id"])


def test_the_actor_is_that_of_the_hold_and_part_of_its_key(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40, "hold", actor="agent:writer")
    free = hold_work(app, account, 0, "free", actor="agent:writer")
    spent = spend_work(app, account, 1, "spend", actor="agent:reader")
    settle_work(app, held["id"], 60)
    assert free["actor"] == "agent:writer"
    rows = fetch(app, "select kind, actor from billing.credit_entries order by id")
    assert [(row["kind"], row["actor"]) for row in rows[1:]] == [
        ("spend", "agent:reader"), ("capture", "agent:writer"), ("spend", "agent:writer"),
    ]  # fmt: skip
    assert spend_work(app, account, 1, "spend", actor="agent:reader") == spent
    with refused("TB002"):
        spend_work(app, account, 1, "spend")
    for key, seconds in (("hold", 40), ("free", 0)):
        with refused("TB002"):
            hold_work(app, account, seconds, key, actor="agent:reader")
    for seconds in (1, 0):
        for work in (hold_work, spend_work):
            with refused("TB092"):
                work(app, account, seconds, actor="")


def test_a_refund_of_each_entry_returns_what_was_charged(app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    charge = settle_work(app, held["id"], 130)
    assert (balance(app, account), balances(app, account)["debt"]) == (-30, 30)
    refund(app, charge["excess_entry_id"])
    refund(app, charge["entry_id"], 15)
    assert (balance(app, account), balances(app, account)["debt"]) == (75, 0)
    refund(app, spend_work(app, account, 10)["entry_id"])
    assert balance(app, account) == 75


def test_a_cap_counts_the_excess_and_refuses_none_of_it(app: Connection, account: UUID) -> None:
    set_limits(app, account, spend_cap=50, spend_cap_period="month")
    held = hold_work(app, account, 40)
    settle_work(app, held["id"], 60)
    assert balances(app, account)["spent_in_period"] == 60
    with refused("TB021"):
        spend_work(app, account, 1)


def test_budgets_judge_the_hold_and_count_the_excess(app: Connection, account: UUID) -> None:
    def budget() -> tuple[int, int]:
        row = fetch_one(app, "select spent_in_period, held from billing.budgets where actor = 'agent:writer'")
        return row["spent_in_period"], row["held"]

    budget_of = {"account_id": account, "actor": "agent:writer", "cap": 50, "period": "month"}
    call(app, "set_budget", **budget_of)
    with refused("TB091"):
        hold_work(app, account, 51, actor="agent:writer")
    held = hold_work(app, account, 40, actor="agent:writer")
    assert budget() == (0, 40)
    settle_work(app, held["id"], 60)
    assert budget() == (60, 0)
    for work in (hold_work, spend_work):
        with refused("TB091"):
            work(app, account, 1, actor="agent:writer")


def test_credits_that_are_due_expire_before_the_excess_is_spent(
    app: Connection, admin: Connection, account: UUID
) -> None:
    held = hold_work(app, account, 40, expires_in=3 * HOUR)
    grant(app, account, 50, expires_at=value(app, "select now() + interval '2 hours'"))
    move_clock(admin, 2 * HOUR + HOUR / 2)
    settle_work(app, held["id"], 110)
    assert entries(app, account)[2:] == [("expiry", -50), ("capture", -40), ("spend", -70)]
    assert balances(app, account)["debt"] == 10


def test_two_settlements_at_once_charge_once(database: Database, app: Connection, account: UUID) -> None:
    held = hold_work(app, account, 40)
    with database.connect("service_role") as second:
        answers = at_once(
            [lambda conn=conn: settle_work(conn, held["id"], 70, "key") for conn in (app, second)]
        )
        assert answers[0] == answers[1]
        held = hold_work(app, account, 20)
        answers = at_once(
            [lambda conn=conn, key=key: settle_work(conn, held["id"], 70, key)
             for conn, key in ((app, "a"), (second, "b"))]
        )  # fmt: skip
    [error] = [answer for answer in answers if isinstance(answer, psycopg.Error)]
    assert error.sqlstate == "TB020"
    assert balance(app, account) == -40


def test_a_second_spend_waits_for_the_first_and_repeats_it(
    database: Database, app: Connection, admin: Connection, account: UUID
) -> None:
    with database.connect("service_role") as second:
        with app.transaction():
            first = spend_work(app, account, 10, "key")
            work = lambda: spend_work(second, account, 10, "key")  # noqa: E731
            waiting = blocked(second, admin, work)
            answer = waiting.__enter__()
            # A change of price meanwhile makes no difference to a repeated call.
            with database.connect("service_role") as third:
                per_second(third, 9)
        waiting.__exit__(None, None, None)
        assert answer.result() == first
    assert balance(app, account) == 90


def test_hold_and_settlement_roll_back_with_the_apps_transaction(app: Connection, account: UUID) -> None:
    with app.transaction(force_rollback=True):
        settle_work(app, hold_work(app, account, 40)["id"], 170)
    assert (entries(app, account), available(app, account)) == ([("grant", 100)], 100)
    assert fetch(app, "select * from billing.work_charges") == []


def test_charges_are_append_only(app: Connection, admin: Connection, account: UUID) -> None:
    settle_work(app, hold_work(app, account, 40)["id"], 10)
    for table in ("work_charges", "work_holds"):
        for change in (f"delete from billing.{table}", f"truncate billing.{table} cascade"):
            with refused("TB015"):
                admin.execute(change)
    for change in ("work_charges set credits = 7", "work_holds set quantities = '{}'"):
        with refused("TB015"):
            admin.execute(f"update billing.{change}")


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("update billing.work_charges set credits = 71", "charge_is_what_its_price_says"),
        ("update billing.work_charges set unrounded = 69", "charge_is_what_its_price_says"),
        ("update billing.work_charges set quantities = '{\"seconds\": 71}'", "charge_is_what_its_price_says"),
        ("update billing.operation_prices set rates = '{\"seconds\": {\"credits\": 2, \"per\": 1}}'",
         "charge_is_what_its_price_says"),
        ("update billing.work_charges set charged = 69", "charge_is_what_entries_took"),
        ("update billing.work_charges set excess_entry_id = null", "charge_is_what_entries_took"),
        ("update billing.work_charges set entry_id = excess_entry_id, excess_entry_id = entry_id",
         "charge_is_what_entries_took"),
        ("update billing.work_charges set credits = 71, quantities = '{\"seconds\": 71}', unrounded = 71",
         "charge_is_all_but_clipped"),
        ("update billing.work_holds set operation_price_id = (select max(id) from billing.operation_prices)",
         "charge_has_the_price_of_its_hold"),
    ],
)  # fmt: skip
def test_a_damaged_charge_is_a_discrepancy(
    admin: Connection, app: Connection, account: UUID, damage: str, invariant: str
) -> None:
    settle_work(app, hold_work(app, account, 40)["id"], 70)
    set_price(app)
    with admin.transaction(force_rollback=True):
        admin.execute("set local session_replication_role = replica")
        admin.execute(damage)
        found = discrepancies(admin)
        assert invariant in [name for name, _ in found]
        checked = fetch(admin, "select invariant from billing.check_account(%s)", [account])
        assert invariant in [row["invariant"] for row in checked]
        fetch(admin, "select * from billing.prove_accounts(accounts_max => 9)")
        stored = fetch(admin, "select invariant from billing.found_discrepancies")
        assert invariant in [row["invariant"] for row in stored]


def test_users_read_their_own_charges(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    settle_work(app, hold_work(app, account, 40)["id"], 10)
    grant(app, other, 10)
    spend_work(app, other, 2)
    owner = value(app, "select owner_id from billing.accounts where id = %s", [account])
    with database.connect() as conn:
        with as_user(conn, owner):
            [charge] = fetch(conn, "select * from public.work_charges")
            assert (charge["account_id"], charge["operation"], charge["charged"]) == (account, "video", 10)
            assert charge["quantities"] == {"seconds": 10}
            assert value(conn, "select count(*) from billing.work_holds") == 1
            assert estimate(conn, "video", {"seconds": 3})["credits"] == 3
        with as_user(conn, create_user(database)):
            assert fetch(conn, "select * from public.work_charges") == []
            assert value(conn, "select count(*) from billing.work_holds") == 0
            for write in ("hold_work", "settle_work", "spend_work", "set_operation_price"):
                assert not value(
                    conn,
                    "select bool_or(has_function_privilege(oid, 'execute')) from pg_proc where proname = %s",
                    [write],
                )


def test_a_lot_pays_for_held_work_in_its_order(app: Connection, account: UUID) -> None:
    grant(app, account, 30, priority=1)
    held = hold_work(app, account, 40)
    settle_work(app, held["id"], 35)
    assert [lot["remaining"] for lot in lots(app, account)] == [95, 0]
