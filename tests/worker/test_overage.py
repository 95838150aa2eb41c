"""Overage with the worker and the local Stripe: billed once, on the renewal or alone, whatever happens in between."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.calls import make_jobs_due, spend
from tests.stripe_local.conftest import KEY, Local, _serve, until
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, begin, opened, work
from tests.worker.events import Event
from worker.clock import Clock
from worker.events.fetch import StripeReader
from worker.jobs import overages
from worker.jobs.overages import OVERAGE, Answer, Overages
from worker.sessions import connect
from worker.settings import Settings
from worker.stripe_api import StripeAccess

MONTHLY, LIMIT = 400, 100
PRICE = 2000
MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass
class Till:
    """A shop whose Stripe is the local one, and a subscriber on a test clock with overage."""

    shop: Shop
    local: Local
    clock_id: str
    customer_id: str
    account: UUID
    price_id: str
    pack_id: str
    subscription_id: str = ""
    heard: int = 0

    def subscribe(self, **more: Any) -> None:
        order = {"customer": self.customer_id, "items": [{"price": self.price_id}]}
        self.subscription_id = self.local.client.subscriptions.create(order | more).id
        self.hear()

    def hear(self) -> None:
        """Receive what Stripe reported since the last time, and drain, also what is read again a second later."""
        bodies = list(self.local.world.events.bodies())
        new, self.heard = bodies[self.heard :], len(bodies)
        self.shop.receive(
            *(
                Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
                for body in new
            )
        )
        self.shop.drain()

        def is_settled() -> bool:
            self.shop.make_due()
            self.shop.drain()
            return self.shop.value("select count(*) from pgmq.q_stripe_events") == 0

        until(is_settled)

    def spend(self, amount: int) -> None:
        spend(self.shop.app, self.account, amount)

    def boundary(self) -> int:
        """The end of the subscription's running period."""
        subscription = self.local.client.subscriptions.retrieve(self.subscription_id)
        return subscription["items"].data[0].current_period_end

    def advance(self, to: int) -> None:
        self.local.advance(self.clock_id, to)

    def now(self) -> int:
        return self.local.client.test_helpers.test_clocks.retrieve(self.clock_id).frozen_time

    def renew(self, after: int = 10 * MINUTE) -> None:
        """The next period begins, and Stripe reports that."""
        self.advance(self.boundary() + after)
        self.hear()

    def handler(self) -> Overages:
        return Overages(StripeAccess(KEY, self.local.url))

    def step(self) -> list[Answer]:
        """One attempt of the job that is due."""
        self.make_due()
        return work(self.shop.worker, self.handler(), "overage")

    def bill(self) -> list[str]:
        """The clock's run, and the job until it has nothing left to do: the status of each overage."""
        Clock().tick(self.shop.worker, 0.0)
        for _ in range(10):
            if not self.step():
                break
        self.hear()
        return [
            row[0] for row in self.shop.app.execute("select status from billing.overages order by claimed_at")
        ]

    def make_due(self) -> None:
        with self.shop.database.connect(admin=True) as admin:
            make_jobs_due(admin)

    def items(self) -> list[dict[str, Any]]:
        """Items of overages at Stripe."""
        return [item for item in self.local.world.store.all("invoiceitem") if OVERAGE in item["metadata"]]

    def invoices(self) -> list[dict[str, Any]]:
        """Invoices of overages' own at Stripe."""
        return [found for found in self.local.world.store.all("invoice") if OVERAGE in found["metadata"]]

    def billed_on(self) -> dict[str, Any]:
        """The invoice that has the one item."""
        [item] = self.items()
        return self.local.world.store.get("invoice", item["invoice"])

    def state(self) -> tuple[int, int]:
        query = "select balance, debt from billing.credit_balances where account_id = %s"
        row = self.shop.app.execute(query, [self.account]).fetchone()
        assert row is not None
        return row

    def row(self) -> dict[str, Any]:
        query = "select to_jsonb(overages) from billing.overages"
        return self.shop.value(query)

    def pay_with(self, card: str) -> None:
        client = self.local.client
        method = client.payment_methods.attach(card, {"customer": self.customer_id})
        client.customers.update(self.customer_id, {"invoice_settings": {"default_payment_method": method.id}})
        client.subscriptions.update(self.subscription_id, {"default_payment_method": method.id})


@pytest.fixture
def stage(database: Database) -> Iterator[Callable[..., Till]]:
    """Opens the shop with a plan of this interval."""
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:

        def opening(interval: str = "month", card: str | None = "pm_card_visa", **more: Any) -> Till:
            clock = local.client.test_helpers.test_clocks.create({"frozen_time": local.world.wall_time()})
            customer = local.customer(card, test_clock=clock.id)
            pack = local.price(1, None, lookup_key="overage", metadata={"pack_credits": "1"})
            terms = {"monthly_credits": str(MONTHLY), "overage_limit": str(LIMIT), "overage_pack": "overage"}
            plan = local.price(PRICE, interval, metadata=terms)
            account = account_of(shop.app, create_user(database))
            shop.app.execute("select billing.link_customer(%s, %s)", [account, customer.id])
            till = Till(shop, local, clock.id, customer.id, account, plan.id, pack.id)
            till.subscribe(**more)
            return till

        yield opening
        shop.assert_sound()


@pytest.fixture
def till(stage: Callable[..., Till]) -> Till:
    return stage()


def test_the_renewal_bills_plan_and_overage_and_the_whole_month_is_there(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    assert till.bill() == ["invoiced"]
    invoice = till.billed_on()
    assert (invoice["billing_reason"], invoice["status"]) == ("subscription_cycle", "draft")
    till.advance(till.now() + 2 * HOUR)
    till.hear()
    assert till.billed_on()["status"] == "paid"
    assert [line["amount"] for line in invoice["_lines"]] == [PRICE, 50]
    assert till.state() == (MONTHLY, 0)
    assert till.invoices() == []


def test_months_of_a_year_are_billed_alone_with_the_subscriptions_card(stage: Callable[..., Till]) -> None:
    till = stage("year", card=None, default_payment_method="pm_card_visa")
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    assert till.state() == (MONTHLY - 50, 0)
    assert till.bill() == ["invoiced"]
    invoice = till.billed_on()
    assert (invoice["billing_reason"], invoice["status"], invoice["total"]) == ("manual", "paid", 50)
    assert till.state() == (MONTHLY, 0)


def test_a_renewal_that_is_final_already_leaves_an_invoice_of_its_own(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew(2 * HOUR)
    assert till.state() == (MONTHLY - 50, 0)
    assert till.bill() == ["invoiced"]
    assert till.billed_on()["billing_reason"] == "manual"
    assert till.state() == (MONTHLY, 0)


def test_a_renewal_that_stripe_has_not_begun_is_awaited(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    draft = till.boundary
    Clock().tick(till.shop.worker, 0.0)
    subscription = till.local.world.store.get("subscription", till.subscription_id)
    [item] = [till.local.world.store.get("subscription_item", each) for each in subscription["_items"]]
    renewed = dict(item)
    item["current_period_end"] = item["current_period_start"]
    [answer] = till.step()
    assert (answer.status, answer.reason) == ("claimed", "the subscription has not been renewed yet")
    item.update(renewed)
    assert draft() > till.now()
    assert till.bill() == ["invoiced"]
    assert till.billed_on()["billing_reason"] == "subscription_cycle"


def test_an_ended_subscription_is_billed_at_once_with_its_card(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.local.client.subscriptions.cancel(till.subscription_id, {})
    till.hear()
    assert till.bill() == ["invoiced"]
    assert (till.billed_on()["status"], till.state()) == ("paid", (0, 0))


def test_a_coupon_of_the_subscription_does_not_lower_the_rate(stage: Callable[..., Till]) -> None:
    till = stage()
    coupon = till.local.client.coupons.create({"percent_off": 50, "duration": "forever"})
    till.local.client.subscriptions.update(till.subscription_id, {"discounts": [{"coupon": coupon.id}]})
    till.spend(MONTHLY + 50)
    till.renew()
    till.bill()
    till.advance(till.now() + 2 * HOUR)
    till.hear()
    assert (till.billed_on()["total"], till.state()) == (PRICE // 2 + 50, (MONTHLY, 0))


def test_other_pending_items_of_the_customer_are_left_alone(stage: Callable[..., Till]) -> None:
    till = stage("year")
    till.local.client.invoice_items.create({"customer": till.customer_id, "amount": 700, "currency": "usd"})
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    till.bill()
    assert till.billed_on()["total"] == 50


def test_a_declined_renewal_leaves_the_debt_until_it_is_paid(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.pay_with("pm_card_chargeCustomerFail")
    till.renew()
    till.bill()
    till.advance(till.now() + 2 * HOUR)
    till.hear()
    assert (till.billed_on()["status"], till.state()) == ("open", (-50, 50))
    till.spend(LIMIT - 50)
    till.local.client.invoices.pay(till.billed_on()["id"], {"payment_method": "pm_card_visa"})
    till.hear()
    assert till.state() == (MONTHLY - (LIMIT - 50), 0)


def test_a_customer_without_a_payment_method_owes_on(stage: Callable[..., Till]) -> None:
    till = stage("year")
    till.spend(MONTHLY + 50)
    for method in till.local.client.customers.payment_methods.list(till.customer_id).data:
        till.local.client.payment_methods.detach(method.id)
    till.local.client.subscriptions.cancel(till.subscription_id, {})
    till.hear()
    assert till.bill() == ["invoiced"]
    assert (till.billed_on()["status"], till.state()) == ("open", (-50, 50))


@pytest.mark.parametrize(
    ("end", "status"), [("void_invoice", "void"), ("mark_uncollectible", "uncollectible")]
)
def test_an_invoice_that_is_given_up_leaves_the_debt_and_is_not_billed_again(
    stage: Callable[..., Till], end: str, status: str
) -> None:
    till = stage("year", card=None, default_payment_method="pm_card_visa")
    till.pay_with("pm_card_chargeCustomerFail")
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    assert till.bill() == ["invoiced"]
    getattr(till.local.client.invoices, end)(till.billed_on()["id"])
    till.hear()
    assert till.shop.value("select status from public.billing_overages") == status
    # The next month's credits repaid it.
    assert till.state() == (MONTHLY - 50, 0)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    assert till.bill() == ["invoiced"]


def test_a_refunded_overage_takes_its_credits_back(till: Till) -> None:
    """Its credits repaid what was spent, so they count as spent: what that means is settings.shortfall_policy."""
    till.shop.app.execute("update billing.settings set shortfall_policy = 'allow_negative'")
    invoice = paid_renewal(till)
    line = next(line for line in invoice["_lines"] if line["amount"] == 50)
    till.local.client.credit_notes.create(
        {
            "invoice": invoice["id"],
            "lines": [{"type": "invoice_line_item", "invoice_line_item": line["id"], "quantity": 50}],
            "refund_amount": 50,
        }
    )
    till.hear()
    assert till.state() == (MONTHLY - 50, 0)
    till.shop.assert_sound()


def paid_renewal(till: Till) -> dict[str, Any]:
    till.spend(MONTHLY + 50)
    till.renew()
    till.bill()
    till.advance(till.now() + 2 * HOUR)
    till.hear()
    invoice = till.billed_on()
    assert (invoice["status"], till.state()) == ("paid", (MONTHLY, 0))
    return invoice


def test_a_disputed_overage_is_frozen_and_returns_with_the_dispute(stage: Callable[..., Till]) -> None:
    till = stage("year")
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    till.bill()
    assert till.state() == (MONTHLY, 0)
    [payment] = [intent for intent in till.local.world.store.all("payment_intent") if intent["amount"] == 50]
    till.local.control(f"charges/{payment['latest_charge']}/dispute", {})
    till.hear()
    held = "select held from billing.credit_balances where account_id = %s"
    assert till.shop.value(held, till.account) == 50
    [dispute] = till.local.world.store.all("dispute")
    till.local.control(f"disputes/{dispute['id']}/decide", {"status": "won"})
    till.hear()
    assert (till.shop.value(held, till.account), till.state()) == (0, (MONTHLY, 0))


def test_replayed_events_bill_and_grant_nothing_again(till: Till) -> None:
    paid_renewal(till)
    till.heard = 0
    till.hear()
    assert till.bill() == ["invoiced"]
    assert (len(till.items()), till.state()) == (1, (MONTHLY, 0))


@pytest.mark.parametrize("interval", ["month", "year"])
@pytest.mark.parametrize("lost", range(1, 8))
def test_a_worker_that_dies_between_two_requests_bills_once(
    stage: Callable[..., Till], interval: str, lost: int
) -> None:
    """The nth request is done at Stripe, and its answer reaches nobody; then everything is asked again."""
    till = stage(interval)
    till.spend(MONTHLY + 50)
    if interval == "month":
        till.renew()
    else:
        till.advance(till.now() + 31 * DAY)
        till.hear()
    Clock().tick(till.shop.worker, 0.0)
    access = StripeAccess(KEY, till.local.url)
    asked = 0
    send = access.client._requestor._client.request  # type: ignore[attr-defined]
    died = False

    def request(*arguments: Any, **named: Any) -> Any:
        nonlocal asked, died
        found = send(*arguments, **named)
        asked += 1
        if asked == lost:
            died = True
            raise Died
        return found

    access.client._requestor._client.request = request  # type: ignore[attr-defined]
    handler = Overages(access)
    for _ in range(10):
        till.make_due()
        with suppress(Died):
            if not work(till.shop.worker, handler, "overage"):
                break
    till.hear()
    if interval == "month":
        till.advance(till.now() + 2 * HOUR)
        till.hear()
    assert till.bill() == ["invoiced"]
    assert (len(till.items()), len(till.invoices())) == (1, 0 if interval == "month" else 1)
    assert till.state() == (MONTHLY, 0)
    if lost <= 3:
        assert died


class Died(BaseException):
    """As a kill: no handler catches it."""


def test_what_stripe_has_forgotten_the_key_of_is_found(
    stage: Callable[..., Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    till = stage("year")
    monkeypatch.setattr(overages, "key_of_step", lambda key, step: str(uuid4()))  # none is known again
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    Clock().tick(till.shop.worker, 0.0)
    for _ in range(3):
        # The answer is lost.
        till.make_due()
        [(job, overage)] = begin(till.shop.worker, till.handler(), "overage")
        till.handler().do(job, overage)
        till.make_due()
        [(job, overage)] = begin(till.shop.worker, till.handler(), "overage")
        till.handler().record(till.shop.worker, job, overage, till.handler().do(job, overage))
    till.hear()
    assert (len(till.items()), len(till.invoices()), till.row()["status"]) == (1, 1, "invoiced")
    assert till.state() == (MONTHLY, 0)


def test_a_draft_that_is_finalized_under_the_worker_is_given_up(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    Clock().tick(till.shop.worker, 0.0)
    [chosen] = till.step()
    assert chosen.is_own_invoice is False
    till.advance(till.now() + 2 * HOUR)
    till.hear()
    assert till.bill() == ["invoiced"]
    assert till.billed_on()["billing_reason"] == "manual"
    assert till.state() == (MONTHLY, 0)


def test_a_draft_that_stripe_will_not_finalize_is_left_alone(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    [draft] = till.local.client.invoices.list({"subscription": till.subscription_id, "status": "draft"}).data
    till.local.client.invoices.update(draft.id, {"auto_advance": False})
    assert till.bill() == ["invoiced"]
    assert (till.billed_on()["billing_reason"], till.billed_on()["status"]) == ("manual", "paid")


def test_an_archived_pack_fails_and_is_billed_when_it_is_back(till: Till) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    Clock().tick(till.shop.worker, 0.0)
    till.local.client.prices.update(till.pack_id, {"active": False})
    till.step()
    [answer] = till.step()
    assert answer.status == "failed"
    assert till.shop.value("select kind from billing.notifications where kind = 'overage_failed'")
    till.local.client.prices.update(till.pack_id, {"active": True})
    till.shop.value("select billing.retry_overage(id) from billing.overages")
    assert till.bill() == ["invoiced"]


@pytest.mark.parametrize("status", [429, 500])
def test_stripe_that_does_not_answer_is_asked_again(till: Till, status: int) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    Clock().tick(till.shop.worker, 0.0)
    till.local.control("faults", {"api": {str(status): 1}})
    [answer] = till.step()
    assert (answer.status, answer.delay_seconds) == ("claimed", None)
    till.local.control("faults", {})
    assert till.bill() == ["invoiced"]
    assert len(till.items()) == 1


def test_two_workers_bill_once(till: Till, database: Database) -> None:
    till.spend(MONTHLY + 50)
    till.renew()
    with connect(Settings(database.url)) as other:
        threads = [
            threading.Thread(target=Clock().tick, args=(conn, 0.0)) for conn in (till.shop.worker, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        till.make_due()
        first = begin(till.shop.worker, till.handler(), "overage")
        second = begin(other, till.handler(), "overage")
        assert [len(first), len(second)] == [1, 0]
        [(job, overage)] = first
        till.handler().record(till.shop.worker, job, overage, till.handler().do(job, overage))
    assert till.bill() == ["invoiced"]
    assert len(till.items()) == 1


def test_a_job_that_two_workers_do_at_once_adds_one_item(
    stage: Callable[..., Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was over: neither finds what the other is about to make."""
    till = stage("year")
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    Clock().tick(till.shop.worker, 0.0)
    monkeypatch.setattr(overages, "_find_item", lambda *_: None)
    monkeypatch.setattr(overages, "_find_invoice", lambda *_: None)
    for _ in range(3):
        till.make_due()
        [(job, overage)] = begin(till.shop.worker, till.handler(), "overage")
        answers = [till.handler().do(job, overage) for _ in range(2)]
        assert answers[0] == answers[1]
        till.handler().record(till.shop.worker, job, overage, answers[0])
    till.hear()
    assert (len(till.items()), len(till.invoices()), till.state()) == (1, 1, (MONTHLY, 0))
