"""A pooler before the functions' database: each transaction takes its role for itself and leaves nothing behind."""

from pathlib import Path

import psycopg
import pytest

from tests.functions.support import deliver, event, receiver, stored
from tests.pooler import pooled
from tests.support import Database


@pytest.mark.parametrize("ignored", ["", "role,statement_timeout"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_events_come_through_a_pooler_as_the_receivers_own_role(
    database: Database, tmp_path: Path, mode: str, ignored: str
) -> None:
    with pooled(database, mode, ignored=ignored) as pooler, receiver(pooler, tmp_path) as url:
        for number in range(5):
            assert deliver(url, event(id=f"evt_{number}")).body == {"received": "queued"}
        assert deliver(url, event(id="evt_0")).body == {"received": "duplicate"}
        with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as app:
            left = "select current_user, current_setting('statement_timeout')"
            assert {app.execute(left).fetchone() for _ in range(5)} == {("postgres", "0")}
        with database.connect() as conn:
            assert len(stored(conn)) == 5
            conn.execute("revoke execute on function billing.receive_stripe_event from billing_receiver")
        assert deliver(url, event(id="evt_5")).status == 500
    assert "permission denied for function receive_stripe_event" in (tmp_path / "functions.log").read_text()
