"""Two subscribers do the same; the worker is late for one of them: both are billed the same, and nothing twice."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from tests.sql.calls import Connection, allocate, fetch, grant, link, move_clock, refund, spend, value
from tests.sql.test_overages import (
    LIMIT,
    MONTHLY,
    claim,
    item,
    line,
    month,
    sell,
    sync_invoice,
    sync_subscription,
    terms,
)
from tests.support import Database, account_of, create_user

MONTHS = 3
DAY = timedelta(days=1)

Op = tuple[str, int]
spends = st.tuples(st.just("spend"), st.integers(1, MONTHLY + LIMIT))
gifts = st.tuples(st.just("gift"), st.integers(1, LIMIT))
refunds = st.tuples(st.just("refund"), st.integers(0, 5))
months = st.lists(
    st.lists(st.one_of(spends, spends, gifts, refunds), max_size=5), min_size=MONTHS, max_size=MONTHS
)


class Subscriber:
    def __init__(self, database: Database, app: Connection, worker: Connection, start: datetime) -> None:
        self.app, self.worker, self.start = app, worker, start
        self.name = uuid4().hex
        self.account: UUID = account_of(app, create_user(database))
        self.spent: list[int] = []
        self.used = self.given = self.paid = 0
        link(app, self.account, f"cus_{self.name}")
        period = {"current_period_start": start, "current_period_end": month(start, 12)}
        sync_subscription(
            worker,
            stripe_subscription_id=f"sub_{self.name}",
            stripe_customer_id=f"cus_{self.name}",
            billing_cycle_anchor=start,
            started_at=start,
            items=[item(f"si_{self.name}", **period)],
            as_of=start,
        )
        year = {"period_start": start, "period_end": month(start, 12)}
        self.pay("year", start, line(stripe_subscription_item_id=f"si_{self.name}", **year))
        self.given = MONTHLY

    def pay_overages(self, number: int) -> None:
        """Those that were not paid yet."""
        owed = sum(self.overages()) - self.paid
        if owed:
            pack = {"stripe_price_id": "price_overage", "quantity": owed, "amount": owed}
            at = month(self.start, number + 1) - DAY
            self.pay(f"own_{number}", at, line(stripe_subscription_item_id=None, **pack))
            self.paid += owed

    def pay(self, what: str, at: datetime, bought: dict[str, Any]) -> None:
        name = f"{what}_{self.name}"
        is_plan = bought["stripe_subscription_item_id"] is not None
        sync_invoice(
            self.worker,
            stripe_invoice_id=f"in_{name}",
            stripe_customer_id=f"cus_{self.name}",
            stripe_subscription_id=f"sub_{self.name}" if is_plan else None,
            billing_reason="subscription_create" if is_plan else "manual",
            total=bought["amount"],
            invoiced_at=at,
            paid_at=at,
            as_of=at,
            lines=[{**bought, "stripe_line_id": f"il_{name}"}],
        )

    def do(self, op: Op) -> None:
        what, amount = op
        row = self.row()
        if what == "spend":
            room = row["balance"] + LIMIT
            if room > 0:
                entry = spend(self.app, self.account, min(amount, room))
                self.used -= entry["amount"]
                self.spent.append(entry["id"])
        elif what == "gift":
            grant(self.app, self.account, amount)
            self.given += amount
        elif self.spent:
            self.used -= refund(self.app, self.spent.pop(amount % len(self.spent)))["amount"]

    def row(self) -> dict[str, Any]:
        [row] = fetch(self.app, "select * from billing.credit_balances where account_id = %s", [self.account])
        return row

    def overages(self) -> list[int]:
        rows = fetch(
            self.app,
            "select credits from billing.overages where account_id = %s order by counted_from",
            [self.account],
        )
        return [row["credits"] for row in rows]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(months=months, late=st.integers(0, 5))
def test_a_late_worker_bills_what_a_punctual_one_does(
    database: Database, months: list[list[Op]], late: int
) -> None:
    with (
        database.connect() as app,
        database.connect("billing_worker") as worker,
        database.connect(admin=True) as admin,
    ):
        move_clock(admin, timedelta())
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        if value(app, "select count(*) from billing.plans") == 0:
            sell(worker, recurring_interval="year", metadata=terms(credits_rollover="all"))
        punctual, tardy = (Subscriber(database, app, worker, start) for _ in range(2))
        for number, ops in enumerate(months):
            if number > 0:
                move_clock(admin, month(start, number) - datetime.now(UTC) + timedelta(hours=1))
                judge(database, worker, punctual, tardy)
                allocate(worker)
                for subscriber in (punctual, tardy):
                    subscriber.given += MONTHLY
            for place, op in enumerate(ops):
                punctual.do(op)
                if number > 0 and place == late:
                    judge(database, worker, tardy, punctual)
                tardy.do(op)
            claim(worker)
            assert punctual.overages() == tardy.overages()
            for subscriber in (punctual, tardy):
                subscriber.pay_overages(number)
                row = subscriber.row()
                assert row["balance"] == subscriber.given + subscriber.paid - subscriber.used
        move_clock(admin, month(start, MONTHS) - datetime.now(UTC) + timedelta(hours=1))
        claim(worker)
        for subscriber in (punctual, tardy):
            subscriber.pay_overages(MONTHS)
            # Everything that was used beyond what was given is paid, and nothing twice.
            assert subscriber.row()["debt"] == 0
        assert fetch(app, "select * from billing.ledger_discrepancies") == []


def judge(database: Database, worker: Connection, one: Subscriber, other: Subscriber) -> None:
    """The clock's run reaches one of the two: the other is in use."""
    with database.connect() as app, app.transaction():
        app.execute("select from billing.credit_balances where account_id = %s for update", [other.account])
        claim(worker)
