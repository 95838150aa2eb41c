"""What is paid for is what is granted: examples with their figures, each worked out by hand."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.sql.calls import item
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

SECOND = DAY / 86_400


def subscribe(shop: Shop, plan: str, amount: int, end: datetime = JULY, **more: int) -> None:
    """A first invoice, and the subscription that it began."""
    shop.state(
        START, item(stripe_price_id=f"price_{plan}", current_period_start=START, current_period_end=end)
    )
    shop.bill("in_0", START, of(plan, amount, START, end, "il_0", **more))


@pytest.mark.parametrize("free", [0, 50])
def test_pro_and_free_to_and_fro_on_day_one_never_give_more_than_a_month_of_pro(
    shop: Shop, free: int
) -> None:
    shop.sell("pro", 1000)
    shop.sell("free", free, unit_amount=0)
    subscribe(shop, "pro", 1900)
    for number in range(1, 7, 2):
        down, up = START + number * HOUR, START + (number + 1) * HOUR
        shop.bill(f"in_{number}", down, credit("pro", -1890, down, JULY), rest("free", 0, down, JULY))
        assert shop.balance <= 1000 + free
        shop.bill(f"in_{number + 1}", up, credit("free", 0, up, JULY), rest("pro", 1885, up, JULY))
        assert shop.balance <= 1000 + free
    # Each change is rounded down.
    assert 990 <= shop.balance - sum(amount for _, amount in shop.keys("free")) <= 1000


@pytest.mark.parametrize("after", [0 * DAY, SECOND, HOUR / 60])
def test_seats_that_are_given_back_at_once_leave_those_that_stay(shop: Shop, after: timedelta) -> None:
    shop.sell("seat", 100)
    subscribe(shop, "seat", 50_000, quantity=50)
    assert shop.balance == 5000
    at = START + after
    shop.bill(
        "in_1",
        at,
        credit("seat", -50_000, at, JULY, quantity=50),
        rest("seat", 1000, at, JULY, quantity=1),
    )
    assert shop.balance == 100


def downgrade(shop: Shop) -> None:
    """Pro to Basic at half of the month: 500 are given back, 50 added."""
    shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY), rest("basic", 250, NOON, JULY))


@pytest.mark.parametrize("interval", ["in time", "late"])
def test_downgrade_takes_what_is_unspent_and_carries_the_rest(shop: Shop, interval: str) -> None:
    shop.sell("pro", 1000)
    shop.sell("basic", 100)
    subscribe(shop, "pro", 1900)
    shop.spend(700)
    shop.go_to(NOON if interval == "in time" else JULY - HOUR)
    downgrade(shop)
    assert (shop.balance, shop.carried) == (0, 150)
    for number, (start, end, left, carried) in enumerate(
        [(JULY, AUGUST, 0, 50), (AUGUST, SEPTEMBER, 50, 0)], start=2
    ):
        shop.bill(f"in_{number}", start, of("basic", 500, start, end), billing_reason="subscription_cycle")
        assert (shop.balance, shop.carried) == (left, carried)


def test_plan_may_leave_what_was_granted_before_a_downgrade(shop: Shop) -> None:
    shop.sell("pro", 1000, credits_on_downgrade="keep")
    shop.sell("basic", 100)
    subscribe(shop, "pro", 1900)
    shop.spend(700)
    downgrade(shop)
    assert (shop.balance, shop.carried) == (300, 0)
    shop.bill("in_2", JULY, of("basic", 500, JULY, AUGUST), billing_reason="subscription_cycle")
    assert shop.balance == 400


def test_downgrade_of_an_unspent_month_halves_it_and_the_next_month_of_pro_is_whole(shop: Shop) -> None:
    shop.sell("pro", 1000)
    shop.sell("basic", 100)
    subscribe(shop, "pro", 1900)
    downgrade(shop)
    assert (shop.balance, shop.carried) == (550, 0)
    shop.bill("in_2", JULY, of("basic", 500, JULY, AUGUST), billing_reason="subscription_cycle")
    shop.bill("in_3", JULY, credit("basic", -500, JULY, AUGUST), rest("pro", 1900, JULY, AUGUST))
    assert shop.balance == 1550


def test_item_that_is_replaced_without_a_credit_has_the_year_that_was_paid_for(shop: Shop) -> None:
    shop.sell("year", 100, interval="year")
    subscribe(shop, "year", 12_000, YEAR_END)
    at = START + 100 * DAY
    shop.go_to(at)
    shop.state(at, item("si_2", current_period_start=START, current_period_end=YEAR_END))
    assert shop.balance == 400
    shop.go_to(YEAR_END + DAY)
    assert shop.balance == 1200


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("by", ["refund", "note"])
def test_year_that_is_cancelled_and_refunded_for_the_rest_leaves_the_months_that_began(
    shop: Shop, by: str, order: tuple[int, ...]
) -> None:
    """120.00 for 12 months, 3 of which have begun by day 85; 90.00 are the other 9."""
    shop.sell("year", 100, interval="year")
    subscribe(shop, "year", 12_000, YEAR_END)
    at = START + 85 * DAY
    shop.go_to(at)
    assert shop.balance == 300
    reports = [
        lambda: shop.state(
            at,
            item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END),
            status="canceled",
            canceled_at=at,
            ended_at=at,
        ),
        lambda: shop.refund("in_0", 9000, at),
        lambda: (
            shop.note("in_0", 9000, at, amount_refunded=9000, stripe_refund_ids=["re_1"])
            if by == "note"
            else None
        ),
    ]
    for index in order:
        reports[index]()
    assert shop.balance == 300
    shop.go_to(YEAR_END)
    assert shop.balance == 300


@pytest.mark.parametrize("as_change_of_seats", [True, False])
def test_refund_of_a_fifth_seat_leaves_the_months_of_four(shop: Shop, as_change_of_seats: bool) -> None:
    """Four seats for 400.00 a year; a fifth for the 330 days that are left: 90.41."""
    shop.sell("seat", 60, interval="year")
    subscribe(shop, "seat", 40_000, YEAR_END, quantity=4)
    at = START + 35 * DAY
    shop.go_to(at)
    assert shop.balance == 480
    if as_change_of_seats:
        shop.bill(
            "in_1",
            at,
            credit("seat", -36_164, at, YEAR_END, quantity=4),
            rest("seat", 45_205, at, YEAR_END, quantity=5),
        )
    else:
        fifth = {"stripe_subscription_item_id": "si_2"}
        shop.bill("in_1", at, rest("seat", 9041, at, YEAR_END, **fifth))
    assert shop.balance == 480 + 60 * 26 // 31
    shop.refund("in_1", 9041, at + HOUR)
    assert shop.balance == 480
    shop.go_to(SEPTEMBER + DAY)
    assert shop.balance == 480 + 2 * 240


def test_refund_is_measured_against_the_price_whoever_paid_it(shop: Shop) -> None:
    """19.00, of which the customer balance paid 10.00: 9.00 of 19.00 of 1,000 are 473 and a bit."""
    shop.sell("pro", 1000)
    shop.bill("in_0", START, of("pro", 1900, START, JULY), from_balance=1000)
    shop.refund("in_0", 900, START + HOUR)
    assert shop.balance == 527


def test_refund_takes_of_all_that_its_payment_granted(shop: Shop) -> None:
    shop.sell("plan", 70)
    shop.sell("extra", 30)
    shop.bill(
        "in_0",
        START,
        of("plan", 1400, START, JULY),
        of("extra", 600, START, JULY, stripe_subscription_item_id="si_2"),
    )
    shop.spend(40)
    shop.refund("in_0", 1000, START + HOUR)
    assert shop.balance == 10


def test_credit_note_on_a_line_takes_of_that_line(shop: Shop) -> None:
    shop.sell("plan", 100)
    shop.sell("extra", 30)
    shop.bill(
        "in_0",
        START,
        of("plan", 2000, START, JULY, "il_plan"),
        of("extra", 600, START, JULY, "il_extra", stripe_subscription_item_id="si_2"),
    )
    shop.note("in_0", 600, START + HOUR, lines={"il_extra": 600})
    assert shop.balance == 100
    assert sorted((lot["amount"], lot["remaining"]) for lot in shop.lots()) == [(30, 0), (100, 100)]


@pytest.mark.parametrize("refunded_first", [False, True])
def test_half_a_month_credited_and_half_refunded_leave_nothing(shop: Shop, refunded_first: bool) -> None:
    shop.sell("pro", 1000)
    shop.sell("free", 0, unit_amount=0)
    subscribe(shop, "pro", 1900)
    shop.go_to(NOON)

    def change() -> None:
        shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY), rest("free", 0, NOON, JULY))

    if refunded_first:
        shop.refund("in_0", 950, NOON + HOUR)
        change()
    else:
        change()
        shop.refund("in_0", 950, NOON + HOUR)
    assert (shop.balance, shop.carried) == (0, 0)


@pytest.mark.parametrize("discount", [0, 500, 999, 1899])
def test_part_of_a_discount_gives_all_credits(shop: Shop, discount: int) -> None:
    shop.sell("pro", 1000)
    shop.bill("in_0", START, of("pro", 1900, START, JULY, discount=discount))
    assert shop.balance == 1000
    assert shop.keys("monthly") == [("si_1:2028-06-01T00:00:00Z", 1000)]


def test_invoice_paid_after_its_month_can_be_used_for_a_month(shop: Shop) -> None:
    shop.sell("pro", 1000, credits_rollover="none")
    paid_at = START + 31 * DAY
    shop.go_to(paid_at)
    shop.bill("in_0", START, of("pro", 1900, START, JULY), paid_at=paid_at, as_of=paid_at)
    (lot,) = shop.lots()
    assert (lot["effective_at"], lot["expires_at"]) == (START, datetime(2028, 8, 2, tzinfo=paid_at.tzinfo))
    shop.go_to(paid_at + 29 * DAY)
    assert shop.available == 1000
    shop.go_to(paid_at + 32 * DAY)
    assert shop.balance == 0


@pytest.mark.parametrize("names_its_line", [True, False])
def test_time_of_a_month_that_was_voided_is_not_deducted(shop: Shop, names_its_line: bool) -> None:
    """Collection was paused, so the month's invoice is void; then the plan changes to a yearly one."""
    shop.sell("month", 100)
    shop.sell("year", 100, interval="year", product="month")
    month = of("month", 1000, START, JULY, "il_void")
    shop.bill("in_0", START, month, status="void", paid_at=None, amount_paid=0)
    at = START + 10 * DAY
    shop.go_to(at)
    more = {"credited_line_ids": ["il_void"], "credited_invoice_id": "in_0"} if names_its_line else {}
    shop.state(
        at,
        item(stripe_price_id="price_year", current_period_start=at, current_period_end=at.replace(year=2029)),
        billing_cycle_anchor=at,
    )
    shop.bill(
        "in_1",
        at,
        credit("month", -667, at, JULY, **more),
        of("year", 12_000, at, at.replace(year=2029)),
    )
    assert (shop.balance, shop.carried) == (100, 0)


HALF_OF_JULY = JULY + 15.5 * DAY


def owe_july(shop: Shop, status: str = "open", **more: Any) -> None:
    """The renewal of July."""
    unpaid = {"status": status, "paid_at": None, "amount_paid": 0} if status != "paid" else {}
    july = of("pro", 1900, JULY, AUGUST, "il_july")
    shop.bill("in_july", JULY, july, billing_reason="subscription_cycle", **unpaid | more)


def leave_july(shop: Shop) -> None:
    """Halfway to a free plan: Stripe credits half of July's price, whether it is paid or not."""
    names = {"credited_line_ids": ["il_july"], "credited_invoice_id": "in_july"}
    half = credit("pro", -950, HALF_OF_JULY, AUGUST, **names)
    shop.bill("in_left", HALF_OF_JULY, half, rest("free", 0, HALF_OF_JULY, AUGUST))


@pytest.fixture
def late(shop: Shop) -> Shop:
    """June is paid for, and spent."""
    shop.sell("pro", 1000)
    shop.sell("free", 0, unit_amount=0)
    subscribe(shop, "pro", 1900)
    shop.spend(1000)
    shop.go_to(HALF_OF_JULY)
    return shop


@pytest.mark.parametrize("status", ["open", "uncollectible"])
@pytest.mark.parametrize("is_told_late", [False, True])
def test_time_that_is_still_to_be_paid_is_carried_when_stripe_credits_it(
    late: Shop, status: str, is_told_late: bool
) -> None:
    told = [lambda: owe_july(late, status), lambda: leave_july(late)]
    for tell in reversed(told) if is_told_late else told:
        tell()
    assert (late.balance, late.carried) == (0, 500)
    # The credited money pays for half of another month.
    again = of("pro", 1900, HALF_OF_JULY, HALF_OF_JULY.replace(month=8), stripe_subscription_item_id="si_2")
    late.bill("in_again", HALF_OF_JULY, again, subscription="sub_2", from_balance=950)
    assert (late.balance, late.carried) == (500, 0)


def test_time_that_is_still_to_be_paid_counts_by_the_terms_of_its_month(late: Shop) -> None:
    owe_july(late)
    late.sell("pro", 2000, as_of=JULY + DAY)
    leave_july(late)
    assert late.carried == 500


@pytest.mark.parametrize(("after", "carried"), [(HOUR, 999), (2 * HOUR, 0)])
def test_renewal_is_a_draft_for_an_hour_and_then_its_payment_is_on_the_way(
    late: Shop, after: timedelta, carried: int
) -> None:
    owe_july(late, "draft")
    names = {"credited_line_ids": ["il_july"], "credited_invoice_id": "in_july"}
    late.bill("in_left", JULY + after, credit("pro", -1895, JULY + after, AUGUST, **names))
    assert (late.balance, late.carried) == (0, carried)
    owe_july(late, "paid")
    assert late.balance in (1, 2)


def test_time_that_is_paid_for_after_stripe_credited_it_gives_what_is_left_of_it(late: Shop) -> None:
    owe_july(late)
    leave_july(late)
    owe_july(late, "paid")
    assert (late.balance, late.carried) == (500, 0)


@pytest.mark.parametrize("is_told_late", [False, True])
def test_invoice_that_is_voided_after_stripe_credited_it_takes_nothing(
    late: Shop, is_told_late: bool
) -> None:
    owe_july(late)
    told = [lambda: leave_july(late), lambda: owe_july(late, "void")]
    for tell in reversed(told) if is_told_late else told:
        tell()
    assert (late.balance, late.carried) == (0, 0)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_year_that_is_still_to_be_paid_is_carried_as_a_whole_at_once(shop: Shop, is_cancelled: bool) -> None:
    """Its whole price is on the customer's balance, and buys months that begin today."""
    shop.sell("year", 100, interval="year")
    shop.state(START, item(stripe_price_id="price_year", current_period_end=YEAR_END))
    year = of("year", 12_000, START, YEAR_END, "il_year")
    shop.bill("in_year", START, year, status="open", paid_at=None, amount_paid=0)
    if is_cancelled:
        shop.state(
            JULY,
            item(stripe_price_id="price_year", current_period_end=YEAR_END),
            status="canceled",
            ended_at=JULY,
        )
    names = {"credited_line_ids": ["il_year"], "credited_invoice_id": "in_year"}
    shop.go_to(JULY)
    shop.bill("in_left", JULY, credit("year", -11_000, JULY, YEAR_END, **names))
    assert (shop.balance, shop.carried) == (0, 1100)
    shop.bill("in_year", START, year)
    assert (shop.balance, shop.carried) == (100, 0)


def test_credited_time_that_a_coupon_paid_for_is_carried_as_a_whole_at_once(shop: Shop) -> None:
    """Stripe's classic mode credits by today's price, and the coupon was for the first invoice."""
    shop.sell("year", 100, interval="year")
    shop.state(START, item(stripe_price_id="price_year", current_period_end=YEAR_END))
    shop.bill("in_year", START, of("year", 12_000, START, YEAR_END, "il_year", discount=12_000))
    shop.go_to(JULY - HOUR)
    names = {"credited_line_ids": ["il_year"], "credited_invoice_id": "in_year"}
    shop.bill("in_left", JULY - HOUR, credit("year", -11_014, JULY - HOUR, YEAR_END, **names))
    assert (shop.balance, shop.carried) == (100, 1101)
    shop.go_to(SEPTEMBER)
    assert (shop.balance, shop.carried) == (100, 1101)


@pytest.mark.parametrize("hours_late", [0, 3])
def test_year_that_changes_to_a_month_just_before_a_slot_gives_the_same_when_it_is_reported_late(
    shop: Shop, hours_late: int
) -> None:
    shop.sell("year", 100, interval="year")
    shop.sell("month", 100, product="year")
    subscribe(shop, "year", 12_000, YEAR_END)
    at = JULY - HOUR
    shop.go_to(at + hours_late * HOUR)
    assert shop.balance == (200 if hours_late else 100)
    shop.state(
        at,
        item(stripe_price_id="price_month", current_period_start=at, current_period_end=at.replace(month=7)),
        billing_cycle_anchor=at,
    )
    shop.bill(
        "in_1",
        at,
        credit("year", -11_000, at, YEAR_END),
        of("month", 1200, at, at.replace(month=7)),
    )
    shop.go_to(at + 4 * HOUR)
    # A month, an hour of which was given back, and a month.
    assert (shop.balance, shop.carried) == (199, 0)
    shop.go_to(AUGUST)
    assert shop.balance == 199


@pytest.mark.parametrize("seats", [2, 3])
def test_change_that_gives_nothing_for_the_running_month_has_nothing_to_lose(shop: Shop, seats: int) -> None:
    shop.sell("seat", 250, credits_on_proration="none")
    subscribe(shop, "seat", 500)
    more = rest("seat", 250 * seats, NOON, JULY, quantity=seats)
    shop.bill("in_1", NOON, credit("seat", -250, NOON, JULY), more)
    assert (shop.balance, shop.carried) == (250, 0)
    shop.refund("in_1", 250 * (seats - 1), NOON + HOUR)
    assert (shop.balance, shop.carried) == (250, 0)


@pytest.mark.parametrize(("price", "left"), [(2500, 1000), (600, 600)])
def test_change_that_gives_nothing_makes_up_for_all_that_was_given_back_and_no_more(
    shop: Shop, price: int, left: int
) -> None:
    """Half of Pro's 1,000 is given back. Half of the new plan's 3,000 covers it, half of its 200 covers 100."""
    shop.sell("pro", 1000)
    shop.sell("new", 3000 if price == 2500 else 200, credits_on_proration="none")
    subscribe(shop, "pro", 1900)
    shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY), rest("new", price, NOON, JULY))
    assert (shop.balance, shop.carried) == (left, 0)


@pytest.mark.parametrize("others", [1, 2])
def test_item_that_gives_nothing_for_the_running_month_makes_up_for_another_to_the_credit(
    shop: Shop, others: int
) -> None:
    """A minute after its start, 999.98 of an item's 1,000 are given back, and other items make up for all of it."""
    shop.sell("pro", 1000)
    shop.sell("new", 3000 // others, credits_on_proration="none")
    subscribe(shop, "pro", 1900)
    at = START + timedelta(seconds=63)
    new = [
        rest("new", 2999, at, JULY, name=f"il_new_{n}", stripe_subscription_item_id=f"si_new_{n}")
        for n in range(others)
    ]
    shop.bill("in_1", at, credit("pro", -1899, at, JULY), *new)
    assert (shop.balance, shop.carried) == (1000, 0)


def test_refund_of_a_year_is_rounded_once(shop: Shop) -> None:
    """Half of 12,000, first the five months to come, the rest by sevenths: 6,000 and not one less."""
    shop.sell("year", 1000, interval="year")
    subscribe(shop, "year", 19_000, YEAR_END)
    at = START + 200 * DAY
    shop.go_to(at)
    assert shop.balance == 7000
    shop.refund("in_0", 9500, at)
    assert shop.balance == 6000


def test_initial_credits_come_with_a_period_that_is_paid_from_its_start_and_no_proration(shop: Shop) -> None:
    """Else the last hour of a month would buy the initial credits of a dear plan for a cent."""
    shop.sell("basic", 0)
    shop.sell("pro", 0, initial_credits=500)
    subscribe(shop, "basic", 500)
    at = JULY - HOUR
    shop.bill("in_1", at, credit("basic", -1, at, JULY), rest("pro", 2, at, JULY))
    assert shop.balance == 0
    shop.go_to(JULY)
    shop.bill("in_2", JULY, of("pro", 1900, JULY, AUGUST), billing_reason="subscription_cycle")
    assert shop.balance == 500
