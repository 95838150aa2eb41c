"""States of one second, old states told anew, lists cut short, and warnings: what only Stripe can tell."""

from itertools import permutations
from typing import Any
from urllib.parse import quote

import pytest

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event, paid, start_of
from tests.worker.stripe_stub import StripeStub
from worker.events.outcomes import Dead, Done, Refetch, RetryLater


def update(number: int = 0, created: int = JANUARY, **changes: Any) -> Event:
    found = events.subscription(metadata={"update": str(number)}, **changes)
    return Event("customer.subscription.updated", found, created)


def held(shop: Shop) -> str:
    return shop.value("select metadata ->> 'update' from billing.subscriptions")


def test_the_last_of_five_updates_in_one_second_stands_in_whatever_order_they_come(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    shop.link()
    orders = list(permutations(range(5)))[::11]  # eleven of 120, each number in each place
    for second, order in enumerate(orders):
        created = JANUARY + 100 * second
        stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": f"{second}:4"}))
        stripe.now = created + 10
        updates = [
            Event(
                "customer.subscription.updated",
                events.subscription(metadata={"update": f"{second}:{number}"}),
                created,
            )
            for number in order
        ]
        assert set(shop.outcomes(*updates).values()) <= {Done(), Refetch("sub_1", "subscription")}
        shop.make_due()
        shop.drain()
        assert held(shop) == f"{second}:4", order
    shop.assert_sound()


def test_updates_of_different_seconds_never_ask_stripe(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    shop = shop_with_stripe
    newer, older = update(2, JANUARY + 1), update(1, JANUARY)
    assert set(shop.outcomes(newer, older).values()) == {Done()}
    assert (held(shop), stripe.asked) == ("2", [])


def test_an_answer_of_the_very_second_in_question_is_asked_for_again(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    stripe.now = JANUARY
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "2"}))
    first, second = update(1), update(2)
    shop.outcome(first)
    assert shop.outcome(second) == Refetch("sub_1", "subscription")
    assert shop.status(second) == "queued"

    stripe.now = JANUARY + 1
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert held(shop) == "2"
    counted = "select attempts - excused_attempts from billing.stripe_events where stripe_event_id = %s"
    assert shop.value(counted, second.id) == 1
    shop.assert_sound()


@pytest.mark.parametrize("status", [429, 500, 401, 403])
def test_stripe_being_away_delays_the_event_and_never_buries_it(
    shop_with_stripe: Shop, stripe: StripeStub, status: int
) -> None:
    shop = shop_with_stripe
    stripe.failure = status
    shop.outcome(update(1))
    event = update(2)
    outcome = shop.outcome(event)
    for _ in range(20):
        assert isinstance(outcome, RetryLater)
        shop.make_due()
        outcome = shop.drain()[0].outcome
    assert (shop.status(event), held(shop)) == ("queued", "1")
    counted = "select attempts - excused_attempts from billing.stripe_events where stripe_event_id = %s"
    assert shop.value(counted, event.id) == 0
    assert "sub_1" in shop.last_error(event)

    stripe.failure = None
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "2"}))
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert held(shop) == "2"
    shop.assert_sound()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("customer", events.customer()),
        ("product", events.product(name="Later")),
        ("price", events.price(nickname="Later")),
    ],
)
def test_what_was_deleted_in_stripe_meanwhile_needs_no_person(
    shop_with_stripe: Shop, stripe: StripeStub, kind: str, body: dict[str, Any]
) -> None:
    shop = shop_with_stripe
    created, updated = Event(f"{kind}.created", body), Event(f"{kind}.updated", body)
    shop.outcome(created)
    asked = len(stripe.asked)
    assert shop.outcome(updated) == Done()
    assert len(stripe.asked) == asked + 1
    assert shop.status(updated) == "applied"
    shop.assert_sound()


def test_an_object_that_stripe_does_not_have_makes_the_event_dead(shop_with_stripe: Shop) -> None:
    shop = shop_with_stripe
    shop.outcome(update(1))
    event = update(2)
    assert isinstance(shop.outcome(event), Dead)
    assert "No such object" in shop.last_error(event)
    shop.assert_sound()


def test_without_a_key_a_tie_waits_and_says_which_variable_to_set(shop: Shop) -> None:
    shop.outcome(update(1))
    event = update(2)
    assert isinstance(shop.outcome(event), RetryLater)
    assert "STRIPE_API_KEY is not set" in shop.last_error(event)


def test_a_tie_leaves_its_neighbours_applied(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    shop = shop_with_stripe
    account = shop.link(2)
    stripe.failure = 500
    shop.outcome(update(1))
    tie = update(2)
    outcomes = shop.outcomes(tie, paid(2))
    assert isinstance(outcomes.pop(tie.id), RetryLater)
    assert list(outcomes.values()) == [Done()]
    assert shop.balance(account) == INITIAL_CREDITS + MONTHLY_CREDITS


def test_an_event_cannot_bring_a_cancelled_subscription_back(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    shop.outcome(update(1, status="canceled"))
    stripe.put("subscriptions/sub_1", events.subscription(status="canceled"))
    shop.outcomes(update(2, JANUARY + 5, status="active"))
    shop.make_due()
    shop.drain()
    assert shop.value("select status from billing.subscriptions") == "canceled"


OLD_STATES: dict[str, dict[str, Any]] = {
    "created": {"status": "incomplete"},
    "in its trial": {"status": "trialing", "trial_start": JANUARY, "trial_end": JANUARY + 9},
    "a period before": {},
}


@pytest.mark.parametrize("old", list(OLD_STATES.values()), ids=list(OLD_STATES))
def test_an_old_state_told_in_an_event_of_its_own_does_not_stand(
    shop_with_stripe: Shop, stripe: StripeStub, old: dict[str, Any]
) -> None:
    shop = shop_with_stripe
    renewed = {"items": items_of(month=1)}
    shop.outcome(update(1, **renewed))
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "1"}, **renewed))
    for again in range(3):
        told = update(0, JANUARY + 100 * (again + 1), **old)
        stripe.now = told.created + 10
        assert shop.outcome(told) == Done()
        assert (held(shop), len(stripe.asked)) == ("1", again + 1)
    assert shop.value("select status from billing.subscriptions") == "active"
    shop.assert_sound()


def test_an_old_state_that_stripe_confirms_stands(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    shop = shop_with_stripe
    shop.outcome(update(1, items=items_of(month=1)))
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "2"}))
    assert shop.outcome(update(2, JANUARY + 5)) == Done()
    assert (held(shop), stripe.asked) == ("2", ["/v1/subscriptions/sub_1"])
    ended = "select extract(epoch from current_period_end)::bigint from billing.subscription_items"
    assert shop.value(ended) == start_of(1)
    shop.assert_sound()


def test_an_old_state_told_this_very_second_is_settled_in_the_next(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    shop.outcome(update(1))
    stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "1"}))
    stripe.now = JANUARY + 5
    told = update(0, JANUARY + 5, status="incomplete")
    assert shop.outcome(told) == Refetch("sub_1", "subscription")
    assert (shop.status(told), held(shop)) == ("queued", "1")
    stripe.now += 1
    shop.make_due()
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert (shop.status(told), held(shop)) == ("applied", "1")
    shop.assert_sound()


def items_of(month: int) -> dict[str, Any]:
    """The one item of a subscription, in month 0, 1, 2 …"""
    return {
        "object": "list",
        "has_more": False,
        "url": "/v1/subscription_items?subscription=sub_1",
        "data": [
            events.subscription_item(
                current_period_start=start_of(month), current_period_end=start_of(month + 1)
            )
        ],
    }


def test_a_long_invoice_is_read_page_by_page_before_it_is_applied(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    account = shop.link()
    first, second = events.invoice_line(), events.invoice_line(id="il_second", period=period(1))
    listing = {"object": "list", "url": "/v1/invoices/in_1_0/lines", "data": [first], "has_more": True}
    stripe.put("invoices/in_1_0", events.invoice(lines=listing))
    stripe.put("invoices/in_1_0/lines", listing | {"data": [second], "has_more": False})
    assert shop.outcome(paid(lines=listing)) == Done()
    assert shop.balance(account) == INITIAL_CREDITS + 2 * MONTHLY_CREDITS
    assert stripe.asked[-1].endswith("starting_after=il_1_0")
    shop.assert_sound()


def period(month: int) -> dict[str, int]:
    return {"start": start_of(month), "end": start_of(month + 1)}


@pytest.mark.parametrize(("risk_level", "is_frozen"), [("highest", True), ("elevated", False), (None, False)])
def test_a_fraud_warning_freezes_the_account_when_its_charge_was_of_highest_risk(
    shop_with_stripe: Shop, stripe: StripeStub, risk_level: str | None, is_frozen: bool
) -> None:
    shop = shop_with_stripe
    account = shop.link()
    stripe.put("charges/ch_1", events.charge(outcome={"risk_level": risk_level, "risk_score": 90}))
    warning = Event("radar.early_fraud_warning.created", events.fraud_warning())
    assert shop.outcome(warning) == Done()
    frozen = "select frozen_at is not null from billing.accounts where id = %s"
    assert shop.value(frozen, account) == is_frozen
    assert shop.value("select account_id from billing.fraud_warnings") == account
    shop.assert_sound()


def test_stripe_is_never_read_inside_a_transaction(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    shop = shop_with_stripe
    shop.link()
    states: list[str] = []
    look = "select state from pg_stat_activity where pid = %s"
    with shop.database.connect(admin=True) as observer:

        def on_request() -> None:
            found = observer.execute(look, [shop.worker.info.backend_pid]).fetchone()
            assert found is not None
            states.append(found[0])

        stripe.on_request = on_request
        stripe.put("charges/ch_1", events.charge())
        stripe.put("subscriptions/sub_1", events.subscription(metadata={"update": "2"}))
        warning = Event("radar.early_fraud_warning.created", events.fraud_warning())
        shop.outcomes(warning, update(1), update(2))
    assert states == ["idle", "idle"]
    assert held(shop) == "2"


def test_three_warnings_of_one_charge_read_it_once_for_the_batch(
    shop_with_stripe: Shop, stripe: StripeStub
) -> None:
    shop = shop_with_stripe
    shop.link()
    stripe.put("charges/ch_1", events.charge())
    asked: list[int] = []
    stripe.on_request = lambda: asked.append(shop.value("select count(*) from billing.fraud_warnings"))
    shop.receive(
        *(
            Event("radar.early_fraud_warning.created", events.fraud_warning(id=f"issfr_{number}"))
            for number in range(3)
        )
    )
    shop.drain()
    assert asked.count(0) == 1

    stripe.now += 1  # the answer was its own rival within the second
    shop.make_due()
    shop.drain()
    stripe.now += 1
    shop.make_due()
    shop.drain()
    assert shop.value("select count(*) from billing.fraud_warnings") == 3
    assert shop.value("select count(*) from billing.stripe_events where status <> 'applied'") == 0
    shop.assert_sound()


CHOSEN = ["pro-plan", "in_the_know", "cus_tom", "sub", "plan/1 ?é"]


@pytest.mark.parametrize("stripe_id", CHOSEN)
@pytest.mark.parametrize(
    ("kind", "path", "table", "older", "newer"),
    [
        (
            "customer",
            "customers",
            "customers",
            events.customer(name="Ada"),
            events.customer(name="Ada Byron"),
        ),
        ("product", "products", "products", events.product(name="Pro"), events.product(name="Pro plan")),
        ("price", "prices", "plans", events.price(nickname="Pro"), events.price(nickname="Pro plan")),
    ],
    ids=["customer", "product", "price"],
)
def test_an_id_that_its_owner_chose_is_read_by_the_kind_of_its_event(
    shop_with_stripe: Shop,
    stripe: StripeStub,
    kind: str,
    path: str,
    table: str,
    older: dict[str, Any],
    newer: dict[str, Any],
    stripe_id: str,
) -> None:
    """A product's id is its creator's to choose, and so is a plan's; imported customers keep theirs."""
    shop = shop_with_stripe
    stripe.put(f"{path}/{quote(stripe_id, safe='')}", newer | {"id": stripe_id})
    shop.outcome(Event(f"{kind}.created", older | {"id": stripe_id}))
    assert shop.outcome(Event(f"{kind}.updated", newer | {"id": stripe_id})) == Done()
    name = "nickname" if kind == "price" else "name"
    found = f"select {name} from billing.{table} where stripe_{kind}_id = %s"
    assert shop.value(found, stripe_id) == newer[name]


def test_a_product_and_a_price_of_one_id_are_two_objects(shop_with_stripe: Shop, stripe: StripeStub) -> None:
    shop = shop_with_stripe
    product, price = events.product(id="gold", name="Gold"), events.price(id="gold", nickname="Gold a month")
    stripe.put("products/gold", product)
    stripe.put("prices/gold", price)
    told = [
        Event(f"{body['object']}.{change}", body)
        for change in ("created", "updated")
        for body in (product, price)
    ]
    assert set(shop.outcomes(*told).values()) == {Done()}
    assert shop.value("select name from billing.products where stripe_product_id = 'gold'") == "Gold"
    assert shop.value("select nickname from billing.plans where stripe_price_id = 'gold'") == "Gold a month"
