"""Worker processes that are killed: what they had in hand goes on in seconds; an event that kills them is buried."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support import Database
from tests.worker.conftest import Shop
from tests.worker.events import paid, receive
from tests.worker.test_process import FIRST_MONTH, Process, balance, start_worker, until
from tests.worker.test_process import shop as shop_of
from worker.events.failures import ATTEMPTS_MAX
from worker.events.outcomes import Dead, Done

__all__ = ["start_worker"]  # a fixture

# The worker's own, whose normaliser is killed by one event.
_POISONED_WORKER = """
import os, signal, sys
from worker.events import drain as drain_module
from worker.events.inbox import start
from worker.sessions import connect
from worker.settings import Settings

normalise = drain_module.normalise
def die(message):
    if message.event_id == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return normalise(message)

drain_module.normalise = die
with connect(Settings(sys.argv[1])) as conn:
    start(conn)
    while drain_module.drain(conn):
        pass
"""


@pytest.mark.parametrize("is_alone", [False, True], ids=["another lives", "the next one starts"])
def test_what_a_killed_worker_held_goes_on_within_five_seconds(
    database: Database, start_worker: Callable[..., Process], is_alone: bool
) -> None:
    with shop_of(database) as (conn, account), database.connect() as app:
        victim = start_worker(database.url)
        catalogue = "select count(*) from billing.stripe_events where status = 'applied'"
        until(lambda: conn.execute(catalogue).fetchone() == (2,), victim.log)
        if not is_alone:
            # One that reads nothing as long as the other has it: there is one message.
            other = start_worker(database.url)
            until(lambda: '"connected"' in other.log(), other.log)
        with app.transaction():
            app.execute("select from billing.credit_balances where account_id = %s for update", [account])
            receive(conn, paid())
            holder = "select workers.pid from billing.workers join pgmq.q_stripe_events on vt = in_hand_until"
            until(lambda: conn.execute(holder).fetchone() is not None, victim.log)
            if is_alone:
                victim.process.kill()
                victim.process.wait()
            else:
                kill_holder(conn.execute(holder).fetchone(), victim, other, conn)
        if is_alone:
            next_one = start_worker(database.url)
            until(lambda: '"connected"' in next_one.log(), next_one.log)
        due_at = time.monotonic()
        until(lambda: balance(conn, account) == FIRST_MONTH, victim.log)
        assert time.monotonic() - due_at < 5
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []


def kill_holder(found: object, victim: Process, other: Process, conn: object) -> None:
    """Kill the process whose session has the message; which of the two read it is chance."""
    import psutil

    assert isinstance(found, tuple)
    ports = {
        row[0]
        for row in conn.execute(  # type: ignore[attr-defined]
            "select client_port from pg_stat_activity where pid = %s", [found[0]]
        ).fetchall()
    }
    for worker in (victim, other):
        connections = psutil.Process(worker.process.pid).net_connections("tcp")
        if any(connection.laddr.port in ports for connection in connections):
            worker.process.kill()
            worker.process.wait()
            return
    raise AssertionError("nobody has the message")


def test_an_event_that_kills_the_worker_is_buried_and_its_neighbours_live(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, 11)]
    killer = paid(11)
    shop.receive(*(paid(n) for n in range(1, 6)), killer, *(paid(n) for n in range(6, 11)))
    # All but its last three attempts.
    shop.app.execute(
        "update pgmq.q_stripe_events set read_ct = %s where message ->> 'event_id' = %s",
        [ATTEMPTS_MAX - 3, killer.id],
    )
    for _ in range(3):
        killed = subprocess.run(
            [sys.executable, "-c", _POISONED_WORKER, shop.database.url, killer.id],
            env=os.environ,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        shop.make_due()
    outcomes = {item.message.event_id: item.outcome for item in shop.drain()}
    buried = outcomes.pop(killer.id)
    assert isinstance(buried, Dead)
    assert f"crashed on each of {ATTEMPTS_MAX} attempts" in buried.reason
    assert set(outcomes.values()) <= {Done()}
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 10
    shop.assert_sound()
