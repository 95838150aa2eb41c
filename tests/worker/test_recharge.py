"""Packs and automatic recharges with the worker and the local Stripe: paid once, granted once, whatever happens."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.calls import call, grant, make_jobs_due, spend
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker import events
from tests.worker.conftest import Shop, begin, end, opened
from tests.worker.events import JANUARY, Event, message, moment
from tests.worker.stripe_stub import StripeStub
from worker.events.commands import SyncCheckoutSession, SyncPaymentIntent
from worker.events.decide import Fetched, decide, needs
from worker.events.fetch import StripeReader
from worker.events.normalise import normalise, normalise_object
from worker.events.objects import CheckoutLineItem, CheckoutSession
from worker.events.outcomes import Dead, Parked, RetryLater
from worker.events.shapes import Node
from worker.jobs.charge import KEY_SECONDS, NEVER_AGAIN, Charger
from worker.jobs.queue import Job
from worker.jobs.recharges import Answer, Recharge, Recharges, Unknown
from worker.jobs.run import Jobs
from worker.run import run
from worker.sessions import connect
from worker.settings import Settings
from worker.stripe_api import StripeAccess

PACK_CREDITS = 500
PRICE = 2000
DEADLINE_SECONDS = 30
RETURN_URL = "https://app.example/billing"


@dataclass
class Till:
    """A shop whose Stripe is the local one, and an account whose customer saved a card."""

    shop: Shop
    local: Local
    price_id: str
    account: UUID
    customer_id: str
    job: Any = None

    def tell(self, *types: str) -> None:
        """Receive the local Stripe's events of these types, all if none is named, and drain."""
        self.shop.receive(*self.told(*types))
        self.shop.drain()

    def told(self, *types: str) -> list[Event]:
        return [
            Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
            for body in self.local.world.events.bodies()
            if not types or body["type"] in types
        ]

    def session(self, *lines: dict[str, Any], **more: Any) -> Any:
        order = {"mode": "payment", "success_url": "https://app.example", "customer": self.customer_id}
        order["line_items"] = list(lines) or [{"price": self.price_id, "quantity": 1}]
        return self.local.client.checkout.sessions.create(order | more)

    def complete(self, session: Any, **given: Any) -> None:
        self.local.control(f"checkout_sessions/{session.id}/complete", given)

    def balance(self) -> int:
        return self.shop.balance(self.account)

    def intents(self) -> list[dict[str, Any]]:
        """Payments of recharges at Stripe."""
        return [
            found
            for found in self.local.world.store.all("payment_intent")
            if found["metadata"].get("recharge_id")
        ]

    def pay_with(self, card: str) -> str:
        method = self.local.client.payment_methods.attach(card, {"customer": self.customer_id})
        self.local.client.customers.update(
            self.customer_id, {"invoice_settings": {"default_payment_method": method.id}}
        )
        return method.id

    def agree(self, **more: Any) -> None:
        arguments = {"threshold": 100, "stripe_price_id": self.price_id} | more
        call(self.shop.app, "set_recharge", account_id=self.account, **arguments)

    def fall(self, **more: Any) -> None:
        """Agree to recharges, and spend 60 of 150 credits."""
        grant(self.shop.app, self.account, 150)
        self.agree(**more)
        spend(self.shop.app, self.account, 60)

    def charger(self, **more: Any) -> Charger:
        return Charger(StripeAccess(KEY, self.local.url, **more))

    def jobs(self, charge: Callable[[Recharge], Answer | Unknown] | None = None) -> Jobs:
        return Jobs({"recharge": Recharges(charge or self.charger().charge)})

    def begin(self) -> list[tuple[Job, Recharge]]:
        """One worker takes what is due."""
        return begin(self.shop.worker, Recharges(self.charger().charge), "recharge")

    def take(self) -> Recharge:
        """One worker takes the one recharge that is due."""
        [(self.job, recharge)] = self.begin()
        return recharge

    def record(self, recharge: Recharge, answer: Answer | Unknown) -> str:
        """Record an answer; the status that the recharge has then, or delayed."""
        Recharges(self.charger().charge).record(self.shop.worker, self.job, recharge, answer)
        if isinstance(answer, Unknown):
            return "delayed"
        return self.shop.value("select status from billing.recharges where id = %s", recharge.id)

    def work(self, charger: Charger | None = None) -> str | None:
        """One worker takes what is due, charges it and settles it; the status it ended in."""
        found = self.begin()
        if not found:
            return None
        [(self.job, recharge)] = found
        return self.record(recharge, (charger or self.charger()).charge(recharge))

    def make_due(self, age: timedelta = timedelta()) -> None:
        with self.shop.database.connect(admin=True) as admin:
            make_jobs_due(admin)
            admin.execute("update billing.recharges set first_attempt_at = first_attempt_at - %s", [age])

    def status(self) -> list[tuple[str, str | None]]:
        query = "select status, reason from billing.recharges order by claimed_at, created_at"
        return self.shop.app.execute(query).fetchall()

    def paused(self) -> str | None:
        return self.shop.value("select paused_reason from billing.recharge_settings")

    def notifications(self) -> list[tuple[str, str]]:
        query = "select audience, kind from billing.notifications order by id"
        return self.shop.app.execute(query).fetchall()


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:
        customer = local.customer()
        price = local.price(PRICE, None, metadata={"pack_credits": str(PACK_CREDITS)})
        account = account_of(shop.app, create_user(database))
        shop.app.execute("select billing.link_customer(%s, %s)", [account, customer.id])
        till = Till(shop, local, price.id, account, customer.id)
        till.tell("product.created", "price.created")
        yield till
        shop.assert_sound()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Packs


def session_body(**changes: Any) -> dict[str, Any]:
    """A paid session of mode payment, as an event shows it: without its lines."""
    changes = {"mode": "payment", "subscription": None, "invoice": None, "payment_intent": "pi_1"} | changes
    return events.checkout_session(**changes)


def with_lines(body: dict[str, Any], *lines: dict[str, Any]) -> dict[str, Any]:
    """The same as Stripe answers when it is asked for the lines."""
    listing = {"object": "list", "has_more": False, "data": list(lines) or [line_body()]}
    return body | {"line_items": listing | {"url": f"/v1/checkout/sessions/{body['id']}/line_items"}}


def line_body(**changes: Any) -> dict[str, Any]:
    return {
        "id": "li_1",
        "object": "item",
        "price": events.price(id="price_pack", type="one_time"),
        "quantity": 2,
        "amount_total": 4000,
    } | changes


@pytest.mark.parametrize(
    ("event_type", "changes"),
    [("completed", {}), ("async_payment_succeeded", {}), ("completed", {"payment_status": "unpaid"})],
    ids=["paid", "paid later", "to be captured"],
)
def test_a_completed_session_is_read_with_its_lines(event_type: str, changes: dict[str, Any]) -> None:
    event = normalise(message(Event(f"checkout.session.{event_type}", session_body(**changes))))
    assert needs(event) == ["cs_1"]
    found = normalise_object(Node(with_lines(session_body()), "cs_1"))
    assert isinstance(found, CheckoutSession)
    assert found.lines == (CheckoutLineItem("li_1", "price_pack", 2, 4000, declares_credits=True),)
    later = moment(JANUARY + 60)
    assert decide(event, {"cs_1": Fetched(found, later)}) == [SyncCheckoutSession(found, later)]


@pytest.mark.parametrize(
    "changes",
    [{"mode": "subscription"}, {"mode": "setup"}, {"status": "expired"}],
)
def test_a_session_that_can_pay_for_no_pack_needs_no_reading(changes: dict[str, Any]) -> None:
    event = normalise(message(Event("checkout.session.completed", session_body(**changes))))
    assert needs(event) == []


@pytest.mark.parametrize("change", ["succeeded", "payment_failed", "canceled"])
def test_a_payment_intent_is_told_as_its_event_shows_it(change: str) -> None:
    event = normalise(message(Event(f"payment_intent.{change}", events.payment_intent())))
    assert needs(event) == []
    assert decide(event, {}) == [SyncPaymentIntent(event.object, moment(JANUARY))]


def test_stripe_is_asked_for_lines_outside_any_transaction(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    account = shop.link()
    states: list[Any] = []
    stripe.on_request = lambda: states.append(shop.worker.info.transaction_status)
    stripe.put("checkout/sessions/cs_1", with_lines(session_body()))
    pack = events.price(id="price_pack", type="one_time", recurring=None, metadata={"pack_credits": "7"})
    shop.receive(Event("price.created", pack), Event("checkout.session.completed", session_body()))
    shop.drain()
    assert states == [psycopg.pq.TransactionStatus.IDLE]
    assert stripe.asked == ["/v1/checkout/sessions/cs_1?expand%5B0%5D=line_items.data.price.product"]
    assert shop.balance(account) == 14


def test_lines_that_cannot_be_read_delay_the_event(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    stripe.failure = 500
    outcome = shop_with_stripe.outcome(Event("checkout.session.completed", session_body()))
    assert isinstance(outcome, RetryLater)
    assert outcome.excused


def test_a_pack_is_granted_whatever_metadata_says(till: Till) -> None:
    stranger = account_of(till.shop.app, create_user(till.shop.database))
    lie = {"pack_credits": "1000000", "account_id": str(stranger)}
    session = till.session(
        client_reference_id=str(stranger), metadata=lie, payment_intent_data={"metadata": lie}
    )
    till.complete(session)
    till.tell()
    assert (till.balance(), till.shop.balance(stranger)) == (PACK_CREDITS, 0)
    query = "select stripe_checkout_session_id, stripe_payment_intent_id from billing.credit_grants"
    paid = till.local.client.checkout.sessions.retrieve(session.id).payment_intent
    assert till.shop.app.execute(query).fetchall() == [(session.id, paid)]


def test_replays_and_second_events_of_one_session_grant_once(till: Till) -> None:
    till.complete(till.session())
    told = till.told("checkout.session.completed")
    till.shop.receive(*told, *told, *(replace(event, id=f"evt_{uuid4().hex}") for event in told))
    till.shop.drain()
    assert till.balance() == PACK_CREDITS


@pytest.mark.parametrize("declared_by", ["nobody", "price", "product"])
def test_metadata_of_price_or_product_tells_a_pack_from_what_the_app_sells(
    till: Till, declared_by: str
) -> None:
    stripe, credits = till.local.client, {"pack_credits": "9"}
    product = stripe.products.create(
        {"name": "T-shirt", "metadata": credits if declared_by == "product" else {}}
    )
    price = stripe.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 100,
            "metadata": credits if declared_by == "price" else {},
        }
    )
    till.complete(till.session({"price": price.id, "quantity": 1}))
    (event,) = till.told("checkout.session.completed")
    outcome = till.shop.outcome(event)
    assert isinstance(outcome, Dead) == (declared_by != "nobody")
    till.tell("product.created", "price.created")
    assert till.shop.status(event) == "applied"
    assert till.balance() == (0 if declared_by == "nobody" else 9)


def test_more_lines_than_a_page_add_up(till: Till) -> None:
    prices = [till.local.price(100, None, metadata={"pack_credits": str(n)}) for n in range(1, 13)]
    till.complete(till.session(*({"price": price.id, "quantity": 2} for price in prices)))
    till.tell()
    assert till.balance() == 2 * sum(range(1, 13))


@pytest.mark.parametrize("seed", range(6))
def test_a_delayed_payment_is_granted_once_in_any_order(till: Till, seed: int) -> None:
    session = till.session()
    till.complete(session, delayed=True)
    till.tell()
    assert till.balance() == 0
    till.local.control(f"checkout_sessions/{session.id}/settle", {"succeeds": True})
    told = till.told() * 2
    random.Random(seed).shuffle(told)
    till.shop.receive(*(replace(event, id=f"evt_{uuid4().hex}") for event in told))
    till.shop.drain()
    assert till.balance() == PACK_CREDITS


@pytest.mark.parametrize("seed", range(4))
def test_a_delayed_payment_told_from_the_start_in_any_order(till: Till, seed: int) -> None:
    session = till.session()
    till.complete(session, delayed=True)
    till.local.control(f"checkout_sessions/{session.id}/settle", {"succeeds": True})
    told = till.told("checkout.session.completed", "checkout.session.async_payment_succeeded") * 2
    random.Random(seed).shuffle(told)
    for event in told:
        till.shop.receive(replace(event, id=f"evt_{uuid4().hex}"))
        till.shop.drain()
    assert till.balance() == PACK_CREDITS
    query = "select payment_status from billing.checkout_sessions"
    assert till.shop.value(query) == "paid"


def test_a_delayed_payment_that_fails_grants_nothing(till: Till) -> None:
    session = till.session()
    till.complete(session, delayed=True)
    till.local.control(f"checkout_sessions/{session.id}/settle", {"succeeds": False})
    till.tell()
    assert till.balance() == 0


def test_a_discount_of_all_is_a_pack_all_the_same(till: Till) -> None:
    coupon = till.local.client.coupons.create({"percent_off": 100, "duration": "once"})
    session = till.session(discounts=[{"coupon": coupon.id}])
    till.complete(session)
    till.tell()
    assert till.local.client.checkout.sessions.retrieve(session.id).payment_status == "no_payment_required"
    assert till.balance() == PACK_CREDITS


def test_an_unknown_price_is_a_dead_letter_that_goes_on_when_the_price_arrives(till: Till) -> None:
    price = till.local.price(900, None, metadata={"pack_credits": "30"})
    till.complete(till.session({"price": price.id, "quantity": 2}, {"price": till.price_id, "quantity": 1}))
    (event,) = till.told("checkout.session.completed")
    outcome = till.shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert (outcome.waiting_for, till.balance()) == (price.id, 0)
    till.tell("product.created", "price.created")
    assert till.shop.status(event) == "applied"
    assert till.balance() == PACK_CREDITS + 60


def test_a_link_of_the_dashboard_is_granted_when_its_customer_is_linked(till: Till) -> None:
    order = {"line_items": [{"price": till.price_id, "quantity": 1}], "customer_creation": "always"}
    link = till.local.client.payment_links.create(order)
    till.local.control(f"payment_links/{link.id}/complete", {"client_reference_id": str(till.account)})
    (event,) = till.told("checkout.session.completed")
    outcome = till.shop.outcome(event)
    assert isinstance(outcome, Parked)
    till.shop.app.execute("select billing.merge_customer(%s, %s)", [outcome.waiting_for, till.customer_id])
    till.shop.drain()
    assert (till.shop.status(event), till.balance()) == ("applied", PACK_CREDITS)


def test_a_guest_who_paid_waits_for_a_person(till: Till) -> None:
    link = till.local.client.payment_links.create({"line_items": [{"price": till.price_id, "quantity": 1}]})
    till.local.control(f"payment_links/{link.id}/complete", {"client_reference_id": str(till.account)})
    (event,) = till.told("checkout.session.completed")
    assert isinstance(till.shop.outcome(event), Dead)
    assert "TB055" in till.shop.last_error(event)


# Recharges


def test_a_fall_is_one_payment_and_one_pack(till: Till) -> None:
    till.fall()
    assert till.work() == "paid"
    (intent,) = till.intents()
    assert (intent["amount"], intent["currency"], intent["customer"]) == (PRICE, "usd", till.customer_id)
    assert till.balance() == 90 + PACK_CREDITS
    till.tell()
    till.make_due()
    assert (till.work(), till.balance(), len(till.intents())) == (None, 90 + PACK_CREDITS, 1)


def test_the_event_may_be_faster_than_the_answer(till: Till) -> None:
    till.fall()
    recharge = till.take()
    answer = till.charger().charge(recharge)
    till.tell()
    assert till.status() == [("paid", None)]
    assert till.record(recharge, answer) == "paid"
    assert till.balance() == 90 + PACK_CREDITS


def test_dying_after_the_payment_ends_in_the_same_payment(till: Till) -> None:
    till.fall()
    recharge = till.take()
    till.charger().charge(recharge)  # and nobody hears of it
    till.pay_with("pm_card_mastercard")
    till.make_due()
    assert till.work() == "paid"
    assert (len(till.intents()), till.balance()) == (1, 90 + PACK_CREDITS)


def test_dying_before_the_payment_ends_in_one_payment(till: Till) -> None:
    till.fall()
    till.take()
    till.make_due()
    assert till.work() == "paid"
    assert len(till.intents()) == 1


def test_two_workers_with_one_recharge_in_hand_make_one_payment(till: Till) -> None:
    till.fall()
    first = till.take()
    till.make_due()
    second = till.take()
    # The key alone keeps them apart: neither looks for what the other made.
    second = replace(second, was_asked=False)
    barrier = threading.Barrier(2)
    answers: list[Answer | Unknown] = []

    def charge(recharge: Recharge) -> None:
        barrier.wait()
        answers.append(till.charger().charge(recharge))

    threads = [threading.Thread(target=charge, args=[recharge]) for recharge in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        till.record(first, answer)
    assert (len(till.intents()), till.balance()) == (1, 90 + PACK_CREDITS)


def test_two_workers_at_once_recharge_once(till: Till) -> None:
    till.fall()
    stop = threading.Event()
    settings = Settings(till.shop.database.url, KEY, till.local.url)
    workers = [threading.Thread(target=run, args=[settings, stop]) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        until(lambda: till.status() == [("paid", None)])
        spend(till.shop.app, till.account, 500)  # the next fall
        until(lambda: till.status() == [("paid", None)] * 2)
    finally:
        stop.set()
        for worker in workers:
            worker.join(DEADLINE_SECONDS)
    assert (len(till.intents()), till.balance()) == (2, 90 + PACK_CREDITS)


@pytest.mark.slow
def test_a_thousand_spends_below_the_threshold_are_one_recharge(till: Till) -> None:
    """Eight apps spend at once while two workers charge; what the pack brings is above the threshold."""
    with till.shop.database.connect(admin=True) as admin:
        admin.execute("update billing.credit_packs set pack_credits = 5000")
    grant(till.shop.app, till.account, 1100)
    till.agree(threshold=1100)
    stop, start = threading.Event(), threading.Barrier(8)
    settings = Settings(till.shop.database.url, KEY, till.local.url)
    seconds: list[float] = []

    def spend_some(number: int) -> None:
        with till.shop.database.connect("service_role") as app:
            start.wait()
            started = time.monotonic()
            with app.pipeline():
                for step in range(125):
                    app.execute("select billing.spend_credits(%s, 1, %s)", [till.account, f"{number}:{step}"])
            seconds.append(time.monotonic() - started)

    workers = [threading.Thread(target=run, args=[settings, stop]) for _ in range(2)]
    apps = [threading.Thread(target=spend_some, args=[number]) for number in range(8)]
    for thread in (*workers, *apps):
        thread.start()
    try:
        for thread in apps:
            thread.join()
        until(lambda: till.status() == [("paid", None)])
    finally:
        stop.set()
        for thread in workers:
            thread.join(DEADLINE_SECONDS)
    print(f"1,000 spends in {max(seconds):.2f} s")
    assert len(till.intents()) == 1
    assert (till.status(), till.balance()) == ([("paid", None)], 100 + 5000)


@pytest.mark.parametrize("fault", ["429", "500"])
def test_stripe_being_away_delays_and_never_pays_twice(till: Till, fault: str) -> None:
    till.fall()
    till.local.control("faults", {"api": {fault: 1}})
    for _ in range(5):
        assert till.work() == "delayed"
        assert till.work() is None
        till.make_due()
    till.local.control("faults", {})
    assert till.work() == "paid"
    assert (len(till.intents()), till.balance()) == (1, 90 + PACK_CREDITS)
    assert (till.paused(), till.notifications()) == (None, [])


def test_an_answer_that_never_comes_ends_in_the_same_payment(till: Till) -> None:
    till.fall()
    recharge = till.take()
    # The reading is answered, the payment is not: an attempt that has read already.
    charger = till.charger(timeout_seconds=0.3)
    method = charger._method(recharge)
    charger._method = lambda _: method  # type: ignore[method-assign]
    till.local.control("faults", {"api": {"timeout": 1}})
    assert isinstance(charger.charge(recharge), Unknown)
    assert len(till.intents()) == 1
    till.local.control("faults", {})
    till.make_due()
    assert till.work() == "paid"
    assert (len(till.intents()), till.balance()) == (1, 90 + PACK_CREDITS)


def test_a_key_that_stripe_may_have_forgotten_is_never_used_again(till: Till) -> None:
    till.fall()
    till.take()
    till.make_due(timedelta(seconds=KEY_SECONDS + 60))
    assert till.work() == "failed"
    assert (till.intents(), till.status()) == ([], [("failed", "no_answer")])
    assert till.notifications() == [("administrators", "recharge_failed")]


def test_a_payment_of_long_ago_is_found(till: Till) -> None:
    till.fall()
    recharge = till.take()
    till.charger().charge(recharge)
    till.local.world.pretended_time = int(time.time()) + 30 * 3600
    till.make_due(timedelta(seconds=KEY_SECONDS + 60))
    assert till.work() == "paid"
    assert len(till.intents()) == 1


def test_ten_declines_are_one_attempt_a_pause_and_one_notification(till: Till) -> None:
    till.pay_with("pm_card_chargeCustomerFail")
    till.fall()
    assert till.work() == "failed"
    for _ in range(10):
        till.tell()
        till.make_due()
        spend(till.shop.app, till.account, 1)
        assert till.work() is None
    assert (len(till.intents()), till.status()) == (1, [("failed", "generic_decline")])
    assert till.paused() == "generic_decline"
    assert till.notifications() == [("customer", "recharge_failed")]


def test_dying_after_a_decline_ends_in_the_same_decline(till: Till) -> None:
    till.pay_with("pm_card_chargeCustomerFail")
    till.fall()
    recharge = till.take()
    first = till.charger().charge(recharge)
    till.pay_with("pm_card_visa")
    till.make_due()
    again = till.take()
    assert till.charger().charge(again) == first
    assert len(till.intents()) == 1


def test_a_card_that_was_refused_for_good_is_never_charged_again_and_another_one_is(till: Till) -> None:
    till.pay_with("pm_card_chargeCustomerFail")  # the issuer's advice is not to try again
    till.fall()
    till.work()
    till.agree()
    assert till.work() == "failed"
    assert till.paused() == "payment_method_refused_before"
    assert len(till.intents()) == 1
    till.pay_with("pm_card_visa")
    till.agree()
    assert till.work() == "paid"
    assert len(till.intents()) == 2


@pytest.mark.parametrize("code", ["stolen_card", "lost_card", "pickup_card", "do_not_honor"])
def test_codes_that_are_final(till: Till, code: str) -> None:
    assert code in NEVER_AGAIN
    till.fall()
    recharge = till.take()
    answer = till.charger()._refused(recharge, "pi_1", "pm_1", code, None)
    assert answer == Answer("failed", "pi_1", "pm_1", code, is_final=True)
    assert till.record(recharge, answer) == "failed"
    till.agree()
    assert till.take().barred == ["pm_1"]


def test_a_card_without_enough_money_may_be_tried_again_when_somebody_says_so(till: Till) -> None:
    till.fall()
    recharge = till.take()
    answer = till.charger()._refused(recharge, "pi_1", "pm_1", "insufficient_funds", "try_again_later")
    assert answer == Answer("failed", "pi_1", "pm_1", "insufficient_funds", is_final=False)


def test_a_payment_that_needs_the_customer_waits_with_a_link(till: Till) -> None:
    till.pay_with("pm_card_authenticationRequired")
    till.fall(return_url=RETURN_URL)
    assert till.work() == "requires_action"
    (intent,) = till.intents()
    link = till.shop.value("select payload ->> 'url' from billing.notifications")
    assert link == f"{till.local.url}/authenticate/payment_intents/{intent['id']}"
    assert till.paused() == "authentication_required"
    assert till.notifications() == [("customer", "recharge_requires_action")]
    till.tell()
    assert (till.work(), till.balance()) == (None, 90)

    till.local.control(f"payment_intents/{intent['id']}/authenticate", {"succeeds": True})
    till.tell()
    assert till.status() == [("paid", None)]
    assert (till.balance(), till.paused(), len(till.intents())) == (90 + PACK_CREDITS, None, 1)


def test_dying_before_the_link_is_written_down_ends_in_the_same_link(till: Till) -> None:
    till.pay_with("pm_card_authenticationRequired")
    till.fall(return_url=RETURN_URL)
    recharge = till.take()
    first = till.charger().charge(recharge)
    till.make_due()
    again = till.take()
    assert till.charger().charge(again) == first
    assert isinstance(first, Answer)
    assert first.action_url is not None


def test_a_payment_that_needs_the_customer_is_told_without_a_link_where_none_can_be_made(till: Till) -> None:
    till.pay_with("pm_card_authenticationRequired")
    till.fall()
    assert till.work() == "requires_action"
    (intent,) = till.intents()
    query = "select payload ->> 'stripe_payment_intent_id', payload ->> 'url' from billing.notifications"
    assert till.shop.app.execute(query).fetchall() == [(intent["id"], None)]


def forget_default(till: Till) -> None:
    customer = till.local.world.store.get("customer", till.customer_id)
    customer["invoice_settings"]["default_payment_method"] = None


def test_without_a_default_the_card_that_a_pack_saved_last_is_charged(till: Till) -> None:
    forget_default(till)
    order = {"payment_intent_data": {"setup_future_usage": "off_session"}}
    till.complete(till.session(**order), payment_method="pm_card_mastercard")
    till.tell("checkout.session.completed")
    spend(till.shop.app, till.account, PACK_CREDITS)
    till.fall()
    assert till.work() == "paid"
    (intent,) = till.intents()
    method = till.local.client.payment_methods.retrieve(intent["payment_method"])
    assert (method.card.brand, method.customer) == ("mastercard", till.customer_id)


def test_of_the_saved_cards_one_that_was_refused_for_good_is_left_out(till: Till) -> None:
    good = till.pay_with("pm_card_visa")
    bad = till.pay_with("pm_card_chargeCustomerFail")
    forget_default(till)
    till.fall()
    assert till.work() == "failed"
    till.agree()
    recharge = till.take()
    assert recharge.barred == [bad]
    assert till.charger()._method(recharge) == good
    for method in till.local.client.customers.payment_methods.list(till.customer_id).data:
        if method.id != bad:
            till.local.client.payment_methods.detach(method.id)
    assert till.record(recharge, till.charger().charge(recharge)) == "failed"
    assert (till.paused(), len(till.intents())) == ("payment_method_refused_before", 1)


def test_without_a_saved_card_nothing_is_charged(till: Till) -> None:
    for method in till.local.client.customers.payment_methods.list(till.customer_id).data:
        till.local.client.payment_methods.detach(method.id)
    forget_default(till)
    till.fall()
    assert till.work() == "failed"
    assert (till.paused(), till.intents()) == ("no_payment_method", [])
    assert till.notifications() == [("customer", "recharge_failed")]


def test_what_stripe_refuses_as_a_request_is_for_administrators(till: Till) -> None:
    with till.shop.database.connect(admin=True) as admin:
        admin.execute(
            "update billing.credit_packs set unit_amount = 7 where stripe_price_id = %s", [till.price_id]
        )
    till.fall()
    assert till.work() == "failed"
    assert till.paused() == "amount_too_small"
    assert till.notifications() == [("administrators", "recharge_failed")]


@pytest.mark.parametrize("key", [None, "sk_live_wrong"])
def test_a_key_that_is_missing_or_wrong_delays_and_says_so(till: Till, key: str | None) -> None:
    till.fall()
    assert till.work(Charger(StripeAccess(key, till.local.url))) == "delayed"
    assert "STRIPE_API_KEY" in till.shop.value("select last_error from billing.recharges")
    till.make_due()
    assert till.work() == "paid"


# The long-lived part


def test_the_queue_never_waits_for_a_bank_and_no_transaction_is_open_meanwhile(till: Till) -> None:
    till.fall()
    asked, answered = threading.Event(), threading.Event()

    def charge(recharge: Recharge) -> Answer | Unknown:
        asked.set()
        answered.wait(DEADLINE_SECONDS)
        return till.charger().charge(recharge)

    recharger = till.jobs(charge)
    recharger.tick(till.shop.worker, 0)
    assert asked.wait(DEADLINE_SECONDS)
    assert till.shop.worker.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    recharger.tick(till.shop.worker, 100)
    assert till.status() == [("charging", None)]
    answered.set()
    end(recharger, till.shop.worker)
    recharger.close()
    assert (till.status(), len(till.intents())) == ([("paid", None)], 1)


def test_an_account_in_the_apps_hands_holds_up_its_own_recharge_only(till: Till) -> None:
    till.fall()
    recharger = till.jobs()
    recharger.tick(till.shop.worker, 0)
    until(lambda: all(future.done() for future in recharger._in_hand["recharge"]._in_hand))
    with till.shop.database.connect("service_role", autocommit=False) as app:
        spend(app, till.account, 1)
        started = time.monotonic()
        recharger.tick(till.shop.worker, 0)
        assert time.monotonic() - started < 5
        assert till.status() == [("charging", None)]
        app.commit()
    recharger.tick(till.shop.worker, 0)
    recharger.close()
    assert (till.status(), len(till.intents())) == ([("paid", None)], 1)


def test_what_was_answered_while_the_connection_was_lost_is_settled_on_the_next_one(till: Till) -> None:
    till.fall()
    recharger = till.jobs()
    settings = Settings(till.shop.database.url)
    with connect(settings) as lost:
        recharger.tick(lost, 0)
        until(lambda: all(future.done() for future in recharger._in_hand["recharge"]._in_hand))
        with till.shop.database.connect(admin=True) as admin:
            admin.execute("select pg_terminate_backend(%s)", [lost.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            recharger.tick(lost, 1)
    recharger.tick(till.shop.worker, 2)
    recharger.close()
    assert (till.status(), len(till.intents())) == ([("paid", None)], 1)


def test_what_postgres_refuses_to_settle_is_put_off(till: Till) -> None:
    till.fall()
    recharger = till.jobs()
    recharger.tick(till.shop.worker, 0)
    until(lambda: all(future.done() for future in recharger._in_hand["recharge"]._in_hand))
    call(till.shop.app, "close_account", account_id=till.account, reason="left", actor="ada")
    recharger.tick(till.shop.worker, 0)
    recharger.close()
    assert till.status() == [("charging", None)]
    assert "is closed" in till.shop.value("select last_error from billing.recharges")
    call(till.shop.app, "reopen_account", account_id=till.account)
    till.make_due()
    assert till.work() == "paid"
    assert (till.balance(), len(till.intents())) == (PACK_CREDITS, 1)
