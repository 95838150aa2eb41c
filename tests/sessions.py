"""Sessions of one database that one test after another takes: compiled functions and caches stay, nothing else does."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, PGconn, TransactionStatus

_SESSIONS_MAX = 6  # of a kind, that wait
# As `discard all`, which would forget all plans too. What was counted is sent, because it says whether DDL was run.
_FORGET = b"""
    reset session authorization; reset role; reset all; deallocate all; close all; unlisten *; discard temp;
    discard sequences; select pg_catalog.pg_advisory_unlock_all(), pg_catalog.pg_stat_force_next_flush();
"""


class Sessions:
    """Gives out each session once for a test at most: a test that opens two gets two, even one after the other."""

    def __init__(self) -> None:
        self._waiting = defaultdict[Hashable, list[PGconn]](list)
        self._returned = list[tuple[Hashable, PGconn]]()

    def open(self, kind: Hashable, log_in: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """A connection whose session is kept when it is closed; `log_in` opens one of that kind."""
        waiting = self._waiting[kind]
        pgconn = waiting.pop() if waiting else _taken_from(log_in())
        return _Connection(pgconn, lambda: self._returned.append((kind, pgconn)))

    def renew(self, alive: Collection[int]) -> list[int]:
        """Let what was returned wait for the next test if the server has not ended it; their process ids."""
        for kind, pgconn in self._returned:
            self._waiting[kind].append(pgconn)
        self._returned = []
        for waiting in self._waiting.values():
            kept = [pgconn for pgconn in waiting if pgconn.backend_pid in alive][:_SESSIONS_MAX]
            for pgconn in waiting:
                if pgconn not in kept:
                    pgconn.finish()
            waiting[:] = kept
        return [pgconn.backend_pid for waiting in self._waiting.values() for pgconn in waiting]

    def close(self) -> None:
        self.renew(alive=())


class _Connection(psycopg.Connection[Any]):
    """A connection that leaves its session behind when it is closed."""

    def __init__(self, pgconn: PGconn, give_back: Callable[[], None]) -> None:
        super().__init__(pgconn)
        self._give_back = give_back
        self.prepare_threshold = None
        self.autocommit = True

    def close(self) -> None:
        if not self.closed:
            pgconn = _taken_from(self)
            if _is_like_new(pgconn):
                self._give_back()
            else:
                pgconn.finish()


def _taken_from(connection: psycopg.Connection[Any]) -> PGconn:
    """The session of a connection, which is closed without it."""
    pgconn, connection.pgconn = connection.pgconn, PGconn()
    pgconn.notice_handler = pgconn.notify_handler = None
    return pgconn


def _is_like_new(pgconn: PGconn) -> bool:
    """Let a session forget its test; False if it is broken or busy."""
    if pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        pgconn.exec_(b"rollback")
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    is_done = pgconn.exec_(_FORGET).status == ExecStatus.TUPLES_OK
    while pgconn.notifies():
        pass
    return is_done
