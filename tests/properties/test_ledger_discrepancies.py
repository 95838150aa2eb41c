"""The ledger's proof notices: each way in which the books can be off shows as its own row."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import Connection, call, discrepancies, fetch, grant, spend, value
from tests.support import Database, account_of, create_user


@pytest.fixture
def books(database: Database) -> Iterator[tuple[Connection, UUID]]:
    """A superuser's connection on which no trigger fires, and an account: two grants, a spend, a hold, two budgets."""
    with database.connect(admin=True) as admin:
        account_id = account_of(admin, create_user(database))
        grant(admin, account_id, 100)
        grant(admin, account_id, 50)
        spend(admin, account_id, 30)
        hold = call(admin, "hold_credits", account_id=account_id, amount=10, idempotency_key="job")
        call(admin, "capture_hold", hold_id=hold["id"], amount=4, idempotency_key="part")
        for actor, parent in (("member:1", None), ("agent:writer", "member:1")):
            budget = {"actor": actor, "cap": 5, "period": "day", "parent": parent}
            call(admin, "set_budget", account_id=account_id, **budget)
        assert discrepancies(admin) == []
        admin.execute("set session_replication_role = replica")
        yield admin, account_id


Corrupt = Callable[[psycopg.Connection[Any]], object]


def run(*statements: str) -> Corrupt:
    def corrupt(admin: Connection) -> None:
        for statement in statements:
            admin.execute(statement.encode())

    return corrupt


# The lot of 100 has 66 left, of which 6 are held; the lot of 50 is whole. What else is off beside the invariant.
CORRUPTIONS: dict[str, tuple[Corrupt, set[str]]] = {
    "account_has_a_balance": (run("insert into billing.accounts (kind) values ('team')"), set()),
    "balance_knows_who_may_spend": (run("update billing.credit_balances set may_spend = false"), set()),
    "balance_is_the_sum_of_entries": (
        run("update billing.credit_balances set balance = balance + 1"),
        {"balance_is_what_remains_less_debt"},
    ),
    "balance_is_what_remains_less_debt": (
        run("update billing.credit_balances set debt = 5"),
        {"debt_is_the_sum_of_entries", "debt_leaves_no_credits_free"},
    ),
    "debt_leaves_no_credits_free": (
        run(
            "update billing.credit_balances set debt = 5, balance = balance - 5",
            "update billing.credit_entries set debt = 5, amount = amount - 5, balance_after = balance_after - 5"
            " where kind = 'capture'",
        ),
        {"hold_captured_what_entries_took"},
    ),
    "entry_has_a_balance": (
        run(
            "delete from billing.credit_balances",
            "delete from billing.credit_hold_lots",
            "update billing.credit_grants set held = 0",
            "delete from billing.accounts",
        ),
        {"hold_pins_what_it_holds", "lot_has_its_entry"},
    ),
    "lot_has_its_entry": (
        run("update billing.credit_grants set entry_id = -1 where amount = 50"),
        {"entry_is_accounted_for"},
    ),
    "lineage_joins_entry_and_lot": (
        run(
            "insert into billing.credit_consumptions (entry_id, grant_id, amount)"
            " select min(id), -1, 1 from billing.credit_entries"
        ),
        {"entry_is_accounted_for"},
    ),
    "debt_is_the_sum_of_entries": (
        run("update billing.credit_entries set debt = 1 where kind = 'spend'"),
        {"entry_is_accounted_for"},
    ),
    "held_is_the_sum_of_open_holds": (run("update billing.credit_balances set held = 5"), set()),
    "budget_spent_what_its_actors_spent": (
        run("update billing.credit_entries set actor = 'agent:writer' where kind = 'spend'"),
        set(),
    ),
    "budget_holds_what_its_actors_hold": (
        run("update billing.credit_holds set actor = 'agent:writer'"),
        set(),
    ),
    "budget_is_below_its_parent": (
        run("update billing.budgets set path = '{agent:writer}' where actor = 'agent:writer'"),
        set(),
    ),
    "balance_knows_of_budgets": (run("delete from billing.budgets"), set()),
    "hold_pins_what_it_holds": (
        run(
            "update billing.credit_hold_lots set amount = 7",
            "update billing.credit_grants set held = 7 where amount = 100",
        ),
        {"held_is_the_sum_of_open_holds"},
    ),
    "lot_is_held_by_its_holds": (
        run(
            "update billing.credit_grants set held = 5 where amount = 100",
            "update billing.credit_grants set held = 1 where amount = 50",
        ),
        set(),
    ),
    "hold_captured_what_entries_took": (
        run("update billing.credit_holds set captured = 3, amount = 9"),
        set(),
    ),
    "nothing_falls_due_unseen": (
        run("update billing.credit_grants set expires_at = now() + '1 minute' where remaining = 50"),
        set(),
    ),
    "balance_after_continues_the_chain": (
        run("update billing.credit_entries set balance_after = balance_after + 1 where kind = 'spend'"),
        set(),
    ),
    "lot_lost_what_entries_took": (
        run(
            "update billing.credit_grants set remaining = 65 where amount = 100",
            "update billing.credit_grants set amount = 51, remaining = 51 where amount = 50",
        ),
        {"entry_is_accounted_for"},
    ),
    "lot_lapsed_by_entries": (run("update billing.credit_grants set lapsed = 1 where amount = 50"), set()),
    "lot_is_open_while_something_remains": (
        run(
            "update billing.credit_grants set remaining = 0 where amount = 50",
            "update billing.credit_grants set amount = 150, remaining = 116 where amount = 100",
        ),
        {"lot_lost_what_entries_took", "entry_is_accounted_for"},
    ),
    "entry_is_accounted_for": (
        run(
            "update billing.credit_consumptions set entry_id = (select min(id) from billing.credit_entries)"
            " where amount = 30"
        ),
        set(),
    ),
    "refunds_are_within_the_spend": (
        run(
            "update billing.credit_entries set kind = 'refund', reverses_entry_id = ("
            "    select id from billing.credit_entries where kind = 'spend'"
            ") where amount = 50"
        ),
        set(),
    ),
}


@pytest.mark.parametrize("invariant", CORRUPTIONS)
def test_broken_invariant_is_listed_with_its_account_and_figures(
    books: tuple[Connection, UUID], invariant: str
) -> None:
    admin, account_id = books
    corrupt, also_broken = CORRUPTIONS[invariant]
    corrupt(admin)
    assert {name for name, _ in discrepancies(admin)} == {invariant} | also_broken
    query = "select account_id, detail from billing.ledger_discrepancies where invariant = %s"
    for row in fetch(admin, query, [invariant]):
        assert row["detail"]
        if invariant != "account_has_a_balance":
            assert row["account_id"] == account_id


@pytest.mark.parametrize(
    ("corrupt", "invariant"),
    [
        (run("delete from billing.credit_entries where kind = 'spend'"), "balance_is_the_sum_of_entries"),
        (run("delete from billing.credit_grants where amount = 50"), "entry_is_accounted_for"),
        (run("delete from billing.credit_balances"), "account_has_a_balance"),
        (
            run(
                "insert into billing.credit_holds (account_id, amount, idempotency_key, expires_in, expires_at) "
                "select id, 5, 'another', '1 hour', now() from billing.accounts"
            ),
            "hold_pins_what_it_holds",
        ),
        (run("update billing.credit_grants set held = 5 where amount = 50"), "held_is_the_sum_of_open_holds"),
        (
            run("update billing.credit_consumptions set amount = 29 where amount = 30"),
            "entry_is_accounted_for",
        ),
        (
            run(
                "update billing.credit_entries set balance_after = 1 "
                "where id = (select min(id) from billing.credit_entries)"
            ),
            "balance_after_continues_the_chain",
        ),
    ],
    ids=[
        "entry lost",
        "lot lost",
        "balance lost",
        "hold without lots",
        "lot held by nobody",
        "consumption changed",
        "first entry off",
    ],
)
def test_lost_or_changed_row_is_noticed(
    books: tuple[Connection, UUID], corrupt: Corrupt, invariant: str
) -> None:
    admin, _ = books
    corrupt(admin)
    assert invariant in {name for name, _ in discrepancies(admin)}


def test_every_invariant_of_the_proof_is_tried_here(database: Database) -> None:
    with database.connect() as conn:
        rows = fetch(
            conn,
            "select distinct (regexp_matches(pg_get_functiondef("
            "'billing.account_ledger_discrepancies'::regproc), '''([a-z]+(?:_[a-z]+)+)''', 'g'))[1] as name",
        )
    # Words of the proof in quotes: its invariants, and the search path.
    assert {row["name"] for row in rows} - {"pg_catalog", "pg_temp"} == {*CORRUPTIONS}


def walk(worker: Connection, accounts_max: int = 10, **more: Any) -> list[tuple[int, int]]:
    """A round of the running proof: accounts and discrepancies of each step, up to the one that ends it."""
    steps: list[tuple[int, int]] = []
    while not steps or steps[-1][0]:
        proved = call(worker, "prove_accounts", accounts_max=accounts_max, **more)
        steps.append((proved["accounts"], proved["discrepancies"]))
    return steps


def test_running_proof_tells_once_of_what_is_off_in_the_ledger_and_forgets_what_is_in_order_again(
    database: Database, books: tuple[Connection, UUID]
) -> None:
    admin, account_id = books
    found = "select account_id, invariant from billing.found_discrepancies"
    told = "select count(*) from billing.notifications where kind = 'ledger_discrepancy'"
    with database.connect("billing_worker") as worker:
        assert walk(worker) == [(1, 0), (0, 0)]
        admin.execute("update billing.credit_balances set held = 5")
        for _ in range(2):
            assert walk(worker) == [(1, 1), (0, 0)]
            assert fetch(admin, found) == [
                {"account_id": account_id, "invariant": "held_is_the_sum_of_open_holds"}
            ]
            assert value(admin, told) == 1
        admin.execute("update billing.credit_balances set held = 6")
        assert walk(worker) == [(1, 0), (0, 0)]
        assert fetch(admin, found) == []


def test_running_proof_goes_on_where_it_was_and_stops_when_its_time_is_over(
    database: Database, books: tuple[Connection, UUID]
) -> None:
    admin, _ = books
    admin.execute("set session_replication_role = origin")
    for _ in range(4):
        create_user(database)
    with database.connect("billing_worker") as worker:
        assert walk(worker, 2, milliseconds_max=60_000) == [(2, 0), (2, 0), (1, 0), (0, 0)]
        assert walk(worker, 100, milliseconds_max=0) == [(1, 0)] * 5 + [(0, 0)]
        row = fetch(admin, "select accounts_checked, last_account_id from billing.account_proof")
        assert row == [{"accounts_checked": 10, "last_account_id": None}]


def test_two_workers_prove_no_account_at_the_same_moment(
    database: Database, books: tuple[Connection, UUID]
) -> None:
    with (
        database.connect("billing_worker", autocommit=False) as one,
        database.connect("billing_worker") as two,
    ):
        assert call(one, "prove_accounts", accounts_max=10)["accounts"] == 1
        assert call(two, "prove_accounts", accounts_max=10)["accounts"] == 0
        one.rollback()
        assert call(two, "prove_accounts", accounts_max=10)["accounts"] == 1
