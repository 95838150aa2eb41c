"""What paid for a pack is reported by several events: in every order of them the rows are the same."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import psycopg
import pytest

from tests.sql.calls import Row, sync_invoice_payment, sync_payment, sync_refund
from tests.sql.races import blocked
from tests.sql.shop import DAY, JULY, NOON, START, Shop, credit, of
from tests.sql.test_pack_purchases import buy, capture, one
from tests.sql.test_packs import pack
from tests.support import Database
from tests.worker.test_lives import ROWS

Report = Callable[[Shop], Any]
CAPTURED = NOON
REFUNDED = NOON + DAY


def completed(payment_status: str = "paid", **more: Any) -> Report:
    """`checkout.session.completed`, with the session as it was read."""
    return lambda shop: buy(shop, payment_status=payment_status, **more)


def charged(**more: Any) -> Report:
    """`charge.succeeded`, or `charge.captured` where its time is later."""
    return lambda shop: sync_payment(shop.worker, **{"charged_at": START, "as_of": START} | more)


def received(amount: int = 2000) -> Report:
    """`payment_intent.succeeded`."""
    return lambda shop: capture(shop, amount, CAPTURED)


def refunded(amount: int, **more: Any) -> Report:
    """`refund.created`."""
    return lambda shop: sync_refund(
        shop.worker, **{"amount": amount, "refunded_at": REFUNDED, "as_of": REFUNDED} | more
    )


def billed(*lines: Row) -> Report:
    """`invoice.paid`."""
    return lambda shop: shop.bill(
        "in_p", START, *lines, subscription=None, billing_reason="manual", amount_paid=0
    )


def settled(shop: Shop) -> None:
    """`invoice_payment.paid`."""
    sync_invoice_payment(
        shop.worker, stripe_invoice_id="in_p", stripe_payment_intent_id="pi_1", amount_paid=2000
    )


# The pack of all others expires, by when it was paid.
LASTING = ("bank debit", "free")
BY_INVOICE = {"stripe_invoice_id": "in_p"}
SHAPES: dict[str, tuple[int, list[Report]]] = {
    "card": (375, [completed(), received(), charged(), refunded(500)]),
    "refund that names the charge alone": (
        375,
        [completed(), received(), charged(), refunded(500, stripe_payment_intent_id=None)],
    ),
    "bank debit": (
        375,
        [
            completed("unpaid"),
            completed(at=CAPTURED),
            received(),
            charged(charged_at=CAPTURED, as_of=CAPTURED),
            refunded(500),
        ],
    ),
    "later capture": (
        375,
        [completed("unpaid"), charged(), charged(as_of=CAPTURED), received(), refunded(500)],
    ),
    "capture in part": (
        125,
        [completed("unpaid"), charged(), charged(as_of=CAPTURED), received(1000), refunded(500)],
    ),
    "capture in part of a session that was read before and after": (
        250,
        [completed("unpaid"), completed(at=CAPTURED), charged(), received(1000)],
    ),
    "capture of next to nothing": (0, [completed("unpaid"), completed(at=CAPTURED), charged(), received(1)]),
    "free": (500, [completed("no_payment_required", amount_total=0, stripe_payment_intent_id=None)] * 2),
    "session with an invoice": (
        375,
        [completed(**BY_INVOICE), billed(one()), settled, charged(), refunded(500)],
    ),
}


def rows_after(shop: Shop, reports: list[Report]) -> tuple[int, list[Any]]:
    """The balance and the rows that the reports end in; nothing of it stays."""
    balance = 0
    found: list[Any] = []
    with shop.admin.transaction():
        for report in reports:
            report(shop)
        shop.admin.execute("set constraints all immediate")
        found = [
            # When to look next at the balance may be too early.
            (what, name, facts[:-1] if what == "balance" else facts)
            for what, name, facts in shop.admin.execute(ROWS).fetchall()
        ]
        balance = next(facts[0] for what, _, facts in found if what == "balance")
        raise psycopg.Rollback
    return balance, found


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_reports_of_a_payment_end_in_the_same_rows_in_every_order(shop: Shop, shape: str) -> None:
    shop.go_to(REFUNDED + DAY)
    shop.worker = shop.app = shop.admin
    expiry = {} if shape in LASTING else {"pack_expires_after": "90 days"}
    pack(shop.worker, metadata={"pack_credits": "500"} | expiry)
    expected, reports = SHAPES[shape]
    ends = [
        (order, rows_after(shop, [reports[n] for n in order])) for order in permutations(range(len(reports)))
    ]
    for order, (balance, rows) in ends:
        assert (order, balance, rows) == (order, expected, ends[0][1][1])


@pytest.mark.parametrize("waits", ["capture", "session"])
def test_capture_and_an_older_reading_of_its_session_at_once_give_the_pack(
    database: Database, shop: Shop, waits: str
) -> None:
    """One worker has read the session before the capture and writes it after; another reports the capture."""
    pack(shop.worker)
    first, second = (
        (received(), completed("unpaid")) if waits == "session" else (completed("unpaid"), received())
    )
    with database.connect("billing_worker") as other:
        there = replace(shop, worker=other)
        shop.worker.execute("begin")
        first(shop)
        with blocked(other, shop.admin, lambda: second(there)) as waiting:
            shop.worker.execute("commit")
            waiting.result(20)
    assert shop.balance == 500


def test_later_credits_that_are_owed_come_off_a_pack_on_an_invoice_in_every_order(shop: Shop) -> None:
    """A session's invoice brings the pack, whichever of the two is reported first."""
    shop.sell("plan", 100)
    pack(shop.worker)
    shop.bill("in_0", START, of("plan", 1000, START, JULY))
    shop.spend(100)
    shop.bill("in_1", NOON, credit("plan", -500, NOON, JULY))
    assert shop.carried == 50
    shop.worker = shop.app = shop.admin
    reports = [completed(**BY_INVOICE), billed(one()), settled]
    for order in permutations(reports):
        assert rows_after(shop, list(order))[0] == 450
