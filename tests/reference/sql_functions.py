"""Functions of the database and their examples → docs/reference/sql-functions.md."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from tests.reference.catalogue import Connection, Function, columns, comment_of, functions
from tests.reference.examples import Example
from tests.reference.markdown import anchor, block, code, page, sentence, table

# Headings by folder of the schemas; a new folder gets its own name.
_DOMAINS = {
    "00_base": "Time and mode",
    "10_accounts": "Accounts",
    "30_ledger": "Credits",
    "40_stripe": "The inbox of Stripe events",
    "50_allocation": "Paid credits and their check",
    "55_fraud": "Freezing and fraud",
    "57_teams": "Teams",
    "58_sync": "Customers and payments",
    "70_recharge": "Auto-recharge",
    "80_notifications": "Notifications",
    "90_api": "Features, and reads for administrators",
}
_CALLERS = {
    "service_role": "your server (`service_role`)",
    "authenticated": "signed-in users",
    "anon": "visitors",
}
_INTRODUCTION = """
What apps call. Your server calls `billing.…` in its own transaction as `postgres` or `service_role`, or the RPC
of the same name through the Data API with the secret key: `admin.rpc("spend_credits", { account_id, amount:
120, … })`. Arguments without a default are required; pass them by name.

Each error is a SQLSTATE of the class `TB`, with a hint ([errors](errors.md)). A movement that was refused
changed nothing. An idempotency key names one movement of an account: the same key and arguments return the
first result again, other arguments are TB002. Times are `timestamptz`, credits whole numbers.

The output below each example is what it printed when this page was generated.
"""


def sql_functions(conn: Connection, examples: list[Example]) -> str:
    """The page."""
    found = functions(conn)
    parts = [_contents(found)]
    for folder, members in groupby(found, key=lambda one: one.folder):
        parts += [f"## {title(folder)}", *_sections(members, examples)]
    rows = [name for one in found if (name := _row_type(one))]
    parts += [
        "## Rows",
        "What the functions above return. Columns whose names say it all have no description.",
    ]
    parts += [_row(conn, name) for name in sorted(set(rows))]
    return page("SQL functions", _INTRODUCTION, parts)


def title(folder: str) -> str:
    """A domain's heading."""
    return _DOMAINS.get(folder, folder.partition("_")[2].replace("_", " ").capitalize())


def _contents(found: list[Function]) -> str:
    lines = [
        f"- **{title(folder)}**: " + ", ".join(f"[{name}](#{anchor(name)})" for name in dict.fromkeys(names))
        for folder, names in (
            (folder, [one.name for one in members])
            for folder, members in groupby(found, key=lambda one: one.folder)
        )
    ]
    return "\n".join(lines)


def _sections(members: Iterable[Function], examples: list[Example]) -> Iterator[str]:
    for name, overloads in groupby(members, key=lambda one: one.name):
        own = list(overloads)
        yield f"### {name}"
        for one in own:
            if one.comment:
                yield sentence(one.comment)
            yield block("sql", one.signature)
        yield _facts(own[0])
        for example in (one for one in examples if one.function == name):
            who = f"-- as {example.user}\n" if example.user else ""
            yield block("sql", who + example.query)
            yield block("text", example.output)


def _facts(one: Function) -> str:
    facts = [f"Called by {' and '.join(_CALLERS[role] for role in one.callers)}."]
    if one.has_twin or one.schema == "public":
        facts.append(f'RPC: `rpc("{one.name}", …)`.')
    else:
        facts.append("In SQL only.")
    if (row := _row_type(one)) is not None:
        facts.append(f"Returns a row of [{row}](#{anchor(row)}).")
    if one.errors:
        facts.append(
            "Errors: " + ", ".join(f"[{error}](errors.md#{error.lower()})" for error in one.errors) + "."
        )
    return " ".join(facts)


def _row_type(one: Function) -> str | None:
    found = re.fullmatch(r"(?:SETOF )?billing\.(\w+)", one.returns)
    return found[1] if found else None


def _row(conn: Connection, name: str) -> str:
    relation = f"billing.{name}"
    rows = [[code(one.name), code(one.type), sentence(one.comment or "")] for one in columns(conn, relation)]
    comment = sentence(comment_of(conn, relation) or "")
    return f"### {name}\n\n{comment}\n\n{table(['column', 'type', 'meaning'], rows)}"
