"""Refunds: a spend given back to where it came from."""

from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    Row,
    adjust,
    available,
    balance,
    call,
    capture,
    discrepancies,
    entries,
    expire_due,
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    release,
    set_limits,
    spend,
    transfer,
)
from tests.sql.lots import DAY, in_days, remaining, state
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user


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
