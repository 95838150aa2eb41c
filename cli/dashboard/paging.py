"""Rows in the order of a moment and an id → pages, each beginning after the last row of the one before.

A cursor finds its place in an index; an offset would count its way there, and miss what came in meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from starlette.requests import Request

from cli.database import Connection, Row, rows

PAGE_ROWS = 50
_FIRST = {"before_at": None, "before_id": None}


class Order(NamedTuple):
    """Newest first: the moment, the id that decides between rows of one moment, and its type."""

    at: LiteralString
    row_id: LiteralString
    id_type: LiteralString = "text"


def page_of(
    conn: Connection, request: Request, query: LiteralString, order: Order, **parameters: Any
) -> tuple[Sequence[Row], str | None]:
    """The page of a query (up to its `where …`) that the request asks for, and the cursor of the next one."""
    at, row_id, id_type = order
    paged: LiteralString = (
        f"{query} and (%(before_at)s::timestamptz is null "
        f"or ({at}, {row_id}) < (%(before_at)s::timestamptz, %(before_id)s::{id_type})) "
        f"order by {at} desc, {row_id} desc limit %(limit)s"
    )
    asked = {"limit": PAGE_ROWS + 1} | _cursor(request, UUID if id_type == "uuid" else str)
    found = rows(conn, paged, parameters | asked)
    if len(found) <= PAGE_ROWS:
        return found, None
    last = found[PAGE_ROWS - 1]
    return found[:PAGE_ROWS], f"{last[at].isoformat()}~{last[row_id]}"


def _cursor(request: Request, kind: type) -> dict[str, Any]:
    """Where the page begins; at the newest row where nothing (sensible) is said."""
    at, _, row_id = request.query_params.get("before", "").partition("~")
    try:
        return {"before_at": datetime.fromisoformat(at), "before_id": kind(row_id)} if at else dict(_FIRST)
    except ValueError:
        return dict(_FIRST)
