"""An installation with rules of free credits, and its users."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.sql.calls import (
    JANUARY,
    Connection,
    Row,
    balance,
    call,
    discrepancies,
    fetch,
    item,
    link,
    sync_subscription,
)
from tests.support import Database, account_of, create_user

NOON = datetime(2030, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class World:
    """An installation in the middle of June 2030, with its users."""

    def __init__(self, database: Database, app: Connection, admin: Connection) -> None:
        self.database = database
        self.app = app
        self.admin = admin
        self.go_to(NOON)

    def go_to(self, moment: datetime) -> None:
        self.admin.execute(
            "update billing.clock set ahead_by = greatest(%s - clock_timestamp(), '0')", [moment]
        )

    def rule(self, name: str = "daily", credits: int = 10, every: str = "day", **more: Any) -> Row:
        return call(self.app, "set_free_credits", name=name, credits=credits, every=every, **more)

    def sign_up(self, email: str | None = None) -> UUID:
        return account_of(self.admin, create_user(self.database, email))

    def sign_up_unconfirmed(self, email: str) -> UUID:
        user = uuid4()
        self.admin.execute("insert into auth.users (id, email) values (%s, %s)", [user, email])
        return account_of(self.admin, user)

    def delete_user(self, account: UUID) -> None:
        self.admin.execute(
            "delete from auth.users where id = (select owner_id from billing.accounts where id = %s)",
            [account],
        )

    def allocate(self, **more: Any) -> Row:
        return call(self.app, "allocate_due_credits", **more)

    def balance(self, account: UUID) -> int:
        """As a spend would find it."""
        self.app.execute("select billing.expire_due_credits()")
        return balance(self.admin, account)

    def discrepancies(self) -> list[tuple[str, str]]:
        """Of the ledger, and of what was granted with what should be."""
        off = "select invariant, detail from billing.entitlement_discrepancies"
        return discrepancies(self.admin) + [
            (row["invariant"], row["detail"]) for row in fetch(self.admin, off)
        ]

    def subscribe(self, account: UUID, status: str = "active", at: datetime = JANUARY, **more: Any) -> None:
        """What Stripe reports of the account's subscription."""
        customer = f"cus_{account.hex}"
        if not fetch(self.admin, "select from billing.customers where stripe_customer_id = %s", [customer]):
            link(self.app, account, customer)
        with self.database.connect("billing_worker") as worker:
            sync_subscription(
                worker, stripe_subscription_id=f"sub_{account.hex}", stripe_customer_id=customer, status=status,
                as_of=at, items=[item(f"si_{account.hex}", stripe_price_id="price_1")], **more,
            )  # fmt: skip
