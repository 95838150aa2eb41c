"""A template → databases like it, one for each test; most serve one test after another.

A new copy, warm-up of its connections and drop take a tenth of a second of a processor, more than most tests do with
them. So a database whose rows alone were changed gets its rows back and serves the next test, with the sessions that
were opened to it. After anything else it is dropped: after DDL, settings, statistics, replication slots.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg

from devstack.postgres import Postgres
from devstack.scaffold import DefaultGrants, clone_database, create_database, drop_database
from tests.sessions import Sessions
from tests.support import Database

_TABLES = """
    select oid, oid::regclass::text, pg_relation_size(oid) > 0
    from pg_class
    where relkind = 'r' and relnamespace <> all (array['pg_catalog', 'information_schema']::regnamespace[])
"""
_SEQUENCES = "select oid::regclass::text from pg_class where relkind = 'S'"
_CATALOGS = "select oid from pg_class where relkind = 'r' and not relisshared and oid < 16384"
# A table of one page is as one without: the planner takes both for ten, and rows lie in the order of their writing. Not
# one that was analyzed or vacuumed by a test: the planner believes what that found.
_LONG = """
select oid from pg_class
where oid = any (%s::oid[]) and pg_relation_size(oid) > 8192 or oid = any (%s::oid[]) and reltuples >= 0
"""
# Counts are sent when a session ends or is asked to; both has happened before this is read. What is rolled back counts
# too: then a database is dropped that could have been kept.
_OTHERS_THAN_ROWS = """
    select
        (select sum(
            pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
        ) from unnest(%s::oid[]) as oid),
        (select xmin::text from pg_database where datname = current_database()),
        (select count(*) from pg_db_role_setting join pg_database on setdatabase = pg_database.oid
            where datname = current_database()),
        (select count(*) from pg_replication_slots where database = current_database()),
        (select count(*) from pg_prepared_xacts where database = current_database())
"""
# The planner takes a table for larger that was never vacuumed.
_NEVER_VACUUMED = (
    "update pg_class set relpages = 0, reltuples = -1, relallvisible = 0 where oid = any (%s::oid[])"
)
_OTHERS = """
    select pid from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""
_END_MILLISECONDS = 10_000


class Databases:
    """The tests' databases on one server."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        # One for all of them: a connection for each took a fifth of a copy's time.
        self._connection = psycopg.connect(server.admin_url(), autocommit=True)
        self._waiting = defaultdict[str, list[_Copy]](list)
        self._lent = dict[str, _Copy]()
        self._used: str | None = None

    def close(self) -> None:
        for copy in [copy for waiting in self._waiting.values() for copy in waiting]:
            copy.close()
        self._connection.close()

    @contextmanager
    def copy(self, template: str) -> Iterator[Database]:
        """A database that equals a template, which may be one that was lent and has no open connections."""
        copy = self._take(template)
        self._lent[copy.database.name] = copy
        try:
            yield copy.database
        finally:
            self._waiting[template].append(self._lent.pop(copy.database.name))

    def _take(self, template: str) -> "_Copy":
        while waiting := self._waiting[template]:
            copy = waiting.pop()
            if copy.restore():
                return copy
            copy.close()
            drop_database(self._connection, copy.database.name)
        if template in self._lent:
            self._lent[template].close()
        name = f"test_{uuid4().hex[:12]}"
        clone_database(self._connection, template, name)
        return _Copy(self._server, name)

    @contextmanager
    def fresh(self, default_grants: DefaultGrants = "none") -> Iterator[Database]:
        """A fresh Supabase project without any migration."""
        name = f"test_{uuid4().hex[:12]}"
        create_database(self._server, name, default_grants=default_grants)
        try:
            yield Database(self._server, name)
        finally:
            # Not yet: Postgres waits a tenth of a second for connections that are just closing.
            used, self._used = self._used, name
            if used is not None:
                drop_database(self._connection, used)


@dataclass(frozen=True)
class _Lent(Database):
    """A database with sessions that wait for the next test."""

    sessions: Sessions = field(compare=False)

    def connect(
        self, role: str | None = None, *, admin: bool = False, **options: Any
    ) -> psycopg.Connection[Any]:
        def log_in() -> psycopg.Connection[Any]:
            return Database.connect(self, role, admin=admin, **options)

        return log_in() if options else self.sessions.open((role, admin), log_in)


class _Copy:
    """A copy of a template, and what makes it one again after a test."""

    def __init__(self, server: Postgres, name: str) -> None:
        self._sessions = Sessions()
        self.database = _Lent(server, name, self._sessions)
        self._keeper = psycopg.connect(server.admin_url(name), autocommit=True, prepare_threshold=0)
        self._keeper.execute("set session_replication_role = replica")  # rows without what they would set off
        self._keeper.execute("set allow_system_table_mods = on")  # see _NEVER_VACUUMED
        tables = self._keeper.execute(_TABLES).fetchall()
        self._tables = {oid: table for oid, table, _ in tables}
        self._rows = {table: self._read(table) for _, table, is_filled in tables if is_filled}
        empty = (table for table in self._tables.values() if table not in self._rows)
        filled = (f"select '{table}' where exists (select from {table})" for table in empty)
        self._filled = " union all ".join(filled).encode()
        self._marks = self._mark()
        sequences = [name for (name,) in self._keeper.execute(_SEQUENCES)]
        values = (f"select '{name}', last_value, is_called from {name}" for name in sequences)
        found = self._keeper.execute(" union all ".join(values).encode()).fetchall()
        values = (f"setval('{name}', {value}, {is_called})" for name, value, is_called in found)
        self._set_sequences = f"select {', '.join(values)}".encode()
        self._catalogs = [oid for (oid,) in self._keeper.execute(_CATALOGS)]
        self._others_than_rows = self._look_at_others_than_rows()

    def close(self) -> None:
        self._sessions.close()
        self._keeper.close()

    def restore(self) -> bool:
        """Give the rows of the template back after a test; False if more than rows was changed."""
        try:
            self._end_sessions()
            if self._look_at_others_than_rows() != self._others_than_rows:
                return False
            self._restore_rows()
        except psycopg.Error:  # such as a test that ended every session
            return False
        return True

    def _end_sessions(self) -> None:
        """Wait until all that the test has started is gone: only then does what it left stay."""
        others = {pid for (pid,) in self._keeper.execute(_OTHERS)}
        for pid in others.difference(self._sessions.process_ids()):
            self._keeper.execute("select pg_terminate_backend(%s, %s)", [pid, _END_MILLISECONDS])

    def _look_at_others_than_rows(self) -> Any:
        return self._keeper.execute(_OTHERS_THAN_ROWS, [self._catalogs]).fetchone()

    def _restore_rows(self) -> None:
        changed = {table for (table,) in self._keeper.execute(self._filled)}
        changed |= {table for table, mark in self._mark().items() if mark != self._marks[table]}
        if changed:
            self._run("; ".join(f"delete from {table}" for table in sorted(changed)))
            self._shorten(changed)
            for table in sorted(changed & self._rows.keys()):
                self._write(table)
            self._marks = self._mark()
        self._keeper.execute(self._set_sequences)

    def _shorten(self, changed: set[str]) -> None:
        """Empty the files of what has grown, or was analyzed. Seldom: plans for them are made anew then."""
        oids = [oid for oid, table in self._tables.items() if table in changed]
        analyzed = [oid for oid, table in self._tables.items() if table not in self._rows]
        long = [oid for (oid,) in self._keeper.execute(_LONG, [oids, analyzed])]
        if long:
            self._run(f"vacuum {', '.join(self._tables[oid] for oid in long)}")
            self._keeper.execute(_NEVER_VACUUMED, [long])
            self._keeper.execute("select pg_stat_force_next_flush()")
            self._others_than_rows = self._look_at_others_than_rows()

    def _run(self, statements: str) -> None:
        self._keeper.execute(statements.encode(), prepare=False)

    def _mark(self) -> dict[str, Any]:
        """Of each table that has rows in the template what any statement changes that writes it."""
        marks = (f"select '{table}', count(*), max(xmin::text::bigint) from {table}" for table in self._rows)
        return {table: mark for table, *mark in self._keeper.execute(" union all ".join(marks).encode())}

    def _read(self, table: str) -> bytes:
        with self._keeper.cursor().copy(f"copy {table} to stdout (format binary)".encode()) as copy:
            return b"".join(map(bytes, copy))

    def _write(self, table: str) -> None:
        with self._keeper.cursor().copy(f"copy {table} from stdin (format binary)".encode()) as copy:
            copy.write(self._rows[table])
