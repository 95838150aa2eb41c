"""Lots that are due → lots expired a second, against bare writes of the same rows.

`EXPIRE_ACCOUNTS=100000` measures the million that the row is named after.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench.clone import copy
from bench.ledger import check, make_bare, owe_expiries
from bench.measure import Comparison, Suite
from devstack.postgres import Postgres

# A million lots take several minutes, and the ratio is the same.
ACCOUNTS = int(os.environ.get("EXPIRE_ACCOUNTS", "10000"))
LOTS_EACH = 10
LOTS = ACCOUNTS * LOTS_EACH
TEMPLATE = "expire"

COMPARISONS = (
    Comparison("expire_million", floor="expire_million_floor", unit="lots/s", wanted=0.25, size=LOTS),
)

_PRODUCT = """
select accounts, lots_expired from billing.expire_due_credits(as_of => billing.current_time())
"""
# Lot n of its account has ids ACCOUNTS * (n - 1) + 1 to ACCOUNTS * n, so nothing need be looked up.
_FLOOR = f"""
insert into billing.credit_entries
    (id, account_id, kind, amount, balance_after, source, key_space, idempotency_key, occurred_at)
overriding system value
select
    {LOTS} + id, account_id, 'expiry', -remaining, 100 * ({LOTS_EACH - 1} - (id - 1) / {ACCOUNTS}), source, 'system',
    'expiry:' || id || ':0', expires_at
from billing.credit_grants;
insert into billing.credit_consumptions (entry_id, grant_id, amount)
select {LOTS} + id, id, remaining from billing.credit_grants;
update billing.credit_grants set remaining = 0, closed_at = expires_at;
"""


@contextmanager
def expire(server: Postgres) -> Iterator[Suite]:
    """Each side expires all lots of a copy of the same ledger, in one transaction."""
    owe_expiries(server, TEMPLATE, ACCOUNTS, LOTS_EACH)
    sides = {"expire_million_floor": lambda: _bare(server), "expire_million": lambda: _product(server)}
    yield Suite(sides, COMPARISONS)


def _product(server: Postgres) -> float:
    with copy(server, TEMPLATE) as database:
        with psycopg.connect(server.url(database), autocommit=True) as conn:
            clock = time.perf_counter()
            counts = conn.execute(_PRODUCT).fetchone()
            seconds = time.perf_counter() - clock
        assert counts == (ACCOUNTS, LOTS), counts
        with psycopg.connect(server.admin_url(database)) as conn:
            conn.execute("set work_mem = '256MB'")
            check(conn, "expiry", LOTS, bare=False)
    return LOTS / seconds


def _bare(server: Postgres) -> float:
    with (
        copy(server, TEMPLATE) as database,
        psycopg.connect(server.admin_url(database), autocommit=True) as conn,
    ):
        make_bare(conn)
        clock = time.perf_counter()
        conn.execute(_FLOOR)  # several statements in one message are one transaction
        seconds = time.perf_counter() - clock
        check(conn, "expiry", LOTS, bare=True)
    return LOTS / seconds
