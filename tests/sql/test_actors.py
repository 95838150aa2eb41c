"""Who spends: the actor of a spend, a hold and a batch is kept, belongs to the key, and is erased with its account."""

from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    Connection,
    call,
    capture,
    discrepancies,
    fetch,
    grant,
    hold,
    refund,
    refused,
    set_limits,
    spend,
)
from tests.sql.races import at_once
from tests.support import Database

ACTOR = "agent:writer"


def actors(conn: Connection) -> list[tuple[str, str | None]]:
    """Kind and actor of every entry, in order."""
    rows = fetch(conn, "select kind, actor from billing.credit_entries order by id")
    return [(row["kind"], row["actor"]) for row in rows]


def test_every_movement_of_a_spender_keeps_the_actor(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    plain = spend(app, account, 1, actor=ACTOR)
    refund(app, plain["id"])
    held = hold(app, account, 10, actor="key:7")
    capture(app, held["id"], 3)
    # A cap and up_to take the longer path.
    set_limits(app, account, spend_cap=50, spend_cap_period="day")
    spend(app, account, 2, actor=ACTOR)
    spend(app, account, 2, up_to=True, actor="member:1")
    spend(app, account, 1)
    assert held["actor"] == "key:7"
    assert actors(app) == [
        ("grant", None),
        ("spend", ACTOR),
        ("refund", ACTOR),
        ("capture", "key:7"),
        ("spend", ACTOR),
        ("spend", "member:1"),
        ("spend", None),
    ]
    assert discrepancies(app) == []


@pytest.mark.parametrize("capped", [False, True])
def test_a_spend_and_a_hold_repeat_only_with_the_same_actor(
    app: Connection, account: UUID, capped: bool
) -> None:
    grant(app, account, 100)
    if capped:
        set_limits(app, account, spend_cap=50, spend_cap_period="day")
    moves: list[Callable[..., object]] = [spend, hold]
    for move in moves:
        first = move(app, account, 5, "job", actor=ACTOR)
        assert move(app, account, 5, "job", actor=ACTOR) == first
        for other in ("agent:reader", None):
            with refused("TB002"):
                move(app, account, 5, "job", actor=other)


def test_a_batch_repeats_only_with_the_same_actor(app: Connection, account: UUID) -> None:
    def batch(*actors: str | None) -> list[tuple[int, str | None]]:
        jobs = [
            {"account_id": str(account), "amount": 1, "idempotency_key": f"job-{number}"}
            | ({} if actor is None else {"actor": actor})
            for number, actor in enumerate(actors)
        ]
        rows = fetch(app, "select * from billing.spend_credits_batch(%s)", [Jsonb(jobs)])
        return [(row["id"], row["actor"]) for row in rows]

    grant(app, account, 100)
    first = batch("agent:writer", "key:7", None)
    assert [actor for _, actor in first] == ["agent:writer", "key:7", None]
    assert batch("agent:writer", "key:7", None) == first
    for others in (("agent:reader", "key:7"), ("agent:writer", None), ("agent:writer", "key:7", "key:7")):
        with refused("TB002"):
            batch(*others)
    with refused("TB002"):
        spend(app, account, 1, "job-0")
    jobs = [
        {"account_id": str(account), "amount": 1, "idempotency_key": "twice", "actor": actor}
        for actor in ("key:1", "key:2")
    ]
    with refused("TB002"):
        fetch(app, "select * from billing.spend_credits_batch(%s)", [Jsonb(jobs)])


@pytest.mark.parametrize("actor", ["", "x" * 256])
def test_an_actor_has_1_to_255_characters(app: Connection, account: UUID, actor: str) -> None:
    grant(app, account, 100)
    with refused("TB092"):
        spend(app, account, 1, actor=actor)
    with refused("TB092"):
        hold(app, account, 1, actor=actor)
    with refused("TB092"):
        fetch(
            app,
            "select * from billing.spend_credits_batch(%s)",
            [Jsonb([{"account_id": str(account), "amount": 1, "idempotency_key": "k", "actor": actor}])],
        )
    assert actors(app) == [("grant", None)]


def test_of_two_actors_with_one_key_at_once_one_spends(
    app: Connection, account: UUID, database: Database
) -> None:
    grant(app, account, 100)
    with database.connect("service_role") as one, database.connect("service_role") as other:
        results = at_once(
            [
                lambda: spend(one, account, 5, "job", actor="agent:one"),
                lambda: spend(other, account, 5, "job", actor="agent:other"),
            ]
        )
    errors = [each.sqlstate for each in results if isinstance(each, psycopg.Error)]
    assert errors == ["TB002"]
    assert [kind for kind, _ in actors(app)] == ["grant", "spend"]


def test_an_erased_account_keeps_no_actor_of_its_spends(app: Connection, account: UUID) -> None:
    grant(app, account, 100)
    refund(app, spend(app, account, 1, actor="agent:ada")["id"])
    spend(app, account, 1)
    capture(app, hold(app, account, 10, actor="key:ada")["id"], 3)
    call(app, "erase_account", account_id=account, reason="asked", actor="root@example.org")
    assert [actor for kind, actor in actors(app) if kind in ("spend", "refund", "capture")] == [
        "erased",
        "erased",
        None,
        "erased",
    ]
    assert fetch(app, "select actor from billing.credit_holds") == [{"actor": "erased"}]
    assert discrepancies(app) == []
