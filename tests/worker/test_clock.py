"""What is due comes and goes by the worker's clock alone: in chunks, between batches, whatever Postgres says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.sql.calls import grant, hold, move_clock, value
from tests.sql.subscribers import A_MONTH, CREDITS, let_a_month_begin, subscribe_by_the_year
from tests.support import Database
from tests.worker.conftest import Shop
from tests.worker.events import paid
from worker.clock import CLOCK_SECONDS, Clock
from worker.run import run
from worker.settings import Settings

DEADLINE_SECONDS = 30
LEEWAY = timedelta(hours=1)


@pytest.fixture
def accounts(shop: Shop) -> list[UUID]:
    """Three accounts, each with a lot of 10 that expires soon and one of 5 that stays."""
    found = [shop.link(n) for n in (1, 2, 3)]
    soon = value(shop.app, "select now() + interval '10 minutes'")
    for account in found:
        grant(shop.app, account, 10, expires_at=soon)
        grant(shop.app, account, 5)
    return found


@pytest.fixture
def subscribers(shop: Shop) -> list[UUID]:
    """Three accounts that have paid for a year and have a month's credits."""
    return subscribe_by_the_year(shop.database, shop.app, 3)


@contextmanager
def running_worker(database: Database) -> Iterator[None]:
    stop = threading.Event()
    worker = threading.Thread(target=run, args=[Settings(database.url), stop])
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join(DEADLINE_SECONDS)
        assert not worker.is_alive()


def let_it_be_due(shop: Shop) -> None:
    with shop.database.connect(admin=True) as admin:
        move_clock(admin, LEEWAY)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_is_due_goes_without_any_movement(shop: Shop, accounts: list[UUID]) -> None:
    hold(shop.app, accounts[0], 4)
    lots, credits = figure("till_due_total", what="lot_expired"), figure("till_credits_expired_total")
    let_it_be_due(shop)
    with running_worker(shop.database):
        until(lambda: [shop.balance(account) for account in accounts] == [5, 5, 5])
        until(lambda: figure("till_credits_expired_total") == credits + 30)
    assert figure("till_due_total", what="lot_expired") == lots + 3
    assert shop.value("select status from billing.credit_holds") == "expired"
    shop.assert_sound()


def test_months_are_granted_without_any_event(shop: Shop, subscribers: list[UUID]) -> None:
    slots, credits = figure("till_slots_granted_total"), figure("till_credits_allocated_total")
    let_a_month_begin(shop.database)
    with running_worker(shop.database):
        until(lambda: [shop.balance(account) for account in subscribers] == [2 * CREDITS] * 3)
        until(lambda: figure("till_credits_allocated_total") == credits + 3 * CREDITS)
    assert figure("till_slots_granted_total") == slots + 3
    shop.assert_sound()


def test_full_chunk_of_months_is_followed_at_once_by_another_and_by_no_sweep(
    shop: Shop, subscribers: list[UUID], accounts: list[UUID]
) -> None:
    clock = Clock(allocated_max=2)
    assert clock.tick(shop.worker, 100.0) is False
    let_a_month_begin(shop.database)
    assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS) is True
    assert sorted(shop.balance(account) for account in subscribers) == [CREDITS, 2 * CREDITS, 2 * CREDITS]
    soon = value(shop.app, "select billing.current_time() + interval '10 minutes'")
    grant(shop.app, accounts[0], 1, expires_at=soon)
    with shop.database.connect(admin=True) as admin:
        move_clock(admin, A_MONTH + LEEWAY)
    assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS) is False
    assert [shop.balance(account) for account in subscribers] == [2 * CREDITS] * 3
    assert shop.balance(accounts[0]) == 6, "it was swept before its time"
    assert clock.tick(shop.worker, 100.0 + 2 * CLOCK_SECONDS) is False
    assert shop.balance(accounts[0]) == 5
    shop.assert_sound()


def test_a_full_chunk_is_followed_at_once_and_the_last_one_waits_for_the_next_tick(
    shop: Shop, accounts: list[UUID]
) -> None:
    let_it_be_due(shop)
    clock = Clock(swept_max=2)
    assert clock.tick(shop.worker, 100.0) is True
    assert sorted(shop.balance(account) for account in accounts) == [5, 5, 15]
    assert clock.tick(shop.worker, 100.0) is False
    assert [shop.balance(account) for account in accounts] == [5, 5, 5]
    shop.assert_sound()


def test_between_ticks_nothing_is_asked(shop: Shop) -> None:
    clock = Clock()
    assert clock.tick(shop.worker, 100.0) is False
    shop.worker.close()
    assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS * 0.99) is False
    with pytest.raises(psycopg.OperationalError):
        clock.tick(shop.worker, 100.0 + CLOCK_SECONDS)


def test_nothing_due_is_three_queries_that_write_nothing(
    shop: Shop, accounts: list[UUID], subscribers: list[UUID]
) -> None:
    asked: list[Any] = []

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
            asked.append(query)
            return super().execute(query, *arguments, **more)

    clock = Clock()
    clock.tick(shop.worker, 100.0)  # once a minute, accounts are compared with what they paid for
    shop.worker.cursor_factory = Cursor
    with shop.worker.transaction():
        assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS) is False
        assert len(asked) == 3
        written = shop.worker.execute("select pg_current_xact_id_if_assigned()").fetchone()
    assert written == (None,)


def test_an_account_in_use_is_left_for_later(shop: Shop, accounts: list[UUID]) -> None:
    let_it_be_due(shop)
    clock = Clock()
    with shop.app.transaction():
        shop.app.execute(
            "select from billing.credit_balances where account_id = %s for update", [accounts[0]]
        )
        assert clock.tick(shop.worker, 100.0) is False
    assert [shop.balance(account) for account in accounts] == [15, 5, 5]
    clock.tick(shop.worker, 100.0 + CLOCK_SECONDS)
    assert shop.balance(accounts[0]) == 5


def test_a_refusal_is_logged_and_events_are_drained_all_the_same(shop: Shop, accounts: list[UUID]) -> None:
    let_it_be_due(shop)
    clock = Clock()
    refused = figure("till_sweeps_refused_total")
    shop.worker.execute("set lock_timeout = '50ms'")
    with shop.app.transaction(), capture_logs() as logs:
        shop.app.execute("lock table billing.credit_grants in access exclusive mode")
        assert clock.tick(shop.worker, 100.0) is False
    assert [(line["event"], line["sqlstate"]) for line in logs] == [
        ("sweep_refused", "55P03"),
        ("proof_refused", "55P03"),
    ]
    assert figure("till_sweeps_refused_total") == refused + 1

    shop.receive(paid())
    assert shop.drain()
    assert [shop.balance(account) for account in accounts[1:]] == [15, 15]
    clock.tick(shop.worker, 100.0 + CLOCK_SECONDS)
    assert [shop.balance(account) for account in accounts[1:]] == [5, 5]
    shop.assert_sound()


def test_months_are_granted_where_sweeping_is_refused_and_the_other_way_round(
    shop: Shop, accounts: list[UUID], subscribers: list[UUID]
) -> None:
    let_a_month_begin(shop.database)
    clock = Clock(allocated_max=2, swept_max=1)
    refused = figure("till_allocations_refused_total"), figure("till_sweeps_refused_total")
    shop.app.execute("alter function billing.allocate_due_credits rename to allocate_due_credits_elsewhere")
    with capture_logs() as logs:
        assert clock.tick(shop.worker, 100.0) is True
        assert clock.tick(shop.worker, 100.0) is True
    # What was refused waits for its next turn, though there is more to sweep at once.
    assert [(line["event"], line["sqlstate"]) for line in logs] == [("allocation_refused", "42883")]
    assert sorted(shop.balance(account) for account in accounts) == [5, 5, 15]
    assert [shop.balance(account) for account in subscribers] == [CREDITS] * 3

    shop.app.execute("alter function billing.allocate_due_credits_elsewhere rename to allocate_due_credits")
    shop.app.execute("alter function billing.expire_due_credits rename to expire_due_credits_elsewhere")
    with capture_logs() as logs:
        assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS) is True
        assert clock.tick(shop.worker, 100.0 + CLOCK_SECONDS) is False
    assert [(line["event"], line["sqlstate"]) for line in logs] == [("sweep_refused", "42883")]
    assert [shop.balance(account) for account in subscribers] == [2 * CREDITS] * 3
    assert figure("till_allocations_refused_total") == refused[0] + 1
    assert figure("till_sweeps_refused_total") == refused[1] + 1
    shop.assert_sound()


def test_account_in_use_gets_its_month_later(shop: Shop, subscribers: list[UUID]) -> None:
    let_a_month_begin(shop.database)
    clock = Clock()
    with shop.app.transaction():
        shop.app.execute(
            "select from billing.credit_balances where account_id = %s for update", [subscribers[0]]
        )
        assert clock.tick(shop.worker, 100.0) is False
    assert [shop.balance(account) for account in subscribers] == [CREDITS, 2 * CREDITS, 2 * CREDITS]
    clock.tick(shop.worker, 100.0 + CLOCK_SECONDS)
    assert shop.balance(subscribers[0]) == 2 * CREDITS
    shop.assert_sound()


def test_a_worker_goes_on_where_sweeping_is_refused(shop: Shop, accounts: list[UUID]) -> None:
    shop.app.execute("alter function billing.expire_due_credits rename to expire_due_credits_elsewhere")
    shop.receive(paid())
    with running_worker(shop.database), capture_logs() as logs:
        until(lambda: shop.balance(accounts[0]) > 15)
        until(lambda: any(line["event"] == "sweep_refused" for line in logs))
    assert not any(line["event"] == "database_refused" for line in logs)


def test_a_lost_connection_is_for_the_one_who_reconnects(shop: Shop) -> None:
    shop.app.execute("select pg_terminate_backend(%s)", [shop.worker.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        Clock().tick(shop.worker, 100.0)
