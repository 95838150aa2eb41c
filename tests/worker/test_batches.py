"""A batch of events about many subscriptions: each gets what its own event alone would give it."""

from typing import Any

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event

FUTURE = 1200  # a hundred years of months: paid time that is still running
STATES: dict[str, dict[str, Any]] = {
    "nothing new": {"metadata": {"seats": "2"}},
    "paused": {"status": "paused"},
    "unpaid": {"status": "unpaid"},
    "collection paused": {"pause_collection": {"behavior": "void", "resumes_at": None}},
    "ended": {"status": "canceled", "canceled_at": JANUARY + 2, "ended_at": JANUARY + 2},
}
_PAID_TIME = """
select disarmed_reason, ends_at < period_end from billing.credit_schedules
where stripe_subscription_id = 'sub_' || %s and period_start > '2100-01-01'
"""


def updates(seconds: int, states: dict[str, dict[str, Any]]) -> list[Event]:
    return [
        Event("customer.subscription.updated", events.subscription(n, **state), JANUARY + seconds)
        for n, state in enumerate(states.values(), 1)
    ]


def paid_time(shop: Shop) -> dict[str, Any]:
    """Why paid time waits, and whether it ends early, by the state of its subscription."""
    return {state: shop.app.execute(_PAID_TIME, [n]).fetchone() for n, state in enumerate(STATES, 1)}


def test_every_subscription_of_a_batch_gets_what_its_state_calls_for(shop: Shop) -> None:
    accounts = [shop.link(n) for n in range(1, len(STATES) + 1)]
    told: list[Event] = []
    for n in range(1, len(STATES) + 1):
        told.append(Event("customer.subscription.created", events.subscription(n), JANUARY))
        told.append(events.paid(n))
        told.append(events.paid(n, FUTURE))
    shop.receive(*told)
    shop.drain()
    assert set(paid_time(shop).values()) == {(None, False)}
    assert {shop.balance(account) for account in accounts} == {INITIAL_CREDITS + 2 * MONTHLY_CREDITS}

    shop.receive(*updates(2, STATES))
    shop.drain()
    assert paid_time(shop) == {
        "nothing new": (None, False),
        "paused": ("paused", False),
        "unpaid": ("unpaid", False),
        "collection paused": ("collection_paused", False),
        "ended": (None, True),
    }

    # Those that go on have nothing in their state that asks for a judgement: only their paid time does.
    shop.receive(*updates(3, {**{state: {} for state in STATES}, "ended": STATES["ended"]}))
    shop.drain()
    assert paid_time(shop) == {**dict.fromkeys(STATES, (None, False)), "ended": (None, True)}
    shop.assert_sound()


def test_a_line_that_waited_for_its_subscription_is_paid_time_at_the_end_of_the_batch(shop: Shop) -> None:
    account = shop.link()
    free = events.invoice_line(1, FUTURE, amount=0)
    shop.receive(
        events.paid(1, FUTURE, lines=events.invoice()["lines"] | {"data": [free]}, subtotal=0, total=0)
    )
    shop.drain()
    assert shop.value("select is_waiting from billing.invoice_lines")
    assert shop.balance(account) == 0

    shop.receive(Event("customer.subscription.created", events.subscription(), JANUARY))
    shop.drain()
    assert not shop.value("select is_waiting from billing.invoice_lines")
    assert shop.app.execute(_PAID_TIME, [1]).fetchone() == (None, False)
