"""Batches from a real queue, as the worker's role: what is applied, set aside, ignored and tried again."""

from itertools import permutations
from typing import Any

import psycopg
import pytest

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, paid, receive
from worker.events import drain as drain_module
from worker.events.apply import Job
from worker.events.decide import IGNORED
from worker.events.drain import drain
from worker.events.outcomes import Dead, Done, Ignored, Parked

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS


def test_a_paid_invoice_grants_once_and_its_message_is_archived(shop: Shop) -> None:
    account = shop.link()
    event = paid()
    assert shop.outcome(event) == Done()
    assert (shop.balance(account), shop.status(event)) == (FIRST_MONTH, "applied")
    archived = "select count(*) from pgmq.a_stripe_events where message ->> 'event_id' = %s"
    assert shop.value(archived, event.id) == 1
    shop.assert_sound()


def test_the_worker_works_in_its_own_role(shop: Shop) -> None:
    assert shop.worker.execute("select current_user").fetchone() == ("billing_worker",)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.worker.execute("select from billing.credit_entries")


def test_an_empty_queue_is_an_empty_batch(shop: Shop) -> None:
    assert drain(shop.worker) == []


def test_a_bad_event_takes_none_of_its_neighbours_down(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, 50)]
    good = [paid(n) for n in range(1, 50)]
    bad = Event("invoice.paid", {"object": "invoice", "id": "in_bad", "parent": None})
    outcomes = shop.outcomes(*good[:20], bad, *good[20:])
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 49
    assert outcomes.pop(bad.id) == Dead("event.data.object.lines is missing or null, expected an object")
    assert set(outcomes.values()) == {Done()}
    shop.assert_sound()


def test_an_event_that_postgres_refuses_takes_none_of_its_neighbours_down(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, 5)]
    too_many = paid(9, lines={"has_more": False, "data": [events.invoice_line(9, quantity=10**30)]})
    outcomes = shop.outcomes(paid(1), paid(2), too_many, paid(3), paid(4))
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 4
    assert isinstance(outcomes[too_many.id], Dead)
    assert shop.last_error(too_many).startswith("22003: ")
    shop.assert_sound()


def test_a_batch_is_one_transaction_and_a_second_one_for_the_reading(shop: Shop) -> None:
    for n in range(1, 11):
        shop.link(n)
    shop.receive(*(paid(n) for n in range(1, 11)))
    drain(shop.worker)
    writers = "select count(distinct xmin::text) from billing.credit_entries"
    assert shop.value(writers) == 1


def test_months_of_a_batch_are_granted_together_at_its_end(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, 11)]
    shop.receive(*(paid(n, month=n % 2) for n in range(1, 11)))
    drain(shop.worker)
    sources = shop.app.execute("select source from billing.credit_entries order by id").fetchall()
    assert sources == [("stripe.subscription",)] * 10 + [("stripe.monthly_allocation",)] * 10
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 10
    shop.assert_sound()


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("money", ["dispute", "refund"])
def test_what_returns_in_the_batch_of_its_payment_takes_its_credits(
    shop: Shop, order: tuple[int, ...], money: str
) -> None:
    account = shop.link()
    told = {
        "dispute": Event("charge.dispute.created", events.dispute()),
        "refund": Event("refund.created", events.refund(amount=500)),
    }
    batch = [paid(), Event("invoice_payment.paid", events.invoice_payment()), told[money]]
    shop.outcomes(Event("charge.succeeded", events.charge()), *(batch[place] for place in order))
    available = shop.value("select available from public.credit_balance where account_id = %s", account)
    assert available == (0 if money == "dispute" else FIRST_MONTH // 2)
    shop.assert_sound()


def test_a_month_on_a_test_clock_expires_by_it_within_the_batch_that_granted_it(shop: Shop) -> None:
    account = shop.link()
    no_rollover = events.price(metadata={"credits_rollover": "none"})
    shop.outcome(Event("price.updated", no_rollover, created=events.JANUARY + 1))
    start, end = events.start_of(600), events.start_of(601)
    item = events.subscription_item(current_period_start=start, current_period_end=end)
    on_clock = events.subscription(
        test_clock="clock_1",
        billing_cycle_anchor=start,
        start_date=start,
        items={"object": "list", "has_more": False, "url": "", "data": [item]},
    )
    clock = {"id": "clock_1", "object": "test_helpers.test_clock", "livemode": False, "frozen_time": end}
    outcomes = shop.outcomes(
        Event("customer.subscription.created", on_clock),
        paid(month=600),
        Event("test_helpers.test_clock.ready", clock),
    )
    assert set(outcomes.values()) == {Done()}
    kinds = shop.app.execute("select kind from billing.credit_entries order by id").fetchall()
    assert kinds == [("grant",), ("grant",), ("expiry",)]
    assert shop.balance(account) == INITIAL_CREDITS


def test_unknown_and_ignored_types_are_put_aside_by_name(shop: Shop) -> None:
    unknown, ignored = Event("foo.bar", {}), Event("invoice.updated", {})
    outcomes = shop.outcomes(unknown, ignored)
    assert outcomes[unknown.id] == Ignored("events of type foo.bar are not used by this version")
    assert outcomes[ignored.id] == Ignored(IGNORED["invoice.updated"])
    assert [shop.status(unknown), shop.status(ignored)] == ["ignored", "ignored"]
    shop.assert_sound()


@pytest.mark.parametrize(
    "body", ["no json", '{"data": {"object": {"object": "invoice", "id": "\\u0000"}}}', "[" * 200_000]
)
def test_a_body_that_cannot_be_read_is_dead_and_says_why(shop: Shop, body: str) -> None:
    event = Event("invoice.paid", None, body=body)
    assert isinstance(shop.outcome(event), Dead)
    assert shop.status(event) == "dead"
    assert shop.last_error(event)
    shop.assert_sound()


def test_a_price_that_is_no_plan_stops_the_event_until_the_plan_is_here(shop: Shop) -> None:
    account = shop.link()
    lines = [events.invoice_line(pricing={"price_details": {"price": "price_new"}})]
    event = paid(lines={"has_more": False, "data": lines})
    outcome = shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert outcome.waiting_for == "price_new"
    assert "TB010" in shop.last_error(event)
    assert shop.value("select count(*) from billing.invoices") == 0

    arrival = Event("price.created", events.price(id="price_new", metadata={"initial_credits": "7"}))
    outcomes = shop.outcomes(arrival)
    assert outcomes == {arrival.id: Done(), event.id: Done()}
    assert shop.balance(account) == 7 + MONTHLY_CREDITS
    shop.assert_sound()


def test_a_dead_event_that_is_retried_after_the_plan_was_added_goes_on(shop: Shop) -> None:
    account = shop.link()
    lines = [events.invoice_line(pricing={"price_details": {"price": "price_new"}})]
    event = paid(lines={"has_more": False, "data": lines})
    shop.outcome(event)
    shop.app.execute(
        "insert into billing.plans (stripe_price_id, stripe_product_id, unit_amount, monthly_credits) "
        "values ('price_new', 'prod_pro', 1000, 3)"
    )
    assert shop.value("select billing.retry_stripe_event(%s)", event.id) == "queued"
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert (shop.balance(account), shop.status(event)) == (3, "applied")
    shop.assert_sound()


def test_a_customer_who_is_linked_to_nobody_parks_the_event_until_the_link(shop: Shop) -> None:
    event = paid()
    outcome = shop.outcome(event)
    assert isinstance(outcome, Parked)
    assert outcome.waiting_for == "cus_1"
    assert shop.status(event) == "parked"
    account = shop.link()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_payment_told_before_its_subscription_grants_all_the_same(shop: Shop) -> None:
    account = shop.link()
    assert shop.outcome(paid()) == Done()
    created = Event("customer.subscription.created", events.subscription())
    assert shop.outcome(created) == Done()
    assert shop.balance(account) == FIRST_MONTH
    assert shop.value("select status from billing.subscriptions") == "active"
    shop.assert_sound()


def test_an_event_that_is_sent_twenty_times_is_applied_once(shop: Shop) -> None:
    account = shop.link()
    event = paid()
    for _ in range(20):
        shop.receive(event)
    assert len(shop.drain()) == 1
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_second_event_of_the_same_payment_grants_nothing_more(shop: Shop) -> None:
    account = shop.link()
    assert set(shop.outcomes(paid(), paid()).values()) == {Done()}
    assert shop.outcome(paid()) == Done()
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_message_that_is_read_again_while_in_hand_is_applied_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = shop.link()
    shop.receive(paid())
    apply, overtaken = drain_module.apply, []

    def apply_after_another_worker(conn: psycopg.Connection[Any], jobs: list[Job]) -> Any:
        if not overtaken:
            overtaken.append(True)
            shop.make_due()  # the visibility time-out passes while the first worker has the message
            with shop.database.connect("billing_worker") as second:
                assert [item.outcome for item in drain(second)] == [Done()]
        return apply(conn, jobs)

    monkeypatch.setattr(drain_module, "apply", apply_after_another_worker)
    assert [item.outcome for item in drain(shop.worker)] == [Done()]
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_an_event_applied_meanwhile_stays_applied_when_a_late_worker_gives_it_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.link()
    event = paid()
    shop.receive(event)
    apply, overtaken = drain_module.apply, []

    def bury_after_another_worker(conn: psycopg.Connection[Any], jobs: list[Job]) -> Any:
        if overtaken:
            return apply(conn, jobs)
        overtaken.append(True)
        shop.make_due()
        with shop.database.connect("billing_worker") as second:
            drain(second)
        return apply(conn, [Job(job.message, outcome=Dead("late")) for job in jobs])

    monkeypatch.setattr(drain_module, "apply", bury_after_another_worker)
    drain(shop.worker)
    assert shop.status(event) == "applied"
    shop.assert_sound()


def test_two_workers_share_a_queue_without_doing_anything_twice(shop: Shop) -> None:
    from concurrent.futures import ThreadPoolExecutor

    accounts = [shop.link(n) for n in range(1, 31)]
    for n in range(1, 31):
        receive(shop.app, paid(n), paid(n), Event("customer.subscription.created", events.subscription(n)))

    def work(_: int) -> int:
        done = 0
        with shop.database.connect("billing_worker") as conn:
            while batch := drain(conn, batch_size=7):
                done += len(batch)
        return done

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(work, range(2)))
    shop.make_due()  # what a lock conflict delayed
    assert sum(counts) + len(shop.drain()) >= 90
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 30
    states = "select status, count(*) from billing.stripe_events group by status"
    assert shop.app.execute(states).fetchall() == [("applied", 92)]
    shop.assert_sound()


def test_a_bug_in_the_worker_buries_the_event_and_says_to_upgrade(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = shop.link(2)
    broken, good = paid(1), paid(2)
    decide = drain_module.decide

    def fail(event: Any, fetched: Any) -> Any:
        if event.id == broken.id:
            raise ZeroDivisionError("a mistake of ours")
        return decide(event, fetched)

    monkeypatch.setattr(drain_module, "decide", fail)
    outcomes = shop.outcomes(broken, good)
    assert outcomes[good.id] == Done()
    assert outcomes[broken.id] == Dead(
        "ZeroDivisionError: a mistake of ours. Upgrade the worker, then retry the event."
    )
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()
