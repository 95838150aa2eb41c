"""A pooler before the functions' database is refused in one line of the log: nothing runs as another role."""

from pathlib import Path

import pytest

from tests.functions.support import deliver, event, receiver, stored
from tests.pooler import pooled
from tests.support import Database


@pytest.mark.parametrize(
    ("mode", "ignored"),
    [
        ("transaction", ""),
        ("transaction", "role,statement_timeout"),
        ("session", "role,statement_timeout"),
    ],
)
def test_a_pooler_that_drops_the_role_is_refused(
    database: Database, tmp_path: Path, mode: str, ignored: str
) -> None:
    with pooled(database, mode, ignored=ignored) as pooler, receiver(pooler, tmp_path) as url:
        for _ in range(2):
            answer = deliver(url, event())
            assert (answer.status, answer.body["error"]["code"]) == (503, "database_unavailable")
    log = (tmp_path / "functions.log").read_text(encoding="utf-8")
    assert "SUPABASE_DB_URL leads to a transaction pooler" in log
    with database.connect() as conn:
        assert stored(conn) == []
