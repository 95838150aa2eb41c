"""Sessions of one database that one test after another takes: compiled functions and caches stay, nothing else does."""

from collections import defaultdict
from collections.abc import Callable, Hashable
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
    """Those that wait, by their kind."""

    def __init__(self) -> None:
        self._waiting = defaultdict[Hashable, list[PGconn]](list)

    def open(self, kind: Hashable, log_in: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """A connection whose session is kept when it is closed; `log_in` opens one of that kind."""
        waiting = self._waiting[kind]
        while waiting:
            pgconn = waiting.pop()
            if pgconn.exec_(b"").status == ExecStatus.EMPTY_QUERY:  # the server has not ended it
                return _Connection(pgconn, waiting)
            pgconn.finish()
        return _Connection(_taken_from(log_in()), waiting)

    def process_ids(self) -> list[int]:
        """The server's processes of all that wait."""
        return [pgconn.backend_pid for waiting in self._waiting.values() for pgconn in waiting]

    def close(self) -> None:
        for waiting in self._waiting.values():
            while waiting:
                waiting.pop().finish()


class _Connection(psycopg.Connection[Any]):
    """A connection that leaves its session behind when it is closed."""

    def __init__(self, pgconn: PGconn, waiting: list[PGconn]) -> None:
        super().__init__(pgconn)
        self._waiting = waiting
        self.prepare_threshold = None
        self.autocommit = True

    def close(self) -> None:
        if not self.closed:
            pgconn = _taken_from(self)
            if len(self._waiting) < _SESSIONS_MAX and _is_like_new(pgconn):
                self._waiting.append(pgconn)
            else:
                pgconn.finish()


def _taken_from(connection: psycopg.Connection[Any]) -> PGconn:
    """The session of a connection, which is closed without it."""
    pgconn, connection.pgconn = connection.pgconn, PGconn()
    return pgconn


def _is_like_new(pgconn: PGconn) -> bool:
    """Let a session forget its test; False if it is broken, busy or in a transaction."""
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    is_done = pgconn.exec_(_FORGET).status == ExecStatus.TUPLES_OK
    while pgconn.notifies():
        pass
    return is_done
