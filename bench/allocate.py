"""Subscribers whose month begins → slots granted a second, against bare writes and against a loop over users.

`ALLOCATE_SLOTS=1000000` measures the million that the row is named after.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg

from bench.clone import copy
from bench.ledger import MONTHLY_CREDITS, check, make_bare, owe_slots
from bench.loop import allocate_one_by_one, sign_up
from bench.measure import Comparison, Suite, peak_megabytes
from devstack.postgres import Postgres

# A million take several minutes, and the ratio is the same.
SLOTS = 60_000
LOOP_USERS = 2_000
CHUNK = 10_000  # accounts that one call grants to, before it is committed
TEMPLATE = "allocate"
LOOP_TEMPLATE = "allocate_loop"

_PRODUCT = """
select accounts, slots_granted, credits_granted from billing.allocate_due_credits(accounts_max => %s)
"""
# Rows are read twice in the same order, so lots find their entries by counting.
_FLOOR = f"""
insert into billing.credit_entries (
    id, account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key,
    occurred_at
)
overriding system value
select
    {{slots}} + row_number() over (), account_id, 'grant', {MONTHLY_CREDITS}, 2 * {MONTHLY_CREDITS},
    'stripe.monthly_allocation', stripe_subscription_id, 'Monthly subscription credits for Pro', 'stripe',
    'monthly:' || stripe_subscription_item_id || ':' || to_char(next_slot_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), now()
from billing.credit_schedules;
insert into billing.credit_grants (
    account_id, entry_id, amount, remaining, effective_at, source, reference_id, key_space, idempotency_key,
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
)
select
    account_id, {{slots}} + row_number() over (), {MONTHLY_CREDITS}, {MONTHLY_CREDITS}, next_slot_at,
    'stripe.monthly_allocation', stripe_subscription_id, 'stripe',
    'monthly:' || stripe_subscription_item_id || ':' || to_char(next_slot_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
from billing.credit_schedules;
update billing.credit_balances set balance = balance + {MONTHLY_CREDITS}, updated_at = now();
update billing.credit_schedules set next_slot_at = next_slot_at + interval '1 month';
"""
_WRITTEN = """
select
    (select count(*) from billing.credit_grants),
    (select sum(balance) from billing.credit_balances),
    (select count(*) from billing.credit_schedules where next_slot_at > billing.current_time())
"""


@contextmanager
def allocate(server: Postgres) -> Iterator[Suite]:
    """Each side grants every slot that is due, of a copy of the same ledger."""
    slots = int(os.environ.get("ALLOCATE_SLOTS", SLOTS))
    owe_slots(server, TEMPLATE, slots)
    owe_slots(server, LOOP_TEMPLATE, LOOP_USERS)
    comparisons = (
        Comparison("allocate_million", "allocate_million_floor", "slots/s", 0.40, size=slots),
        # A call that finds nothing, against one that grants to a whole chunk.
        Comparison("allocate_again", "allocate_chunk", "ms", 0.10, size=slots),
        # What the server's process for the connection ever took, shared buffers included.
        Comparison("allocate_memory", "allocate_memory_floor", "MB", 1.50, size=slots),
        # How many times as fast as the loop, against what the bare insert reaches.
        Comparison("allocate_vs_loop", "allocate_vs_loop_floor", "times", 0.40, size=LOOP_USERS),
    )
    sides = {
        "allocate_million_floor": partial(_bare_million, server, slots),
        "allocate_million": partial(_million, server, slots),
        "allocate_vs_loop": partial(_against_loop, server),
    }
    yield Suite(sides, comparisons)


def _million(server: Postgres, slots: int) -> Mapping[str, float]:
    seconds, megabytes = _grant(server, TEMPLATE, slots)
    *of_chunks, of_nothing = seconds
    return {
        "allocate_million": (slots - 1) / sum(of_chunks),
        "allocate_chunk": 1000 * statistics.median(of_chunks),
        "allocate_again": 1000 * of_nothing,
        "allocate_memory": megabytes,
    }


def _bare_million(server: Postgres, slots: int) -> Mapping[str, float]:
    seconds, megabytes = _bare(server, TEMPLATE, slots)
    return {"allocate_million_floor": slots / seconds, "allocate_memory_floor": megabytes}


def _against_loop(server: Postgres) -> Mapping[str, float]:
    loop = _loop(server)
    seconds, _ = _grant(server, LOOP_TEMPLATE, LOOP_USERS)
    bare_seconds, _ = _bare(server, LOOP_TEMPLATE, LOOP_USERS)
    return {
        "allocate_vs_loop": (LOOP_USERS - 1) / sum(seconds[:-1]) / loop,
        "allocate_vs_loop_floor": LOOP_USERS / bare_seconds / loop,
    }


def _grant(server: Postgres, template: str, slots: int) -> tuple[Sequence[float], float]:
    """Seconds of each call, the last of which found nothing, and the megabytes that they took at most."""
    seconds: list[float] = []
    granted = [1, 1, MONTHLY_CREDITS]
    with copy(server, template) as database:
        with psycopg.connect(server.url(database), autocommit=True) as conn:
            # One account beforehand: the worker's connection, too, has its functions compiled and planned.
            assert conn.execute(_PRODUCT, [1]).fetchone() == tuple(granted)
            while True:
                clock = time.perf_counter()
                counts = conn.execute(_PRODUCT, [CHUNK]).fetchone()
                seconds.append(time.perf_counter() - clock)
                assert counts is not None
                if counts == (0, 0, 0):
                    break
                granted = [so_far + count for so_far, count in zip(granted, counts, strict=True)]
            megabytes = peak_megabytes(conn)
        assert granted == [slots, slots, MONTHLY_CREDITS * slots], granted
        with psycopg.connect(server.admin_url(database)) as conn:
            conn.execute("set work_mem = '256MB'")
            _check(conn, slots, bare=False)
    return seconds, megabytes


def _bare(server: Postgres, template: str, slots: int) -> tuple[float, float]:
    """Seconds and megabytes."""
    with (
        copy(server, template) as database,
        psycopg.connect(server.admin_url(database), autocommit=True) as conn,
    ):
        make_bare(conn)
        clock = time.perf_counter()
        conn.execute(_FLOOR.format(slots=slots))  # several statements in one message are one transaction
        seconds = time.perf_counter() - clock
        megabytes = peak_megabytes(conn)
        _check(conn, slots, bare=True)
    return seconds, megabytes


def _check(conn: psycopg.Connection, slots: int, *, bare: bool) -> None:
    """Both sides have written the same: an entry and a grant of each slot, its balance and its schedule."""
    check(conn, "grant", 2 * slots, bare=bare)
    written = conn.execute(_WRITTEN).fetchone()
    assert written == (2 * slots, 2 * MONTHLY_CREDITS * slots, slots), written


def _loop(server: Postgres) -> float:
    with (
        copy(server, LOOP_TEMPLATE) as database,
        psycopg.connect(server.url(database), autocommit=True) as conn,
    ):
        sign_up(conn, LOOP_USERS)
        clock = time.perf_counter()
        users = allocate_one_by_one(conn)
        seconds = time.perf_counter() - clock
        assert users == LOOP_USERS, users
    return LOOP_USERS / seconds
