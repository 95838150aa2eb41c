"""The next batch is read in the transaction of this one: it is taken, counted and given back like any other."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.support import as_worker
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, paid
from worker.events import inbox
from worker.events.batches import Batches
from worker.events.drain import drain
from worker.events.failures import ATTEMPTS_MAX
from worker.events.outcomes import Dead, Done, Parked

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS


def customers(shop: Shop, count: int) -> list[Event]:
    """Events of as many customers, received in this order."""
    told = [
        Event("customer.updated", events.customer(id=f"cus_named_{uuid4().hex}", name=f"Name {n}"))
        for n in range(count)
    ]
    for event in told:
        shop.receive(event)
    return told


def ids_in_hand(shop: Shop) -> list[str]:
    """Of the messages that workers hold, the events'."""
    return [
        event_id
        for (event_id,) in shop.app.execute(
            "select message ->> 'event_id' from pgmq.q_stripe_events join billing.workers "
            "on msg_id = any (in_hand) and vt = in_hand_until order by msg_id"
        )
    ]


def attempts(shop: Shop, event: Event) -> int:
    """How often a waiting message was read."""
    return shop.value("select read_ct from pgmq.q_stripe_events where message ->> 'event_id' = %s", event.id)


def test_behind_a_full_batch_the_next_one_is_in_hand(shop: Shop) -> None:
    told = customers(shop, 5)
    batches = Batches(shop.worker, 2)
    assert [item.message.event_id for item in batches.settle_next()] == [event.id for event in told[:2]]
    assert ids_in_hand(shop) == [event.id for event in told[2:4]]
    assert [attempts(shop, event) for event in told[2:]] == [1, 1, 0]
    with as_worker(shop.database) as second:
        assert [item.message.event_id for item in drain(second)] == [told[4].id]
    assert [item.message.event_id for item in batches.settle_next()] == [event.id for event in told[2:4]]
    assert batches.settle_next() == []
    shop.assert_sound()


def test_behind_a_batch_that_is_not_full_nothing_is_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    customers(shop, 2)
    batches = Batches(shop.worker, 3)
    lock = inbox.lock

    def arrive(*locked: Any) -> None:
        lock(*locked)
        customers(shop, 1)
        shop.app.execute(
            "update pgmq.q_stripe_events set vt = enqueued_at - interval '1 second' where read_ct = 0"
        )

    monkeypatch.setattr(inbox, "lock", arrive)
    assert len(batches.settle_next()) == 2
    monkeypatch.undo()
    assert ids_in_hand(shop) == []
    shop.make_due()
    assert len(batches.settle_next()) == 1


def test_what_was_read_ahead_is_given_back_by_a_worker_that_stops(shop: Shop) -> None:
    told = customers(shop, 4)
    Batches(shop.worker, 2).settle_next()
    inbox.release(shop.worker)
    assert [attempts(shop, event) for event in told[2:]] == [0, 0]
    with as_worker(shop.database) as second:
        assert [(item.message.attempts, item.outcome) for item in drain(second)] == [(1, Done())] * 2
    shop.assert_sound()


def test_what_a_dead_worker_had_read_ahead_is_due_at_once(shop: Shop) -> None:
    told = customers(shop, 4)
    with as_worker(shop.database) as first:
        Batches(first, 2).settle_next()
        shop.app.execute("select pg_terminate_backend(%s, 10000)", [first.info.backend_pid])
    with as_worker(shop.database) as second:
        inbox.start(second)
        settled = drain(second)
    assert [(item.message.event_id, item.message.attempts) for item in settled] == [
        (event.id, 2) for event in told[2:]
    ]
    shop.assert_sound()


def test_a_batch_that_is_refused_has_read_nothing_ahead(shop: Shop) -> None:
    busy = shop.link(1)
    blocked = paid(1)
    shop.receive(blocked)
    others = customers(shop, 2)
    batches = Batches(shop.worker, 2)
    with shop.database.connect() as app, app.transaction():
        app.execute("select from billing.credit_balances where account_id = %s for update", [busy])
        settled = batches.settle_next()
        assert [item.message.event_id for item in settled] == [blocked.id, others[0].id]
        assert attempts(shop, others[1]) == 0
    assert [item.message.event_id for item in batches.settle_next()] == [others[1].id]
    shop.make_due()
    assert [item.outcome for item in batches.settle_next()] == [Done()]
    assert shop.balance(busy) == FIRST_MONTH
    shop.assert_sound()


def test_what_was_read_behind_a_batch_that_is_refused_is_read_again_at_once(shop: Shop) -> None:
    unlinked = paid(9)
    shop.receive(unlinked)
    others = customers(shop, 2)
    shop.app.execute("update pgmq.q_stripe_events set vt = enqueued_at - interval '1 minute'")
    batches = Batches(shop.worker, 2)
    settled = batches.settle_next()
    assert [item.message.event_id for item in settled] == [unlinked.id, others[0].id]
    assert isinstance(settled[0].outcome, Parked)
    assert attempts(shop, others[1]) == 0
    assert [item.message.event_id for item in batches.settle_next()] == [others[1].id]


def test_a_connection_lost_at_the_commit_leaves_both_batches_to_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = customers(shop, 4)
    settle = inbox.settle

    def lose(conn: psycopg.Connection[Any], outcomes: Any) -> None:
        settle(conn, outcomes)
        shop.app.execute("select pg_terminate_backend(%s, 10000)", [conn.info.backend_pid])

    monkeypatch.setattr(inbox, "settle", lose)
    with as_worker(shop.database) as first, pytest.raises(psycopg.OperationalError):
        Batches(first, 2).settle_next()
    monkeypatch.undo()
    assert [attempts(shop, event) for event in told] == [1, 1, 0, 0]
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()] * 4
    shop.assert_sound()


def test_what_was_read_ahead_too_long_ago_is_still_applied_once(shop: Shop) -> None:
    account = shop.link(3)
    customers(shop, 2)
    shop.receive(paid(3))
    batches = Batches(shop.worker, 2)
    assert len(batches.settle_next()) == 2
    shop.make_due()  # its time-out ends
    with as_worker(shop.database) as second:
        assert [item.outcome for item in drain(second)] == [Done()]
    assert [item.outcome for item in batches.settle_next()] == [Done()]
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_two_workers_that_read_ahead_do_nothing_twice(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, 41)]
    for n in range(1, 41):
        shop.receive(paid(n), paid(n), Event("customer.subscription.created", events.subscription(n)))

    def work(_: int) -> int:
        done = 0
        with as_worker(shop.database) as conn:
            batches = Batches(conn, 7)
            while batch := batches.settle_next():
                done += len(batch)
        return done

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(work, range(2)))
    shop.make_due()  # what a lock conflict delayed
    assert sum(counts) + len(shop.drain()) >= 120
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 40
    states = "select status, count(*) from billing.stripe_events group by status"
    assert shop.app.execute(states).fetchall() == [("applied", 122)]
    shop.assert_sound()


_WORKER = """
import os, signal, sys
from worker.events import drain as drain_module
from worker.events import inbox
from worker.events.batches import Batches
from worker.sessions import connect
from worker.settings import Settings

normalise = drain_module.normalise

def crash(message):
    if message.event_id == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return normalise(message)

drain_module.normalise = crash
with connect(Settings(sys.argv[1])) as conn:
    inbox.start(conn)
    batches = Batches(conn, 2)
    while batches.settle_next():
        pass
"""


def test_an_event_that_crashes_the_worker_does_not_use_up_the_attempts_of_the_batch_before(
    shop: Shop,
) -> None:
    told = customers(shop, 3)
    poison = told[2]
    for crashes in range(1, ATTEMPTS_MAX + 2):
        killed = subprocess.run(
            [sys.executable, "-c", _WORKER, shop.database.url, poison.id], env=os.environ, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert [shop.status(event) for event in told[:2]] == ["queued" if crashes == 1 else "applied"] * 2
        shop.app.execute("update pgmq.q_stripe_events set vt = enqueued_at")
    [settled] = shop.drain()
    assert settled.message.event_id == poison.id
    assert isinstance(settled.outcome, Dead)
    shop.assert_sound()


def test_events_of_another_account_are_ignored_in_a_batch_that_was_read_ahead(shop: Shop) -> None:
    customers(shop, 2)
    connected = Event("customer.updated", events.customer(id="cus_of_theirs"), more={"account": "acct_other"})
    shop.receive(connected)
    batches = Batches(shop.worker, 2)
    assert len(batches.settle_next()) == 2
    assert len(batches.settle_next()) == 1
    assert shop.status(connected) == "ignored"
    shop.assert_sound()
