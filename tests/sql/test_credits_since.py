"""Payments from before settings.credits_since: they give no credits, or those of their time after it."""

from datetime import datetime, timedelta
from itertools import permutations
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    fetch,
    item,
    line,
    sync_checkout_session,
    sync_payment,
    sync_price,
    sync_product,
    value,
)
from tests.sql.shop import AUGUST, DAY, HOUR, JULY, NOON, SEPTEMBER, START, YEAR_END, Shop, credit, of, rest

LATER = NOON + 5 * DAY  # ten of the thirty days of June are left


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """Two plans; the installation is of the middle of June."""
    shop.sell("basic", 100)
    shop.sell("pro", 500)
    shop.state(START)
    begin(shop)
    return shop


def begin(shop: Shop, *, grants_current_period: bool = False) -> None:
    shop.admin.execute(
        "update billing.settings set credits_since = %s, grants_current_period = %s",
        [NOON, grants_current_period],
    )


def upgrade(shop: Shop, at: datetime = LATER) -> None:
    shop.bill(
        "in_up", at, credit("basic", -333, at, JULY, credited_line_ids=["il_june"], credited_invoice_id="in_june"),
        rest("pro", 1667, at, JULY),
    )  # fmt: skip


def june(shop: Shop, plan: str = "basic", **more: object) -> None:
    shop.bill(
        "in_june", START, of(plan, 1000, START, JULY, "il_june"), billing_reason="subscription_create", **more
    )


def july(shop: Shop, plan: str = "basic") -> None:
    shop.bill("in_july", JULY, of(plan, 1000, JULY, AUGUST), billing_reason="subscription_cycle")


def test_a_period_that_was_paid_for_before_gives_nothing_and_the_next_one_all(shop: Shop) -> None:
    june(shop)
    shop.go_to(NOON)
    assert shop.balance == 0
    shop.go_to(JULY)
    july(shop)
    assert shop.balance == 100


def test_the_rest_of_a_paid_period_counts_where_wanted(shop: Shop) -> None:
    begin(shop, grants_current_period=True)
    shop.go_to(NOON)
    june(shop)
    assert shop.balance == 50
    shop.go_to(JULY)
    july(shop)
    assert shop.balance == 150


@pytest.mark.parametrize("policy", ["none", "full"])
def test_the_rest_is_no_change_of_plan(shop: Shop, policy: str) -> None:
    shop.sell("odd", 100, credits_on_proration=policy)
    begin(shop, grants_current_period=True)
    shop.go_to(NOON)
    june(shop, "odd")
    assert shop.balance == 50


def test_of_a_year_each_month_after_it_counts(shop: Shop) -> None:
    begin(shop, grants_current_period=True)
    shop.sell("yearly", 100, interval="year")
    shop.state(START + timedelta(hours=1), item(current_period_start=START, current_period_end=YEAR_END))
    shop.go_to(NOON)
    shop.bill("in_june", START, of("yearly", 9000, START, YEAR_END), billing_reason="subscription_create")
    assert shop.balance == 50
    shop.go_to(AUGUST + DAY)
    assert shop.balance == 250


def test_what_had_ended_before_gives_nothing(shop: Shop) -> None:
    begin(shop, grants_current_period=True)
    shop.state(NOON - DAY, status="canceled", ended_at=NOON - DAY, canceled_at=NOON - DAY)
    shop.go_to(NOON)
    june(shop)
    assert shop.balance == 0


def test_an_upgrade_gives_the_difference(shop: Shop) -> None:
    """As if the credits of the old plan had been granted: by what was there before."""
    june(shop)
    shop.go_to(LATER)
    upgrade(shop)
    assert shop.balance == 133


def test_a_downgrade_takes_and_carries_nothing(shop: Shop) -> None:
    june(shop, "pro")
    shop.go_to(LATER)
    down(shop)
    assert (shop.balance, shop.carried) == (0, 0)
    shop.go_to(JULY)
    july(shop)
    assert shop.balance == 100


def test_a_downgrade_and_the_way_back_give_nothing(shop: Shop) -> None:
    """Both cost nothing, and the credits of the old plan were granted elsewhere."""
    june(shop, "pro")
    shop.go_to(LATER)
    down(shop)
    back = LATER + HOUR
    for number, (old, new) in enumerate([("basic", "pro"), ("pro", "basic"), ("basic", "pro")]):
        at = back + number * HOUR
        shop.go_to(at)
        shop.bill(
            f"in_{number}", at, credit(old, -300, at, JULY, credited_line_ids=[f"il_rest_{number}"]),
            rest(new, 300, at, JULY, name=f"il_rest_{number + 1}"),
        )  # fmt: skip
        assert (shop.balance, shop.carried) == (0, 0)
    shop.go_to(JULY)
    july(shop, "pro")
    assert shop.balance == 500


def down(shop: Shop) -> None:
    shop.bill(
        "in_down", LATER,
        credit("pro", -1667, LATER, JULY, credited_line_ids=["il_june"], credited_invoice_id="in_june"),
        rest("basic", 333, LATER, JULY, name="il_rest_0"),
    )  # fmt: skip


@pytest.mark.parametrize("is_wanted_later", [False, True])
@pytest.mark.parametrize(("old", "new", "credits"), [("pro", "basic", 66), ("basic", "pro", 333)])
def test_a_change_of_before_that_is_paid_for_later_takes_what_the_rest_gave(
    shop: Shop, old: str, new: str, credits: int, is_wanted_later: bool
) -> None:
    """Stripe bills a change with the next renewal, unless the app wants otherwise."""
    begin(shop, grants_current_period=not is_wanted_later)
    shop.go_to(NOON)
    june(shop, old)
    at = START + 10 * DAY
    change = (
        credit(old, -667, at, JULY, credited_line_ids=["il_june"], credited_invoice_id="in_june"),
        rest(new, 667, at, JULY),
    )
    if is_wanted_later:
        shop.go_to(JULY)
        shop.bill("in_july", JULY, *change, billing_reason="subscription_cycle")
        wanted(shop)
        shop.tick()
    else:
        assert shop.balance == {"basic": 50, "pro": 250}[old]
        shop.go_to(JULY)
        shop.bill("in_july", JULY, *change, billing_reason="subscription_cycle")
    assert (shop.balance, shop.carried) == (credits, 0)


def wanted(shop: Shop) -> None:
    fetch(shop.admin, "select from billing.start_backfill(grant_current_period => true)")


def test_what_was_recorded_while_the_rest_became_wanted_is_granted_by_a_second_run(shop: Shop) -> None:
    shop.go_to(NOON)
    june(shop)
    begin(shop, grants_current_period=True)
    wanted(shop)
    shop.tick()
    assert shop.balance == 50
    wanted(shop)
    shop.tick()
    assert shop.balance == 50


def test_a_change_of_before_counts_in_the_rest(shop: Shop) -> None:
    begin(shop, grants_current_period=True)
    shop.go_to(NOON)
    june(shop)
    upgrade(shop, NOON - 5 * DAY)
    assert shop.balance == 250


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_every_order_gives_the_same(shop: Shop, order: tuple[int, ...]) -> None:
    shop.sell("basic", 100, initial_credits=40, as_of=START)
    shop.go_to(JULY + DAY)
    told = [june, upgrade, july, lambda shop: shop.state(JULY)]
    for number in order:
        told[number](shop)
    # The difference of the change, and July; the account had its initial credits before.
    assert shop.balance == 233
    assert shop.carried == 0


def test_initial_credits_are_not_granted_with_a_later_period(shop: Shop) -> None:
    shop.sell("welcome", 100, initial_credits=40)
    june(shop, "welcome")
    shop.go_to(JULY)
    july(shop, "welcome")
    assert shop.balance == 100


def test_initial_credits_are_taken_back_when_the_past_is_reported_late(shop: Shop) -> None:
    shop.sell("welcome", 100, initial_credits=40)
    shop.go_to(JULY)
    july(shop, "welcome")
    assert shop.balance == 140
    june(shop, "welcome")
    assert shop.balance == 100
    shop.again("in_june")
    shop.again("in_july")
    assert shop.balance == 100


def test_credits_under_review_can_not_be_approved_once_the_past_says_that_it_gave_none(shop: Shop) -> None:
    shop.sell("welcome", 100, initial_credits=40)
    shop.go_to(JULY)
    shop.admin.execute(
        "insert into billing.accounts (kind) values ('personal'); "
        "insert into billing.held_credits (account_id, kind, amount, card_fingerprint, matched_account_id, "
        "idempotency_key, source, held_at) "
        "select accounts.id, 'initial', 40, 'card', others.id, "
        "billing._once_key('initial', accounts.id, plans.stripe_product_id), 'stripe.subscription', now() "
        "from billing.accounts, billing.accounts as others, billing.plans "
        f"where accounts.id = '{shop.account}' and others.id <> accounts.id and plans.initial_credits = 40"
    )
    july(shop, "welcome")
    june(shop, "welcome")
    [held] = fetch(shop.admin, "select id, status, reviewed_by, reason from billing.held_credits")
    assert (held["status"], held["reviewed_by"]) == ("refused", "till backfill")
    assert "before settings.credits_since" in held["reason"]
    with pytest.raises(psycopg.Error) as decided:
        shop.admin.execute(
            "select billing.review_held_credits(%s, 'approve', 'why not', 'root')", [held["id"]]
        )
    assert decided.value.sqlstate == "TB036"
    assert shop.balance == 100


def test_a_new_product_gives_its_initial_credits(shop: Shop) -> None:
    shop.sell("welcome", 100, initial_credits=40)
    june(shop)
    shop.go_to(JULY)
    july(shop, "welcome")
    assert shop.balance == 140


def test_a_trial_of_before_gives_nothing_and_a_later_one_all(shop: Shop) -> None:
    shop.sell("tried", 100, trial_credits=30, trial_end_credits="keep")
    trial = {"status": "trialing", "trial_start": START, "trial_end": START + 20 * DAY}
    mine = item(
        "si_9", stripe_price_id="price_tried", current_period_start=START, current_period_end=START + 20 * DAY
    )
    shop.go_to(NOON)
    shop.state(START + DAY, mine, subscription="sub_9", **trial)
    assert shop.balance == 0
    trial |= {"trial_start": NOON + DAY, "trial_end": NOON + 20 * DAY, "started_at": NOON + DAY}
    shop.go_to(NOON + DAY)
    shop.state(NOON + DAY, item("si_8", stripe_price_id="price_tried"), subscription="sub_8", **trial)
    assert shop.balance == 30


def test_a_trial_that_was_granted_before_stays(shop: Shop) -> None:
    shop.admin.execute("update billing.settings set credits_since = null")
    shop.sell("tried", 100, trial_credits=30)
    trial = {"status": "trialing", "trial_start": START, "trial_end": JULY}
    shop.go_to(START)
    shop.state(START + DAY, item("si_9", stripe_price_id="price_tried"), subscription="sub_9", **trial)
    begin(shop)
    shop.state(START + 2 * DAY, item("si_9", stripe_price_id="price_tried"), subscription="sub_9", **trial)
    assert shop.balance == 30


def test_packs_of_before_give_nothing_and_their_refund_takes_nothing(shop: Shop) -> None:
    sell_pack(shop)
    shop.go_to(NOON)
    pack(shop, "in_old", START)
    assert shop.balance == 0
    pack(shop, "in_new", NOON + DAY)
    assert shop.balance == 500
    shop.refund("in_old", 700, NOON + 2 * DAY, "re_old")
    assert shop.balance == 500
    shop.refund("in_new", 700, NOON + 2 * DAY, "re_new")
    assert shop.balance == 0


def sell_pack(shop: Shop) -> None:
    sync_product(shop.worker, stripe_product_id="prod_pack")
    sync_price(
        shop.worker, stripe_price_id="price_pack", stripe_product_id="prod_pack", type="one_time",
        metadata={"pack_credits": "500"},
    )  # fmt: skip


def pack(shop: Shop, number: str, at: datetime) -> None:
    bought = line(
        f"il_{number}", amount=700, stripe_price_id="price_pack", stripe_subscription_item_id=None,
        stripe_subscription_id=None, period_start=at, period_end=at,
    )  # fmt: skip
    shop.bill(number, at, bought, subscription=None, billing_reason="manual")


@pytest.mark.parametrize("is_charge_first", [False, True])
def test_a_session_that_is_paid_after_it_gives_its_pack_whenever_it_was_opened(
    shop: Shop, is_charge_first: bool
) -> None:
    sell_pack(shop)
    shop.go_to(NOON + DAY)
    told = [session, charge]
    for tell in reversed(told) if is_charge_first else told:
        tell(shop, NOON + HOUR)
    assert shop.balance == 500
    assert fetch(shop.admin, "select from billing.ungranted_payments") == []


def test_a_session_that_was_paid_before_gives_nothing(shop: Shop) -> None:
    sell_pack(shop)
    shop.go_to(NOON + DAY)
    session(shop, NOON - HOUR)
    charge(shop, NOON - HOUR)
    session(shop, NOON - HOUR)
    assert shop.balance == 0
    assert fetch(shop.admin, "select from billing.ungranted_payments") == []


def session(shop: Shop, at: datetime) -> None:
    bought = {
        "stripe_line_item_id": "li_1", "stripe_price_id": "price_pack", "quantity": 1, "amount_total": 700,
        "declares_credits": True,
    }  # fmt: skip
    sync_checkout_session(
        shop.worker, mode="payment", stripe_subscription_id=None, stripe_invoice_id=None,
        stripe_payment_intent_id="pi_s", amount_total=700, opened_at=at - 2 * HOUR, as_of=at, lines=[bought],
    )  # fmt: skip
    shop.admin.execute("insert into billing.payment_intents values ('pi_s', 700) on conflict do nothing")


def charge(shop: Shop, at: datetime) -> None:
    sync_payment(shop.worker, stripe_payment_intent_id="pi_s", amount=700, charged_at=at, as_of=at)


def test_a_refund_takes_of_what_was_granted_only(shop: Shop) -> None:
    june(shop)
    shop.go_to(LATER)
    shop.refund("in_june", 1000, LATER)
    assert shop.balance == 0

    begin(shop, grants_current_period=True)
    shop.bill(
        "in_other",
        START,
        of("pro", 1000, START, JULY, stripe_subscription_item_id="si_2"),
        subscription="sub_2",
    )
    assert shop.balance == 250
    shop.refund("in_other", 500, LATER, "re_2")
    assert shop.balance == 125


def test_settings_change_nothing_that_is_recorded(shop: Shop) -> None:
    june(shop)
    shop.go_to(LATER)
    for since in (None, START, SEPTEMBER):
        shop.admin.execute(
            "update billing.settings set credits_since = %s, grants_current_period = true", [since]
        )
        shop.again("in_june")
        shop.state(LATER)
        shop.tick()
        assert shop.balance == 0


def test_history_needs_neither_an_account_nor_a_plan(shop: Shop, other: UUID) -> None:
    shop.bill(
        "in_gone",
        START,
        of("unheard_of", 1000, START, JULY),
        subscription="sub_7",
        stripe_customer_id="cus_7",
    )
    shop.bill(
        "in_alone", START, of("basic", 1000, START, JULY, stripe_subscription_item_id="si_8"), subscription="sub_8",
        stripe_customer_id="cus_8",
    )  # fmt: skip
    shop.state(NOON, item("si_8"), subscription="sub_8", stripe_customer_id="cus_8")
    assert fetch(shop.admin, "select from billing.credit_schedules") == []
    shop.app.execute("select billing.link_customer(%s, 'cus_8')", [other])
    assert (
        value(shop.admin, "select count(*) from billing.credit_schedules where counts_from = 'infinity'") == 1
    )
