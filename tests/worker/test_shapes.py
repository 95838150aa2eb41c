"""What Stripe sends in five API versions → the same objects, and the same credits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from stripe_local.versions import BORN, event_in_version
from stripe_local.world import World
from tests.stripe_local.conftest import _serve
from tests.stripe_local.story import tell
from tests.support import account_of, create_user
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import Event, message, moment
from worker.events.normalise import API_FAMILIES, normalise, normalise_object
from worker.events.objects import CreditNote, Invoice, InvoiceLine, InvoicePayment, Subscription
from worker.events.outcomes import Dead
from worker.events.shapes import Node

VERSIONS = [
    "2025-02-24.acacia",
    "2025-08-27.basil",
    "2026-02-25.clover",
    "2026-08-26.dahlia",
    "2026-10-28.endive",
]
KINDS = [
    "customer",
    "product",
    "price",
    "subscription",
    "invoice",
    "charge",
    "checkout.session",
    "payment_method",
    "radar.early_fraud_warning",
    "credit_note",
    "dispute",
    "invoice_payment",
    "refund",
]


@dataclass
class Told:
    """All that happened in a shop, and the customer of its last subscription."""

    world: World
    events: list[dict[str, Any]]
    customer_id: str

    def of(self, kind: str, version: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Every event about a kind: as it is now, and as it was in a version."""
        return [
            (event, event_in_version(self.world, event, version))
            for event in self.events
            if event["data"]["object"]["object"] == kind and event["type"] != "invoice.upcoming"
        ]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with contextmanager(_serve)(None) as local:
        tell(local)
        customer = local.customer()
        price = local.price(metadata={"monthly_credits": "50", "initial_credits": "7"})
        local.client.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
        yield Told(local.world, list(local.world.events.bodies()), customer.id)


def read(event: dict[str, Any]) -> object:
    return normalise_object(Node(event["data"]["object"], "body"))


def comparable(found: object, version: str) -> object:
    """Before basil a credit note did not tell how much of it was refunded, and how much credited to the balance."""
    is_told = version[:10] >= "2025-03-31"
    return found if is_told or not isinstance(found, CreditNote) else replace(found, amount_refunded=0)


def received(event: dict[str, Any]) -> Event:
    return Event(
        event["type"],
        event["data"]["object"],
        created=event["created"],
        id=event["id"],
        api_version=event["api_version"],
    )


def test_the_table_has_every_family() -> None:
    assert tuple(version.partition(".")[2] for version in VERSIONS) == API_FAMILIES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_read_alike_in_every_version(told: Told, kind: str, version: str) -> None:
    bodies = told.of(kind, version)
    assert bodies
    if version[:10] >= BORN.get(kind, ""):
        for now, then in bodies:
            assert then["api_version"] == version
            assert comparable(read(then), version) == comparable(read(now), version) is not None


def test_the_oldest_bodies_of_the_table_have_the_old_keys(told: Told) -> None:
    for _, event in told.of("subscription", VERSIONS[0]):
        assert "current_period_end" in event["data"]["object"]
        assert all("current_period_end" not in item for item in event["data"]["object"]["items"]["data"])
    for _, event in told.of("invoice", VERSIONS[0]):
        invoice = event["data"]["object"]
        assert all("parent" not in found for found in (invoice, *invoice["lines"]["data"]))


def test_the_table_has_every_kind_of_line(told: Told) -> None:
    lines: list[InvoiceLine] = []
    for now, _ in told.of("invoice", VERSIONS[0]):
        found = read(now)
        assert isinstance(found, Invoice)
        lines += found.lines or ()
    kinds = {
        (line.stripe_subscription_item_id is not None, line.stripe_price_id is not None, line.is_proration)
        for line in lines
    }
    # A plan, its proration, a one-time price, and an amount without a price.
    assert kinds == {(True, True, False), (True, True, True), (False, True, False), (False, False, False)}
    assert any(line.is_proration and line.amount < 0 for line in lines)


def test_the_payment_of_an_invoice_is_told_alike_by_old_invoices_and_by_later_invoice_payments(
    told: Told,
) -> None:
    later = [read(now) for now, _ in told.of("invoice_payment", VERSIONS[1])]
    links = {
        replace(link, stripe_invoice_payment_id=None) for link in later if isinstance(link, InvoicePayment)
    }
    invoices = [pair for pair in told.of("invoice", VERSIONS[0]) if pair[0]["type"] == "invoice.paid"]
    old = [normalise(message(received(then))).invoice_payment for _, then in invoices]
    assert {link for link in old if link is not None} == links != set()
    assert {normalise(message(received(now))).invoice_payment for now, _ in invoices} == {None}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_which_line_a_proration_credits_and_what_discounts_took(
    told: Told, version: str
) -> None:
    lines = [
        line
        for _, then in told.of("invoice", version)
        if isinstance(found := read(then), Invoice)
        for line in found.lines or ()
    ]
    ids = {line.stripe_line_id for line in lines}
    credits = [line for line in lines if line.is_proration and line.amount < 0]
    assert credits
    assert all(line.credited_line_ids and ids.issuperset(line.credited_line_ids) for line in credits)
    assert {line.credited_line_ids for line in lines if line.amount > 0} == {None}
    assert {line.discount for line in lines} >= {0, 200}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_the_lines_and_the_refunds_of_a_credit_note(told: Told, version: str) -> None:
    notes = [
        found for _, then in told.of("credit_note", version) if isinstance(found := read(then), CreditNote)
    ]
    lines = [line for note in notes for line in note.lines or ()]
    assert {line.stripe_line_id is None for line in lines} == {True, False}
    assert {len(note.stripe_refund_ids) for note in notes} == {0, 1}
    assert {note.pre_payment_amount > 0 for note in notes} == {True, False}
    assert {(note.pre_payment_amount > 0) != (note.amount > 0) for note in notes} == {True}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_first_month_gives_the_same_credits_in_every_version(told: Told, shop: Shop, version: str) -> None:
    account = account_of(shop.app, create_user(shop.database))
    shop.app.execute("select billing.link_customer(%s, %s)", [account, told.customer_id])
    shown = [event_in_version(told.world, event, version) for event in told.events]
    shop.receive(
        *(
            received(event)
            for event in shown
            if event["data"]["object"]["object"] in ("product", "price")
            or event["data"]["object"].get("customer") == told.customer_id
        )
    )
    settled = shop.drain()
    assert [item for item in settled if isinstance(item.outcome, Dead)] == []
    assert shop.balance(account) == 57


def without(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in keys}


def listing(member: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "has_more": False, "data": [member]}


# Type of event, an object that lacks a key, what the reason says after the object's path.
UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    (
        "invoice.paid",
        without(events.invoice(), "parent"),
        " lacks parent and subscription: no supported API version",
    ),
    (
        "invoice.paid",
        events.invoice(lines=listing(without(events.invoice_line(), "parent"))),
        ".lines.data[0] lacks parent and type: no supported API version",
    ),
    (
        "invoice.paid",
        events.invoice(lines=listing(without(events.invoice_line(), "pricing"))),
        ".lines.data[0] lacks pricing and price and plan: no supported API version",
    ),
    (
        "customer.subscription.updated",
        events.subscription(items=listing(without(events.subscription_item(), "current_period_start"))),
        ".items.data[0].current_period_start is missing",
    ),
]


@pytest.mark.parametrize(("event_type", "body", "reason"), UNKNOWN)
def test_a_body_with_neither_old_nor_new_keys_is_a_dead_letter_that_names_the_path(
    shop: Shop, event_type: str, body: dict[str, Any], reason: str
) -> None:
    event = Event(event_type, body)
    outcome = shop.outcome(event)
    assert isinstance(outcome, Dead)
    assert outcome.reason.startswith(f"event.data.object{reason}")
    assert (shop.status(event), shop.last_error(event)) == ("dead", outcome.reason)
    shop.assert_sound()


def old_invoice(**changes: Any) -> dict[str, Any]:
    """The same invoice as an API version before basil has it."""
    line = {
        "type": "subscription",
        "proration": False,
        "subscription": "sub_1",
        "subscription_item": "si_1",
        "price": events.price(),
        "plan": {"id": "price_pro", "object": "plan"},
    }
    lines = listing(without(events.invoice_line(), "parent", "pricing") | line)
    old = {"subscription": "sub_1", "payment_intent": "pi_1", "charge": "ch_1", "paid_out_of_band": False}
    return without(events.invoice(lines=lines), "parent") | old | changes


def read_invoice(body: dict[str, Any]) -> Invoice:
    found = normalise(message(Event("invoice.paid", body))).object
    assert isinstance(found, Invoice)
    return found


def read_line(line: dict[str, Any]) -> InvoiceLine:
    lines = read_invoice(events.invoice(lines=listing(line))).lines
    assert lines is not None
    return lines[0]


def test_an_old_invoice_is_read_like_a_new_one() -> None:
    assert read_invoice(old_invoice()) == read_invoice(events.invoice())


@pytest.mark.parametrize(
    "body", [old_invoice(subscription=None), events.invoice(parent=None)], ids=["old", "new"]
)
def test_an_invoice_that_names_no_subscription_is_of_that_of_its_first_line_of_an_item(
    body: dict[str, Any],
) -> None:
    assert read_invoice(body).stripe_subscription_id == "sub_1"


def test_an_invoice_may_be_of_no_subscription() -> None:
    old = old_invoice()["lines"]["data"][0] | {"type": "invoiceitem", "subscription_item": None}
    new = events.invoice_line(
        parent={"type": "invoice_item_details", "invoice_item_details": {"proration": False}}
    )
    for body in (
        old_invoice(subscription=None, lines=listing(old)),
        events.invoice(parent=None, lines=listing(new)),
    ):
        assert read_invoice(body).stripe_subscription_id is None


CREDITED = {"credited_items": {"invoice": "in_1_0", "invoice_line_items": ["il_1_0", "il_1_1"]}}


@pytest.mark.parametrize("kind", ["subscription_item_details", "invoice_item_details"])
@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (CREDITED, ("in_1_0", ("il_1_0", "il_1_1"))),
        ({"credited_items": None}, (None, None)),
        (None, (None, None)),
    ],
)
def test_a_proration_names_the_lines_that_it_credits_in_old_and_new_lines(
    kind: str, details: Any, expected: tuple[str | None, tuple[str, ...] | None]
) -> None:
    parent = {
        "type": kind,
        kind: {
            "subscription": "sub_1",
            "subscription_item": "si_1",
            "proration": True,
            "proration_details": details,
        },
    }
    old = old_invoice()["lines"]["data"][0] | {"proration": True, "proration_details": details}
    for line in (events.invoice_line(parent=parent), old):
        found = read_line(line)
        assert (found.credited_invoice_id, found.credited_line_ids) == expected


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [([], 0), ([{"amount": 300, "discount": "di_1"}, {"amount": 50, "discount": "di_2"}], 350), (None, None)],
)
def test_the_discount_of_a_line_is_the_sum_of_its_discounts_in_old_and_new_lines(
    amounts: Any, expected: int | None
) -> None:
    for line in (events.invoice_line(), old_invoice()["lines"]["data"][0]):
        assert read_line(line | {"discount_amounts": amounts}).discount == expected
    assert read_line(without(events.invoice_line(), "discount_amounts")).discount is None


def test_an_old_line_without_proration_details_names_no_line() -> None:
    assert read_line(old_invoice()["lines"]["data"][0]).credited_line_ids is None


@pytest.mark.parametrize(
    ("changes", "price", "item", "is_proration"),
    [
        ({}, "price_pro", "si_1", False),
        ({"price": None, "plan": None}, None, "si_1", False),
        ({"price": None}, "price_plan", "si_1", False),
        ({"type": "invoiceitem", "proration": True}, "price_pro", "si_1", True),
        ({"type": "invoiceitem", "subscription_item": None}, "price_pro", None, False),
    ],
)
def test_an_old_line_names_its_price_item_and_proration_itself(
    changes: dict[str, Any], price: str | None, item: str | None, is_proration: bool
) -> None:
    line = old_invoice()["lines"]["data"][0] | {"plan": {"id": "price_plan"}} | changes
    found = read_line(line)
    assert (found.stripe_price_id, found.stripe_subscription_item_id, found.is_proration) == (
        price,
        item,
        is_proration,
    )


def test_a_price_of_a_line_may_be_expanded() -> None:
    line = events.invoice_line(pricing={"type": "price_details", "price_details": {"price": events.price()}})
    assert read_line(line).stripe_price_id == "price_pro"


@pytest.mark.parametrize("top", [None, "sub_1"])
@pytest.mark.parametrize("inner", [None, "sub_1"])
def test_a_line_names_its_subscription_at_the_top_or_in_its_parent(
    top: str | None, inner: str | None
) -> None:
    details = {"subscription": inner, "subscription_item": "si_1", "proration": False}
    parent = {"type": "subscription_item_details", "subscription_item_details": details}
    line = events.invoice_line(subscription=top, parent=parent)
    assert read_line(line).stripe_subscription_id == (top or inner)


@pytest.mark.parametrize("parent", [None, {"type": "something_new"}])
def test_a_line_without_a_parent_that_is_known_belongs_to_no_item(parent: Any) -> None:
    found = read_line(events.invoice_line(parent=parent))
    assert (found.stripe_subscription_item_id, found.is_proration) == (None, False)


@pytest.mark.parametrize(
    ("changes", "intent", "charge"),
    [
        ({}, "pi_1", None),
        ({"payment_intent": None}, None, "ch_1"),
    ],
)
def test_an_old_invoice_tells_which_payment_paid_it(
    changes: dict[str, Any], intent: str | None, charge: str | None
) -> None:
    event = normalise(message(Event("invoice.paid", old_invoice(**changes))))
    assert event.invoice_payment == InvoicePayment(
        stripe_invoice_payment_id=None,
        stripe_invoice_id="in_1_0",
        stripe_payment_intent_id=intent,
        stripe_charge_id=charge,
        livemode=False,
        status="paid",
        currency="usd",
        amount_paid=1000,
        paid_at=moment(events.JANUARY),
    )


@pytest.mark.parametrize(
    "body",
    [
        events.invoice(),
        old_invoice(status="open"),
        old_invoice(paid_out_of_band=True),
        old_invoice(payment_intent=None, charge=None),
    ],
)
def test_an_invoice_that_no_payment_paid_or_that_is_new_tells_of_none(body: dict[str, Any]) -> None:
    assert normalise(message(Event("invoice.paid", body))).invoice_payment is None


def test_an_item_has_the_period_of_its_subscription_where_it_has_none_itself() -> None:
    period = {"current_period_start": events.JANUARY, "current_period_end": events.JANUARY + 60}
    body = events.subscription(**period)
    item = body["items"]["data"][0]
    body["items"]["data"] = [item, without(item, *period)]
    found = normalise(message(Event("customer.subscription.updated", body))).object
    assert isinstance(found, Subscription)
    assert found.items is not None
    ends = [item.current_period_end for item in found.items]
    assert ends == [moment(events.JANUARY + events.MONTH_SECONDS), moment(events.JANUARY + 60)]
