"""An account that spends all the time: what a movement reads doesn't grow with what was before it."""

from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import Connection, call, discrepancies, grant, set_limits, value
from tests.support import Database

SPENDS = 3000


def spend_many(conn: Connection, account: UUID, name: str) -> None:
    conn.execute(
        "select count(billing.spend_credits(%s, 1, %s || number, actor => 'agent:writer')) "
        "from generate_series(1, %s) as number",
        [account, name, SPENDS],
    )


def pages_read(conn: Connection, account: UUID, name: str) -> int:
    """By a spend: the least of some, because one in many pays for moving a row to another page."""
    return min(
        sum(plan["Plan"][kind] for kind in ("Shared Hit Blocks", "Shared Read Blocks"))
        for number in range(250)  # an epoch of each row begins with one update in fifty
        for plan in value(
            conn,
            "explain (analyze, buffers, format json) "
            "select billing.spend_credits(%s, 1, %s, actor => 'agent:writer')",
            [account, f"{name} {number}"],
        )
    )


CAPPED = {"spend_cap": 10**9, "spend_cap_period": "month"}


@pytest.mark.parametrize(
    ("limits", "has_budgets"),
    [({}, False), (CAPPED, False), (CAPPED, True)],
    ids=["plain", "capped", "budgets"],
)
def test_spend_reads_no_more_while_somebody_holds_an_old_snapshot(
    database: Database, app: Connection, account: UUID, limits: dict[str, Any], has_budgets: bool
) -> None:
    grant(app, account, 1_000_000)
    set_limits(app, account, **limits)
    if has_budgets:
        with database.connect(admin=True) as admin:
            # Of two small indexes Postgres takes the shorter one, and earlier tests have left entries in both.
            admin.execute("reindex table billing.budgets")
        budget = {"account_id": account, "cap": 10**9, "period": "day"}
        call(app, "set_budget", actor="member:1", **budget)
        call(app, "set_budget", actor="agent:writer", parent="member:1", **budget)
    before = pages_read(app, account, "before")
    with database.connect(autocommit=False) as dump:
        dump.execute("set transaction isolation level repeatable read")
        dump.execute("select count(*) from billing.credit_balances")
        spend_many(app, account, "meanwhile")
        with database.connect("service_role") as newcomer:
            assert pages_read(newcomer, account, "warm up")
            for conn in (app, newcomer):
                assert pages_read(conn, account, f"after {conn.info.backend_pid}") < 3 * before
    assert discrepancies(app) == []
