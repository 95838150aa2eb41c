"""What a change within a period credits and charges, and which earlier lines its credits name."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stripe_local.versions import in_version
from tests.stripe_local.conftest import Local


def _at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())


def _subscribe(
    local: Local, *prices: Any, start: tuple[int, ...] = (2026, 4, 1), **more: Any
) -> tuple[str, Any]:
    """A subscription of a month of 30 days, and its clock."""
    clock = local.client.test_helpers.test_clocks.create({"frozen_time": _at(*start)}).id
    order = {"customer": local.customer(test_clock=clock).id, "items": [{"price": p.id} for p in prices]}
    return clock, local.client.subscriptions.create(order | more)


def _change(local: Local, sub: Any, behavior: str = "always_invoice", **item: Any) -> Any:
    items = [{"id": sub["items"].data[0].id, **item}]
    return local.client.subscriptions.update(sub.id, {"items": items, "proration_behavior": behavior})


def _lines(local: Local, invoice: str) -> list[dict[str, Any]]:
    return local.call("GET", f"/v1/invoices/{invoice}/lines", "limit=100").json()["data"]


def _credited(line: dict[str, Any]) -> Any:
    return line["parent"]["subscription_item_details"]["proration_details"]["credited_items"]


def _named(invoice: str, *lines: dict[str, Any]) -> dict[str, Any]:
    return {"invoice": invoice, "invoice_line_items": [line["id"] for line in lines]}


def test_a_credit_names_the_line_that_had_billed_the_time_and_a_charge_names_none(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000))
    [first] = _lines(local, sub.latest_invoice)
    local.advance(clock, _at(2026, 4, 16))
    changed = _change(local, sub, quantity=3)
    credit, charge = _lines(local, changed.latest_invoice)
    assert [(line["amount"], line["quantity"]) for line in (credit, charge)] == [(-1500, 1), (4500, 3)]
    assert _credited(credit) == _named(sub.latest_invoice, first)
    assert (_credited(charge), _credited(first)) == (None, None)
    local.advance(clock, _at(2026, 4, 21))
    again = _change(local, sub, quantity=2)
    later, _ = _lines(local, again.latest_invoice)
    assert later["amount"] == -3000
    assert _credited(later) == _named(changed.latest_invoice, charge)


def test_the_acacia_shape_has_the_names_on_the_line_itself(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000))
    local.advance(clock, _at(2026, 4, 16))
    changed = _change(local, sub, quantity=3)
    credit, charge = _lines(local, changed.latest_invoice)
    old = [in_version(local.world, line, "2025-02-24.acacia") for line in (credit, charge)]
    assert [line["proration_details"] for line in old] == [
        {"credited_items": _credited(credit)},
        {"credited_items": None},
    ]
    assert "parent" not in old[0]


def test_a_credit_of_a_charge_that_waits_names_its_invoice_item_and_then_its_line(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000))
    [first] = _lines(local, sub.latest_invoice)
    local.advance(clock, _at(2026, 4, 16))
    _change(local, sub, "create_prorations", quantity=3)
    local.advance(clock, _at(2026, 4, 21))
    _change(local, sub, "create_prorations", quantity=2)
    waiting = local.call("GET", "/v1/invoiceitems", "pending=true").json()["data"][::-1]
    line = {"type": "invoice_line_items", "invoice_item": None}
    line["invoice_line_item_details"] = _named(sub.latest_invoice, first)
    item = {"type": "invoice_item", "invoice_item": waiting[1]["id"], "invoice_line_item_details": None}
    assert [found["proration_details"]["credited_items"] for found in waiting] == [line, None, item, None]
    local.advance(clock, _at(2026, 5, 1, 2))
    renewed = local.client.subscriptions.retrieve(sub.id).latest_invoice
    month, *prorations = _lines(local, renewed)
    assert month["amount"] == 6000
    assert [_credited(found) for found in prorations] == [
        _named(sub.latest_invoice, first),
        None,
        _named(renewed, prorations[1]),
        None,
    ]


def test_older_versions_say_less_of_a_proration_that_waits(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000))
    local.advance(clock, _at(2026, 4, 16))
    _change(local, sub, "create_prorations", quantity=3)
    item = local.call("GET", "/v1/invoiceitems", "pending=true").json()["data"][0]
    shown = {
        version: in_version(local.world, item, version)
        for version in ("2026-03-25.dahlia", "2025-03-31.basil")
    }
    assert shown["2026-03-25.dahlia"]["proration_details"] == {"discount_amounts": []}
    assert "proration_details" not in shown["2025-03-31.basil"]


def test_time_of_an_invoice_that_was_voided_is_credited_all_the_same(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000), payment_behavior="default_incomplete")
    [first] = _lines(local, sub.latest_invoice)
    local.client.invoices.void_invoice(sub.latest_invoice)
    local.advance(clock, _at(2026, 4, 1, 12))
    changed = _change(local, sub, quantity=3)
    credit, _ = _lines(local, changed.latest_invoice)
    assert credit["amount"] == -2950
    assert _credited(credit) == _named(sub.latest_invoice, first)


@pytest.mark.parametrize(("mode", "total"), [("flexible", 0), ("classic", -334)])
def test_a_credit_is_by_what_was_billed_or_in_classic_mode_by_the_price_of_today(
    local: Local, mode: str, total: int
) -> None:
    cheap, dear = local.price(1000), local.price(2000)
    clock, sub = _subscribe(local, cheap, billing_mode={"type": mode})
    [first] = _lines(local, sub.latest_invoice)
    local.advance(clock, _at(2026, 4, 11))
    _change(local, sub, "none", price=dear.id)
    local.advance(clock, _at(2026, 4, 21))
    changed = _change(local, sub, price=cheap.id)
    invoice = local.client.invoices.retrieve(changed.latest_invoice)
    assert invoice.total == total
    credit = _lines(local, invoice.id)[0]
    assert credit["pricing"]["price_details"]["price"] == (cheap if mode == "flexible" else dear).id
    assert _credited(credit) == _named(sub.latest_invoice, first)


def test_nothing_is_credited_twice_or_that_was_not_billed(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(1000))
    extra = local.price(500)
    added = {"items": [{"price": extra.id}], "proration_behavior": "none"}
    sub = local.client.subscriptions.update(sub.id, added)
    local.advance(clock, _at(2026, 4, 16))
    items = {item.price.id: item.id for item in sub["items"].data}
    local.client.subscription_items.delete(items[extra.id], {"proration_behavior": "create_prorations"})
    assert local.client.invoice_items.list({"pending": True}).data == []
    _change(local, sub, quantity=2)
    ended = local.client.subscriptions.cancel(sub.id, {"prorate": True, "invoice_now": True})
    lines = _lines(local, ended.latest_invoice)
    assert [(line["amount"], line["quantity"]) for line in lines] == [(-1000, 2)]


def test_the_tiers_of_a_price_are_credited_as_one(local: Local) -> None:
    product = local.client.products.create({"name": "Seats"})
    price = local.client.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "recurring": {"interval": "month"},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": 5, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 80}],
        }
    )
    clock, sub = _subscribe(local, price)
    local.advance(clock, _at(2026, 4, 2))
    sub = _change(local, sub, quantity=8)
    local.advance(clock, _at(2026, 5, 1, 2))
    sub = local.client.subscriptions.retrieve(sub.id)
    tiers = _lines(local, sub.latest_invoice)
    local.advance(clock, _at(2026, 5, 16, 12))
    credit, charge = _lines(local, _change(local, sub, quantity=1).latest_invoice)
    assert [(line["amount"], line["quantity"]) for line in (credit, charge)] == [(-370, 8), (50, 1)]
    assert _credited(credit) == _named(sub.latest_invoice, *tiers)


def _coupon(local: Local, **terms: Any) -> dict[str, Any]:
    return {"coupon": local.client.coupons.create({"duration": "forever", **terms}).id}


def test_an_amount_off_is_spread_by_price_and_comes_off_the_credit_too(local: Local) -> None:
    small, large = local.price(1000), local.price(2000)
    off = _coupon(local, amount_off=500, currency="usd")
    clock, sub = _subscribe(local, small, large, start=(2026, 2, 1), discounts=[off])
    invoice = local.client.invoices.retrieve(sub.latest_invoice)
    lines = _lines(local, invoice.id)
    assert [line["discount_amounts"][0]["amount"] for line in lines] == [166, 334]
    assert (invoice.subtotal, invoice.total) == (3000, 2500)
    local.advance(clock, _at(2026, 2, 15))
    item = next(item.id for item in sub["items"].data if item.price.id == small.id)
    local.client.subscription_items.delete(item, {"proration_behavior": "always_invoice"})
    changed = local.client.invoices.retrieve(local.client.subscriptions.retrieve(sub.id).latest_invoice)
    assert changed.total == -417


@pytest.mark.parametrize(
    ("shown", "amounts", "taken"),
    [("included", [-1125, 2250], [0, 0]), ("itemized", [-1500, 3000], [-375, 750])],
)
def test_a_percentage_is_within_a_prorations_amount_or_beside_it(
    local: Local, shown: str, amounts: list[int], taken: list[int]
) -> None:
    mode = {"type": "flexible", "flexible": {"proration_discounts": shown}}
    quarter = _coupon(local, percent_off=25)
    clock, sub = _subscribe(local, local.price(3000), discounts=[quarter], billing_mode=mode)
    local.advance(clock, _at(2026, 4, 16))
    changed = _change(local, sub, quantity=2)
    invoice = local.client.invoices.retrieve(changed.latest_invoice)
    lines = _lines(local, invoice.id)
    assert [line["amount"] for line in lines] == amounts
    assert [line["discount_amounts"] for line in lines] == [
        [{"amount": amount, "discount": sub.discounts[0]}] for amount in taken
    ]
    assert [line["discounts"] for line in lines] == [sub.discounts, sub.discounts]
    assert (invoice.subtotal, invoice.total, invoice.amount_paid) == (sum(amounts), 1125, 1125)
    assert sum(found.amount for found in invoice.total_discount_amounts) == sum(taken)


def test_a_coupon_for_one_invoice_comes_off_the_credit_and_not_off_the_charge(local: Local) -> None:
    half = local.client.coupons.create({"percent_off": 50, "duration": "once"})
    clock, sub = _subscribe(local, local.price(3000), discounts=[{"coupon": half.id}])
    local.advance(clock, _at(2026, 4, 16))
    changed = _change(local, sub, quantity=2)
    assert [line["amount"] for line in _lines(local, changed.latest_invoice)] == [-750, 3000]


def test_time_that_cost_nothing_by_a_coupon_is_credited_and_charged_with_nothing(local: Local) -> None:
    clock, sub = _subscribe(local, local.price(3000), discounts=[_coupon(local, percent_off=100)])
    [first] = _lines(local, sub.latest_invoice)
    local.advance(clock, _at(2026, 4, 16))
    changed = _change(local, sub, quantity=2)
    credit, charge = _lines(local, changed.latest_invoice)
    assert (credit["amount"], charge["amount"], charge["quantity"]) == (0, 0, 2)
    assert _credited(credit) == _named(sub.latest_invoice, first)
    assert local.client.invoices.retrieve(changed.latest_invoice).status == "paid"
