"""Rows in the order of a time and an id → pages, each after the last row of the previous one.

An index finds a cursor's place; an offset would have to count, and would skip rows when new ones arrive.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from starlette.requests import Request

from cli.database import Row

PAGE_ROWS = 50
_FIRST = {"before_at": None, "before_id": None}


def cursor(request: Request, kind: type = str) -> dict[str, Any]:
    """Where the page begins, as `before_at` and `before_id`; the newest rows if the query has no valid cursor.

    Queries use: `%(before_at)s::timestamptz is null or (at, id) < (%(before_at)s, %(before_id)s)`.
    """
    at, _, row_id = request.query_params.get("before", "").partition("~")
    try:
        return {"before_at": datetime.fromisoformat(at), "before_id": kind(row_id)} if at else dict(_FIRST)
    except ValueError:
        return dict(_FIRST)


def pages(found: Sequence[Row], at: str, row_id: str) -> tuple[Sequence[Row], str | None]:
    """The rows of the page, of the PAGE_ROWS + 1 that were read, and the cursor of the next page."""
    if len(found) <= PAGE_ROWS:
        return found, None
    shown = found[:PAGE_ROWS]
    return shown, f"{shown[-1][at].isoformat()}~{shown[-1][row_id]}"
