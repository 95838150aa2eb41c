"""Damages behind the product's back: each is found by name, and mended by what the finding names."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from devstack.scaffold import DefaultGrants
from tests.databases import Databases
from tests.reconcile.business import Business
from tests.reconcile.conftest import Place, link_all, placed

# What a damage does, and what its finding must contain: its check, and words of it.
Damage = Callable[[Place], tuple[str, str]]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    DAMAGES[function.__name__] = function
    return function


APPLY = "till reconcile --apply"


# Events that never arrived: it happened in Stripe, and nobody was told.


@damage
def a_new_customer(place: Place) -> tuple[str, str]:
    customer = place.business.post("customers", email="new@example.com")["id"]
    return "customer_missing", customer


@damage
def a_customers_new_address(place: Place) -> tuple[str, str]:
    customer = place.business.customers[0]
    place.business.post(f"customers/{customer}", email="moved@example.com")
    return "customer_differs", f"{customer}: email is user0@example.com here and moved@example.com in Stripe"


@damage
def a_deleted_customer(place: Place) -> tuple[str, str]:
    customer = place.business.customers[2]
    place.business.call("DELETE", f"customers/{customer}")
    return "customer_deleted", f"customer {customer} is deleted in Stripe"


@damage
def a_changed_subscription(place: Place) -> tuple[str, str]:
    subscription = place.subscription(0)
    place.business.post(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
    return "subscription_differs", f"subscription {subscription['id']}"


@damage
def an_ended_subscription(place: Place) -> tuple[str, str]:
    subscription = place.subscription(2)["id"]
    place.business.call("DELETE", f"subscriptions/{subscription}")
    return "subscription_differs", f"{subscription}: status is active here and canceled in Stripe"


@damage
def another_plan(place: Place) -> tuple[str, str]:
    subscription = place.subscription(8)
    items = [{"id": subscription["_items"][0], "quantity": 3}]
    place.business.post(
        f"subscriptions/{subscription['id']}", items=items, proration_behavior="always_invoice"
    )
    return "subscription_differs", f"quantity of item {subscription['_items'][0]} is 1 here and 3 in Stripe"


@damage
def a_new_subscription(place: Place) -> tuple[str, str]:
    made = place.business.post(
        "subscriptions", customer=place.business.customers[3], items=[{"price": place.business.prices["pro"]}]
    )
    return "subscription_missing", made["id"]


@damage
def a_paid_invoice(place: Place) -> tuple[str, str]:
    place.business.post(
        "subscriptions", customer=place.business.customers[3], items=[{"price": place.business.prices["pro"]}]
    )
    return "invoice_missing", place.business.of("invoice", place.business.customers[3])[-1]["id"]


@damage
def a_pack(place: Place) -> tuple[str, str]:
    return "session_missing", place.business.buy_pack(place.business.customers[0])


@damage
def a_refund(place: Place) -> tuple[str, str]:
    intent = place.business.of("payment_intent", place.business.customers[0])[0]["id"]
    return "refund_missing", place.business.post("refunds", payment_intent=intent, amount=100)["id"]


@damage
def a_dispute(place: Place) -> tuple[str, str]:
    charge = place.business.of("charge", place.business.customers[0])[0]["id"]
    place.business.control("charges/{identifier}/dispute", charge)
    return "dispute_missing", list(place.local.world.store.all("dispute"))[-1]["id"]


@damage
def a_decided_dispute(place: Place) -> tuple[str, str]:
    charge = place.business.of("charge", place.business.customers[0])[0]["id"]
    place.business.control("charges/{identifier}/dispute", charge)
    place.mend(APPLY)
    dispute = list(place.local.world.store.all("dispute"))[-1]["id"]
    place.business.control("disputes/{identifier}/decide", dispute, status="lost")
    return "dispute_differs", f"dispute {dispute}: status is needs_response here and lost in Stripe"


@damage
def a_fraud_warning(place: Place) -> tuple[str, str]:
    charge = place.business.of("charge", place.business.customers[0])[0]["id"]
    place.business.control("charges/{identifier}/early_fraud_warning", charge)
    return "early_fraud_warning_missing", list(place.local.world.store.all("radar.early_fraud_warning"))[-1][
        "id"
    ]


@damage
def a_credit_note(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(0)["id"]
    note = place.business.post("credit_notes", invoice=invoice, amount=100, out_of_band_amount=100)["id"]
    return "credit_note_missing", note


@damage
def a_new_price(place: Place) -> tuple[str, str]:
    product = place.business.post("products", name="Team")["id"]
    price = place.business.post(
        "prices", product=product, currency="usd", unit_amount=9900, recurring={"interval": "month"},
        metadata={"monthly_credits": "900"},
    )["id"]  # fmt: skip
    return "price_missing", price


@damage
def edited_credits_of_a_price(place: Place) -> tuple[str, str]:
    price = place.business.prices["basic"]
    place.business.post(f"prices/{price}", metadata={"monthly_credits": "120"})
    return "price_differs", f"price {price}: metadata"


# Rows that somebody changed or deleted.


@damage
def an_edited_status(place: Place) -> tuple[str, str]:
    subscription = place.subscription(0)["id"]
    place.damage(
        "update billing.subscriptions set status = 'canceled' where stripe_subscription_id = %s", subscription
    )
    return "subscription_differs", f"{subscription}: status is canceled here and active in Stripe"


@damage
def a_status_from_the_future(place: Place) -> tuple[str, str]:
    subscription = place.subscription(0)["id"]
    place.damage(
        "update billing.subscriptions set status = 'unpaid', as_of = now() + interval '3 years' "
        "where stripe_subscription_id = %s", subscription
    )  # fmt: skip
    return "subscription_differs", f"{subscription}: status is unpaid here and active in Stripe"


@damage
def a_deleted_subscription_item(place: Place) -> tuple[str, str]:
    item = place.subscription(0)["_items"][0]
    place.damage("delete from billing.subscription_items where stripe_subscription_item_id = %s", item)
    return "subscription_differs", f"item {item} is missing"


@damage
def a_customer_marked_as_deleted(place: Place) -> tuple[str, str]:
    customer = place.business.customers[0]
    place.damage("update billing.customers set deleted_at = now() where stripe_customer_id = %s", customer)
    return "customer_differs", f"{customer}: is deleted is True here and False in Stripe"


@damage
def a_deleted_invoice_line(place: Place) -> tuple[str, str]:
    line = place.line_of(0)
    place.damage("delete from billing.invoice_lines where stripe_line_id = %s", line)
    return "invoice_differs", f"line {line} is missing"


@damage
def an_edited_invoice_line(place: Place) -> tuple[str, str]:
    line = place.line_of(0)
    place.damage("update billing.invoice_lines set quantity = 7 where stripe_line_id = %s", line)
    return "invoice_differs", f"quantity of line {line} is 7 here and 1 in Stripe"


@damage
def a_voided_invoice(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(0)["id"]
    place.damage("update billing.invoices set status = 'void' where stripe_invoice_id = %s", invoice)
    return "invoice_differs", f"{invoice}: status is void here and paid in Stripe"


@damage
def an_edited_total(place: Place) -> tuple[str, str]:
    invoice = place.paid_invoice(0)["id"]
    place.damage("update billing.invoices set total = 1 where stripe_invoice_id = %s", invoice)
    return "invoice_differs", f"{invoice}: total is 1 here"


@damage
def a_deleted_invoice_payment(place: Place) -> tuple[str, str]:
    payment = place.any("invoice_payment")
    place.damage("delete from billing.invoice_payments where stripe_invoice_payment_id = %s", payment)
    return "invoice_payment_missing", payment


@damage
def an_edited_refund(place: Place) -> tuple[str, str]:
    refund = place.any("refund")
    place.damage("update billing.refunds set amount = 1 where stripe_refund_id = %s", refund)
    return "refund_differs", f"{refund}: amount is 1 here and 300 in Stripe"


@damage
def a_forged_refund(place: Place) -> tuple[str, str]:
    intent = place.business.of("payment_intent", place.business.customers[0])[-1]["id"]
    place.damage(
        "insert into billing.refunds (stripe_refund_id, stripe_payment_intent_id, status, currency, amount, "
        "refunded_at, as_of) values ('re_forged', %s, 'succeeded', 'usd', 500, now(), now())", intent
    )  # fmt: skip
    return "refund_unknown", "refund re_forged is not in this Stripe account"


@damage
def a_refund_marked_as_failed(place: Place) -> tuple[str, str]:
    refund = place.any("refund")
    place.damage("update billing.refunds set status = 'failed' where stripe_refund_id = %s", refund)
    return "refund_differs", f"{refund}: status is failed here and succeeded in Stripe"


@damage
def an_edited_charge(place: Place) -> tuple[str, str]:
    charge = place.any("charge")
    place.damage("update billing.payments set amount = amount + 1 where stripe_charge_id = %s", charge)
    return "charge_differs", f"{charge}: amount is"


@damage
def an_edited_credit_note(place: Place) -> tuple[str, str]:
    note = place.any("credit_note")
    place.damage("update billing.credit_notes set status = 'void' where stripe_credit_note_id = %s", note)
    return "credit_note_differs", f"{note}: status is void here and issued in Stripe"


@damage
def a_lost_link(place: Place) -> tuple[str, str]:
    customer = place.business.customers[0]
    place.damage("update billing.customers set account_id = null where stripe_customer_id = %s", customer)
    return "wrong_link", f"customer {customer} has lost its account"


@damage
def a_subscription_of_nobody(place: Place) -> tuple[str, str]:
    subscription = place.subscription(0)["id"]
    place.damage(
        "update billing.subscriptions set account_id = null where stripe_subscription_id = %s", subscription
    )
    return "wrong_link", f"subscription {subscription} names another account"


# Credits: the database's own proofs.


@damage
def an_edited_balance(place: Place) -> tuple[str, str]:
    place.damage(
        "update billing.credit_balances set balance = balance + 1000 where account_id = %s", place.account(0)
    )
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage
def a_deleted_grant(place: Place) -> tuple[str, str]:
    place.delete_grant(0)
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage
def a_deleted_grant_with_the_balance_corrected(place: Place) -> tuple[str, str]:
    amount = place.delete_grant(0)
    place.damage(
        "update billing.credit_balances set balance = balance - %s where account_id = %s",
        amount,
        place.account(0),
    )
    return "entitlement_discrepancy", "paid_and_not_granted"


@damage
def a_deleted_grant_that_others_followed(place: Place) -> tuple[str, str]:
    """The first of three entries: the balances of the others show that it is missing."""
    account = place.account(0)
    key = place.value("select idempotency_key from billing.credit_grants where account_id = %s", account)
    place.query("select billing.grant_credits(%s, 70, 'later')", account)
    place.query("select billing.spend_credits(%s, 5, 'spent')", account)
    place.delete_grant(0, key)
    return "ledger_discrepancy", "balance_after_continues_the_chain"


@damage
def deleted_initial_credits_with_the_balance_corrected(place: Place) -> tuple[str, str]:
    customer = place.business.customers[3]
    place.business.post("subscriptions", customer=customer, items=[{"price": place.business.prices["pro"]}])
    place.mend(APPLY)
    account, amount = place.account(3), place.delete_grant(3, "initial:")
    place.damage(
        "update billing.credit_balances set balance = balance - %s where account_id = %s", amount, account
    )
    place.damage(
        "update billing.credit_entries set balance_after = balance_after - %s where account_id = %s",
        amount,
        account,
    )
    return "ungranted_payment", "initial credits of invoice in_"


@damage
def a_deleted_grant_of_initial_credits(place: Place) -> tuple[str, str]:
    customer = place.business.customers[3]
    place.business.post("subscriptions", customer=customer, items=[{"price": place.business.prices["pro"]}])
    place.mend(APPLY)
    place.delete_grant(3, "initial:")
    return "ledger_discrepancy", "balance_is_the_sum_of_entries"


@damage
def deleted_paid_time(place: Place) -> tuple[str, str]:
    line = place.line_of(0)
    place.damage("delete from billing.credit_schedules where stripe_line_id = %s", line)
    return "entitlement_discrepancy", f"line {line}"


@damage
def edited_paid_time(place: Place) -> tuple[str, str]:
    line = place.line_of(0)
    place.damage("update billing.credit_schedules set quantity = 9 where stripe_line_id = %s", line)
    return "entitlement_discrepancy", f"{line} of"


@damage
def a_deleted_purchase(place: Place) -> tuple[str, str]:
    session = place.business.buy_pack(place.business.customers[0])
    place.mend(APPLY)
    place.delete_grant(0, f"pack:{session}")
    place.damage("delete from billing.pack_purchases where business_key = %s", f"pack:{session}")
    place.damage(
        "update billing.credit_balances set balance = balance - 500 where account_id = %s", place.account(0)
    )
    return "ungranted_payment", f"checkout session {session} is paid for"


@pytest.fixture(scope="module")
def brought(
    databases: Databases, template: Callable[[DefaultGrants], str], business: Business
) -> Iterator[str]:
    """A template: the business's history is in the database, with the rest of each paid period granted."""
    with (
        databases.copy(template("none")) as database,
        pytest.MonkeyPatch.context() as monkeypatch,
        placed(business, database, monkeypatch, None) as place,
    ):
        link_all(database, business.customers)
        status, told, error = place.till("backfill", "--grant-current-period")
        assert status == 0, (told, error)
        place.work()
        place.assert_sound()
        yield database.name


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_and_mended(
    name: str,
    brought: str,
    databases: Databases,
    business: Business,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with databases.copy(brought) as database, placed(business, database, monkeypatch, capsys) as place:
        check, words = DAMAGES[name](place)
        findings = place.findings()
        found = [each for each in findings if each["check"] == check and words in each["what"]]
        assert len(found) == 1, findings
        place.mend(found[0]["mend"])
        if left := place.findings():  # what is mended may show what else is missing
            place.mend(left[0]["mend"])
        assert place.findings() == []
        place.assert_sound()


@pytest.mark.parametrize("seed", range(4))
def test_damages_that_come_together_are_mended_in_turn(
    seed: int,
    brought: str,
    databases: Databases,
    business: Business,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with databases.copy(brought) as database, placed(business, database, monkeypatch, capsys) as place:
        # A grant that is missing when the next event comes is granted again, at the end of the ledger: then the
        # gap that it left in the middle can only be filled from a backup.
        for name in sorted(Random(seed).sample(sorted(DAMAGES), 4), key=lambda name: "deleted_grant" in name):
            DAMAGES[name](place)
        for _ in range(8):
            findings = place.findings()
            if not findings:
                break
            place.mend(findings[0]["mend"])
        assert place.findings() == []
        place.assert_sound()


def test_what_was_erased_is_no_difference(
    brought: str,
    databases: Databases,
    business: Business,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with databases.copy(brought) as database, placed(business, database, monkeypatch, capsys) as place:
        an_ended_subscription(place)
        place.mend(APPLY)
        customer, account = place.business.customers[2], place.account(2)
        place.query("select billing.erase_account(%s, 'asked for', 'root')", account)
        assert place.findings() == []
        # Of what Stripe says of the customer later, nothing is kept.
        place.business.call("DELETE", f"customers/{customer}")
        place.mend(APPLY)
        assert place.findings() == []
        assert place.query(
            "select email, name, deleted_at is not null from billing.customers where stripe_customer_id = %s",
            customer,
        ) == [(None, None, True)]
        place.assert_sound()
