"""The anchor from which months are counted: it may arrive after what was paid, and another one may arrive before it."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations

import pytest

from tests.sql.calls import fetch, item
from tests.sql.shop import Shop, credit, of, rest

# The month of the anchor, 31 January, has 28 days. Its end fits an anchor on the 28th as well.
START = datetime(2027, 1, 31, 12, tzinfo=UTC)
END = datetime(2027, 2, 28, 12, tzinfo=UTC)
BEFORE = datetime(2027, 1, 29, 12, tzinfo=UTC)
CHANGE = datetime(2027, 2, 7, 12, tzinfo=UTC)
# Another anchor, by a change of the billing cycle.
RESET = datetime(2027, 2, 21, 12, tzinfo=UTC)
QUARTER_END = datetime(2027, 4, 30, 12, tzinfo=UTC)
MAY = datetime(2027, 5, 5, tzinfo=UTC)

Step = Callable[[Shop], object]


def subscription(shop: Shop) -> None:
    shop.state(
        START,
        item(current_period_start=START, current_period_end=END),
        billing_cycle_anchor=START,
        started_at=START,
    )


def reset(shop: Shop) -> None:
    shop.state(
        RESET,
        item(current_period_start=RESET, current_period_end=END),
        billing_cycle_anchor=RESET,
        started_at=START,
    )


def first(shop: Shop) -> None:
    shop.bill("in_1", START, of("basic", 1000, START, END, "il_1"), billing_reason="subscription_create")


def upgrade(shop: Shop) -> None:
    shop.bill(
        "in_2",
        CHANGE,
        credit("basic", -750, CHANGE, END, credited_line_ids=["il_1"], credited_invoice_id="in_1"),
        rest("pro", 3750, CHANGE, END),
    )


def play(shop: Shop, *steps: Step) -> int:
    shop.sell("basic", 280)
    shop.sell("pro", 1400)
    for step in steps:
        step(shop)
    shop.go_to(MAY)
    return shop.balance


@pytest.mark.parametrize("order", list(permutations([subscription, first, upgrade])))
def test_change_in_a_short_month_counts_its_days_in_every_order(shop: Shop, order: tuple[Step, ...]) -> None:
    assert play(shop, *order) == 280 + (1400 - 280) * 21 // 28


@pytest.mark.parametrize("order", list(permutations([subscription, reset, first, upgrade])))
def test_anchor_that_arrives_after_a_later_one_counts_for_the_time_before(
    shop: Shop, order: tuple[Step, ...]
) -> None:
    assert play(shop, *order) == 280 + (1400 - 280) * 21 // 28


@pytest.mark.parametrize("is_told_last", [False, True])
def test_change_after_a_new_anchor_counts_from_it(shop: Shop, is_told_last: bool) -> None:
    shop.sell("basic", 280)

    def new_anchor() -> None:
        shop.state(
            START, item(current_period_start=START, current_period_end=END), billing_cycle_anchor=START
        )

    shop.state(BEFORE, item(), billing_cycle_anchor=BEFORE)
    if not is_told_last:
        new_anchor()
    shop.bill("in_1", CHANGE, rest("basic", 750, CHANGE, END))
    if is_told_last:
        new_anchor()
    assert shop.balance == 280 * 21 // 28


def test_whole_month_gives_its_credits_though_only_a_later_anchor_is_known(shop: Shop) -> None:
    shop.sell("basic", 280)
    later = datetime(2027, 3, 31, 12, tzinfo=UTC)
    shop.state(later, item(), billing_cycle_anchor=later)
    shop.bill("in_1", BEFORE, of("basic", 1000, BEFORE, END), billing_reason="subscription_create")
    assert shop.balance == 280


@pytest.mark.parametrize("is_over", [False, True])
def test_months_of_an_anchor_that_did_not_fit_are_taken_back(shop: Shop, is_over: bool) -> None:
    shop.sell("quarter", 280, recurring_interval_count=3)
    shop.go_to(MAY if is_over else CHANGE)
    reset(shop)
    shop.bill("in_1", CHANGE, rest("quarter", 5000, CHANGE, QUARTER_END))
    if is_over:
        assert [key[-20:-10] for key, _ in shop.keys("monthly")] == ["2027-02-28", "2027-03-30"]
    subscription(shop)
    shop.go_to(MAY)
    left = fetch(
        shop.admin,
        "select effective_at::date::text as day, sum(remaining)::integer as credits from billing.credit_grants "
        "where remaining > 0 group by 1 order by 1",
    )
    assert [(row["day"], row["credits"]) for row in left] == [
        ("2027-02-07", 280 * 21 // 28),
        ("2027-02-28", 280),
        ("2027-03-31", 280),
    ]
    assert shop.balance == 210 + 280 + 280
