"""Fraud actions with the worker and the local Stripe: asked for once, whatever breaks, and the books follow."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from stripe import InvalidRequestError

from stripe_local.api import Api
from stripe_local.errors import StripeError
from tests.sql.calls import call, make_jobs_due
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, begin, end, opened, work
from tests.worker.events import Event
from worker.events.fetch import StripeReader
from worker.jobs.fraud import ACTION, Answer, FraudAction, FraudActions, act
from worker.jobs.links import RetiredLink, deactivate
from worker.jobs.queue import Job
from worker.jobs.run import Jobs
from worker.run import run
from worker.settings import Settings
from worker.stripe_api import StripeAccess

CREDITS = 100
DEADLINE_SECONDS = 30


@dataclass
class Till:
    """A shop whose Stripe is the local one, and a subscriber whose first charge is warned of."""

    shop: Shop
    local: Local
    account: UUID
    subscription_id: str
    charge_id: str

    def tell(self) -> None:
        """Receive all that the local Stripe has told, again and again, and drain; a minute later."""
        self.local.world.pretended_time += 60
        self.shop.receive(
            *(
                Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
                for body in self.local.world.events.bodies()
            )
        )
        self.shop.drain()
        while self.shop.is_busy():
            self.shop.make_due()
            self.shop.drain()

    def warn(self) -> None:
        self.local.control(f"charges/{self.charge_id}/outcome", {"risk_level": "highest"})
        self.local.control(f"charges/{self.charge_id}/early_fraud_warning")
        self.tell()

    def stripe(self, **more: Any) -> StripeAccess:
        return StripeAccess(KEY, self.local.url, **more)

    def begin(self) -> tuple[Job, FraudAction]:
        """One worker takes the one action that is due."""
        [begun] = begin(self.shop.worker, FraudActions(self.stripe()), "fraud_action")
        return begun

    def work(self, stripe: StripeAccess | None = None) -> list[Answer]:
        """One worker takes what is due, asks Stripe and records it."""
        return work(self.shop.worker, FraudActions(stripe or self.stripe()), "fraud_action")

    def make_due(self) -> None:
        make_jobs_due(self.shop.app)

    def refunds(self) -> list[dict[str, Any]]:
        return list(self.local.world.store.all("refund"))

    def held(self, action: str = "refund") -> tuple[str, str | None, int]:
        """Status, last error and attempts of an action."""
        row = self.shop.app.execute(
            "select status, last_error, attempts from billing.fraud_actions where action = %s", [action]
        ).fetchone()
        assert row is not None
        return row


@pytest.fixture
def till(database: Database, request: pytest.FixtureRequest) -> Iterator[Till]:
    """Its policy refunds and cancels; `indirect` parameters are the columns to turn on, or the card to pay with."""
    given: dict[str, Any] = getattr(request, "param", {})
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:
        local.world.pretended_time = int(time.time())
        for column in given.get("policy", ["refund"]):
            shop.app.execute(
                f"update billing.fraud_policies set {column} = true where risk_level = 'highest'".encode()
            )
        customer = local.customer(card=given.get("card", "pm_card_visa"))
        price = local.price(metadata={"monthly_credits": str(CREDITS)})
        account = account_of(shop.app, create_user(database))
        shop.app.execute("select billing.link_customer(%s, %s)", [account, customer.id])
        subscription = local.client.subscriptions.create(
            {"customer": customer.id, "items": [{"price": price.id}]}
        )
        (charge,) = local.world.store.all("charge")
        till = Till(shop, local, account, subscription.id, charge["id"])
        till.tell()
        assert shop.balance(account) == CREDITS
        yield till


def test_refund_and_cancellation_are_done_once_and_the_credits_follow(till: Till) -> None:
    till.shop.app.execute("update billing.fraud_policies set cancel_subscription = true")
    till.warn()
    assert till.shop.balance(till.account) == CREDITS
    assert [answer.outcome for answer in till.work()] == ["done", "done"]
    (refund,) = till.refunds()
    assert (refund["amount"], refund["reason"]) == (2000, "fraudulent")
    assert (
        till.shop.value("select stripe_refund_id from billing.fraud_actions where action = 'refund'")
        == (refund["id"])
    )
    assert till.local.client.subscriptions.retrieve(till.subscription_id).status == "canceled"
    till.tell()
    assert till.shop.balance(till.account) == 0
    assert till.shop.value("select status from billing.subscriptions") == "canceled"
    assert till.work() == []
    till.shop.assert_sound()


def test_remaining_amount_of_a_charge_is_refunded(till: Till) -> None:
    till.local.client.refunds.create({"charge": till.charge_id, "amount": 500})
    till.tell()
    till.warn()
    assert [answer.outcome for answer in till.work()] == ["done"]
    assert [refund["amount"] for refund in till.refunds()] == [500, 1500]


def test_dry_run_asks_stripe_for_nothing(till: Till) -> None:
    till.shop.app.execute("update billing.settings set fraud_dry_run = true")
    calls = len(till.local.event_types())
    till.warn()
    assert till.work() == []
    assert till.refunds() == []
    assert [type_ for type_ in till.local.event_types()[calls:] if "refund" in type_] == []


@pytest.mark.parametrize("fault", ["429", "500", "timeout"])
def test_requests_are_repeated_until_stripe_answers(till: Till, fault: str) -> None:
    till.shop.app.execute("update billing.fraud_policies set cancel_subscription = true")
    till.warn()
    till.local.world.faults.set({"api": {fault: 1}})
    for attempts in (1, 2):
        answers = till.work(till.stripe(timeout_seconds=0.3))
        assert [answer.outcome for answer in answers] == ["queued", "queued"]
        assert till.held()[::2] == ("queued", attempts)
        assert till.held()[1]
        assert till.work() == [], "not before its time"
        till.make_due()
    till.local.world.faults.set({})
    assert [answer.outcome for answer in till.work()] == ["done", "done"]
    assert len(till.refunds()) == 1


def test_only_a_lost_answer_leaves_an_action_in_doubt(till: Till) -> None:
    till.warn()
    till.local.world.faults.set({"api": {"429": 1}})
    till.work()
    in_doubt = "select is_in_doubt from billing.fraud_actions where action = 'refund'"
    assert till.shop.value(in_doubt) is False
    till.make_due()
    till.local.world.faults.set({"api": {"timeout": 1}})
    till.work(till.stripe(timeout_seconds=0.3))
    assert till.shop.value(in_doubt) is True


@pytest.mark.parametrize("when", ["answer_lost", "worker_died", "key_forgotten"])
def test_lost_answer_never_makes_two_refunds(till: Till, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    till.warn()
    job, action = till.begin()
    done = act(till.stripe(), action)
    assert done.outcome == "done"
    if when == "answer_lost":
        lost = Answer("queued", "time-out", is_in_doubt=True)
        FraudActions(till.stripe()).record(till.shop.worker, job, action, lost)
    if when == "key_forgotten":
        monkeypatch.setattr(Api, "_replayed", lambda *_: None)
    till.make_due()
    assert [answer.stripe_refund_id for answer in till.work()] == [done.stripe_refund_id]
    assert len(till.refunds()) == 1
    assert till.held()[0] == "done"


def test_every_attempt_at_a_refund_has_the_action_s_key(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    replayed = Api._replayed

    def record(api: Api, key: str, *more: Any) -> Any:
        asked.append(key)
        return replayed(api, key, *more)

    monkeypatch.setattr(Api, "_replayed", record)
    till.warn()
    _, action = till.begin()
    act(till.stripe(), action)
    till.make_due()
    till.work()
    assert asked == [str(action.idempotency_key)] * 2


def test_failure_that_stripe_repeats_for_its_key_is_not_repeated_forever(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.warn()

    def explode(*arguments: Any, **more: Any) -> Any:
        raise StripeError(500, "An unknown error occurred.", kind="api_error")

    with monkeypatch.context() as patched:
        patched.setattr("stripe_local.resources.refunds.make", explode)
        assert [answer.outcome for answer in till.work()] == ["queued"]
    till.make_due()
    assert [answer.outcome for answer in till.work()] == ["done"]
    assert len(till.refunds()) == 1


def refund_there(till: Till) -> None:
    till.local.client.refunds.create({"charge": till.charge_id})


def dispute_there(till: Till) -> None:
    till.local.control(f"charges/{till.charge_id}/dispute")


@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [
        (refund_there, ("done", "the charge was refunded already", 1)),
        (dispute_there, ("failed", "the charge is disputed", 1)),
    ],
    ids=["refunded", "disputed"],
)
def test_charge_that_changed_at_stripe_meanwhile_settles_the_refund(
    till: Till, meanwhile: Callable[[Till], None], expected: tuple[str, str, int]
) -> None:
    till.warn()
    meanwhile(till)
    till.work()
    assert till.held() == expected
    assert till.work() == []
    till.tell()
    till.shop.assert_sound()


@pytest.mark.parametrize("till", [{"policy": ["cancel_subscription"]}], indirect=True)
def test_subscription_that_ended_at_stripe_meanwhile_is_done(till: Till) -> None:
    till.warn()
    till.local.client.subscriptions.cancel(till.subscription_id)
    till.work()
    assert till.held("cancel_subscription") == ("done", "the subscription had ended already", 1)


@pytest.mark.parametrize("till", [{"card": "pm_card_refundFail"}], indirect=True)
def test_refund_that_the_bank_refuses_is_a_failed_action_and_restores_the_credits(till: Till) -> None:
    till.warn()
    assert [answer.outcome for answer in till.work()] == ["done"]
    (refund,) = till.refunds()
    till.tell()
    assert till.shop.balance(till.account) == 0
    till.local.control(f"refunds/{refund['id']}/settle", {"succeeds": False})
    till.tell()
    assert till.held()[:2] == ("failed", "the refund failed: expired_or_canceled_card")
    assert till.shop.balance(till.account) == CREDITS
    till.shop.assert_sound()


def test_unknown_object_fails_if_the_key_is_ours_and_is_retried_otherwise(till: Till) -> None:
    gone = FraudAction(1, 1, uuid4(), "refund", "ch_gone", None, 1, was_in_doubt=False)
    assert act(till.stripe(), gone).outcome == "failed"
    assert act(till.stripe(is_our_key=lambda: False), gone).outcome == "queued"
    lost = FraudAction(1, 1, uuid4(), "cancel_subscription", None, "sub_gone", 1, was_in_doubt=False)
    answer = act(till.stripe(), lost)
    assert answer.outcome == "failed"
    assert "sub_gone" in (answer.reason or "")


@pytest.mark.parametrize(
    ("key", "base", "word"),
    [
        (None, None, "STRIPE_API_KEY is not set"),
        ("nonsense", None, "check STRIPE_API_KEY"),
        (KEY, "http://127.0.0.1:1", ""),
    ],
    ids=["no_key", "wrong_key", "nobody_there"],
)
def test_failure_that_needs_a_person_says_so_and_is_retried(
    till: Till, key: str | None, base: str | None, word: str
) -> None:
    till.warn()
    (answer,) = till.work(StripeAccess(key, base or till.local.url))
    assert answer.outcome == "queued"
    assert word in (answer.reason or "")
    # Nothing was asked for a reason: it can still be undone.
    action = till.shop.value("select id from billing.fraud_actions where action = 'refund'")
    if word:
        undone = call(till.shop.app, "undo_fraud_action", id=action, reason="a friend", actor="ada")
        assert undone["status"] == "undone"
    till.make_due()
    assert len(till.work()) == (0 if word else 1)


def test_an_action_that_this_version_does_not_know_is_neither_done_nor_lost(till: Till) -> None:
    """Such as one of a newer version's migrations: it waits for a worker that knows it."""
    till.warn()
    with till.shop.database.connect(admin=True) as admin:
        admin.execute("alter table billing.fraud_actions drop constraint action_is_known")
        admin.execute(
            "update billing.fraud_actions set action = 'block_card', stripe_subscription_id = %s "
            "where action = 'refund'",
            [till.subscription_id],
        )
    (answer,) = till.work()
    assert (answer.outcome, answer.is_in_doubt) == ("queued", False)
    assert "block_card" in (answer.reason or "")
    assert till.held("block_card")[0] == "queued"
    assert till.refunds() == []
    assert till.local.client.subscriptions.retrieve(till.subscription_id).status == "active"


def test_an_answer_of_another_shape_does_not_end_the_worker() -> None:
    """As of a proxy, while the refund of an earlier attempt is looked for."""

    class Refunds:
        def create(self, *_: Any) -> Any:
            raise InvalidRequestError(
                "refunded already", None, code="charge_already_refunded", http_status=400
            )

        def list(self, *_: Any) -> Any:
            return {"message": "please log in"}

    class Access(StripeAccess):
        v1 = SimpleNamespace(refunds=Refunds())

    action = FraudAction(1, 1, uuid4(), "refund", "ch_1", None, 1, was_in_doubt=False)
    assert act(Access(KEY, None), action) == Answer("done", "the charge was refunded already")


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_queue_does_not_wait_for_stripe(till: Till) -> None:
    till.warn()
    release = threading.Event()

    class Slow(FraudActions):
        def do(self, job: Job, task: FraudAction) -> Answer:
            release.wait(DEADLINE_SECONDS)
            return Answer("done", stripe_refund_id="re_1")

    jobs = Jobs({"fraud_action": Slow(till.stripe())})
    jobs.tick(till.shop.worker, 0)
    jobs.tick(till.shop.worker, 5)
    assert till.held()[::2] == ("queued", 1)
    release.set()
    end(jobs, till.shop.worker)
    jobs.close()
    assert till.held()[0] == "done"


def test_running_worker_refunds(till: Till) -> None:
    stop = threading.Event()
    settings = Settings(till.shop.database.url, KEY, till.local.url)
    thread = threading.Thread(target=run, args=(settings, stop))
    thread.start()
    try:
        till.warn()
        until(lambda: till.held()[0] == "done")
    finally:
        stop.set()
        thread.join()
    (refund,) = till.refunds()
    action = till.shop.value("select idempotency_key from billing.fraud_actions where action = 'refund'")
    assert refund["metadata"] == {ACTION: str(action)}


def test_actions_of_two_databases_that_have_the_same_number_are_two_refunds(till: Till) -> None:
    """A reset, a branch, a restore: databases of one Stripe account, whose sequences give the same ids."""
    till.warn()
    _, first = till.begin()
    assert act(till.stripe(), first).outcome == "done"
    other = till.local.customer()
    price = till.local.price()
    till.local.client.subscriptions.create({"customer": other.id, "items": [{"price": price.id}]})
    charge = till.local.client.charges.list({"customer": other.id}).data[0]
    second = replace(first, idempotency_key=uuid4(), stripe_charge_id=charge.id)
    assert act(till.stripe(), second).outcome == "done"
    assert [refund["charge"] for refund in till.refunds()] == [first.stripe_charge_id, charge.id]


def test_every_idempotency_key_that_stripe_is_sent_is_a_uuid_of_its_row(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = Api.answer

    def record(api: Api, request: Any) -> Any:
        asked.extend(value for name, value in request.headers.items() if name == "idempotency-key")
        return answer(api, request)

    till.warn()
    monkeypatch.setattr(Api, "answer", record)
    _, refund = till.begin()
    act(till.stripe(), refund)
    cancel = replace(refund, action="cancel_subscription", stripe_subscription_id="sub_1")
    act(till.stripe(), cancel)
    act(till.stripe(), replace(cancel, attempts=2))
    deactivate(till.stripe(), RetiredLink(1, uuid4(), "plink_1"), 1)
    assert len({UUID(key) for key in asked}) == len(asked) == 4
