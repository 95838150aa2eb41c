"""Locks, lost connections, poison and exhausted attempts: what was committed stays, what was not is tried again."""

import os
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from psycopg import errors
from structlog.testing import capture_logs

from tests.support import as_worker
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, paid
from worker.events import drain as drain_module
from worker.events import failures, inbox
from worker.events.apply import Job
from worker.events.drain import drain
from worker.events.failures import (
    ATTEMPTS_MAX,
    BACKOFF_MAX_SECONDS,
    backoff_seconds,
    is_of_installation,
    lacks_own_right,
    outcome_of_database_error,
)
from worker.events.fetch import StripeReader
from worker.events.outcomes import Dead, Done, Parked, RetryLater
from worker.sessions import PREPARE_AFTER

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS


def test_an_account_that_the_app_has_locked_delays_its_own_event_only(shop: Shop) -> None:
    busy, free = shop.link(1), shop.link(2)
    blocked, neighbour = paid(1), paid(2)
    with shop.database.connect() as app, app.transaction():
        app.execute("select from billing.credit_balances where account_id = %s for update", [busy])
        outcomes = shop.outcomes(blocked, neighbour)
        assert outcomes[neighbour.id] == Done()
        delayed = outcomes[blocked.id]
        assert isinstance(delayed, RetryLater)
        assert delayed.excused
        assert delayed.reason.startswith("55P03: ")
    assert (shop.balance(busy), shop.balance(free)) == (0, FIRST_MONTH)
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert shop.balance(busy) == FIRST_MONTH
    shop.assert_sound()


@pytest.mark.parametrize(
    "row",
    [
        "billing.accounts where id = %s",
        "billing.customers where account_id = %s",
        "billing.plans where %s is not null",
    ],
)
def test_no_row_that_the_app_has_locked_stalls_a_batch(shop: Shop, row: str) -> None:
    account = shop.link()
    event = paid()
    with shop.database.connect() as app, app.transaction():
        app.execute(f"select from {row} for update", [account])
        outcome = shop.outcome(event)
        assert outcome == Done() or (isinstance(outcome, RetryLater) and outcome.excused)
    shop.make_due()
    shop.drain()
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_locks_of_the_app_never_use_up_the_attempts(shop: Shop) -> None:
    account = shop.link()
    event = paid()
    shop.receive(event)
    shop.app.execute("update pgmq.q_stripe_events set read_ct = %s", [ATTEMPTS_MAX + 5])
    shop.app.execute("update billing.stripe_events set excused_attempts = %s", [ATTEMPTS_MAX + 5])
    with shop.database.connect() as app, app.transaction():
        app.execute("select from billing.credit_balances where account_id = %s for update", [account])
        assert isinstance(shop.drain()[0].outcome, RetryLater)
    excused = "select excused_attempts from billing.stripe_events where stripe_event_id = %s"
    assert shop.value(excused, event.id) == ATTEMPTS_MAX + 6
    assert shop.status(event) == "queued"


def test_an_event_is_given_up_after_its_last_attempt(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.link()
    event = paid()
    shop.receive(event)
    apply = drain_module.apply

    def fail(conn: psycopg.Connection[Any], jobs: list[Job]) -> Any:
        if any(job.commands for job in jobs):
            raise errors.InternalError_("cache lookup failed")
        return apply(conn, jobs)

    monkeypatch.setattr(drain_module, "apply", fail)
    for _ in range(ATTEMPTS_MAX - 1):
        assert isinstance(shop.drain()[0].outcome, RetryLater)
        shop.make_due()
    last = shop.drain()[0]
    assert (last.message.attempts, shop.status(event)) == (ATTEMPTS_MAX, "dead")
    assert isinstance(last.outcome, Dead)
    assert f"given up after {ATTEMPTS_MAX} attempts" in shop.last_error(event)
    shop.assert_sound()

    monkeypatch.undo()
    assert shop.value("select billing.retry_stripe_event(%s)", event.id) == "queued"
    retried = shop.drain()[0]
    assert (retried.message.attempts, retried.outcome) == (1, Done())
    shop.assert_sound()


def test_a_connection_lost_between_reading_and_applying_loses_nothing_and_repeats_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = shop.link()
    shop.receive(paid())
    apply = drain_module.apply

    def apply_on_a_dead_connection(conn: psycopg.Connection[Any], jobs: list[Job]) -> Any:
        shop.app.execute("select pg_terminate_backend(%s, 10000)", [conn.info.backend_pid])
        return apply(conn, jobs)

    monkeypatch.setattr(drain_module, "apply", apply_on_a_dead_connection)
    with pytest.raises(psycopg.OperationalError):
        drain(shop.worker)
    monkeypatch.undo()
    assert shop.balance(account) == 0

    shop.make_due()
    with as_worker(shop.database) as second:
        settled = drain(second)
    assert [(item.message.attempts, item.outcome) for item in settled] == [(2, Done())]
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_connection_lost_after_the_commit_repeats_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = shop.link()
    shop.receive(paid())
    apply = drain_module.apply

    def lose_the_answer(conn: psycopg.Connection[Any], jobs: list[Job]) -> Any:
        apply(conn, jobs)
        conn.close()
        raise psycopg.OperationalError("the answer was lost")

    monkeypatch.setattr(drain_module, "apply", lose_the_answer)
    with pytest.raises(psycopg.OperationalError):
        drain(shop.worker)
    shop.make_due()
    with as_worker(shop.database) as second:
        assert drain(second) == []
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


_POISONED_WORKER = """
import os, signal, sys
from worker.events import drain as drain_module
from worker.sessions import connect
from worker.settings import Settings

drain_module.normalise = lambda message: os.kill(os.getpid(), signal.SIGKILL)
with connect(Settings(sys.argv[1])) as conn:
    drain_module.drain(conn)
"""


def test_effects_of_events_are_committed_with_their_outcomes_or_not_at_all(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Event("customer.updated", events.customer(name="Ada"))
    shop.receive(event)
    named = "select count(*) from billing.customers where name = 'Ada'"

    def fail(*_: object) -> None:
        raise RuntimeError("the outcome is lost")

    with monkeypatch.context() as patched:
        patched.setattr("worker.events.inbox.settle", fail)
        with pytest.raises(RuntimeError, match="the outcome is lost"):
            drain(shop.worker)
    assert (shop.value(named), shop.status(event)) == (0, "queued")
    shop.make_due()
    shop.drain()
    assert (shop.value(named), shop.status(event)) == (1, "applied")


def test_an_event_that_kills_the_worker_has_its_attempts_counted(shop: Shop) -> None:
    account = shop.link()
    event = paid()
    shop.receive(event)
    for _ in range(3):
        killed = subprocess.run(
            [sys.executable, "-c", _POISONED_WORKER, shop.database.url], env=os.environ, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        shop.make_due()
    settled = shop.drain()
    assert [(item.message.attempts, item.outcome) for item in settled] == [(4, Done())]
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


# As an upgrade does while a worker runs: a function returns something else, and is found under its name.
UPGRADE = """
alter function billing.allocate_postponed() rename to allocate_postponed_before;
create function billing.allocate_postponed() returns integer language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$ begin perform billing.allocate_postponed_before(); return 1; end $$;
grant execute on function billing.allocate_postponed() to billing_worker;
"""


@pytest.mark.parametrize("waiting", [1, 3])
def test_an_upgrade_under_a_running_worker_costs_no_event(shop: Shop, waiting: int) -> None:
    """The session has kept the plans of statements, and Postgres refuses those that return something else now."""
    for n in range(PREPARE_AFTER + 2):
        shop.link(n)
        assert shop.outcome(paid(n)) == Done()
    kept = shop.worker.execute("select statement from pg_catalog.pg_prepared_statements").fetchall()
    assert any("allocate_postponed" in statement for (statement,) in kept)
    with shop.database.connect(admin=True) as conn:
        conn.execute(UPGRADE)
    numbers = range(100, 100 + waiting)
    accounts = [shop.link(n) for n in numbers]
    for n in numbers:
        shop.receive(paid(n))
    with pytest.raises(psycopg.OperationalError, match="an upgrade changed a function"):
        shop.drain()
    assert shop.worker.closed
    with as_worker(shop.database) as next_session:
        inbox.start(next_session)
        assert [item.outcome for item in drain(next_session)] == [Done()] * waiting
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * waiting
    shop.assert_sound()


def test_a_message_whose_event_is_gone_holds_up_nobody(shop: Shop) -> None:
    account = shop.link()
    shop.app.execute("select pgmq.send('stripe_events', '{\"event_id\": \"evt_nowhere\"}')")
    shop.receive(paid())
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert shop.balance(account) == FIRST_MONTH


def test_a_deadlock_with_the_app_is_a_retry_and_not_a_death(shop: Shop) -> None:
    outcome = outcome_of_database_error(errors.DeadlockDetected("deadlock detected"), attempts=99)
    assert isinstance(outcome, RetryLater)
    assert outcome.excused


def test_what_postgres_says_decides_by_its_code() -> None:
    cases: list[tuple[psycopg.Error, type]] = [
        (errors.SerializationFailure(), RetryLater),
        (errors.LockNotAvailable(), RetryLater),
        (errors.NumericValueOutOfRange(), Dead),
        (errors.InternalError_(), RetryLater),
        (errors.CheckViolation(), Dead),
        (errors.NotNullViolation(), Dead),
        (errors.UniqueViolation(), RetryLater),
        (errors.ForeignKeyViolation(), RetryLater),
        (psycopg.OperationalError("gone"), RetryLater),
    ]
    for error, kind in cases:
        assert isinstance(outcome_of_database_error(error, attempts=1), kind), error


def test_waiting_doubles_up_to_a_limit() -> None:
    for attempts in range(1, 40):
        longest = min(2**attempts, BACKOFF_MAX_SECONDS)
        seconds = [backoff_seconds(attempts) for _ in range(20)]
        assert max(1, longest // 2) <= min(seconds) <= max(seconds) <= longest


def test_a_parked_event_names_whom_it_waits_for(shop: Shop) -> None:
    event = paid(7)
    outcome = shop.outcome(event)
    assert outcome == Parked("cus_7", shop.last_error(event))
    assert "billing.link_customer" in shop.last_error(event)


def test_the_codes_that_wait_are_those_that_the_functions_raise(shop: Shop) -> None:
    sources = shop.value(
        "select string_agg(prosrc, '') from pg_catalog.pg_proc where pronamespace = 'billing'::regnamespace"
    )
    for code in (failures._PLAN_IS_MISSING, failures._CUSTOMER_IS_NOT_LINKED):
        assert f"errcode = '{code}'" in sources


def test_stripe_is_not_asked_for_an_event_that_needs_nothing_of_it(shop: Shop) -> None:
    shop.link()
    reader = StripeReader(None, None)
    assert reader.fetch([]) == {}
    assert shop.outcome(Event("charge.succeeded", events.charge())) == Done()


FAULTS = {
    "a privilege": (
        "revoke execute on function billing.sync_invoice from billing_worker",
        "grant execute on function billing.sync_invoice to billing_worker",
        "42501",
    ),
    "a function": (
        "alter function billing.sync_invoice rename to sync_invoice_elsewhere",
        "alter function billing.sync_invoice_elsewhere rename to sync_invoice",
        "42883",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_installation_stops_the_batch_and_counts_against_no_event(
    shop: Shop, fault: tuple[str, str, str]
) -> None:
    wrong, right, code = fault
    accounts = [shop.link(n) for n in range(1, 6)]
    shop.receive(*(paid(n) for n in range(1, 6)))
    shop.app.execute(wrong)
    for _ in range(ATTEMPTS_MAX + 2):
        with capture_logs() as logs, pytest.raises(psycopg.Error) as raised:
            drain(shop.worker)
        assert raised.value.sqlstate == code
        assert logs == [], "one error, which is logged by whoever reconnects"
        shop.make_due()
    counted = "select sum(attempts), sum(excused_attempts), count(last_error) from billing.stripe_events"
    assert shop.app.execute(f"{counted} where status = 'queued'").fetchone() == (0, 0, 0)
    shop.app.execute(right)
    settled = shop.drain()
    assert [(item.message.attempts, item.outcome) for item in settled] == [(1, Done())] * 5
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 5
    shop.assert_sound()


def test_one_event_that_meets_such_a_fault_does_not_hold_up_the_others(shop: Shop) -> None:
    account = shop.link()
    shop.receive(Event("charge.succeeded", events.charge()), paid())
    shop.app.execute("revoke execute on function billing.sync_payment from billing_worker")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        drain(shop.worker)
    waits = "select count(distinct vt), min(vt) > now(), max(vt) < now() + '10 s'::interval from pgmq.q_stripe_events"
    assert shop.app.execute(waits).fetchone() == (2, True, True)
    shop.app.execute(
        "update pgmq.q_stripe_events set vt = now() where message ->> 'event_id' = "
        "(select stripe_event_id from billing.stripe_events where type = 'invoice.paid')"
    )
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert shop.balance(account) == FIRST_MONTH


@pytest.mark.parametrize("count", [2**31, 2**63, 10**40])
def test_a_number_that_is_too_large_is_an_error_of_its_event_alone(shop: Shop, count: int) -> None:
    recurring = {"interval": "month", "interval_count": count, "usage_type": "licensed"}
    wrong = Event("price.updated", events.price(id="price_wrong", recurring=recurring))
    right = Event("customer.updated", events.customer())
    outcomes = shop.outcomes(wrong, right)
    assert isinstance(outcomes[right.id], Done)
    match outcomes[wrong.id]:
        case Dead(reason):
            assert reason.startswith("22003: ")
        case other:
            pytest.fail(f"{other}")


def test_codes_of_the_installation_are_no_codes_of_an_event() -> None:
    for error in (
        errors.UndefinedFunction(), errors.ReadOnlySqlTransaction(),
        errors.DiskFull(), errors.UndefinedTable(),
    ):  # fmt: skip
        assert is_of_installation(error), error
    for error in (
        errors.InsufficientPrivilege(),
        errors.CheckViolation(),
        errors.DeadlockDetected(),
        errors.InternalError_(),
    ):
        assert not is_of_installation(error), error


RAISES = "begin raise exception 'not for you' using errcode = '42501'; end"
WRITES = "begin insert into public.app_secrets values (1); return new; end"


@pytest.mark.parametrize("body", [RAISES, WRITES], ids=["raises", "lacks a right"])
def test_an_apps_trigger_that_is_not_permitted_stops_its_own_event_only(shop: Shop, body: str) -> None:
    blocked, free = shop.link(1), shop.link(2)
    with shop.database.connect(admin=True) as admin:
        admin.execute("create table public.app_secrets (id bigint)")
        admin.execute("revoke all on public.app_secrets from public, postgres")
        admin.execute(
            "create function public.app_trigger() returns trigger language plpgsql as $$" + body + "$$"
        )
        admin.execute(
            f"create trigger app_trigger before insert on billing.credit_entries for each row "
            f"when (new.account_id = '{blocked}') execute function public.app_trigger()"
        )
    event, other = paid(1), paid(2)
    outcomes = shop.outcomes(event, other)
    assert outcomes[other.id] == Done()
    refused = outcomes[event.id]
    assert isinstance(refused, RetryLater)
    assert refused.reason.startswith("42501: ")
    assert (shop.balance(blocked), shop.balance(free)) == (0, FIRST_MONTH)


@pytest.mark.parametrize(
    "right",
    [
        "execute on function billing.sync_invoice",
        "usage on schema billing",
        "execute on function billing.read_stripe_events",
    ],
)
def test_a_missing_right_of_the_workers_own_is_known_as_one(shop: Shop, right: str) -> None:
    shop.link()
    shop.receive(paid())
    shop.app.execute(f"revoke {right} from billing_worker".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        drain(shop.worker)
    assert lacks_own_right(refused.value)


def test_a_right_that_a_function_of_ours_lacks_is_known_as_one(shop: Shop) -> None:
    shop.link()
    shop.receive(paid())
    with shop.database.connect(admin=True) as admin:
        admin.execute("alter table pgmq.q_stripe_events owner to supabase_auth_admin")
        admin.execute("revoke all on pgmq.q_stripe_events from postgres, public")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        drain(shop.worker)
    assert lacks_own_right(refused.value)
