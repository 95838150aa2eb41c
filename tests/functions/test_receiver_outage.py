"""A database that is away, slow or cut off → 503 within seconds, and 200 as soon as it is back."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devstack.postgres import Postgres
from tests.functions.support import Answer, deliver, event, queued, receiver, stored
from tests.support import Database

PATIENCE_SECONDS = 6
AT_ONCE_SECONDS = 3
DEADLINE_SECONDS = 20


def assert_sent_again_later(answer: Answer, within_seconds: float = PATIENCE_SECONDS) -> None:
    assert (answer.status, answer.body["error"]["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.seconds < within_seconds


def test_stopped_database_is_a_503_and_its_return_a_200_at_once(
    private_postgres: Postgres, tmp_path: Path
) -> None:
    sent = [event() for _ in range(8)]
    with receiver(private_postgres.url(), tmp_path) as url:
        assert deliver(url, sent[0]).status == 200
        private_postgres.stop()
        for refused in sent[1:]:
            assert_sent_again_later(deliver(url, refused), AT_ONCE_SECONDS)
        private_postgres.restart()
        for again in sent:
            assert deliver(url, again).status == 200
        private_postgres.restart("immediate")
        assert deliver(url, sent[0]).body == {"received": "duplicate"}
    with Database(private_postgres, "postgres").connect(admin=True) as connection:
        assert {row[0] for row in stored(connection)} == {one["id"] for one in sent}
        assert len(queued(connection)) == len(sent)


def test_database_that_was_never_there_is_a_503(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with receiver(f"postgresql://postgres:secret@127.0.0.1:{port}/postgres", tmp_path) as url:
            assert_sent_again_later(deliver(url, event()))
    for nonsense in ("", "not a url", "postgresql://postgres:s3cret@[/postgres"):
        with receiver(nonsense, tmp_path) as url:
            assert_sent_again_later(deliver(url, event()))
        assert "s3cret" not in (tmp_path / "functions.log").read_text(encoding="utf-8")


def test_login_that_is_refused_is_a_503(database: Database, tmp_path: Path) -> None:
    password = f":{urlsplit(database.url).password}@"
    for url_of_database in (database.url.replace(password, ":wrong@"), f"{database.url}_that_is_not"):
        with receiver(url_of_database, tmp_path) as url:
            assert_sent_again_later(deliver(url, event()), AT_ONCE_SECONDS)


def test_connection_lost_under_an_event_is_tried_again_on_a_new_one(
    database: Database, tmp_path: Path
) -> None:
    waiting = (
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' "
        "and application_name like 'tillbase billing_receiver%' and datname = current_database()"
    )
    with (
        receiver(database.url, tmp_path) as url,
        database.connect(admin=True) as admin,
        database.connect(admin=True) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        with holder.transaction():
            holder.execute("lock table billing.stripe_events in access exclusive mode")
            answer = pool.submit(deliver, url, event())
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not admin.execute(waiting).fetchall():
                assert time.monotonic() < deadline
        assert answer.result().body == {"received": "queued"}


def test_terminated_connections_are_replaced_without_a_refusal(database: Database, tmp_path: Path) -> None:
    with receiver(database.url, tmp_path) as url, database.connect(admin=True) as connection:
        for _ in range(3):
            assert deliver(url, event()).status == 200
            terminated = connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where application_name like 'tillbase billing_receiver%' and datname = current_database()"
            ).fetchall()
            assert terminated


def test_event_behind_a_lock_is_refused_in_time_and_received_when_it_is_gone(
    database: Database, tmp_path: Path
) -> None:
    sent = event()
    with receiver(database.url, tmp_path) as url:
        with database.connect(admin=True, autocommit=False) as connection:
            connection.execute("lock table billing.stripe_events in access exclusive mode")
            assert_sent_again_later(deliver(url, sent))
        assert deliver(url, sent).body == {"received": "queued"}


READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"


class Wire:
    """A way to the database that can be cut: `carry` forwards, `hold` keeps silent, `drop` hangs up.

    `login`: forwards the log-in and keeps silent after it.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._carrying = threading.Event()
        self._sockets: list[socket.socket] = []
        self.mode = "carry"
        self.hung_up = 0
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if self.mode == "drop":
                    near.recv(65_536)  # unread data would turn the polite end into a reset
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._sockets.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        is_logged_in = False
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.mode != "hold" and not (self.mode == "login" and is_logged_in):
                    sink.sendall(data)
                is_logged_in = is_logged_in or READY_FOR_QUERY in data
        self.hung_up += 1
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def wire(database_url: str) -> Iterator[tuple[Wire, str]]:
    parts = urlsplit(database_url)
    cable = Wire((parts.hostname or "", parts.port or 0))
    try:
        yield cable, database_url.replace(f":{parts.port}/", f":{cable.port}/")
    finally:
        cable.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hold", "drop"])
def test_cut_network_is_a_503_in_time_and_heals_at_once(
    database: Database, tmp_path: Path, mode: str
) -> None:
    sent = [event() for _ in range(3)]
    with wire(database.url) as (cable, url_of_wire), receiver(url_of_wire, tmp_path) as url:
        if mode == "hold":
            assert deliver(url, sent[0]).status == 200
        cable.mode = mode
        assert_sent_again_later(deliver(url, sent[1]))
        assert_sent_again_later(deliver(url, sent[1]))
        cable.mode = "carry"
        for one in sent:
            assert deliver(url, one).status == 200
    with database.connect(admin=True) as connection:
        assert len(stored(connection)) == len(queued(connection)) == len(sent)


@pytest.mark.slow
def test_connection_that_is_silent_from_its_first_statement_on_is_hung_up(
    database: Database, tmp_path: Path
) -> None:
    with wire(database.url) as (cable, url_of_wire), receiver(url_of_wire, tmp_path) as url:
        cable.mode = "login"
        for _ in range(2):
            assert_sent_again_later(deliver(url, event()))
        deadline = time.monotonic() + DEADLINE_SECONDS
        # Each by the function, and then by the database.
        while cable.hung_up < 4:
            assert time.monotonic() < deadline
        cable.mode = "carry"
        assert deliver(url, event()).status == 200
