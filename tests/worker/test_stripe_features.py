"""What shops use of Stripe, told through the whole product: the credits are those that the rules say.

Each story is played on the local Stripe, whose time is the database's too. The figures are worked out by hand from
docs/explanation/rules-of-credits.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from devstack.scaffold import DefaultGrants
from tests.databases import Databases
from tests.oracle.in_process import Stripe
from tests.oracle.test_lives_agree import Project
from tests.support import account_of, create_user
from tests.worker.conftest import opened

VERSION = "2026-10-28.endive"
DAY = 86_400
# 30 days, so that shares of a month are easy to see.
START = int(datetime(2027, 4, 1, 12, tzinfo=UTC).timestamp())


@dataclass
class Tale:
    """One customer and their account."""

    stripe: Stripe
    project: Project
    customer: str

    def price(self, amount: int, interval: str | None = "month", **more: Any) -> str:
        product = self.stripe.post("products", name="Plan")["id"]
        recurring = {"recurring": {"interval": interval}} if interval else {}
        order = {"product": product, "currency": "usd", "unit_amount": amount, **recurring, **more}
        return self.stripe.post("prices", **order)["id"]

    def plan(self, amount: int, credits: int, **more: Any) -> str:
        return self.price(amount, metadata={"monthly_credits": credits}, **more)

    def subscribe(self, price: str, **more: Any) -> Any:
        return self.stripe.post("subscriptions", customer=self.customer, items=[{"price": price}], **more)

    def wait(self, days: float) -> None:
        self.stripe.wait(int(days * DAY))
        self.tell()

    def tell(self) -> None:
        """The product hears of what happened."""
        self.stripe.wait(60)
        events = list(self.stripe.world.events.bodies())
        new, self.project.told = events[self.project.told :], len(events)
        self.project.tell(self.stripe, new)

    def credits(self) -> tuple[int, int]:
        """(balance, what of it can be spent)"""
        self.tell()
        self.project.shop.assert_sound()
        found = self.project.shop.app.execute(
            "select balance, available from public.credit_balance where account_id = %s",
            [self.project.account],
        ).fetchone()
        return found or (0, 0)

    @property
    def balance(self) -> int:
        return self.credits()[0]


@pytest.fixture
def tale(databases: Databases, template: Callable[[DefaultGrants], str]) -> Iterator[Tale]:
    stripe = Stripe(1, START)
    with (
        databases.copy(template("none")) as database,
        opened(database, stripe.reader()) as shop,
        database.connect(admin=True) as admin,
    ):
        account = account_of(shop.app, create_user(database))
        card = {"default_payment_method": "pm_card_visa"}
        customer = stripe.post(
            "customers", test_clock=stripe.clock, payment_method="pm_card_visa", invoice_settings=card
        )["id"]
        shop.app.execute("select billing.link_customer(%s, %s)", [account, customer])
        yield Tale(stripe, Project(shop, admin, account, VERSION), customer)


def test_downgrade_by_a_schedule_gives_the_smaller_month_from_the_next_period_on(tale: Tale) -> None:
    dear, cheap = tale.plan(5000, 500), tale.plan(1000, 100)
    subscription = tale.subscribe(dear)
    assert tale.balance == 500
    schedule = tale.stripe.post("subscription_schedules", from_subscription=subscription["id"])
    (now,) = schedule["phases"]
    current = {"items": [{"price": dear}], "start_date": now["start_date"], "end_date": now["end_date"]}
    later = {"items": [{"price": cheap}], "duration": {"interval": "month", "interval_count": 2}}
    tale.stripe.post(f"subscription_schedules/{schedule['id']}", phases=[current, later])
    tale.wait(29)
    assert tale.balance == 500
    tale.wait(2)
    assert tale.balance == 600
    tale.wait(31)
    assert tale.balance == 700
    tale.wait(31)  # the schedule is over, the subscription goes on
    assert tale.balance == 800


def test_schedule_that_makes_and_cancels_its_subscription_gives_the_months_that_were_paid(tale: Tale) -> None:
    price = tale.plan(1000, 100)
    tale.stripe.post(
        "subscription_schedules",
        customer=tale.customer,
        start_date=START + 5 * DAY,
        end_behavior="cancel",
        phases=[{"items": [{"price": price}], "duration": {"interval": "month", "interval_count": 2}}],
    )
    tale.wait(4)
    assert tale.balance == 0
    tale.wait(2)
    assert tale.balance == 100
    tale.wait(31)
    assert tale.balance == 200
    tale.wait(62)
    assert tale.balance == 200


def test_phase_that_begins_within_a_month_gives_the_difference(tale: Tale) -> None:
    cheap, dear = tale.plan(1000, 100), tale.plan(4000, 400)
    tale.stripe.post(
        "subscription_schedules",
        customer=tale.customer,
        start_date="now",
        phases=[
            {"items": [{"price": cheap}], "end_date": tale.stripe.now + 10 * DAY},
            {"items": [{"price": dear}], "proration_behavior": "always_invoice"},
        ],
    )
    tale.wait(1)
    assert tale.balance == 100
    tale.wait(10)
    # Two thirds of a month are 66.67 of the old item and 266.67 of the new one; each is rounded down.
    assert tale.balance == 100 - 67 + 266


def tax_rate(tale: Tale, percentage: int, *, inclusive: bool = False) -> str:
    order = {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive}
    return tale.stripe.post("tax_rates", **order)["id"]


def charge_of(tale: Tale) -> str:
    """The latest payment."""
    return list(tale.stripe.world.store.all("charge"))[-1]["id"]


@pytest.mark.parametrize(("is_inclusive", "total"), [(False, 1200), (True, 1000)])
def test_refund_of_a_month_with_tax_is_a_share_of_all_that_was_paid(
    tale: Tale, is_inclusive: bool, total: int
) -> None:
    tale.subscribe(tale.plan(1000, 300), default_tax_rates=[tax_rate(tale, 20, inclusive=is_inclusive)])
    assert tale.stripe.world.store.get("charge", charge_of(tale))["amount"] == total
    assert tale.balance == 300
    tale.stripe.post("refunds", charge=charge_of(tale), amount=total // 4)
    assert tale.balance == 225
    tale.stripe.control("charges/{identifier}/dispute", charge_of(tale))
    assert tale.credits() == (225, 0)
    (dispute,) = tale.stripe.world.store.all("dispute")
    tale.stripe.control("disputes/{identifier}/decide", dispute["id"], status="won")
    assert tale.credits() == (225, 225)


def test_credit_note_on_a_line_takes_that_lines_credits_whatever_tax_the_others_bear(tale: Tale) -> None:
    """One line bears tax, the other none: what either came to is its own amount and its own tax."""
    taxed, untaxed = tale.plan(1000, 300), tale.plan(1000, 100)
    rates = [tax_rate(tale, 20)]
    items = [{"price": taxed, "tax_rates": rates}, {"price": untaxed}]
    subscription = tale.stripe.post("subscriptions", customer=tale.customer, items=items)
    assert tale.balance == 400
    invoice = tale.stripe.world.store.get("invoice", subscription["latest_invoice"])
    line = {"type": "invoice_line_item", "invoice_line_item": invoice["_lines"][1]["id"], "amount": 1000}
    tale.stripe.post("credit_notes", invoice=invoice["id"], lines=[line], refund_amount=1000)
    assert tale.balance == 300
    line = {"type": "invoice_line_item", "invoice_line_item": invoice["_lines"][0]["id"], "amount": 500}
    tale.stripe.post("credit_notes", invoice=invoice["id"], lines=[line], refund_amount=600)
    assert tale.balance == 150


TAXED = {"automatic_tax": {"enabled": True}, "customer_update": {"address": "auto"}}


def buy(tale: Tale, price: str, ordered: dict[str, Any], **chosen: Any) -> Any:
    """At Checkout, in Germany. `ordered` is for the session, `chosen` what the payer chooses on its page."""
    session = tale.stripe.post(
        "checkout/sessions",
        mode="payment",
        customer=tale.customer,
        line_items=[{"price": price, "quantity": 1}],
        success_url="https://app.example",
        **ordered,
    )
    complete = "checkout_sessions/{identifier}/complete"
    return tale.stripe.control(complete, session["id"], address={"country": "DE"}, **chosen)


def test_pack_with_automatic_tax_gives_its_credits_and_takes_the_refunded_share(tale: Tale) -> None:
    session = buy(tale, tale.price(1000, None, metadata={"pack_credits": 500}), TAXED)
    assert session["amount_total"] == 1190
    assert tale.balance == 500
    tale.stripe.post("refunds", charge=charge_of(tale), amount=595)
    assert tale.balance == 250


@pytest.mark.parametrize(("behavior", "total"), [("exclusive", 2380), ("inclusive", 2000)])
def test_amount_that_a_buyer_chooses_buys_credits_and_the_tax_on_it_does_not(
    tale: Tale, behavior: str, total: int
) -> None:
    price = tale.stripe.post(
        "prices",
        product=tale.stripe.post("products", name="Credits")["id"],
        currency="usd",
        custom_unit_amount={"enabled": True, "minimum": 100},
        tax_behavior=behavior,
        metadata={"credits_per_unit": 10},
    )["id"]
    session = buy(tale, price, TAXED, custom_amount=2000)
    assert session["amount_total"] == total
    assert tale.balance == 200
    tale.stripe.post("refunds", charge=charge_of(tale), amount=total // 2)
    assert tale.balance == 100


def test_change_of_plan_with_tax_gives_the_difference_and_a_renewal_its_month(tale: Tale) -> None:
    cheap, dear = tale.plan(1000, 300), tale.plan(2000, 600)
    subscription = tale.subscribe(cheap, default_tax_rates=[tax_rate(tale, 20)])
    tale.wait(15)
    item = subscription["items"]["data"][0]["id"]
    tale.stripe.post(
        f"subscriptions/{subscription['id']}",
        items=[{"id": item, "price": dear}],
        proration_behavior="always_invoice",
    )
    assert tale.balance == 300 + 149  # 15 days less a minute, rounded down
    tale.wait(16)
    assert tale.balance == 449 + 600


def pay_with(tale: Tale, card: str) -> None:
    method = tale.stripe.post(f"payment_methods/{card}/attach", customer=tale.customer)["id"]
    tale.stripe.post(f"customers/{tale.customer}", invoice_settings={"default_payment_method": method})


@pytest.mark.parametrize(("is_paid", "expected"), [(True, 100 + 133), (False, 100)])
def test_upgrade_that_waits_for_its_payment_gives_nothing_before_it(
    tale: Tale, is_paid: bool, expected: int
) -> None:
    cheap, dear = tale.plan(1000, 100), tale.plan(3000, 300)
    subscription = tale.subscribe(cheap)
    tale.wait(10)
    pay_with(tale, "pm_card_chargeCustomerFail")
    item = subscription["items"]["data"][0]["id"]
    tale.stripe.post(
        f"subscriptions/{subscription['id']}",
        items=[{"id": item, "price": dear}],
        payment_behavior="pending_if_incomplete",
        proration_behavior="always_invoice",
    )
    assert tale.balance == 100
    invoice = tale.stripe.world.store.get("subscription", subscription["id"])["latest_invoice"]
    pay_with(tale, "pm_card_visa")
    if is_paid:
        tale.stripe.post(f"invoices/{invoice}/pay")
    tale.wait(1)
    assert tale.balance == expected
    tale.wait(21)
    assert tale.balance == expected + (300 if is_paid else 100)


def test_pack_beside_a_plan_comes_with_the_invoice_that_bills_it(tale: Tale) -> None:
    plan, pack = tale.plan(1000, 100), tale.price(500, None, metadata={"pack_credits": 40})
    subscription = tale.subscribe(plan, add_invoice_items=[{"price": pack, "quantity": 2}])
    assert tale.balance == 180
    tale.stripe.post(f"subscriptions/{subscription['id']}", add_invoice_items=[{"price": pack}])
    assert tale.balance == 180
    tale.wait(31)
    assert tale.balance == 180 + 100 + 40


def test_configured_anchor_shortens_the_first_month_and_its_credits(tale: Tale) -> None:
    tale.subscribe(tale.plan(3000, 300), billing_cycle_anchor_config={"day_of_month": 11})
    assert tale.balance == 96  # 10 of the 31 days that end on 11 April
    tale.wait(11)
    assert tale.balance == 396


def debtor(tale: Tale, account: str) -> None:
    """The customer pays by bank debit from now on."""
    pay_with(tale, f"pm_usBankAccount_{account}")


def test_month_paid_by_bank_debit_comes_when_the_bank_has_paid(tale: Tale) -> None:
    debtor(tale, "success")
    subscription = tale.subscribe(tale.plan(1000, 100))
    assert (subscription["status"], tale.balance) == ("active", 0)
    tale.wait(3)
    assert tale.balance == 0
    tale.wait(1)
    assert tale.balance == 100
    tale.wait(30)  # the second month's debit is on its way
    assert tale.balance == 100
    tale.wait(2)
    assert tale.balance == 200


def test_month_whose_bank_debit_is_refused_never_comes(tale: Tale) -> None:
    debtor(tale, "insufficientFunds")
    tale.subscribe(tale.plan(1000, 100))
    tale.wait(5)
    assert tale.balance == 0
    debtor(tale, "success")
    (invoice,) = tale.stripe.world.store.all("invoice")
    tale.stripe.post(f"invoices/{invoice['id']}/pay")
    tale.wait(5)
    assert tale.balance == 100


def test_bank_debit_that_is_taken_back_takes_the_credits_along(tale: Tale) -> None:
    debtor(tale, "success")
    tale.subscribe(tale.plan(1000, 100))
    tale.wait(5)
    assert tale.balance == 100
    tale.stripe.control("charges/{identifier}/dispute", charge_of(tale), reason="debit_not_authorized")
    assert tale.credits() == (100, 0)
    (dispute,) = tale.stripe.world.store.all("dispute")
    tale.stripe.control("disputes/{identifier}/decide", dispute["id"], status="lost")
    assert tale.credits() == (0, 0)


@pytest.mark.parametrize(("account", "expected"), [("success", 500), ("noAccount", 0), ("dispute", 0)])
def test_pack_bought_by_bank_debit_comes_with_the_banks_answer(
    tale: Tale, account: str, expected: int
) -> None:
    price = tale.price(1000, None, metadata={"pack_credits": 500})
    done = buy(tale, price, {}, payment_method=f"pm_usBankAccount_{account}")
    assert done["payment_status"] == "unpaid"
    assert tale.balance == 0
    tale.wait(5)
    assert tale.balance == expected


def test_pack_that_is_authorized_comes_when_it_is_captured_by_what_was_captured(tale: Tale) -> None:
    price = tale.price(1000, None, metadata={"pack_credits": 500})
    done = buy(tale, price, {"payment_intent_data": {"capture_method": "manual"}})
    assert tale.balance == 0
    tale.stripe.post(f"payment_intents/{done['payment_intent']}/capture", amount_to_capture=600)
    assert tale.balance == 300


def test_plan_whose_price_is_deleted_is_off_sale_and_what_was_paid_stays(tale: Tale) -> None:
    kept, gone = tale.plan(1000, 100), tale.plan(2000, 200)
    tale.subscribe(kept)
    assert tale.balance == 100
    tale.stripe.control("prices/{identifier}/delete", gone)
    tale.tell()
    on_sale = "select active from billing.plans where stripe_price_id = %s"
    assert [tale.project.shop.value(on_sale, price) for price in (kept, gone)] == [True, False]
    tale.stripe.delete(f"plans/{kept}")
    tale.wait(31)
    assert tale.balance == 200
    assert tale.project.shop.value(on_sale, kept) is False
