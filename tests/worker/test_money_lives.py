"""Money that goes back, played on the local Stripe: in Stripe's order and in any other, the figures of a plain oracle.

Each story buys something, has money go back, and says with plain arithmetic what must be left. Its events arrive as the
oldest and the newest version of the API show them; in order, and shuffled, some twice, some late. `LIFE_ORDERS=200`
plays as many orders of each.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import balances, fetch_one, spend
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, opened
from tests.worker.events import Event
from tests.worker.test_lives import DAY, ORDERS, PORTION, Life, shuffled
from worker.events.fetch import StripeReader

VERSIONS = ["2025-02-24.acacia", "2026-10-28.endive"]
PRICE = 2000
CREDITS = 107  # no round share of it is whole
PACK = 500


@dataclass
class Sale:
    """What was bought, what went back of it, and what is contested: the oracle's figures, in minor units."""

    local: Local
    customer_id: str
    charge_id: str
    invoice_id: str | None
    credits: int
    paid: int = PRICE
    returned: int = 0
    contested: int = 0
    # Slots that were paid for, and those that have begun by the end; money goes back while the first one runs.
    slots: int = 1
    lots: int = 1
    spent: int = 0
    frozen: bool = False
    policy: str = "clamp_and_record"
    # How many events there were when the app spent.
    spent_after: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def later(self) -> None:
        self.local.world.pretended_time += 60

    def refund(self, amount: int, **more: Any) -> Any:
        self.later()
        return self.local.client.refunds.create({"charge": self.charge_id, "amount": amount, **more})

    def dispute(self, **more: Any) -> str:
        self.later()
        return self.local.control(f"charges/{self.charge_id}/dispute", more)["id"]

    def decide(self, dispute: str, status: str) -> None:
        self.later()
        self.local.control(f"disputes/{dispute}/decide", {"status": status})

    def spend(self, amount: int) -> None:
        self.spent, self.spent_after = amount, len(list(self.local.world.events.bodies()))

    # What must be so in the end.

    def _gone(self, money: int) -> int:
        """First of slots that begin later, each in proportion, then of the one that runs."""
        gone = self.credits * self.slots * min(money, self.paid) // self.paid
        later = min(gone, self.credits * (self.slots - 1))
        return later * (self.lots - 1) // max(self.slots - 1, 1) + gone - later

    def balance(self) -> int:
        whole = self.credits * self.lots - self._gone(self.returned) - self.spent
        return whole if self.policy == "allow_negative" else max(whole, 0)

    def available(self) -> int:
        return max(self.credits * self.lots - self._gone(self.returned + self.contested) - self.spent, 0)

    def shortfall(self) -> int:
        return max(self.spent + self._gone(self.returned) - self.credits * self.lots, 0)


def plan(local: Local, card: str = "pm_card_visa", interval: str = "month", began_days_ago: int = 0) -> Sale:
    """A subscription to CREDITS a month, its first period paid."""
    local.world.pretended_time = int(time.time()) - began_days_ago * DAY - 3600
    customer = local.customer(card=card)
    price = local.price(PRICE, interval, metadata={"monthly_credits": str(CREDITS)})
    local.world.pretended_time += 60
    local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    (charge,), (invoice,) = local.world.store.all("charge"), local.world.store.all("invoice")
    return Sale(local, customer.id, charge["id"], invoice["id"], CREDITS)


def pack(local: Local) -> Sale:
    """A pack of PACK credits, bought at Checkout."""
    local.world.pretended_time = int(time.time()) - 3600
    customer = local.customer()
    price = local.price(PRICE, None, metadata={"pack_credits": str(PACK)})
    local.world.pretended_time += 60
    session = local.client.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer.id,
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://app.example",
        }
    )
    local.control(f"checkout_sessions/{session.id}/complete", {"payment_method": "pm_card_visa"})
    (charge,) = local.world.store.all("charge")
    return Sale(local, customer.id, charge["id"], None, PACK)


def three_partial_refunds(local: Local) -> Sale:
    sale = plan(local)
    for _ in range(3):
        sale.refund(PRICE // 5)
        sale.returned += PRICE // 5
    return sale


def refund_then_dispute(local: Local) -> Sale:
    sale = pack(local)
    sale.refund(700)
    sale.decide(sale.dispute(), "lost")
    sale.returned = PRICE
    return sale


def refund_then_open_dispute(local: Local) -> Sale:
    sale = plan(local)
    sale.refund(700)
    sale.dispute()
    sale.returned, sale.contested = 700, PRICE
    return sale


def dispute_won_after_a_partial_refund(local: Local) -> Sale:
    sale = plan(local)
    sale.refund(300)
    sale.decide(sale.dispute(), "won")
    sale.returned = 300
    return sale


def warning_then_dispute_then_refund(local: Local) -> Sale:
    """An inquiry may be answered with a refund, a chargeback may not."""
    sale = pack(local)
    sale.later()
    local.control(f"charges/{sale.charge_id}/outcome", {"risk_level": "highest"})
    local.control(f"charges/{sale.charge_id}/early_fraud_warning", {"fraud_type": "made_with_stolen_card"})
    inquiry = sale.dispute(inquiry=True)
    sale.refund(PRICE, reason="fraudulent")
    sale.decide(inquiry, "warning_closed")
    sale.returned, sale.frozen = PRICE, True
    return sale


def warning_then_lost_dispute(local: Local) -> Sale:
    sale = plan(local)
    sale.later()
    local.control(f"charges/{sale.charge_id}/outcome", {"risk_level": "highest"})
    local.control(f"charges/{sale.charge_id}/early_fraud_warning")
    sale.decide(sale.dispute(), "lost")
    sale.returned, sale.frozen = PRICE, True
    return sale


def refund_of_a_spent_pack(local: Local, policy: str) -> Sale:
    sale = pack(local)
    sale.policy = policy
    sale.spend(400)
    sale.refund(PRICE // 2)
    sale.returned = PRICE // 2
    return sale


def spent_pack_clamped(local: Local) -> Sale:
    return refund_of_a_spent_pack(local, "clamp_and_record")


def spent_pack_in_debt(local: Local) -> Sale:
    return refund_of_a_spent_pack(local, "allow_negative")


def spent_pack_withheld(local: Local) -> Sale:
    return refund_of_a_spent_pack(local, "block_future_grants")


def refund_of_an_annual_line(local: Local) -> Sale:
    """Three months and a bit after it began: four slots."""
    sale = plan(local, interval="year", began_days_ago=100)
    sale.refund(PRICE // 4)
    sale.returned, sale.slots, sale.lots = PRICE // 4, 12, 4
    return sale


def whole_refund_of_an_annual_line(local: Local) -> Sale:
    sale = plan(local, interval="year", began_days_ago=100)
    sale.refund(PRICE)
    sale.returned, sale.slots, sale.lots = PRICE, 12, 4
    return sale


def refund_that_fails(local: Local) -> Sale:
    sale = plan(local, "pm_card_refundFail")
    made = sale.refund(PRICE)
    sale.later()
    local.control(f"refunds/{made.id}/settle", {"succeeds": False})
    return sale


def refund_that_takes_its_time(local: Local) -> Sale:
    sale = plan(local, "pm_card_pendingRefund")
    made = sale.refund(900)
    sale.later()
    local.control(f"refunds/{made.id}/settle", {"succeeds": True})
    sale.returned = 900
    return sale


def credit_note_to_the_balance(local: Local) -> Sale:
    sale = plan(local)
    sale.later()
    local.client.credit_notes.create({"invoice": sale.invoice_id, "amount": 500, "credit_amount": 500})
    sale.returned = 500
    return sale


def credit_note_with_a_refund(local: Local) -> Sale:
    sale = plan(local)
    sale.refund(300)
    sale.later()
    local.client.credit_notes.create({"invoice": sale.invoice_id, "amount": 600, "refund_amount": 600})
    sale.returned = 900
    return sale


STORIES: list[Callable[[Local], Sale]] = [
    three_partial_refunds,
    refund_then_dispute,
    refund_then_open_dispute,
    dispute_won_after_a_partial_refund,
    warning_then_dispute_then_refund,
    warning_then_lost_dispute,
    spent_pack_clamped,
    spent_pack_in_debt,
    spent_pack_withheld,
    refund_of_an_annual_line,
    whole_refund_of_an_annual_line,
    refund_that_fails,
    refund_that_takes_its_time,
    credit_note_to_the_balance,
    credit_note_with_a_refund,
]


@pytest.fixture(scope="module")
def sale(request: pytest.FixtureRequest) -> Iterator[Sale]:
    """A story that was played, and all its events."""
    with contextmanager(_serve)(None) as local:
        sale: Sale = request.param(local)
        sale.later()
        sale.events = list(local.world.events.bodies())
        yield sale


@pytest.fixture
def shop(database: Database, sale: Sale) -> Iterator[Shop]:
    with opened(database, StripeReader(KEY, sale.local.url)) as shop:
        shop.app.execute("update billing.settings set shortfall_policy = %s", [sale.policy])
        yield shop


def tell(shop: Shop, sale: Sale, told: list[Event]) -> None:
    for start in range(0, len(told), PORTION):
        shop.receive(*told[start : start + PORTION])
        shop.drain()
    while shop.is_busy():
        sale.later()  # of two answers within one second nobody can tell the later
        shop.make_due()
        shop.drain()


def play(shop: Shop, sale: Sale, version: str, seed: int | None) -> UUID:
    """Tell it all, before and after the app spent, and let what is due be granted; whose it is."""
    account = account_of(shop.app, create_user(shop.database))
    shop.app.execute("select billing.link_customer(%s, %s)", [account, sale.customer_id])
    parts = [sale.events[: sale.spent_after], sale.events[sale.spent_after :]]
    for number, part in enumerate(parts):
        told = Life(sale.local, sale.customer_id, part).shown(version)
        tell(
            shop,
            sale,
            told if seed is None or len(told) < 8 else shuffled(told, f"{version}/{seed}/{number}"),
        )
        if number == 0 and sale.spent:
            spend(shop.app, account, sale.spent)
    shop.app.execute("select billing.allocate_due_credits()")
    unsettled = "select type, status, last_error from billing.stripe_events where status not in ('applied', 'ignored')"
    assert shop.app.execute(unsettled).fetchall() == []
    return account


def judge(shop: Shop, sale: Sale, account: UUID) -> None:
    """The books hold, and their figures are the oracle's."""
    shop.assert_sound()
    row = balances(shop.app, account)
    free = shop.value("select available from public.credit_balance where account_id = %s", account)
    assert (row["balance"], free) == (sale.balance(), sale.available())
    assert row["debt"] == (sale.shortfall() if sale.policy == "allow_negative" else 0)
    assert row["withheld"] == (sale.shortfall() if sale.policy == "block_future_grants" else 0)
    taken = fetch_one(
        shop.app,
        "select coalesce(sum(shortfall), 0) as shortfall from billing.credit_revocations where reinstated = 0",
    )
    assert taken["shortfall"] == sale.shortfall()
    if sale.invoice_id is not None:
        invoice = fetch_one(
            shop.app,
            "select amount_returned, amount_contested from billing.invoices where stripe_invoice_id = %s",
            [sale.invoice_id],
        )
        returned = min(sale.returned, sale.paid)
        contested = min(sale.contested, sale.paid - returned)
        assert tuple(invoice.values()) == (returned, contested)
    frozen = shop.value("select frozen_at is not null from billing.accounts where id = %s", account)
    assert frozen == sale.frozen


@pytest.mark.parametrize("seed", [None, *range(ORDERS)], ids=str)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sale", STORIES, ids=lambda story: story.__name__, indirect=True)
def test_money_that_went_back_leaves_what_the_oracle_says(
    shop: Shop, sale: Sale, version: str, seed: int | None
) -> None:
    account = play(shop, sale, version, seed)
    judge(shop, sale, account)
