"""What can be damaged behind the product's back, a function for each: what it does, and how the finding names it.

`till reconcile` finds what differs from Stripe or from what was paid for, `till doctor` what is wrong with the
installation (`installation_damages.py`). Each takes customers and objects of its own, so that many can be done at once.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from inspect import isgeneratorfunction
from typing import Literal

from tests.reconcile.conftest import Place

APPLY = "till reconcile --apply"


@dataclass(frozen=True)
class Named:
    """A finding's check, and words of what it says and of its mend.

    `by_hand`: what a person does where the mend is no command of ours.
    """

    check: str
    what: str
    mend: str = "till "
    by_hand: Callable[[], object] | None = None

    def names(self, finding: dict[str, str]) -> bool:
        """Whether the finding is of this damage."""
        return (
            finding["check"] == self.check and self.what in finding["what"] and self.mend in finding["mend"]
        )


# What a damage returns; one that needs something first yields once it is under way.
Told = Named | tuple[str, str]
Prepared = Generator[None, None, Told]


@dataclass(frozen=True)
class Damage:
    """`times`: how often it can be done to one database. `alone`: not with others. `is_total`: only a backup helps."""

    name: str
    do: Callable[[Place], Told | Prepared]
    finder: Literal["reconcile", "doctor"] = "reconcile"
    times: int = 2
    alone: bool = False
    is_total: bool = False

    def begin(self, place: Place) -> Callable[[], Named]:
        """Prepare it → what does it, and says how it is named."""
        if not isgeneratorfunction(self.do):
            return lambda: _named(self.do(place))
        prepared = self.do(place)
        next(prepared)
        return lambda: _named(_told(prepared))


def _told(prepared: Prepared) -> Told:
    try:
        next(prepared)
    except StopIteration as done:
        return done.value
    raise AssertionError("a damage yields once")


def _named(told: Told) -> Named:
    return told if isinstance(told, Named) else Named(*told)


DAMAGES: dict[str, Damage] = {}

_Function = Callable[[Place], Told | Prepared]


def damage(
    finder: Literal["reconcile", "doctor"] = "reconcile",
    *,
    times: int = 2,
    alone: bool = False,
    is_total: bool = False,
) -> Callable[[_Function], _Function]:
    """Add a function to the damages."""

    def add(function: _Function) -> _Function:
        DAMAGES[function.__name__] = Damage(function.__name__, function, finder, times, alone, is_total)
        return function

    return add


# Events that never arrived: it happened in Stripe, and nobody was told.


@damage()
def a_new_customer(place: Place) -> tuple[str, str]:
    customer = place.business.post("customers", email="new@example.com")["id"]
    return "customer_missing", customer


@damage()
def a_customers_new_address(place: Place) -> tuple[str, str]:
    number = place.own()
    customer = place.business.customers[number]
    place.business.post(f"customers/{customer}", email="moved@example.com")
    return (
        "customer_differs",
        f"{customer}: email is user{number}@example.com here and moved@example.com in Stripe",
    )


@damage()
def a_deleted_customer(place: Place) -> tuple[str, str]:
    customer = place.business.customers[place.own()]
    place.business.call("DELETE", f"customers/{customer}")
    return "customer_deleted", f"customer {customer} is deleted in Stripe"


@damage()
def a_changed_subscription(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())
    place.business.post(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
    return "subscription_differs", f"subscription {subscription['id']}"


@damage()
def an_ended_subscription(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())["id"]
    place.business.call("DELETE", f"subscriptions/{subscription}")
    return "subscription_differs", f"{subscription}: status is active here and canceled in Stripe"


@damage()
def another_plan(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())
    items = [{"id": subscription["_items"][0], "quantity": 3}]
    place.business.post(
        f"subscriptions/{subscription['id']}", items=items, proration_behavior="always_invoice"
    )
    return "subscription_differs", f"quantity of item {subscription['_items'][0]} is 1 here and 3 in Stripe"


@damage()
def a_new_subscription(place: Place) -> tuple[str, str]:
    return "subscription_missing", place.subscribe_again()[1]["id"]


@damage()
def a_paid_invoice(place: Place) -> tuple[str, str]:
    number, _ = place.subscribe_again()
    return "invoice_missing", place.business.of("invoice", place.business.customers[number])[-1]["id"]


@damage()
def a_pack(place: Place) -> tuple[str, str]:
    return "session_missing", place.business.buy_pack(place.business.customers[place.own()])


@damage()
def a_refund(place: Place) -> tuple[str, str]:
    intent = place.business.of("payment_intent", place.business.customers[place.own()])[0]["id"]
    return "refund_missing", place.business.post("refunds", payment_intent=intent, amount=100)["id"]


@damage()
def a_dispute(place: Place) -> tuple[str, str]:
    return "dispute_missing", place.dispute()


@damage()
def a_decided_dispute(place: Place) -> Prepared:
    dispute = place.dispute()
    yield  # it arrives
    place.business.control("disputes/{identifier}/decide", dispute, status="lost")
    return "dispute_differs", f"dispute {dispute}: status is needs_response here and lost in Stripe"


@damage()
def a_fraud_warning(place: Place) -> tuple[str, str]:
    place.business.control("charges/{identifier}/early_fraud_warning", place.charge())
    return "early_fraud_warning_missing", place.newest("radar.early_fraud_warning")


@damage()
def a_credit_note(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(place.own())["id"]
    note = place.business.post("credit_notes", invoice=invoice, amount=100, out_of_band_amount=100)["id"]
    return "credit_note_missing", note


@damage()
def a_new_price(place: Place) -> tuple[str, str]:
    product = place.business.post("products", name="Team")["id"]
    price = place.business.post(
        "prices", product=product, currency="usd", unit_amount=9900, recurring={"interval": "month"},
        metadata={"monthly_credits": "900"},
    )["id"]  # fmt: skip
    return "price_missing", price


@damage(times=1)
def edited_credits_of_a_price(place: Place) -> tuple[str, str]:
    price = place.business.prices["basic"]
    place.business.post(f"prices/{price}", metadata={"monthly_credits": "120"})
    return "price_differs", f"price {price}: metadata"


# Rows that somebody changed or deleted.


@damage()
def an_edited_status(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())["id"]
    place.damage(
        "update billing.subscriptions set status = 'canceled' where stripe_subscription_id = %s", subscription
    )
    return "subscription_differs", f"{subscription}: status is canceled here and active in Stripe"


@damage()
def a_status_from_the_future(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())["id"]
    place.damage(
        "update billing.subscriptions set status = 'unpaid', as_of = now() + interval '3 years' "
        "where stripe_subscription_id = %s", subscription
    )  # fmt: skip
    return "subscription_differs", f"{subscription}: status is unpaid here and active in Stripe"


@damage()
def a_deleted_subscription_item(place: Place) -> tuple[str, str]:
    item = place.subscription(place.own())["_items"][0]
    place.damage("delete from billing.subscription_items where stripe_subscription_item_id = %s", item)
    return "subscription_differs", f"item {item} is missing"


@damage()
def a_customer_marked_as_deleted(place: Place) -> tuple[str, str]:
    customer = place.business.customers[place.own()]
    place.damage("update billing.customers set deleted_at = now() where stripe_customer_id = %s", customer)
    return "customer_differs", f"{customer}: is deleted is True here and False in Stripe"


@damage()
def a_deleted_invoice_line(place: Place) -> tuple[str, str]:
    line = place.line_of(place.own())
    place.damage("delete from billing.invoice_lines where stripe_line_id = %s", line)
    return "invoice_differs", f"line {line} is missing"


@damage()
def an_edited_invoice_line(place: Place) -> tuple[str, str]:
    line = place.line_of(place.own())
    place.damage("update billing.invoice_lines set quantity = 7 where stripe_line_id = %s", line)
    return "invoice_differs", f"quantity of line {line} is 7 here and 1 in Stripe"


@damage()
def a_voided_invoice(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(place.own())["id"]
    place.damage("update billing.invoices set status = 'void' where stripe_invoice_id = %s", invoice)
    return "invoice_differs", f"{invoice}: status is void here and paid in Stripe"


@damage()
def an_edited_total(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(place.own())["id"]
    place.damage("update billing.invoices set total = 1 where stripe_invoice_id = %s", invoice)
    return "invoice_differs", f"{invoice}: total is 1 here"


@damage()
def a_deleted_invoice_payment(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(place.own())["id"]
    query = "select stripe_invoice_payment_id from billing.invoice_payments where stripe_invoice_id = %s"
    payment = place.value(query, invoice)
    place.damage("delete from billing.invoice_payments where stripe_invoice_payment_id = %s", payment)
    return "invoice_payment_missing", payment


@damage()
def an_edited_refund(place: Place) -> tuple[str, str]:
    refund = place.own_object("refund")
    place.damage("update billing.refunds set amount = 1 where stripe_refund_id = %s", refund)
    return "refund_differs", f"{refund}: amount is 1 here and 300 in Stripe"


@damage(times=1)
def a_forged_refund(place: Place) -> tuple[str, str]:
    intent = place.business.of("payment_intent", place.business.customers[place.own()])[-1]["id"]
    place.damage(
        "insert into billing.refunds (stripe_refund_id, stripe_payment_intent_id, status, currency, amount, "
        "refunded_at, as_of) values ('re_forged', %s, 'succeeded', 'usd', 500, now(), now())", intent
    )  # fmt: skip
    return "refund_unknown", "refund re_forged is not in this Stripe account"


@damage()
def a_refund_marked_as_failed(place: Place) -> tuple[str, str]:
    refund = place.own_object("refund")
    place.damage("update billing.refunds set status = 'failed' where stripe_refund_id = %s", refund)
    return "refund_differs", f"{refund}: status is failed here and succeeded in Stripe"


@damage()
def an_edited_charge(place: Place) -> tuple[str, str]:
    charge = place.charge()
    place.damage("update billing.payments set amount = amount + 1 where stripe_charge_id = %s", charge)
    return "charge_differs", f"{charge}: amount is"


@damage()
def an_edited_credit_note(place: Place) -> tuple[str, str]:
    note = place.own_object("credit_note")
    place.damage("update billing.credit_notes set status = 'void' where stripe_credit_note_id = %s", note)
    return "credit_note_differs", f"{note}: status is void here and issued in Stripe"


@damage()
def a_lost_link(place: Place) -> tuple[str, str]:
    customer = place.business.customers[place.own()]
    place.damage("update billing.customers set account_id = null where stripe_customer_id = %s", customer)
    return "wrong_link", f"customer {customer} has lost its account"


@damage()
def a_subscription_of_nobody(place: Place) -> tuple[str, str]:
    subscription = place.subscription(place.own())["id"]
    place.damage(
        "update billing.subscriptions set account_id = null where stripe_subscription_id = %s", subscription
    )
    return "wrong_link", f"subscription {subscription} names another account"


# Credits: the database's own proofs.


@damage()
def an_edited_balance(place: Place) -> tuple[str, str]:
    place.damage(
        "update billing.credit_balances set balance = balance + 1000 where account_id = %s",
        place.account(place.own()),
    )
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage()
def a_deleted_grant(place: Place) -> tuple[str, str]:
    place.delete_grant(place.own())
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage()
def a_deleted_grant_with_the_balance_corrected(place: Place) -> tuple[str, str]:
    number = place.own()
    amount = place.delete_grant(number)
    place.take_from_balance(number, amount)
    return "entitlement_discrepancy", "paid_and_not_granted"


@damage()
def a_deleted_grant_that_others_followed(place: Place) -> tuple[str, str]:
    """The first of three entries: the balances of the others show that it is missing."""
    number = place.own()
    account = place.account(number)
    key = place.value("select idempotency_key from billing.credit_grants where account_id = %s", account)
    place.query("select billing.grant_credits(%s, 70, 'later')", account)
    place.query("select billing.spend_credits(%s, 5, 'spent')", account)
    place.delete_grant(number, key)
    return "ledger_discrepancy", "balance_after_continues_the_chain"


@damage()
def deleted_initial_credits_with_the_balance_corrected(place: Place) -> Prepared:
    number, _ = place.subscribe_again()
    yield  # it arrives, and grants the initial credits
    account, amount = place.account(number), place.delete_grant(number, "initial:")
    place.take_from_balance(number, amount)
    place.damage(
        "update billing.credit_entries set balance_after = balance_after - %s where account_id = %s",
        amount,
        account,
    )
    return "ungranted_payment", "initial credits of invoice in_"


@damage()
def a_deleted_grant_of_initial_credits(place: Place) -> Prepared:
    number, _ = place.subscribe_again()
    yield  # it arrives, and grants the initial credits
    place.delete_grant(number, "initial:")
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage()
def deleted_paid_time(place: Place) -> tuple[str, str]:
    line = place.line_of(place.own())
    place.damage("delete from billing.credit_schedules where stripe_line_id = %s", line)
    return "entitlement_discrepancy", f"line {line}"


@damage()
def edited_paid_time(place: Place) -> tuple[str, str]:
    line = place.line_of(place.own())
    place.damage("update billing.credit_schedules set quantity = 9 where stripe_line_id = %s", line)
    return "entitlement_discrepancy", f"{line} of"


@damage()
def a_deleted_purchase(place: Place) -> Prepared:
    number = place.own()
    session = place.business.buy_pack(place.business.customers[number])
    yield  # it arrives, and grants the pack
    place.delete_grant(number, f"pack:{session}")
    place.damage("delete from billing.pack_purchases where business_key = %s", f"pack:{session}")
    place.take_from_balance(number, 500)
    return "ungranted_payment", f"checkout session {session} is paid for"
