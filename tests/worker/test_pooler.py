"""A transaction pooler is refused before anything is set on a session that the app shares; session mode is welcome."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from tests.pooler import pooled
from tests.support import Database
from tests.worker.test_process import Process, start_worker, until
from worker.errors import TransactionPooler
from worker.sessions import connect
from worker.settings import Settings

__all__ = ["start_worker"]  # a fixture


@pytest.mark.parametrize("connections", [1, 2, 5])
def test_a_transaction_pooler_is_refused_and_the_app_s_sessions_stay_as_they_were(
    database: Database, connections: int
) -> None:
    with (
        pooled(database, "transaction", connections) as url,
        psycopg.connect(url, autocommit=True, prepare_threshold=None) as app,
    ):
        app.execute("create table public.orders (id integer)")
        with pytest.raises(TransactionPooler, match="transaction pooler"):
            connect(Settings(url))
        for _ in range(10):
            found = app.execute(
                "select current_user, current_setting('enable_seqscan'), current_setting('jit')"
            ).fetchone()
            assert found == ("postgres", "on", "on")
            app.execute("select from public.orders")


def test_a_transaction_pooler_is_recognised_while_the_app_keeps_it_busy(database: Database) -> None:
    with pooled(database, "transaction", 4) as url:
        stop = threading.Event()

        def work() -> None:
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as app:
                while not stop.is_set():
                    app.execute("select 1")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                with pytest.raises(TransactionPooler):
                    connect(Settings(url))
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_worker_with_a_transaction_pooler_ends_with_one_line(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    with pooled(database, "transaction") as url:
        worker = start_worker(url)
        assert worker.process.wait(20) == 1
        assert [line for line in worker.log().splitlines() if not line.startswith("{")] == [
            f"error: {TransactionPooler()}"
        ]


def test_a_pooler_in_session_mode_is_as_good_as_none(
    database: Database, start_worker: Callable[..., Process]
) -> None:
    with pooled(database, "session", 4) as url:
        with connect(Settings(url)) as conn:
            assert conn.execute("select current_user, current_setting('jit')").fetchone() == (
                "billing_worker",
                "off",
            )
        worker = start_worker(url)
        until(lambda: '"connected"' in worker.log(), worker.log)
        assert worker.stop() == 0


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres.abc:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
        "postgresql://postgres:x@db.abc.supabase.co:6543/postgres",
    ],
)
def test_supabase_s_transaction_pooler_is_known_by_its_port(url: str) -> None:
    with pytest.raises(TransactionPooler):
        Settings.from_env({"POSTGRES_URL": url})
