"""Payments through links with the worker: the right account's, once, in any order; links that end in Stripe too."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from stripe_local.errors import StripeError
from tests.sql.calls import make_jobs_due
from tests.sql.steps import body, bring
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker import events
from tests.worker.conftest import Shop, begin, end, opened
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event, paid
from worker.events.commands import SyncPaymentLink
from worker.events.decide import decide
from worker.events.fetch import StripeReader
from worker.events.normalise import normalise
from worker.events.objects import PaymentLink
from worker.events.outcomes import Done, Parked
from worker.jobs.links import Links, RetiredLink, deactivate
from worker.jobs.queue import Job
from worker.jobs.run import Jobs
from worker.run import run
from worker.settings import Settings
from worker.stripe_api import StripeAccess

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS
DEADLINE_SECONDS = 30


def signed(shop: Shop, account_id: UUID) -> str:
    """A reference as the edge function puts it into a URL."""
    return shop.value("select billing.payment_reference(%s)", account_id)


def bought(reference: str | None, n: int = 1) -> list[Event]:
    """What Stripe tells of a plan that was bought through a link, in the order of its happening."""
    session = events.checkout_session(n, client_reference_id=reference, payment_link="plink_1")
    return [
        Event("customer.created", events.customer(id=f"cus_{n}", email=f"{n}@example.com")),
        Event("customer.subscription.created", events.subscription(n, status="incomplete")),
        Event("customer.subscription.updated", events.subscription(n), JANUARY + 1),
        paid(n),
        Event("checkout.session.completed", session, JANUARY + 1),
    ]


def new_account(shop: Shop) -> UUID:
    return account_of(shop.app, create_user(shop.database))


def owner_of(shop: Shop, n: int = 1) -> UUID | None:
    return shop.value("select account_id from billing.customers where stripe_customer_id = %s", f"cus_{n}")


@pytest.mark.parametrize("order", list(permutations(range(5)))[::13], ids=str)
def test_a_signed_payment_is_the_account_s_in_any_order_and_however_often(
    shop: Shop, order: tuple[int, ...]
) -> None:
    account = new_account(shop)
    told = bought(signed(shop, account))
    for place in order:
        shop.outcomes(told[place])
    again = [Event(event.type, event.object, event.created) for event in told[3:]]
    random.Random(str(order)).shuffle(again)
    shop.outcomes(*told, *again)
    assert {shop.status(event) for event in [*told, *again]} == {"applied"}
    assert owner_of(shop) == account
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_batch_of_everything_at_once_ends_the_same(shop: Shop) -> None:
    accounts = [new_account(shop) for _ in range(8)]
    told = [event for n, account in enumerate(accounts) for event in bought(signed(shop, account), n)]
    random.Random(7).shuffle(told)
    shop.outcomes(*told)
    assert [shop.balance(account) for account in accounts] == [FIRST_MONTH] * 8
    assert [owner_of(shop, n) for n in range(8)] == accounts
    shop.assert_sound()


@pytest.mark.parametrize("kind", ["none", "unsigned", "forged"])
def test_an_unsigned_payment_waits_for_a_person_and_then_goes_on(shop: Shop, kind: str) -> None:
    account = new_account(shop)
    reference = {"none": None, "unsigned": str(account), "forged": signed(shop, account)[:-4] + "0000"}[kind]
    told = bought(reference)
    outcomes = shop.outcomes(*told)
    session = outcomes[told[-1].id]
    assert isinstance(session, Parked)
    assert "is unusable: " in session.reason
    assert (session.waiting_for, type(outcomes[told[3].id])) == ("cus_1", Parked)
    assert (owner_of(shop), shop.balance(account)) == (None, 0)
    shop.app.execute("select billing.link_customer(%s, 'cus_1')", [account])
    assert {item.outcome for item in shop.drain()} == {Done()}
    assert shop.balance(account) == FIRST_MONTH
    shop.assert_sound()


def test_a_late_event_is_judged_by_when_the_session_was_opened(shop: Shop) -> None:
    account = new_account(shop)
    reference = signed(shop, account)
    now = shop.value("select extract(epoch from now())::bigint")
    late = events.checkout_session(
        client_reference_id=reference, payment_link="plink_1", created=now + 2 * 86_400
    )
    event = Event("checkout.session.completed", late, now + 2 * 86_400)
    assert isinstance(shop.outcome(event), Parked)
    assert "expired" in shop.last_error(event)
    # Opened in time, told a week later.
    early = events.checkout_session(2, client_reference_id=reference, payment_link="plink_1", created=now)
    assert shop.outcome(Event("checkout.session.completed", early, now + 7 * 86_400)) == Done()
    assert owner_of(shop, 2) == account


def test_a_stranger_who_uses_the_url_pays_for_its_account_and_keeps_what_is_theirs(shop: Shop) -> None:
    ada = new_account(shop)
    eve = shop.link(2)
    reference = signed(shop, ada)
    # Stripe makes a customer for each payment; should it ever be one that is known, that one does not move.
    shop.outcomes(*bought(reference), *bought(reference, 2))
    assert (owner_of(shop), owner_of(shop, 2)) == (ada, eve)
    assert (shop.balance(ada), shop.balance(eve)) == (FIRST_MONTH, FIRST_MONTH)
    shop.assert_sound()


def test_a_second_purchase_is_merged_with_the_customer_there_is(shop: Shop) -> None:
    account = shop.link()
    shop.outcomes(*bought(None), *bought(signed(shop, account), 2))
    assert owner_of(shop, 2) == account
    kept = shop.value("select duplicate_of from billing.customers where stripe_customer_id = 'cus_2'")
    assert kept == "cus_1"
    # One person, one plan: the initial credits are given once.
    assert shop.balance(account) == FIRST_MONTH + MONTHLY_CREDITS
    shop.assert_sound()


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        (
            {"tillbase_link": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"},
            UUID("6f9619ff-8b86-4d01-b42d-00cf4fc964ff"),
        ),
        ({"tillbase_link": "mine"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_what_stripe_tells_of_a_link_is_one_command(metadata: dict[str, str], token: UUID | None) -> None:
    for type_ in ("payment_link.created", "payment_link.updated"):
        event = Event(type_, events.payment_link(metadata=metadata, active=False))
        assert decide(normalise(events.message(event)), {}) == [
            SyncPaymentLink(PaymentLink("plink_1", False, False, "https://buy.stripe.com/1", token))
        ]


# Ends


@dataclass
class Till:
    """A shop whose Stripe is the local one, and a link of its plan there."""

    shop: Shop
    local: Local
    price_id: str
    link_id: str
    attempts: int = 0

    def tell(self, *types: str) -> None:
        """Receive the local Stripe's events, of these types if any is named, and drain."""
        self.shop.receive(
            *(
                Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
                for body in self.local.world.events.bodies()
                if not types or body["type"] in types
            )
        )
        self.shop.drain()

    def archive(self) -> None:
        self.local.client.prices.update(self.price_id, {"active": False})
        self.shop.app.execute(
            "update billing.plans set active = false where stripe_price_id = %s", [self.price_id]
        )

    def stripe(self, **more: Any) -> StripeAccess:
        return StripeAccess(KEY, self.local.url, **more)

    def begin(self) -> list[tuple[Job, RetiredLink]]:
        """One worker takes what is due."""
        begun = begin(self.shop.worker, Links(self.stripe()), "payment_link")
        self.attempts = max([self.attempts, *(job.attempts for job, _ in begun)])
        return begun

    def work(self, stripe: StripeAccess | None = None) -> list[str | None]:
        """One worker takes what is due and tells Stripe; why it could not."""
        links, reasons = Links(stripe or self.stripe()), list[str | None]()
        for job, link in self.begin():
            reasons.append(links.do(job, link))
            links.record(self.shop.worker, job, link, reasons[-1])
        return reasons

    def make_due(self) -> None:
        make_jobs_due(self.shop.app)

    def is_active(self) -> bool:
        return self.local.client.payment_links.retrieve(self.link_id).active

    def held(self) -> tuple[bool, bool, bool, int]:
        """Active, to be deactivated, deactivated, attempts of this worker."""
        row = self.shop.app.execute(
            "select active, deactivate_at is not null, deactivated_at is not null from billing.payment_links"
        ).fetchone()
        assert row is not None
        return (*row, self.attempts)


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:
        price = local.price()
        told = [
            body
            for body in local.world.events.bodies()
            if body["type"] in ("product.created", "price.created")
        ]
        shop.receive(
            *(Event(body["type"], body["data"]["object"], body["created"], body["id"]) for body in told)
        )
        shop.drain()
        [[step]] = shop.app.execute("select billing.claim_payment_link(%s, null)", [price.id]).fetchall()
        [create] = step["calls"]
        made = local.client.payment_links.create(
            create["params"], {"idempotency_key": create["idempotency_key"]}
        )
        bring(shop.app, step, "continue_payment_link", body(id=made.id, url=made.url))
        yield Till(shop, local, price.id, made.id)


def test_an_archived_price_closes_its_link_in_stripe_once(till: Till) -> None:
    assert till.work() == []
    till.archive()
    assert till.work() == [None]
    assert not till.is_active()
    assert till.held() == (False, False, True, 1)
    assert till.work() == []
    till.tell()
    assert till.held() == (False, False, True, 1)
    updates = [type_ for type_ in till.local.event_types() if type_ == "payment_link.updated"]
    assert len(updates) == 1


def test_an_event_of_the_price_is_enough(till: Till) -> None:
    till.local.client.prices.update(till.price_id, {"active": False})
    till.shop.make_due()
    updated = next(body for body in till.local.world.events.bodies() if body["type"] == "price.updated")
    later = Event("price.updated", updated["data"]["object"], updated["created"] + 5)
    assert till.shop.outcome(later) == Done()
    assert till.work() == [None]
    assert not till.is_active()


def test_a_link_closed_in_the_dashboard_is_not_handed_out_any_more(till: Till) -> None:
    till.local.client.payment_links.update(till.link_id, {"active": False})
    till.tell()
    assert till.held() == (False, False, True, 0)


def test_a_lost_answer_is_learned_from_the_event(till: Till) -> None:
    till.shop.app.execute("update billing.payment_links set stripe_payment_link_id = null, url = null")
    till.tell()
    assert till.shop.value("select stripe_payment_link_id from billing.payment_links") == till.link_id


@pytest.mark.parametrize("fault", ["429", "500", "timeout"])
def test_stripe_is_told_until_it_answers(till: Till, fault: str) -> None:
    till.archive()
    till.local.world.faults.set({"api": {fault: 1}})
    for attempts in (1, 2):
        [reason] = till.work(till.stripe(timeout_seconds=0.3))
        assert reason
        assert till.held() == (False, True, False, attempts)
        assert till.shop.value("select last_error from billing.payment_links") == reason
        assert till.work() == [], "not before its time"
        till.make_due()
    till.local.world.faults.set({})
    assert till.work() == [None]
    assert not till.is_active()
    assert till.held() == (False, False, True, 3)


def test_a_failure_that_stripe_keeps_for_its_key_is_not_met_again(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.archive()

    def explode(*arguments: Any, **more: Any) -> Any:
        raise StripeError(500, "An unknown error occurred.", kind="api_error")

    with monkeypatch.context() as patched:
        patched.setattr(till.local.world.events, "emit", explode)
        assert till.work() != [None]
    till.make_due()
    assert till.work() == [None]
    assert not till.is_active()


@pytest.mark.parametrize(
    ("key", "base", "word"),
    [
        (None, None, "STRIPE_API_KEY is not set"),
        ("nonsense", None, "STRIPE_API_KEY"),
        (KEY, "http://127.0.0.1:1", ""),
    ],
    ids=["no_key", "wrong_key", "nobody_there"],
)
def test_what_a_person_must_mend_says_so_and_is_tried_again(
    till: Till, key: str | None, base: str | None, word: str
) -> None:
    till.archive()
    [reason] = till.work(StripeAccess(key, base or till.local.url))
    assert reason
    assert word in reason
    assert till.held()[1] is True


def test_a_link_that_stripe_does_not_know_is_done_when_the_key_is_ours(till: Till) -> None:
    gone = RetiredLink(1, uuid4(), "plink_gone")
    assert deactivate(till.stripe(), gone, 1) is None
    reason = deactivate(till.stripe(is_our_key=lambda: False), gone, 1)
    assert reason
    assert "plink_gone" in reason


def test_a_worker_that_dies_after_stripe_answered_leaves_nothing_undone(till: Till) -> None:
    till.archive()
    [(_, link)] = till.begin()
    assert deactivate(till.stripe(), link, 1) is None
    assert till.begin() == []
    till.make_due()
    assert till.work() == [None]
    assert till.held() == (False, False, True, 2)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_queue_does_not_wait_for_stripe(till: Till) -> None:
    till.archive()
    release = threading.Event()

    class Slow(Links):
        def do(self, job: Job, task: RetiredLink) -> str | None:
            release.wait(DEADLINE_SECONDS)
            return None

    jobs = Jobs({"payment_link": Slow(till.stripe())})
    jobs.tick(till.shop.worker, 0)
    jobs.tick(till.shop.worker, 5)
    assert till.held()[:3] == (False, True, False)
    assert till.shop.value("select attempts from billing.queued_jobs()") == 1
    release.set()
    end(jobs, till.shop.worker)
    jobs.close()
    assert till.held()[:3] == (False, False, True)


def test_a_running_worker_closes_links_by_itself(till: Till) -> None:
    stop = threading.Event()
    settings = Settings(till.shop.database.url, KEY, till.local.url)
    thread = threading.Thread(target=run, args=(settings, stop))
    thread.start()
    try:
        till.archive()
        until(lambda: till.held()[:3] == (False, False, True))
    finally:
        stop.set()
        thread.join()
    assert not till.is_active()
    assert till.local.event_types().count("payment_link.updated") == 1
