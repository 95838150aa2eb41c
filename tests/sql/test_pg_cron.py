"""pg_cron as a clock: three jobs where it is enabled, nothing where it is not; whoever grants, a month comes once.

The local Postgres has no pg_cron. In its place is what we need of it: `cron.schedule(text, text, text)`, which puts a
job down in a table. These tests run a job's command themselves, as the role that scheduled it; none of them shows that
the real one does so.
"""

import pytest
from psycopg.rows import dict_row

from cli.commands.credits.scheduled import ALLOCATION, in_chunks
from devstack.migrate import migrate
from devstack.paths import migrations_directory
from tests.sql.calls import Connection, balance, discrepancies, fetch, grant, refused, value
from tests.sql.races import at_once
from tests.sql.subscribers import CREDITS, let_a_month_begin, subscribe_by_the_year
from tests.support import Database, as_role
from worker.clock import Clock

# As versions from 1.4 on have it: a second job of a name is the first one, changed. Jobs belong to a role.
PG_CRON = """
create schema cron;
create table cron.job (
    jobid bigint generated always as identity primary key,
    schedule text not null,
    command text not null,
    username text not null default current_user,
    jobname text not null,
    unique (jobname, username)
);
create function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql
begin atomic
    insert into cron.job (jobname, schedule, command) values (job_name, schedule, command)
    on conflict (jobname, username) do update set schedule = excluded.schedule, command = excluded.command
    returning jobid;
end;
grant usage on schema cron to postgres;
grant select, insert, update on cron.job to postgres;
"""
ALLOCATE = "select billing.allocate_due_credits(accounts_max => 2000)"
EXPIRE = "select billing.expire_due_credits(accounts_max => 2000)"
JOBS = [
    ("tillbase_allocate", "* * * * *", "postgres", ALLOCATE),
    ("tillbase_expire", "* * * * *", "postgres", EXPIRE),
    ("tillbase_watch", "* * * * *", "postgres", "select billing.watch()"),
]


def enable_pg_cron(database: Database) -> None:
    with database.connect(admin=True) as admin:
        admin.execute(PG_CRON)


def jobs(database: Database) -> list[tuple[str, ...]]:
    with database.connect(admin=True) as admin:
        query = "select jobname, schedule, username, command from cron.job order by jobid"
        return admin.execute(query).fetchall()


def test_a_push_schedules_where_pg_cron_is_enabled(empty_database: Database) -> None:
    enable_pg_cron(empty_database)
    migrate(empty_database.url, migrations_directory())
    assert jobs(empty_database) == JOBS


def test_a_push_does_nothing_where_postgres_may_not_schedule(empty_database: Database) -> None:
    enable_pg_cron(empty_database)
    with empty_database.connect(admin=True) as admin:
        admin.execute("revoke execute on function cron.schedule from public")
    migrate(empty_database.url, migrations_directory())
    assert jobs(empty_database) == []


def test_whoever_enables_pg_cron_later_calls_once_or_twice(database: Database, conn: Connection) -> None:
    with refused("0A000") as refusal:
        conn.execute("select billing.use_pg_cron()")
    assert "Enable it" in (refusal.value.diag.message_hint or "")

    enable_pg_cron(database)
    conn.execute("select billing.use_pg_cron()")
    conn.execute("update cron.job set command = 'of an older version'")
    conn.execute("select billing.use_pg_cron()")
    assert jobs(database) == JOBS


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "billing_worker"])
def test_nobody_but_postgres_schedules(conn: Connection, role: str) -> None:
    with refused("42501"), as_role(conn, role):
        conn.execute("select billing.use_pg_cron()")


def test_the_jobs_grant_and_expire(database: Database, conn: Connection) -> None:
    enable_pg_cron(database)
    conn.execute("select billing.use_pg_cron()")
    granted, expiring = subscribe_by_the_year(database, conn, 2)
    grant(conn, expiring, 10, expires_at=value(conn, "select now() + interval '1 day'"))
    let_a_month_begin(database)
    for _, _, _, command in reversed(jobs(database)):
        conn.execute(command.encode())
    assert (balance(conn, granted), balance(conn, expiring)) == (2 * CREDITS, 2 * CREDITS)
    assert discrepancies(conn) == []


def test_the_clock_a_person_and_pg_cron_at_once_grant_a_month_once(
    database: Database, conn: Connection, worker: Connection
) -> None:
    accounts = subscribe_by_the_year(database, conn, 12)
    enable_pg_cron(database)
    conn.execute("select billing.use_pg_cron()")
    [(_, _, _, allocate_by_cron), *_] = jobs(database)
    let_a_month_begin(database)

    clock = Clock(allocated_max=2)

    def by_clock() -> None:
        while clock.tick(worker, 100.0):
            pass

    with database.connect() as cron, database.connect(row_factory=dict_row) as person:
        now = value(conn, "select billing.current_time() as moment")

        def by_hand() -> None:
            for _ in in_chunks(person, ALLOCATION, now, len(accounts), 1):
                pass

        assert (
            at_once([by_clock, by_hand, lambda: cron.execute(allocate_by_cron.encode()) and None])
            == [None] * 3
        )
        for once_more in (by_clock, by_hand):
            once_more()
    assert [balance(conn, account) for account in accounts] == [2 * CREDITS] * 12
    keys = fetch(conn, "select idempotency_key from billing.credit_entries where kind = 'grant'")
    assert len({row["idempotency_key"] for row in keys}) == len(keys) == 24
    schedules = (
        "select min(next_slot_at) > billing.current_time() and count(*) = 12 from billing.credit_schedules"
    )
    assert value(conn, schedules)
    assert discrepancies(conn) == []
