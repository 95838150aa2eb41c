"""An account's lots, as tests look at them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.sql.calls import Connection, Row, balances, lots, value

DAY = timedelta(days=1)
POLICIES = ["clamp_and_record", "allow_negative", "block_future_grants"]
EACH_POLICY = pytest.mark.parametrize("policy", POLICIES)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + days * DAY


def remaining(conn: Connection, account: UUID) -> list[int]:
    """What is left of each lot, oldest first."""
    return [lot["remaining"] for lot in lots(conn, account)]


def lot_of(conn: Connection, entry: Row) -> int:
    """The id of the lot that an entry opened."""
    return value(conn, "select id from billing.credit_grants where entry_id = %s", [entry["id"]])


def state(conn: Connection, account: UUID) -> tuple[int, int, int]:
    """Balance, debt and what is withheld."""
    row = balances(conn, account)
    return row["balance"], row["debt"], row["withheld"]
