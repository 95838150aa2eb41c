"""A card on two accounts, from Stripe's events to who has the credits, whatever the order and the batches."""

import random
from dataclasses import replace

import pytest

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, JANUARY, MONTHLY_CREDITS, Event, paid
from worker.events.outcomes import Done, RetryLater

CARD = {"fingerprint": "finger"}


@pytest.fixture(autouse=True)
def _as_in_live_mode(shop: Shop) -> None:
    shop.app.execute("update billing.settings set seen_card_policy = 'hold'")


def life(n: int, attached_at: int) -> list[Event]:
    """A customer's card, charge and first invoice."""
    charge = events.charge(n, payment_method_details={"type": "card", "card": CARD}, created=attached_at + 5)
    return [
        Event("payment_method.attached", events.payment_method(n, card=CARD, created=attached_at)),
        Event("charge.succeeded", charge),
        paid(n),
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_account_of_a_card_gets_initial_credits(shop: Shop, seed: int, batch_size: int) -> None:
    told = life(1, JANUARY + 2) + life(2, JANUARY)
    told += [replace(event, id=f"{event.id}_again", created=event.created + 1) for event in told]
    random.Random(seed).shuffle(told)
    later, first = shop.link(1), shop.link(2)
    shop.receive(*told)
    assert {settled.outcome for settled in shop.drain(batch_size)} == {Done()}
    assert (shop.balance(first), shop.balance(later)) == (INITIAL_CREDITS + MONTHLY_CREDITS, MONTHLY_CREDITS)
    held = "select account_id from billing.held_credits where matched_account_id = %s and status = 'pending'"
    assert shop.value(held, first) == later
    shop.assert_sound()


def test_an_account_that_the_app_holds_makes_a_sighting_of_its_card_wait(shop: Shop) -> None:
    first, later = shop.link(1), shop.link(2)
    shop.outcomes(*life(2, JANUARY + 2))
    assert shop.balance(later) == INITIAL_CREDITS + MONTHLY_CREDITS
    seen = life(1, JANUARY)[0]
    with shop.database.connect() as app, app.transaction():
        app.execute("select from billing.credit_balances where account_id = %s for update", [later])
        waiting = shop.outcome(seen)
    assert isinstance(waiting, RetryLater)
    assert waiting.excused
    shop.make_due()
    assert [settled.outcome for settled in shop.drain()] == [Done()]
    assert shop.balance(later) == MONTHLY_CREDITS
    assert shop.value("select count(*) from billing.card_fingerprints where account_id = %s", first) == 1
    shop.assert_sound()
