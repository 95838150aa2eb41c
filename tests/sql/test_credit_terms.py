"""What a plan declared holds from its own moment on: editing it changes nothing that was granted before."""

from itertools import permutations
from typing import Any

import pytest

from tests.sql.calls import Row, discrepancies, fetch, item, sync_price, sync_product
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

CYCLE: dict[str, Any] = {"billing_reason": "subscription_cycle"}


def terms(shop: Shop) -> list[Row]:
    return fetch(
        shop.admin,
        "select valid_from, monthly_credits from billing.credit_terms "
        "where stripe_price_id = 'price_plan' order by 1",
    )


@pytest.fixture
def year(shop: Shop) -> Shop:
    """A year of 100 a month that is paid."""
    shop.sell("plan", 100, interval="year", as_of=START - DAY)
    shop.state(
        START, item(stripe_price_id="price_plan", current_period_start=START, current_period_end=YEAR_END)
    )
    shop.bill("in_0", START, of("plan", 12_000, START, YEAR_END, "il_0"))
    return shop


@pytest.mark.parametrize("credits", [0, 10, 900])
def test_editing_a_plan_counts_from_the_next_month_on(year: Shop, credits: int) -> None:
    year.go_to(JULY + DAY)
    year.sell("plan", credits, interval="year", as_of=JULY + DAY)
    year.again("in_0")
    year.tick()
    assert year.balance == 200
    year.go_to(AUGUST + DAY)
    assert year.balance == 200 + credits


def test_edits_count_each_for_its_own_months(year: Shop) -> None:
    year.sell("plan", 200, interval="year", as_of=NOON)
    year.sell("plan", 300, interval="year", as_of=JULY + DAY)
    year.go_to(SEPTEMBER + DAY)
    assert [lot["amount"] for lot in year.lots()] == [100, 200, 300, 300]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_edits_end_alike_in_every_order(year: Shop, order: tuple[int, ...]) -> None:
    """A price that is older than the one that is known is stale, and its terms count all the same."""
    year.go_to(NOON)
    for index in order:
        at, credits = [(NOON, 200), (NOON + DAY, 250), (JULY + DAY, 300)][index]
        year.sell("plan", credits, interval="year", as_of=at)
    year.go_to(SEPTEMBER + DAY)
    assert [lot["amount"] for lot in year.lots()] == [100, 250, 300, 300]


def test_first_terms_hold_before_they_were_declared(shop: Shop) -> None:
    """A price may be reported after what was bought of it."""
    shop.sell("plan", 100, as_of=START + 5 * DAY)
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == 100


def test_terms_are_written_down_once_for_each_moment(year: Shop) -> None:
    before = terms(year)
    year.sell("plan", 100, interval="year", as_of=START - DAY)
    assert terms(year) == before
    assert [row["monthly_credits"] for row in before][-1] == 100


def test_time_that_is_given_back_takes_what_was_granted_for_it(year: Shop) -> None:
    """Not what the plan declares by then."""
    year.sell("plan", 900, interval="year", as_of=START + DAY)
    year.go_to(NOON)
    year.bill("in_1", NOON, credit("plan", -11_000, NOON, YEAR_END, credited_line_ids=["il_0"]))
    assert (year.balance, year.carried) == (50, 0)


def test_time_that_is_given_back_of_a_later_month_takes_that_month_s(year: Shop) -> None:
    year.sell("plan", 900, interval="year", as_of=START + DAY)
    at = JULY + 15.5 * DAY
    year.go_to(at)
    year.bill("in_1", at, credit("plan", -11_000, at, YEAR_END, credited_line_ids=["il_0"]))
    assert (year.balance, year.carried) == (100 + 450, 0)
    year.go_to(SEPTEMBER)
    assert year.balance == 550


def test_change_adds_by_the_terms_of_its_moment(shop: Shop) -> None:
    shop.sell("plan", 100, as_of=START - DAY)
    shop.sell("plan", 300, as_of=START + DAY)
    shop.bill("in_1", NOON, rest("plan", 450, NOON, JULY))
    assert shop.balance == 150


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [("credits_on_downgrade", "keep", "take_back"), ("credits_on_downgrade", "take_back", "keep")],
)
def test_policy_is_that_of_the_month_s_own_moment(shop: Shop, key: str, before: str, after: str) -> None:
    shop.sell("plan", 100, as_of=START - DAY, **{key: before})
    shop.bill("in_0", START, of("plan", 900, START, JULY, "il_0"))
    shop.sell("plan", 100, as_of=NOON + DAY, **{key: after})
    shop.bill("in_1", NOON, credit("plan", -450, NOON, JULY, credited_line_ids=["il_0"]))
    assert shop.balance == (100 if before == "keep" else 50)


def test_rollover_is_that_of_the_month_s_own_moment(year: Shop) -> None:
    year.sell("plan", 100, interval="year", as_of=START + DAY, credits_rollover="none")
    year.go_to(JULY + DAY)
    assert [lot["expires_at"] for lot in year.lots()] == [None, AUGUST]


def test_edits_by_hand_count_from_now_on(year: Shop) -> None:
    year.go_to(NOON)
    year.admin.execute("update billing.plans set monthly_credits = 500 where stripe_price_id = 'price_plan'")
    year.tick()
    year.again("in_0")
    assert year.balance == 100
    year.go_to(JULY + DAY)
    assert year.balance == 600


def test_initial_credits_are_those_of_the_first_paid_period(shop: Shop) -> None:
    shop.sell("plan", 0, initial_credits=50, as_of=START - DAY)
    shop.sell("plan", 0, initial_credits=80, as_of=NOON)
    july = of("plan", 900, JULY, AUGUST)
    shop.bill("in_1", JULY, july, **CYCLE)
    assert shop.balance == 80
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == 50


@pytest.mark.parametrize("monthly", [0, 30])
def test_initial_credits_that_a_plan_no_longer_has_are_those_of_a_period_before(
    shop: Shop, monthly: int
) -> None:
    shop.sell("plan", monthly, initial_credits=50, as_of=START - DAY)
    shop.sell("plan", monthly, initial_credits=0, as_of=NOON)
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == 50 + monthly


# What a product declares


def sell_of_product(shop: Shop, usage_type: str, **metadata: str) -> None:
    sync_product(shop.worker, metadata={"monthly_credits": "100", "credits_rollover": "none"})
    sync_price(shop.worker, stripe_price_id="price_plan", usage_type=usage_type, metadata=metadata)


@pytest.mark.parametrize(("usage_type", "credits"), [("licensed", 100), ("metered", 0)])
def test_product_declares_for_its_licensed_prices_alone(shop: Shop, usage_type: str, credits: int) -> None:
    sell_of_product(shop, usage_type)
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == credits


@pytest.mark.parametrize("usage_type", ["licensed", "metered"])
def test_price_declares_before_its_product(shop: Shop, usage_type: str) -> None:
    sell_of_product(shop, usage_type, monthly_credits="7")
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == 7


def test_metered_price_beside_a_licensed_one_of_its_product_gives_nothing(shop: Shop) -> None:
    sell_of_product(shop, "licensed")
    sync_price(shop.worker, stripe_price_id="price_usage", usage_type="metered")
    shop.bill(
        "in_0",
        START,
        of("plan", 900, START, JULY),
        of("usage", 4200, START, JULY, quantity=4200, stripe_subscription_item_id="si_2"),
    )
    assert shop.balance == 100


def test_product_that_is_edited_counts_from_the_event_on(shop: Shop) -> None:
    sell_of_product(shop, "licensed")
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    sync_product(shop.worker, metadata={"monthly_credits": "300"}, as_of=NOON)
    shop.again("in_0")
    assert shop.balance == 100
    shop.bill("in_1", JULY, of("plan", 900, JULY, AUGUST), **CYCLE)
    assert shop.balance == 100 + 300


def test_edit_that_is_reported_late_counts_for_the_months_that_began_after_it(year: Shop) -> None:
    year.go_to(JULY + DAY)
    assert year.balance == 200
    year.sell("plan", 250, interval="year", as_of=NOON)
    year.tick()
    assert year.balance == 350
    assert fetch(year.admin, "select * from billing.entitlement_discrepancies") == []


def test_first_terms_that_are_reported_last_hold_for_what_later_ones_had_granted(shop: Shop) -> None:
    shop.sell("plan", 40, as_of=START + HOUR)
    shop.bill("in_0", START, of("plan", 900, START, JULY))
    assert shop.balance == 40
    shop.sell("plan", 107, as_of=START - DAY)
    assert shop.balance == 107


def test_edit_that_is_reported_late_counts_for_a_short_first_period(shop: Shop) -> None:
    """Half of a month, up to the anchor: it began after the edit, although its month began before."""
    shop.sell("plan", 1000, as_of=START - DAY)
    shop.go_to(NOON + HOUR)
    half = item(stripe_price_id="price_plan", current_period_start=NOON, current_period_end=JULY)
    shop.state(NOON, half, billing_cycle_anchor=JULY, started_at=NOON)
    shop.bill("in_0", NOON, of("plan", 450, NOON, JULY))
    assert shop.balance == 500
    shop.sell("plan", 200, as_of=NOON - HOUR)
    assert shop.balance == 100


def test_newest_terms_are_the_plan_s_own(year: Shop) -> None:
    year.go_to(JULY + HOUR)
    year.sell("plan", 250, interval="year", as_of=JULY + HOUR)
    row = fetch(year.admin, "select monthly_credits from billing.plans where stripe_price_id = 'price_plan'")
    assert row == [{"monthly_credits": 250}]
    assert terms(year)[-1] == {"valid_from": JULY + HOUR, "monthly_credits": 250}


@pytest.mark.parametrize("is_edited_first", [False, True])
def test_edit_counts_for_the_later_months_of_unpaid_time_that_is_given_back(
    shop: Shop, is_edited_first: bool
) -> None:
    """They are all taken at once: Stripe has credited the money."""
    shop.sell("year", 300, interval="year")
    shop.state(
        START, item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    )
    shop.bill(
        "in_0",
        START,
        of("year", 12_000, START, YEAR_END, "il_0"),
        status="open",
        amount_paid=0,
        paid_at=None,
    )

    def edit() -> None:
        shop.sell("year", 40, interval="year", as_of=NOON + DAY)

    if is_edited_first:
        edit()
    shop.bill(
        "in_1",
        NOON,
        credit("year", -11_500, NOON, YEAR_END, credited_line_ids=["il_0"], credited_invoice_id="in_0"),
    )
    if not is_edited_first:
        edit()
    assert shop.carried == 150 + 11 * 40
    assert discrepancies(shop.admin) == []
