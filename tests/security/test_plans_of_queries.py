"""What clients ask most is answered from an index, also when there are many accounts."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.security.inventory import Connection
from tests.support import Database, account_of, as_user, create_user

ACCOUNTS = 10_000


@pytest.fixture
def reader(database: Database, conn: Connection) -> UUID:
    """A user among many accounts, each with a movement."""
    conn.execute("insert into billing.accounts (kind) select 'team' from generate_series(1, %s)", [ACCOUNTS])
    user_id = create_user(database)
    conn.execute(
        "insert into billing.credit_entries "
        "(account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at) "
        "select id, 'grant', 1, 1, 'test', 'caller', 'one', now() from billing.accounts"
    )
    conn.execute("analyze billing.accounts, billing.credit_balances, billing.credit_entries")
    return user_id


def plan_nodes(conn: Connection, query: str) -> list[dict[str, Any]]:
    row = conn.execute(f"explain (format json, analyze) {query}".encode()).fetchone()
    assert row is not None
    return list(_walk(row[0][0]["Plan"]))


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("select * from public.credit_balance", "credit_balances_pkey"),
        ("select * from public.credit_history order by id desc limit 20", "credit_entries_history"),
    ],
)
def test_user_reads_by_index_among_many_accounts(
    conn: Connection, reader: UUID, query: str, index: str
) -> None:
    with as_user(conn, reader) as session:
        nodes = plan_nodes(session, query)
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
    assert index in used
    looked_at = [node["Rows Removed by Filter"] for node in nodes if "Rows Removed by Filter" in node]
    assert sum(looked_at) == 0
    with as_user(conn, reader) as session:
        rows = session.execute("select account_id from public.credit_balance").fetchall()
    assert rows == [(account_of(conn, reader),)]
