"""Priced work: an operation of the price list, and calls that hold, settle and spend by it."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tests.sql.calls import Connection, Row, call, fresh

CHAT = {
    "input": {"credits": 0.3, "per": 1000, "unit": "tokens"},
    "cached": {"credits": 0.03, "per": 1000, "unit": "tokens"},
    "output": {"credits": 1.2, "per": 1000, "unit": "tokens"},
}


def set_price(conn: Connection, operation: str = "chat", rates: Any = None, **more: Any) -> Row:
    arguments = {"operation": operation, "rates": Jsonb(CHAT if rates is None else rates), **more}
    return call(conn, "set_operation_price", **arguments)


def per_second(conn: Connection, credits: Any = 1, **more: Any) -> Row:
    """An operation named video, by the second."""
    return set_price(conn, "video", {"seconds": credits}, **more)


def estimate(conn: Connection, operation: str | None, quantities: Any) -> Row:
    return call(conn, "estimate_work", operation=operation, quantities=Jsonb(quantities))


def hold_work(
    conn: Connection,
    account: UUID,
    seconds: Any,
    key: str | None = None,
    operation: str = "video",
    **more: Any,
) -> Row:
    """So many seconds of video unless told."""
    quantities = Jsonb({"seconds": seconds} if isinstance(seconds, int | float) else seconds)
    arguments = {
        "operation": operation,
        "quantities": quantities,
        "idempotency_key": key or fresh("work"),
        **more,
    }
    return call(conn, "hold_work", account_id=account, **arguments)


def settle_work(
    conn: Connection, hold_id: UUID | None, seconds: Any, key: str | None = None, **more: Any
) -> Row:
    usage = Jsonb({"seconds": seconds} if isinstance(seconds, int | float) else seconds)
    arguments = {"usage": usage, "idempotency_key": key or fresh("settled"), **more}
    return call(conn, "settle_work", hold_id=hold_id, **arguments)


def spend_work(
    conn: Connection,
    account: UUID,
    seconds: Any,
    key: str | None = None,
    operation: str = "video",
    **more: Any,
) -> Row:
    quantities = Jsonb({"seconds": seconds} if isinstance(seconds, int | float) else seconds)
    arguments = {
        "operation": operation,
        "quantities": quantities,
        "idempotency_key": key or fresh("work"),
        **more,
    }
    return call(conn, "spend_work", account_id=account, **arguments)
