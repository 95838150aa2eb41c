"""Credits move from one account to another."""

from decimal import Decimal
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
    discrepancies,
    entries,
    expire_due,
    grant,
    hold,
    lots,
    move_clock,
    refused,
    set_limits,
    spend,
    transfer,
    value,
)
from tests.sql.lots import DAY, in_days
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user

LARGEST = 2**63 - 1


def test_transfer_moves_credits_with_their_priority_and_expiry(
    app: Connection, account: UUID, other: UUID
) -> None:
    soon, later = in_days(2), in_days(9)
    grant(app, account, 10, expires_at=later)
    grant(app, account, 10, expires_at=soon)
    grant(app, account, 10, priority=5)
    entry = transfer(app, account, other, 25, description="A gift", metadata={"n": 1})
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("transfer_out", -25, 5)
    assert (entry["reference_id"], entry["description"]) == (str(other), "A gift")
    assert entry["metadata"] == {"n": 1}
    assert [(lot["amount"], lot["priority"], lot["expires_at"]) for lot in lots(app, other)] == [
        (10, 5, None),
        (10, 100, soon),
        (5, 100, later),
    ]
    assert entries(app, other) == [("transfer_in", 10), ("transfer_in", 10), ("transfer_in", 5)]
    query = "select distinct reference_id from billing.credit_entries where account_id = %s"
    assert value(app, query, [other]) == str(account)
    assert discrepancies(app) == []


def test_transferred_credits_expire_no_later_than_they_would_have(
    app: Connection, admin: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    transfer(app, account, other, 10)
    assert available(app, other) == 10
    move_clock(admin, 2 * DAY)
    assert available(app, other) == 0
    assert expire_due(app)["credits_expired"] == 10
    assert discrepancies(app) == []


def test_transfer_first_lets_lots_expire_that_are_due(
    app: Connection, admin: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    grant(app, account, 10)
    move_clock(admin, 2 * DAY)
    with refused("TB001"):
        transfer(app, account, other, 11)
    transfer(app, account, other, 10)
    assert (balance(app, account), balance(app, other)) == (0, 10)
    assert discrepancies(app) == []


def test_transfer_moves_neither_what_is_held_nor_the_overdraft(
    app: Connection, account: UUID, other: UUID
) -> None:
    set_limits(app, account, overdraft=50)
    grant(app, account, 10)
    hold(app, account, 4)
    with refused("TB001"):
        transfer(app, account, other, 7)
    transfer(app, account, other, 6)
    assert (balance(app, account), balance(app, other)) == (4, 6)
    assert discrepancies(app) == []


def test_transfer_repays_what_the_receiver_owes(app: Connection, account: UUID, other: UUID) -> None:
    set_limits(app, other, overdraft=50)
    spend(app, other, 15)
    for _ in range(2):
        grant(app, account, 10)
    transfer(app, account, other, 20)
    row = balances(app, other)
    assert (row["balance"], row["debt"]) == (5, 0)
    assert discrepancies(app) == []


def test_transfer_to_itself_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    with refused("TB030"):
        transfer(app, account, account, 5)
    assert balance(app, account) == 10


def test_transfer_from_or_to_no_account_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    for nobody in [uuid4(), None]:
        with refused("TB004"):
            transfer(app, account, nobody, 5)
        with refused("TB004"):
            transfer(app, nobody, account, 5)
    assert balance(app, account) == 10


def test_transfer_refuses_malformed_requests(app: Connection, account: UUID, other: UUID) -> None:
    grant(app, account, 10)
    for amount in [0, -1, Decimal("0.5"), None]:
        with refused("TB005"):
            transfer(app, account, other, amount)
    with refused("TB006"):
        call(
            app,
            "transfer_credits",
            from_account_id=account,
            to_account_id=other,
            amount=1,
            idempotency_key="",
        )
    with refused("TB007"):
        transfer(app, account, other, 1, metadata=Jsonb([1]))
    assert (balance(app, account), balance(app, other)) == (10, 0)


def test_frozen_account_gives_nothing_and_may_receive(
    app: Connection, conn: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        grant(app, one, 10)
    freeze(conn, account)
    with refused("TB003"):
        transfer(app, account, other, 5)
    transfer(app, other, account, 5)
    assert (balance(app, account), balance(app, other)) == (15, 5)


def test_closed_account_neither_gives_nor_receives(app: Connection, account: UUID, other: UUID) -> None:
    for one in (account, other):
        grant(app, one, 10)
    close(app, account)
    for giver, receiver in [(account, other), (other, account)]:
        with refused("TB008"):
            transfer(app, giver, receiver, 5)
    assert balance(app, other) == 10


def test_replayed_transfer_returns_the_first_entry(
    app: Connection, conn: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10)
    first = transfer(app, account, other, 5, "gift", description="d", metadata={"n": 1})
    freeze(conn, account)
    assert transfer(app, account, other, 5, "gift", description="d", metadata={"n": 1}) == first
    assert (balance(app, account), balance(app, other)) == (5, 5)


@pytest.mark.parametrize("change", [{"amount": 4}, {"description": None}, {"metadata": {}}], ids=str)
def test_transfer_with_a_used_key_and_other_arguments_is_refused(
    database: Database, app: Connection, account: UUID, other: UUID, change: Row
) -> None:
    grant(app, account, 10)
    arguments: Row = {"amount": 5, "key": "gift", "description": "d", "metadata": {"n": 1}}
    transfer(app, account, other, **arguments)
    with refused("TB002"):
        transfer(app, account, other, **(arguments | change))
    third = account_of(app, create_user(database))
    with refused("TB002"):
        transfer(app, account, third, **arguments)
    assert (balance(app, account), balance(app, other), balance(app, third)) == (5, 5, 0)


def test_transfer_that_the_receiver_cannot_hold_moves_nothing(
    app: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10)
    grant(app, other, LARGEST - 4)
    with refused("TB009"):
        transfer(app, account, other, 5)
    assert (balance(app, account), balance(app, other)) == (10, LARGEST - 4)
    assert discrepancies(app) == []


def test_two_accounts_transferring_to_each_other_at_once_never_deadlock(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        for _ in range(3):
            grant(app, one, 50)
    with database.connect("service_role") as one, database.connect("service_role") as two:

        def give(connection: Connection, giver: UUID, receiver: UUID, amount: int) -> None:
            for _ in range(25):
                transfer(connection, giver, receiver, amount)

        results = at_once([lambda: give(one, account, other, 2), lambda: give(two, other, account, 1)])
    assert results == [None, None]
    assert (balance(app, account), balance(app, other)) == (125, 175)
    assert discrepancies(app) == []


def test_same_transfer_twice_at_once_moves_once(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda c=c: transfer(c, account, other, 30, "gift") for c in (one, two)])
    assert not isinstance(first, psycopg.Error)
    assert first == second
    assert (balance(app, account), balance(app, other)) == (70, 30)
