"""The customer hears once of each fall through the threshold."""

from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.accounts import low_balance_notices
from tests.sql.calls import (
    Connection,
    adjust,
    available,
    balance,
    call,
    capture,
    expire_due,
    grant,
    hold,
    lots,
    move_clock,
    refund,
    refused,
    release,
    revoke,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.lots import DAY, in_days
from tests.support import Database


def test_fall_through_the_threshold_tells_the_customer_once(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    assert low_balance_notices(app, account) == []
    spend(app, account, 50)
    assert low_balance_notices(app, account) == []
    for _ in range(10):
        spend(app, account, 1)
    assert low_balance_notices(app, account) == [
        {"audience": "customer", "payload": {"available": 49, "threshold": 50}}
    ]


def test_each_fall_after_a_rise_tells_again(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    for falls in [1, 2, 3]:
        grant(app, account, 100)
        spend(app, account, 99)
        spend(app, account, 1)
        assert len(low_balance_notices(app, account)) == falls


def test_replay_of_the_spend_that_fell_tells_nothing(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    for _ in range(3):
        spend(app, account, 60, "job")
    assert len(low_balance_notices(app, account)) == 1


@pytest.fixture
def falls(app: Connection, admin: Connection, account: UUID, other: UUID) -> dict[str, Any]:
    """Name of a movement → what makes it, from 100 to 40."""
    return {
        "spend": lambda: spend(app, account, 60),
        "batch": lambda: call(
            app,
            "spend_credits_batch",
            spends=Jsonb(
                [{"account_id": str(account), "amount": 30, "idempotency_key": key} for key in ("1", "2")]
            ),
        ),
        "hold": lambda: hold(app, account, 60),
        "adjustment": lambda: adjust(app, account, -60),
        "transfer": lambda: transfer(app, account, other, 60),
        "revocation": lambda: revoke(app, lots(app, account)[0]["id"], 60),
        "expiry": lambda: (move_clock(admin, 2 * DAY), expire_due(app)),
    }


@pytest.mark.parametrize(
    "movement", ["spend", "batch", "hold", "adjustment", "transfer", "revocation", "expiry"]
)
def test_fall_is_told_whatever_movement_it_was(
    app: Connection, account: UUID, falls: dict[str, Any], movement: str
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 60, expires_at=in_days(1))
    grant(app, account, 40)
    falls[movement]()
    (notice,) = low_balance_notices(app, account)
    assert notice["payload"] == {"available": 40, "threshold": 50}


def test_each_hold_that_falls_after_a_release_tells_again(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    release(app, hold(app, account, 60)["id"])
    hold(app, account, 60)
    assert len(low_balance_notices(app, account)) == 2


def test_capture_of_what_was_held_is_no_second_fall(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    held = hold(app, account, 60)
    capture(app, held["id"])
    assert len(low_balance_notices(app, account)) == 1


def test_refused_spend_tells_nothing(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with refused("TB001"):
        spend(app, account, 101)
    assert low_balance_notices(app, account) == []


def test_grant_that_leaves_the_balance_low_is_no_fall(app: Connection, account: UUID) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 10)
    spend(app, account, 5)
    assert low_balance_notices(app, account) == []


def test_grant_that_is_withheld_is_no_fall(app: Connection, account: UUID) -> None:
    granted = grant(app, account, 100)
    spend(app, account, 100)
    revoke(app, value(app, "select id from billing.credit_grants"), shortfall_policy="block_future_grants")
    set_limits(app, account, low_balance_threshold=50)
    assert grant(app, account, 80)["id"] > granted["id"]
    assert available(app, account) == 0
    assert low_balance_notices(app, account) == []


def test_hold_that_expires_with_its_lot_is_no_fall(app: Connection, admin: Connection, account: UUID) -> None:
    """Nothing was available before, nothing is after: what the hold gives back expires in the same sweep."""
    grant(app, account, 100, expires_at=in_days(1))
    hold(app, account, 100, expires_in=2 * DAY)
    set_limits(app, account, low_balance_threshold=50)
    move_clock(admin, 3 * DAY)
    expire_due(app)
    assert available(app, account) == 0
    assert low_balance_notices(app, account) == []


def test_threshold_set_above_the_balance_tells_nothing_until_it_falls_again(
    app: Connection, account: UUID
) -> None:
    grant(app, account, 30)
    set_limits(app, account, low_balance_threshold=50)
    spend(app, account, 10)
    assert low_balance_notices(app, account) == []
    grant(app, account, 30)
    spend(app, account, 10)
    assert len(low_balance_notices(app, account)) == 1


def test_falls_and_rises_within_a_transaction_are_told_as_it_ends(
    database: Database, app: Connection, account: UUID
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as connection:
        first = spend(connection, account, 60)
        refund(connection, first["id"])
        connection.commit()
        assert low_balance_notices(app, account) == []
        for _ in range(2):
            spend(connection, account, 60)
            grant(connection, account, 60)
        spend(connection, account, 70)
        assert low_balance_notices(app, account) == []
        connection.commit()
    (notice,) = low_balance_notices(app, account)
    assert notice["payload"]["available"] == 30


def test_transaction_that_checks_constraints_at_once_may_fall_twice(
    database: Database, app: Connection, account: UUID
) -> None:
    set_limits(app, account, low_balance_threshold=50)
    grant(app, account, 100)
    with database.connect("service_role", autocommit=False) as connection:
        connection.execute("set constraints all immediate")
        spend(connection, account, 60)
        grant(connection, account, 60)
        spend(connection, account, 60)
        connection.commit()
    assert low_balance_notices(app, account)
    assert balance(app, account) == 40
