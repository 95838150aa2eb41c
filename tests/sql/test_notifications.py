"""The outbox: handed out once, in few messages however many there are, tried again until somebody must look."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    LEASE_SECONDS,
    Connection,
    Row,
    answer,
    begin_jobs,
    call,
    fetch,
    fetch_one,
    make_jobs_due,
    refused,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user

RATE = 5
WINDOW = timedelta(minutes=10)
DEADLINE = timedelta(days=3)
EVERYBODY = ["administrators", "customer"]


def tell(conn: Connection, count: int = 1, kind: str = "fraud_warning", account: UUID | None = None) -> None:
    """Write notifications in one transaction: to the customer of an account, or to the administrators."""
    conn.execute(
        "insert into billing.notifications (account_id, audience, kind, dedupe_key, payload) "
        "select %(account)s, case when %(account)s::uuid is null then 'administrators' else 'customer' end, "
        "%(kind)s::text, format('%%s:%%s:%%s', %(kind)s::text, gen_random_uuid(), n), jsonb_build_object('n', n) "
        "from generate_series(1, %(count)s) as n",
        {"account": account, "kind": kind, "count": count},
    )


def take(worker: Connection, messages_max: int = 40, audiences: list[str] = EVERYBODY) -> list[Row]:
    """As a worker does it that has channels for these audiences."""
    kinds = [f"{audience}_notification" for audience in audiences]
    return begin_jobs(worker, "begin_notifications", *kinds, jobs_max=messages_max)


def settle(worker: Connection, message: Row, status: str = "delivered", **more: Any) -> str | None:
    arguments: Row = {
        "msg_id": message["msg_id"],
        "notification_id": message["id"],
        "attempts": message["attempts"],
        "delivered_to": [],
        "status": status,
        "retry_in_seconds": 60,
        "reason": None if status == "delivered" else "no answer",
    }
    return answer(worker, "record_notification", **(arguments | more))


def let_pass(conn: Connection, time_passed: timedelta) -> None:
    """What is due, or was tried, is so much longer ago."""
    conn.execute(
        "update billing.notifications set queued_at = queued_at - %(t)s, "
        "first_attempt_at = first_attempt_at - %(t)s",
        {"t": time_passed},
    )
    make_jobs_due(conn, time_passed)


def age(conn: Connection, days: int) -> None:
    conn.execute("update billing.notifications set created_at = created_at - %s", [timedelta(days=days)])


def opt_in(conn: Connection, *kinds: str) -> None:
    conn.execute("update billing.settings set customer_notifications = %s", [list(kinds)])


def statuses(conn: Connection) -> dict[str, int]:
    rows = fetch(conn, "select status, count(*) from billing.notifications group by status")
    return {row["status"]: row["count"] for row in rows}


def notification(conn: Connection, notification_id: int) -> Row:
    return fetch_one(conn, "select * from billing.notifications where id = %s", [notification_id])


def test_due_notifications_are_taken_once(conn: Connection, worker: Connection) -> None:
    tell(conn, 2)
    first, second = take(worker)
    assert (first["payload"], second["payload"]) == ({"n": 1}, {"n": 2})
    assert (first["attempts"], first["digest_size"], first["email"]) == (1, None, None)
    assert take(worker) == []
    assert settle(worker, first) == "delivered"
    let_pass(conn, timedelta(seconds=LEASE_SECONDS))
    (again,) = take(worker)
    assert (again["id"], again["attempts"]) == (second["id"], 2)
    assert again["created_at"] == second["created_at"]


def test_nothing_due_writes_nothing(conn: Connection, worker: Connection) -> None:
    tell(conn)
    take(worker)
    with worker.transaction():
        assert take(worker) == []
        assert worker.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)


def test_notifications_wait_if_no_worker_can_reach_their_audience(
    conn: Connection, worker: Connection
) -> None:
    tell(conn)
    assert take(worker, audiences=[]) == []
    assert statuses(conn) == {"queued": 1}
    assert len(take(worker)) == 1


def test_ten_thousand_at_once_are_one_digest(conn: Connection, worker: Connection) -> None:
    tell(conn, 10_000)
    began = time.monotonic()
    (digest,) = take(worker)
    assert time.monotonic() - began < 10
    assert (digest["digest_size"], digest["first"]) == (10_000, [{"n": n} for n in range(1, 6)])
    assert take(worker) == []
    assert statuses(conn) == {"sending": 1, "digested": 9_999}
    settle(worker, digest)
    assert statuses(conn) == {"delivered": 1, "digested": 9_999}


def test_a_slow_flood_is_a_few_messages_and_then_a_digest(conn: Connection, worker: Connection) -> None:
    sent: list[Row] = []
    for _ in range(100):
        tell(conn)
        found = take(worker)
        sent += found
        for message in found:
            settle(worker, message)
    assert [message["digest_size"] for message in sent] == [None] * RATE
    let_pass(conn, WINDOW)
    (digest,) = take(worker)
    assert digest["digest_size"] == 100 - RATE


def test_each_kind_has_its_own_rate(conn: Connection, worker: Connection) -> None:
    tell(conn, RATE, "silence")
    tell(conn, RATE + 1, "event_dead")
    assert sorted(message["digest_size"] or 1 for message in take(worker)) == [1] * RATE + [RATE + 1]


def test_a_batch_smaller_than_the_rate_does_not_break_it(conn: Connection, worker: Connection) -> None:
    tell(conn, RATE)
    assert len(take(worker, messages_max=3)) == 3
    tell(conn, 10)
    (rest,) = take(worker, messages_max=3)
    assert rest["digest_size"] == RATE - 3 + 10


def test_customers_receive_only_enabled_kinds(conn: Connection, worker: Connection, account: UUID) -> None:
    tell(conn, account=account, kind="low_balance")
    assert take(worker) == []
    assert statuses(conn) == {"skipped": 1}
    opt_in(conn, "low_balance")
    tell(conn, account=account, kind="low_balance")
    tell(conn, account=account, kind="receipt")
    (message,) = take(worker)
    assert message["kind"] == "low_balance"
    assert statuses(conn) == {"skipped": 2, "sending": 1}


def test_disabled_kinds_are_skipped_even_if_the_worker_can_reach_customers(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    tell(conn, 300, account=account)
    assert take(worker, audiences=["administrators"]) == []
    call(worker, "skip_notifications")
    assert statuses(conn) == {"skipped": 300}
    assert fetch(conn, "select * from billing.queued_jobs()") == []


def test_mail_goes_to_the_owners_current_address(
    database: Database, conn: Connection, worker: Connection
) -> None:
    user = create_user(database, "old@example.com")
    account = account_of(conn, user)
    opt_in(conn, "receipt")
    for address in ("old@example.com", "new@example.com"):
        conn.execute("update auth.users set email = %s where id = %s", [address, user])
        tell(conn, account=account, kind="receipt")
        (message,) = take(worker)
        assert message["email"] == address
    with database.connect(admin=True) as admin:
        admin.execute("delete from auth.users where id = %s", [user])
    tell(conn, account=account, kind="receipt")
    (message,) = take(worker)
    assert message["email"] is None


def test_each_customer_has_digests_of_their_own(
    database: Database, conn: Connection, worker: Connection, account: UUID
) -> None:
    other = account_of(conn, create_user(database))
    opt_in(conn, "receipt")
    tell(conn, RATE + 1, account=account, kind="receipt")
    tell(conn, RATE, account=other, kind="receipt")
    found = take(worker)
    assert [message["digest_size"] for message in found if message["account_id"] == account] == [RATE + 1]
    assert [message["digest_size"] for message in found if message["account_id"] == other] == [None] * RATE


def test_customers_do_not_receive_notifications_after_the_deadline(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    opt_in(conn, "receipt")
    tell(conn, account=account, kind="receipt")
    tell(conn)
    let_pass(conn, DEADLINE + timedelta(seconds=1))
    (message,) = take(worker)
    assert message["audience"] == "administrators"
    (late,) = fetch(conn, "select * from billing.notifications where audience = 'customer'")
    assert (late["status"], "not sent in time" in late["last_error"]) == ("dead", True)
    assert answer(conn, "retry_notification", notification_id=late["id"]) == "queued"
    assert len(take(worker)) == 1


def test_a_failure_is_retried_until_the_deadline(conn: Connection, worker: Connection) -> None:
    tell(conn)
    (message,) = take(worker)
    assert settle(worker, message, "queued", delivered_to=["b"]) == "queued"
    assert take(worker) == []
    let_pass(conn, timedelta(seconds=60))
    (message,) = take(worker)
    assert (message["attempts"], message["delivered_to"]) == (2, ["b"])
    let_pass(conn, DEADLINE)
    assert settle(worker, message, "queued", delivered_to=["a", "b"]) == "dead"
    row = notification(conn, message["id"])
    assert (row["delivered_to"], row["last_error"]) == (["a", "b"], "no answer (given up after 2 attempts)")


@pytest.mark.parametrize("status", ["dead", "skipped"])
def test_a_dead_notification_can_be_retried(conn: Connection, worker: Connection, status: str) -> None:
    tell(conn)
    (message,) = take(worker)
    assert settle(worker, message, status, delivered_to=["a"]) == status
    assert answer(conn, "retry_notification", notification_id=message["id"]) == "queued"
    (again,) = take(worker)
    assert (again["attempts"], again["delivered_to"]) == (1, ["a"])
    settle(worker, again)
    assert answer(conn, "retry_notification", notification_id=message["id"]) == "delivered"
    assert take(worker) == []


def test_retrying_an_unknown_notification_is_refused(app: Connection) -> None:
    with refused("TB065"):
        answer(app, "retry_notification", notification_id=404)


def test_a_worker_with_an_expired_lease_cannot_change_anothers_outcome(
    conn: Connection, worker: Connection
) -> None:
    tell(conn)
    (slow,) = take(worker)
    let_pass(conn, timedelta(seconds=LEASE_SECONDS))
    (fast,) = take(worker)
    assert settle(worker, slow, "dead") is None
    assert settle(worker, fast) == "delivered"
    assert settle(worker, fast, "queued") is None
    assert notification(conn, fast["id"])["status"] == "delivered"


def test_a_worker_with_an_expired_lease_can_record_a_success(conn: Connection, worker: Connection) -> None:
    tell(conn)
    (slow,) = take(worker)
    let_pass(conn, timedelta(seconds=LEASE_SECONDS))
    (fast,) = take(worker)
    assert settle(worker, slow) == "delivered"
    assert settle(worker, fast, "queued") is None
    let_pass(conn, timedelta(days=1))
    assert take(worker) == []


def test_a_job_ends_with_a_message_that_another_worker_has_recorded(
    database: Database, conn: Connection, worker: Connection
) -> None:
    """Before, it stayed in hand until its lease was over, and no worker did anything with it."""
    tell(conn)
    (slow,) = take(worker)
    let_pass(conn, timedelta(seconds=LEASE_SECONDS))
    with database.connect("billing_worker") as other:
        (fast,) = take(other)
        assert settle(worker, slow) == "delivered"
        assert value(conn, "select count(*) from pgmq.q_billing_jobs") == 1
        assert settle(other, fast) is None
    assert value(conn, "select count(*) from pgmq.q_billing_jobs") == 0


def test_a_digest_that_is_retried_stays_one(conn: Connection, worker: Connection) -> None:
    tell(conn, 50)
    (digest,) = take(worker)
    settle(worker, digest, "dead")
    tell(conn, 50)
    answer(conn, "retry_notification", notification_id=digest["id"])
    let_pass(conn, WINDOW)
    assert [message["digest_size"] for message in [*take(worker), *take(worker)]] == [50, 50]


def test_concurrent_workers_never_have_the_same_message(
    database: Database, conn: Connection, worker: Connection
) -> None:
    conn.execute("update billing.settings set notification_rate = 1000")
    for _ in range(60):
        tell(conn)
    with database.connect("billing_worker") as other:
        found: list[int] = []
        while len(found) < 60:
            for taken in at_once([lambda: take(worker, 4), lambda: take(other, 4)]):
                assert not isinstance(taken, psycopg.Error)
                found += [message["id"] for message in taken]
    assert len(set(found)) == 60


def test_concurrent_workers_decide_about_a_kind_one_after_the_other(
    database: Database, conn: Connection, worker: Connection
) -> None:
    """The second one counts what the first one has just begun."""
    tell(conn, RATE)
    worker.autocommit = False
    with database.connect("billing_worker") as other:
        assert len(take(worker, messages_max=2)) == 2
        tell(conn, 10)
        with blocked(other, conn, lambda: take(other)) as taking:
            worker.commit()
            assert [message["digest_size"] for message in taking.result()] == [RATE - 2 + 10]
    assert statuses(conn) == {"sending": 3, "digested": RATE - 2 + 10 - 1}


def test_no_notification_joins_a_digest_that_is_ended_concurrently(
    database: Database, conn: Connection, worker: Connection
) -> None:
    tell(conn, RATE + 10)
    with database.connect(admin=True, autocommit=False) as ending:
        ending.execute(
            "update billing.notifications set status = 'dead', last_error = 'too late' "
            "where id = (select min(id) from billing.notifications)"
        )
        with blocked(worker, conn, lambda: take(worker)) as taking:
            ending.commit()
            [digest] = taking.result()
    assert digest["digest_size"] == RATE + 9
    assert statuses(conn) == {"dead": 1, "sending": 1, "digested": RATE + 8}


def test_two_workers_never_send_more_than_the_rate(
    database: Database, conn: Connection, worker: Connection
) -> None:
    tell(conn, 3 * RATE)
    with database.connect("billing_worker") as other:
        taken = at_once([lambda: take(worker, 8), lambda: take(other, 8)])
    sizes = [message["digest_size"] for rows in taken if isinstance(rows, list) for message in rows]
    assert sizes == [3 * RATE]
    assert statuses(conn) == {"sending": 1, "digested": 3 * RATE - 1}


def test_old_delivered_notifications_are_deleted_with_their_digests(
    conn: Connection, worker: Connection
) -> None:
    tell(conn, 20)
    (digest,) = take(worker)
    tell(conn, 20, "event_dead")
    (dead,) = take(worker)
    settle(worker, dead, "dead")
    tell(conn, kind="silence")
    age(conn, 91)
    assert answer(worker, "prune_notifications", rows_max=100) == 0
    settle(worker, digest)
    assert answer(worker, "prune_notifications", rows_max=100) == 1
    assert statuses(conn) == {"dead": 1, "digested": 19, "queued": 1}
    assert answer(worker, "prune_notifications", rows_max=100) == 0


def test_recent_notifications_are_kept(conn: Connection, worker: Connection) -> None:
    tell(conn)
    (message,) = take(worker)
    settle(worker, message)
    age(conn, 89)
    assert answer(worker, "prune_notifications", rows_max=100) == 0
    assert value(conn, "select count(*) from billing.notifications") == 1


def test_retention_shorter_than_stripes_replays_is_refused(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("update billing.settings set notification_retention = '29 days'")
