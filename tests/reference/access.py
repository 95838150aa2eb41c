"""The catalogue's privileges → docs/reference/access.md: who may read what, and execute what."""

from tests.reference.catalogue import Connection
from tests.reference.markdown import code, page, table
from tests.security.inventory import ROLES, executors, functions, relations, table_privileges

_INTRODUCTION = """
Every table, view and function of Tillbase, and which role may do what with it. No role may write to any of them:
functions write, with the rights of their owner. `postgres` owns everything, and superusers may do anything. Functions
whose names begin with `_` or `tg_` are private: no role may execute them.

All tables have row level security: `authenticated` reads the rows of its own accounts only.
[Security](../explanation/security.md) says who the roles are, and how to check a database against this page.
"""
_YES, _COLUMNS = "✓", "columns"


def access(conn: Connection) -> str:
    """The page."""
    return page("Who may do what", _INTRODUCTION, [*_relations(conn), *_functions(conn)])


def _relations(conn: Connection) -> list[str]:
    rows: list[list[str]] = []
    notes: list[str] = []
    for relation, kind in relations(conn).items():
        if kind == "sequence":
            continue
        cells = [code(relation)]
        for role in ROLES:
            columns = table_privileges(conn, relation, role).get("select", [])
            cells.append(_YES if columns is None else _COLUMNS if columns else "")
            if columns:
                notes.append(
                    f"- `{role}` reads of {code(relation)}: {', '.join(code(name) for name in columns)}."
                )
        rows.append(cells)
    return ["## Reading", table(["table or view", *map(code, ROLES)], rows), "\n".join(notes)]


def _functions(conn: Connection) -> list[str]:
    rows = {
        (name, *(_YES if role in allowed else "" for role in ROLES))
        for oid, name in functions(conn).items()
        if (allowed := executors(conn, oid))
    }
    return [
        "## Executing",
        table(["function", *map(code, ROLES)], [[code(row[0]), *row[1:]] for row in sorted(rows)]),
    ]
