"""The runner of jobs: each kind by its handler, none waits for another, each job in one pair of hands."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.sql.calls import fetch, make_jobs_due, value
from tests.support import Database, as_worker
from tests.worker.conftest import end
from worker.errors import SettingsError
from worker.events import inbox
from worker.events.mend import Mender
from worker.jobs.handler import Handler
from worker.jobs.notify import Notifier
from worker.jobs.queue import Job, retry
from worker.jobs.run import REFUSED_SECONDS, REPORT_UNKNOWN_SECONDS, Jobs, handlers
from worker.run import jobs_of
from worker.settings import Settings
from worker.stripe_api import StripeAccess

Connection = psycopg.Connection[Any]
DEADLINE_SECONDS = 30


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with as_worker(database) as connection:
        inbox.start(connection)
        yield connection


class Kept(Handler[str, str]):
    """Does a job by noting its id; what it begins, does and records can be made to fail or to wait."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.over: set[str] = set()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.refused: str | None = None

    def begin(self, conn: Connection, jobs: Sequence[Job]) -> dict[int, str]:
        for job in jobs:
            conn.execute("select %s::integer", [job.id])
        return {job.msg_id: job.id for job in jobs if job.id not in self.over}

    def do(self, job: Job, task: str) -> str:
        self.goes_on.wait(DEADLINE_SECONDS)
        self.done.append(task)
        return task

    def record(self, conn: Connection, job: Job, task: str, answer: str) -> None:
        if self.refused is not None:
            conn.execute("select %s::integer", [self.refused])
        conn.execute("select billing.finish_jobs(%s)", [[job.msg_id]])

    def put_off(self, conn: Connection, job: Job, task: str, reason: str, delay_seconds: int) -> None:
        retry(conn, job, delay_seconds, reason)

    def describe(self, task: str) -> dict[str, str]:
        return {"id": task}


def enqueue(conn: Connection, *ids: str, kind: str = "payment_link") -> None:
    conn.execute("select billing._enqueue_jobs(%s, %s::text[])", [kind, list(ids)])


def waiting(conn: Connection) -> list[tuple[str, int, str | None]]:
    """Id, attempts and reason of what is in the queue."""
    rows = fetch(conn, "select id, attempts, reason from billing.queued_jobs()")
    return [(row["id"], row["attempts"], row["reason"]) for row in rows]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_are_done_and_removed(conn: Connection, worker: Connection) -> None:
    handler = Kept()
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1", "2")
    jobs.tick(worker, 0)
    until(lambda: len(handler.done) == 2)
    end(jobs, worker)
    assert (sorted(handler.done), waiting(conn)) == (["1", "2"], [])


def test_a_job_that_has_nothing_left_to_do_is_removed(conn: Connection, worker: Connection) -> None:
    handler = Kept()
    handler.over = {"1"}
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1", "2")
    jobs.tick(worker, 0)
    until(lambda: handler.done)
    end(jobs, worker)
    assert (handler.done, waiting(conn)) == (["2"], [])


def test_what_is_over_and_cannot_be_finished_leaves_the_others_begun_once(
    conn: Connection, worker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Kept()
    handler.over = {"1"}
    begun: list[str] = []
    begin = handler.begin

    def counting(conn: Connection, jobs: Sequence[Job]) -> dict[int, str]:
        begun.extend(job.id for job in jobs)
        return begin(conn, jobs)

    def refuse(*_: Any) -> None:
        raise psycopg.errors.DeadlockDetected

    monkeypatch.setattr(handler, "begin", counting)
    monkeypatch.setattr("worker.jobs.run.queue.finish", refuse)
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1", "2")
    jobs.tick(worker, 0)
    until(lambda: handler.done)
    end(jobs, worker)
    assert (begun, handler.done) == (["1", "2"], ["2"])
    assert waiting(conn) == [("1", 1, None)]


def test_a_stopping_worker_releases_jobs_that_no_thread_has_begun(
    conn: Connection, worker: Connection
) -> None:
    handler = Kept()
    handler.jobs_max = 6
    handler.goes_on.clear()
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, *(str(n) for n in range(6)))
    jobs.tick(worker, 0)
    jobs.stop(worker)
    assert [reason for _, _, reason in waiting(conn)] == [None] * 4 + [
        "the worker stopped before it was done"
    ] * 2
    jobs.finish(worker, time.monotonic())
    assert len(waiting(conn)) == 6, "the moment has come, so nothing is waited for"
    handler.goes_on.set()
    jobs.finish(worker, time.monotonic() + DEADLINE_SECONDS)
    assert len(waiting(conn)) == 2


def test_an_answer_that_meets_a_lock_is_recorded_later(
    database: Database, conn: Connection, worker: Connection
) -> None:
    handler = Kept()
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1")
    jobs.tick(worker, 0)
    until(lambda: handler.done)
    worker.execute("set lock_timeout = '50ms'")
    with database.connect(admin=True, autocommit=False) as app:
        app.execute("select from pgmq.q_billing_jobs for update")
        jobs.tick(worker, 0.1)
        app.rollback()
    assert waiting(conn) == [("1", 1, None)]
    end(jobs, worker)
    assert (handler.done, waiting(conn)) == (["1"], [])


def test_a_slow_kind_delays_no_other(conn: Connection, worker: Connection) -> None:
    slow, fast = Kept(), Kept()
    slow.goes_on.clear()
    jobs = Jobs({"payment_link": slow, "recharge": fast})
    enqueue(conn, *(str(n) for n in range(10)))
    enqueue(conn, "7", kind="recharge")
    jobs.tick(worker, 0)
    until(lambda: fast.done)
    jobs.tick(worker, 100)
    assert len([row for row in waiting(conn) if row[1]]) == slow.jobs_max, "no more is taken than can be done"
    slow.goes_on.set()
    end(jobs, worker)
    assert (fast.done, len(slow.done)) == (["7"], slow.jobs_max)


def test_jobs_are_polled_for_once_a_second_whatever_their_kinds(conn: Connection, worker: Connection) -> None:
    handler = Kept()
    jobs = Jobs(dict.fromkeys(["payment_link", "recharge", "fraud_action"], handler))
    jobs.tick(worker, 0)
    enqueue(conn, "1")
    for now_seconds in (0.2, 0.5, 0.9):
        jobs.tick(worker, now_seconds)
    assert waiting(conn) == [("1", 0, None)]
    jobs.tick(worker, 1.1)
    until(lambda: handler.done)
    end(jobs, worker)
    assert waiting(conn) == []


def test_an_unknown_kind_is_reported_and_kept_and_delays_nothing(
    conn: Connection, worker: Connection
) -> None:
    handler = Kept()
    jobs = Jobs({"payment_link": handler}, known=["recharge"])
    conn.execute('select pgmq.send(\'billing_jobs\', \'{"kind": "rocket_launch", "id": "9"}\')')
    enqueue(conn, "1")
    enqueue(conn, "2", kind="recharge")
    with capture_logs() as logs:
        jobs.tick(worker, 0)
        until(lambda: handler.done)
        end(jobs, worker)
        jobs.tick(worker, REPORT_UNKNOWN_SECONDS + 1)
    told = [
        (line["log_level"], line["kind"], line["id"])
        for line in logs
        if line["event"] == "job_of_unknown_kind"
    ]
    assert told == [("error", "rocket_launch", "9")]
    assert handler.done == ["1"]
    assert waiting(conn) == [("9", 1, "the worker knows no such kind of job"), ("2", 0, None)]


def test_a_job_that_cannot_be_begun_is_postponed_alone(conn: Connection, worker: Connection) -> None:
    handler = Kept()
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1", "no number", "3")
    with capture_logs() as logs:
        jobs.tick(worker, 0)
        until(lambda: len(handler.done) == 2)
        end(jobs, worker)
    assert sorted(handler.done) == ["1", "3"]
    [(id_, attempts, reason)] = waiting(conn)
    assert (id_, attempts, "no number" in (reason or "")) == ("no number", 1, True)
    assert value(conn, "select due_at > now() + interval '10 minutes' from billing.queued_jobs()")
    assert REFUSED_SECONDS > 600
    assert "job_not_begun" in [line["event"] for line in logs]


def test_an_answer_that_postgres_refuses_is_postponed(conn: Connection, worker: Connection) -> None:
    handler = Kept()
    handler.refused = "no number"
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1")
    jobs.tick(worker, 0)
    until(lambda: handler.done)
    end(jobs, worker)
    [(_, attempts, reason)] = waiting(conn)
    assert (attempts, "no number" in (reason or "")) == (1, True)
    handler.refused = None
    make_jobs_due(conn)
    jobs.tick(worker, 10)
    until(lambda: len(handler.done) == 2)
    end(jobs, worker)
    assert waiting(conn) == []


def test_a_job_in_a_thread_is_not_done_twice_after_a_lost_connection(
    database: Database, conn: Connection
) -> None:
    handler = Kept()
    handler.goes_on.clear()
    jobs = Jobs({"payment_link": handler})
    enqueue(conn, "1")
    with as_worker(database) as lost:
        inbox.start(lost)
        jobs.tick(lost, 0)
        conn.execute("select pg_terminate_backend(%s, 10000)", [lost.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            jobs.tick(lost, 10)
    with as_worker(database) as next_one:
        inbox.start(next_one)
        jobs.tick(next_one, 20)
        assert waiting(conn) == [("1", 2, None)]
        handler.goes_on.set()
        end(jobs, next_one)
    assert (handler.done, waiting(conn)) == (["1"], [])


def test_a_job_that_lost_its_message_is_queued_again_by_a_worker_that_starts(
    database: Database, conn: Connection, worker: Connection
) -> None:
    conn.execute(
        "insert into billing.notifications (audience, kind, dedupe_key) values ('administrators', 'silence', 'k')"
    )
    with database.connect(admin=True) as admin:
        admin.execute("delete from pgmq.q_billing_jobs")
    with capture_logs() as logs:
        Mender().tick(worker, 0)
    assert [line["count"] for line in logs if line["event"] == "jobs_requeued"] == [1]
    assert len(waiting(conn)) == 1


def test_every_kind_that_the_database_knows_has_a_handler(conn: Connection) -> None:
    definition = value(
        conn, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'job_kind_is_known'"
    )
    known = {kind for kind in handlers(StripeAccess(None, None), Notifier()) if f"'{kind}'" in definition}
    assert known == set(handlers(StripeAccess(None, None), Notifier()))
    assert definition.count("'::text") == len(known)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, set[str]()),
        ({"notify_urls": ("json://127.0.0.1:1/x",)}, {"administrators_notification"}),
        ({"customer_mail_url": "mailto://u:p@example.com"}, {"customer_notification"}),
    ],
    ids=["none", "administrators", "customers"],
)
def test_a_worker_takes_notifications_of_audiences_that_it_can_reach(
    conn: Connection, worker: Connection, settings: dict[str, Any], expected: set[str]
) -> None:
    kinds = ["administrators_notification", "customer_notification"]
    jobs = jobs_of(Settings("", **settings), StripeAccess(None, None))
    for kind in kinds:
        enqueue(conn, "404", kind=kind)
    jobs.tick(worker, 0)
    left = {row["kind"] for row in fetch(conn, "select kind from billing.queued_jobs()")}
    assert left == set(kinds) - expected


def test_an_invalid_url_stops_the_worker_before_it_takes_anything() -> None:
    with pytest.raises(SettingsError):
        jobs_of(Settings("", notify_urls=("nonsense://x",)), StripeAccess(None, None))
