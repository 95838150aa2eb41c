"""The worked examples of docs/explanation/rules-of-credits.md, played as events: the printed figures are the results.

Each row of the table is an example by name. Its text brings the figures that go in, in their order; what comes out is
compared with the words in bold.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    Connection,
    Row,
    allocate,
    balance,
    discrepancies,
    fetch,
    item,
    line,
    link,
    lots,
    move_clock,
    spend,
    sync_checkout_session,
    sync_credit_note,
    sync_invoice,
    sync_invoice_payment,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    value,
)
from tests.support import Database, account_of, create_user

DOCUMENT = Path(__file__).parents[1] / "docs/explanation/rules-of-credits.md"
LIFE_OF_A_CREDIT = DOCUMENT.with_name("credits.md")

START = datetime(2028, 6, 1, tzinfo=UTC)
JULY = datetime(2028, 7, 1, tzinfo=UTC)
AUGUST = datetime(2028, 8, 1, tzinfo=UTC)
NEXT_YEAR = datetime(2029, 6, 1, tzinfo=UTC)
HALFWAY = datetime(2028, 6, 16, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Customer:
    """One customer of a shop, and the time that goes by for both."""

    def __init__(self, database: Database, conn: Connection, worker: Connection, admin: Connection) -> None:
        self.conn, self.worker, self.admin = conn, worker, admin
        self.account: UUID = account_of(conn, create_user(database))
        self.number = 0
        link(conn, self.account)
        self.wait_until(START)

    @property
    def credits(self) -> int:
        return balance(self.conn, self.account)

    @property
    def carried(self) -> int:
        return value(
            self.conn, "select carried from billing.credit_balances where account_id = %s", [self.account]
        )

    def wait_until(self, moment: datetime) -> None:
        """Time goes by, and the worker's clock runs."""
        move_clock(self.admin, moment - datetime.now(UTC))
        allocate(self.worker)

    def spend(self, amount: int) -> None:
        spend(self.conn, self.account, amount)

    def offer(
        self, name: str, credits: int, interval: str = "month", as_of: datetime = START, **metadata: str
    ) -> None:
        """A product of one price, both named `name`."""
        sync_product(self.worker, stripe_product_id=name, name=name)
        sync_price(
            self.worker,
            stripe_price_id=name,
            stripe_product_id=name,
            recurring_interval=interval,
            as_of=as_of,
            metadata={"monthly_credits": str(credits), **metadata},
        )

    def subscribe(self, plan: str, at: datetime = START, quantity: int = 1, **more: Any) -> None:
        """The subscription as it is from a moment on; its months count from `billing_cycle_anchor`."""
        own = item(more.pop("stripe_subscription_item_id", "si_1"), stripe_price_id=plan, quantity=quantity)
        sync_subscription(
            self.worker,
            **{"billing_cycle_anchor": START, "started_at": START, "as_of": at, "items": [own], **more},
        )

    def pay(self, at: datetime, *lines: Row, reason: str = "subscription_cycle", **more: Any) -> str:
        """An invoice of these lines, paid at that moment by one charge; its id is in_1, in_2, …"""
        self.number += 1
        invoice_id, total = f"in_{self.number}", sum(part["amount"] - part["discount"] for part in lines)
        for place, part in enumerate(lines):
            part["stripe_line_id"] = f"il_{self.number}_{place}"
        amounts = {"subtotal": sum(part["amount"] for part in lines), "total": total, "amount_due": total}
        charged = more.pop("charged", total)
        sync_invoice(
            self.worker,
            **{
                **amounts,
                "stripe_invoice_id": invoice_id,
                "billing_reason": reason,
                "amount_paid": max(charged, 0),
                "invoiced_at": at,
                "paid_at": at,
                "as_of": at,
                "lines": list(lines),
                **more,
            },
        )
        if charged > 0:
            ids = {"stripe_payment_intent_id": f"pi_{self.number}"}
            sync_invoice_payment(
                self.worker,
                **ids,
                stripe_invoice_payment_id=f"inpay_{self.number}",
                stripe_invoice_id=invoice_id,
                amount_paid=charged,
                paid_at=at,
            )
            sync_payment(
                self.worker,
                **ids,
                stripe_charge_id=f"ch_{self.number}",
                amount=charged,
                charged_at=at,
                as_of=at,
            )
        return invoice_id

    def refund(self, at: datetime, amount: int, number: int) -> None:
        """Part of what paid invoice in_<number>."""
        sync_refund(
            self.worker,
            stripe_refund_id=f"re_{number}",
            stripe_charge_id=f"ch_{number}",
            stripe_payment_intent_id=f"pi_{number}",
            amount=amount,
            refunded_at=at,
            as_of=at,
        )


def month(plan: str, amount: int, **more: Any) -> Row:
    """The line of a whole period, June unless told."""
    period = {"period_start": START, "period_end": JULY}
    return line(**{"stripe_price_id": plan, "amount": amount, "discount": 0, **period, **more})


def year(plan: str, amount: int, **more: Any) -> Row:
    return month(plan, amount, **{"period_end": NEXT_YEAR, **more})


def unused(plan: str, amount: int, at: datetime, credited: str | None, **more: Any) -> Row:
    """Time that is credited back, from a moment to the period's end."""
    names = [] if credited is None else [credited]
    return month(plan, -amount, is_proration=True, period_start=at, credited_line_ids=names, **more)


def remaining(plan: str, amount: int, at: datetime, **more: Any) -> Row:
    """Time that a change adds, from a moment to the period's end."""
    return month(plan, amount, is_proration=True, period_start=at, **more)


@pytest.fixture
def customer(database: Database) -> Iterator[Customer]:
    with (
        database.connect("service_role") as conn,
        database.connect("billing_worker") as worker,
        database.connect(admin=True) as admin,
    ):
        yield Customer(database, conn, worker, admin)


def upgrade(customer: Customer, basic: int, pro: int) -> list[object]:
    customer.offer("basic", basic)
    customer.offer("pro", pro)
    customer.subscribe("basic")
    customer.pay(START, month("basic", 900))
    customer.wait_until(HALFWAY)
    changes = unused("basic", 450, HALFWAY, "il_1_0"), remaining("pro", 950, HALFWAY)
    customer.pay(HALFWAY, *changes, reason="subscription_update")
    return [customer.credits]


def _downgrade(customer: Customer, pro: int, basic: int, spent: int, **policy: Any) -> None:
    customer.offer("pro", pro)
    customer.offer("basic", basic, **policy)
    customer.subscribe("pro")
    customer.pay(START, month("pro", 1900))
    if spent:
        customer.spend(spent)
    customer.wait_until(HALFWAY)
    changes = unused("pro", 950, HALFWAY, "il_1_0"), remaining("basic", 450, HALFWAY)
    customer.pay(HALFWAY, *changes, reason="subscription_update")


def downgrade(customer: Customer, pro: int, basic: int) -> list[object]:
    _downgrade(customer, pro, basic, 0)
    return [customer.credits]


def downgrade_spent(customer: Customer, pro: int, spent: int, basic: int) -> list[object]:
    _downgrade(customer, pro, basic, spent)
    left, carried = customer.credits, customer.carried
    customer.subscribe("basic", HALFWAY)
    customer.wait_until(JULY)
    customer.pay(JULY, month("basic", 900, period_start=JULY, period_end=AUGUST))
    return [pro - spent - left, carried, customer.credits - left, customer.carried]


def downgrade_keep(customer: Customer, pro: int, spent: int, basic: int) -> list[object]:
    _downgrade(customer, pro, basic, spent, credits_on_downgrade="keep")
    assert customer.carried == 0
    return [customer.credits]


def to_and_fro(customer: Customer, pro: int, price: int) -> list[object]:
    """A free plan that is changed to a paid one starts a new period at Stripe."""
    customer.offer("pro", pro)
    customer.offer("free", 0)
    customer.subscribe("pro")
    customer.pay(START, month("pro", price))
    most = customer.credits
    for turn in range(1, 10):
        at, end = START + 2 * turn * MINUTE, START + 30 * DAY + (2 * turn - 1) * MINUTE
        customer.wait_until(at)
        credit = unused("pro", price - 1, at, f"il_{customer.number}_0", period_end=end if turn > 1 else JULY)
        customer.pay(
            at,
            credit,
            remaining("free", 0, at, period_end=credit["period_end"]),
            reason="subscription_update",
        )
        customer.subscribe("free", at)
        most = max(most, customer.credits)
        at, end = at + MINUTE, end + 2 * MINUTE
        customer.wait_until(at)
        customer.subscribe("pro", at, billing_cycle_anchor=at)
        customer.pay(at, month("pro", price, period_start=at, period_end=end), reason="subscription_update")
        most = max(most, customer.credits)
    return [most]


def seats(customer: Customer, bought: int, credits: int, returned: int) -> list[object]:
    customer.offer("team", credits)
    customer.subscribe("team", quantity=bought)
    customer.pay(START, month("team", 1000 * bought, quantity=bought))
    at, kept = START + MINUTE, bought - returned
    customer.wait_until(at)
    customer.pay(
        at,
        unused("team", 1000 * bought, at, "il_1_0", quantity=bought),
        remaining("team", 1000 * kept, at, quantity=kept),
        reason="subscription_update",
    )
    return [customer.credits]


def item_replaced(customer: Customer, credits: int, day: int) -> list[object]:
    customer.offer("yearly", credits, "year")
    customer.offer("other", credits, "year")
    customer.subscribe("yearly")
    customer.pay(START, year("yearly", 12000))
    at = START + day * DAY
    customer.wait_until(at)
    customer.subscribe("other", at, stripe_subscription_item_id="si_2")
    return [customer.credits]


def yearly_refund(customer: Customer, credits: int, price: int, day: int, returned: int) -> list[object]:
    customer.offer("yearly", credits, "year")
    customer.subscribe("yearly")
    customer.pay(START, year("yearly", price))
    at = START + day * DAY
    customer.wait_until(at)
    customer.subscribe("yearly", at, status="canceled", canceled_at=at, ended_at=at)
    customer.refund(at, returned, 1)
    left = customer.credits
    customer.wait_until(NEXT_YEAR)
    assert customer.credits == left
    return [left]


def fifth_seat(
    customer: Customer, seats: int, credits: int, price: int, day: int, fifth: int
) -> list[object]:
    customer.offer("team", credits, "year")
    customer.subscribe("team", quantity=seats)
    customer.pay(START, year("team", price, quantity=seats))
    at = START + day * DAY
    customer.wait_until(at)
    rest = {"period_end": NEXT_YEAR, "is_proration": True, "period_start": at}
    left = round(price * (365 - day) / 365)
    customer.pay(
        at,
        month("team", -left, credited_line_ids=["il_1_0"], quantity=seats, **rest),
        month("team", left + fifth, quantity=seats + 1, **rest),
        reason="subscription_update",
    )
    customer.subscribe("team", at, quantity=seats + 1)
    with_five = customer.credits
    customer.refund(at + DAY, fifth, 2)
    customer.subscribe("team", at + DAY, quantity=seats)
    before = customer.credits
    assert before < with_five
    customer.wait_until(START + 65 * DAY)  # August has begun
    return [customer.credits - before]


def balance_and_card(customer: Customer, credits: int, price: int, used: int, returned: int) -> list[object]:
    customer.offer("pro", credits)
    customer.subscribe("pro")
    customer.pay(START, month("pro", price), charged=price - used)
    customer.refund(HALFWAY, returned, 1)
    return [credits - customer.credits, customer.credits]


def initial_and_monthly(customer: Customer, initial: int, monthly: int, spent: int) -> list[object]:
    customer.offer("pro", monthly, initial_credits=str(initial))
    customer.subscribe("pro")
    customer.pay(START, month("pro", 1900))
    assert customer.credits == initial + monthly
    customer.spend(spent)
    customer.refund(HALFWAY, 950, 1)
    return [customer.credits]


def add_on_credited(customer: Customer, plan: int, add_on: int) -> list[object]:
    customer.offer("plan", plan)
    customer.offer("add_on", add_on)
    own = [item("si_1", stripe_price_id="plan"), item("si_2", stripe_price_id="add_on")]
    customer.subscribe("plan", items=own)
    customer.pay(START, month("plan", 1900), month("add_on", 500, stripe_subscription_item_id="si_2"))
    assert customer.credits == plan + add_on
    sync_credit_note(
        customer.worker,
        amount=500,
        noted_at=HALFWAY,
        as_of=HALFWAY,
        lines=[{"stripe_line_id": "il_1_1", "amount": 500}],
    )
    return [customer.credits]


def downgrade_and_refund(
    customer: Customer, pro: int, price: int, credited: int, returned: int
) -> list[object]:
    customer.offer("pro", pro)
    customer.offer("free", 0)
    customer.subscribe("pro")
    customer.pay(START, month("pro", price))
    customer.wait_until(HALFWAY)
    changes = unused("pro", credited, HALFWAY, "il_1_0"), remaining("free", 0, HALFWAY)
    customer.pay(HALFWAY, *changes, reason="subscription_update")
    between = customer.credits
    customer.refund(HALFWAY + DAY, returned, 1)
    return [between, customer.credits]


def coupon(customer: Customer, credits: int, percent: int) -> list[object]:
    customer.offer("pro", credits)
    customer.subscribe("pro")
    customer.pay(START, month("pro", 2000, discount=20 * percent))
    return [customer.credits]


def gift(customer: Customer, credits: int, percent: int) -> list[object]:
    coupon(customer, credits, percent)
    at = START + 2 * DAY
    customer.subscribe("pro", at, status="canceled", canceled_at=at, ended_at=at)
    again: dict[str, Any] = {"stripe_subscription_id": "sub_2", "stripe_subscription_item_id": "si_2"}
    customer.wait_until(at)
    customer.subscribe("pro", at, **again, billing_cycle_anchor=at, started_at=at)
    period = {"period_start": at, "period_end": at + 30 * DAY, "stripe_subscription_item_id": "si_2"}
    customer.pay(at, month("pro", 2000, discount=20 * percent, **period), stripe_subscription_id="sub_2")
    return [customer.credits]


def free_again(customer: Customer, credits: int) -> list[object]:
    customer.offer("free", credits)
    customer.subscribe("free")
    customer.pay(START, month("free", 0))
    at = START + 2 * DAY
    customer.wait_until(at)
    customer.subscribe("free", at, status="canceled", canceled_at=at, ended_at=at)
    again: dict[str, Any] = {"stripe_subscription_id": "sub_2", "stripe_subscription_item_id": "si_2"}
    customer.subscribe("free", at, **again, billing_cycle_anchor=at, started_at=at)
    period = {"period_start": at, "period_end": at + 30 * DAY, "stripe_subscription_item_id": "si_2"}
    customer.pay(at, month("free", 0, **period), stripe_subscription_id="sub_2")
    in_june = customer.credits
    customer.wait_until(at + 31 * DAY)
    at += 30 * DAY
    period |= {"period_start": at, "period_end": at + 31 * DAY}
    customer.pay(at, month("free", 0, **period), stripe_subscription_id="sub_2")
    return [in_june, customer.credits]


def late_payment(customer: Customer, credits: int, day: int) -> list[object]:
    customer.offer("pro", credits, credits_rollover="none")
    customer.subscribe("pro")
    at = START + day * DAY
    customer.wait_until(at)
    customer.pay(at, month("pro", 1900))
    (lot,) = lots(customer.conn, customer.account)
    assert customer.credits == credits
    return [_day(at), _day(lot["expires_at"])]


def voided(customer: Customer, credits: int) -> list[object]:
    customer.offer("monthly", credits)
    customer.offer("yearly", credits, "year")
    customer.subscribe("monthly", status="past_due")
    open_line = month("monthly", 1000)
    customer.pay(START, open_line, status="open", paid_at=None, charged=0)
    sync_invoice(
        customer.worker,
        **{"stripe_invoice_id": "in_1", "status": "void", "paid_at": None, "invoiced_at": START},
        as_of=HALFWAY - DAY,
        lines=[open_line],
    )
    customer.wait_until(HALFWAY)
    customer.subscribe("yearly", HALFWAY, billing_cycle_anchor=HALFWAY)
    end = HALFWAY.replace(year=2029)
    customer.pay(
        HALFWAY,
        unused("monthly", 500, HALFWAY, "il_1_0"),
        year("yearly", 10000, period_start=HALFWAY, period_end=end),
        reason="subscription_update",
    )
    return [customer.credits]


def late_events(customer: Customer, credits: int) -> list[object]:
    return [_yearly_to_monthly(customer, credits, timedelta(hours=3))]


def events_in_time(customer: Customer, credits: int) -> list[object]:
    return [_yearly_to_monthly(customer, credits, timedelta(0))]


def _yearly_to_monthly(customer: Customer, credits: int, late_by: timedelta) -> int:
    customer.offer("yearly", credits, "year")
    customer.offer("monthly", credits)
    customer.subscribe("yearly")
    customer.pay(START, year("yearly", 12000))
    at = JULY - HOUR
    customer.wait_until(at + late_by)
    assert customer.credits == credits * (2 if late_by > HOUR else 1)
    customer.subscribe("monthly", at, billing_cycle_anchor=at)
    customer.pay(
        at,
        unused("yearly", 11000, at, "il_1_0", period_end=NEXT_YEAR),
        month("monthly", 1200, period_start=at, period_end=at + 30 * DAY),
        reason="subscription_update",
    )
    customer.wait_until(at + 4 * HOUR)
    return customer.credits


def week(customer: Customer, credits: int) -> list[object]:
    customer.offer("weekly", credits, "week")
    customer.subscribe("weekly")
    customer.pay(START, month("weekly", 500, period_end=START + 7 * DAY))
    return [customer.credits]


def edited_price(customer: Customer, before: int, after: int) -> list[object]:
    customer.offer("pro", before)
    customer.subscribe("pro")
    customer.pay(START, month("pro", 1900))
    customer.offer("pro", after, as_of=HALFWAY)
    in_june = customer.credits
    customer.wait_until(JULY)
    customer.pay(JULY, month("pro", 1900, period_start=JULY, period_end=AUGUST))
    return [in_june, customer.credits - in_june]


def _buy_pack(customer: Customer, paid: int, *, has_custom_amount: bool, **metadata: str) -> None:
    sync_price(
        customer.worker,
        stripe_price_id="pack",
        type="one_time",
        unit_amount=None if has_custom_amount else paid,
        has_custom_amount=has_custom_amount,
        metadata=metadata,
    )
    ids = {"stripe_payment_intent_id": "pi_1"}
    sync_checkout_session(
        customer.worker,
        **ids,
        mode="payment",
        stripe_subscription_id=None,
        stripe_invoice_id=None,
        amount_total=paid,
        opened_at=START,
        as_of=START,
        lines=[
            {
                "stripe_line_item_id": "li_1",
                "stripe_price_id": "pack",
                "quantity": 1,
                "amount_total": paid,
                "declares_credits": True,
            }
        ],
    )
    sync_payment(customer.worker, **ids, amount=paid, charged_at=START, as_of=START)


def pack_refund(customer: Customer, credits: int, price: int, returned: int) -> list[object]:
    _buy_pack(customer, price, has_custom_amount=False, pack_credits=str(credits))
    customer.refund(HALFWAY, returned, 1)
    return [credits - customer.credits, customer.credits]


def pack_amount(customer: Customer, per_unit: int, paid: int) -> list[object]:
    _buy_pack(customer, paid, has_custom_amount=True, credits_per_unit=str(per_unit))
    return [customer.credits]


def _day(moment: datetime) -> str:
    return f"{moment:%-d %B}"


Example = Callable[..., list[object]]
EXAMPLES: dict[str, Example] = {
    function.__name__: function
    for function in (
        upgrade, downgrade, downgrade_spent, downgrade_keep, to_and_fro, seats, item_replaced, yearly_refund,
        fifth_seat, balance_and_card, initial_and_monthly, add_on_credited, downgrade_and_refund, coupon, gift,
        free_again, late_payment, voided, events_in_time, late_events, week, edited_price, pack_refund, pack_amount,
    )
}  # fmt: skip


def _numbers(text: str) -> list[int]:
    """1,000 credits are a number, 19.00 is an amount of money in minor units."""
    return [int(re.sub("[,.]", "", figure)) for figure in re.findall(r"\d[\d,]*(?:\.\d\d)?", text)]


def documented() -> dict[str, tuple[list[int], list[str]]]:
    """What goes into each example, and the words in bold that come out."""
    section = DOCUMENT.read_text().split("\n## Worked examples\n")[1].split("\n## ")[0]
    return {
        name: (
            _numbers(text),
            re.findall(r"\*\*(.+?)\*\*", outcome),
        )
        for name, text, outcome in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    }


def test_every_example_of_the_document_is_played() -> None:
    assert documented().keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_ends_in_the_figures_of_the_document(name: str, customer: Customer) -> None:
    figures, expected = documented()[name]
    came_out = EXAMPLES[name](customer, *figures)
    assert [f"{figure:,}" if isinstance(figure, int) else figure for figure in came_out] == expected
    assert discrepancies(customer.conn) == []
    assert fetch(customer.conn, "select * from billing.entitlement_discrepancies") == []


def test_the_timeline_of_the_life_of_a_credit_is_what_happens(customer: Customer) -> None:
    section = LIFE_OF_A_CREDIT.read_text().split("\n## A worked example\n")[1].split("\n## ")[0]
    pro, basic, spent = _numbers(section.split("|")[0])
    figures = [int(figure) for figure in re.findall(r"\*\*(\d+)\*\*", section)]
    assert downgrade_spent(customer, pro, spent, basic) == figures
