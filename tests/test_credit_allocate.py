"""`till credits allocate` and `expire`: chunk by chunk, each committed, however it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cli.main import main
from tests.sql.calls import balance, discrepancies, grant, value
from tests.sql.subscribers import CREDITS, let_a_month_begin, subscribe_by_the_year
from tests.support import Database

Connection = psycopg.Connection[Any]
Run = Callable[..., Any]

DEADLINE_SECONDS = 30
LATER = "select billing.current_time() + interval '1 hour'"
PROGRAM = [sys.executable, "-c", "from cli.main import main; main()", "credits"]
WAITS = "select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted"

# Once a chunk of months is committed, the next one waits for this lock.
SECOND_CHUNK_WAITS = """
create function public.second_chunk_waits() returns trigger language plpgsql as $$
begin
    if exists (
        select from billing.credit_schedules
        where next_slot_at > billing.current_time() and xmin <> pg_current_xact_id()::xid
    ) then
        perform pg_advisory_xact_lock(1);
    end if;
    return null;
end
$$;
create trigger waits before insert on billing.credit_entries
for each statement execute function public.second_chunk_waits();
"""


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `till credits` within this process: its stdout and stderr."""
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=20s")  # a stall fails a test instead of hanging it

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "credits", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


def test_months_that_have_begun_are_granted_once(database: Database, conn: Connection, run: Run) -> None:
    accounts = subscribe_by_the_year(database, conn, 5)
    let_a_month_begin(database)
    shown = run("allocate", "--chunk", 2)
    header, figures = shown.out.splitlines()
    assert header.split() == ["accounts", "slots", "granted", "credits", "granted", "seconds"]
    assert figures.split()[:3] == ["5", "5", "500"]
    assert shown.err == "", "a progress bar where nobody looks"
    assert [balance(conn, account) for account in accounts] == [2 * CREDITS] * 5
    assert run("allocate").err == "nothing is due\n"
    assert [balance(conn, account) for account in accounts] == [2 * CREDITS] * 5
    assert discrepancies(conn) == []


def test_each_chunk_is_a_transaction(database: Database, conn: Connection, run: Run) -> None:
    subscribe_by_the_year(database, conn, 5)
    let_a_month_begin(database)
    run("allocate", "--chunk", 2)
    assert value(conn, "select count(distinct xmin::text) from billing.credit_schedules") == 3


def test_figures_are_numbers(database: Database, conn: Connection, run: Run) -> None:
    subscribe_by_the_year(database, conn, 2)
    let_a_month_begin(database)
    figures = json.loads(run("allocate", "--json").out)
    assert figures.pop("seconds") >= 0
    assert figures == {"accounts": 2, "slots_granted": 2, "credits_granted": 200, "accounts_left": 0}
    figures = json.loads(run("allocate", "--json").out)
    assert figures | {"seconds": 0} == {
        "accounts": 0, "slots_granted": 0, "credits_granted": 0, "seconds": 0, "accounts_left": 0
    }  # fmt: skip


def test_what_was_due_by_an_earlier_moment(database: Database, conn: Connection, run: Run) -> None:
    [account] = subscribe_by_the_year(database, conn, 1)
    moment = value(conn, "select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS')")
    let_a_month_begin(database)
    assert run("allocate", "--as-of", moment).err == "nothing is due\n"
    refused = run("allocate", "--as-of", "2999-01-01", expect=1)
    assert (refused.out, refused.err.count("\n")) == ("", 1)
    assert "TB022" in refused.err
    assert balance(conn, account) == CREDITS


def test_an_account_in_use_is_left_and_named(database: Database, conn: Connection, run: Run) -> None:
    busy, other = subscribe_by_the_year(database, conn, 2)
    let_a_month_begin(database)
    with conn.transaction():
        conn.execute("select from billing.credit_balances where account_id = %s for update", [busy])
        shown = run("allocate")
    assert shown.err == "accounts in use, left out: 1; run it again for them\n"
    assert shown.out.splitlines()[1].split()[0] == "1"
    assert (balance(conn, busy), balance(conn, other)) == (CREDITS, 2 * CREDITS)


def test_a_refusal_is_one_line_that_says_what_was_done_before(
    database: Database, conn: Connection, run: Run
) -> None:
    accounts = subscribe_by_the_year(database, conn, 3)
    let_a_month_begin(database)
    conn.execute(SECOND_CHUNK_WAITS.replace("perform pg_advisory_xact_lock(1)", "raise exception 'not now'"))
    refused = run("allocate", "--chunk", 1, expect=1)
    assert refused.out == ""
    assert refused.err == "error: not now (P0001). Accounts done before it: 1.\n"
    assert sum(balance(conn, account) for account in accounts) == 4 * CREDITS


def test_without_the_schema_it_says_what_to_do(
    empty_database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", empty_database.url)
    refused = run("allocate", expect=1)
    assert "supabase db push" in refused.err
    assert refused.err.count("\n") == 1


def test_lots_that_are_due_expire(database: Database, conn: Connection, run: Run) -> None:
    accounts = subscribe_by_the_year(database, conn, 3)
    for account in accounts:
        grant(conn, account, 1000, expires_at=value(conn, LATER))
    assert run("expire").err == "nothing is due\n"
    let_a_month_begin(database)
    figures = json.loads(run("expire", "--chunk", 2, "--json").out)
    assert (figures["accounts"], figures["lots_expired"], figures["credits_expired"]) == (3, 3, 3000)
    assert [balance(conn, account) for account in accounts] == [CREDITS] * 3


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_the_chunk_in_hand_and_the_second_one_cancels_it(
    database: Database, conn: Connection, times: int
) -> None:
    accounts = subscribe_by_the_year(database, conn, 4)
    let_a_month_begin(database)
    conn.execute(SECOND_CHUNK_WAITS)
    conn.execute("select pg_advisory_lock(1)")
    command = subprocess.Popen(
        [*PROGRAM, "allocate", "--chunk", "1"],
        env={**os.environ, "POSTGRES_URL": database.url, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        assert command.stdout is not None
        assert command.stderr is not None
        try:
            until(lambda: value(conn, WAITS))
            command.send_signal(signal.SIGINT)
            # Two signals at once would be one: the first was heard.
            assert command.stderr.readline() == "stopping after the chunk in hand; Ctrl-C again cancels it\n"
            if times == 2:
                command.send_signal(signal.SIGINT)
                until(lambda: not value(conn, WAITS))
            conn.execute("select pg_advisory_unlock(1)")
            command.wait(DEADLINE_SECONDS)
            printed, told = command.stdout.read(), command.stderr.read()
        finally:
            command.kill()
    done = 2 if times == 1 else 1
    assert command.returncode == 130, told
    assert printed.splitlines()[1].split()[:3] == [str(done), str(done), str(done * CREDITS)]
    assert told == f"stopped: what is counted is committed; accounts left for the next time: {4 - done}\n"
    assert sum(balance(conn, account) for account in accounts) == (4 + done) * CREDITS
    assert discrepancies(conn) == []


def test_who_looks_sees_a_bar(database: Database, conn: Connection) -> None:
    subscribe_by_the_year(database, conn, 3)
    let_a_month_begin(database)
    ours, its = pty.openpty()
    subprocess.run(
        [*PROGRAM, "allocate", "--chunk", "1"],
        env={**os.environ, "POSTGRES_URL": database.url, "COLUMNS": "100", "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=its,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    os.close(its)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert "granting credits" in seen
    assert "3 of 3 accounts" in seen
