"""One life of a subscription, in five shapes and in any order: the same rows and the same balance.

The local Stripe plays it: sign-up, trial, conversion, upgrade, failed renewal, recovery, pause, resume, cancel. Then
its events arrive as older versions of the API show them, shuffled, some twice, some lost at first and told later.
`LIFE_ORDERS=200` plays as many orders for each shape as a release needs; a run of the suite plays a few.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from devstack.scaffold import DefaultGrants
from stripe_local.versions import BORN, event_in_version
from tests.databases import Databases
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, opened
from tests.worker.events import Event
from worker.events.fetch import StripeReader

VERSIONS = [
    "2025-02-24.acacia",
    "2025-08-27.basil",
    "2026-02-25.clover",
    "2026-08-26.dahlia",
    "2026-10-28.endive",
]
ORDERS = int(os.environ.get("LIFE_ORDERS", "2"))
PORTION = 13
DAY = 86_400
SIGN_UP = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())

# What must be the same, whatever the order: all but when we learned of it, in which order entries were written, and
# from which month on slots are counted (the grid is the same). Of credits the net of each business key: a fact that
# came late may post a grant and take it back where an early one posts less.
ROWS = """
with nets as (
    select posted.key, sum(posted.amount)::bigint as net from (
        select regexp_replace(idempotency_key, '#[0-9]+$', '') as key, amount from billing.credit_grants
        union all select business_key, reinstated + voided - requested from billing.credit_revocations
        union all select business_key, amount from billing.carried_credits
    ) as posted
    group by posted.key
    having sum(posted.amount) <> 0
)
select 'subscription' as what, stripe_subscription_id as id, jsonb_build_array(
    status, currency, billing_cycle_anchor, cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start,
    trial_end, is_collection_paused, metadata, started_at
) as facts from billing.subscriptions
union all select 'item', stripe_subscription_item_id, jsonb_build_array(
    stripe_subscription_id, stripe_price_id, quantity, current_period_start, current_period_end
) from billing.subscription_items
union all select 'invoice', stripe_invoice_id, jsonb_build_array(
    stripe_subscription_id, status, billing_reason, collection_method, total, amount_due, amount_paid, attempt_count,
    next_payment_attempt_at, paid_at
) from billing.invoices
union all select 'line', stripe_invoice_id || stripe_subscription_item_id || amount, jsonb_build_array(
    stripe_price_id, quantity, is_proration, period_start, period_end
) from billing.invoice_lines
union all select 'payment', stripe_charge_id, jsonb_build_array(status, amount, amount_refunded, is_disputed)
from billing.payments
union all select 'customer', stripe_customer_id, jsonb_build_array(email, account_id is null, deleted_at)
from billing.customers
union all select 'credits', regexp_replace(nets.key, '[0-9a-f]{8}-[0-9a-f-]{27}', 'account'), jsonb_build_array(
    nets.net, lots.source, lots.reference_id, lots.expires_at, lots.stripe_invoice_id,
    lots.stripe_subscription_item_id, lots.stripe_price_id,
    case when lots.source not in ('stripe.trial', 'stripe.subscription') then lots.effective_at end
)
from nets left join billing.credit_grants as lots on lots.idempotency_key = nets.key
union all select 'paid time', stripe_line_id, jsonb_build_array(
    stripe_subscription_item_id, stripe_invoice_id, stripe_price_id, gives_back, credited_line_id, is_change, is_free,
    is_plain, has_returns, quantity, period_start, period_end, terms_from, paid_at, ends_at, next_slot_at,
    case when next_slot_at is not null then disarmed_reason end
)
from billing.credit_schedules
union all select 'pack', business_key, jsonb_build_array(
    source, reference_id, credits, price, stripe_price_id, stripe_invoice_id, stripe_line_id, purchased_at, expires_at
)
from billing.pack_purchases
union all select 'balance', '', jsonb_build_array(balance, held, debt, withheld, carried, next_due_at)
from billing.credit_balances
order by 1, 2, 3
"""


@dataclass
class Life:
    """The events of a life, oldest first, as the newest version of the API shows them."""

    local: Local
    customer_id: str
    events: list[dict[str, Any]]

    def shown(self, version: str) -> list[Event]:
        """The life's events as an endpoint of that version got them."""
        bodies = [
            event_in_version(self.local.world, event, version)
            for event in self.events
            if version[:10] >= BORN.get(event["data"]["object"]["object"], "")
        ]
        return [
            Event(
                body["type"],
                body["data"]["object"],
                created=body["created"],
                id=body["id"],
                api_version=body["api_version"],
            )
            for body in bodies
        ]


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with contextmanager(_serve)(None) as local:
        customer_id = live(local)
        yield Life(local, customer_id, list(local.world.events.bodies()))


def live(local: Local) -> str:
    """From sign-up to cancellation; each step a while after the one before, as Stripe's clock tells it."""
    stripe, world = local.client, local.world
    world.pretended_time = SIGN_UP
    product = stripe.products.create({"name": "Pro"})
    plan = {"product": product.id, "currency": "usd", "recurring": {"interval": "month"}}
    credits = {"initial_credits": "50", "trial_credits": "10"}
    basic = stripe.prices.create(
        plan | {"unit_amount": 1000, "metadata": credits | {"monthly_credits": "100"}}
    )
    pro = stripe.prices.create(
        plan
        | {
            "unit_amount": 3000,
            "metadata": credits | {"monthly_credits": "300", "credits_rollover": "periods:1"},
        }
    )
    clock = stripe.test_helpers.test_clocks.create({"frozen_time": SIGN_UP}).id
    customer = local.customer(test_clock=clock).id

    def after(days: int) -> None:
        world.pretended_time = SIGN_UP + days * DAY
        local.advance(clock, SIGN_UP + days * DAY)
        world.pretended_time += 60

    def pay_with(card: str) -> None:
        method = stripe.payment_methods.attach(card, {"customer": customer})
        stripe.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})

    subscription = stripe.subscriptions.create(
        {"customer": customer, "items": [{"price": basic.id}], "trial_period_days": 14}
    )
    after(15)  # the trial converts
    after(20)
    upgrade = {"id": subscription["items"].data[0].id, "price": pro.id}
    stripe.subscriptions.update(subscription.id, {"items": [upgrade], "proration_behavior": "always_invoice"})
    pay_with("pm_card_chargeCustomerFail")
    after(45)  # the renewal fails
    pay_with("pm_card_visa")
    stripe.invoices.pay(stripe.subscriptions.retrieve(subscription.id).latest_invoice)
    after(50)
    stripe.subscriptions.pause(subscription.id, {"type": "subscription"})
    after(90)
    stripe.subscriptions.resume(subscription.id)
    after(125)
    stripe.subscriptions.cancel(subscription.id)
    after(126)
    return customer


def play(shop: Shop, life: Life, told: list[Event]) -> list[Any]:
    """The rows that a stream of events ends in."""
    account = account_of(shop.app, create_user(shop.database))
    shop.app.execute("select billing.link_customer(%s, %s)", [account, life.customer_id])
    for start in range(0, len(told), PORTION):
        shop.receive(*told[start : start + PORTION])
        shop.drain()
    while shop.is_busy():
        shop.make_due()
        shop.drain()
    shop.app.execute("select billing.allocate_due_credits()")
    shop.app.execute("select billing.expire_due_credits()")
    unsettled = "select type, status, last_error from billing.stripe_events where status not in ('applied', 'ignored')"
    assert shop.app.execute(unsettled).fetchall() == []
    shop.assert_sound()
    return shop.app.execute(ROWS).fetchall()


def shuffled(told: list[Event], seed: str) -> list[Event]:
    """The same events in another order: some of them twice, some of them only after all the others.

    In one of four orders these are all events of one kind of object, such as subscriptions.
    """
    chance = random.Random(seed)
    kinds = [event.type.rpartition(".")[0] for event in told]
    late = chance.choice(kinds) if chance.random() < 0.25 else None
    lost = set(chance.sample(range(len(told)), len(told) // 8))
    lost |= {number for number, kind in enumerate(kinds) if kind == late}
    stream = [event for number, event in enumerate(told) if number not in lost]
    stream += chance.choices(
        [event for event, kind in zip(told, kinds, strict=True) if kind != late] or told, k=len(told) // 4
    )
    chance.shuffle(stream)
    replayed = [told[number] for number in lost]
    chance.shuffle(replayed)
    return stream + replayed


@pytest.fixture(scope="module")
def expected(databases: Databases, template: Callable[[DefaultGrants], str], life: Life) -> list[Any]:
    """The rows that the newest version's events end in, told in order."""
    with (
        databases.copy(template("none")) as database,
        opened(database, StripeReader(KEY, life.local.url)) as shop,
    ):
        return play(shop, life, life.shown(VERSIONS[-1]))


@pytest.fixture
def shop(database: Database, life: Life) -> Iterator[Shop]:
    """A shop whose worker reads from the Stripe that the life was lived at."""
    with opened(database, StripeReader(KEY, life.local.url)) as shop:
        yield shop


def test_life_gives_what_was_paid_for(expected: list[Any]) -> None:
    credits = {(facts[1], facts[0]) for what, _, facts in expected if what == "credits"}
    assert {("stripe.trial", 10), ("stripe.subscription", 50), ("stripe.monthly_allocation", 100)} <= credits
    assert ("stripe.monthly_allocation", 300) in credits
    assert any(source == "stripe.proration" for source, _ in credits)
    (status,) = {facts[0] for what, _, facts in expected if what == "subscription"}
    assert status == "canceled"


@pytest.mark.parametrize("version", VERSIONS)
def test_life_in_order_ends_the_same_in_every_shape(
    shop: Shop, life: Life, expected: list[Any], version: str
) -> None:
    assert play(shop, life, life.shown(version)) == expected


@pytest.mark.parametrize("seed", range(ORDERS))
@pytest.mark.parametrize("version", VERSIONS)
def test_life_in_any_order_ends_the_same(
    shop: Shop, life: Life, expected: list[Any], version: str, seed: int
) -> None:
    told = shuffled(life.shown(version), f"{version}/{seed}")
    assert play(shop, life, told) == expected, f"{version}, seed {seed}"


@pytest.mark.parametrize("version", VERSIONS)
def test_invoice_paid_by_bank_transfer_outside_stripe_gives_its_credits(
    database: Database, version: str
) -> None:
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:
        stripe = local.client
        customer = local.customer(card=None).id
        price = local.price(metadata={"initial_credits": "50", "monthly_credits": "100"})
        order = {"customer": customer, "items": [{"price": price.id}]}
        subscription = stripe.subscriptions.create(
            order | {"collection_method": "send_invoice", "days_until_due": 30}
        )
        invoice = stripe.invoices.finalize_invoice(subscription.latest_invoice)
        account = account_of(shop.app, create_user(database))
        shop.app.execute("select billing.link_customer(%s, %s)", [account, customer])
        told = Life(local, customer, list(local.world.events.bodies()))
        shop.receive(*told.shown(version))
        shop.drain()
        assert shop.balance(account) == 0
        stripe.invoices.pay(invoice.id, {"paid_out_of_band": True})
        told.events = list(local.world.events.bodies())
        shop.receive(*told.shown(version))
        shop.drain()
        assert shop.balance(account) == 150
        shop.assert_sound()
