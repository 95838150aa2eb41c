"""Subscribers whose month begins → slots granted a second, against bare writes and against a loop over users.

`ALLOCATE_SLOTS` makes them fewer than a million, for a quick look.
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
from cli.local.postgres import Postgres

SLOTS = int(os.environ.get("ALLOCATE_SLOTS", "1_000_000"))
LOOP_USERS = 5_000
CHUNK = 10_000  # accounts that one call grants to, before it is committed
ROUNDS_MAX = 3
TEMPLATE = "allocate"
LOOP_TEMPLATE = "allocate_loop"

COMPARISONS = (
    Comparison("allocate_million", floor="allocate_million_floor", unit="slots/s", wanted=0.25),
    # A call that finds nothing, against one that grants to a whole chunk.
    Comparison("allocate_again", floor="allocate_chunk", unit="ms", wanted=0.10),
    # What the server's process for the connection ever took, shared buffers included.
    Comparison("allocate_memory", floor="allocate_memory_floor", unit="MB", wanted=1.50),
    Comparison("allocate_vs_loop", floor="allocate_loop", unit="users/s", wanted=30.00),
)

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
    {SLOTS} + row_number() over (), account_id, 'grant', {MONTHLY_CREDITS}, 2 * {MONTHLY_CREDITS},
    'stripe.monthly_allocation', stripe_subscription_id, 'Monthly subscription credits for Pro', 'stripe',
    'monthly:' || stripe_subscription_item_id || ':' || to_char(next_slot_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), now()
from billing.credit_schedules;
insert into billing.credit_grants (
    account_id, entry_id, amount, remaining, effective_at, source, reference_id, key_space, idempotency_key,
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
)
select
    account_id, {SLOTS} + row_number() over (), {MONTHLY_CREDITS}, {MONTHLY_CREDITS}, next_slot_at,
    'stripe.monthly_allocation', stripe_subscription_id, 'stripe',
    'monthly:' || stripe_subscription_item_id || ':' || to_char(next_slot_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
from billing.credit_schedules;
"""
_NOT_MOVED = """
select count(*) from billing.credit_schedules where next_slot_at <= billing.current_time() or slots_granted <> 2
"""


@contextmanager
def allocate(server: Postgres) -> Iterator[Suite]:
    """Each side grants every slot that is due, of a copy of the same ledger."""
    owe_slots(server, TEMPLATE, SLOTS)
    owe_slots(server, LOOP_TEMPLATE, LOOP_USERS)
    sides = {
        "allocate_million_floor": partial(_bare, server),
        "allocate_million": partial(_million, server),
        "allocate_loop": partial(_loop, server),
        "allocate_vs_loop": partial(_as_many_as_the_loop, server),
    }
    yield Suite(sides, COMPARISONS, rounds_max=ROUNDS_MAX)


def _million(server: Postgres) -> Mapping[str, float]:
    seconds, megabytes = _grant(server, TEMPLATE, SLOTS)
    *of_chunks, of_nothing = seconds
    return {
        "allocate_million": (SLOTS - 1) / sum(of_chunks),
        "allocate_chunk": 1000 * statistics.median(of_chunks),
        "allocate_again": 1000 * of_nothing,
        "allocate_memory": megabytes,
    }


def _as_many_as_the_loop(server: Postgres) -> float:
    seconds, _ = _grant(server, LOOP_TEMPLATE, LOOP_USERS)
    return (LOOP_USERS - 1) / sum(seconds[:-1])


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
            check(conn, "grant", 2 * slots, bare=False)
            assert conn.execute(_NOT_MOVED).fetchone() == (0,), "schedules did not move on"
    return seconds, megabytes


def _bare(server: Postgres) -> Mapping[str, float]:
    with (
        copy(server, TEMPLATE) as database,
        psycopg.connect(server.admin_url(database), autocommit=True) as conn,
    ):
        make_bare(conn)
        clock = time.perf_counter()
        conn.execute(_FLOOR)  # several statements in one message are one transaction
        seconds = time.perf_counter() - clock
        megabytes = peak_megabytes(conn)
        check(conn, "grant", 2 * SLOTS, bare=True)
    return {"allocate_million_floor": SLOTS / seconds, "allocate_memory_floor": megabytes}


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
