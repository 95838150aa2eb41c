"""An existing project takes Tillbase in, upgrades, gives it up and takes it again, by the real Supabase CLI."""

import csv
import subprocess
from pathlib import Path

import pytest

from tests.adopt.conftest import Init
from tests.supabase_cli import run
from tests.support import Database, as_user, create_user

pytestmark = [pytest.mark.node, pytest.mark.slow]

# What an existing project may have: a queue, Stripe's own mirror beside it, a user, a table named as one of ours.
THEIRS = """
create extension if not exists pgmq;
select pgmq.create('orders');
select pgmq.create('stripe_sync_work');
create schema stripe;
create table stripe.customers (id text primary key);
create table public.invoices (id integer primary key, owner uuid);
alter table public.invoices enable row level security;
"""
# Of theirs, and it needs ours: a policy, a body of text, a foreign key.
NEEDS = """
create policy only_paid on public.invoices for select to authenticated using ((select billing.has_feature('invoices')));
create function public.my_credits() returns bigint language sql
as 'select sum(balance)::bigint from billing.credit_balances';
alter table public.invoices add constraint of_an_account foreign key (owner) references billing.accounts;
"""
NEEDS_NOT = """
drop policy only_paid on public.invoices;
drop function public.my_credits();
alter table public.invoices drop constraint of_an_account;
"""


@pytest.fixture
def theirs(empty_database: Database, project: Path, supabase_cli: Path) -> Database:
    """Their database, with their migrations pushed and a user."""
    (project / "supabase/migrations/20240101000000_theirs.sql").write_text(THEIRS)
    push(supabase_cli, project, empty_database)
    create_user(empty_database, "ada@example.com")
    return empty_database


def push(program: Path, project: Path, database: Database) -> str:
    """Plain, as somebody pushes every day: without --include-all."""
    result = run(program, project, "db", "push", f"--remote={database.url}", "--yes")
    return result.stdout + result.stderr


def catalogue(database: Database) -> str:
    command = [database.server.bin("pg_dump"), "--schema-only", "--restrict-key=same"]
    command += ["--exclude-schema=supabase_migrations", database.admin_url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_project_takes_it_in_gives_it_up_and_takes_it_again(
    project: Path, init: Init, theirs: Database, supabase_cli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", theirs.url)
    before = catalogue(theirs)

    init()
    assert "_tillbase_0_1_0.sql" in push(supabase_cli, project, theirs)
    with theirs.connect() as conn:
        [user] = conn.execute("select id from auth.users").fetchone() or []
        account = conn.execute("select id from billing.accounts where owner_id = %s", [user]).fetchone()
        assert account is not None  # also of who was there before
        conn.execute("select billing.grant_credits(%s, 40, 'first')", [account[0]])
        with as_user(conn, user):
            assert conn.execute("select balance from public.credit_balance").fetchone() == (40,)
        conn.execute(NEEDS.encode())

    init("--upgrade")
    assert "up to date" in push(supabase_cli, project, theirs)

    export = Path(init("--uninstall")["export"])
    assert export.stat().st_mode & 0o777 == 0o700
    with (export / "credit_entries.csv").open() as file:
        assert [row["amount"] for row in csv.DictReader(file)] == ["40"]
    with pytest.raises(AssertionError, match="Tillbase is still needed by") as refused:
        push(supabase_cli, project, theirs)
    for needed in ("policy only_paid", "function my_credits()", "of_an_account"):
        assert needed in str(refused.value)
    with theirs.connect() as conn:
        assert conn.execute("select balance from billing.credit_balances").fetchone() == (40,)
        conn.execute(NEEDS_NOT.encode())
    push(supabase_cli, project, theirs)
    assert catalogue(theirs) == before
    with theirs.connect() as conn:
        queues = conn.execute("select queue_name from pgmq.list_queues() order by 1").fetchall()
        assert queues == [("orders",), ("stripe_sync_work",)]

    init()
    push(supabase_cli, project, theirs)
    with theirs.connect() as conn:
        assert conn.execute("select balance from billing.credit_balances").fetchall() == [(0,)]
