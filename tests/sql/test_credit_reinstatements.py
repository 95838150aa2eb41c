"""Reinstatements: what was taken back of a lot is given back."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.calls import (
    Connection,
    Row,
    available,
    balance,
    call,
    discrepancies,
    entries,
    expire_due,
    fetch_one,
    grant,
    lots,
    move_clock,
    refund,
    refused,
    reinstate,
    revoke,
    spend,
    value,
)
from tests.sql.lots import DAY, EACH_POLICY, in_days, lot_of, remaining, state
from tests.sql.races import at_once
from tests.support import Database


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
