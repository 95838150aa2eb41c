"""Events that name a Stripe account: of a connected account, of an organization's, or of ours."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.stripe_local.conftest import KEY, Local
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import Event, paid
from tests.worker.test_account import ask, happen, local, note, worker
from worker.events.origin import named_account, reason_of_other_account
from worker.events.outcomes import Done, Ignored

__all__ = ["local", "worker"]  # fixtures

OURS, ANOTHER = "acct_ours", "acct_another"

NAMED: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"account": None, "context": None}, None),
    ({"account": ANOTHER}, ANOTHER),
    ({"context": ANOTHER}, ANOTHER),
    ({"context": f"org_1/{ANOTHER}"}, ANOTHER),
    ({"account": ANOTHER, "context": OURS}, ANOTHER),
]


@pytest.mark.parametrize(("more", "named"), NAMED)
def test_the_account_of_an_event_is_in_its_envelope(more: dict[str, Any], named: str | None) -> None:
    assert named_account(Event("customer.created", events.customer(), more=more).payload) == named


def test_an_account_deeper_in_the_body_is_not_the_event_s() -> None:
    assert named_account(Event("customer.created", {"account": ANOTHER, "context": ANOTHER}).payload) is None


@pytest.mark.parametrize(
    "body", ['{"account": "acct_1"', '["account", {"account": "acct_1"}]', "[" * 5000 + '"account":"']
)
def test_a_body_that_is_no_object_names_no_account(body: str) -> None:
    assert named_account(body) is None


def test_the_reason_says_how_to_make_the_account_one_s_own() -> None:
    assert reason_of_other_account(None, None) is None
    assert reason_of_other_account(OURS, OURS) is None
    for ours in (None, OURS):
        assert "billing.settings.stripe_account_id" in (reason_of_other_account(ANOTHER, ours) or "")


HANDLED: dict[str, Callable[..., Event]] = {
    "product": lambda **more: Event("product.created", events.product(id="prod_2"), **more),
    "price": lambda **more: Event("price.created", events.price(id="price_2"), **more),
    "customer": lambda **more: Event("customer.created", events.customer(), **more),
    "subscription": lambda **more: Event("customer.subscription.created", events.subscription(), **more),
    "invoice": lambda **more: Event("invoice.paid", paid().object, **more),
    "of no shape": lambda **more: Event("invoice.paid", None, **more),
    "one that needs Stripe": lambda **more: Event(
        "radar.early_fraud_warning.created",
        {
            "id": "issfr_1", "object": "radar.early_fraud_warning", "livemode": False, "charge": "ch_1",
            "payment_intent": None, "fraud_type": "misc", "actionable": True, "created": events.JANUARY,
        },
        **more,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "named", [{"account": ANOTHER}, {"context": ANOTHER}, {"context": f"org_1/{ANOTHER}"}]
)
@pytest.mark.parametrize("make", HANDLED.values(), ids=HANDLED)
def test_an_event_of_another_account_is_ignored_with_the_reason(
    shop: Shop, make: Callable[..., Event], named: dict[str, str]
) -> None:
    account = shop.link()
    before = shop.value("select count(*) from billing.plans")
    event = make(more=named)
    outcome = shop.outcome(event)
    assert isinstance(outcome, Ignored)
    assert ANOTHER in outcome.reason
    assert (shop.status(event), shop.last_error(event)) == ("ignored", outcome.reason)
    assert (shop.balance(account), shop.value("select count(*) from billing.plans")) == (0, before)
    assert shop.value("select count(*) from billing.notifications") == 0
    shop.assert_sound()


def test_an_event_that_names_our_account_is_applied_also_when_it_is_noted_later(shop: Shop) -> None:
    account = shop.link()
    event = Event("invoice.paid", paid().object, more={"account": OURS})
    assert isinstance(shop.outcome(event), Ignored)
    note(shop.app, OURS)
    shop.app.execute("select billing.retry_stripe_event(%s)", [event.id])
    assert [item.outcome for item in shop.drain()] == [Done()]
    assert shop.balance(account) > 0
    other = Event("customer.created", events.customer(), more={"account": ANOTHER})
    assert isinstance(shop.outcome(other), Ignored)
    shop.assert_sound()


def test_an_event_of_another_account_takes_none_of_its_neighbours_along(shop: Shop) -> None:
    account = shop.link()
    foreign = Event("invoice.paid", paid().object, more={"account": ANOTHER})
    assert set(map(type, shop.outcomes(foreign, paid(), foreign).values())) == {Ignored, Done}
    assert shop.balance(account) > 0


@pytest.mark.parametrize("named", [{"account": ANOTHER}, {"context": ANOTHER}])
def test_an_event_of_a_connected_account_is_no_witness_against_our_key(
    conn: psycopg.Connection[Any], worker: psycopg.Connection[Any], local: Local, named: dict[str, str]
) -> None:
    happen(conn, local)
    events.receive(conn, Event("customer.created", events.customer(), more=named))
    assert ask(worker, KEY, local).is_ours
