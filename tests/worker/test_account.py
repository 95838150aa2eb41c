"""Whose STRIPE_API_KEY is → a worker that goes on, or stops at once; and what a 404 means until that is known."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.stripe_local.conftest import KEY, Local, _serve, until
from tests.support import Database, as_worker
from tests.worker import events
from tests.worker.conftest import Shop, opened
from tests.worker.events import JANUARY, Event
from worker.account import KeyCheck
from worker.errors import WrongStripeKey
from worker.events.fetch import StripeReader
from worker.events.outcomes import Done, RetryLater
from worker.jobs.charge import Charger
from worker.jobs.recharges import Recharge, Unknown
from worker.run import run
from worker.settings import Settings, is_live
from worker.stripe_api import StripeAccess

TIMEOUT_SECONDS = 60
RESTRICTED = "rk_test_restricted"


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def worker(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with as_worker(database) as connection:
        yield connection


def noted(conn: psycopg.Connection[Any]) -> str | None:
    row = conn.execute("select stripe_account_id from billing.settings").fetchone()
    assert row is not None
    return row[0]


def note(conn: psycopg.Connection[Any], stripe_account_id: str | None) -> None:
    conn.execute("update billing.settings set stripe_account_id = %s", [stripe_account_id])


def ask(worker: psycopg.Connection[Any], key: str | None, local: Local) -> KeyCheck:
    """A check that was made once."""
    check = KeyCheck(key, local.url)
    check.tick(worker, 0)
    until(lambda: check._asked is None or check._asked.done())
    check.tick(worker, 0)
    return check


def happen(conn: psycopg.Connection[Any], local: Local | None) -> None:
    """An event came: of the local Stripe, or of another account."""
    event = Event("customer.created", events.customer())
    if local is not None:
        local.client.customers.create({"email": "ada@example.com"})
        event = Event("customer.created", events.customer(), id=local.events("customer.created")[-1]["id"])
    events.receive(conn, event)


def restrict(local: Local, **scopes: str) -> None:
    """The restricted key may do no more than that."""
    local.world.settings.restricted_keys[RESTRICTED] = scopes


def test_the_first_key_s_account_is_noted_and_stays(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local
) -> None:
    assert ask(worker, KEY, local).is_ours
    assert noted(conn) == local.world.account_id
    assert ask(worker, KEY, local).is_ours
    local.world.account_id = "acct_another"
    with pytest.raises(WrongStripeKey, match=r"acct_another.*belongs to acct_1Tillbase"):
        ask(worker, KEY, local)
    assert noted(conn) != "acct_another"
    note(conn, None)
    assert ask(worker, KEY, local).is_ours
    assert noted(conn) == "acct_another"


def test_two_workers_at_first_note_one_account(
    database: Database, conn: psycopg.Connection[Any], local: Local
) -> None:
    with as_worker(database) as one, as_worker(database) as two:
        query = "select billing.claim_stripe_account(stripe_account_id => %s)"
        told = [one.execute(query, ["acct_1"]).fetchone(), two.execute(query, ["acct_2"]).fetchone()]
    assert told == [("acct_1",), ("acct_1",)]


def test_a_first_key_that_does_not_see_our_events_is_not_noted_nor_believed(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local
) -> None:
    happen(conn, None)
    assert not ask(worker, KEY, local).is_ours
    assert noted(conn) is None
    happen(conn, local)
    assert ask(worker, KEY, local).is_ours
    assert noted(conn) == local.world.account_id


@pytest.mark.parametrize("livemode", [False, True])
def test_a_key_of_the_other_mode_is_refused_before_stripe_is_asked(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local, livemode: bool
) -> None:
    conn.execute("update billing.settings set livemode = %s", [livemode])
    key = f"rk_{'test' if livemode else 'live'}_1"
    with pytest.raises(WrongStripeKey, match="mode"):
        KeyCheck(key, "http://127.0.0.1:1").tick(worker, 0)


def test_keys_name_their_mode() -> None:
    modes = {
        "sk_live_1": True,
        "rk_live_1": True,
        "sk_test_1": False,
        "rk_test_x_live_y": False,
        "test": None,
    }
    assert {key: is_live(key) for key in modes} == modes
    assert (is_live("pk_live_1"), is_live("sk_org_1")) == (None, None)


def test_a_restricted_key_is_known_by_an_event_that_it_sees(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local
) -> None:
    restrict(local, events="read")
    assert not ask(worker, RESTRICTED, local).is_ours
    happen(conn, local)
    assert ask(worker, RESTRICTED, local).is_ours
    assert noted(conn) is None
    note(conn, "acct_ours")
    happen(conn, None)
    with pytest.raises(WrongStripeKey, match="another Stripe account"):
        ask(worker, RESTRICTED, local)


def test_a_key_that_may_say_nothing_is_neither_known_nor_refused(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local
) -> None:
    restrict(local, customers="read")
    happen(conn, None)
    assert not ask(worker, RESTRICTED, local).is_ours


def test_stripe_being_away_stops_nobody_and_it_is_asked_again(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local
) -> None:
    check = KeyCheck(KEY, local.url)
    local.control("faults", {"api": {"500": 1}})
    check.tick(worker, 0)
    until(lambda: check._asked is not None and check._asked.done())
    check.tick(worker, 1)
    local.control("faults", {})
    check.tick(worker, 2)
    assert (check._asked, check.is_ours) == (None, False)
    check.tick(worker, 100)
    until(lambda: check._asked is not None and check._asked.done())
    check.tick(worker, 101)
    assert check.is_ours


def test_without_a_key_there_is_nothing_to_check(worker: psycopg.Connection[Any], local: Local) -> None:
    assert not ask(worker, None, local).is_ours


@contextmanager
def running(settings: Settings) -> Iterator[Callable[[], BaseException | None]]:
    """A worker in a thread; the call waits for its end → what it ended by."""
    stop = threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            run(settings, stop)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def wait() -> BaseException | None:
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()
        return ended[0] if ended else None

    try:
        yield wait
    finally:
        stop.set()
        thread.join(TIMEOUT_SECONDS)


def test_a_worker_notes_its_account_and_one_with_another_key_stops(
    database: Database, conn: psycopg.Connection[Any], local: Local
) -> None:
    settings = Settings(database.url, KEY, local.url)
    with running(settings):
        until(lambda: noted(conn))
    note(conn, "acct_ours")
    with running(settings) as wait:
        assert isinstance(wait(), WrongStripeKey)


@pytest.mark.parametrize("command", [["-m", "worker"], ["-c", "from cli.main import main; main()", "worker", "run"]],
                         ids=["python_-m_worker", "till_worker_run"])  # fmt: skip
def test_the_process_ends_with_one_line_and_1(
    database: Database, conn: psycopg.Connection[Any], local: Local, command: list[str]
) -> None:
    note(conn, "acct_ours")
    environment = {"POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url}
    ended = subprocess.run(
        [sys.executable, *command], env=os.environ | environment, capture_output=True, text=True, check=False,
        timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert ended.returncode == 1
    *logged, last = ended.stderr.splitlines()
    assert last.startswith("error: STRIPE_API_KEY is a key of Stripe account acct_1Tillbase")
    assert all(line.startswith("{") for line in logged)
    assert KEY not in ended.stderr


def test_a_404_is_believed_when_the_key_is_known_and_not_before(database: Database, local: Local) -> None:
    is_ours = False
    reader = StripeReader(KEY, local.url, lambda: is_ours)
    with opened(database, reader) as shop:
        created, updated = (Event(f"customer.{what}", events.customer()) for what in ("created", "updated"))
        shop.outcome(created)
        assert isinstance(shop.outcome(updated), RetryLater)
        assert "the Stripe account of STRIPE_API_KEY" in shop.last_error(updated)
        is_ours = True
        shop.make_due()
        assert [item.outcome for item in shop.drain()] == [Done()]
        shop.assert_sound()


def test_what_can_never_be_deleted_waits_for_the_right_key_too(database: Database, local: Local) -> None:
    with opened(database, StripeReader(KEY, local.url, lambda: False)) as shop:
        _tie(shop)


def _tie(shop: Shop) -> None:
    first, second = (
        Event("customer.subscription.updated", events.subscription(metadata={"n": str(n)}), JANUARY)
        for n in (1, 2)
    )
    shop.outcome(first)
    assert isinstance(shop.outcome(second), RetryLater)


def test_a_customer_that_is_not_there_fails_no_recharge_before_the_key_is_known(local: Local) -> None:
    recharge = Recharge(
        1, uuid4(), "cus_of_ours", "price_1", 2000, "usd", None, None, False, datetime.now(UTC), 0, []
    )  # fmt: skip
    unknown = Charger(StripeAccess(KEY, local.url, lambda: False)).charge(recharge)
    assert isinstance(unknown, Unknown)
    assert "is not known yet" in unknown.reason
    assert not isinstance(Charger(StripeAccess(KEY, local.url)).charge(recharge), Unknown)
