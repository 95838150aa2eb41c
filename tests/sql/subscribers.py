"""Accounts whose year is paid, and time that passes → months of credits that are due."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.sql.calls import (
    Connection,
    item,
    line,
    link,
    move_clock,
    sync_invoice,
    sync_price,
    sync_subscription,
)
from tests.support import Database, account_of, create_user

CREDITS = 100
# More than any month has, less than two of them have.
A_MONTH = timedelta(days=32)


def subscribe_by_the_year(database: Database, owner: Connection, count: int) -> list[UUID]:
    """Accounts that have just paid for a year and were granted its first month; `owner` is `postgres`."""
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(days=365)
    sync_price(
        owner,
        stripe_price_id="price_year",
        recurring_interval="year",
        metadata={"monthly_credits": str(CREDITS)},
    )
    accounts = [account_of(owner, create_user(database)) for _ in range(count)]
    for number, account in enumerate(accounts):
        names = {"stripe_subscription_id": f"sub_year_{number}", "stripe_customer_id": f"cus_year_{number}"}
        of_item = {"stripe_subscription_item_id": f"si_year_{number}", "stripe_price_id": "price_year"}
        link(owner, account, names["stripe_customer_id"])
        sync_subscription(
            owner,
            **names,
            billing_cycle_anchor=start,
            started_at=start,
            items=[item(**of_item, current_period_start=start, current_period_end=end)],
        )
        sync_invoice(
            owner,
            **names,
            stripe_invoice_id=f"in_year_{number}",
            lines=[line(f"il_year_{number}", **of_item, period_start=start, period_end=end)],
        )
    return accounts


def let_a_month_begin(database: Database) -> None:
    """One slot of each subscriber is due then."""
    with database.connect(admin=True) as admin:
        move_clock(admin, A_MONTH)
