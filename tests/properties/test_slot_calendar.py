"""Any plan, anchor, run of clocks and states: the slots that are granted are those of a calendar kept by dateutil."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.calls import (
    SECOND,
    allocate,
    discrepancies,
    fetch,
    item,
    line,
    link,
    move_clock,
    sync_invoice,
    sync_price,
    sync_subscription,
)
from tests.support import Database, account_of, create_user

INTERVALS = {
    "week": ("week", 1, timedelta(weeks=1)),
    "month": ("month", 1, relativedelta(months=1)),
    "quarter": ("month", 3, relativedelta(months=3)),
    "half a year": ("month", 6, relativedelta(months=6)),
    "year": ("year", 1, relativedelta(years=1)),
    "two years": ("year", 2, relativedelta(years=2)),
}
ANCHORS = st.one_of(
    st.datetimes(datetime(2027, 1, 1), datetime(2032, 12, 31), timezones=st.just(UTC)),
    # Where months end is where calendars go wrong.
    st.builds(
        lambda year, month: datetime(year, month, 1, 23, 59, 59, tzinfo=UTC) - timedelta(days=1),
        st.integers(2027, 2032),
        st.integers(1, 12),
    ),
).map(lambda moment: moment.replace(microsecond=0))

STOPPED = {"pause": "paused", "stop collection": "active", "leave unpaid": "unpaid"}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("days pass"), st.integers(1, 200)),
        st.tuples(st.just("clock"), st.integers(0, 120)),
        st.tuples(st.just("pay the next period"), st.just(0)),
        st.tuples(st.sampled_from(sorted(STOPPED)), st.just(0)),
        st.tuples(st.just("recover"), st.just(0)),
        st.tuples(st.just("cancel at period end"), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 90)),
    ),
    min_size=1,
    max_size=14,
)

_numbers = count(1)


@dataclass
class Calendar:
    """What must be granted, by a calendar of its own."""

    anchor: datetime
    step: Any
    opens_slots: bool
    periods: int = 0
    is_stopped: bool = False
    ended_at: datetime | None = None
    granted: set[datetime] = field(default_factory=set)

    def period(self, number: int) -> tuple[datetime, datetime]:
        return self.anchor + self.step * number, self.anchor + self.step * (number + 1)

    def pay(self) -> tuple[datetime, datetime]:
        start, end = self.period(self.periods)
        self.periods += 1
        if self.opens_slots:
            self.granted.add(start)
        return start, end

    def grant(self, as_of: datetime) -> None:
        if self.is_stopped:
            return
        paid_until = self.period(self.periods)[0]
        ends = min(paid_until, self.ended_at or paid_until)
        slot, k = self.anchor, 0
        while slot <= as_of and slot < ends:
            self.granted.add(slot)
            k += 1
            slot = self.anchor + relativedelta(months=k)


class Shop:
    """One subscription in the database, told of as Stripe would."""

    def __init__(self, database: Database, admin: psycopg.Connection[Any], interval: str, anchor: datetime):
        self.admin = admin
        self.number = next(_numbers)
        self.name, self.count, step = INTERVALS[interval]
        self.calendar = Calendar(anchor, step, opens_slots=self.name != "week")
        self.told = 0
        self.now = anchor
        account = account_of(admin, create_user(database))
        link(admin, account, f"cus_{self.number}")
        sync_price(
            admin,
            stripe_price_id=f"price_{self.number}",
            recurring_interval=self.name,
            recurring_interval_count=self.count,
            metadata={"monthly_credits": "10"},
        )
        self.tell()
        self.pay()

    def tell(self, **state: Any) -> None:
        start, end = self.calendar.period(max(self.calendar.periods - 1, 0))
        self.told += 1
        sync_subscription(
            self.admin,
            **{
                "stripe_subscription_id": f"sub_{self.number}",
                "stripe_customer_id": f"cus_{self.number}",
                "billing_cycle_anchor": self.calendar.anchor,
                "as_of": self.calendar.anchor + self.told * SECOND,
                "items": [
                    item(
                        f"si_{self.number}",
                        stripe_price_id=f"price_{self.number}",
                        current_period_start=start,
                        current_period_end=end,
                    )
                ],
            }
            | state,
        )
        self.calendar.grant(self.now)

    def pay(self) -> None:
        start, end = self.calendar.pay()
        paid = line(
            f"il_{self.number}_{self.calendar.periods}",
            stripe_subscription_item_id=f"si_{self.number}",
            stripe_price_id=f"price_{self.number}",
            period_start=start,
            period_end=end,
        )
        sync_invoice(
            self.admin,
            stripe_invoice_id=f"in_{self.number}_{self.calendar.periods}",
            stripe_customer_id=f"cus_{self.number}",
            stripe_subscription_id=f"sub_{self.number}",
            billing_reason="subscription_cycle",
            invoiced_at=start,
            as_of=start,
            lines=[paid],
        )
        self.calendar.grant(self.now)

    def step(self, what: str, days: int) -> None:
        calendar = self.calendar
        match what:
            case "days pass":
                self.now += timedelta(days=days)
                move_clock(self.admin, self.now + timedelta(minutes=1) - datetime.now(UTC))
            case "clock":
                as_of = self.now - timedelta(days=days)
                allocate(self.admin, as_of=as_of)
                calendar.grant(as_of)
            case "pay the next period":
                if calendar.ended_at is None:
                    self.pay()
            case "recover":
                if calendar.ended_at is None:
                    calendar.is_stopped = False
                    self.tell()
            case "cancel at period end":
                if calendar.ended_at is None:
                    calendar.is_stopped = False
                    self.tell(cancel_at_period_end=True, canceled_at=self.now)
            case "cancel":
                if calendar.ended_at is None:
                    calendar.is_stopped = False
                    calendar.ended_at = max(self.now - timedelta(days=days), calendar.anchor)
                    self.tell(status="canceled", canceled_at=self.now, ended_at=calendar.ended_at)
            case _:
                if calendar.ended_at is None:
                    calendar.is_stopped = True
                    self.tell(status=STOPPED[what], is_collection_paused=what == "stop collection")

    def granted(self) -> list[datetime]:
        rows = fetch(
            self.admin,
            "select right(idempotency_key, 20) as slot from billing.credit_entries "
            "where idempotency_key ^@ %s order by 1",
            [f"monthly:si_{self.number}:"],
        )
        return [datetime.fromisoformat(row["slot"]) for row in rows]


def test_slots_are_those_of_the_calendar(database: Database) -> None:
    with database.connect(admin=True) as admin:

        @settings(
            max_examples=120,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(interval=st.sampled_from(sorted(INTERVALS)), anchor=ANCHORS, steps=STEPS)
        def plays(interval: str, anchor: datetime, steps: list[tuple[str, int]]) -> None:
            move_clock(admin, anchor + timedelta(minutes=1) - datetime.now(UTC))
            shop = Shop(database, admin, interval, anchor)
            for what, days in [*steps, ("days pass", 800), ("clock", 0), ("recover", 0), ("clock", 0)]:
                shop.step(what, days)
                assert shop.granted() == sorted(shop.calendar.granted), what

        plays()
        assert discrepancies(admin) == []
