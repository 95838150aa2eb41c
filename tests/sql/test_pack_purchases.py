"""Packs by every way in which they are paid for: each once, worth what was paid, for as long as it says."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.sql.calls import (
    Row,
    answer,
    fetch,
    fetch_one,
    item,
    refused,
    sync_checkout_session,
    sync_invoice_payment,
    sync_payment,
    sync_product,
)
from tests.sql.races import at_once
from tests.sql.shop import DAY, HOUR, JULY, NOON, START, Shop, of
from tests.sql.test_packs import bought, pack
from tests.support import Database

CREDITS = 500


@pytest.fixture
def packs(shop: Shop) -> Shop:
    """A shop with a pack of 500 credits for 20.00, and a plan of 100 a month."""
    pack(shop.worker)
    shop.sell("plan", 100)
    return shop


def one(name: str = "il_pack", amount: int = 2000, price: str = "pack", **more: Any) -> Row:
    """An invoice's line for a pack."""
    return of(price, amount, START, START, name, stripe_subscription_item_id=None, **more)


def buy(shop: Shop, *items: Row, at: datetime = START, **more: Any) -> str:
    """A completed session of mode payment."""
    return sync_checkout_session(
        shop.worker,
        **{
            "mode": "payment",
            "stripe_subscription_id": None,
            "stripe_invoice_id": None,
            "stripe_payment_intent_id": "pi_1",
            "opened_at": at,
            "as_of": at,
            "lines": list(items) or [bought()],
        }
        | more,
    )


def capture(shop: Shop, amount: int = 2000, at: datetime = NOON, intent: str = "pi_1") -> None:
    """`payment_intent.succeeded`."""
    answer(
        shop.worker,
        "sync_payment_intent",
        stripe_payment_intent_id=intent,
        stripe_customer_id="cus_1",
        stripe_charge_id="ch_1",
        stripe_payment_method_id=None,
        livemode=False,
        status="succeeded",
        currency="usd",
        amount=2000,
        amount_received=amount,
        failure_code=None,
        metadata={},
        created_at=START,
        as_of=at,
    )


# On invoices


def test_pack_beside_a_plan_comes_with_it(packs: Shop) -> None:
    packs.bill("in_0", START, of("plan", 900, START, JULY), one())
    assert packs.balance == 600
    assert packs.keys("pack") == [("il_pack", CREDITS)]
    (lot,) = [lot for lot in packs.lots() if lot["source"] == "stripe.pack"]
    assert (lot["stripe_invoice_id"], lot["stripe_price_id"], lot["reference_id"]) == (
        "in_0",
        "price_pack",
        "in_0",
    )
    for _ in range(2):
        packs.again("in_0")
    assert packs.balance == 600


def test_pack_beside_a_plan_in_a_session_of_mode_subscription_comes_once(packs: Shop) -> None:
    session = {
        "mode": "subscription",
        "stripe_subscription_id": "sub_1",
        "stripe_invoice_id": "in_0",
        "lines": None,
    }
    buy(packs, **session, stripe_payment_intent_id=None)
    packs.bill("in_0", START, of("plan", 900, START, JULY), one(), billing_reason="subscription_create")
    buy(packs, **session, stripe_payment_intent_id=None, at=START + HOUR)
    assert packs.balance == 600


WAYS: dict[str, Row] = {
    "card": {},
    "out of band": {"amount_paid": 0},
    "balance": {"from_balance": 2000},
    "balance and card": {"from_balance": 700},
}


@pytest.mark.parametrize("way", WAYS)
def test_invoice_of_its_own_gives_the_pack_whoever_paid_it(packs: Shop, way: str) -> None:
    packs.bill("in_p", START, one(), subscription=None, billing_reason="manual", **WAYS[way])
    assert packs.balance == CREDITS


def test_quantities_and_lines_add_up(packs: Shop) -> None:
    pack(packs.worker, "price_big", metadata={"pack_credits": "2000"})
    packs.bill(
        "in_p",
        START,
        one("il_1", 6000, quantity=3),
        one("il_2", 5000, "big"),
        subscription=None,
        billing_reason="manual",
    )
    assert packs.keys("pack") == [("il_1", 1500), ("il_2", 2000)]
    assert packs.balance == 3500


@pytest.mark.parametrize("status", ["draft", "open", "uncollectible", "void"])
def test_invoice_that_is_not_paid_gives_nothing(packs: Shop, status: str) -> None:
    packs.bill("in_p", START, one(), subscription=None, billing_reason="manual", status=status, paid_at=None)
    assert packs.balance == 0


def test_line_of_no_pack_is_none_of_ours(packs: Shop) -> None:
    pack(packs.worker, "price_shirt", metadata={})
    packs.bill("in_p", START, one(price="shirt"), subscription=None, billing_reason="manual")
    assert packs.balance == 0


def test_price_that_arrives_after_its_invoice_gives_the_pack(shop: Shop) -> None:
    shop.bill("in_p", START, one(), subscription=None, billing_reason="manual")
    assert shop.balance == 0
    pack(shop.worker)
    assert shop.balance == CREDITS


def test_customer_that_is_linked_to_nobody_stops_the_invoice(packs: Shop) -> None:
    with refused("TB011"):
        packs.bill(
            "in_p", START, one(), subscription=None, billing_reason="manual", stripe_customer_id="cus_9"
        )


def test_partial_discount_gives_the_whole_pack(packs: Shop) -> None:
    packs.bill("in_p", START, one(discount=1999), subscription=None, billing_reason="manual")
    assert packs.balance == CREDITS


# Sessions that make an invoice


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_session_and_its_invoice_give_the_pack_once_in_every_order(
    packs: Shop, order: tuple[int, ...]
) -> None:
    reports = [
        lambda: buy(packs, stripe_invoice_id="in_p", stripe_payment_intent_id="pi_in_p"),
        lambda: packs.bill("in_p", START, one(), subscription=None, billing_reason="manual"),
        lambda: packs.refund("in_p", 500, START + HOUR),
    ]
    for index in order:
        reports[index]()
        if index < 2:
            reports[index]()
    assert packs.balance == 375
    assert fetch_one(packs.admin, "select count(*) as purchases from billing.pack_purchases") == {
        "purchases": 1
    }


def test_session_and_its_invoice_at_once_give_the_pack_once(database: Database, packs: Shop) -> None:
    with database.connect("billing_worker") as first, database.connect("billing_worker") as second:
        shops = [Shop.__new__(Shop), Shop.__new__(Shop)]
        for each, conn in zip(shops, (first, second), strict=True):
            each.__dict__.update(packs.__dict__, worker=conn)
        outcomes = at_once(
            [
                lambda: buy(shops[0], stripe_invoice_id="in_p") and None,
                lambda: shops[1].bill("in_p", START, one(), subscription=None, billing_reason="manual"),
            ]
        )
    assert outcomes == [None, None]
    assert packs.balance == CREDITS


def carry(shop: Shop, credits: int) -> None:
    """So many of the plan's 100 credits are spent when Stripe credits all of its time."""
    shop.bill("in_plan", START, of("plan", 1000, START, JULY, "il_plan"))
    shop.spend(credits)
    credited = of("plan", -1000, START, JULY, is_proration=True, credited_line_ids=["il_plan"])
    shop.bill("in_left", START, credited)
    assert (shop.balance, shop.carried) == (0, credits)


@pytest.mark.parametrize("order", list(permutations(range(2))), ids=str)
def test_pack_on_an_invoice_gives_less_for_what_is_carried_in_every_order(
    packs: Shop, order: tuple[int, ...]
) -> None:
    carry(packs, 60)
    reports = [
        lambda: buy(packs, stripe_invoice_id="in_p", stripe_payment_intent_id="pi_in_p"),
        lambda: packs.bill("in_p", START, one(), subscription=None, billing_reason="manual"),
    ]
    for index in order:
        reports[index]()
    assert (packs.balance, packs.carried) == (CREDITS - 60, 0)


def test_pack_without_an_invoice_and_a_free_one_give_all_whatever_is_carried(packs: Shop) -> None:
    carry(packs, 60)
    buy(packs)
    packs.bill("in_free", START, one(discount=2000), subscription=None, billing_reason="manual")
    assert (packs.balance, packs.carried) == (2 * CREDITS, 60)


# Payments that come later


@pytest.mark.parametrize(("received", "credits"), [(2000, 500), (1000, 250), (1, 0), (1999, 499)])
def test_later_capture_gives_what_was_captured(packs: Shop, received: int, credits: int) -> None:
    buy(packs, payment_status="unpaid")
    assert packs.balance == 0
    for _ in range(2):
        capture(packs, received)
        buy(packs, payment_status="unpaid")
    assert packs.balance == credits


def test_session_that_is_read_as_paid_before_its_capture_in_part_gives_the_part(packs: Shop) -> None:
    buy(packs, payment_status="paid", at=NOON)
    capture(packs, 1000)
    assert packs.balance == CREDITS // 2


def test_bank_debit_that_arrives_gives_the_pack_once(packs: Shop) -> None:
    buy(packs, payment_status="unpaid")
    buy(packs, payment_status="paid", at=NOON)
    capture(packs)
    assert packs.balance == CREDITS


def test_refund_of_a_captured_part_is_measured_against_it(packs: Shop) -> None:
    buy(packs, payment_status="unpaid")
    capture(packs, 1000)
    packs.refund("1", 500, NOON + HOUR)
    assert packs.balance == 125


# Amounts that the customer chooses


@pytest.mark.parametrize(
    ("currency", "per_unit", "amount", "credits"),
    [
        ("usd", "10", 500, 50),
        ("usd", "10", 1234, 123),
        ("usd", "0.5", 199, 0),
        ("usd", "0.5", 200, 1),
        ("usd", "2.5", 999, 24),
        ("jpy", "10", 500, 5000),
        ("jpy", "0.1", 505, 50),
        ("kwd", "10", 1500, 15),
    ],
)
@pytest.mark.parametrize("way", ["session", "invoice"])
def test_amount_that_the_customer_chose_gives_credits_by_the_whole_unit(
    shop: Shop, currency: str, per_unit: str, amount: int, credits: int, way: str
) -> None:
    pack(
        shop.worker,
        has_custom_amount=True,
        unit_amount=None,
        currency=currency,
        metadata={"credits_per_unit": per_unit},
    )
    if way == "session":
        buy(shop, bought(amount_total=amount), amount_total=amount, currency=currency)
    else:
        paid = one(amount=amount)
        shop.bill("in_p", START, paid, subscription=None, billing_reason="manual", currency=currency)
    assert shop.balance == credits


def test_amount_that_the_customer_chose_without_credits_for_it_is_no_pack(shop: Shop) -> None:
    pack(shop.worker, has_custom_amount=True, unit_amount=None, metadata={"pack_credits": "500"})
    buy(shop, bought(declares_credits=False))
    assert shop.balance == 0


@pytest.mark.parametrize("per_unit", ["0", "-1", "ten", "1e3", ""])
def test_credits_for_a_unit_are_a_number_above_zero(shop: Shop, per_unit: str) -> None:
    with refused("TB017"):
        pack(shop.worker, has_custom_amount=True, unit_amount=None, metadata={"credits_per_unit": per_unit})


# How long


@pytest.mark.parametrize(
    ("after", "ends"),
    [
        ("90 days", START + 90 * DAY),
        ("12 months", datetime(2029, 6, 1, tzinfo=UTC)),
        ("1 year", datetime(2029, 6, 1, tzinfo=UTC)),
        (None, None),
    ],
)
@pytest.mark.parametrize("way", ["session", "invoice"])
def test_pack_expires_so_long_after_the_payment(
    shop: Shop, after: str | None, ends: datetime | None, way: str
) -> None:
    declared = {"pack_credits": "500"} | ({"pack_expires_after": after} if after else {})
    pack(shop.worker, metadata=declared)
    if way == "session":
        buy(shop)
    else:
        shop.bill("in_p", START, one(), subscription=None, billing_reason="manual")
    assert [lot["expires_at"] for lot in shop.lots()] == [ends]
    if ends is not None:
        shop.go_to(ends - HOUR)
        assert shop.available == CREDITS
        shop.go_to(ends + HOUR)
        assert shop.balance == 0


@pytest.mark.parametrize("charge_first", [True, False])
def test_pack_that_is_captured_later_expires_from_its_charge(shop: Shop, charge_first: bool) -> None:
    pack(shop.worker, metadata={"pack_credits": "500", "pack_expires_after": "30 days"})
    charged = {"stripe_payment_intent_id": "pi_1", "charged_at": NOON, "as_of": NOON}
    if charge_first:
        sync_payment(shop.worker, **charged)
    buy(shop)
    if not charge_first:
        sync_payment(shop.worker, **charged)
    assert [lot["expires_at"] for lot in shop.lots()] == [NOON + 30 * DAY]


@pytest.mark.parametrize("after", ["0 days", "90", "a while", "-1 days", "1 hour", "90 days ago"])
def test_expiry_that_cannot_be_read_is_refused_by_name(shop: Shop, after: str) -> None:
    with refused("TB017") as caught:
        pack(shop.worker, metadata={"pack_credits": "500", "pack_expires_after": after})
    assert "pack_expires_after" in str(caught.value)


def test_expiry_that_is_declared_later_changes_nothing_of_what_was_bought(packs: Shop) -> None:
    buy(packs)
    pack(
        packs.worker,
        metadata={"pack_credits": "9", "pack_expires_after": "1 day"},
        as_of=START + timedelta(hours=1),
    )
    buy(packs, at=START + HOUR)
    assert [(lot["amount"], lot["expires_at"]) for lot in packs.lots()] == [(CREDITS, None)]


# Packs that are free


def free_session(shop: Shop, number: int, at: datetime = START, **more: Any) -> None:
    buy(
        shop,
        bought(number, amount_total=0, **more),
        at=at,
        stripe_checkout_session_id=f"cs_{number}",
        payment_status="no_payment_required",
        stripe_payment_intent_id=None,
        amount_total=0,
    )


def test_free_pack_comes_once_for_each_account_product_and_calendar_month(packs: Shop) -> None:
    for number in range(1, 4):
        free_session(packs, number, START + number * DAY)
        packs.bill(
            f"in_{number}",
            START + number * DAY,
            one(f"il_{number}", discount=2000),
            subscription=None,
            billing_reason="manual",
        )
    assert packs.balance == CREDITS
    packs.go_to(JULY + DAY)
    free_session(packs, 4, JULY + DAY)
    assert packs.balance == 2 * CREDITS


def test_free_packs_of_two_products_come_each(packs: Shop) -> None:
    pack(packs.worker, "price_other", stripe_product_id="prod_other", metadata={"pack_credits": "7"})
    free_session(packs, 1)
    free_session(packs, 2, stripe_price_id="price_other")
    assert packs.balance == CREDITS + 7


def test_pack_that_is_paid_for_beside_a_free_one_comes_too(packs: Shop) -> None:
    free_session(packs, 1)
    buy(packs, bought(2), stripe_checkout_session_id="cs_2")
    assert packs.balance == 2 * CREDITS


# Money back


@pytest.mark.parametrize(("returned", "left"), [(1, 500), (1000, 250), (667, 334), (2000, 0), (3000, 0)])
@pytest.mark.parametrize("way", ["session", "invoice"])
def test_refund_takes_its_share_rounded_down(packs: Shop, returned: int, left: int, way: str) -> None:
    if way == "session":
        buy(packs, stripe_payment_intent_id="pi_in_p")
    else:
        packs.bill("in_p", START, one(), subscription=None, billing_reason="manual")
    packs.refund("in_p", returned, START + HOUR)
    assert packs.balance == left
    packs.refund("in_p", returned, START + HOUR, status="failed")
    assert packs.balance == CREDITS


def test_credit_note_on_the_pack_s_line_leaves_the_plan(packs: Shop) -> None:
    packs.bill("in_0", START, of("plan", 900, START, JULY, "il_plan"), one())
    packs.note("in_0", 1000, START + HOUR, lines={"il_pack": 1000})
    assert {lot["source"]: lot["remaining"] for lot in packs.lots()} == {
        "stripe.monthly_allocation": 100,
        "stripe.pack": 250,
    }
    packs.note("in_0", 900, START + HOUR, "cn_2", lines={"il_plan": 900})
    assert packs.balance == 250
    packs.note("in_0", 1000, START + HOUR, lines={"il_pack": 1000}, status="void")
    assert packs.balance == 500


def test_refund_beside_a_plan_is_spread_over_both(packs: Shop) -> None:
    packs.bill("in_0", START, of("plan", 2000, START, JULY, "il_plan"), one())
    packs.refund("in_0", 2000, START + HOUR)
    assert packs.balance == 300


def test_what_was_spent_of_one_is_made_up_for_by_the_other_before_a_shortfall(packs: Shop) -> None:
    packs.bill("in_0", START, of("plan", 2000, START, JULY, "il_plan"), one())
    packs.spend(100)  # of the plan
    packs.refund("in_0", 2000, START + HOUR)
    assert packs.balance == 200


def test_later_packs_of_a_customer_are_not_touched(packs: Shop) -> None:
    buy(packs, stripe_payment_intent_id="pi_a")
    buy(packs, bought(2), stripe_checkout_session_id="cs_2", stripe_payment_intent_id="pi_b")
    packs.spend(CREDITS)
    packs.refund("a", 2000, START + HOUR)
    assert packs.balance == CREDITS


def test_payment_of_a_pack_s_invoice_may_be_reported_after_its_refund(packs: Shop) -> None:
    invoice = {"subscription": None, "billing_reason": "manual", "amount_paid": 0}
    packs.bill("in_p", START, one(), **invoice)
    packs.refund("in_p", 1000, START + HOUR)
    assert packs.balance == CREDITS
    sync_invoice_payment(
        packs.worker, stripe_invoice_id="in_p", stripe_payment_intent_id="pi_in_p", amount_paid=2000
    )
    assert packs.balance == 250


def test_nothing_of_a_subscription_is_a_pack(packs: Shop) -> None:
    packs.state(START, item(stripe_price_id="price_plan"))
    packs.bill("in_0", START, of("plan", 900, START, JULY))
    assert packs.keys("pack") == []


# A price that becomes a pack


def pay(shop: Shop, way: str, at: datetime) -> None:
    """The price, which its own metadata does not declare as a pack."""
    if way == "invoice":
        shop.bill("in_1", at, one(), subscription=None)
    else:
        buy(shop, bought(declares_credits=False), at=at)


@pytest.mark.parametrize("by", ["price", "product"])
@pytest.mark.parametrize("way", ["invoice", "session"])
def test_editing_a_price_gives_nothing_for_what_was_paid_before(shop: Shop, way: str, by: str) -> None:
    sync_product(shop.worker)
    pack(shop.worker, metadata={})
    pay(shop, way, START)
    if by == "price":
        pack(shop.worker, as_of=NOON)
    else:
        sync_product(shop.worker, metadata={"pack_credits": str(CREDITS)}, as_of=NOON)
    pay(shop, way, START)
    assert fetch(shop.admin, "select detail from billing.ungranted_payments") == []
    shop.admin.execute("select billing.recalculate_account(%s)", [shop.account])
    assert shop.balance == 0


@pytest.mark.parametrize("by", ["price", "product"])
@pytest.mark.parametrize("way", ["invoice", "session"])
def test_what_was_paid_since_counts_even_if_the_edit_is_reported_later(shop: Shop, way: str, by: str) -> None:
    sync_product(shop.worker)
    pack(shop.worker, metadata={})
    pay(shop, way, NOON + HOUR)
    assert shop.balance == 0
    if by == "price":
        pack(shop.worker, as_of=NOON)
    else:
        sync_product(shop.worker, metadata={"pack_credits": str(CREDITS)}, as_of=NOON)
    assert shop.balance == CREDITS


@pytest.mark.parametrize("way", ["invoice", "session"])
def test_product_that_arrives_after_its_price_has_always_declared_it(shop: Shop, way: str) -> None:
    pack(shop.worker, metadata={})
    pay(shop, way, START)
    sync_product(shop.worker, metadata={"pack_credits": str(CREDITS)}, as_of=NOON)
    assert shop.balance == CREDITS


def test_only_what_was_a_pack_counts_in_a_session_of_several(packs: Shop) -> None:
    pack(packs.worker, "price_later", metadata={})
    items = (bought(), bought(2, stripe_price_id="price_later", declares_credits=False))
    pack(packs.worker, "price_later", as_of=NOON)
    buy(packs, *items, at=START, amount_total=4000)
    assert packs.balance == CREDITS


def test_edited_price_makes_no_buyer_of_a_visitor(shop: Shop) -> None:
    pack(shop.worker, metadata={})
    pack(shop.worker, as_of=NOON)
    assert buy(shop, bought(declares_credits=False), at=START, stripe_customer_id=None) == "applied"
