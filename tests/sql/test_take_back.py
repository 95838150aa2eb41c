"""Time that is credited back: what is unspent is taken, the rest carried, and given back when facts change."""

from itertools import permutations

import pytest

from simulator.judge import TAKEN_OF_LATER
from tests.sql.calls import capture, hold, item, release, value
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

CYCLE = {"billing_reason": "subscription_cycle"}


@pytest.fixture
def pro(shop: Shop) -> Shop:
    """A shop of Pro, Basic and, of another product, Extra; the account has a month of Pro."""
    shop.sell("pro", 1000)
    shop.sell("basic", 100, product="pro")
    shop.sell("extra", 60)
    begin(shop)
    return shop


def begin(shop: Shop) -> None:
    shop.bill("in_0", START, of("pro", 1900, START, JULY, "il_0"))


def downgrade(shop: Shop) -> None:
    """Pro to Basic at half of the month: 450 less."""
    shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY, name="il_back"), rest("basic", 250, NOON, JULY))


def leave(shop: Shop) -> None:
    """Pro is given back for half of the month, and nothing is bought."""
    shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY, name="il_back"))


def renew(shop: Shop, number: int = 2, plan: str = "basic") -> None:
    start = [JULY, AUGUST, SEPTEMBER][number - 2]
    end = [AUGUST, SEPTEMBER, SEPTEMBER + 30 * DAY][number - 2]
    shop.bill(f"in_{number}", start, of(plan, 500, start, end), **CYCLE)


# What is taken


@pytest.mark.parametrize(("told", "left"), [("first", [33, 100]), ("last", [100, 33])])
def test_time_whose_month_is_told_last_is_taken_of_a_later_month(
    shop: Shop, told: str, left: list[int]
) -> None:
    """A seat is exchanged for the same, then given back: 66 credits and a part go. As many are left in any order."""
    shop.sell("plan", 100)
    change, end = START + 10 * DAY + HOUR, START + 10 * DAY + 2 * HOUR
    shop.go_to(end)
    if told == "first":
        shop.bill("in_0", START, of("plan", 900, START, JULY))
    shop.bill("in_1", JULY, of("plan", 900, JULY, AUGUST))
    shop.bill("in_2", change, credit("plan", -590, change, JULY), rest("plan", 600, change, JULY))
    shop.bill("in_3", end, credit("plan", -580, end, JULY))
    if told == "last":
        shop.bill("in_0", START, of("plan", 900, START, JULY))
    months = {lot["effective_at"]: lot["remaining"] for lot in shop.lots()}
    assert (shop.balance, shop.carried, [months[START], months[JULY]]) == (133, 0, left)
    assert value(shop.admin, TAKEN_OF_LATER, [shop.account]) == (told == "last")


@pytest.mark.parametrize(
    ("spent", "left", "carried"), [(0, 550, 0), (549, 1, 0), (550, 0, 0), (551, 0, 1), (1000, 0, 450)]
)
def test_what_is_unspent_is_taken_and_what_is_not_is_carried(
    pro: Shop, spent: int, left: int, carried: int
) -> None:
    if spent:
        pro.spend(spent)
    downgrade(pro)
    assert (pro.balance, pro.carried) == (left, carried)
    for _ in range(2):
        pro.again("in_1")
        pro.tick()
    assert (pro.balance, pro.carried) == (left, carried)


def test_credits_of_other_things_are_left_alone(pro: Shop) -> None:
    pro.sell("team", 70, product="team")
    pro.bill(
        "in_team",
        START,
        of("team", 900, START, JULY, stripe_subscription_item_id="si_t"),
        subscription="sub_2",
    )
    pro.spend(1000)  # the older lot pays
    leave(pro)
    assert (pro.balance, pro.carried) == (70, 500)


def test_later_months_of_the_subscription_are_taken_too(pro: Shop) -> None:
    """The change is reported after the next month was granted."""
    pro.spend(900)
    renew(pro, plan="pro")
    leave(pro)
    assert (pro.balance, pro.carried) == (600, 0)


def test_earlier_months_are_left_alone(pro: Shop) -> None:
    renew(pro, plan="pro")
    pro.go_to(JULY + DAY)
    at = JULY + 15.5 * DAY
    pro.bill("in_9", at, credit("pro", -950, at, AUGUST))
    lots = {lot["effective_at"]: lot["remaining"] for lot in pro.lots()}
    assert lots == {START: 1000, JULY: 500}


def test_what_lapsed_counts_as_unspent_and_its_successors_are_left_alone(shop: Shop) -> None:
    shop.sell("pro", 1000, credits_rollover="none")
    begin(shop)
    shop.go_to(JULY + HOUR)
    renew(shop, plan="pro")
    assert shop.balance == 1000
    leave(shop)
    assert (shop.balance, shop.carried) == (1000, 0)


def test_what_is_held_is_not_taken_and_is_carried(pro: Shop) -> None:
    held = hold(pro.app, pro.account, 800)
    leave(pro)
    assert (pro.balance, pro.available, pro.carried) == (800, 0, 300)
    capture(pro.app, held["id"], 800)
    renew(pro)
    assert (pro.balance, pro.carried) == (0, 200)


def test_what_is_released_afterwards_is_free(pro: Shop) -> None:
    """It is carried already: what comes next is less by it."""
    held = hold(pro.app, pro.account, 800)
    leave(pro)
    release(pro.app, held["id"])
    assert (pro.available, pro.carried) == (800, 300)


@pytest.mark.parametrize(("status", "balance", "carried"), [("won", 550, 0), ("lost", 0, 450)])
def test_what_a_dispute_freezes_is_unspent_and_is_taken(
    pro: Shop, status: str, balance: int, carried: int
) -> None:
    """What is left of it stays frozen. If the dispute is lost as well, that time was paid back twice."""
    pro.dispute("in_0", 1900, START + HOUR)
    downgrade(pro)
    assert (pro.balance, pro.available, pro.carried) == (550, 0, 0)
    pro.dispute("in_0", 1900, NOON + HOUR, status)
    assert (pro.balance, pro.available, pro.carried) == (balance, balance, carried)


def test_time_given_back_from_the_very_moment_of_the_end_takes_nothing(shop: Shop) -> None:
    """The month that begins then is not granted either."""
    shop.sell("year", 100, interval="year")
    of_year = item(stripe_price_id="price_year", current_period_start=START, current_period_end=YEAR_END)
    shop.state(START, of_year)
    shop.bill("in_0", START, of("year", 12_000, START, YEAR_END, "il_0"))
    shop.spend(100)
    shop.go_to(JULY - HOUR)
    shop.state(JULY, of_year, status="canceled", canceled_at=JULY, ended_at=JULY)
    shop.bill("in_1", JULY, credit("year", -11_000, JULY, YEAR_END))
    shop.go_to(JULY + DAY)
    assert (shop.balance, shop.carried) == (0, 0)


def test_other_items_of_the_subscription_make_up_for_it_at_the_same_moment(pro: Shop) -> None:
    pro.sell("big", 2000)
    pro.spend(1000)
    pro.bill(
        "in_1",
        NOON,
        credit("pro", -950, NOON, JULY),
        rest("big", 1900, NOON, JULY, stripe_subscription_item_id="si_2"),
    )
    assert (pro.balance, pro.carried) == (500, 0)
    assert pro.keys("proration") == [("si_2:2028-06-16T00:00:00Z", 500)]


@pytest.mark.parametrize("bought", ["si_0", "si_2"])
def test_what_a_change_adds_makes_up_for_what_it_takes_whatever_the_items_are_called(
    shop: Shop, bought: str
) -> None:
    """Reported in the second month that it changes; the first one is spent, its successor is not."""
    shop.sell("pro", 120, interval="year")
    shop.sell("basic", 30, interval="year")
    shop.state(
        START, item(stripe_price_id="price_pro", current_period_start=START, current_period_end=YEAR_END)
    )
    shop.bill("in_0", START, of("pro", 12_000, START, YEAR_END, "il_0"))
    shop.go_to(AUGUST + HOUR)
    shop.spend(240)
    shop.bill(
        "in_1",
        AUGUST + HOUR,
        credit("pro", -11_000, JULY, YEAR_END),
        rest("basic", 2_750, JULY, YEAR_END, stripe_subscription_item_id=bought),
    )
    assert (shop.balance, shop.carried) == (0, 60)


def test_change_to_a_plan_that_gives_nothing_for_the_running_month_makes_up_for_it_and_no_more(
    shop: Shop,
) -> None:
    shop.sell("pro", 1000)
    shop.sell("big", 3000, credits_on_proration="none")
    begin(shop)
    shop.bill("in_1", NOON, credit("pro", -950, NOON, JULY), rest("big", 2500, NOON, JULY))
    assert (shop.balance, shop.carried) == (1000, 0)
    renew(shop, plan="big")
    assert shop.balance == 4000


# What is carried


@pytest.fixture
def owing(pro: Shop) -> Shop:
    """All of Pro was spent when half of it was given back: 500 are carried."""
    pro.spend(1000)
    leave(pro)
    assert (pro.balance, pro.carried) == (0, 500)
    return pro


def test_next_months_of_another_subscription_and_product_give_less(owing: Shop) -> None:
    for number, (left, carried) in enumerate([(0, 440), (0, 380)]):
        start, end = [(NOON, JULY + 15 * DAY), (JULY + 15 * DAY, AUGUST + 15 * DAY)][number]
        owing.state(
            start,
            item("si_x", stripe_price_id="price_extra", current_period_start=start, current_period_end=end),
            subscription="sub_x",
            billing_cycle_anchor=NOON,
        )
        extra = of("extra", 900, start, end, stripe_subscription_item_id="si_x")
        owing.bill(f"in_x{number}", start, extra, subscription="sub_x", **CYCLE)
        assert (owing.balance, owing.carried) == (left, carried)


def test_changes_give_less(owing: Shop) -> None:
    at = JULY - 3 * DAY
    owing.bill("in_3", at, rest("pro", 190, at, JULY))
    assert (owing.balance, owing.carried) == (0, 400)


def test_packs_on_invoices_give_less_and_packs_at_checkout_do_not(owing: Shop) -> None:
    from tests.sql.test_packs import buy, pack

    pack(owing.worker, metadata={"pack_credits": "200"})
    buy(owing.worker)
    assert (owing.balance, owing.carried) == (200, 500)
    bought = of("pack", 2000, NOON, NOON, stripe_subscription_item_id=None)
    owing.bill("in_p", NOON, bought, subscription=None, billing_reason="manual")
    assert (owing.balance, owing.carried) == (200, 300)


def test_what_nobody_pays_for_gives_no_less(owing: Shop) -> None:
    owing.sell("free", 30, unit_amount=0)
    owing.state(NOON, item("si_f", stripe_price_id="price_free"), subscription="sub_f")
    free = of("free", 0, NOON, NOON.replace(month=7), stripe_subscription_item_id="si_f")
    owing.bill("in_f", NOON, free, subscription="sub_f")
    assert (owing.balance, owing.carried) == (30, 500)


def test_slots_of_a_year_by_the_clock_give_less(owing: Shop) -> None:
    owing.sell("year", 200, interval="year")
    owing.state(
        NOON,
        item(
            "si_y",
            stripe_price_id="price_year",
            current_period_start=NOON,
            current_period_end=NOON.replace(year=2029),
        ),
        subscription="sub_y",
        billing_cycle_anchor=NOON,
    )
    year = of("year", 9900, NOON, NOON.replace(year=2029), stripe_subscription_item_id="si_y")
    owing.bill("in_y", NOON, year, subscription="sub_y")
    assert (owing.balance, owing.carried) == (0, 300)
    owing.go_to(JULY + 16 * DAY)
    assert (owing.balance, owing.carried) == (0, 100)
    owing.go_to(AUGUST + 16 * DAY)
    assert (owing.balance, owing.carried) == (100, 0)


def test_grants_by_hand_give_no_less(owing: Shop) -> None:
    from tests.sql.calls import grant

    grant(owing.app, owing.account, 10)
    assert (owing.balance, owing.carried) == (10, 500)


# Facts that change


def test_month_that_gave_less_and_is_refunded_takes_only_what_it_gave(owing: Shop) -> None:
    """100 of Basic, all of it carried: when its price is returned, 500 are carried again."""
    renew(owing)
    assert (owing.balance, owing.carried) == (0, 400)
    owing.refund("in_2", 500, JULY + HOUR)
    assert (owing.balance, owing.carried) == (0, 500)
    owing.refund("in_2", 500, JULY + HOUR, status="failed")
    assert (owing.balance, owing.carried) == (0, 400)


def test_time_that_turns_out_to_be_of_a_month_that_was_never_paid_is_given_back(shop: Shop) -> None:
    """Stripe credits a line that is here only later, and is another one than was thought."""
    shop.sell("pro", 1000)
    begin(shop)
    leave(shop)
    assert shop.balance == 500
    # Added on the same invoice's behalf: the month begins anew, so that nothing was given back after all.
    shop.bill("in_2", NOON, rest("pro", 950, NOON, JULY, name="il_again"))
    assert (shop.balance, shop.carried) == (1000, 0)


@pytest.mark.parametrize("spent", [0, 700, 1000])
def test_upgrade_reported_late_gives_back_what_the_downgrade_took(pro: Shop, spent: int) -> None:
    """At one moment down and up again; the way up is reported last."""
    if spent:
        pro.spend(spent)
    downgrade(pro)
    pro.bill(
        "in_2",
        NOON,
        credit("basic", -250, NOON, JULY),
        rest("pro", 950, NOON, JULY, name="il_up"),
    )
    assert (pro.balance, pro.carried) == (1000 - spent, 0)


def test_upgrade_reported_after_a_month_gave_less_grants_what_that_month_lacks(pro: Shop) -> None:
    pro.spend(1000)
    downgrade(pro)
    assert pro.carried == 450
    renew(pro)
    assert (pro.balance, pro.carried) == (0, 350)
    pro.bill("in_3", NOON, credit("basic", -250, NOON, JULY), rest("pro", 950, NOON, JULY, name="il_up"))
    assert (pro.balance, pro.carried) == (100, 0)


@pytest.mark.parametrize("later", [100, 1000])
def test_what_a_month_lacked_expires_with_that_month(shop: Shop, later: int) -> None:
    """The month gave nothing, or less, for what was carried; then it turns out that nothing was to be carried."""
    shop.sell("pro", 1000, credits_rollover="none")
    shop.sell("basic", 100, product="pro", credits_rollover="none")
    shop.sell("next", later, product="pro", credits_rollover="none")
    begin(shop)
    shop.spend(1000)
    downgrade(shop)
    shop.go_to(JULY)
    renew(shop, plan="next")
    assert shop.carried == max(450 - later, 0)
    shop.bill("in_3", NOON, credit("basic", -250, NOON, JULY), rest("pro", 950, NOON, JULY, name="il_up"))
    assert (shop.balance, shop.carried) == (later, 0)
    assert {lot["expires_at"] for lot in shop.lots() if lot["remaining"]} == {AUGUST}
    shop.go_to(AUGUST)
    assert shop.balance == 0


def test_what_a_pack_lacked_is_given_back_to_it(pro: Shop) -> None:
    from tests.sql.test_packs import pack

    pack(pro.worker, metadata={"pack_credits": "200", "pack_expires_after": "90 days"})
    pro.spend(1000)
    downgrade(pro)
    bought = of("pack", 2000, NOON, NOON, stripe_subscription_item_id=None)
    pro.bill("in_p", NOON, bought, subscription=None, billing_reason="manual")
    assert (pro.balance, pro.carried) == (0, 250)
    pro.bill("in_3", NOON, credit("basic", -250, NOON, JULY), rest("pro", 950, NOON, JULY, name="il_up"))
    assert (pro.balance, pro.carried) == (200, 0)
    assert {lot["expires_at"] for lot in pro.lots() if lot["remaining"]} == {NOON + 90 * DAY}
    pro.refund("in_p", 1000, NOON + HOUR)
    assert (pro.balance, pro.carried) == (100, 0)


# Orders


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_months_and_changes_end_alike_in_every_order(shop: Shop, order: tuple[int, ...]) -> None:
    shop.sell("pro", 1000)
    shop.sell("basic", 100, product="pro")
    at = NOON + 6 * DAY
    reports = [
        lambda: begin(shop),
        lambda: downgrade(shop),
        lambda: shop.bill("in_2", at, credit("basic", -150, at, JULY), rest("pro", 570, at, JULY)),
        lambda: renew(shop, number=2, plan="pro"),
    ]
    reports = [
        reports[0],
        reports[1],
        reports[2],
        lambda: shop.bill("in_3", JULY, of("pro", 1900, JULY, AUGUST), **CYCLE),
    ]
    for index in order:
        reports[index]()
        reports[index]()
    assert (shop.balance, shop.carried) == (1000 - 450 + 270 + 1000, 0)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_what_was_spent_is_carried_in_every_order_of_what_follows(pro: Shop, order: tuple[int, ...]) -> None:
    pro.spend(1000)
    reports = [
        lambda: downgrade(pro),
        lambda: renew(pro, 2),
        lambda: renew(pro, 3),
    ]
    for index in order:
        reports[index]()
    # 450 less 100 less 100, whichever was reported first; what was granted before is taken back.
    assert (pro.balance, pro.carried) == (0, 250)


def test_the_same_change_by_two_workers_at_once_is_taken_once(database: Database, pro: Shop) -> None:
    pro.spend(700)
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        shops = [Shop.__new__(Shop), Shop.__new__(Shop)]
        for each, conn in zip(shops, (one, two), strict=True):
            each.__dict__.update(pro.__dict__, worker=conn)
        outcomes = at_once([lambda each=each: downgrade(each) for each in shops])
    assert outcomes == [None, None]
    assert (pro.balance, pro.carried) == (0, 150)


def test_a_month_and_a_change_at_once_end_as_one_after_the_other(database: Database, pro: Shop) -> None:
    pro.spend(1000)
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        shops = [Shop.__new__(Shop), Shop.__new__(Shop)]
        for each, conn in zip(shops, (one, two), strict=True):
            each.__dict__.update(pro.__dict__, worker=conn)
        outcomes = at_once([lambda: downgrade(shops[0]), lambda: renew(shops[1])])
    assert outcomes == [None, None]
    assert (pro.balance, pro.carried) == (0, 350)
