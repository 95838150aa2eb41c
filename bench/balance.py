"""A signed-in user's question for their balance → milliseconds under row-level security, against the same as owner."""

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from bench.ledger import account_id, user_id
from bench.measure import Comparison
from devstack.postgres import Postgres

READS = 500
WARM_UP_READS = 50

COMPARISON = Comparison("balance_read_rls", floor="balance_read_floor", unit="ms", wanted=1.50)

# What the Data API does before each request.
_PREAMBLE = "select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)"
_SELECT = "select balance, held, available from public.credit_balance"


@contextmanager
def sides(server: Postgres, database: str, accounts: int) -> Iterator[Mapping[str, Callable[[], float]]]:
    """One connection for each side, on a database of bench.ledger that nobody writes to."""
    with (
        psycopg.connect(server.url(database), autocommit=True) as product,
        psycopg.connect(server.url(database), autocommit=True) as floor,
    ):
        yield {
            COMPARISON.name: lambda: _median_ms(product, accounts, "authenticated", ""),
            COMPARISON.floor: lambda: _median_ms(floor, accounts, "postgres", " where account_id = %s"),
        }


def _median_ms(conn: psycopg.Connection, accounts: int, role: str, condition: str) -> float:
    milliseconds: list[float] = []
    for _ in range(WARM_UP_READS + READS):
        number = random.randint(1, accounts)
        claims = json.dumps({"sub": str(user_id(number)), "role": "authenticated"})
        parameters = [account_id(number)] if condition else []
        clock = time.perf_counter()
        conn.execute("begin")
        conn.execute(_PREAMBLE, [claims, role])
        rows = conn.execute(_SELECT + condition, parameters).fetchall()
        conn.execute("commit")
        milliseconds.append(1000 * (time.perf_counter() - clock))
        assert len(rows) == 1, rows
    return statistics.median(milliseconds[WARM_UP_READS:])
