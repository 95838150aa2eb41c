"""Money back → credits back: shares of the total, by line, what is to come first, unspent before a shortfall."""

from datetime import datetime
from fractions import Fraction
from itertools import permutations
from math import floor

import pytest

from tests.sql.calls import (
    balances,
    fetch,
    fetch_one,
    hold,
    item,
    refund,
    reinstate,
    release,
    revoke,
    sync_invoice_payment,
    value,
)
from tests.sql.races import at_once
from tests.sql.shop import (
    AUGUST,
    DAY,
    HOUR,
    JULY,
    NOON,
    SEPTEMBER,
    START,
    YEAR_END,
    Shop,
    credit,
    of,
    rest,
)
from tests.support import Database

PRICE = 3000
LATER = START + HOUR


@pytest.fixture
def month(shop: Shop) -> Shop:
    """A month of 300 credits for 30.00."""
    shop.sell("plan", 300)
    shop.bill("in_0", START, of("plan", PRICE, START, JULY, "il_0"))
    return shop


@pytest.fixture
def year(shop: Shop) -> Shop:
    """A year of 100 a month for 120.00."""
    shop.sell("year", 100, interval="year")
    shop.state(
        START, item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    )
    shop.bill("in_0", START, of("year", 12_000, START, YEAR_END, "il_0"))
    return shop


@pytest.fixture
def both(shop: Shop) -> Shop:
    """One payment: 70 credits for 14.00 and 30 for 6.00."""
    shop.sell("plan", 70)
    shop.sell("extra", 30)
    shop.bill(
        "in_0",
        START,
        of("plan", 1400, START, JULY, "il_plan"),
        of("extra", 600, START, JULY, "il_extra", stripe_subscription_item_id="si_2"),
    )
    return shop


@pytest.mark.parametrize("change", ["il_a", "il_z"])
def test_initial_credits_go_with_the_line_that_brought_them(shop: Shop, change: str) -> None:
    """And not with a change of the same item on the invoice, whose unused months go first."""
    shop.sell("year", 100, interval="year")
    shop.sell("plan", 100, initial_credits=50)
    shop.state(
        START, item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    )
    shop.bill("in_0", START, of("year", 12_000, START, YEAR_END, "il_0"))
    shop.bill(
        "in_1",
        NOON,
        rest("year", 12_000, START + DAY, YEAR_END, name=change, quantity=2),
        of("plan", 1000, NOON, NOON + 30 * DAY, "il_plan"),
    )
    before = shop.balance
    shop.refund("in_1", 6500, NOON + DAY)
    assert before - shop.balance == (50 + 100) // 2


@pytest.mark.parametrize("first", ["earlier", "later"])
def test_months_that_were_given_back_take_nothing_of_initial_credits_of_an_earlier_period(
    shop: Shop, first: str
) -> None:
    """The month was given back in part and then refunded: the rest is carried, whichever period is told first."""
    shop.sell("plan", 300, initial_credits=50)
    shop.state(START, item(current_period_start=JULY, current_period_end=AUGUST))
    free, paid = of("plan", 0, START, JULY, "il_0"), of("plan", PRICE, JULY, AUGUST, "il_1")
    if first == "earlier":
        shop.bill("in_0", START, free)
    shop.bill("in_1", JULY, paid)
    shop.bill("in_2", JULY, credit("plan", -1000, AUGUST - 10 * DAY, AUGUST))
    shop.refund("in_1", PRICE, JULY)
    if first == "later":
        shop.bill("in_0", START, free)
    assert (shop.balance, shop.carried) == (300 + 50, -(-300 * 10 // 31))


def test_refund_that_fails_leaves_no_later_credits_less_for_initial_ones(shop: Shop) -> None:
    shop.sell("plan", 300, initial_credits=50)
    shop.bill("in_0", START, of("plan", PRICE, START, JULY, "il_0"))
    shop.bill("in_1", START, credit("plan", -1000, JULY - 10 * DAY, JULY))
    shop.refund("in_0", PRICE, START)
    assert (shop.balance, shop.carried) == (0, 100)
    shop.bill("in_2", START, of("plan", PRICE, START, JULY, "il_2", stripe_subscription_item_id="si_2"))
    assert (shop.balance, shop.carried) == (200, 0)
    shop.refund("in_0", PRICE, START, status="failed", as_of=LATER)
    assert (shop.balance, shop.carried) == (300 + 50 - 100 + 300, 0)


@pytest.mark.parametrize("first", ["earlier", "later"])
def test_dispute_of_a_later_period_freezes_no_initial_credits_of_an_earlier_one(
    shop: Shop, first: str
) -> None:
    shop.sell("plan", 300, initial_credits=50)
    shop.state(START, item(current_period_start=JULY, current_period_end=AUGUST))
    free, paid = of("plan", 0, START, JULY, "il_0"), of("plan", PRICE, JULY, AUGUST, "il_1")
    if first == "earlier":
        shop.bill("in_0", START, free)
    shop.bill("in_1", JULY, paid)
    shop.dispute("in_1", PRICE, JULY)
    if first == "later":
        shop.bill("in_0", START, free)
    assert (shop.balance, shop.available) == (650, 350)


# Before the subscription is known


@pytest.mark.parametrize("returned", [3000, 12_000])
def test_money_back_before_the_subscription_of_a_year_arrives_counts(shop: Shop, returned: int) -> None:
    shop.sell("year", 100, interval="year")
    shop.bill("in_0", START, of("year", 12_000, START, YEAR_END, "il_0"))
    shop.refund("in_0", returned, LATER)
    assert shop.balance == 0
    shop.state(
        START, item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    )
    assert shop.balance == (100 if returned < 12_000 else 0)
    shop.go_to(YEAR_END)
    assert shop.balance == 1200 - 1200 * returned // 12_000


def test_dispute_before_the_subscription_of_a_year_arrives_freezes(shop: Shop) -> None:
    shop.sell("year", 100, interval="year")
    shop.bill("in_0", START, of("year", 12_000, START, YEAR_END, "il_0"))
    shop.dispute("in_0", 12_000, LATER)
    shop.state(
        START, item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    )
    assert (shop.balance, shop.available) == (100, 0)


# Shares


@pytest.mark.parametrize("returned", [1, 9, 10, 100, 999, 1000, 1001, 2000, 2999, 3000, 4000])
def test_share_of_the_total_is_gone_rounded_down(month: Shop, returned: int) -> None:
    month.refund("in_0", returned, LATER)
    assert month.balance == 300 - floor(Fraction(300 * min(returned, PRICE), PRICE))


@pytest.mark.parametrize("parts", [[1000, 1000, 1000], [1, 2999], [1000, 500, 1500]])
def test_thirds_and_other_parts_add_up_to_all(month: Shop, parts: list[int]) -> None:
    so_far = 0
    for number, part in enumerate(parts):
        so_far += part
        month.refund("in_0", part, LATER + number * HOUR, f"re_{number}")
        assert month.balance == 300 - floor(Fraction(300 * so_far, PRICE))
    assert month.balance == 0


def test_customer_balance_and_card_are_one_price(shop: Shop) -> None:
    shop.sell("plan", 300)
    shop.bill("in_0", START, of("plan", PRICE, START, JULY), from_balance=2000)
    shop.refund("in_0", 1000, LATER)
    assert shop.balance == 200


def test_note_before_the_payment_is_no_part_of_the_price(shop: Shop) -> None:
    """15.00 of 30.00 were credited before it was paid: half of the rest is half."""
    shop.sell("plan", 300)
    shop.bill("in_0", START, of("plan", PRICE, START, JULY), amount_paid=1500)
    shop.note("in_0", 0, START, pre_payment_amount=1500)
    assert shop.balance == 300
    shop.refund("in_0", 750, LATER)
    assert shop.balance == 150


def test_payment_of_two_invoices_returns_of_each_its_part(shop: Shop) -> None:
    shop.sell("plan", 300)
    shop.sell("other", 300)
    shop.bill("in_0", START, of("plan", 3000, START, JULY))
    other = of("other", 1000, START, JULY, stripe_subscription_item_id="si_2")
    shop.bill("in_1", START, other, subscription="sub_2", amount_paid=0)
    sync_invoice_payment(
        shop.worker,
        stripe_invoice_payment_id="inpay_1b",
        stripe_invoice_id="in_1",
        stripe_payment_intent_id="pi_in_0",
        amount_paid=1000,
    )
    shop.refund("in_0", 2000, LATER)
    assert shop.balance == 150 + 150


# By line


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ({"il_extra": 600}, 70),
        ({"il_extra": 300}, 85),
        ({"il_plan": 1400}, 30),
        ({"il_plan": 700, "il_extra": 300}, 50),
        ({}, 70),
    ],
)
def test_note_takes_of_the_lines_that_it_names(both: Shop, lines: dict[str, int], left: int) -> None:
    both.note("in_0", sum(lines.values()) or 600, LATER, lines=lines)
    assert both.balance == left
    both.note("in_0", sum(lines.values()) or 600, LATER, lines=lines, status="void")
    assert both.balance == 100


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_refund_is_spread_over_what_notes_left(both: Shop, order: tuple[int, ...]) -> None:
    """Extra is credited whole; half of the other 14.00 is refunded."""
    reports = [
        lambda: both.note("in_0", 600, LATER, lines={"il_extra": 600}),
        lambda: both.refund("in_0", 700, LATER + HOUR),
        lambda: both.again("in_0"),
    ]
    for index in order:
        reports[index]()
        reports[index]()
    assert both.balance == 35


def test_refund_that_belongs_to_a_note_counts_once(both: Shop) -> None:
    named = {"lines": {"il_extra": 600}, "amount_refunded": 600, "stripe_refund_ids": ["re_1"]}
    both.refund("in_0", 600, LATER)
    assert both.balance == 70  # not known yet to be of one line: 30 of all
    both.note("in_0", 600, LATER, **named)
    assert {lot["amount"]: lot["remaining"] for lot in both.lots()} == {70: 70, 30: 0}
    both.refund("in_0", 600, LATER, status="failed")
    assert both.balance == 100


# What has not begun first


def test_months_that_have_not_begun_go_first(year: Shop) -> None:
    """A quarter of 1,200: a share of each of the eleven that are to come."""
    year.refund("in_0", 3000, LATER)
    assert year.balance == 100
    year.go_to(YEAR_END)
    assert year.balance == 900
    amounts = [lot["amount"] for lot in year.lots()]
    assert amounts[0] == 100
    assert all(72 <= amount <= 73 for amount in amounts[1:])


def test_months_that_have_begun_go_once_the_others_are_gone(year: Shop) -> None:
    year.go_to(AUGUST + DAY)
    assert year.balance == 300
    year.refund("in_0", 9000, AUGUST + DAY)
    assert year.balance == 300
    year.refund("in_0", 1500, AUGUST + DAY, "re_2")
    assert year.balance == 150
    year.go_to(YEAR_END)
    assert year.balance == 150


def test_money_that_was_returned_early_spares_what_had_begun_by_then(year: Shop) -> None:
    """Reported after two more months: they had not begun when the money was returned."""
    year.go_to(AUGUST + DAY)
    year.refund("in_0", 11_000, LATER)
    assert year.balance == 100


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_refunds_of_a_year_end_alike_in_every_order(year: Shop, order: tuple[int, ...]) -> None:
    year.go_to(SEPTEMBER + DAY)
    reports = [
        lambda: year.refund("in_0", 2000, NOON),
        lambda: year.refund("in_0", 3000, JULY + DAY, "re_2"),
        lambda: year.refund("in_0", 1000, AUGUST + DAY, "re_3"),
    ]
    for index in order:
        reports[index]()
        year.tick()
    ended = year.balance
    year.go_to(YEAR_END)
    assert year.balance == 600
    # June is whole; July has a share of the first refund, August of two, September of all.
    monthly = [lot["remaining"] for lot in year.lots()]
    assert sum(monthly[:4]) == ended
    assert monthly[0] == 100
    first = 100 - 200 / 11
    second = first * (1 - 300 / (first * 10))
    third = second * (1 - 100 / (second * 9))
    for found, wanted in zip(monthly[1:4], [first, second, third], strict=True):
        assert abs(found - wanted) <= 1


@pytest.mark.parametrize("months", [2, 9])
def test_refund_that_fails_takes_back_what_it_had_made_up_for(shop: Shop, months: int) -> None:
    """A refund of a change also returns a part of what the change had credited."""
    shop.sell("plan", 107)
    shop.sell("year", 107, interval="year")
    shop.state(START)
    shop.bill("in_0", START, of("plan", 1000, START, JULY, "il_0"))
    change, end = START + 4 * DAY, YEAR_END + 4 * DAY
    shop.state(
        change,
        item(stripe_price_id="price_year", current_period_start=change, current_period_end=end),
        billing_cycle_anchor=change,
    )
    shop.bill(
        "in_1",
        change,
        of("year", 10_000, change, end, "il_1"),
        credit("plan", -886, change, JULY, credited_line_ids=["il_0"], credited_invoice_id="in_0"),
    )
    now = change + months * 31 * DAY
    shop.go_to(now)
    before = shop.balance
    shop.refund("in_1", 1000, now)
    assert shop.balance > before
    shop.refund("in_1", 1000, now, status="failed", as_of=now + HOUR)
    assert shop.balance == before


def test_refund_that_fails_brings_later_months_back(year: Shop) -> None:
    year.refund("in_0", 12_000, LATER)
    year.go_to(AUGUST + DAY)
    assert year.balance == 0
    year.refund("in_0", 12_000, LATER, status="failed")
    assert year.balance == 300
    year.go_to(YEAR_END)
    assert year.balance == 1200


# Unspent before a shortfall


@pytest.mark.parametrize(
    ("spent", "returned", "left", "shortfall"),
    [(40, 1000, 10, 0), (50, 1000, 0, 0), (60, 1000, 0, 10), (100, 2000, 0, 100), (100, 20, 0, 1)],
)
def test_all_that_a_payment_granted_makes_up_before_a_shortfall(
    both: Shop, spent: int, returned: int, left: int, shortfall: int
) -> None:
    both.spend(spent)
    both.refund("in_0", returned, LATER)
    assert both.balance == left
    assert (
        value(both.admin, "select coalesce(sum(shortfall), 0) from billing.credit_revocations") == shortfall
    )


@pytest.mark.parametrize(
    ("policy", "balance", "debt", "withheld"),
    [("clamp_and_record", 0, 0, 0), ("allow_negative", -50, 50, 0), ("block_future_grants", 0, 0, 50)],
)
def test_shortfall_follows_the_policy_and_goes_when_the_money_is_back(
    both: Shop, policy: str, balance: int, debt: int, withheld: int
) -> None:
    both.admin.execute("update billing.settings set shortfall_policy = %s", [policy])
    both.spend(100)
    both.refund("in_0", 1000, LATER)
    row = balances(both.admin, both.account)
    assert (both.balance, row["debt"], row["withheld"]) == (balance, debt, withheld)
    both.refund("in_0", 1000, LATER, status="failed")
    row = balances(both.admin, both.account)
    assert (both.balance, row["debt"], row["withheld"]) == (0, 0, 0)
    both.refund("in_0", 1000, LATER, "re_2")
    row = balances(both.admin, both.account)
    assert (both.balance, row["debt"], row["withheld"]) == (balance, debt, withheld)


def test_shortfall_is_recorded_again_when_the_money_is_returned_again(month: Shop) -> None:
    month.spend(100)
    for number in range(3):
        month.refund("in_0", PRICE, LATER + number * HOUR, f"re_{number}")
        assert month.balance == 0
        recorded = (
            "select shortfall - voided as lacks from billing.credit_revocations order by id desc limit 1"
        )
        assert fetch_one(month.admin, recorded) == {"lacks": 100}
        month.refund("in_0", PRICE, LATER + number * HOUR, f"re_{number}", status="failed")
        assert month.balance == 200


def test_what_comes_back_of_a_spend_is_taken_as_far_as_it_is_lacking(month: Shop) -> None:
    spent = month.spend(250)
    month.refund("in_0", 2000, LATER)  # 200 are gone, of which 50 were free
    assert month.balance == 0
    refund(month.app, spent["id"], 200)
    assert month.balance == 50
    month.refund("in_0", 2000, LATER, status="failed")
    assert month.balance == 250


def test_what_is_released_of_a_hold_is_taken_as_far_as_it_is_lacking(month: Shop) -> None:
    held = hold(month.app, month.account, 250)
    month.refund("in_0", 2000, LATER)
    assert (month.balance, month.available) == (250, 0)
    release(month.app, held["id"])
    assert (month.balance, month.available) == (100, 100)


def test_what_a_person_took_or_gave_back_stays_so(month: Shop) -> None:
    (lot,) = month.lots()
    revoked = revoke(month.app, lot["id"], 120)
    month.refund("in_0", 1500, LATER)
    assert month.balance == 300 - 120 - 150
    month.refund("in_0", 1500, LATER, status="failed")
    assert month.balance == 180
    reinstate(month.app, revoked["id"])
    assert month.balance == 300


def test_half_credited_and_half_refunded_leave_nothing(month: Shop) -> None:
    month.go_to(NOON)
    month.bill("in_1", NOON, credit("plan", -1500, NOON, JULY, credited_line_ids=["il_0"]))
    assert month.balance == 150
    month.refund("in_0", 1500, NOON + HOUR)
    assert (month.balance, month.carried) == (0, 0)


# Disputes


def frozen(shop: Shop) -> int:
    return balances(shop.admin, shop.account)["held"]


def test_dispute_freezes_across_what_its_payment_granted(both: Shop) -> None:
    both.dispute("in_0", 2000, LATER)
    assert (both.balance, both.available, frozen(both)) == (100, 0, 100)
    both.dispute("in_0", 2000, LATER + HOUR, "won")
    assert (both.balance, both.available, frozen(both)) == (100, 100, 0)


@pytest.mark.parametrize(
    ("amount", "spent", "free"), [(1000, 0, 50), (1000, 40, 10), (1000, 60, 0), (200, 95, 0)]
)
def test_dispute_freezes_what_would_go_as_far_as_it_is_unspent(
    both: Shop, amount: int, spent: int, free: int
) -> None:
    if spent:
        both.spend(spent)
    both.dispute("in_0", amount, LATER)
    assert (both.balance, both.available) == (100 - spent, free)
    both.dispute("in_0", amount, LATER + HOUR, "lost")
    assert (both.balance, both.available, frozen(both)) == (free, free, 0)


def test_what_comes_back_of_a_spend_is_frozen_too(both: Shop) -> None:
    spent = both.spend(80)
    both.dispute("in_0", 1000, LATER)
    assert (both.balance, both.available) == (20, 0)
    refund(both.app, spent["id"], 50)
    assert (both.balance, both.available) == (70, 20)
    both.dispute("in_0", 1000, LATER + HOUR, "won")
    assert (both.balance, both.available) == (70, 70)


def test_credits_of_other_payments_are_not_frozen(both: Shop) -> None:
    both.bill("in_1", JULY, of("plan", 1400, JULY, AUGUST), billing_reason="subscription_cycle")
    both.dispute("in_0", 2000, JULY)
    assert (both.balance, both.available) == (170, 70)


def test_months_of_a_disputed_year_wait_and_come_at_once_when_it_is_won(year: Shop) -> None:
    year.go_to(NOON)
    year.dispute("in_0", 12_000, NOON)
    year.go_to(AUGUST + DAY)
    assert (year.balance, year.available) == (100, 0)
    year.dispute("in_0", 12_000, AUGUST + DAY, "won")
    assert (year.balance, year.available) == (300, 300)


def test_months_of_a_year_that_is_lost_never_come(year: Shop) -> None:
    year.go_to(NOON)
    year.dispute("in_0", 12_000, NOON)
    year.dispute("in_0", 12_000, NOON + DAY, "lost")
    year.go_to(YEAR_END)
    assert year.balance == 0


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_returns_of_every_kind_end_alike_in_every_order(both: Shop, order: tuple[int, ...]) -> None:
    """20 of 20.00 credited on a line, a refund that fails, 3.00 refunded, 5.00 lost: of 14.00 that were left, 8.00."""
    both.spend(10)

    def disputed() -> None:
        both.dispute("in_0", 500, LATER)
        both.dispute("in_0", 500, LATER + HOUR, "lost")

    def failed() -> None:
        both.refund("in_0", 100, LATER, "re_f", status="pending")
        both.refund("in_0", 100, LATER, "re_f", status="failed")

    reports = [
        lambda: both.note("in_0", 600, LATER, lines={"il_extra": 600}),
        lambda: both.refund("in_0", 300, LATER),
        disputed,
        failed,
    ]
    for index in order:
        reports[index]()
    left = 100 - floor(30 + 70 * Fraction(800, 1400)) - 10
    assert (both.balance, both.available) == (left, left)


def test_returns_at_once_by_several_workers_all_count(database: Database, both: Shop) -> None:
    calls = [
        lambda shop: shop.note("in_0", 600, LATER, lines={"il_extra": 600}),
        lambda shop: shop.refund("in_0", 350, LATER),
        lambda shop: shop.refund("in_0", 350, LATER, "re_2"),
        lambda shop: shop.dispute("in_0", 700, LATER, "lost"),
    ]
    connections = [database.connect("billing_worker") for _ in calls]
    try:
        shops = []
        for conn in connections:
            shops.append(Shop.__new__(Shop))
            shops[-1].__dict__.update(both.__dict__, worker=conn)
        outcomes = at_once(
            [lambda each=each, one=one: one(each) for each, one in zip(shops, calls, strict=True)]
        )
    finally:
        for conn in connections:
            conn.close()
    assert outcomes == [None] * 4
    assert both.balance == 0


def test_expired_credits_count_as_unspent(shop: Shop) -> None:
    """Of two months that one payment granted the first has lapsed; half of the price is returned."""
    shop.sell("plan", 100, credits_rollover="none")
    shop.sell("kept", 100)
    shop.bill(
        "in_0",
        START,
        of("plan", 1000, START, JULY),
        of("kept", 1000, START, JULY, stripe_subscription_item_id="si_2"),
    )
    shop.go_to(JULY + DAY)
    assert shop.balance == 100
    shop.refund("in_0", 1000, JULY + DAY)
    # Of each line half is gone: the half of what has lapsed is gone already.
    assert shop.balance == 50


@pytest.mark.parametrize("is_late", [False, True])
def test_what_a_cap_let_lapse_meanwhile_is_given_back_last(shop: Shop, is_late: bool) -> None:
    """Of 100 unspent 20 are gone in the end, and of 80 a cap of 30 is carried into the next month."""
    shop.sell("plan", 100, credits_rollover="cap:30")
    shop.bill("in_0", START, of("plan", 3000, START, JULY, "il_0"))

    def renew() -> None:
        shop.go_to(JULY + HOUR)
        shop.bill("in_1", JULY, of("plan", 3000, JULY, AUGUST), billing_reason="subscription_cycle")

    if is_late:
        renew()
    shop.refund("in_0", 2340, NOON)
    shop.refund("in_0", 600, NOON, "re_2")
    shop.refund("in_0", 2340, NOON, status="failed")
    if not is_late:
        renew()
    assert shop.balance == 130


def test_entitlements_are_proved_after_all_that(both: Shop) -> None:
    both.spend(40)
    both.refund("in_0", 1000, LATER)
    both.note("in_0", 600, LATER, lines={"il_extra": 600})
    assert fetch(both.admin, "select * from billing.entitlement_discrepancies") == []
    assert isinstance(both.lots()[0]["effective_at"], datetime)


def test_what_lapsed_is_counted_once_among_what_is_asked_back(shop: Shop) -> None:
    """100 credits, 60 spent and 40 lapsed. Of 80 % that went back 40 had lapsed and 40 are owed, in any order."""
    shop.sell("plan", 100, credits_rollover="none")
    shop.bill("in_0", START, of("plan", 1000, START, JULY, "il_0"))
    shop.spend(60)
    shop.go_to(JULY)
    shop.refund("in_0", 600, JULY, "re_1")
    shop.refund("in_0", 400, JULY, "re_2")
    shop.refund("in_0", 600, JULY, "re_1", status="failed", as_of=JULY + HOUR)
    shop.admin.execute("update billing.settings set shortfall_policy = 'allow_negative'")
    shop.refund("in_0", 400, JULY + HOUR, "re_3")
    assert shop.balance == -40


def test_nothing_comes_back_while_more_was_spent_than_is_left(both: Shop) -> None:
    """What a note took of one line's credits for another's is not given back as long as those are spent."""
    both.spend(90)
    both.note("in_0", 1400, LATER, lines={"il_plan": 1400})
    both.note("in_0", 700, LATER, "cn_2", lines={"il_plan": 700})
    assert both.balance == 0
    both.note("in_0", 1400, LATER, lines={"il_plan": 1400}, status="void")
    assert both.balance == 0
