"""Many spends in one call: the same books as one by one, all or none, each key once, accounts in order."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

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
    fetch,
    fresh,
    grant,
    hold,
    lots,
    move_clock,
    refused,
    set_limits,
    spend,
)
from tests.sql.races import at_once
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)
LARGEST = 2**63 - 1


@pytest.fixture
def other(database: Database, conn: Connection) -> UUID:
    """The account of somebody else."""
    return account_of(conn, create_user(database))


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def job(account_id: UUID | None, amount: Any, key: str | None = None, **more: Any) -> Row:
    """One spend of a batch."""
    account = None if account_id is None else str(account_id)
    return {"account_id": account, "amount": amount, "idempotency_key": key or fresh("job"), **more}


def spend_batch(conn: Connection, *spends: Any) -> list[Row]:
    return fetch(conn, "select * from billing.spend_credits_batch(%s)", [Jsonb(list(spends))])


def test_batch_spends_and_returns_its_entries_in_order(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    rows = spend_batch(
        app,
        job(account, 5, "c", description="C", feature="films", reference_id="film-1", metadata={"n": 1}),
        job(account, 3, "a"),
        job(account, 4, "b"),
    )
    assert [(row["idempotency_key"], row["amount"], row["balance_after"]) for row in rows] == [
        ("c", -5, 95),
        ("a", -3, 92),
        ("b", -4, 88),
    ]
    first, second = rows[:2]
    assert (first["kind"], first["description"], first["feature"]) == ("spend", "C", "films")
    assert (first["reference_id"], first["metadata"]) == ("film-1", {"n": 1})
    assert (second["description"], second["feature"], second["reference_id"]) == (None, None, None)
    assert second["metadata"] == {}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert (balance(app, account), available(app, account)) == (88, 88)
    assert discrepancies(app) == []


def test_empty_batch_returns_nothing(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    assert spend_batch(app) == []
    assert balance(app, account) == 10


@dataclass(frozen=True)
class Case:
    """An account before a batch, and the batch."""

    grants: list[tuple[int, int, int | None]]
    holds: list[int]
    captured: int
    overdraft: int
    spent: int
    cap: int | None
    amounts: list[int]


CASES = st.builds(
    Case,
    grants=st.lists(
        st.tuples(st.integers(1, 20), st.sampled_from([5, 100]), st.sampled_from([None, 1, 2])),
        max_size=6,
    ),
    holds=st.lists(st.integers(1, 12), max_size=2),
    captured=st.integers(0, 5),
    overdraft=st.sampled_from([0, 0, 7, 30]),
    spent=st.integers(0, 25),
    cap=st.sampled_from([None, None, None, 40]),
    amounts=st.lists(st.integers(1, 15), min_size=1, max_size=8),
)


def prepare(app: Connection, account: UUID, case: Case, at: datetime) -> None:
    """The same for each of two accounts; what there is no room for is left out."""
    for amount, priority, days in case.grants:
        expires_at = None if days is None else at + days * DAY
        grant(app, account, amount, priority=priority, expires_at=expires_at)
    for amount in case.holds:
        if amount <= available(app, account):
            row = hold(app, account, amount)
            if 0 < case.captured <= amount:
                capture(app, row["id"], case.captured)
    limits: Row = {"overdraft": case.overdraft}
    if case.cap is not None:
        limits |= {"spend_cap": case.cap, "spend_cap_period": "month"}
    set_limits(app, account, **limits)
    if case.spent and case.spent <= available(app, account) + case.overdraft and case.cap is None:
        spend(app, account, case.spent)


def books(app: Connection, account: UUID) -> dict[str, Any]:
    """All that two accounts with the same history have in common."""
    moves = fetch(
        app,
        "select kind, amount, balance_after, debt, source, key_space, up_to from billing.credit_entries "
        "where account_id = %s order by id",
        [account],
    )
    lineage = fetch(
        app,
        "select dense_rank() over (order by credit_consumptions.entry_id) as entry, "
        "dense_rank() over (order by grant_id) as lot, "
        "credit_consumptions.amount from billing.credit_consumptions "
        "join billing.credit_grants on credit_grants.id = grant_id where account_id = %s order by 1, 2",
        [account],
    )
    held = [
        (lot["amount"], lot["remaining"], lot["held"], lot["closed_at"] is None) for lot in lots(app, account)
    ]
    row = balances(app, account)
    counters = {name: row[name] for name in ("balance", "held", "debt", "spent_in_period")}
    return {"moves": moves, "lineage": lineage, "lots": held, "counters": counters}


@pytest.mark.slow
def test_batch_writes_the_same_books_as_one_spend_after_the_other(
    database: Database, app: Connection, conn: Connection
) -> None:
    outcomes: Counter[tuple[str | None, bool]] = Counter()

    @settings(max_examples=40, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(case=CASES)
    def check(case: Case) -> None:
        batched, singly = (account_of(conn, create_user(database)) for _ in range(2))
        at = datetime.now(UTC)
        for account in (batched, singly):
            prepare(app, account, case, at)
        assert books(app, batched) == books(app, singly)
        before = books(app, batched)
        code = None
        try:
            for amount in case.amounts:
                spend(app, singly, amount)
        except psycopg.Error as error:
            code = error.sqlstate
        outcomes[code, balances(app, singly)["debt"] > 0] += 1
        jobs = [job(batched, amount) for amount in case.amounts]
        if code is None:
            rows = spend_batch(app, *jobs)
            assert [row["amount"] for row in rows] == [-amount for amount in case.amounts]
            assert books(app, batched) == books(app, singly)
        else:
            with pytest.raises(psycopg.Error) as caught:
                spend_batch(app, *jobs)
            # Beyond both, the cap and the credits: one by one may meet the other first.
            assert caught.value.sqlstate == code or {caught.value.sqlstate, code} == {"TB001", "TB021"}
            assert books(app, batched) == before
        assert discrepancies(app) == []

    check()
    # A property that is never put to the test says nothing.
    assert {(None, False), (None, True), ("TB001", False)} <= outcomes.keys(), outcomes


def test_batch_burns_lots_in_order_across_its_spends(app: Connection, account: UUID) -> None:
    for priority, expires_at in [(100, None), (100, in_days(2)), (5, None)]:
        grant(app, account, 10, priority=priority, expires_at=expires_at)
    hold(app, account, 4)
    rows = spend_batch(app, job(account, 3), job(account, 5), job(account, 12))
    assert [(lot["remaining"], lot["held"]) for lot in lots(app, account)] == [(6, 0), (0, 0), (4, 4)]
    third, second, first = (lot["id"] for lot in lots(app, account))
    query = "select grant_id, amount from billing.credit_consumptions where entry_id = %s"
    taken = [{row["grant_id"]: row["amount"] for row in fetch(app, query, [row["id"]])} for row in rows]
    assert taken == [{first: 3}, {first: 3, second: 2}, {second: 8, third: 4}]
    assert discrepancies(app) == []


def test_batch_that_takes_all_closes_every_lot(app: Connection, account: UUID) -> None:
    for _ in range(3):
        grant(app, account, 10)
    spend_batch(app, job(account, 15), job(account, 15))
    assert [(lot["remaining"], lot["closed_at"] is not None) for lot in lots(app, account)] == [(0, True)] * 3
    assert balance(app, account) == 0
    assert discrepancies(app) == []


def test_batch_that_asks_for_too_much_spends_nothing(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    hold(app, account, 2)
    with refused("TB001") as caught:
        spend_batch(app, job(account, 4, "a"), job(account, 4, "b"), job(account, 1, "c"))
    assert "has 8 credits available, 9 are needed" in str(caught.value)
    assert entries(app, account) == [("grant", 10)]
    # And every key is free.
    assert len(spend_batch(app, job(account, 4, "b"), job(account, 4, "c"))) == 2


def test_one_account_without_credits_stops_the_batch_for_all(
    app: Connection, account: UUID, other: UUID
) -> None:
    grant(app, account, 10)
    for spends in [[job(account, 5), job(other, 1)], [job(other, 1), job(account, 5)]]:
        with refused("TB001"):
            spend_batch(app, *spends)
    assert (balance(app, account), balance(app, other)) == (10, 0)


def test_batch_over_several_accounts_spends_from_each(app: Connection, account: UUID, other: UUID) -> None:
    grant(app, account, 10)
    grant(app, other, 20)
    rows = spend_batch(
        app, job(other, 5, "x"), job(account, 1, "x"), job(other, 6, "y"), job(account, 2, "y")
    )
    assert [(row["account_id"], row["amount"], row["balance_after"]) for row in rows] == [
        (other, -5, 15),
        (account, -1, 9),
        (other, -6, 9),
        (account, -2, 7),
    ]
    assert (balance(app, account), balance(app, other)) == (7, 9)
    assert discrepancies(app) == []


def test_batch_first_lets_lots_expire_that_are_due(app: Connection, admin: Connection, account: UUID) -> None:
    grant(app, account, 10, expires_at=in_days(1))
    grant(app, account, 10)
    move_clock(admin, 2 * DAY)
    with refused("TB001"):
        spend_batch(app, job(account, 6), job(account, 5))
    spend_batch(app, job(account, 6), job(account, 4))
    assert entries(app, account)[2:] == [("expiry", -10), ("spend", -6), ("spend", -4)]
    assert discrepancies(app) == []


def test_overdraft_pays_the_end_of_a_batch(app: Connection, account: UUID) -> None:
    set_limits(app, account, overdraft=10)
    grant(app, account, 10)
    with refused("TB001"):
        spend_batch(app, job(account, 8), job(account, 8), job(account, 5))
    rows = spend_batch(app, job(account, 8), job(account, 8), job(account, 4))
    assert [(row["debt"], row["balance_after"]) for row in rows] == [(0, 2), (6, -6), (4, -10)]
    assert balances(app, account)["debt"] == 10
    assert discrepancies(app) == []
    grant(app, account, 15)
    assert balance(app, account) == 5
    assert discrepancies(app) == []


def test_batch_counts_towards_the_cap_as_a_whole(app: Connection, account: UUID) -> None:
    set_limits(app, account, spend_cap=10, spend_cap_period="day")
    grant(app, account, 100)
    with refused("TB021"):
        spend_batch(app, job(account, 6), job(account, 5))
    spend_batch(app, job(account, 6), job(account, 4))
    with refused("TB021"):
        spend(app, account, 1)


def test_replayed_batch_returns_the_first_entries(app: Connection, account: UUID, other: UUID) -> None:
    for one in (account, other):
        grant(app, one, 10)
    spends = [job(other, 5, metadata={"n": 1}), job(account, 4, description="d"), job(account, 6)]
    first = spend_batch(app, *spends)
    assert spend_batch(app, *spends) == first
    assert spend_batch(app, *reversed(spends)) == first[::-1]
    assert (balance(app, account), balance(app, other)) == (0, 5)


def test_batch_with_keys_old_and_new_spends_only_the_new(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    old = spend(app, account, 4, "old", description="d", feature="f", reference_id="r", metadata={"n": 1})
    rows = spend_batch(
        app,
        job(account, 3, "new"),
        job(account, 4, "old", description="d", feature="f", reference_id="r", metadata={"n": 1}),
    )
    assert rows[1] == old
    assert balance(app, account) == 3
    assert spend(app, account, 3, "new") == rows[0]
    assert discrepancies(app) == []


@pytest.mark.parametrize("state", ["frozen_at = now(), frozen_reason = 'a test'", "closed_at = now()"])
def test_replayed_batch_returns_the_first_entries_whatever_became_of_the_account(
    app: Connection, conn: Connection, account: UUID, state: str
) -> None:
    grant(app, account, 10)
    spends = [job(account, 5), job(account, 4)]
    first = spend_batch(app, *spends)
    conn.execute(f"update billing.accounts set {state}".encode())
    assert spend_batch(app, *spends) == first
    with refused("TB003" if "frozen" in state else "TB008"):
        spend_batch(app, *spends, job(account, 1))


@pytest.mark.parametrize(
    "change",
    [{"amount": 5}, {"description": "x"}, {"feature": "x"}, {"reference_id": "x"}, {"metadata": {"n": 2}}],
    ids=str,
)
def test_batch_with_a_used_key_and_other_arguments_is_refused_as_a_whole(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 100)
    spend(app, account, 4, "old", metadata={"n": 1})
    with refused("TB002"):
        spend_batch(app, job(account, 1), job(account, 4, "old", metadata={"n": 1}) | change)
    assert balance(app, account) == 96


def test_key_of_another_kind_of_movement_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10, "pack")
    with refused("TB002"):
        spend_batch(app, job(account, 10, "pack"))
    entry = spend(app, account, 4, "greedy", up_to=True)
    assert entry["amount"] == -4
    with refused("TB002"):
        spend_batch(app, job(account, 4, "greedy"))
    assert balance(app, account) == 6


def test_key_twice_in_a_batch_with_the_same_arguments_spends_once(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    rows = spend_batch(app, job(account, 4, "a"), job(account, 5, "b"), job(account, 4, "a"))
    assert rows[0] == rows[2]
    assert [row["amount"] for row in rows] == [-4, -5, -4]
    assert entries(app, account) == [("grant", 10), ("spend", -4), ("spend", -5)]
    assert discrepancies(app) == []


def test_missing_and_null_arguments_are_the_same(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    nulls = {"description": None, "metadata": None, "feature": None, "reference_id": None}
    rows = spend_batch(
        app, job(account, 4, "a", **nulls), job(account, 4, "a"), job(account, 4, "a", metadata={})
    )
    assert rows[0] == rows[1] == rows[2]
    assert balance(app, account) == 6
    assert spend(app, account, 4, "a") == rows[0]


@pytest.mark.parametrize(
    "change", [{"amount": 5}, {"description": "x"}, {"metadata": {"n": 1}}, {"feature": "x"}], ids=str
)
def test_key_twice_in_a_batch_with_other_arguments_is_refused(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 100)
    with refused("TB002"):
        spend_batch(app, job(account, 4, "a"), job(account, 4, "a") | change)
    assert balance(app, account) == 100


@pytest.mark.parametrize(
    "spends",
    [None, {}, "text", 5, True, [1], [None], ["text"], [{}, 1], [[]], [[{}]]],
    ids=str,
)
def test_batch_that_is_no_array_of_objects_is_refused(app: Connection, spends: Any) -> None:
    with refused("TB023"):
        fetch(app, "select * from billing.spend_credits_batch(%s)", [Jsonb(spends)])


def test_batch_that_is_null_is_refused(app: Connection) -> None:
    with refused("TB023"):
        fetch(app, "select * from billing.spend_credits_batch(null)")


@pytest.mark.parametrize("name", ["up_to", "idempotency", "Feature"])
def test_a_name_that_no_spend_has_is_refused_rather_than_left_out(
    app: Connection, account: UUID, name: str
) -> None:
    grant(app, account, 10)
    with refused("TB023") as caught:
        spend_batch(app, job(account, 1), job(account, 1) | {name: True})
    assert name in str(caught.value)
    assert balance(app, account) == 10


def test_array_around_a_good_spend_is_refused(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    with refused("TB023"):
        spend_batch(app, [job(account, 1)])
    assert balance(app, account) == 10


@pytest.mark.parametrize("amount", [0, -1, 1.5, LARGEST + 1, 1e30, None, "NaN"], ids=str)
def test_batch_with_an_amount_that_is_no_whole_number_is_refused(
    app: Connection, account: UUID, amount: Any
) -> None:
    grant(app, account, 10)
    with refused("TB005"):
        spend_batch(app, job(account, 1), job(account, amount))
    assert balance(app, account) == 10


def test_spend_without_an_amount_is_refused(app: Connection, account: UUID) -> None:
    with refused("TB005"):
        spend_batch(app, {"account_id": str(account), "idempotency_key": "a"})


@pytest.mark.parametrize("amount", ["4.0", "4.000", "4e0", "0.4e1"])
def test_whole_amount_in_a_batch_may_be_written_with_decimals(
    app: Connection, account: UUID, amount: str
) -> None:
    grant(app, account, 10)
    query = "select * from billing.spend_credits_batch(%s::jsonb)"
    spends = f'[{{"account_id": "{account}", "amount": {amount}, "idempotency_key": "a"}}]'
    (row,) = fetch(app, query, [spends])
    assert row["amount"] == -4
    assert spend(app, account, Decimal(amount), "a") == row
    assert fetch(app, query, [spends]) == [row]


@pytest.mark.parametrize("key", [None, "", "k" * 256], ids=["none", "empty", "long"])
def test_batch_with_a_key_of_no_or_too_many_characters_is_refused(
    app: Connection, account: UUID, key: str | None
) -> None:
    grant(app, account, 10)
    with refused("TB006"):
        spend_batch(app, job(account, 1), job(account, 1) | {"idempotency_key": key})
    with refused("TB006"):
        spend_batch(app, {"account_id": str(account), "amount": 1})
    assert balance(app, account) == 10


@pytest.mark.parametrize("metadata", [[1], "text", 5, True], ids=str)
def test_batch_with_metadata_that_is_no_object_is_refused(
    app: Connection, account: UUID, metadata: Any
) -> None:
    grant(app, account, 10)
    with refused("TB007"):
        spend_batch(app, job(account, 1), job(account, 1, metadata=metadata))
    assert balance(app, account) == 10


@pytest.mark.parametrize("nobody", [str(uuid4()), None], ids=["unknown", "null"])
def test_batch_with_an_account_that_does_not_exist_is_refused(
    app: Connection, account: UUID, nobody: Any
) -> None:
    grant(app, account, 10)
    with refused("TB004"):
        spend_batch(app, job(account, 1), job(account, 1) | {"account_id": nobody})
    with refused("TB004"):
        spend_batch(app, {"amount": 1, "idempotency_key": "a"})
    assert balance(app, account) == 10


@pytest.mark.parametrize(
    "change", [{"amount": "much"}, {"amount": True}, {"amount": [1]}, {"account_id": "nobody"}], ids=str
)
def test_batch_with_a_value_of_another_type_is_refused_as_spend_credits_refuses_it(
    app: Connection, account: UUID, change: Row
) -> None:
    grant(app, account, 10)
    with refused("22P02"):
        spend_batch(app, job(account, 1), job(account, 1) | change)
    assert balance(app, account) == 10


def test_batch_on_a_frozen_account_is_refused_as_a_whole(
    app: Connection, conn: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        grant(app, one, 10)
    conn.execute(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'a test' where id = %s", [account]
    )
    with refused("TB003"):
        spend_batch(app, job(other, 1), job(account, 1))
    assert balance(app, other) == 10


def test_key_may_have_any_characters_and_metadata_any_depth(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    keys = ["é🦊" * 127, "'; drop table billing.credit_entries --", '"quoted" \\ and\ttabs', " "]
    deep = {"a": [{"b": [1, None, {"c": "'"}]}]}
    rows = spend_batch(app, *(job(account, 1, key, metadata=deep) for key in keys))
    assert [row["idempotency_key"] for row in rows] == keys
    assert all(row["metadata"] == deep for row in rows)
    assert spend(app, account, 1, keys[2], metadata=deep) == rows[2]


def test_large_batch_over_many_lots_adds_up(app: Connection, account: UUID) -> None:
    for number in range(40):
        grant(app, account, 5 + number % 3, priority=number % 2)
    amounts = [1 + number % 4 for number in range(90)]
    rows = spend_batch(app, *(job(account, amount) for amount in amounts))
    assert [row["amount"] for row in rows] == [-amount for amount in amounts]
    assert balance(app, account) == sum(5 + number % 3 for number in range(40)) - sum(amounts)
    assert discrepancies(app) == []


def test_twin_in_public_does_the_same(app: Connection, account: UUID) -> None:
    grant(app, account, 10)
    row = call(app, "public.spend_credits_batch", spends=Jsonb([job(account, 4)]))
    assert (row["amount"], balance(app, account)) == (-4, 6)


def test_batches_over_the_same_accounts_in_opposite_order_never_deadlock(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        grant(app, one, 1000)
    with database.connect("service_role") as one, database.connect("service_role") as two:

        def run(connection: Connection, first: UUID, second: UUID) -> None:
            for _ in range(20):
                spend_batch(connection, job(first, 1), job(second, 2), job(first, 1))

        results = at_once([lambda: run(one, account, other), lambda: run(two, other, account)])
    assert results == [None, None]
    assert (balance(app, account), balance(app, other)) == (920, 920)
    assert discrepancies(app) == []


def test_same_batch_twice_at_once_spends_once(
    database: Database, app: Connection, account: UUID, other: UUID
) -> None:
    for one in (account, other):
        grant(app, one, 10)
    spends = [job(account, 3), job(other, 4), job(account, 5)]
    with database.connect("service_role") as one, database.connect("service_role") as two:
        first, second = at_once(
            [lambda: spend_batch(one, *spends), lambda: spend_batch(two, *reversed(spends))]
        )
    assert not isinstance(first, psycopg.Error)
    assert not isinstance(second, psycopg.Error)
    assert first == second[::-1]
    assert (balance(app, account), balance(app, other)) == (2, 6)
    assert discrepancies(app) == []
