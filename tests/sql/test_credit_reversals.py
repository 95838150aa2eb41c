"""Reversals: a spend given back to where it came from; a lot taken back under each policy, and reinstated."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    Row,
    adjust,
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
    reinstate,
    release,
    revoke,
    schedule,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)
POLICIES = ["clamp_and_record", "allow_negative", "block_future_grants"]
EACH_POLICY = pytest.mark.parametrize("policy", POLICIES)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def remaining(conn: Connection, account: UUID) -> list[int]:
    """What is left of each lot, oldest first."""
    return [lot["remaining"] for lot in lots(conn, account)]


def lot_of(conn: Connection, entry: Row) -> int:
    """The id of the lot that an entry opened."""
    return value(conn, "select id from billing.credit_grants where entry_id = %s", [entry["id"]])


def state(conn: Connection, account: UUID) -> tuple[int, int, int]:
    """Balance, debt and what is withheld."""
    row = balances(conn, account)
    return row["balance"], row["debt"], row["withheld"]


# Refunds.


def test_what_a_refund_gives_back_repays_debt(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 100, expires_at=in_days(1))
    first = spend(app, account, 100)
    spend(app, account, 30)
    refund(app, first["id"])
    assert (balance(app, account), remaining(app, account)) == (70, [70])
    assert entries(app, account)[-2:] == [("refund", 100), ("repayment", 0)]
    assert discrepancies(app) == []


def test_refund_gives_all_back_to_the_lot_it_came_from(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60, feature="images", reference_id="image-1")
    entry = refund(app, spent["id"], description="It failed", metadata={"n": 1})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("refund", 60, 100)
    assert (entry["reverses_entry_id"], entry["feature"]) == (spent["id"], "images")
    assert (entry["reference_id"], entry["description"]) == ("image-1", "It failed")
    assert entry["metadata"] == {"n": 1}
    assert remaining(app, account) == [100]
    assert discrepancies(app) == []


def test_refund_opens_the_emptied_lot_again(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    spent = spend(app, account, 10)
    assert lots(app, account)[0]["closed_at"] is not None
    refund(app, spent["id"])
    assert lots(app, account)[0]["closed_at"] is None
    assert spend(app, account, 10)["balance_after"] == 0
    assert discrepancies(app) == []


def test_refunds_in_parts_add_up_to_the_spend_and_no_further(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    for part in [10, 20, 29]:
        refund(app, spent["id"], part)
    with refused("TB027"):
        refund(app, spent["id"], 2)
    assert refund(app, spent["id"])["amount"] == 1
    for amount in [1, None]:
        with refused("TB027"):
            refund(app, spent["id"], amount)
    assert balance(app, account) == 100
    assert discrepancies(app) == []


def test_refund_goes_to_the_lots_last_taken_first(app: Connection, account: UUID) -> None:
    grant(app, account, 10, priority=5)
    grant(app, account, 10, expires_at=in_days(9))
    grant(app, account, 10, expires_at=in_days(2))
    spent = spend(app, account, 25)
    assert remaining(app, account) == [0, 5, 0]
    seen = []
    for part in [3, 4, 10, 8]:
        refund(app, spent["id"], part)
        seen.append(remaining(app, account))
    assert seen == [[0, 8, 0], [0, 10, 2], [2, 10, 10], [10, 10, 10]]
    assert discrepancies(app) == []


def test_refund_touches_only_what_its_own_spend_took(app: Connection, account: UUID) -> None:
    for _ in range(2):
        grant(app, account, 10)
    first, second = spend(app, account, 8), spend(app, account, 8)
    refund(app, first["id"])
    assert remaining(app, account) == [8, 4]
    refund(app, second["id"])
    assert remaining(app, account) == [10, 10]
    assert discrepancies(app) == []


def test_refund_to_a_lot_that_expired_meanwhile_expires_again(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    grant(app, account, 10)
    spent = spend(app, account, 60)
    move_clock(admin, 2 * DAY)
    expire_due(app)
    assert (balance(app, account), available(app, account)) == (10, 10)
    refund(app, spent["id"], 50)
    assert (balance(app, account), available(app, account)) == (60, 10)
    assert discrepancies(app) == []
    with refused("TB001"):
        spend(app, account, 11)
    assert expire_due(app)["credits_expired"] == 50
    refund(app, spent["id"], 10)
    assert available(app, account) == 10
    assert expire_due(app)["credits_expired"] == 10
    assert balance(app, account) == 10
    assert [kind for kind, _ in entries(app, account)].count("expiry") == 3
    assert discrepancies(app) == []


def test_refund_to_a_lot_due_but_not_swept_expires_with_it(
    app: Connection, admin: Connection, account: UUID
) -> None:
    grant(app, account, 100, expires_at=in_days(1))
    spent = spend(app, account, 60)
    move_clock(admin, 2 * DAY)
    refund(app, spent["id"])
    assert available(app, account) == 0
    expire_due(app)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_refund_of_a_capture_goes_to_the_lots_that_were_pinned(app: Connection, account: UUID) -> None:
    for _ in range(2):
        grant(app, account, 10)
    held = hold(app, account, 15)
    entry = capture(app, held["id"], 12)
    assert refund(app, entry["id"], 5)["amount"] == 5
    assert remaining(app, account) == [3, 10]
    refund(app, entry["id"])
    with refused("TB027"):
        refund(app, entry["id"], 1)
    assert (balance(app, account), available(app, account)) == (20, 17)
    release(app, held["id"])
    assert spend(app, account, 20)["balance_after"] == 0
    assert discrepancies(app) == []


def test_refund_of_an_overdraft_spend_lowers_the_debt_first(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    spent = spend(app, account, 40)
    assert state(app, account) == (-30, 30, 0)
    entry = refund(app, spent["id"], 20)
    assert (entry["debt"], entry["balance_after"]) == (-20, -10)
    assert remaining(app, account) == [0]
    entry = refund(app, spent["id"], 15)
    assert (entry["debt"], entry["balance_after"]) == (-10, 5)
    assert (state(app, account), remaining(app, account)) == ((5, 0, 0), [5])
    refund(app, spent["id"])
    assert (state(app, account), remaining(app, account)) == ((10, 0, 0), [10])
    assert discrepancies(app) == []


def test_refund_of_an_overdraft_spend_after_the_debt_was_repaid_is_a_lot_of_its_own(
    app: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    spent = spend(app, account, 40)
    grant(app, account, 100)
    assert (state(app, account), remaining(app, account)) == ((70, 0, 0), [0, 70])
    entry = refund(app, spent["id"], 12)
    assert (entry["debt"], entry["balance_after"]) == (0, 82)
    refund(app, spent["id"], 20)
    refund(app, spent["id"])
    assert balance(app, account) == 110
    assert sum(remaining(app, account)) == 110
    # The lot of 10 got back what it had paid, and not more.
    assert remaining(app, account)[0] == 10
    with refused("TB027"):
        refund(app, spent["id"], 1)
    assert spend(app, account, 110)["balance_after"] == 0
    assert discrepancies(app) == []


def test_refund_after_the_debt_was_half_repaid_clears_it_and_returns_the_rest(
    app: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    spent = spend(app, account, 40)
    grant(app, account, 25)
    assert state(app, account) == (-15, 15, 0)
    entry = refund(app, spent["id"])
    assert (entry["debt"], entry["balance_after"]) == (-15, 25)
    assert state(app, account) == (25, 0, 0)
    assert spend(app, account, 25)["balance_after"] == 0
    assert discrepancies(app) == []


def test_refund_of_an_overdraft_spend_never_repays_the_debt_of_another_twice(
    app: Connection, account: UUID
) -> None:
    set_limits(app, account, overdraft=100)
    first, second = spend(app, account, 40), spend(app, account, 30)
    refund(app, first["id"])
    assert state(app, account) == (-30, 30, 0)
    refund(app, second["id"])
    assert state(app, account) == (0, 0, 0)
    for spent in [first, second]:
        with refused("TB027"):
            refund(app, spent["id"], 1)
    assert discrepancies(app) == []


def test_refunded_credits_of_a_closed_account_are_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    call(app, "close_account", account_id=account, reason="asked for", actor="ada")
    with refused("TB008"):
        refund(app, spent["id"])
    assert balance(app, account) == 0


def test_refund_on_a_frozen_account_is_allowed(app: Connection, conn: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'under review'")
    assert refund(app, spent["id"])["balance_after"] == 100


def test_only_spends_and_captures_can_be_refunded(database: Database, app: Connection, account: UUID) -> None:
    other = account_of(app, create_user(database))
    granted = grant(app, account, 100)
    spent = spend(app, account, 10)
    others = [
        granted,
        refund(app, spent["id"], 5),
        adjust(app, account, -5),
        transfer(app, account, other, 5),
    ]
    for entry_id in [*(entry["id"] for entry in others), 10**12, None]:
        with refused("TB026"):
            refund(app, entry_id, 1)
    assert balance(app, account) == 85


def test_replayed_refund_returns_the_first_entry(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    first = refund(app, spent["id"], None, "sorry", description="It failed", metadata={"n": 1})
    for amount in [None, 60]:
        again = refund(app, spent["id"], amount, "sorry", description="It failed", metadata={"n": 1})
        assert again == first
    assert balance(app, account) == 100


@pytest.mark.parametrize("change", [{"amount": 21}, {"description": None}, {"metadata": {}}], ids=str)
def test_refund_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    arguments = {"amount": 20, "key": "sorry", "description": "It failed", "metadata": {"n": 1}}
    refund(app, spent["id"], **arguments)
    with refused("TB002"):
        refund(app, spent["id"], **(arguments | change))
    assert balance(app, account) == 60


def test_key_of_a_refund_belongs_to_its_spend(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    first, second = spend(app, account, 10, "job"), spend(app, account, 10)
    refund(app, first["id"], 10, "sorry")
    for spent, key in [(second, "sorry"), (second, "job")]:
        with refused("TB002"):
            refund(app, spent["id"], 10, key)
    assert balance(app, account) == 90


def test_refund_refuses_malformed_requests(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    for amount in [0, -1]:
        with refused("TB005"):
            refund(app, spent["id"], amount)
    with refused("TB006"):
        refund(app, spent["id"], 1, idempotency_key="")
    with refused("TB007"):
        refund(app, spent["id"], 1, metadata=Jsonb([1]))
    assert balance(app, account) == 40


def test_refund_makes_room_under_the_cap_of_its_period(
    app: Connection, admin: Connection, account: UUID
) -> None:
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    grant(app, account, 1000)
    spent = spend(app, account, 50)
    refund(app, spent["id"], 20)
    spend(app, account, 20)
    move_clock(admin, DAY)
    spend(app, account, 40)
    refund(app, spent["id"])
    with refused("TB021"):
        spend(app, account, 11)
    spend(app, account, 10)
    assert discrepancies(app) == []


def test_two_refunds_of_one_spend_at_once_give_back_no_more_than_it_took(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    spent = spend(app, account, 60)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: refund(c, spent["id"], 40) for c in (one, two)])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB027"]
    assert balance(app, account) == 80
    assert discrepancies(app) == []


# Revocations.


@EACH_POLICY
def test_unspent_lot_is_taken_back_whole(app: Connection, account: UUID, policy: str) -> None:
    granted = grant(app, account, 100, source="pack", reference_id="order-1")
    grant(app, account, 10)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["requested"], row["taken"], row["shortfall"]) == (100, 100, 0)
    assert (row["shortfall_policy"], row["reason"], row["actor"]) == (policy, "chargeback", "ada@example.com")
    (entry,) = fetch(app, "select * from billing.credit_entries where kind = 'revocation'")
    assert (entry["id"], entry["amount"], entry["balance_after"]) == (row["entry_id"], -100, 10)
    assert (entry["source"], entry["reference_id"]) == ("pack", "order-1")
    assert (entry["description"], entry["actor"]) == ("chargeback", "ada@example.com")
    assert entry["reverses_entry_id"] == granted["id"]
    assert (state(app, account), remaining(app, account)) == ((10, 0, 0), [0, 10])
    assert lots(app, account)[0]["closed_at"] is not None
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("policy", "after"),
    [
        ("clamp_and_record", (0, 0, 0)),
        ("allow_negative", (-30, 30, 0)),
        ("block_future_grants", (0, 0, 30)),
    ],
)
def test_what_was_spent_of_a_lot_is_its_shortfall(
    app: Connection, account: UUID, policy: str, after: tuple[int, int, int]
) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 30)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["requested"], row["taken"], row["shortfall"]) == (100, 70, 30)
    assert state(app, account) == after
    assert available(app, account) == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("policy", "after", "moves"),
    [
        ("clamp_and_record", (0, 0, 0), []),
        ("allow_negative", (-100, 100, 0), [("revocation", -100)]),
        ("block_future_grants", (0, 0, 100), []),
    ],
)
def test_lot_that_is_wholly_spent_is_all_shortfall(
    app: Connection,
    account: UUID,
    policy: str,
    after: tuple[int, int, int],
    moves: list[tuple[str, int]],
) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["requested"], row["taken"], row["shortfall"]) == (100, 0, 100)
    assert (row["entry_id"] is not None) is bool(moves)
    assert state(app, account) == after
    assert entries(app, account)[2:] == moves
    assert discrepancies(app) == []


def test_other_lots_pay_a_shortfall_before_there_is_debt(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    grant(app, account, 20)
    spend(app, account, 60)
    row = revoke(app, lot_of(app, granted), shortfall_policy="allow_negative")
    assert (row["taken"], row["shortfall"]) == (40, 60)
    assert (state(app, account), remaining(app, account)) == ((-40, 40, 0), [0, 0])
    assert entries(app, account)[-1] == ("revocation", -120 + 20)
    assert discrepancies(app) == []


def test_other_lots_are_left_alone_unless_debt_is_allowed(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    grant(app, account, 20)
    spend(app, account, 60)
    revoke(app, lot_of(app, granted), shortfall_policy="clamp_and_record")
    assert remaining(app, account) == [0, 20]
    assert state(app, account) == (20, 0, 0)


@EACH_POLICY
def test_what_is_held_of_a_lot_is_its_shortfall_and_stays_held(
    app: Connection, account: UUID, policy: str
) -> None:
    granted = grant(app, account, 100)
    held = hold(app, account, 30)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["taken"], row["shortfall"]) == (70, 30)
    assert balances(app, account)["held"] == 30
    assert available(app, account) == 0
    assert discrepancies(app) == []
    entry = capture(app, held["id"])
    assert entry["balance_after"] == (-30 if policy == "allow_negative" else 0)
    assert discrepancies(app) == []


@EACH_POLICY
def test_what_lapsed_of_a_lot_is_no_shortfall(
    app: Connection, admin: Connection, account: UUID, policy: str
) -> None:
    granted = grant(app, account, 100, expires_at=in_days(1))
    spend(app, account, 30)
    move_clock(admin, 2 * DAY)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["requested"], row["taken"], row["shortfall"]) == (100, 0, 30)
    debt = 30 if policy == "allow_negative" else 0
    withheld = 30 if policy == "block_future_grants" else 0
    assert state(app, account) == (-debt, debt, withheld)
    assert discrepancies(app) == []


@EACH_POLICY
def test_what_was_refunded_of_a_lot_is_no_shortfall(app: Connection, account: UUID, policy: str) -> None:
    granted = grant(app, account, 100)
    refund(app, spend(app, account, 100)["id"], 80)
    row = revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert (row["taken"], row["shortfall"]) == (80, 20)
    assert discrepancies(app) == []


def test_what_was_transferred_away_is_shortfall(database: Database, app: Connection, account: UUID) -> None:
    other = account_of(app, create_user(database))
    granted = grant(app, account, 100)
    transfer(app, account, other, 60)
    row = revoke(app, lot_of(app, granted), shortfall_policy="allow_negative")
    assert (row["taken"], row["shortfall"]) == (40, 60)
    assert (state(app, account), balance(app, other)) == ((-60, 60, 0), 60)
    assert discrepancies(app) == []


def test_what_a_grant_repaid_is_shortfall_of_its_lot(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=30)
    spend(app, account, 30)
    granted = grant(app, account, 100)
    row = revoke(app, lot_of(app, granted), shortfall_policy="allow_negative")
    assert (row["taken"], row["shortfall"]) == (70, 30)
    assert state(app, account) == (-30, 30, 0)
    assert discrepancies(app) == []


@EACH_POLICY
def test_revocations_in_parts_add_up_to_the_lot_and_no_further(
    app: Connection, account: UUID, policy: str
) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 30)
    lot_id = lot_of(app, granted)
    rows = [revoke(app, lot_id, amount, shortfall_policy=policy) for amount in [50, 30]]
    with refused("TB027"):
        revoke(app, lot_id, 21, shortfall_policy=policy)
    rows.append(revoke(app, lot_id, shortfall_policy=policy))
    assert [(row["requested"], row["taken"], row["shortfall"]) for row in rows] == [
        (50, 50, 0),
        (30, 20, 10),
        (20, 0, 20),
    ]
    for amount in [1, None]:
        with refused("TB027"):
            revoke(app, lot_id, amount, shortfall_policy=policy)
    debt = 30 if policy == "allow_negative" else 0
    withheld = 30 if policy == "block_future_grants" else 0
    assert state(app, account) == (-debt, debt, withheld)
    assert discrepancies(app) == []


def test_revocations_in_parts_may_follow_different_policies(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    lot_id = lot_of(app, granted)
    for amount, policy in [(10, "clamp_and_record"), (20, "allow_negative"), (70, "block_future_grants")]:
        row = revoke(app, lot_id, amount, shortfall_policy=policy)
        assert (row["taken"], row["shortfall"]) == (0, amount)
    assert state(app, account) == (-20, 20, 70)
    assert discrepancies(app) == []


def test_credits_that_paid_the_shortfall_of_another_lot_count_as_spent(
    app: Connection, account: UUID
) -> None:
    """Two packs, 60 credits used, both payments taken back: 60 are owed, whichever lot had paid for what."""
    first, second = grant(app, account, 100), grant(app, account, 100)
    spend(app, account, 60)
    revoke(app, lot_of(app, first), shortfall_policy="allow_negative")
    assert (state(app, account), remaining(app, account)) == ((40, 0, 0), [0, 40])
    row = revoke(app, lot_of(app, second), shortfall_policy="allow_negative")
    assert (row["taken"], row["shortfall"]) == (40, 60)
    assert state(app, account) == (-60, 60, 0)
    assert discrepancies(app) == []


def test_credits_withheld_from_a_lot_count_as_spent(app: Connection, account: UUID) -> None:
    first = grant(app, account, 100)
    spend(app, account, 60)
    revoke(app, lot_of(app, first), shortfall_policy="block_future_grants")
    second = grant(app, account, 100)
    assert state(app, account) == (40, 0, 0)
    row = revoke(app, lot_of(app, second), shortfall_policy="block_future_grants")
    assert (row["taken"], row["shortfall"]) == (40, 60)
    assert state(app, account) == (0, 0, 60)
    assert discrepancies(app) == []


def test_next_grants_are_withheld_until_the_shortfall_is_made_up(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    grant(app, account, 5)
    revoke(app, lot_of(app, granted), shortfall_policy="block_future_grants")
    assert spend(app, account, 5)["balance_after"] == 0
    for amount, after in [(60, (0, 0, 40)), (70, (30, 0, 0)), (10, (40, 0, 0))]:
        entry = grant(app, account, amount)
        assert entry["amount"] == amount
        assert state(app, account) == after
        assert discrepancies(app) == []
    assert remaining(app, account) == [0, 0, 0, 30, 10]
    assert lots(app, account)[2]["closed_at"] is not None
    assert entries(app, account)[-5:] == [
        ("grant", 60),
        ("revocation", -60),
        ("grant", 70),
        ("revocation", -40),
        ("grant", 10),
    ]
    assert spend(app, account, 40)["balance_after"] == 0


def test_replayed_grant_that_was_withheld_is_withheld_once(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    revoke(app, lot_of(app, granted), shortfall_policy="block_future_grants")
    first = grant(app, account, 60, "pack")
    assert grant(app, account, 60, "pack") == first
    assert state(app, account) == (0, 0, 40)


def test_debt_is_repaid_before_anything_is_withheld(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    lot_id = lot_of(app, granted)
    revoke(app, lot_id, 20, shortfall_policy="allow_negative")
    revoke(app, lot_id, 80, shortfall_policy="block_future_grants")
    grant(app, account, 50)
    assert state(app, account) == (0, 0, 50)
    grant(app, account, 60)
    assert state(app, account) == (10, 0, 0)
    assert discrepancies(app) == []


def test_debt_of_a_revocation_is_repaid_by_the_next_grant(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    revoke(app, lot_of(app, granted), shortfall_policy="allow_negative")
    with refused("TB001"):
        spend(app, account, 1)
    entry = grant(app, account, 130)
    assert (entry["debt"], entry["balance_after"]) == (-100, 30)
    assert (state(app, account), remaining(app, account)) == ((30, 0, 0), [0, 30])
    assert discrepancies(app) == []


def test_scheduled_lot_gives_up_what_is_withheld_when_it_opens(
    app: Connection, admin: Connection, account: UUID
) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 40)
    revoke(app, lot_of(app, granted), shortfall_policy="block_future_grants")
    schedule(app, account, 100, in_days(1))
    move_clock(admin, 2 * DAY)
    seen = available(app, account)
    expire_due(app)
    assert (state(app, account), available(app, account)) == ((60, 0, 0), 60)
    # What it showed before the sweep is what could be spent.
    assert seen == 60
    assert discrepancies(app) == []


def test_scheduled_lot_is_cancelled_by_revoking_it(app: Connection, admin: Connection, account: UUID) -> None:
    lot = schedule(app, account, 100, in_days(1))
    row = revoke(app, lot["id"])
    assert (row["requested"], row["taken"], row["shortfall"], row["entry_id"]) == (100, 0, 0, None)
    with refused("TB027"):
        revoke(app, lot["id"])
    move_clock(admin, 2 * DAY)
    assert available(app, account) == 0
    assert expire_due(app)["lots_opened"] == 0
    assert entries(app, account) == []
    assert discrepancies(app) == []


def test_scheduled_lot_cannot_be_revoked_in_part(app: Connection, admin: Connection, account: UUID) -> None:
    lot = schedule(app, account, 100, in_days(1), "june")
    with refused("TB032"):
        revoke(app, lot["id"], 30)
    assert schedule(app, account, 100, lot["effective_at"], "june") == lot
    move_clock(admin, 2 * DAY)
    assert available(app, account) == 100
    assert discrepancies(app) == []


def test_scheduled_lot_that_has_opened_is_revoked_like_any_other(
    app: Connection, admin: Connection, account: UUID
) -> None:
    lot = schedule(app, account, 100, in_days(1))
    move_clock(admin, 2 * DAY)
    row = revoke(app, lot["id"], 30)
    assert (row["taken"], row["shortfall"]) == (30, 0)
    assert (balance(app, account), available(app, account)) == (70, 70)
    row = revoke(app, lot["id"])
    assert (row["requested"], row["taken"]) == (70, 70)
    assert discrepancies(app) == []


def test_lot_cancelled_by_closing_the_account_stays_cancelled(
    app: Connection, admin: Connection, account: UUID
) -> None:
    lot = schedule(app, account, 100, in_days(1))
    call(app, "close_account", account_id=account, reason="asked for", actor="ada")
    call(app, "reopen_account", account_id=account)
    revoke(app, lot["id"])
    move_clock(admin, 2 * DAY)
    assert available(app, account) == 0
    expire_due(app)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


@EACH_POLICY
def test_closed_account_moves_nothing_when_a_lot_is_revoked(
    app: Connection, account: UUID, policy: str
) -> None:
    """`close_account`: nothing moves until it is opened again. Refused or only recorded, both will do."""
    granted = grant(app, account, 100)
    spend(app, account, 60)
    call(app, "close_account", account_id=account, reason="asked for", actor="ada")
    before = entries(app, account)
    with suppress(psycopg.Error):
        revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert entries(app, account) == before
    assert state(app, account) == (0, 0, 0)
    assert discrepancies(app) == []


def test_replayed_revocation_returns_the_first(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    lot_id = lot_of(app, granted)
    first = revoke(app, lot_id, None, "dispute", shortfall_policy="block_future_grants")
    for amount in [None, 100]:
        assert revoke(app, lot_id, amount, "dispute", shortfall_policy="block_future_grants") == first
    assert state(app, account) == (0, 0, 100)


@pytest.mark.parametrize(
    "change",
    [{"amount": 41}, {"reason": "other"}, {"actor": "bob"}, {"shortfall_policy": "allow_negative"}],
    ids=str,
)
def test_revocation_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    granted = grant(app, account, 100)
    lot_id = lot_of(app, granted)
    arguments: Row = {"amount": 40, "key": "dispute"}
    revoke(app, lot_id, **arguments)
    with refused("TB002"):
        revoke(app, lot_id, **(arguments | change))
    assert balance(app, account) == 60


def test_key_of_a_revocation_belongs_to_its_lot_and_to_no_other_movement(
    app: Connection, account: UUID
) -> None:
    first, second = grant(app, account, 100, "pack"), grant(app, account, 100)
    revoke(app, lot_of(app, first), 10, "dispute")
    with refused("TB002"):
        revoke(app, lot_of(app, second), 10, "dispute")
    with refused("TB002"):
        revoke(app, lot_of(app, second), 10, "pack")
    with refused("TB002"):
        spend(app, account, 10, "dispute")
    assert balance(app, account) == 190


@pytest.mark.parametrize(
    "missing", [{"reason": ""}, {"reason": None}, {"actor": ""}, {"actor": None}], ids=str
)
def test_revoking_and_reinstating_need_a_reason_and_an_actor(
    app: Connection, account: UUID, missing: Row
) -> None:
    granted = grant(app, account, 100)
    with refused("TB028"):
        revoke(app, lot_of(app, granted), **missing)
    row = revoke(app, lot_of(app, granted))
    with refused("TB028"):
        reinstate(app, row["id"], **missing)
    assert balance(app, account) == 0


@pytest.mark.parametrize("policy", ["", "forgive", None])
def test_unknown_shortfall_policy_is_refused(app: Connection, account: UUID, policy: str | None) -> None:
    granted = grant(app, account, 100)
    with refused("TB029"):
        revoke(app, lot_of(app, granted), shortfall_policy=policy)
    assert balance(app, account) == 100


def test_unknown_lot_or_revocation_is_refused(app: Connection) -> None:
    for nothing in [10**12, None]:
        with refused("TB026"):
            revoke(app, nothing)
        with refused("TB026"):
            reinstate(app, nothing)


def test_revoking_refuses_malformed_requests(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    for amount in [0, -1]:
        with refused("TB005"):
            revoke(app, lot_id, amount)
    with refused("TB006"):
        revoke(app, lot_id, 1, idempotency_key="")
    with refused("TB027"):
        revoke(app, lot_id, 101)
    assert balance(app, account) == 100


def test_two_revocations_of_one_lot_at_once_take_no_more_than_it_is(
    database: Database, app: Connection, account: UUID
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: revoke(c, lot_id, 60) for c in (one, two)])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB027"]
    assert balance(app, account) == 40
    assert discrepancies(app) == []


# Reinstatements.


@EACH_POLICY
def test_reinstatement_of_an_unspent_lot_gives_it_all_back(
    app: Connection, account: UUID, policy: str
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    row = revoke(app, lot_id, shortfall_policy=policy)
    reinstated = reinstate(app, row["id"])
    assert (reinstated["revocation_id"], reinstated["amount"], reinstated["unwithheld"]) == (
        row["id"],
        100,
        0,
    )
    assert (reinstated["reason"], reinstated["actor"]) == ("dispute won", "ada@example.com")
    entry = fetch_one(app, "select * from billing.credit_entries where kind = 'reinstatement'")
    assert (entry["id"], entry["amount"], entry["balance_after"]) == (reinstated["entry_id"], 100, 100)
    assert (entry["reverses_entry_id"], entry["description"]) == (row["entry_id"], "dispute won")
    assert entry["actor"] == "ada@example.com"
    assert (remaining(app, account), state(app, account)) == ([100], (100, 0, 0))
    with refused("TB027"):
        reinstate(app, row["id"])
    # It may be disputed again.
    assert revoke(app, lot_id, shortfall_policy=policy)["taken"] == 100
    assert discrepancies(app) == []


def test_clamped_revocation_reinstates_what_it_took_and_no_shortfall(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 30)
    row = revoke(app, lot_id)
    reinstate(app, row["id"], 50)
    assert balance(app, account) == 50
    with refused("TB027"):
        reinstate(app, row["id"], 21)
    assert reinstate(app, row["id"])["amount"] == 20
    for amount in [1, None]:
        with refused("TB027"):
            reinstate(app, row["id"], amount)
    assert (remaining(app, account), balance(app, account)) == ([70], 70)
    assert discrepancies(app) == []


def test_reinstatement_lifts_debt_and_gives_every_lot_back(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    grant(app, account, 20)
    spend(app, account, 60)
    row = revoke(app, lot_id, shortfall_policy="allow_negative")
    assert state(app, account) == (-40, 40, 0)
    reinstate(app, row["id"])
    assert (state(app, account), remaining(app, account)) == ((60, 0, 0), [40, 20])
    assert spend(app, account, 60)["balance_after"] == 0
    assert discrepancies(app) == []


def test_reinstatement_in_parts_of_a_negative_revocation(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    grant(app, account, 20)
    spend(app, account, 60)
    row = revoke(app, lot_id, shortfall_policy="allow_negative")
    for amount, after in [(10, -30), (35, 5), (54, 59), (1, 60)]:
        reinstate(app, row["id"], amount)
        assert balance(app, account) == after
        assert discrepancies(app) == []
    for amount in [1, None]:
        with refused("TB027"):
            reinstate(app, row["id"], amount)
    assert (state(app, account), remaining(app, account)) == ((60, 0, 0), [40, 20])


def test_reinstatement_after_the_debt_was_repaid_is_a_lot_of_its_own(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 100)
    row = revoke(app, lot_id, shortfall_policy="allow_negative")
    grant(app, account, 130)
    reinstate(app, row["id"])
    assert state(app, account) == (130, 0, 0)
    assert spend(app, account, 130)["balance_after"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize(("first", "second"), [(60, 40), (40, 60), (100, None), (1, 99)])
def test_reinstatement_lifts_what_is_withheld_still(
    app: Connection, account: UUID, first: int, second: int | None
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 60)
    row = revoke(app, lot_id, shortfall_policy="block_future_grants")
    assert state(app, account) == (0, 0, 60)
    for amount in [first] if second is None else [first, second]:
        reinstate(app, row["id"], amount)
        balance_now, _, withheld = state(app, account)
        # A credit given back or a credit withheld less: the customer is as well off.
        given_back = value(app, "select reinstated from billing.credit_revocations")
        assert balance_now - withheld == given_back - 60
        assert discrepancies(app) == []
    assert state(app, account) == (40, 0, 0)
    with refused("TB027"):
        reinstate(app, row["id"], 1)
    grant(app, account, 10)
    assert state(app, account) == (50, 0, 0)


def test_reinstatement_of_what_later_grants_gave_up_is_a_lot_of_its_own(
    app: Connection, account: UUID
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 100)
    row = revoke(app, lot_id, shortfall_policy="block_future_grants")
    grant(app, account, 70)
    assert state(app, account) == (0, 0, 30)
    reinstated = reinstate(app, row["id"])
    assert (reinstated["amount"], reinstated["unwithheld"]) == (100, 30)
    assert entries(app, account)[-1] == ("reinstatement", 70)
    assert state(app, account) == (70, 0, 0)
    assert spend(app, account, 70)["balance_after"] == 0
    assert discrepancies(app) == []


def test_reinstatement_that_only_lifts_withholding_writes_no_entry(app: Connection, account: UUID) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 100)
    row = revoke(app, lot_id, shortfall_policy="block_future_grants")
    reinstated = reinstate(app, row["id"])
    assert (reinstated["amount"], reinstated["unwithheld"], reinstated["entry_id"]) == (100, 100, None)
    assert state(app, account) == (0, 0, 0)
    assert grant(app, account, 10)["balance_after"] == 10
    assert discrepancies(app) == []


def test_replayed_reinstatement_that_only_lifted_withholding_lifts_it_once(
    app: Connection, account: UUID
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 100)
    row = revoke(app, lot_id, shortfall_policy="block_future_grants")
    for _ in range(2):
        reinstate(app, row["id"], 30, "won")
    assert state(app, account) == (0, 0, 70)
    with refused("TB002"):
        reinstate(app, row["id"], 31, "won")


@EACH_POLICY
def test_lot_revoked_again_after_part_was_reinstated_ends_as_if_it_never_was(
    app: Connection, account: UUID, policy: str
) -> None:
    lot_id = lot_of(app, grant(app, account, 100))
    spend(app, account, 60)
    row = revoke(app, lot_id, shortfall_policy=policy)
    after = state(app, account)
    part = 30 if policy == "clamp_and_record" else 60
    reinstate(app, row["id"], part)
    assert discrepancies(app) == []
    revoke(app, lot_id, part, shortfall_policy=policy)
    assert state(app, account) == after
    assert discrepancies(app) == []


def test_reinstating_one_revocation_leaves_what_another_withholds(app: Connection, account: UUID) -> None:
    lot_ids = [lot_of(app, grant(app, account, 100)) for _ in range(2)]
    spend(app, account, 160)
    first, second = [revoke(app, lot_id, shortfall_policy="block_future_grants") for lot_id in lot_ids]
    assert [(row["taken"], row["shortfall"]) for row in (first, second)] == [(0, 100), (40, 60)]
    assert state(app, account) == (0, 0, 160)
    reinstate(app, second["id"])
    assert state(app, account) == (40, 0, 100)
    reinstate(app, first["id"])
    assert state(app, account) == (40, 0, 0)
    assert discrepancies(app) == []


def test_reinstatement_to_a_lot_that_expired_meanwhile_expires_again(
    app: Connection, admin: Connection, account: UUID
) -> None:
    lot_id = lot_of(app, grant(app, account, 100, expires_at=in_days(1)))
    row = revoke(app, lot_id)
    move_clock(admin, 2 * DAY)
    reinstate(app, row["id"])
    assert available(app, account) == 0
    expire_due(app)
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_replayed_reinstatement_returns_the_first(app: Connection, account: UUID) -> None:
    row = revoke(app, lot_of(app, grant(app, account, 100)))
    first = reinstate(app, row["id"], 40, "won")
    assert reinstate(app, row["id"], 40, "won") == first
    assert balance(app, account) == 40


@pytest.mark.parametrize("change", [{"amount": 41}, {"reason": "other"}, {"actor": "bob"}], ids=str)
def test_reinstatement_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    row = revoke(app, lot_of(app, grant(app, account, 100)))
    arguments: Row = {"amount": 40, "key": "won"}
    reinstate(app, row["id"], **arguments)
    with refused("TB002"):
        reinstate(app, row["id"], **(arguments | change))
    assert balance(app, account) == 40


def test_key_of_a_reinstatement_belongs_to_its_revocation(app: Connection, account: UUID) -> None:
    rows = [revoke(app, lot_of(app, grant(app, account, 100))) for _ in range(2)]
    reinstate(app, rows[0]["id"], 40, "won")
    with refused("TB002"):
        reinstate(app, rows[1]["id"], 40, "won")
    grant(app, account, 1, "pack")
    with refused("TB002"):
        reinstate(app, rows[1]["id"], 40, "pack")
    assert balance(app, account) == 41


def test_reinstatement_refuses_malformed_requests(app: Connection, account: UUID) -> None:
    row = revoke(app, lot_of(app, grant(app, account, 100)))
    for amount in [0, -1]:
        with refused("TB005"):
            reinstate(app, row["id"], amount)
    with refused("TB006"):
        reinstate(app, row["id"], 1, idempotency_key="")
    with refused("TB027"):
        reinstate(app, row["id"], 101)


def test_two_reinstatements_at_once_give_back_no_more_than_was_taken(
    database: Database, app: Connection, account: UUID
) -> None:
    row = revoke(app, lot_of(app, grant(app, account, 100)))
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda c=c: reinstate(c, row["id"], 60) for c in (one, two)])
    assert [result.sqlstate for result in results if isinstance(result, psycopg.Error)] == ["TB027"]
    assert balance(app, account) == 60
    assert discrepancies(app) == []


def test_largest_balance_is_not_exceeded_by_giving_back(app: Connection, account: UUID) -> None:
    grant(app, account, 2**63 - 1)
    spent = spend(app, account, 10)
    lot_id = lots(app, account)[0]["id"]
    row = revoke(app, lot_id, 10)
    grant(app, account, 20)
    with refused("TB009"):
        refund(app, spent["id"])
    with refused("TB009"):
        reinstate(app, row["id"])
    assert balance(app, account) == 2**63 - 1
    assert discrepancies(app) == []


def test_twins_in_public_do_the_same(app: Connection, account: UUID) -> None:
    arguments: dict[str, Any] = {"reason": "a", "actor": "b"}
    grant(app, account, 100)
    lot_id = lots(app, account)[0]["id"]
    row = call(app, "public.revoke_grant", grant_id=lot_id, amount=40, idempotency_key="1", **arguments)
    entry = call(
        app, "public.reinstate_grant", revocation_id=row["id"], amount=30, idempotency_key="2", **arguments
    )
    spent = call(app, "public.spend_credits", account_id=account, amount=50, idempotency_key="3")
    call(app, "public.refund_spend", entry_id=spent["id"], amount=7, idempotency_key="4")
    assert (entry["amount"], balance(app, account)) == (30, 47)
    with refused("TB026"):
        call(app, "public.refund_spend", entry_id=None, amount=7, idempotency_key=str(uuid4()))
