"""A customer who buys plans and packs, in few words: invoices, changes, money that is returned, months that pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.sql.calls import (
    Connection,
    Row,
    allocate,
    available,
    balance,
    balances,
    discrepancies,
    expire_due,
    fetch,
    item,
    line,
    link,
    lots,
    move_clock,
    spend,
    sync_credit_note,
    sync_dispute,
    sync_invoice,
    sync_invoice_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    value,
)

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
# A month of 30 days, so that half of it is 15.
START = datetime(2028, 6, 1, tzinfo=UTC)
NOON = START + 15 * DAY
JULY = datetime(2028, 7, 1, tzinfo=UTC)
AUGUST = datetime(2028, 8, 1, tzinfo=UTC)
SEPTEMBER = datetime(2028, 9, 1, tzinfo=UTC)
YEAR_END = datetime(2029, 6, 1, tzinfo=UTC)


def of(plan: str, amount: int, start: datetime, end: datetime, name: str | None = None, **more: Any) -> Row:
    """A line for time of a plan; amount in minor units. Its id says what it is, unless named."""
    given = {"quantity": 1, "stripe_subscription_item_id": "si_1"} | more
    name = name or f"il_{plan}_{amount}_{given['quantity']}_{start:%m%d%H%M%S}"
    return line(
        name, amount=amount, period_start=start, period_end=end, stripe_price_id=f"price_{plan}", **given
    )


def credit(plan: str, amount: int, start: datetime, end: datetime, **more: Any) -> Row:
    """A line that credits the rest of a period: amount below zero, or 0 of what was free."""
    return of(plan, amount, start, end, is_proration=True, **more)


def rest(plan: str, amount: int, start: datetime, end: datetime, **more: Any) -> Row:
    """A line that charges for the rest of a period."""
    return of(plan, amount, start, end, is_proration=True, **more)


@dataclass
class Shop:
    """One account whose customer is cus_1, and what Stripe reports of it."""

    account: UUID
    app: Connection
    worker: Connection
    admin: Connection
    invoices: dict[str, Row] = field(default_factory=dict)
    states: int = 0

    def __post_init__(self) -> None:
        link(self.app, self.account, "cus_1")

    # What is on sale

    def sell(self, plan: str, monthly: int, *, product: str | None = None, **more: Any) -> None:
        """price_{plan}: so many credits a month, of prod_{plan} unless another product is named."""
        interval = more.pop("interval", "month")
        arguments = {
            key: more.pop(key)
            for key in ("as_of", "usage_type", "unit_amount", "recurring_interval_count")
            if key in more
        }
        product_id = f"prod_{product or plan}"
        sync_product(self.worker, stripe_product_id=product_id)
        sync_price(
            self.worker,
            stripe_price_id=f"price_{plan}",
            stripe_product_id=product_id,
            recurring_interval=interval,
            metadata={"monthly_credits": str(monthly)} | {key: str(text) for key, text in more.items()},
            **arguments,
        )

    # What Stripe reports

    def state(self, at: datetime, *items: Row, subscription: str = "sub_1", **more: Any) -> str:
        """The subscription as of a moment, its anchor at START unless said."""
        self.states += 1
        return sync_subscription(
            self.worker,
            stripe_subscription_id=subscription,
            as_of=at,
            items=list(items) or [item(current_period_start=START, current_period_end=JULY)],
            **{"billing_cycle_anchor": START, "started_at": START} | more,
        )

    def bill(
        self, number: str, at: datetime, *lines: Row, subscription: str | None = "sub_1", **more: Any
    ) -> None:
        """A paid invoice, and what paid it: by payment intent pi_{number} as far as the balance did not."""
        total = sum(each["amount"] - (each["discount"] or 0) for each in lines)
        from_balance = more.pop("from_balance", 0)
        invoice: Row = {
            "stripe_invoice_id": number,
            "stripe_subscription_id": subscription,
            "billing_reason": "subscription_update",
            "subtotal": sum(each["amount"] for each in lines),
            "total": total,
            "amount_due": max(total - from_balance, 0),
            "amount_paid": max(total - from_balance, 0),
            "invoiced_at": at,
            "paid_at": at,
            "as_of": at,
            "lines": list(lines),
        } | more
        self.invoices[number] = invoice
        sync_invoice(self.worker, **invoice)
        if invoice["amount_paid"] > 0 and invoice["status" if "status" in invoice else "paid_at"]:
            sync_invoice_payment(
                self.worker,
                stripe_invoice_payment_id=f"inpay_{number}",
                stripe_invoice_id=number,
                stripe_payment_intent_id=f"pi_{number}",
                amount_paid=invoice["amount_paid"],
            )

    def again(self, number: str) -> None:
        """The same invoice, reported once more."""
        sync_invoice(self.worker, **self.invoices[number])

    def refund(self, number: str, amount: int, at: datetime, name: str = "re_1", **more: Any) -> None:
        sync_refund(
            self.worker,
            stripe_refund_id=name,
            stripe_charge_id=f"ch_{number}",
            stripe_payment_intent_id=f"pi_{number}",
            amount=amount,
            refunded_at=at,
            **{"as_of": at} | more,
        )

    def note(self, number: str, amount: int, at: datetime, name: str = "cn_1", **more: Any) -> None:
        """A credit note; `lines` maps lines of the invoice to what is credited on each."""
        lines = [
            {"stripe_line_id": line_id, "amount": part} for line_id, part in more.pop("lines", {}).items()
        ]
        sync_credit_note(
            self.worker,
            stripe_credit_note_id=name,
            stripe_invoice_id=number,
            amount=amount,
            noted_at=at,
            lines=lines,
            **{"as_of": at} | more,
        )

    def dispute(self, number: str, amount: int, at: datetime, status: str = "needs_response") -> None:
        sync_dispute(
            self.worker,
            stripe_charge_id=f"ch_{number}",
            stripe_payment_intent_id=f"pi_{number}",
            amount=amount,
            status=status,
            disputed_at=at,
            as_of=at,
        )

    # What happens here

    def go_to(self, moment: datetime) -> None:
        """It is that time, and the clock has done its work."""
        move_clock(self.admin, moment - datetime.now(UTC))
        self.tick()

    def tick(self) -> None:
        allocate(self.worker)
        expire_due(self.worker)

    def spend(self, amount: int) -> Row:
        return spend(self.app, self.account, amount)

    # What came of it

    @property
    def balance(self) -> int:
        """The whole balance, once the ledger has been proved."""
        assert discrepancies(self.admin) == []
        return balance(self.admin, self.account)

    @property
    def available(self) -> int:
        assert discrepancies(self.admin) == []
        return available(self.admin, self.account)

    @property
    def carried(self) -> int:
        """What later credits that an invoice pays for will be less."""
        row = balances(self.admin, self.account)
        listed = "select coalesce(-sum(amount), 0)::bigint from billing.carried_credits where account_id = %s"
        assert row["carried"] == value(self.admin, listed, [self.account])
        return row["carried"]

    def lots(self) -> list[Row]:
        return lots(self.admin, self.account)

    def keys(self, prefix: str) -> list[tuple[str, int]]:
        """Keys that begin so, without the prefix and the account, and what was granted for each."""
        found = fetch(
            self.admin,
            "select idempotency_key, amount from billing.credit_grants where idempotency_key ^@ %s order by 1",
            [f"{prefix}:"],
        )
        return [
            (row["idempotency_key"].removeprefix(f"{prefix}:").replace(f"{self.account}:", ""), row["amount"])
            for row in found
        ]


Story = Callable[[Shop], None]
