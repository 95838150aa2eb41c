"""A card that is seen after its credits were granted: what is unspent is taken back."""

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    Connection,
    balance,
    call,
    capture,
    discrepancies,
    entries,
    fetch_one,
    grant,
    hold,
    lots,
    refund,
    reinstate,
    release,
    revoke,
    spend,
    sync_price,
    value,
)
from tests.sql.people import INITIAL, Person, held, held_id, review, row_of


def test_only_what_is_unspent_is_taken_back_and_given_back(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    spend(app, eve.account_id, 30)
    eve.attach("visa", FEBRUARY)
    assert balance(conn, eve.account_id) == 70
    ada.attach("visa", JANUARY)
    assert balance(conn, eve.account_id) == 0
    revocation = fetch_one(conn, "select requested, taken, shortfall from billing.credit_revocations")
    assert revocation == {"requested": INITIAL, "taken": 70, "shortfall": 30}
    assert held(conn, eve) == [row_of(eve, ada, "visa")]

    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 70
    assert [(lot["amount"], lot["remaining"]) for lot in lots(conn, eve.account_id)] == [(INITIAL, 70)]
    assert discrepancies(conn) == []


def test_what_was_spent_entirely_is_still_held_up_to_the_administrators(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    spend(app, eve.account_id, INITIAL)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    assert held(conn, eve) == [row_of(eve, ada, "visa")]
    review(app, held_id(conn, eve), "approve")
    assert entries(conn, eve.account_id) == [("grant", INITIAL), ("spend", -INITIAL)]
    assert discrepancies(conn) == []


def test_credits_that_a_hold_has_pinned_stay_with_it_until_it_is_released(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    held_credits = hold(app, eve.account_id, 60)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    assert balance(conn, eve.account_id) == 60
    capture(app, held_credits["id"], 20)
    release(app, held_credits["id"])
    assert balance(conn, eve.account_id) == 0  # what comes back is under review as well
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 80
    assert discrepancies(conn) == []


def test_what_was_taken_back_by_hand_is_not_taken_again(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.pay("price_2")
    part, whole = lots(conn, eve.account_id)
    revoke(app, part["id"], 60)
    revoke(app, whole["id"])
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    assert held(conn, eve) == [row_of(eve, ada, "visa", amount=40)]
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 40
    assert discrepancies(conn) == []


def test_what_somebody_gave_back_by_hand_is_not_given_again(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    reinstate(app, value(conn, "select revocation_id from billing.held_credits"), 30)
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == INITIAL
    assert discrepancies(conn) == []


def test_held_credits_go_over_to_an_earlier_paid_period(
    conn: Connection, app: Connection, worker: Connection, ada: Person, eve: Person
) -> None:
    sync_price(worker, stripe_price_id="price_3", metadata={"initial_credits": "30"})
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    february = {"period_start": FEBRUARY, "period_end": MARCH}
    eve.pay(stripe_invoice_id="in_february", line=february)
    eve.pay("price_3", stripe_invoice_id="in_january")
    eve.pay(stripe_invoice_id="in_february", line=february)
    row = fetch_one(conn, "select amount, stripe_invoice_id, stripe_price_id from billing.held_credits")
    assert row == {"amount": 30, "stripe_invoice_id": "in_january", "stripe_price_id": "price_3"}
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 30


@pytest.mark.parametrize(
    ("spent", "by_hand", "earlier_amount", "left"),
    [(0, 0, 30, 30), (20, 0, 30, 10), (50, 0, 30, 0), (20, 0, 130, 110), (0, 20, 30, 30), (20, 20, 130, 110)],
)
def test_credits_that_were_taken_back_go_over_to_an_earlier_paid_period(
    conn: Connection,
    app: Connection,
    worker: Connection,
    ada: Person,
    eve: Person,
    spent: int,
    by_hand: int,
    earlier_amount: int,
    left: int,
) -> None:
    sync_price(worker, stripe_price_id="price_3")
    eve.pay(stripe_invoice_id="in_february", line={"period_start": FEBRUARY, "period_end": MARCH})
    if spent:
        spend(app, eve.account_id, spent)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    (lot,) = lots(conn, eve.account_id)
    of_item = {"stripe_subscription_item_id": lot["stripe_subscription_item_id"]}
    eve.pay("price_3", stripe_invoice_id="in_january", line=of_item)
    call(
        conn,
        "_grant_once",
        account_id=eve.account_id,
        kind="initial",
        amount=earlier_amount,
        stripe_invoice_id="in_january",
        stripe_price_id="price_3",
        description="Initial",
        **{
            name: lot[name]
            for name in ("idempotency_key", "source", "reference_id", "stripe_subscription_item_id")
        },
    )
    if by_hand:
        reinstate(app, value(conn, "select revocation_id from billing.held_credits"), by_hand)
    assert balance(conn, eve.account_id) == by_hand
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == left
    paid_by = {(lot["stripe_invoice_id"], lot["stripe_price_id"]) for lot in lots(conn, eve.account_id)}
    assert paid_by == {("in_january", "price_3")}
    assert discrepancies(conn) == []


def test_a_closed_account_is_left_as_it_is(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.attach("visa", FEBRUARY)
    call(app, "close_account", account_id=eve.account_id, reason="left", actor="eve")
    ada.attach("visa", JANUARY)
    ada.pay()
    assert balance(conn, ada.account_id) == INITIAL
    assert held(conn, eve) == []
    assert discrepancies(conn) == []


def test_a_refund_of_what_was_spent_joins_what_is_held_and_comes_back_with_it(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    grant(app, eve.account_id, 10)
    eve.pay()
    spent = spend(app, eve.account_id, 105)
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    assert balance(conn, eve.account_id) == 0
    refund(app, spent["id"], 50)
    assert balance(conn, eve.account_id) == 0
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 55
    assert discrepancies(conn) == []
