"""Revocations: a lot taken back under each policy."""

from contextlib import suppress
from uuid import UUID

import psycopg
import pytest

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
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    reinstate,
    revoke,
    schedule,
    set_limits,
    spend,
    transfer,
)
from tests.sql.lots import DAY, EACH_POLICY, in_days, lot_of, remaining, state
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user


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


def test_the_largest_lot_is_revoked_beside_a_hold(app: Connection, account: UUID) -> None:
    grant(app, account, 2**63 - 1)
    hold(app, account, 10)
    [lot] = lots(app, account)
    taken = revoke(app, lot["id"])
    assert (taken["taken"], taken["shortfall"]) == (2**63 - 11, 10)


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
