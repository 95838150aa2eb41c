"""Bodies that Stripe never sent → an outcome, and never a bug, a lost event or books that do not add up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stripe_local.conftest import _serve
from tests.stripe_local.story import tell
from tests.support import account_of, create_user
from tests.worker.conftest import Shop
from tests.worker.events import Event, message
from tests.worker.mutations import mutated
from worker.errors import UnknownShape
from worker.events.decide import DECIDERS, decide, needs
from worker.events.normalise import normalise
from worker.events.outcomes import Dead, RetryLater

# What a late event may still wait for.
WAITS = ("23503",)


@dataclass
class Told:
    """Every event of a shop in which everything happened, and the customer of its last subscription."""

    events: list[dict[str, Any]]
    customer_id: str

    @property
    def kinds(self) -> list[dict[str, Any]]:
        """One event of each type that the worker handles."""
        by_type = {event["type"]: event for event in self.events if event["type"] in DECIDERS}
        return [by_type[type] for type in sorted(by_type)]

    @property
    def of_customer(self) -> list[dict[str, Any]]:
        """The events of the last subscription, with the catalogue."""
        return [
            event
            for event in self.events
            if event["type"] in DECIDERS
            and (
                event["data"]["object"]["object"] in ("product", "price")
                or event["data"]["object"].get("customer") == self.customer_id
            )
        ]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with contextmanager(_serve)(None) as local:
        tell(local)
        customer = local.customer()
        price = local.price(metadata={"monthly_credits": "50", "initial_credits": "7"})
        local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
        yield Told(list(local.world.events.bodies()), customer.id)


def object_of(event: dict[str, Any]) -> Any:
    return event["data"]["object"]


def received(event: dict[str, Any], body: Any, **more: Any) -> Event:
    """The event's envelope as it was verified, around another body."""
    return Event(
        event["type"],
        body,
        created=event["created"],
        api_version=event["api_version"],
        body=json.dumps(event | {"data": {"object": body}}),
        **more,
    )


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_body_is_read_or_refused_by_its_path(told: Told, data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(told.kinds))
    body = data.draw(mutated(object_of(event)) | st.sampled_from(told.kinds).map(object_of))
    with suppress(UnknownShape):  # every other error fails
        found = normalise(message(received(event, body)))
        if not needs(found):
            decide(found, {})


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "[]", "1", '"x"', "{", "{}", '{"data": null}', '{"data": {"object": []}}', "NaN", "\x00",
        '{"data": {"object": {"object": "invoice", "id": "in_1", "total": 1e400}}}',
        "[" * 100_000, '{"a":' * 50_000, "1" * 5000, '{"data": {"object": {"object": "customer", "id": "\\ud800"}}}',
    ],
    ids=range(16),
)  # fmt: skip
def test_a_text_that_is_no_event_is_a_dead_letter(body: str) -> None:
    with pytest.raises(UnknownShape):
        normalise(message(Event("invoice.paid", {}, body=body)))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_event_between_true_ones_ends_and_the_books_hold(
    told: Told, shop: Shop, data: st.DataObject
) -> None:
    account = shop.value("select account_id from billing.customers limit 1")
    if account is None:
        account = account_of(shop.app, create_user(shop.database))
        shop.app.execute("select billing.link_customer(%s, %s)", [account, told.customer_id])
        shop.outcomes(*(received(event, object_of(event)) for event in told.of_customer))
    event = data.draw(st.sampled_from(told.of_customer))
    late = event | {"created": event["created"] + data.draw(st.integers(0, 2))}
    match shop.outcome(received(late, data.draw(mutated(object_of(event))))):
        case Dead(reason):
            assert "Upgrade the worker" not in reason
        case RetryLater(reason=reason, excused=False):
            assert reason.startswith(WAITS)
    shop.assert_sound()
