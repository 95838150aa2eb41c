"""Events that arrive after an erasure: applied as always, and nothing of the person comes back."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.everywhere import found_anywhere
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import JANUARY, MONTH_SECONDS, Event, paid
from worker.events.decide import DECIDERS
from worker.events.outcomes import Done

LATER = JANUARY + 2 * MONTH_SECONDS
EMAIL, NAME, STREET = "ada@example.com", "Ada Lovelace", "12 Saint James's Square"
WORDS = [EMAIL, NAME, STREET]
WHO = "'asked for', 'root@example.org'"

# Where Stripe's objects name a person; what is none of an object's own does no harm.
PERSONAL: dict[str, Any] = {
    "email": EMAIL,
    "name": NAME,
    "address": {"line1": STREET},
    "phone": EMAIL,
    "receipt_email": EMAIL,
    "customer_email": EMAIL,
    "customer_details": {"email": EMAIL, "name": NAME, "address": {"line1": STREET}},
    "billing_details": {"email": EMAIL, "name": NAME, "address": {"line1": STREET}},
    "evidence": {"customer_name": NAME, "customer_email_address": EMAIL},
    "metadata": {"note": NAME},
    "receipt_url": f"https://pay.stripe.com/{EMAIL}",
    "hosted_invoice_url": f"https://invoice.stripe.com/{EMAIL}",
    "client_reference_id": EMAIL,
    "description": NAME,
}
CARD = {"fingerprint": EMAIL, "brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2031}
CHARGED = {"type": "card", "card": {"fingerprint": EMAIL}}
CANCELED = {"status": "canceled", "ended_at": LATER, "canceled_at": LATER}

LATE: dict[str, Callable[[], dict[str, Any]]] = {
    "customer.updated": lambda: events.customer(**PERSONAL),
    "customer.deleted": lambda: events.customer(**PERSONAL),
    "customer.subscription.updated": lambda: events.subscription(**PERSONAL | CANCELED),
    "customer.subscription.deleted": lambda: events.subscription(**PERSONAL | CANCELED),
    "invoice.payment_failed": lambda: events.invoice(1, 1, **PERSONAL, status="open", amount_paid=0),
    "invoice.voided": lambda: events.invoice(1, 1, **PERSONAL, status="void", amount_paid=0),
    "invoice_payment.paid": lambda: events.invoice_payment(**PERSONAL),
    "checkout.session.completed": lambda: events.checkout_session(**PERSONAL),
    "checkout.session.expired": lambda: events.checkout_session(
        **PERSONAL | {"id": "cs_2", "status": "expired", "payment_status": "unpaid"}
    ),
    "payment_intent.payment_failed": lambda: events.payment_intent(
        **PERSONAL, status="requires_payment_method", amount_received=0
    ),
    "charge.succeeded": lambda: events.charge(**PERSONAL | {"id": "ch_9", "payment_method_details": CHARGED}),
    "charge.refunded": lambda: events.charge(**PERSONAL, amount_refunded=500, payment_method_details=CHARGED),
    "refund.created": lambda: events.refund(**PERSONAL, amount=500),
    "refund.failed": lambda: events.refund(**PERSONAL, amount=500, status="failed"),
    "charge.dispute.created": lambda: events.dispute(**PERSONAL),
    "charge.dispute.closed": lambda: events.dispute(**PERSONAL, status="lost"),
    "credit_note.created": lambda: events.credit_note(**PERSONAL),
    "review.opened": lambda: events.review(**PERSONAL, ip_address=EMAIL),
    "payment_method.attached": lambda: events.payment_method(**PERSONAL, card=CARD),
    "payment_method.updated": lambda: events.payment_method(**PERSONAL, card=CARD),
    "setup_intent.succeeded": lambda: (
        {"id": "seti_1", "object": "setup_intent", "customer": "cus_1"} | PERSONAL
    ),
}


def late(type: str) -> Event:
    """Each type at a second of its own, so that none has to be ordered by Stripe."""
    return Event(type, LATE[type](), created=LATER + list(LATE).index(type))


def erase(shop: Shop, account: UUID) -> Any:
    return shop.app.execute(f"select (billing.erase_account(%s, {WHO})).*".encode(), [account]).fetchone()


def everywhere(shop: Shop) -> list[str]:
    with shop.database.connect(admin=True) as admin:
        return found_anywhere(admin, WORDS)


@pytest.fixture
def account(shop: Shop) -> UUID:
    """A customer who subscribed, paid, and cancelled; with all of the person in the events."""
    account = shop.link(email=EMAIL)
    subscribed = events.subscription(**PERSONAL)
    shop.outcomes(
        Event("customer.created", events.customer(**PERSONAL)),
        Event("customer.subscription.created", subscribed),
        Event("charge.succeeded", events.charge(**PERSONAL, payment_method_details=CHARGED)),
        paid(1, **PERSONAL),
        Event("invoice_payment.paid", events.invoice_payment(**PERSONAL)),
        Event("payment_method.attached", events.payment_method(**PERSONAL, card=CARD)),
    )
    ended = subscribed | CANCELED | {"ended_at": JANUARY + MONTH_SECONDS}
    shop.outcomes(Event("customer.subscription.deleted", ended, created=JANUARY + MONTH_SECONDS))
    assert shop.balance(account) > 0
    assert len(everywhere(shop)) > 8
    return account


@pytest.mark.parametrize("type", LATE)
def test_a_late_event_brings_nothing_back(shop: Shop, account: UUID, type: str) -> None:
    erase(shop, account)
    assert everywhere(shop) == []
    event = late(type)
    shop.outcome(event)
    assert shop.status(event) == ("applied" if type in DECIDERS else "ignored")
    assert everywhere(shop) == []
    shop.assert_sound()


def test_late_events_in_one_batch_bring_nothing_back(shop: Shop, account: UUID) -> None:
    erase(shop, account)
    shop.outcomes(*(late(type) for type in LATE if type not in ("refund.failed", "charge.dispute.closed")))
    assert everywhere(shop) == []
    shop.assert_sound()


def test_events_of_others_keep_their_bodies(shop: Shop, account: UUID) -> None:
    shop.link(2)
    erase(shop, account)
    event = Event("customer.updated", events.customer(id="cus_2", email="grace@example.com"), created=LATER)
    assert isinstance(shop.outcome(event), Done)
    assert (
        shop.value("select payload from billing.stripe_events where stripe_event_id = %s", event.id)
        == event.payload
    )
    assert (
        shop.value("select email from billing.customers where stripe_customer_id = 'cus_2'")
        == "grace@example.com"
    )


def test_a_redelivered_event_is_a_duplicate(shop: Shop, account: UUID) -> None:
    event = Event("customer.updated", events.customer(**PERSONAL), created=LATER)
    shop.outcome(event)
    erase(shop, account)
    shop.receive(event)
    assert shop.drain() == []
    assert everywhere(shop) == []


@pytest.mark.parametrize("status", ["queued", "parked", "dead"])
def test_an_event_that_is_not_finished_stops_the_erasure(shop: Shop, account: UUID, status: str) -> None:
    """It needs its body."""
    event = Event("customer.updated", events.customer(**PERSONAL), created=LATER)
    shop.receive(event)
    if status != "queued":
        with shop.database.connect(admin=True) as admin:
            admin.execute("delete from pgmq.q_stripe_events")
            admin.execute(
                "update billing.stripe_events set status = %s, settled_at = now(), last_error = 'no' "
                "where stripe_event_id = %s",
                [status, event.id],
            )
    with pytest.raises(psycopg.Error, match=f"event {event.id} is {status}") as refused:
        erase(shop, account)
    assert refused.value.sqlstate == "TB080"
    assert everywhere(shop) != []


def test_an_event_that_is_applied_meanwhile_brings_nothing_back(shop: Shop, account: UUID) -> None:
    """The erasure waits for a worker that has the event in hand, and then sees what it wrote."""
    event = late("customer.updated")
    shop.receive(event)
    done = threading.Event()
    with shop.database.connect() as applying, shop.database.connect() as watching:
        applying.autocommit = False
        applying.execute(
            "select from billing.stripe_events where stripe_event_id = %s for update", [event.id]
        )

        def run() -> None:
            with shop.database.connect() as erasing:
                erasing.execute(f"select billing.erase_account(%s, {WHO})".encode(), [account])
            done.set()

        thread = threading.Thread(target=run)
        thread.start()
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%erase_account%'"
        while watching.execute(waits.encode()).fetchone() == (0,):
            assert thread.is_alive()
        applying.execute(
            "select billing.sync_customer('cus_1', false, %s, %s, false, to_timestamp(%s))",
            [EMAIL, NAME, LATER],
        )
        applying.execute(
            "select billing.settle_stripe_events(array(select msg_id from pgmq.q_stripe_events), array[%s], "
            "array['applied'], array[null::text], array[null::text])",
            [event.id],
        )
        applying.commit()
        thread.join()
    assert done.is_set()
    assert everywhere(shop) == []
    shop.assert_sound()


def test_a_guest_is_erased_by_the_customer(shop: Shop) -> None:
    shop.outcome(Event("customer.created", events.customer(**PERSONAL | {"id": "cus_guest"})))
    shop.app.execute(f"select billing.erase_customer('cus_guest', {WHO})".encode())
    assert everywhere(shop) == []
    later = Event("customer.updated", events.customer(**PERSONAL | {"id": "cus_guest"}), created=LATER)
    shop.outcome(later)
    assert shop.status(later) == "applied"
    assert everywhere(shop) == []


def test_an_erased_guest_who_signs_up_is_a_customer_like_others(shop: Shop) -> None:
    shop.outcome(Event("customer.created", events.customer(id="cus_1")))
    shop.app.execute(f"select billing.erase_customer('cus_1', {WHO})".encode())
    shop.link(1)
    event = Event("customer.updated", events.customer(id="cus_1", email=EMAIL), created=LATER)
    shop.outcome(event)
    known = "select email from billing.customers where stripe_customer_id = 'cus_1'"
    assert shop.value(known) == EMAIL
    assert shop.value("select payload from billing.stripe_events where stripe_event_id = %s", event.id) != ""
