"""Who may do what with each object as shipped ↔ in a database: rights that somebody has too much."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, cast

from psycopg import Connection
from psycopg.rows import tuple_row

_QUERY = Path(__file__).with_name("rights.sql")
# Written by `make snapshots` from a database that the migrations made.
SHIPPED = Path(__file__).with_name("rights.json")


@dataclass(frozen=True, slots=True)
class Right:
    """`on` as grant and revoke name an object: table billing.accounts; `columns` where it is of columns only."""

    on: str
    role: str
    privilege: str
    columns: str | None = None

    @property
    def name(self) -> str:
        """insert, select (id, name)."""
        return self.privilege if self.columns is None else f"{self.privilege} ({self.columns})"

    @property
    def revoke(self) -> str:
        """The statement that takes it away."""
        return f"revoke {self.name} on {self.on} from {self.role};"


def read_rights(conn: Connection[Any]) -> list[Right]:
    """What a database grants."""
    query = cast(LiteralString, _QUERY.read_text(encoding="utf-8"))
    with conn.cursor(row_factory=tuple_row) as cursor:
        return [Right(*each) for each in cursor.execute(query)]


def as_json(rights: list[Right]) -> str:
    """Object → role → its rights, as shipped."""
    table: dict[str, dict[str, list[str]]] = {}
    for right in rights:
        table.setdefault(right.on, {}).setdefault(right.role, []).append(right.name)
    return json.dumps(table, indent=0) + "\n"


def shipped_rights() -> dict[str, dict[str, list[str]]]:
    """Object → role → its rights."""
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def beyond(shipped: dict[str, dict[str, list[str]]], held: list[Right]) -> list[Right]:
    """Pure: what is granted and not as shipped. An object of theirs in public is none of our business."""
    ours = {on for on in shipped if " public." in on}
    return [
        right
        for right in held
        if (" public." not in right.on or right.on in ours)
        and right.name not in shipped.get(right.on, {}).get(right.role, [])
    ]
