"""A proxy that cuts: what was sent on is done, what was not is not, and the client learns of neither."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from simulator.proxy import Proxy, Trap, When
from tests.stripe_local.conftest import until
from tests.support import Database

ENDED = "select count(*) from pg_stat_activity where pid = %s"
INSERT = "insert into public.done values ('it')"


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    proxy = Proxy(database.server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def app(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect() as conn:
        conn.execute("create table public.done (what text)")
        yield conn


def by(proxy: Proxy, database: Database) -> psycopg.Connection[Any]:
    url = database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


@pytest.mark.parametrize(("when", "done"), [("before", []), ("after", [("it",)])])
def test_a_commit_is_cut(
    database: Database, app: psycopg.Connection[Any], proxy: Proxy, when: When, done: list[Any]
) -> None:
    sprung: list[str] = []
    proxy.arm(Trap("commit", when, 2, lambda: sprung.append("now")))
    conn = by(proxy, database)
    pid = conn.info.backend_pid
    with conn.transaction():
        conn.execute("select 1")
    assert sprung == []
    with pytest.raises(psycopg.OperationalError), conn.transaction():
        conn.execute(INSERT)
    until(lambda: sprung == ["now"])  # the client is cut off before the trap is told
    until(lambda: app.execute(ENDED, [pid]).fetchone() == (0,))
    assert app.execute("select what from public.done").fetchall() == done


def test_the_nth_message_springs_a_trap(database: Database, proxy: Proxy) -> None:
    sprung: list[str] = []
    conn = by(proxy, database)
    proxy.arm(Trap("message", "after", 3, lambda: sprung.append("now"), cuts=False))
    conn.execute("select 1")
    conn.execute("select 2")
    assert sprung == []
    assert conn.execute("select 3").fetchone() == (3,)  # nothing was to be cut
    assert sprung == ["now"]
    conn.close()


def test_a_disarmed_trap_does_not_spring(database: Database, proxy: Proxy) -> None:
    sprung: list[str] = []
    conn = by(proxy, database)
    proxy.arm(Trap("message", "before", 1, lambda: sprung.append("now")))
    proxy.disarm()
    assert conn.execute("select 1").fetchone() == (1,)
    assert sprung == []
    conn.close()


@pytest.mark.parametrize(("keeps_requests", "done"), [(True, [("it",)]), (False, [])])
def test_in_silence_nothing_is_answered(
    database: Database, app: psycopg.Connection[Any], proxy: Proxy, keeps_requests: bool, done: list[Any]
) -> None:
    conn = by(proxy, database)
    proxy.hush(keeps_requests)

    def ask() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            conn.execute(INSERT)

    asked = threading.Thread(target=ask)
    asked.start()
    until(lambda: proxy.lost)
    assert proxy.speak() == 1
    asked.join()
    assert app.execute("select what from public.done").fetchall() == done
    again = by(proxy, database)
    assert again.execute("select 1").fetchone() == (1,)
    again.close()


def test_slow_answers_are_counted(database: Database, proxy: Proxy) -> None:
    conn = by(proxy, database)
    proxy.slow(0.001)
    conn.execute("select 1")
    assert proxy.slow(0) == 1
    conn.execute("select 1")
    assert proxy.slow(0) == 0
    conn.close()


def test_a_cut_ends_every_connection(database: Database, proxy: Proxy) -> None:
    conns = [by(proxy, database) for _ in range(2)]
    assert proxy.cut() == 2
    for conn in conns:
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
