"""Changes to a plan with credits_on_proration=full: they count from the start of their month, once."""

from datetime import datetime

from tests.sql.shop import DAY, HOUR, JULY, NOON, START, Shop, credit, of, rest


def upgrade(shop: Shop, at: datetime, end: datetime) -> None:
    """Basic of 100 is changed to Pro of 1,000 in the course of a period; the invoice in_1 pays for it."""
    shop.bill(
        "in_1",
        at,
        credit("basic", -450, at, end, name="il_unused"),
        rest("pro", 1000, at, end, name="il_rest"),
    )


def test_change_for_a_whole_month_is_less_what_is_credited_where_nothing_is_revoked(shop: Shop) -> None:
    for plan, monthly in (("basic", 100), ("pro", 1000)):
        shop.sell(plan, monthly, credits_on_proration="full", credits_on_downgrade="keep")
    shop.bill("in_0", START, of("basic", 900, START, JULY))
    upgrade(shop, NOON, JULY)
    assert shop.balance == 100 + 1000 - 50


def test_change_for_a_whole_month_gives_nothing_for_more_time_that_is_credited(shop: Shop) -> None:
    for plan, monthly in (("basic", 100), ("pro", 1000)):
        shop.sell(plan, monthly, credits_on_proration="full", credits_on_downgrade="keep")
    shop.bill("in_0", START, of("pro", 900, START, JULY))
    shop.bill("in_1", NOON, credit("pro", -450, NOON, JULY), rest("basic", 50, NOON, JULY))
    assert shop.balance == 1000


def test_change_for_a_whole_week_gives_the_share_of_the_week(shop: Shop) -> None:
    for plan, monthly in (("basic", 0), ("pro", 300)):
        shop.sell(plan, monthly, interval="week", credits_on_proration="full")
    week = START + 7 * DAY
    shop.bill("in_0", START, of("basic", 900, START, week))
    shop.state(START)
    upgrade(shop, START + 5 * DAY, week)
    assert shop.balance == 70


def test_dispute_and_refund_take_all_that_a_change_for_a_whole_month_brought(shop: Shop) -> None:
    for plan, monthly in (("basic", 0), ("pro", 1000)):
        shop.sell(plan, monthly, credits_on_proration="full")
    shop.bill("in_0", START, of("basic", 900, START, JULY))
    upgrade(shop, NOON, JULY)
    shop.dispute("in_1", 550, NOON + HOUR)
    assert (shop.balance, shop.available) == (1000, 0)
    shop.dispute("in_1", 550, NOON + HOUR, status="lost")
    assert shop.balance == 0
