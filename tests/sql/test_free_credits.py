"""What nothing is paid for: its credits come once for each account, product and calendar month, however it is taken."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.sql.calls import discrepancies, item, line, link, lots
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
from tests.support import Database, account_of, create_user

COUPON = {"discount": 1900}


def take(
    shop: Shop,
    number: int,
    plan: str = "free",
    start: datetime = START,
    end: datetime | None = None,
    amount: int = 0,
    **more: Any,
) -> None:
    """A subscription of its own, its first period free."""
    end = end or start.replace(month=start.month + 1)
    name = {"subscription": f"sub_{number}"}
    of_item = item(
        f"si_{number}", stripe_price_id=f"price_{plan}", current_period_start=start, current_period_end=end
    )
    shop.state(start, of_item, **name, billing_cycle_anchor=start, started_at=start)
    paid = of(plan, amount, start, end, f"il_{number}", stripe_subscription_item_id=f"si_{number}", **more)
    shop.bill(f"in_{number}", start, paid, **name)


def cancel(shop: Shop, number: int, at: datetime, plan: str = "free", start: datetime = START) -> None:
    shop.state(
        at,
        item(
            f"si_{number}",
            stripe_price_id=f"price_{plan}",
            current_period_start=start,
            current_period_end=start.replace(month=start.month + 1),
        ),
        subscription=f"sub_{number}",
        billing_cycle_anchor=start,
        status="canceled",
        canceled_at=at,
        ended_at=at,
    )


WAYS: dict[str, Callable[[Shop], None]] = {
    "free plan": lambda shop: take(shop, 1),
    "coupon of 100 % on the line": lambda shop: take(shop, 1, "pro", amount=1900, **COUPON),
    "free first tier": lambda shop: take(shop, 1, "tiered"),
    "metered without usage": lambda shop: take(shop, 1, "metered", quantity=0),
}


@pytest.fixture
def free(shop: Shop) -> Shop:
    """Plans of 100 credits a month that are free, or may be."""
    shop.sell("free", 100, unit_amount=0)
    shop.sell("pro", 100, unit_amount=1900)
    shop.sell("tiered", 100, unit_amount=None)
    shop.sell("metered", 100, usage_type="metered")
    return shop


@pytest.mark.parametrize("way", WAYS)
def test_month_that_nothing_is_paid_for_gives_its_credits_once(free: Shop, way: str) -> None:
    for _ in range(3):
        WAYS[way](free)
        free.tick()
    assert free.balance == 100
    [(key, amount)] = free.keys("free")
    assert (key.partition(":")[2], amount) == ("2028-06-01", 100)
    assert free.keys("monthly") == []


def test_discount_of_the_whole_invoice_is_one_of_each_line(free: Shop) -> None:
    """Where Stripe says nothing of the line's discounts."""
    free.bill("in_1", START, of("pro", 1900, START, JULY), total=0, amount_paid=0, amount_due=0)
    assert free.balance == 100
    assert len(free.keys("free")) == 1


def test_each_month_gives_its_own(free: Shop) -> None:
    take(free, 1)
    for number, (start, end) in enumerate([(JULY, AUGUST), (AUGUST, SEPTEMBER)], start=2):
        free.bill(f"in_{number}", start, of("free", 0, start, end), billing_reason="subscription_cycle")
    assert free.balance == 300


def test_free_year_gives_twelve(free: Shop) -> None:
    free.sell("year", 100, interval="year", unit_amount=0)
    take(free, 1, "year", end=YEAR_END)
    assert free.balance == 100
    free.go_to(YEAR_END + DAY)
    assert free.balance == 1200


@pytest.mark.parametrize("times", [1, 2, 5])
def test_plan_that_is_cancelled_and_taken_again_within_a_month_gives_nothing_more(
    free: Shop, times: int
) -> None:
    for number in range(1, times + 1):
        start = START + number * HOUR
        take(free, number, start=start)
        cancel(free, number, start + HOUR / 2, start=start)
        assert free.balance == 100
    assert len(free.keys("free")) == 1


def test_plan_that_is_taken_again_in_the_next_month_gives_that_month(free: Shop) -> None:
    take(free, 1)
    cancel(free, 1, NOON)
    take(free, 2, start=JULY)
    assert free.balance == 200


def test_two_subscriptions_of_a_product_at_once_give_once(free: Shop) -> None:
    take(free, 1)
    take(free, 2, start=START + DAY)
    assert free.balance == 100


def test_larger_claim_stays_when_its_month_of_credits_ends_before_that_of_a_smaller_one(free: Shop) -> None:
    free.sell("year", 100, interval="year", unit_amount=0)
    for number, start, quantity in ((1, START + DAY, 2), (2, NOON, 1)):
        take(free, number, "year", start=start, end=start.replace(year=2029), quantity=quantity)
    for day, granted in ((0, 200), (1, 400), (15, 400), (16, 400)):
        free.go_to(JULY + day * DAY)
        assert free.balance == granted


def test_two_products_give_each(free: Shop) -> None:
    take(free, 1)
    take(free, 2, "pro", amount=1900, **COUPON)
    assert free.balance == 200


def test_two_accounts_give_each(free: Shop, database: Database) -> None:
    take(free, 1)
    other = account_of(free.admin, create_user(database))
    link(free.app, other, "cus_2")
    paid = of("free", 0, START, JULY, "il_other", stripe_subscription_item_id="si_9")
    free.state(
        START, item("si_9", stripe_price_id="price_free"), subscription="sub_9", stripe_customer_id="cus_2"
    )
    free.bill("in_9", START, paid, subscription="sub_9", stripe_customer_id="cus_2")
    assert [lot["amount"] for lot in lots(free.admin, other)] == [100]
    assert free.balance == 100


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_largest_claim_counts_in_every_order(shop: Shop, order: tuple[int, ...]) -> None:
    """Three plans of one product, taken within one month."""
    for name, credits in (("small", 10), ("middle", 40), ("large", 70)):
        shop.sell(name, credits, product="free", unit_amount=0)
    names = ("small", "middle", "large")
    for index in order:
        take(shop, index + 1, names[index], start=START + index * HOUR)
    assert shop.balance == 70
    assert sum(amount for _, amount in shop.keys("free")) == 70


@pytest.mark.parametrize("spent", [0, 30])
def test_change_between_free_plans_gives_the_larger_and_takes_nothing(shop: Shop, spent: int) -> None:
    shop.sell("small", 10, product="free", unit_amount=0)
    shop.sell("large", 70, product="free", unit_amount=0)
    take(shop, 1, "large")
    if spent:
        shop.spend(spent)
    shop.bill("in_c", NOON, credit("large", 0, NOON, JULY), rest("small", 0, NOON, JULY))
    assert (shop.balance, shop.carried) == (70 - spent, 0)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("pro", "on_one", "granted"),
    [(1_267, False, 100 + 600 - 500), (0, False, 33 + 666), (0, True, 33 + 666)],
    ids=["from a paid plan", "from a plan of the coupon", "both changes on one invoice"],
)
def test_change_back_to_a_plan_that_was_paid_for_gives_it_where_a_coupon_pays(
    shop: Shop, pro: int, on_one: bool, granted: int, is_late: bool
) -> None:
    """Stripe charges 0 for it, and names no line that this would credit: 50 for the half of the month."""
    shop.sell("basic", 100, unit_amount=1000)
    shop.sell("pro", 1000, unit_amount=1900)
    shop.state(NOON, item(stripe_price_id="price_basic", current_period_start=START, current_period_end=JULY))
    at = START + 10 * DAY
    there = [
        credit("basic", -667, at, JULY, name="il_2", credited_line_ids=["il_1"]),
        rest("pro", pro, at, JULY, name="il_3"),
    ]
    back = [
        credit("pro", -pro * 3 // 4, NOON, JULY, name="il_4", credited_line_ids=["il_3"]),
        rest("basic", 0, NOON, JULY, name="il_5"),
    ]
    changes = [("in_2", NOON, there + back)] if on_one else [("in_2", at, there), ("in_3", NOON, back)]
    bills = [("in_1", START, [of("basic", 1000, START, JULY, "il_1")]), *changes]
    for name, billed_at, lines in reversed(bills) if is_late else bills:
        shop.bill(name, billed_at, *lines)
    assert (shop.balance, shop.carried) == (granted + 50, 0)


def test_paid_plan_of_the_same_product_gives_in_full_beside_it(free: Shop) -> None:
    free.sell("paid", 500, product="free")
    take(free, 1)
    free.bill("in_2", NOON, credit("free", 0, NOON, JULY), rest("paid", 950, NOON, JULY))
    assert free.balance == 100 + 250


def test_nothing_is_taken_of_a_free_month_that_is_given_back(free: Shop) -> None:
    take(free, 1)
    free.bill("in_2", NOON, credit("free", 0, NOON, JULY, credited_line_ids=["il_1"]))
    assert (free.balance, free.carried) == (100, 0)


def test_free_year_that_is_given_back_ends(free: Shop) -> None:
    free.sell("year", 100, interval="year", unit_amount=0)
    take(free, 1, "year", end=YEAR_END)
    free.go_to(NOON)
    back = credit("year", 0, NOON, YEAR_END, credited_line_ids=["il_1"])
    free.bill("in_2", NOON, back, rest("pro", 1900, NOON, YEAR_END, stripe_subscription_item_id="si_1"))
    granted = free.balance
    free.go_to(AUGUST + DAY)
    assert sum(amount for _, amount in free.keys("free")) == 100
    assert granted >= 100


def test_free_year_that_is_given_back_ends_also_where_that_is_reported_after_it(free: Shop) -> None:
    free.sell("year", 100, interval="year", unit_amount=0)
    take(free, 1, "year", end=YEAR_END)
    free.go_to(YEAR_END + DAY)
    assert free.balance == 1200
    back = credit("year", 0, NOON, YEAR_END, credited_line_ids=["il_1"])
    free.bill("in_2", NOON, back)
    assert free.balance == 100


def test_more_seats_of_a_free_year_replace_those_before_them(free: Shop) -> None:
    """One seat, then seven, whose invoice comes in the next month: that month is worth seven, not eight."""
    free.sell("year", 100, interval="year", unit_amount=0)
    take(free, 1, "year", end=YEAR_END)
    at = JULY + DAY
    free.go_to(at)
    one, seven = {"credited_line_ids": ["il_1"]}, {"quantity": 7, "stripe_subscription_item_id": "si_1"}
    free.bill("in_2", at, credit("year", 0, NOON, YEAR_END, **one), rest("year", 0, NOON, YEAR_END, **seven))
    assert dict(free.keys("free"))["prod_year:2028-07-01"] == 100
    assert sum(lot["amount"] for lot in free.lots() if lot["effective_at"] == JULY) == 700


def test_more_seats_of_a_free_month_lapse_nothing_of_it(free: Shop) -> None:
    """A cap is for what earlier months have left; a change within a month begins none."""
    free.sell("capped", 100, unit_amount=0, credits_rollover="cap:30")
    take(free, 1, "capped")
    one, seven = {"credited_line_ids": ["il_1"]}, {"quantity": 7, "stripe_subscription_item_id": "si_1"}
    free.bill("in_2", NOON, credit("capped", 0, NOON, JULY, **one), rest("capped", 0, NOON, JULY, **seven))
    assert (free.balance, free.keys("free")[0][1]) == (350, 100)


def test_free_plan_reported_before_its_subscription_may_be_a_trial_and_waits(free: Shop) -> None:
    free.bill("in_1", START, of("free", 0, START, JULY))
    assert free.balance == 0
    free.state(START, item(stripe_price_id="price_free"))
    assert free.balance == 100


def test_what_turns_out_to_be_a_trial_gives_no_month(free: Shop) -> None:
    free.bill("in_1", START, of("pro", 0, START, JULY))
    free.state(
        START,
        item(stripe_price_id="price_pro"),
        status="trialing",
        trial_start=START,
        trial_end=JULY,
    )
    assert free.balance == 0


def test_invoice_of_nothing_that_is_refunded_in_another_way_keeps_its_credits(free: Shop) -> None:
    take(free, 1, "pro", amount=1900, **COUPON)
    free.note("in_1", 1900, START + HOUR)
    assert free.balance == 100


def test_partly_free_invoice_takes_of_what_was_paid_alone(free: Shop) -> None:
    free.sell("extra", 60)
    free.state(START, item(stripe_price_id="price_free"), item("si_2", stripe_price_id="price_extra"))
    free.bill(
        "in_1",
        START,
        of("free", 0, START, JULY),
        of("extra", 600, START, JULY, stripe_subscription_item_id="si_2"),
    )
    assert free.balance == 160
    free.refund("in_1", 600, START + HOUR)
    assert free.balance == 100


# Weeks and days


def test_free_weeks_give_each_calendar_week_once(shop: Shop) -> None:
    shop.sell("week", 310, interval="week", unit_amount=0)
    monday = datetime(2028, 7, 3, tzinfo=UTC)
    for number in range(3):
        start = monday + number * timedelta(weeks=1)
        take(shop, number + 1, "week", start=start, end=start + timedelta(weeks=1))
        # Taken again on Saturday, within the same calendar week.
        take(shop, number + 11, "week", start=start + 5 * DAY, end=start + 12 * DAY)
    assert len(shop.keys("free")) == 3
    assert shop.balance == 3 * 70  # 7 of 31 days of 310


def test_free_days_give_each_day_once(shop: Shop) -> None:
    shop.sell("day", 310, interval="day", unit_amount=0)
    for number in range(3):
        start = JULY + number * DAY
        take(shop, number + 1, "day", start=start, end=start + DAY)
        take(shop, number + 11, "day", start=start + HOUR, end=start + DAY + HOUR)
    assert len(shop.keys("free")) == 3
    assert shop.balance == 3 * 10


# Beside all else


def test_expiry_follows_the_plan(shop: Shop) -> None:
    shop.sell("free", 100, unit_amount=0, credits_rollover="none")
    take(shop, 1)
    assert [lot["expires_at"] for lot in shop.lots()] == [JULY]
    shop.go_to(JULY + HOUR)
    assert shop.balance == 0


def test_two_subscriptions_reported_at_once_give_once(database: Database, free: Shop) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        shops = [Shop.__new__(Shop), Shop.__new__(Shop)]
        for each, conn in zip(shops, (one, two), strict=True):
            each.__dict__.update(free.__dict__, worker=conn)
        outcomes = at_once([lambda: take(shops[0], 1), lambda: take(shops[1], 2, start=START + HOUR)])
    assert outcomes == [None, None]
    assert free.balance == 100
    assert discrepancies(free.admin) == []


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_cancelled_and_taken_again_ends_alike_in_every_order(free: Shop, order: tuple[int, ...]) -> None:
    reports = [
        lambda: take(free, 1),
        lambda: cancel(free, 1, NOON),
        lambda: take(free, 2, start=NOON + HOUR),
        lambda: free.bill(
            "in_3",
            NOON.replace(month=7) + HOUR,
            line(
                "il_3",
                amount=0,
                stripe_price_id="price_free",
                stripe_subscription_item_id="si_2",
                period_start=NOON.replace(month=7) + HOUR,
                period_end=NOON.replace(month=8) + HOUR,
            ),
            subscription="sub_2",
            billing_reason="subscription_cycle",
        ),
    ]
    for index in order:
        reports[index]()
    free.go_to(AUGUST)
    assert free.balance == 200
    assert [key.partition(":")[2] for key, _ in free.keys("free")] == ["2028-06-01", "2028-07-01"]


def test_free_tiers_of_one_item_add_up_and_items_do_not(shop: Shop) -> None:
    shop.sell("team", 100)
    shop.state(START)
    shop.bill(
        "in_0",
        START,
        of("team", 0, START, JULY, "il_1", quantity=2),
        of("team", 0, START, JULY, "il_2", quantity=3),
        of("team", 0, START, JULY, "il_3", quantity=4, stripe_subscription_item_id="si_2"),
    )
    assert shop.balance == 500
