"""What grant and spend refuse, each by its code, and what a repeated call returns."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    balance,
    discrepancies,
    entries,
    grant,
    move_clock,
    refused,
    spend,
    value,
)
from tests.sql.races import at_once
from tests.support import Database, create_user

LARGEST = 2**63 - 1
BOTH = pytest.mark.parametrize("move", [grant, spend], ids=["grant", "spend"])
BAD_AMOUNTS = [
    0,
    -1,
    Decimal("1.5"),
    Decimal("0.000001"),
    Decimal("NaN"),
    Decimal("Infinity"),
    Decimal("-Infinity"),
    LARGEST + 1,
    Decimal("1e30"),
    None,
]


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=str)
def test_amount_that_is_no_whole_number_of_credits_is_refused(
    app: Connection, account: UUID, amount: Any
) -> None:
    grant(app, account, 10)
    for move in [grant, spend]:
        with refused("TB005"):
            move(app, account, amount)
    assert entries(app, account) == [("grant", 10)]


def test_whole_amount_may_be_written_with_decimals(app: Connection, account: UUID) -> None:
    assert grant(app, account, Decimal("10.000"))["amount"] == 10
    assert spend(app, account, Decimal("10"))["amount"] == -10


@pytest.mark.parametrize("key", ["", "k" * 256, "k" * 10_000])
@BOTH
def test_idempotency_key_of_no_or_too_many_characters_is_refused(
    app: Connection, account: UUID, move: Any, key: str
) -> None:
    with refused("TB006"):
        move(app, account, 1, idempotency_key=key)


@BOTH
def test_call_without_an_idempotency_key_is_refused(app: Connection, account: UUID, move: Any) -> None:
    with refused("TB006"):
        move(app, account, 1, idempotency_key=None)


def test_idempotency_key_may_have_255_characters_of_any_kind(app: Connection, account: UUID) -> None:
    key = "é🦊" * 127 + "x"
    assert grant(app, account, 1, key)["idempotency_key"] == key
    assert spend(app, account, 1, "'; drop table billing.credit_entries --")["amount"] == -1


@pytest.mark.parametrize("metadata", [[1], "text", 5, True, None], ids=str)
@BOTH
def test_metadata_that_is_no_object_is_refused(
    app: Connection, account: UUID, move: Any, metadata: Any
) -> None:
    with refused("TB007"):
        move(app, account, 1, metadata=Jsonb(metadata))


@BOTH
def test_metadata_that_is_null_is_refused(app: Connection, account: UUID, move: Any) -> None:
    with refused("TB007"):
        move(app, account, 1, metadata=None)


@BOTH
def test_account_that_does_not_exist_is_refused(app: Connection, database: Database, move: Any) -> None:
    for nobody in [uuid4(), create_user(database), None]:
        with refused("TB004"):
            move(app, nobody, 1)


@pytest.mark.parametrize("amount", [11, 1000, LARGEST])
def test_spending_more_than_there_is_is_refused_and_says_what_there_is(
    app: Connection, account: UUID, amount: int
) -> None:
    grant(app, account, 10)
    with refused("TB001") as caught:
        spend(app, account, amount)
    assert f"has 10 credits available, {amount} are needed" in str(caught.value)
    assert balance(app, account) == 10


def test_credits_set_aside_cannot_be_spent(app: Connection, conn: Connection, account: UUID) -> None:
    grant(app, account, 10)
    conn.execute("update billing.credit_grants set held = 4")
    conn.execute("update billing.credit_balances set held = 4")
    with refused("TB001"):
        spend(app, account, 7)
    assert spend(app, account, 6)["balance_after"] == 4


def test_frozen_account_may_be_granted_to_but_not_spent_from(
    app: Connection, conn: Connection, account: UUID
) -> None:
    grant(app, account, 10)
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'under review'")
    with refused("TB003") as caught:
        spend(app, account, 1)
    assert "under review" in str(caught.value)
    grant(app, account, 5)
    conn.execute("update billing.accounts set frozen_at = null, frozen_reason = null")
    assert spend(app, account, 15)["balance_after"] == 0


@BOTH
def test_closed_account_moves_no_credits(app: Connection, conn: Connection, account: UUID, move: Any) -> None:
    grant(app, account, 10)
    conn.execute("update billing.accounts set closed_at = now()")
    with refused("TB008"):
        move(app, account, 1)


def test_balance_reaches_the_largest_bigint_and_no_further(app: Connection, account: UUID) -> None:
    grant(app, account, LARGEST - 1)
    with refused("TB009"):
        grant(app, account, 2)
    grant(app, account, 1)
    with refused("TB009"):
        grant(app, account, 1)
    assert balance(app, account) == LARGEST
    assert discrepancies(app) == []
    assert spend(app, account, LARGEST)["balance_after"] == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("days", [0, -1])
def test_grant_that_has_expired_already_is_refused(app: Connection, account: UUID, days: int) -> None:
    with refused("TB012"):
        grant(app, account, 1, expires_at=datetime.now(UTC) + timedelta(days=days))


GRANT = {
    "amount": 10,
    "key": "job-1",
    "description": "a gift",
    "source": "support",
    "reference_id": "ticket-1",
    "priority": 5,
    "metadata": {"by": "ada"},
}
SPEND = {
    "amount": 10,
    "key": "job-2",
    "description": "an image",
    "feature": "images",
    "reference_id": "image-1",
    "metadata": {"size": 2, "kind": "png"},
}


def test_replayed_grant_returns_the_first_entry(app: Connection, account: UUID) -> None:
    first = grant(app, account, **GRANT)
    assert grant(app, account, **GRANT) == first
    assert entries(app, account) == [("grant", 10)]


def test_replayed_spend_returns_the_first_entry(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    first = spend(app, account, **SPEND)
    assert spend(app, account, **(SPEND | {"metadata": {"kind": "png", "size": 2}})) == first
    assert balance(app, account) == 0


@pytest.mark.parametrize("state", ["frozen_at = now(), frozen_reason = 'a test'", "closed_at = now()"])
def test_replay_returns_the_first_entry_whatever_became_of_the_account(
    app: Connection, conn: Connection, account: UUID, state: str
) -> None:
    granted, spent = grant(app, account, **GRANT), spend(app, account, **SPEND)
    conn.execute(f"update billing.accounts set {state}".encode())
    assert grant(app, account, **GRANT) == granted
    assert spend(app, account, **SPEND) == spent


def test_replayed_grant_returns_the_first_entry_also_once_it_has_expired(
    app: Connection, admin: Connection, account: UUID
) -> None:
    expiring = GRANT | {"expires_at": datetime.now(UTC) + timedelta(days=1)}
    first = grant(app, account, **expiring)
    move_clock(admin, timedelta(days=2))
    assert grant(app, account, **expiring) == first


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 11},
        {"description": None},
        {"source": "app"},
        {"reference_id": "ticket-2"},
        {"priority": 6},
        {"metadata": {}},
        {"expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
def test_grant_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: dict[str, Any]
) -> None:
    grant(app, account, **GRANT)
    with refused("TB002"):
        grant(app, account, **(GRANT | change))
    assert balance(app, account) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 9},
        {"description": "another"},
        {"feature": None},
        {"reference_id": None},
        {"metadata": {"size": 3, "kind": "png"}},
    ],
    ids=str,
)
def test_spend_with_a_used_key_and_other_arguments_is_refused(
    app: Connection, account: UUID, change: dict[str, Any]
) -> None:
    grant(app, account, 100)
    spend(app, account, **SPEND)
    with refused("TB002"):
        spend(app, account, **(SPEND | change))
    assert balance(app, account) == 90


def test_key_of_a_grant_is_no_key_for_a_spend(app: Connection, account: UUID) -> None:
    grant(app, account, 10, "one-key")
    with refused("TB002"):
        spend(app, account, 10, "one-key")
    spend(app, account, 10, "another")
    with refused("TB002"):
        grant(app, account, 10, "another")


def test_keys_belong_to_their_account(app: Connection, database: Database, account: UUID) -> None:
    create_user(database)
    query = "select id from billing.accounts where id <> %s"
    other = value(app, query, [account])
    grant(app, account, 10, "one-key")
    grant(app, other, 20, "one-key")
    assert (balance(app, account), balance(app, other)) == (10, 20)


def test_refused_spend_leaves_its_key_free(app: Connection, account: UUID) -> None:
    with refused("TB001"):
        spend(app, account, 10, "job")
    grant(app, account, 10)
    assert spend(app, account, 10, "job")["balance_after"] == 0


@BOTH
def test_same_call_on_two_connections_at_once_moves_credits_once(
    database: Database, app: Connection, account: UUID, move: Any
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once([lambda one=one: move(one, account, 10, "job") for one in (one, two)])
    assert first == second
    assert balance(app, account) in {90, 110}
    assert len(entries(app, account)) == 2


def test_one_key_with_two_amounts_at_once_is_one_movement_and_one_refusal(
    database: Database, app: Connection, account: UUID
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        results = at_once([lambda: spend(one, account, 1, "job"), lambda: spend(two, account, 2, "job")])
    errors = [result.sqlstate for result in results if isinstance(result, psycopg.Error)]
    assert errors == ["TB002"]
    assert len(entries(app, account)) == 2
