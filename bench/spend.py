"""Spends one by one and fifty at a time → spends a second, against one bare statement that writes the same rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from bench import balance
from bench.clone import copy
from bench.ledger import check, make_bare, open_accounts
from bench.measure import Comparison, Suite
from bench.pgbench import run
from devstack.postgres import Postgres

ACCOUNTS = 10_000
BATCH_SIZE = 50
TEMPLATE = "spend"

CLIENTS = 8
_WANTED = {"hot": 0.80, "spread": 0.75}
_ACCOUNT = {"hot": "\\set account 1\n", "spread": f"\\set account random(1, {ACCOUNTS})\n"}
_PRODUCT = """
select id, balance_after from billing.spend_credits(
    account_id => md5(:account::text)::uuid, amount => 1, idempotency_key => :client_id || '-' || :number,
    description => 'A job'
);
"""
# The account's cap, a member's budget and an agent's: each spend is judged by all three.
_THREE_LEVELS = """
select billing.set_credit_limits(
    account_id => md5('1')::uuid, spend_cap => 1000000000, spend_cap_period => 'month'
);
select billing.set_budget(account_id => md5('1')::uuid, actor => 'member:1', cap => 1000000000, period => 'month');
select billing.set_budget(
    account_id => md5('1')::uuid, actor => 'agent:1', cap => 1000000000, period => 'day', parent => 'member:1'
);
"""
_BY_AN_AGENT = """
select id, balance_after from billing.spend_credits(
    account_id => md5('1')::uuid, amount => 1, idempotency_key => :client_id || '-' || :number,
    description => 'A job', actor => 'agent:1'
);
"""
# The four rows that a spend writes: the balance, the entry, the lot that pays, and which entry took from it.
_FLOOR = """
with moved as (
    update billing.credit_balances set balance = balance - 1, updated_at = now()
    where account_id = md5(:account::text)::uuid and balance >= 1
    returning account_id, balance
),
entry as (
    insert into billing.credit_entries
        (account_id, kind, amount, balance_after, source, description, key_space, idempotency_key, occurred_at)
    select account_id, 'spend', -1, balance, 'app', 'A job', 'caller', :client_id || '-' || :number, now() from moved
    returning id, balance_after
),
lot as (
    update billing.credit_grants set remaining = remaining - 1
    where id = (
        select id from billing.credit_grants
        where account_id = md5(:account::text)::uuid and closed_at is null and remaining > held
        order by priority, expires_at, id limit 1
    )
    returning id
)
insert into billing.credit_consumptions (entry_id, grant_id, amount)
select entry.id, lot.id, 1 from entry cross join lot
returning entry_id;
"""
_BATCH = f"""
select id, balance_after from billing.spend_credits_batch(spends => (
    select jsonb_agg(jsonb_build_object(
        'account_id', md5('1')::uuid, 'amount', 1, 'description', 'A job',
        'idempotency_key', :client_id || '-' || :number || '-' || position::text
    ))
    from generate_series(1, {BATCH_SIZE}) as position
));
"""

COMPARISONS = (
    *(
        Comparison(f"spend_{place}", f"spend_{place}_floor", "spends/s", wanted)
        for place, wanted in _WANTED.items()
    ),
    # Against the product's own spend, which knows of no budget.
    Comparison("spend_budget_3_levels", floor="spend_hot", unit="spends/s", wanted=0.60),
    # Against the product's own spend, one by one.
    Comparison("spend_batch_50", floor="spend_hot", unit="spends/s", wanted=8.00),
    balance.COMPARISON,
)


@contextmanager
def spend(server: Postgres) -> Iterator[Suite]:
    """Each side spends on a copy of the same ledger; both sides of a row by the same client."""
    open_accounts(server, TEMPLATE, ACCOUNTS)
    sides: dict[str, Callable[[], float]] = {
        "spend_batch_50": lambda: _in_batches(server),
        "spend_budget_3_levels": lambda: _under_budgets(server),
    }
    for place in _WANTED:
        sides[f"spend_{place}"] = lambda place=place: _one_by_one(server, place)
        sides[f"spend_{place}_floor"] = lambda place=place: _bare(server, place)
    with copy(server, TEMPLATE) as database, balance.sides(server, database, ACCOUNTS) as reads:
        yield Suite({**sides, **reads}, COMPARISONS)


def _one_by_one(server: Postgres, place: str) -> float:
    with copy(server, TEMPLATE) as database:
        figure, spends = run(server, database, _ACCOUNT[place] + _PRODUCT, CLIENTS)
        with psycopg.connect(server.admin_url(database)) as conn:
            check(conn, "spend", spends, bare=False)
    return figure


def _bare(server: Postgres, place: str) -> float:
    with (
        copy(server, TEMPLATE) as database,
        psycopg.connect(server.admin_url(database), autocommit=True) as conn,
    ):
        make_bare(conn)
        figure, spends = run(server, database, _ACCOUNT[place] + _FLOOR, CLIENTS)
        check(conn, "spend", spends, bare=True)
    return figure


def _under_budgets(server: Postgres) -> float:
    with copy(server, TEMPLATE) as database, psycopg.connect(server.admin_url(database)) as conn:
        conn.execute(_THREE_LEVELS)
        conn.commit()
        figure, spends = run(server, database, _BY_AN_AGENT, CLIENTS)
        check(conn, "spend", spends, bare=False)
    return figure


def _in_batches(server: Postgres) -> float:
    with copy(server, TEMPLATE) as database:
        figure, batches = run(server, database, _BATCH, CLIENTS)
        with psycopg.connect(server.admin_url(database)) as conn:
            check(conn, "spend", BATCH_SIZE * batches, bare=False)
    return BATCH_SIZE * figure
