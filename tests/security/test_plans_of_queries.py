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
    ("query", "table"),
    [
        ("select * from public.credit_balance", "credit_balances"),
        (
            "select * from public.credit_history where account_id = '{account}' order by id desc limit 20",
            "credit_entries",
        ),
    ],
)
def test_user_reads_by_index_among_many_accounts(
    conn: Connection, reader: UUID, query: str, table: str
) -> None:
    query = query.format(account=account_of(conn, reader))
    with as_user(conn, reader) as session:
        nodes = plan_nodes(session, query)
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
    assert [index for index in used if index.startswith(table)]
    looked_at = [node["Rows Removed by Filter"] for node in nodes if "Rows Removed by Filter" in node]
    assert sum(looked_at) == 0
    with as_user(conn, reader) as session:
        rows = session.execute("select account_id from public.credit_balance").fetchall()
    assert rows == [(account_of(conn, reader),)]


@pytest.mark.slow
def test_first_page_of_a_long_history_is_read_from_its_end(database: Database, conn: Connection) -> None:
    """However many entries an account has, the newest twenty cost twenty rows, and any later page too."""
    user_id = create_user(database)
    account_id = account_of(conn, user_id)
    conn.execute(
        "insert into billing.credit_entries "
        "(account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at) "
        "select %s, 'grant', 1, n, 'test', 'caller', 'key-' || n, now() - n * interval '1 second' "
        "from generate_series(1, 100000) as n",
        [account_id],
    )
    conn.execute("analyze billing.credit_entries")
    for cursor in ["", " and id < 50000"]:
        query = (
            f"select * from public.credit_history where account_id = '{account_id}'{cursor} "
            "order by id desc limit 20"
        )
        with as_user(conn, user_id) as session:
            nodes = plan_nodes(session, query)
        read = [node for node in nodes if node.get("Relation Name") == "credit_entries"]
        assert [(node["Actual Rows"], node.get("Rows Removed by Filter", 0)) for node in read] == [(20, 0)]
        assert [node for node in nodes if node["Node Type"] in {"Seq Scan", "Sort"}] == []


# The one look-up of every movement that grows with the account: its lots, in the order in which they are spent.
def test_a_spend_finds_its_lots_by_index(database: Database, conn: Connection) -> None:
    account_id = account_of(conn, create_user(database))
    conn.execute(
        "insert into billing.credit_grants "
        "(account_id, amount, remaining, effective_at, source, key_space, idempotency_key, closed_at) "
        "select %s, 1, 0, now(), 'test', 'caller', 'key-' || n, now() from generate_series(1, 50000) as n",
        [account_id],
    )
    conn.execute("analyze billing.credit_grants")
    nodes = plan_nodes(
        conn,
        f"select id from billing.credit_grants where account_id = '{account_id}' and closed_at is null "
        "and remaining > held order by priority, expires_at, id",
    )
    assert [node["Node Type"] for node in nodes if "Scan" in node["Node Type"]] == ["Index Scan"]
    assert nodes[0]["Index Name"] == "credit_grants_spending_order"


@pytest.mark.parametrize("is_analyzed", [True, False])
def test_a_used_key_is_looked_up_by_its_index_whatever_the_statistics_say(
    database: Database, conn: Connection, is_analyzed: bool
) -> None:
    """Everybody has one entry when statistics are taken, or they never are; then one account grows."""
    conn.execute("insert into billing.accounts (kind) select 'team' from generate_series(1, 1000)")
    entries = (
        "insert into billing.credit_entries "
        "(account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at) "
        "select {account}, 'grant', 1, 1, 'test', 'caller', 'key-' || n, now() from {rows}"
    )
    rows = "billing.accounts cross join generate_series(1, 1) as n"
    conn.execute(entries.format(account="accounts.id", rows=rows).encode())
    if is_analyzed:
        conn.execute("analyze billing.credit_entries")
    account_id = account_of(conn, create_user(database))
    rows = "generate_series(1, 20000) as n"
    conn.execute(entries.format(account=f"'{account_id}'::uuid", rows=rows).encode())

    nodes = plan_nodes(
        conn,
        f"select * from billing.credit_entries where account_id = '{account_id}' and key_space = 'caller' "
        "and idempotency_key = 'key-7'",
    )
    assert [node.get("Index Name") for node in nodes] == ["credit_entries_key"]
    assert nodes[0].get("Rows Removed by Filter", 0) == 0
