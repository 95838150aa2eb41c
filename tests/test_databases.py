"""A test begins in a database that nothing tells from a new copy of its template, whatever the one before it did."""

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from devstack.scaffold import DefaultGrants, clone_database
from tests.databases import Databases
from tests.support import Database, create_user

ROWS = {
    "a sign-up": lambda database: create_user(database) and None,
    "many rows": "insert into auth.users (id) select gen_random_uuid() from generate_series(1, 200)",
    "new rows": "insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com')",
    "changed rows": "update billing.settings set past_due_keeps_features = false; update billing.clock set id = id",
    "deleted rows": "delete from billing.fraud_policies",
    "used numbers": "select nextval(seqrelid) from pg_sequence",
}
MORE_THAN_ROWS = {
    "a table": "create table public.left_behind ()",
    "a table less": "drop table billing.notifications cascade",
    "a function": "create or replace function billing._up_since() returns timestamptz language sql return now()",
    "a right": "grant select on billing.credit_entries to anon",
    "a comment": "comment on table billing.accounts is 'left behind'",
    "a queue": "select pgmq.create('left_behind')",
    "statistics": "analyze billing.settings",
    "a truncated table": "truncate billing.fraud_policies",
    "a setting": "do $$ begin execute format('alter database %I set work_mem = ''1MB''', current_database()); end $$",
    "a large object": "select lo_create(0)",
}


@pytest.fixture
def name(template: Callable[[DefaultGrants], str]) -> str:
    return template("none")


def contents(database: Database) -> list[Any]:
    """All rows in the order in which they lie, what sequences give next, and what the planner knows of sizes."""
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        tables = conn.execute(
            "select oid::regclass::text, relpages, reltuples, pg_relation_size(oid) <= 8192 from pg_class "
            "where relkind = 'r' and relnamespace <> all "
            "(array['pg_catalog', 'information_schema']::regnamespace[]) order by 1"
        ).fetchall()
        rows = [conn.execute(f"select t::text from {table} as t".encode()).fetchall() for table, *_ in tables]
        sequences = conn.execute("select seqrelid::regclass::text from pg_sequence order by 1").fetchall()
        values = [
            conn.execute(f"select last_value, is_called from {name}".encode()).fetchone()
            for (name,) in sequences
        ]
        catalogue = conn.execute(
            "select count(*), (select count(*) from pg_proc), (select md5(string_agg(prosrc, '' order by oid)) from "
            "pg_proc), (select md5(string_agg(relacl::text, '' order by oid)) from pg_class), (select count(*) from "
            "pg_description), (select count(*) from pg_statistic), (select count(*) from pg_largeobject_metadata), "
            "current_setting('work_mem') from pg_class"
        ).fetchall()
    return [tables, rows, values, catalogue]


def new(databases: Databases, name: str) -> list[Any]:
    """The contents of a copy that no test has had."""
    database = Database(databases._server, "test_untouched")
    clone_database(databases._connection, name, database.name)
    try:
        return contents(database)
    finally:
        databases._connection.execute("drop database test_untouched with (force)")


def leave(database: Database, left: Any) -> None:
    if callable(left):
        left(database)
    else:
        with database.connect(admin=True) as conn:
            conn.execute(left)


@pytest.mark.parametrize("left", ROWS.values(), ids=ROWS)
def test_rows_are_as_in_the_template_and_the_database_stays(
    databases: Databases, name: str, left: Any
) -> None:
    with databases.copy(name) as first:
        leave(first, left)
    with databases.copy(name) as second:
        assert second.name == first.name
        assert contents(second) == new(databases, name)


@pytest.mark.parametrize("left", MORE_THAN_ROWS.values(), ids=MORE_THAN_ROWS)
def test_after_more_than_rows_there_is_a_new_database(databases: Databases, name: str, left: str) -> None:
    with databases.copy(name) as first:
        leave(first, left)
    with databases.copy(name) as second:
        assert second.name != first.name
        assert contents(second) == new(databases, name)


def test_an_open_transaction_is_over(databases: Databases, name: str) -> None:
    with databases.copy(name) as first:
        lost = psycopg.connect(first.url)
        lost.execute("delete from billing.fraud_policies")
    with databases.copy(name) as second:
        assert second.name == first.name
        with pytest.raises(psycopg.OperationalError):
            lost.execute("select")
        lost.close()
        assert contents(second) == new(databases, name)


def test_a_session_remembers_nothing(databases: Databases, name: str) -> None:
    with databases.copy(name) as database:
        with database.connect(admin=True) as conn:
            pid = conn.info.backend_pid
            conn.add_notice_handler(lambda notice: pytest.fail(notice.message_primary or ""))
            conn.execute("set role anon; set statement_timeout = '1h'; set app.of_test = 'behind'")
            conn.execute(
                "reset role; listen left_behind; prepare left_behind as select 1; select pg_advisory_lock(1)"
            )
            conn.execute("declare left_behind cursor with hold for select 1; set session authorization anon")
            conn.execute("begin")
        with database.connect(admin=True) as conn:
            assert conn.info.backend_pid == pid
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            conn.execute("do $$ begin raise notice 'to nobody of the last test'; end $$")
            assert conn.execute(
                "select current_user, session_user, current_setting('statement_timeout'), "
                "coalesce(current_setting('app.of_test', true), ''), (select count(*) from pg_listening_channels()), "
                "(select count(*) from pg_prepared_statements), (select count(*) from pg_cursors where is_holdable), "
                "(select count(*) from pg_locks where locktype = 'advisory')"
            ).fetchone() == ("supabase_admin", "supabase_admin", "0", "", 0, 0, 0, 0)


def test_a_session_that_was_ended_is_not_given_out(databases: Databases, name: str) -> None:
    with databases.copy(name) as database:
        with database.connect() as conn:
            pid = conn.info.backend_pid
        with database.connect(admin=True) as admin:
            admin.execute("select pg_terminate_backend(%s)", [pid])
        with database.connect() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_two_sessions_at_once_are_two(databases: Databases, name: str) -> None:
    with databases.copy(name) as database, database.connect() as one, database.connect() as two:
        assert one.info.backend_pid != two.info.backend_pid


def test_a_lent_database_is_copied_with_its_rows(databases: Databases, name: str) -> None:
    with databases.copy(name) as first:
        user = create_user(first)
        for _ in range(2):
            with databases.copy(first.name) as second, second.connect() as conn:
                owners = conn.execute("select owner_id from billing.accounts").fetchall()
                assert owners == [(user,)]
                with contextlib.suppress(psycopg.Error):
                    conn.execute("delete from billing.accounts")
