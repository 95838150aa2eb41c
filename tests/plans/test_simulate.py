"""`till plans simulate`: the ledger of the last months, replayed with another plan file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from cli.plans.file import Operation
from cli.plans.pricing import credits_of
from tests.cli import Till
from tests.dashboard.history import days_ago
from tests.sql.calls import (
    call,
    discrepancies,
    grant,
    link,
    refund,
    spend,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    value,
)
from tests.sql.calls import line as invoice_line
from tests.sql.work import hold_work, set_price, settle_work, spend_work
from tests.support import Database, account_of, create_user

DAY = timedelta(days=1)
Connection = psycopg.Connection[Any]
NOW_FILE = """
[products.pro]
name = "Pro"
[plans.pro]
product = "pro"
unit_amount = 2000
currency = "usd"
interval = "month"
monthly_credits = 100
[operations.video]
rates = { seconds = { credits = 1, cost = 0.05 } }
"""


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with database.connect(admin=True) as connection:
        yield connection


@pytest.fixture
def ada(database: Database, admin: Connection) -> UUID:
    """Seventy days: a plan of 100 credits a month, renders by the second, and a plain spend."""
    account = account_of(admin, create_user(database, "ada@example.com"))
    with days_ago(admin, 70):
        sync_product(admin)
        sync_price(admin, lookup_key="pro", unit_amount=2000, metadata={"monthly_credits": "100"})
        set_price(admin, "video", {"seconds": 1})
        link(admin, account)
    pay(admin, account, 65)
    with days_ago(admin, 60):
        settle_work(admin, hold_work(admin, account, 40)["id"], 30)
    with days_ago(admin, 50):
        spend(admin, account, 20)
    with days_ago(admin, 40):
        spend_work(admin, account, 30)
    pay(admin, account, 35)
    with days_ago(admin, 20):
        charge = spend_work(admin, account, 40)
        refund(admin, charge["entry_id"], 10)
    call(admin, "expire_due_credits")
    return account


def pay(admin: Connection, account: UUID, days: int) -> None:
    """A paid month and its credits, which expire after thirty days."""
    at = datetime.now(UTC) - days * DAY
    paid = {"invoiced_at": at, "paid_at": at, "as_of": at}
    with days_ago(admin, days):
        period = {"stripe_subscription_item_id": None, "period_start": at, "period_end": at + 30 * DAY}
        lines = [invoice_line(f"il_{days}", **period)]
        sync_invoice(admin, stripe_invoice_id=f"in_{days}", **paid, billing_reason="manual", lines=lines)
        entry = grant(admin, account, 100, source="app", expires_at=at + 30 * DAY)
    with ExitStack() as stack:
        stack.enter_context(admin.transaction())
        admin.execute("set local session_replication_role = replica")
        change = "source = 'stripe.monthly_allocation'"
        admin.execute(f"update billing.credit_entries set {change} where id = %s", [entry["id"]])
        admin.execute(
            f"update billing.credit_grants set {change}, stripe_price_id = 'price_1' where entry_id = %s",
            [entry["id"]],
        )


@pytest.fixture
def simulate(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Any]:
    till = Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")
    file = tmp_path / "new.toml"

    def run(text: str = NOW_FILE, *options: str) -> Any:
        file.write_text(text)
        return till.json("plans", "simulate", file, *options)

    run.till, run.file = till, file  # type: ignore[attr-defined]
    return run


def test_the_same_prices_change_nothing_and_agree_with_the_ledger(
    simulate: Callable[..., Any], ada: UUID, admin: Connection
) -> None:
    found = simulate()
    assert found["now"] == found["new"]
    assert found["differs_from_ledger"] == 0
    assert found["now"] == {
        "granted": 200, "used": 110, "unpaid": 0, "expired": found["now"]["expired"],
        "outstanding": value(admin, "select balance from billing.credit_balances where account_id = %s", [ada]),
        "dry_at": None, "accounts_dry": 0, "revenue": {"usd": 4000}, "cost": 5.0, "margin": {"usd": 35.0},
    }  # fmt: skip
    assert (
        found["now"]["granted"] - found["now"]["used"] - found["now"]["expired"]
        == found["now"]["outstanding"]
    )
    assert found["operations"] == [
        {"operation": "video", "calls": 3, "now": 90, "new": 90, "cost": 5.0, "is_in_file": True}
    ]
    assert discrepancies(admin) == []


def test_a_dearer_operation_shows_who_runs_dry_and_when(simulate: Callable[..., Any], ada: UUID) -> None:
    found = simulate(NOW_FILE.replace("credits = 1,", "credits = 2,"))
    [account] = found["accounts"]
    assert (account["email"], account["now"]["dry_at"]) == ("ada@example.com", None)
    # 100 granted; 60 and 20 used, so 20 are left for 60 seconds on the day forty days ago.
    assert account["new"]["dry_at"].startswith(f"{datetime.now(UTC) - 40 * DAY:%Y-%m-%d}")
    assert account["new"]["unpaid"] == 40
    assert found["new"]["used"] == 60 + 20 + 60 + 80 - 20
    assert found["new"]["accounts_dry"] == 1
    assert found["now"]["cost"] == found["new"]["cost"] == 5.0


def test_plans_change_credits_and_revenue_in_proportion(simulate: Callable[..., Any], ada: UUID) -> None:
    changed = NOW_FILE.replace("monthly_credits = 100", "monthly_credits = 45").replace("= 2000", "= 3000")
    found = simulate(changed)
    assert (found["new"]["granted"], found["new"]["revenue"]) == (90, {"usd": 6000})
    assert found["new"]["margin"] == {"usd": 55.0}
    assert found["accounts"][0]["new"]["dry_at"] is not None
    assert found["now"]["granted"] == 200


def test_plans_and_operations_that_the_file_does_not_have_stay(
    simulate: Callable[..., Any], ada: UUID
) -> None:
    found = simulate("[operations.other]\nrates = { call = 1 }\n")
    assert found["new"] == found["now"]
    assert found["operations"][0]["is_in_file"] is False
    other = simulate("[operations.video]\nrates = { minutes = 1 }\n")
    assert other["operations"][0]["is_in_file"] is False


def test_money_back_is_no_revenue(simulate: Callable[..., Any], ada: UUID, admin: Connection) -> None:
    at = datetime.now(UTC) - DAY
    sync_payment(admin, stripe_charge_id="ch_1", charged_at=at, as_of=at)
    sync_refund(admin, amount=500, refunded_at=at, as_of=at)
    assert simulate()["now"]["revenue"] == {"usd": 3500}


def test_what_was_there_before_the_months_is_there_at_their_start(
    simulate: Callable[..., Any], ada: UUID, admin: Connection
) -> None:
    found = simulate(NOW_FILE, "--months", "1")
    assert found["differs_from_ledger"] == 0
    assert (found["now"]["granted"], found["now"]["used"]) == (0, 30)
    assert found["now"]["outstanding"] == value(
        admin, "select balance from billing.credit_balances where account_id = %s", [ada]
    )


def test_clipped_work_keeps_its_share_and_debt_is_use(
    simulate: Callable[..., Any], ada: UUID, admin: Connection
) -> None:
    grant(admin, ada, 100)
    settle_work(admin, hold_work(admin, ada, 10)["id"], 40, on_excess="clip")
    settle_work(admin, hold_work(admin, ada, 10)["id"], 30)
    assert simulate()["operations"][0]["now"] == 90 + 10 + 30
    doubled = simulate(NOW_FILE.replace("credits = 1,", "credits = 2,"))
    assert doubled["operations"][0]["new"] == 180 + 20 + 60


def test_free_work_can_become_dear(simulate: Callable[..., Any], ada: UUID, admin: Connection) -> None:
    set_price(admin, "video", {"seconds": 0})
    spend_work(admin, ada, 7)
    found = simulate()
    assert found["operations"][0]["calls"] == 4
    assert found["new"]["used"] == found["now"]["used"] + 7


def test_people_read_a_table_the_assumptions_and_a_page(simulate: Any, ada: UUID, tmp_path: Path) -> None:
    simulate.file.write_text(NOW_FILE.replace("credits = 1,", "credits = 2,"))
    html = tmp_path / "page.html"
    printed = simulate.till("plans", "simulate", simulate.file, "--html", html)
    assert "accounts that run dry" in printed.out
    assert "ada@example.com" in printed.out
    assert "Everybody uses as much as they did" in printed.err
    text = html.read_text()
    assert text.count("<path") == 2
    assert "ada@example.com" in text
    assert "Everybody uses as much as they did" in text
    assert "http" not in text


def test_it_writes_nothing(simulate: Callable[..., Any], ada: UUID, admin: Connection) -> None:
    before = value(admin, "select count(*) from billing.operation_prices")
    simulate(NOW_FILE.replace("credits = 1,", "credits = 2,"))
    assert value(admin, "select count(*) from billing.operation_prices") == before
    assert simulate.till is not None  # type: ignore[attr-defined]


numbers = st.one_of(st.integers(0, 10**6), st.decimals(0, 1000, places=6))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rates=st.dictionaries(
        st.sampled_from(["call", "input", "seconds"]),
        st.tuples(numbers, st.sampled_from([1, 3, 60, 1000])),
        min_size=1,
    ),
    quantities=st.dictionaries(
        st.sampled_from(["call", "input", "seconds"]),
        st.one_of(st.integers(0, 10**6), st.floats(0, 1e6).map(lambda it: round(it, 9))),
    ),
    markup=st.integers(-100, 300),
    rounding=st.sampled_from(["up", "half_up", "down"]),
    minimum=st.integers(0, 3),
)
def test_it_prices_work_as_the_database_does(
    admin: Connection,
    rates: dict[str, tuple[Decimal | int, int]],
    quantities: dict[str, float],
    markup: int,
    rounding: str,
    minimum: int,
) -> None:
    quantities = {name: number for name, number in quantities.items() if name in rates}
    declared = {name: {"credits": float(credits), "per": per} for name, (credits, per) in rates.items()}
    terms = {"markup": markup, "rounding": rounding, "minimum": minimum}
    operation = Operation.model_validate({"rates": declared, **terms})
    with admin.transaction(force_rollback=True):
        call(admin, "set_operation_price", operation="chat", rates=Jsonb(declared), **terms)
        found = call(admin, "estimate_work", operation="chat", quantities=Jsonb(quantities))
    assert credits_of(operation, quantities) == found["credits"]
