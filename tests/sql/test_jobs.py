"""The queue of jobs: one worker has a job at a time, and no work is lost or waits for a dead one."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.databases import Databases
from tests.sql.calls import (
    LEASE_SECONDS,
    Connection,
    Row,
    begin_jobs,
    call,
    fetch,
    grant,
    link,
    make_jobs_due,
    spend,
    take_jobs,
    value,
)
from tests.sql.races import at_once
from tests.sql.test_lost_messages import restore
from tests.sql.test_packs import pack
from tests.sql.test_recharges import set_recharge
from tests.support import Database

KIND = "payment_link"


def enqueue(conn: Connection, *ids: str, kind: str = KIND) -> None:
    conn.execute("select billing._enqueue_jobs(%s, %s::text[])", [kind, list(ids)])


def jobs(conn: Connection) -> list[Row]:
    return fetch(conn, "select * from billing.queued_jobs()")


def ids(taken: list[Row]) -> list[str]:
    return [job["id"] for job in taken]


def retry(worker: Connection, job: Row, delay_seconds: int = 60, **more: Any) -> None:
    call(worker, "retry_job", msg_id=job["msg_id"], delay_seconds=delay_seconds, reason="no answer", **more)


def finish(worker: Connection, *taken: Row) -> None:
    call(worker, "finish_jobs", msg_ids=[job["msg_id"] for job in taken])


@contextmanager
def session(database: Database) -> Iterator[Connection]:
    with database.connect("billing_worker") as worker:
        call(worker, "start_worker")
        yield worker


def end(conn: Connection, worker: Connection) -> None:
    """End a session from outside, as the death of its process does."""
    conn.execute("select pg_terminate_backend(%s, 10000)", [worker.info.backend_pid])


# One job


def test_a_job_is_taken_once_and_gone_when_it_is_finished(conn: Connection, worker: Connection) -> None:
    enqueue(conn, "a", "b")
    first, second = take_jobs(worker, KIND)
    assert (first["kind"], first["id"], first["attempts"], second["id"]) == (KIND, "a", 1, "b")
    assert take_jobs(worker, KIND) == []
    finish(worker, first)
    assert ids(jobs(conn)) == ["b"]


def test_a_job_is_visible_when_its_change_is_committed(
    database: Database, conn: Connection, worker: Connection
) -> None:
    with database.connect(autocommit=False) as app:
        enqueue(app, "a")
        assert take_jobs(worker, KIND) == []
        app.rollback()
        assert take_jobs(worker, KIND) == []
        enqueue(app, "b")
        app.commit()
    assert ids(take_jobs(worker, KIND)) == ["b"]


def test_a_retried_job_is_due_after_its_delay_with_its_reason(conn: Connection, worker: Connection) -> None:
    enqueue(conn, "a")
    retry(worker, *take_jobs(worker, KIND))
    (job,) = jobs(conn)
    assert (job["attempts"], job["reason"], job["worker_pid"]) == (1, "no answer", None)
    assert take_jobs(worker, KIND) == []
    make_jobs_due(conn, timedelta(seconds=60))
    (again,) = take_jobs(worker, KIND)
    assert again["attempts"] == 2


def test_an_excused_attempt_does_not_count(conn: Connection, worker: Connection) -> None:
    enqueue(conn, "a")
    retry(worker, *take_jobs(worker, KIND), delay_seconds=0, excused=True)
    assert [job["attempts"] for job in take_jobs(worker, KIND)] == [1]


def test_each_kind_has_its_own_limit(conn: Connection, worker: Connection) -> None:
    enqueue(conn, *(str(n) for n in range(50)))
    enqueue(conn, "x", "y", "z", kind="recharge")
    enqueue(conn, "n", kind="customer_notification")
    found = fetch(
        worker,
        "select kind, id from billing.take_jobs(array['payment_link', 'recharge', 'fraud_action'], array[2, 1, 4], 60)",
    )
    assert [(job["kind"], job["id"]) for job in found] == [
        ("payment_link", "0"),
        ("payment_link", "1"),
        ("recharge", "x"),
    ]
    assert ids(take_jobs(worker, "customer_notification")) == ["n"]


def test_a_kind_that_is_not_known_is_refused(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="job_kind_is_known"):
        enqueue(conn, "a", kind="rocket_launch")


def test_a_message_of_an_unknown_kind_is_kept_for_a_worker_that_knows_it(
    conn: Connection, worker: Connection
) -> None:
    """As after the migrations of a newer version, whose worker is not there yet."""
    for message in ('{"kind": "rocket_launch", "id": "a"}', '{"id": "b"}'):
        conn.execute("select pgmq.send('billing_jobs', %s)", [message])
    enqueue(conn, "c")
    query = "select kind, id from billing.take_unknown_jobs(array['payment_link'], 3600)"
    assert [(row["kind"], row["id"]) for row in fetch(worker, query)] == [("rocket_launch", "a"), (None, "b")]
    assert fetch(worker, query) == [], "not before its time"
    assert ids(take_jobs(worker, KIND)) == ["c"]
    assert ids(jobs(conn)) == ["a", "b", "c"]
    make_jobs_due(conn, timedelta(hours=1))
    assert ids(take_jobs(worker, "rocket_launch")) == ["a"]


# Several workers


def test_two_workers_at_once_never_have_the_same_job(
    database: Database, conn: Connection, worker: Connection
) -> None:
    enqueue(conn, *(str(n) for n in range(60)))
    found: list[str] = []
    with database.connect("billing_worker") as other:
        while len(found) < 60:
            for taken in at_once(
                [lambda: take_jobs(worker, KIND, jobs_max=4), lambda: take_jobs(other, KIND, jobs_max=4)]
            ):
                assert isinstance(taken, list)
                found += ids(taken)
    assert sorted(found) == sorted(str(n) for n in range(60))


def test_jobs_that_another_worker_is_taking_are_skipped(
    database: Database, conn: Connection, worker: Connection
) -> None:
    enqueue(conn, "a", "b", "c")
    with database.connect("billing_worker") as other, worker.transaction():
        assert ids(take_jobs(worker, KIND, jobs_max=2)) == ["a", "b"]
        other.execute("set lock_timeout = '2s'")
        assert ids(take_jobs(other, KIND)) == ["c"]


def test_a_worker_with_an_expired_lease_can_neither_finish_nor_retry_anothers_job(
    database: Database, conn: Connection, worker: Connection
) -> None:
    enqueue(conn, "a")
    (slow,) = take_jobs(worker, KIND)
    make_jobs_due(conn, timedelta(seconds=LEASE_SECONDS))
    with database.connect("billing_worker") as other:
        (fast,) = take_jobs(other, KIND)
        finish(worker, slow)
        retry(worker, slow, delay_seconds=0)
        assert take_jobs(worker, KIND) == []
        (job,) = jobs(conn)
        assert (job["worker_pid"], job["attempts"]) == (other.info.backend_pid, 2)
        finish(other, fast)
    assert jobs(conn) == []


def test_jobs_of_a_dead_worker_are_due_when_another_worker_checks(
    database: Database, conn: Connection
) -> None:
    enqueue(conn, "a", "b")
    with session(database) as living, session(database) as dead:
        taken = take_jobs(dead, KIND)
        retry(dead, taken[1])
        call(living, "hand_back_stripe_events")
        assert take_jobs(living, KIND) == [], "its worker lives"
        end(conn, dead)
        call(living, "hand_back_stripe_events")
        assert [(job["id"], job["attempts"]) for job in take_jobs(living, KIND)] == [("a", 2)]


def test_jobs_of_a_dead_worker_come_before_those_that_came_later(
    database: Database, conn: Connection
) -> None:
    enqueue(conn, "a")
    with session(database) as living, session(database) as dead:
        take_jobs(dead, KIND)
        enqueue(conn, "b")
        end(conn, dead)
        call(living, "hand_back_stripe_events")
        assert ids(take_jobs(living, KIND, jobs_max=1)) == ["a"]


def test_jobs_of_a_dead_worker_are_due_when_the_next_one_starts(database: Database, conn: Connection) -> None:
    enqueue(conn, "a")
    with session(database) as dead:
        take_jobs(dead, KIND)
        end(conn, dead)
    with session(database) as next_worker:
        assert ids(take_jobs(next_worker, KIND)) == ["a"]


def test_jobs_that_may_have_crashed_several_workers_are_separated(
    database: Database, conn: Connection
) -> None:
    enqueue(conn, "a", "b", "c")
    for deaths in range(1, 4):
        make_jobs_due(conn)
        with session(database) as dead:
            assert len(take_jobs(dead, KIND)) == 3
            end(conn, dead)
        with session(database):
            waits = [row["due_at"] for row in jobs(conn)]
            assert len(set(waits)) == (1 if deaths < 3 else 3)
            assert value(conn, "select max(due_at) < now() + interval '4 seconds' from billing.queued_jobs()")


# What is lost


@pytest.fixture
def work(database: Database, conn: Connection, worker: Connection, account: UUID) -> set[tuple[str, str]]:
    """One row of each kind that is to be worked on."""
    pack(worker)
    link(conn, account)
    grant(conn, account, 150)
    set_recharge(conn, account)
    spend(conn, account, 60)
    conn.execute("update billing.settings set customer_notifications = '{receipt}'")
    conn.execute(
        "insert into billing.notifications (account_id, audience, kind, dedupe_key) "
        "values (%s, 'customer', 'receipt', 'r'), (%s, 'administrators', 'silence', 's')",
        [account, account],
    )
    conn.execute(
        "insert into billing.fraud_actions (account_id, action, status, reason, actor, decided_at) "
        "values (%s, 'refund', 'queued', 'r', 'ada', now())",
        [account],
    )
    conn.execute(
        "insert into billing.payment_links (livemode, stripe_price_id, options, params, params_hash, "
        "idempotency_key, stripe_payment_link_id, url, active, retired_at, retired_reason, deactivate_at) "
        "values (false, 'price_pack', '{}', '{}', 'x', 'k', 'plink_1', 'https://x', false, now(), 'price', now())"
    )
    conn.execute("select billing._follow_email('cus_1', 'a@example.com', 'b@example.com')")
    return {(row["kind"], row["id"]) for row in jobs(conn)}


BEGINS = {
    "payment_link": "begin_retired_links",
    "email_change": "begin_email_changes",
    "fraud_action": "begin_fraud_actions",
    "recharge": "begin_recharges",
    "administrators_notification": "begin_notifications",
    "customer_notification": "begin_notifications",
}


def proof(conn: Connection) -> list[str]:
    rows = fetch(
        conn, "select detail from billing.ledger_discrepancies where invariant = 'open_work_has_a_job'"
    )
    return sorted(row["detail"] for row in rows)


def test_each_kind_of_work_is_a_job_of_its_change(conn: Connection, work: set[tuple[str, str]]) -> None:
    assert {kind for kind, _ in work} == set(BEGINS)
    assert len(jobs(conn)) == len(work)
    assert proof(conn) == []


def test_work_without_a_job_is_listed_and_queued_again(
    database: Database, conn: Connection, worker: Connection, work: set[tuple[str, str]]
) -> None:
    with database.connect(admin=True) as admin:
        admin.execute("delete from pgmq.q_billing_jobs")
    assert proof(conn) == sorted(f"{kind} {id_} has no message in billing_jobs" for kind, id_ in work)
    assert value(worker, "select billing.requeue_jobs()") == len(work)
    assert {(row["kind"], row["id"]) for row in jobs(conn)} == work
    assert (proof(conn), value(worker, "select billing.requeue_jobs()")) == ([], 0)


def test_work_with_a_waiting_or_taken_job_is_not_lost(
    conn: Connection, worker: Connection, work: set[tuple[str, str]]
) -> None:
    for kind, function in BEGINS.items():
        assert len(begin_jobs(worker, function, kind)) == 1
    assert (proof(conn), value(worker, "select billing.requeue_jobs()")) == ([], 0)


def test_a_job_whose_row_needs_nothing_any_more_ends_when_it_is_taken(
    conn: Connection, worker: Connection, work: set[tuple[str, str]]
) -> None:
    conn.execute("update billing.payment_links set deactivate_at = null, deactivated_at = now()")
    conn.execute("update billing.customer_email_changes set settled_at = now()")
    conn.execute("update billing.fraud_actions set status = 'done'")
    conn.execute("update billing.recharges set status = 'failed', reason = 'paused', settled_at = now()")
    conn.execute("update billing.notifications set status = 'skipped', last_error = 'by hand'")
    for kind, function in BEGINS.items():
        assert begin_jobs(worker, function, kind) == []
    assert jobs(conn) == []


def test_a_second_message_of_one_row_does_nothing(
    database: Database, conn: Connection, worker: Connection, work: set[tuple[str, str]]
) -> None:
    """As where somebody sends one by hand: the row says that the work is done."""
    with database.connect(admin=True) as admin:
        admin.execute(
            "insert into pgmq.q_billing_jobs (vt, message) select now() + interval '1 hour', message "
            "from pgmq.q_billing_jobs where message ->> 'kind' = 'payment_link'"
        )
    (begun,) = begin_jobs(worker, "begin_retired_links", KIND)
    told = {"msg_id": begun["msg_id"], "link_id": begun["id"], "retry_in_seconds": None, "reason": None}
    call(worker, "record_retired_link", **told)
    make_jobs_due(conn)
    assert begin_jobs(worker, "begin_retired_links", KIND) == []
    assert KIND not in {row["kind"] for row in jobs(conn)}


# pgmq 1.5.1


@pytest.fixture
def restored(databases: Databases, database: Database, work: set[tuple[str, str]]) -> Iterator[Database]:
    with restore(databases, database) as copy:
        yield copy


def test_a_restore_that_left_the_queue_out_loses_no_job_and_fails_no_change(
    restored: Database, work: set[tuple[str, str]]
) -> None:
    with restored.connect() as conn, restored.connect("billing_worker") as worker:
        assert value(conn, "select to_regclass('pgmq.q_billing_jobs')") is None
        assert (len(proof(conn)), jobs(conn)) == (len(work), [])
        conn.execute(
            "insert into billing.notifications (audience, kind, dedupe_key) values ('administrators', 'silence', 't')"
        )
        call(worker, "start_worker")
        assert value(worker, "select billing.requeue_jobs()") == len(work) + 1
        assert proof(conn) == []
        assert {(job["kind"], job["id"]) for job in take_jobs(worker, *BEGINS)} > work
        owned = "select relrowsecurity from pg_class where oid = 'pgmq.q_billing_jobs'::regclass"
        assert value(conn, owned) is True


def test_the_queue_uses_no_column_that_pgmq_1_5_1_lacks(
    database: Database, conn: Connection, worker: Connection, work: set[tuple[str, str]]
) -> None:
    with database.connect(admin=True) as admin:
        admin.execute("alter table pgmq.q_billing_jobs drop column if exists last_read_at")
        admin.execute("alter table pgmq.a_billing_jobs drop column if exists last_read_at")
    columns = fetch(
        conn,
        "select attname from pg_attribute where attrelid = 'pgmq.q_billing_jobs'::regclass "
        "and attnum > 0 and not attisdropped order by 1",
    )
    assert [row["attname"] for row in columns] == [
        "enqueued_at",
        "headers",
        "message",
        "msg_id",
        "read_ct",
        "vt",
    ]
    for kind, function in BEGINS.items():
        (begun,) = begin_jobs(worker, function, kind)
        retry(worker, begun, delay_seconds=0, excused=True)
    for kind in BEGINS:
        finish(worker, *take_jobs(worker, kind))
    assert jobs(conn) == []


# Its cost


def test_a_poll_that_finds_nothing_writes_nothing(conn: Connection, worker: Connection) -> None:
    enqueue(conn, "n", kind="customer_notification")
    with worker.transaction():
        assert take_jobs(worker, *(kind for kind in BEGINS if kind != "customer_notification")) == []
        assert worker.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)


def test_jobs_that_wait_for_another_worker_cost_a_poll_nothing(database: Database, conn: Connection) -> None:
    """As notifications to customers, on a worker that has no mail server for them."""
    with database.connect(admin=True) as admin:
        enqueue(admin, *(str(n) for n in range(20_000)), kind="customer_notification")
        enqueue(admin, "a")
        admin.execute("analyze pgmq.q_billing_jobs")
        # As the worker's own session.
        admin.execute("set enable_seqscan = off")
        admin.execute("set plan_cache_mode = force_generic_plan")
        count = (
            "select (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int "
            "from pg_statio_all_tables where relname = 'q_billing_jobs'"
        )
        admin.execute("select pg_stat_force_next_flush()")
        before = value(admin, count)
        assert ids(take_jobs(admin, "payment_link", "recharge")) == ["a"]
        admin.execute("select pg_stat_force_next_flush()")
        assert 0 < value(admin, count) - before < 50
