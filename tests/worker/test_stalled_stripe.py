"""A Stripe that takes requests and answers none: what needs it waits, and nothing waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker import events
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, catalogue, paid, receive
from tests.worker.test_process import Process, start_worker, until

__all__ = ["start_worker"]  # a fixture

PACKS = 100
EVENTS_A_SECOND = 50
ACCOUNTS = 50
MONTHS = 6
P99_SECONDS = 1.0


@pytest.fixture
def stalled() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        local.control("faults", {"api": {"timeout": 1}})
        yield local


def pack(n: int) -> Event:
    return Event(
        "checkout.session.completed",
        events.checkout_session(n, mode="payment", subscription=None, invoice=None),
    )


class Observer:
    """Sees, on a connection of its own, when the credits of each payment are there."""

    def __init__(self, database: Database, count: int) -> None:
        self.seen: dict[str, float] = {}
        self._database, self._count = database, count
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        with self._database.connect() as conn:
            deadline = time.monotonic() + 60
            while len(self.seen) < self._count and time.monotonic() < deadline:
                found = conn.execute(
                    "select stripe_event_id from billing.stripe_events "
                    "where type = 'invoice.paid' and status = 'applied' and not stripe_event_id = any (%s)",
                    [list(self.seen)],
                ).fetchall()
                now = time.monotonic()
                self.seen |= {event_id: now for (event_id,) in found}

    def wait(self) -> None:
        self._thread.join()


@pytest.mark.slow
def test_fifty_events_a_second_go_on_beside_a_stalled_stripe(
    database: Database, start_worker: Callable[..., Process], stalled: Local
) -> None:
    with database.connect() as conn:
        accounts = [account_of(conn, create_user(database)) for _ in range(ACCOUNTS)]
        for n, account in enumerate(accounts):
            conn.execute("select billing.link_customer(%s, %s)", [account, f"cus_{n}"])
        receive(conn, *catalogue())
        receive(conn, *(pack(n) for n in range(PACKS)))
        worker = start_worker(database.url, STRIPE_API_KEY=KEY, STRIPE_API_BASE=stalled.url)
        # All threads are waiting for Stripe.
        in_hand = "select count(*) from billing.stripe_lookups where worker_pid is not null"
        until(lambda: conn.execute(in_hand).fetchone() == (8,), worker.log)
        conn.execute(
            "select billing.grant_credits(account_id => %s, amount => 5, idempotency_key => 'gift', "
            "expires_at => now() + interval '1 second')",
            [accounts[0]],
        )

        stream = [paid(n, month) for month in range(MONTHS) for n in range(ACCOUNTS)]
        observer, received = Observer(database, len(stream)), dict[str, float]()
        metronome, started = threading.Event(), time.monotonic()
        for number, event in enumerate(stream):
            metronome.wait(max(0.0, started + number / EVENTS_A_SECOND - time.monotonic()))
            received[event.id] = time.monotonic()
            receive(conn, event)
        observer.wait()

        delays = sorted(observer.seen[event_id] - at for event_id, at in received.items())
        p99 = delays[int(len(delays) * 0.99) - 1]
        print(f"p50 {delays[len(delays) // 2]:.3f} s, p99 {p99:.3f} s, longest {delays[-1]:.3f} s")
        assert p99 < P99_SECONDS

        expected = INITIAL_CREDITS + MONTHS * MONTHLY_CREDITS
        balances: Any = dict(
            conn.execute("select account_id, balance from billing.credit_balances").fetchall()
        )
        assert [balances[account] for account in accounts[1:]] == [expected] * (ACCOUNTS - 1)
        # The clock went on, too: the gift has expired.
        until(
            lambda: (
                conn.execute(
                    "select balance from billing.credit_balances where account_id = %s", [accounts[0]]
                ).fetchone()
                == (expected,)
            ),
            worker.log,
        )
        waiting = "select count(*) from billing.stripe_events where status = 'queued'"
        assert conn.execute(waiting).fetchone() == (PACKS,)
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []
        assert worker.process.poll() is None


def test_what_waited_for_stripe_goes_on_when_it_answers(
    database: Database, start_worker: Callable[..., Process], stalled: Local
) -> None:
    customer = stalled_customer(stalled)
    with database.connect() as conn:
        told = [
            Event(
                "customer.updated", customer | {"metadata": {"n": str(n)}}, created=int(customer["created"])
            )
            for n in range(2)
        ]  # of one second: only Stripe can tell which is later
        worker = start_worker(database.url, STRIPE_API_KEY=KEY, STRIPE_API_BASE=stalled.url)
        receive(conn, *told)
        in_hand = "select count(*) from billing.stripe_lookups where worker_pid is not null"
        until(lambda: conn.execute(in_hand).fetchone() == (1,), worker.log)
        stalled.control("faults", {})
        statuses = "select array_agg(status) from billing.stripe_events"
        until(lambda: conn.execute(statuses).fetchone() == (["applied", "applied"],), worker.log)
        assert conn.execute("select * from billing.stripe_lookups").fetchall() == []
        assert worker.stop() == 0


def stalled_customer(stalled: Local) -> dict[str, Any]:
    stalled.control("faults", {})
    made = stalled.customer()
    stalled.control("faults", {"api": {"timeout": 1}})
    [told] = stalled.events("customer.created")
    assert told["data"]["object"]["id"] == made.id
    return told["data"]["object"]
