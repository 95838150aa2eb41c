"""The worker dies before and after each thing that it asks of others: nothing is lost, nothing is done twice."""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash import page
from tests.crash.points import Points
from tests.crash.proxies import http_proxy
from tests.crash.runs import Run
from tests.sql.calls import grant, move_clock
from tests.sql.subscribers import A_MONTH, CREDITS, subscribe_by_the_year
from tests.sql.test_notifications import opt_in
from tests.support import account_of, create_user
from tests.worker import test_recharge as recharges
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, customer, paid, subscription
from tests.worker.inboxes import MailServer, webhook
from tests.worker.test_clock import LEEWAY
from tests.worker.test_emails import NEW
from tests.worker.test_notify import WARNING, say
from tests.worker.test_overage import DAY, MONTHLY

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS
IDLE, EVENTS = "A worker that has nothing to do", "A batch of events"

Killed = Callable[..., None]


@pytest.fixture
def points(alone: tuple[str, int] | None) -> Points:
    return Points(alone)


@pytest.fixture
def killed(
    points: Points, tmp_path: Path, pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> Iterator[Killed]:
    """Runs a worker that is killed at each point, except at those of these sections; the points are as listed."""

    def run(
        shop: Shop,
        local: Any = None,
        *,
        spare: Collection[str] = (IDLE, EVENTS),
        also: Collection[str] = (),
        is_done: Callable[[], bool] = lambda: True,
        **environment: str,
    ) -> None:
        points.spare({point for name in spare for point in page.points_of(name)} - set(also))
        Run(shop, points, tmp_path / "worker.log", local, environment).until_done(is_done)
        shop.assert_sound()

    yield run
    page.check(request.function.section, points, pytestconfig)


@page.section(IDLE)
def test_a_worker_with_nothing_to_do(recharge_till: Any, killed: Killed, points: Points) -> None:
    reported = "after billing.report_arrivals"
    killed(
        recharge_till.shop, recharge_till.local, spare=(),
        is_done=lambda: points.met[reported] > points.killed.count(reported),
    )  # fmt: skip
    assert recharge_till.intents() == []


@page.section(EVENTS)
def test_a_batch_of_events(shop: Shop, killed: Killed) -> None:
    account = shop.link()
    events = [
        Event("customer.updated", customer()),
        Event("customer.subscription.created", subscription()),
        paid(),
        paid(9),
        Event("account.updated", {"id": "acct_1", "object": "account"}),
    ]
    shop.receive(*events)
    killed(shop, spare=[IDLE])
    assert [shop.status(event) for event in events] == ["applied", "applied", "applied", "parked", "ignored"]
    assert shop.balance(account) == FIRST_MONTH


@page.section("Events that need Stripe")
def test_a_payment_that_must_be_read_from_stripe(recharge_till: Any, killed: Killed) -> None:
    till = recharge_till
    till.complete(till.session())
    till.shop.receive(*till.told("checkout.session.completed"))
    killed(till.shop, till.local)
    assert till.balance() == recharges.PACK_CREDITS


@page.section("Months that fall due")
def test_months_that_fall_due(shop: Shop, killed: Killed) -> None:
    accounts = subscribe_by_the_year(shop.database, shop.app, 3)
    grant(shop.app, accounts[0], 7, expires_at=shop.value("select now() + interval '10 minutes'"))
    with shop.database.connect(admin=True) as admin:
        move_clock(admin, A_MONTH + LEEWAY)
    due = ["after billing.allocate_due_credits", "after billing.expire_due_credits"]
    done = lambda: [shop.balance(account) for account in accounts] == [2 * CREDITS] * 3  # noqa: E731
    killed(shop, also=due, is_done=done)


@page.section("A recharge")
def test_a_recharge(recharge_till: Any, killed: Killed) -> None:
    recharge_till.fall()
    killed(recharge_till.shop, recharge_till.local)
    recharge_till.tell()
    assert len(recharge_till.intents()) == 1
    assert (recharge_till.status(), recharge_till.balance()) == ([("paid", None)], 590)
    assert recharge_till.notifications() == []


@page.section("A recharge that the bank wants confirmed")
def test_a_recharge_that_the_bank_wants_confirmed(recharge_till: Any, killed: Killed) -> None:
    till = recharge_till
    till.pay_with("pm_card_authenticationRequired")
    till.fall(return_url=recharges.RETURN_URL)
    killed(till.shop, till.local)
    till.tell()
    assert len(till.intents()) == 1
    assert till.notifications() == [("customer", "recharge_requires_action")]
    assert till.balance() == 90


@page.section("A refund and a cancellation")
def test_a_refund_and_a_cancellation_because_of_fraud(fraud_till: Any, killed: Killed) -> None:
    fraud_till.shop.app.execute("update billing.fraud_policies set cancel_subscription = true")
    fraud_till.warn()
    killed(fraud_till.shop, fraud_till.local)
    fraud_till.tell()
    assert len(fraud_till.refunds()) == 1
    assert [fraud_till.held(action)[0] for action in ("refund", "cancel_subscription")] == ["done", "done"]
    assert fraud_till.shop.balance(fraud_till.account) == 0


@page.section("An overage on the renewal")
def test_an_overage_on_the_renewal(overage_stage: Any, killed: Killed) -> None:
    till = overage_stage()
    till.spend(MONTHLY + 50)
    till.renew()
    claim = ["after billing.claim_due_overages"]
    killed(till.shop, till.local, also=claim, is_done=lambda: len(till.items()) > 0)
    till.hear()
    assert (len(till.items()), len(till.invoices())) == (1, 0)


@page.section("An overage on an invoice of its own")
def test_an_overage_on_an_invoice_of_its_own(overage_stage: Any, killed: Killed) -> None:
    till = overage_stage("year")
    till.spend(MONTHLY + 50)
    till.advance(till.now() + 31 * DAY)
    till.hear()
    killed(till.shop, till.local, is_done=lambda: len(till.items()) > 0)
    till.hear()
    assert till.state() == (MONTHLY, 0)
    assert (len(till.items()), len(till.invoices())) == (1, 1)


@page.section("A Payment Link that is retired")
def test_a_payment_link_that_is_retired(link_till: Any, killed: Killed) -> None:
    link_till.archive()
    killed(link_till.shop, link_till.local)
    assert not link_till.is_active()
    assert link_till.held()[:3] == (False, False, True)


@page.section("A new e-mail address")
def test_a_new_e_mail_address(email_till: Any, killed: Killed) -> None:
    email_till.rename(NEW)
    killed(email_till.shop, email_till.local)
    assert email_till.email() == NEW
    assert email_till.local.event_types().count("customer.updated") == 1


class Mails(MailServer):
    """Each mail is a point."""

    def __init__(self, points: Points) -> None:
        super().__init__()
        self._points = points

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        generation = self._points.generation
        if self._points.meet("before a mail", generation):
            return "451 nobody is there any more"
        answer = await super().handle_DATA(server, session, envelope)
        self._points.meet("after a mail", generation)
        return answer


@contextmanager
def mails(points: Points) -> Iterator[Mails]:
    server = Mails(points)
    server.start()
    try:
        yield server
    finally:
        server.end()


@page.section("Notifications")
def test_notifications(shop: Shop, killed: Killed, points: Points) -> None:
    account = account_of(shop.app, create_user(shop.database, "ada@example.com"))
    opt_in(shop.app, "payment_failed")
    with mails(points) as mail, webhook() as hook, http_proxy(hook.url, points, "a webhook") as hook_url:
        say(shop.app, "fraud_warning", WARNING)
        say(shop.app, "payment_failed", {"balance": 3}, account, "customer")
        killed(shop, TILLBASE_NOTIFY_URLS=f"{mail.url} {hook_url}",
            TILLBASE_CUSTOMER_MAIL_URL=mail.url,
        )  # fmt: skip
        # Sent again after a kill, they have the same id, by which a mail program and a webhook know them.
        assert len({letter.message["Message-ID"] for letter in mail.mails}) == 2
        assert len({headers["Idempotency-Key"] for headers, _ in hook.posts}) == 1
    assert shop.app.execute("select status, count(*) from billing.notifications group by 1").fetchall() == [
        ("delivered", 2)
    ]


def test_the_page_lists_nothing_else() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert page.sections() == {IDLE, EVENTS, *re.findall(r"^@page.section\(\"(.+)\"\)", tests, re.MULTILINE)}
