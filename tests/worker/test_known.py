"""Values that Stripe may add to its enumerations, and what is null: dead at once, by a reason that names the field."""

import re
from typing import Any

import psycopg
import pytest

from tests.sql.calls import record_fraud_warning
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import Event
from tests.worker.stripe_stub import StripeStub
from worker.events import objects
from worker.events.known import KNOWN_VALUES
from worker.events.objects import StripeObject
from worker.events.outcomes import Dead, Done

TABLES: dict[type[StripeObject], str] = {
    objects.Charge: "payments",
    objects.CheckoutSession: "checkout_sessions",
    objects.CreditNote: "credit_notes",
    objects.Invoice: "invoices",
    objects.Price: "plans",
    objects.Refund: "refunds",
    objects.Subscription: "subscriptions",
}
# Ours, not Stripe's: what a plan declares.
OUR_OWN = {("plans", f"{choice}_credits") for choice in ("proration", "downgrade", "cancel", "trial_end")} | {
    ("plans", "rollover")
}
# No column: it decides which table has the price.
NOT_STORED = {("plans", "type")}


def checked_values(conn: psycopg.Connection[Any]) -> dict[tuple[str, str], frozenset[str]]:
    """(table, column) → the values that a CHECK `…_is_known` of one of these tables lets through."""
    found = conn.execute(
        "select conrelid::regclass::text, attname, pg_get_constraintdef(constraints.oid) "
        "from pg_constraint as constraints "
        "join pg_attribute on attrelid = conrelid and attnum = conkey[1] "
        "where contype = 'c' and conname like '%%_is_known' and cardinality(conkey) = 1 "
        "and conrelid = any (%s::text[]::regclass[])",
        [[f"billing.{table}" for table in TABLES.values()]],
    ).fetchall()
    values = {
        (table.removeprefix("billing."), column): frozenset(re.findall(r"'(\w+)'::text", definition))
        for table, column, definition in found
    }
    return {place: known for place, known in values.items() if place not in OUR_OWN}


def test_the_values_that_are_known_are_those_that_the_tables_take(conn: psycopg.Connection[Any]) -> None:
    known = {
        (TABLES[kind], field): values
        for kind, fields in KNOWN_VALUES.items()
        for _, field, values in fields
        if (TABLES[kind], field) not in NOT_STORED
    }
    assert known == checked_values(conn)


UNKNOWN: dict[str, tuple[Event, str, str]] = {
    "subscription status": (
        Event("customer.subscription.updated", events.subscription(status="suspended")), "status", "suspended",
    ),
    "invoice status": (Event("invoice.voided", events.invoice(status="paused")), "status", "paused"),
    "charge status": (Event("charge.succeeded", events.charge(status="settling")), "status", "settling"),
    "refund status": (Event("refund.updated", events.refund(status="in_review")), "status", "in_review"),
    "credit note status": (Event("credit_note.updated", events.credit_note(status="draft")), "status", "draft"),
    "session mode": (
        Event("checkout.session.completed", events.checkout_session(mode="donation")), "mode", "donation",
    ),
    "session status": (
        Event("checkout.session.completed", events.checkout_session(mode="setup", status="halted")), "status", "halted",
    ),
    "session payment status": (
        Event("checkout.session.completed", events.checkout_session(mode="setup", payment_status="partially_paid")),
        "payment_status", "partially_paid",
    ),
    "price type": (Event("price.created", events.price(id="price_2", type="leased")), "type", "leased"),
    "price interval": (
        Event(
            "price.created",
            events.price(
                id="price_2", recurring={"interval": "quarter", "interval_count": 1, "usage_type": "licensed"}
            ),
        ),
        "recurring.interval", "quarter",
    ),
    "price usage type": (
        Event(
            "price.created",
            events.price(id="price_2", recurring={"interval": "month", "interval_count": 1, "usage_type": "shared"}),
        ),
        "recurring.usage_type", "shared",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("event", "path", "value"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_value_is_a_dead_letter_at_once_that_names_field_and_value(
    shop: Shop, event: Event, path: str, value: str
) -> None:
    outcome = shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert f'{path} of {event.object["id"]} is "{value}"' in outcome.reason
    assert shop.value("select attempts from billing.stripe_events where stripe_event_id = %s", event.id) == 1
    assert (
        shop.value(
            "select count(*) from billing.notifications where payload ->> 'stripe_event_id' = %s", event.id
        )
        == 1
    )
    shop.assert_sound()


def test_an_unknown_value_that_stripe_answers_is_named_too(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    stripe.put("subscriptions/sub_1", events.subscription(status="suspended"))
    shop.outcome(Event("customer.subscription.created", events.subscription(metadata={"n": "1"})))
    tie = Event("customer.subscription.updated", events.subscription(metadata={"n": "2"}))
    outcome = shop.outcome(tie)
    assert isinstance(outcome, Dead)
    assert 'status of sub_1 is "suspended"' in outcome.reason


@pytest.mark.parametrize(
    "event",
    [
        Event("invoice.paid", events.invoice(customer=None, customer_account="acct_buyer")),
        Event("invoice.voided", events.invoice(customer=None, status="void")),
        Event("customer.subscription.created", events.subscription(customer=None)),
    ],
    ids=["paid invoice", "void invoice", "subscription"],
)
def test_a_customer_that_is_null_is_named_as_such(shop: Shop, event: Event) -> None:
    outcome = shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert re.search(r"customer( of \w+)? is (missing or )?null", outcome.reason)
    shop.assert_sound()


@pytest.mark.parametrize(
    "event",
    [
        Event("charge.succeeded", events.charge(customer=None)),
        Event("payment_method.updated", events.payment_method(customer=None)),
        Event("payment_method.automatically_updated", events.payment_method(customer=None)),
        Event("refund.updated", events.refund(status=None)),
    ],
    ids=["guest's charge", "card", "renewed card", "refund without a status"],
)
def test_what_may_be_null_is_applied(shop: Shop, event: Event) -> None:
    assert shop.outcome(event) == Done()


def test_a_refund_without_a_status_stands(shop: Shop) -> None:
    shop.outcome(Event("refund.updated", events.refund(status=None)))
    assert shop.value("select status from billing.refunds") == "pending"


def test_a_row_that_its_table_refuses_is_dead_at_once_and_names_the_constraint(shop: Shop) -> None:
    """What is not known beforehand: here an amount that no charge has."""
    event = Event("charge.succeeded", events.charge(amount=5, amount_refunded=6))
    outcome = shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert "billing.payments, constraint amount_refunded_is_within_the_amount" in outcome.reason
    assert shop.value("select attempts from billing.stripe_events where stripe_event_id = %s", event.id) == 1


def test_a_warning_of_a_level_without_a_policy_is_judged_as_unknown(shop: Shop) -> None:
    account = shop.link()
    shop.app.execute("update billing.fraud_policies set freeze_account = true where risk_level = 'unknown'")
    shop.outcome(Event("charge.succeeded", events.charge()))
    shop.app.execute("set role billing_worker")
    record_fraud_warning(shop.app, risk_level="extreme")
    shop.app.execute("reset role")
    assert shop.value("select frozen_at is not null from billing.accounts where id = %s", account)
    assert shop.value("select count(*) from billing.notifications where kind = 'fraud_warning'") == 1
