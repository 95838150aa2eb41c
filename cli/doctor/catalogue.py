"""The database as this version ships it ↔ the database as it is: objects and rights that differ."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, cast

from psycopg import Connection
from psycopg.rows import tuple_row

_QUERY = Path(__file__).with_name("catalogue.sql")
# Written by `make snapshots` from a database that the migrations made.
SHIPPED = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True, slots=True)
class Differences:
    """Names of objects, such as `rights on public.credit_balance`."""

    missing: list[str]
    changed: list[str]
    # In schema billing, and not of Tillbase.
    extra: list[str]


def read_catalogue(conn: Connection[Any]) -> dict[str, str]:
    """Object → digest, of schemas billing and public."""
    query = cast(LiteralString, _QUERY.read_text(encoding="utf-8"))
    with conn.cursor(row_factory=tuple_row) as cursor:
        return dict(cursor.execute(query).fetchall())


def shipped_catalogue() -> dict[str, str]:
    """That of this version."""
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def compare(shipped: Mapping[str, str], held: Mapping[str, str]) -> Differences:
    """Pure. An object of theirs in public is none of our business."""
    return Differences(
        missing=[name for name in shipped if name not in held],
        changed=[name for name, digest in shipped.items() if held.get(name, digest) != digest],
        extra=[name for name in held if name not in shipped and " billing." in name],
    )
