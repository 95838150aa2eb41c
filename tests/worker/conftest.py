"""A project with a plan and customers, and a worker's connection to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest

from tests.support import Database, account_of, as_worker, create_user
from tests.worker.events import Event, catalogue, receive
from tests.worker.stripe_stub import StripeStub, stripe_stub
from worker.events.drain import Settled, drain
from worker.events.fetch import StripeReader
from worker.events.lookups import Lookups, look_up
from worker.events.outcomes import Fetch, Outcome, Refetch
from worker.jobs import queue
from worker.jobs.handler import Handler
from worker.jobs.queue import Job
from worker.jobs.run import Jobs
from worker.run import STOP_SECONDS

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def drain_with_stripe(
    worker: psycopg.Connection[Any], stripe: StripeReader, batch_size: int = 50
) -> list[Settled]:
    """Drain until nothing is due, also at Stripe; how each attempt ended that did not end in a question to Stripe."""
    lookups, settled = Lookups(stripe), list[Settled]()
    try:
        while True:
            drained, answered = drain(worker, batch_size), list(look_up(worker, lookups))
            if not drained and not answered:
                return settled
            settled += [item for item in drained if not isinstance(item.outcome, Fetch | Refetch)] + answered
    finally:
        lookups.close()


def end(jobs: Jobs, worker: psycopg.Connection[Any]) -> None:
    """As a worker that is told to stop."""
    jobs.stop(worker)
    jobs.finish(worker, time.monotonic() + STOP_SECONDS)


def make_due(app: psycopg.Connection[Any]) -> int:
    """Let all time-outs and delays be over; how many messages wait."""
    app.execute("update billing.stripe_lookups set next_attempt_at = now()")
    return app.execute(
        "update pgmq.q_stripe_events as message set vt = case when exists ("
        "select from billing.stripe_lookups where stripe_event_id = message.message ->> 'event_id'"
        ") then vt else clock_timestamp() end"
    ).rowcount


def begin(
    worker: psycopg.Connection[Any], handler: Handler[Task, Any], *kinds: str
) -> list[tuple[Job, Task]]:
    """What a worker takes and begins; jobs that have nothing left to do are finished."""
    jobs = queue.take(worker, dict.fromkeys(kinds, handler.jobs_max))
    tasks = handler.begin(worker, jobs) if jobs else {}
    queue.finish(worker, [job for job in jobs if job.msg_id not in tasks])
    return [(job, tasks[job.msg_id]) for job in jobs if job.msg_id in tasks]


def work(worker: psycopg.Connection[Any], handler: Handler[Any, Answer], *kinds: str) -> list[Answer]:
    """One worker takes what is due, does it and records it; what it was answered."""
    answers: list[Answer] = []
    for job, task in begin(worker, handler, *kinds):
        answers.append(handler.do(job, task))
        handler.record(worker, job, task, answers[-1])
    return answers


@dataclass
class Shop:
    """The app's side of one database, and a worker that is run by hand."""

    database: Database
    app: psycopg.Connection[Any]
    worker: psycopg.Connection[Any]
    stripe: StripeReader

    def link(self, n: int = 1, email: str | None = None) -> UUID:
        """Sign a user up and link customer `cus_n`; returns the account."""
        account_id = account_of(self.app, create_user(self.database, email))
        self.app.execute("select billing.link_customer(%s, %s)", [account_id, f"cus_{n}"])
        return account_id

    def receive(self, *events: Event) -> None:
        receive(self.app, *events)

    def drain(self, batch_size: int = 50) -> list[Settled]:
        """Empty the queue of what is due now, and ask Stripe; everything that was settled, in order."""
        return drain_with_stripe(self.worker, self.stripe, batch_size)

    def outcomes(self, *events: Event) -> dict[str, Outcome]:
        """Receive events and drain; event id → its last outcome."""
        self.receive(*events)
        return {item.message.event_id: item.outcome for item in self.drain()}

    def outcome(self, event: Event) -> Outcome:
        return self.outcomes(event)[event.id]

    def status(self, event: Event) -> str:
        return self.value("select status from billing.stripe_events where stripe_event_id = %s", event.id)

    def last_error(self, event: Event) -> str:
        return self.value("select last_error from billing.stripe_events where stripe_event_id = %s", event.id)

    def value(self, query: str, *parameters: Any) -> Any:
        """The first column of the one row that a query finds, None where it finds none."""
        row = self.app.execute(query, list(parameters)).fetchone()
        return None if row is None else row[0]

    def balance(self, account_id: UUID) -> int:
        return self.value("select balance from billing.credit_balances where account_id = %s", account_id)

    def make_due(self) -> None:
        """Let the visibility time-outs and delays of all messages be over."""
        make_due(self.app)

    def is_busy(self) -> bool:
        """Whether something waits that was not tried ten times yet."""
        return self.value(
            "select exists (select from pgmq.q_stripe_events as message left join billing.stripe_lookups "
            "on stripe_event_id = message.message ->> 'event_id' where read_ct + coalesce(attempts, 0) < 10)"
        )

    def assert_sound(self) -> None:
        """The books hold, credits are those that were paid for, and each queued event has one message."""
        for proof in ("ledger_discrepancies", "entitlement_discrepancies"):
            assert self.app.execute(f"select * from billing.{proof}").fetchall() == []
        queued = "select stripe_event_id from billing.stripe_events where status = 'queued' order by 1"
        messages = "select message ->> 'event_id' from pgmq.q_stripe_events order by 1"
        assert self.app.execute(queued).fetchall() == self.app.execute(messages).fetchall()


@contextmanager
def opened(database: Database, stripe: StripeReader) -> Iterator[Shop]:
    """A shop with one plan in a database."""
    with database.connect() as app, as_worker(database) as worker:
        worker.execute("set statement_timeout = '10s'")  # a stall fails a test instead of hanging it
        shop = Shop(database, app, worker, stripe)
        shop.receive(*catalogue())
        assert len(shop.drain()) == 2
        yield shop


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """A project with one plan, whose worker has no key to read from Stripe with."""
    with opened(database, StripeReader(None, None)) as shop:
        yield shop


@pytest.fixture
def stripe() -> Iterator[StripeStub]:
    with stripe_stub() as stub:
        yield stub


@pytest.fixture
def shop_with_stripe(database: Database, stripe: StripeStub) -> Iterator[Shop]:
    """The same, with a Stripe to read from."""
    with opened(database, StripeReader("sk_test_1", stripe.url)) as shop:
        yield shop
