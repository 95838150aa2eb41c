"""Spends one by one and fifty at a time → spends a second, against one bare statement that does the least of it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from bench import balance
from bench.clone import copy
from bench.ledger import account_id, check, make_bare, open_accounts
from bench.measure import Comparison, Suite
from bench.pgbench import SECONDS, run
from cli.local.postgres import Postgres

ACCOUNTS = 10_000
BATCH_SIZE = 50
BATCHES_MAX = 1_000  # more than fit into the time
WARM_UP_BATCHES = 10
TEMPLATE = "spend"

# Suffix of a row's name: connections.
_CLIENTS = {"": 8, "_1": 1, "_32": 32}
_WANTED = {"hot": 0.70, "spread": 0.75}
_ACCOUNT = {"hot": "\\set account 1\n", "spread": f"\\set account random(1, {ACCOUNTS})\n"}
_PRODUCT = """
select id, balance_after from billing.spend_credits(
    account_id => md5(:account::text)::uuid, amount => 1, idempotency_key => :client_id || '-' || :number,
    description => 'A job'
);
"""
_FLOOR = """
with moved as (
    update billing.credit_balances set balance = balance - 1, updated_at = now()
    where account_id = md5(:account::text)::uuid and balance >= 1
    returning account_id, balance
)
insert into billing.credit_entries
    (account_id, kind, amount, balance_after, source, description, key_space, idempotency_key, occurred_at)
select account_id, 'spend', -1, balance, 'app', 'A job', 'caller', :client_id || '-' || :number, now() from moved
returning id, balance_after;
"""
_BATCH = "select * from billing.spend_credits_batch(spends => %s::jsonb)"


COMPARISONS = (
    *(
        Comparison(f"spend_{place}{suffix}", f"spend_{place}{suffix}_floor", "spends/s", wanted)
        for suffix in _CLIENTS
        for place, wanted in _WANTED.items()
    ),
    Comparison("spend_batch_50", floor="spend_hot_floor", unit="spends/s", wanted=8.00),
    balance.COMPARISON,
)


@contextmanager
def spend(server: Postgres) -> Iterator[Suite]:
    """Each side spends on a copy of the same ledger; both sides of a row by the same client."""
    open_accounts(server, TEMPLATE, ACCOUNTS)
    sides: dict[str, Callable[[], float]] = {"spend_batch_50": lambda: _in_batches(server)}
    for suffix, clients in _CLIENTS.items():
        for place in _WANTED:
            name = f"spend_{place}{suffix}"
            sides[name] = lambda place=place, clients=clients: _one_by_one(server, place, clients)
            sides[f"{name}_floor"] = lambda place=place, clients=clients: _bare(server, place, clients)
    with copy(server, TEMPLATE) as database, balance.sides(server, database, ACCOUNTS) as reads:
        yield Suite({**sides, **reads}, COMPARISONS)


def _one_by_one(server: Postgres, place: str, clients: int) -> float:
    with copy(server, TEMPLATE) as database:
        figure, spends = run(server, database, _ACCOUNT[place] + _PRODUCT, clients)
        with psycopg.connect(server.admin_url(database)) as conn:
            check(conn, "spend", spends, bare=False)
    return figure


def _bare(server: Postgres, place: str, clients: int) -> float:
    with (
        copy(server, TEMPLATE) as database,
        psycopg.connect(server.admin_url(database), autocommit=True) as conn,
    ):
        make_bare(conn)
        figure, spends = run(server, database, _ACCOUNT[place] + _FLOOR, clients)
        check(conn, "spend", spends, bare=True)
    return figure


def _in_batches(server: Postgres) -> float:
    batches = [_batch(number) for number in range(BATCHES_MAX)]
    with copy(server, TEMPLATE) as database:
        with psycopg.connect(server.url(database), autocommit=True) as conn:
            for batch in batches[:WARM_UP_BATCHES]:
                conn.execute(_BATCH, [batch])
            clock = time.perf_counter()
            done = WARM_UP_BATCHES
            while time.perf_counter() - clock < SECONDS and done < BATCHES_MAX:
                conn.execute(_BATCH, [batches[done]])
                done += 1
            seconds = time.perf_counter() - clock
        with psycopg.connect(server.admin_url(database)) as conn:
            check(conn, "spend", BATCH_SIZE * done, bare=False)
    return BATCH_SIZE * (done - WARM_UP_BATCHES) / seconds


def _batch(number: int) -> str:
    hot = str(account_id(1))
    return json.dumps(
        [
            {
                "account_id": hot,
                "amount": 1,
                "idempotency_key": f"{number}-{position}",
                "description": "A job",
            }
            for position in range(BATCH_SIZE)
        ]
    )
