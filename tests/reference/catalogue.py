"""The migrated database → what the reference says about functions and relations."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

Connection = psycopg.Connection[Any]

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "supabase/schemas"

CALLERS = ("service_role", "authenticated", "anon")
# Shared functions that raise: their codes belong to the calling functions.
_SHARED = re.compile(r"_(lock|check|checked|raise)")
_TYPE = r"\w+(?: with(?:out)? time zone)?(?:\[\])?"
_TEXT = r"'((?:[^']|'')*)'"
# Most errors are raised; a step of 60_checkout returns its own.
_RAISE = re.compile(rf"(?:raise exception\s+(?:{_TEXT})?|billing\._refused_step\()(.*?);\n", re.DOTALL)
_CODE = re.compile(r"errcode =>? '(TB\d+)'")
_MESSAGE = re.compile(rf"message =>? (?:[\w.]*format\()?{_TEXT}")
_HINT = re.compile(rf"hint =>? (?:[\w.]*format\()?{_TEXT}")


class Raise(NamedTuple):
    """One error of the schemas, values as …"""

    code: str
    message: str
    hint: str


def raises_in(source: str) -> set[Raise]:
    """The errors of ours in SQL text."""
    return {
        Raise(code[1], _plain(message or _first(_MESSAGE, rest)), _plain(_first(_HINT, rest)))
        for message, rest in _RAISE.findall(source)
        if (code := _CODE.search(rest))
    }


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _plain(text: str) -> str:
    """Without the quoting of SQL."""
    return re.sub(r"%(?:\d+\$)?s|%", "…", text.replace("''", "'"))


@dataclass(frozen=True)
class Function:
    """One function that an app may call; a twin in `public` is the same function for RPC."""

    schema: str
    name: str
    signature: str  # `name(argument type default …, …) returns …`, one argument a line
    types: str  # of its arguments, which tell overloads apart
    returns: str
    callers: tuple[str, ...]
    comment: str | None
    has_twin: bool
    file: Path  # under supabase/schemas
    errors: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The domain that it belongs to, such as 30_ledger."""
        return self.file.parent.name


def definitions() -> dict[tuple[str, str], Path]:
    """(schema, name) of each function → the file that makes it, in the order of the files."""
    return {
        (schema, name): file
        for file in sorted(SCHEMAS.glob("*/*.sql"), reverse=True)
        for schema, name in re.findall(r"^create function (\w+)\.(\w+)", file.read_text(), re.MULTILINE)
    }


def functions(conn: Connection) -> list[Function]:
    """Functions that service_role, users or visitors may execute, in the order of the schemas."""
    files = definitions()
    order = {key: place for place, key in enumerate(_in_order(files))}
    raises = Raises(conn)
    rows = conn.execute(
        """
        select n.nspname, p.proname, pg_get_function_arguments(p.oid), oidvectortypes(p.proargtypes),
               pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc'),
               array(select role from unnest(%s::text[]) with ordinality as callers (role, place)
                     where has_function_privilege(role, p.oid, 'execute') order by place)
        from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('billing', 'public') and p.proowner = 'postgres'::regrole
            and p.prorettype <> 'trigger'::regtype and p.proname !~ '^_'
        order by n.nspname, p.proname, p.pronargs
        """,
        [list(CALLERS)],
    ).fetchall()
    callable_rows = [row for row in rows if row[6] and (row[0], row[1]) in files]
    twins = {(row[1], row[3]) for row in callable_rows if row[0] == "public"}
    found = [
        Function(
            schema, name, _signature(schema, name, arguments, returns), types, returns, tuple(callers), comment,
            schema == "billing" and (name, types) in twins, files[schema, name].relative_to(SCHEMAS),
            raises.codes(name),
        )
        for schema, name, arguments, types, returns, comment, callers in callable_rows
    ]  # fmt: skip
    private = {(one.name, one.types) for one in found if one.schema == "billing"}
    kept = [one for one in found if one.schema == "billing" or (one.name, one.types) not in private]
    return sorted(kept, key=lambda one: order[one.schema, one.name])


def _in_order(files: dict[tuple[str, str], Path]) -> list[tuple[str, str]]:
    """By file, and in a file by place."""
    return sorted(
        files, key=lambda key: (files[key], files[key].read_text().index(f"create function {'.'.join(key)}"))
    )


def _signature(schema: str, name: str, arguments: str, returns: str) -> str:
    listed = [plain_type(argument) for argument in re.split(r", (?=\w+ )", arguments) if argument]
    inside = "".join(f"\n    {argument}," for argument in listed)[:-1] + "\n" if listed else ""
    return f"{schema}.{name}({inside}) returns {plain_type(returns)}"


def plain_type(text: str) -> str:
    """Types and defaults as people write them: timestamptz, `default null`."""
    text = text.replace("timestamp with time zone", "timestamptz").replace(" DEFAULT ", " default ")
    text = re.sub(rf"NULL::{_TYPE}", "null", text)
    text = re.sub(rf"('[^']*')::{_TYPE}", r"\1", text)
    return re.sub(r"\bTABLE\(", "table (", text).replace("SETOF", "setof")


class Raises:
    """Which SQLSTATEs of ours a function can end in: its own, and those of what it calls in its own domain.

    What it calls in another domain counts by its own `raise` only: how the posting of credits can fail is no error of
    a function that only happens to lead to it.
    """

    def __init__(self, conn: Connection) -> None:
        self._files = {name: file for (_, name), file in definitions().items()}
        self._sources: dict[str, str] = {}
        for name, source in conn.execute(
            "select proname, prosrc from pg_proc where pronamespace = any ('{billing,public}'::regnamespace[]) "
            "and proowner = 'postgres'::regrole"
        ):
            self._sources[name] = self._sources.get(name, "") + source

    def codes(self, name: str) -> tuple[str, ...]:
        """Sorted; of both where a name is overloaded."""
        return tuple(sorted({one.code for one in self.of(name)}))

    def of(self, name: str) -> set[Raise]:
        """Each error with its message and hint."""
        return self._of(name, self._files[name].parent, set())

    def _of(self, name: str, home: Path, seen: set[str]) -> set[Raise]:
        seen.add(name)
        found = raises_in(self._sources[name])
        if self._files[name].parent != home and not _SHARED.match(name):
            return found
        for called in set(re.findall(r"billing\.(\w+)\s*\(", self._sources[name])) - seen:
            if called in self._sources and called in self._files:
                found |= self._of(called, home, seen)
        return found


@dataclass(frozen=True)
class Column:
    """One column of a table or a view."""

    name: str
    type: str
    default: str | None
    comment: str | None


def columns(conn: Connection, relation: str) -> list[Column]:
    """The columns of `schema.name`, in order."""
    rows = conn.execute(
        """
        select a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid),
               col_description(a.attrelid, a.attnum)
        from pg_attribute as a
        left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
        order by a.attnum
        """,
        [relation],
    ).fetchall()
    return [Column(name, plain_type(kind), default, comment) for name, kind, default, comment in rows]


def comment_of(conn: Connection, relation: str) -> str | None:
    """`comment on table` or `comment on view`."""
    row = conn.execute("select obj_description(%s::regclass, 'pg_class')", [relation]).fetchone()
    assert row is not None
    return row[0]
