"""Every block of SQL in the README, the security page and the how-to pages, run against a database, page by page."""

import re
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import grant, hold, link, spend, sync_price, sync_product
from tests.support import Database, account_of, create_user
from tests.test_docs import ROOT

SECURITY = ROOT / "docs/explanation/security.md"
PAGES = [ROOT / "README.md", SECURITY, *sorted((ROOT / "docs/how-to").glob("*.md"))]
# What is not in the embedded Postgres, or needs more than an account, with the test that stands for it.
RUN_ELSEWHERE = {
    "pg_cron": "tests/sql/test_pg_cron.py",
    "cron.": "tests/sql/test_pg_cron.py",
    "_work(": "tests/e2e/test_priced_work_page.py",
}
# Only a superuser may move the local stack's clock.
AS_SUPERUSER = "billing.clock"


def blocks(page: Path) -> list[str]:
    """The page's SQL that is run here."""
    found = re.findall(r"^ *```sql\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in found if not any(name in block for name in RUN_ELSEWHERE)]


@pytest.fixture
def account(database: Database, conn: psycopg.Connection) -> UUID:
    """An account with a customer and enough credits; a pack is on sale."""
    account = account_of(conn, create_user(database))
    with database.connect("billing_worker") as worker:
        sync_product(worker)
        sync_price(
            worker,
            stripe_price_id="price_1",
            type="one_time",
            unit_amount=900,
            metadata={"pack_credits": "500"},
        )
    link(conn, account)
    grant(conn, account, 10_000)
    return account


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_documented_sql_runs(
    page: Path, database: Database, conn: psycopg.Connection, account: UUID
) -> None:
    ids = {
        "account_id => '…'": f"account_id => '{account}'",
        "check_account('…')": f"check_account('{account}')",
        "hold_id => '…'": f"hold_id => '{hold(conn, account, 400)['id']}'",
        "entry_id => 42": f"entry_id => {spend(conn, account, 10)['id']}",
        "'price_…'": "'price_1'",
    }
    with database.connect(admin=True) as admin:
        for block in blocks(page):
            for named, own in ids.items():
                block = block.replace(named, own)
            (admin if AS_SUPERUSER in block else conn).execute(block.encode())


def test_pages_with_sql_are_found() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 15


def test_the_security_page_shows_what_it_says(conn: psycopg.Connection) -> None:
    """Its questions with the answer "none" find nothing here, and something where it is not so."""
    [checks, *_] = blocks(SECURITY)
    parts = re.split(r"(?m)^-- ", checks)[1:]
    none = [part.partition("\n")[2] for part in parts if part.partition("\n")[0].endswith("none.")]
    assert len(none) == 2
    for query in none:
        assert conn.execute(query.encode()).fetchall() == []
    conn.execute("grant insert on billing.accounts to authenticated")
    conn.execute("create table billing.open (id int)")
    for query in none:
        assert len(conn.execute(query.encode()).fetchall()) == 1
    [visitors] = [
        part.partition("\n")[2] for part in parts if part.startswith("Functions of billing that visitors")
    ]
    assert [name for (name,) in conn.execute(visitors.encode()).fetchall()] == [
        'billing."current_time"()',
        "billing.is_livemode()",
    ]
