"""A step of the database's and what Stripe answered to it → the next step, as a driver brings it."""

from typing import Any

from psycopg.types.json import Jsonb

from tests.sql.calls import Connection, Row, answer


def bring(function: Connection, step: Row, continue_by: str, *answers: Row) -> Row:
    assert 1 <= len(answers) <= len(step["calls"])
    return answer(function, continue_by, state=Jsonb(step["state"]), answers=Jsonb(list(answers)))


def body(**fields: Any) -> Row:
    return {"body": fields}


NOT_FOUND: Row = {"body": None}


def failure(status: int | None, key: str | None = None, message: str = "no", **more: Any) -> Row:
    """Stripe failed, under this Idempotency-Key."""
    error = {"status": status, "type": None, "code": None, "param": None, "message": message}
    return {"error": error | more, "idempotency_key": key}


# (what Stripe failed with, what it is for the caller, whether Stripe keeps the failure for its key)
FAILURES = [
    ({"status": 500, "type": "api_error"}, "TB062", True),
    ({"status": 503}, "TB062", True),
    ({"status": 400, "type": "idempotency_error"}, "TB062", True),
    ({"status": 409, "type": "idempotency_error"}, "TB062", False),
    ({"status": 409, "type": "invalid_request_error"}, "TB062", False),
    ({"status": 429, "type": "invalid_request_error", "code": "lock_timeout"}, "TB062", False),
    ({"status": 400, "type": "invalid_request_error", "code": "rate_limit"}, "TB062", False),
    ({"status": None}, "TB062", False),
    ({"status": None, "type": "api_error"}, "TB062", False),
    ({"status": 400, "type": "invalid_request_error"}, "TB063", False),
    ({"status": 401, "type": "invalid_request_error"}, "TB063", False),
    ({"status": 403, "type": "invalid_request_error"}, "TB063", False),
    ({"status": 404, "type": "invalid_request_error", "code": "resource_missing"}, "TB063", False),
]


def calls_of(step: Row) -> list[tuple[str, str]]:
    """(method, path) of each call."""
    return [(call["method"], call["path"]) for call in step["calls"]]
