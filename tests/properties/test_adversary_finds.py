"""The adversary is worth something only if it finds what is there: it sees each fix of a known exploit that is taken
out.

A fix is taken out by putting other words into a function's source. Where the words are found no more, the test fails
and says so: the fix has moved, and the test is to follow it. Each exploit is played as a customer would, on the
smallest price list: first with the rule as it is, which must withstand it, then with the broken one. With
ADVERSARY_EXAMPLES the machine looks for each by itself, too, among so many buyers.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from devstack.scaffold import DefaultGrants
from simulator.oracle.facts import DAY
from simulator.oracle.price_list import Code, Pack, Plan, PriceList
from tests.databases import Databases
from tests.properties.buyer import Buyer, Market, Minted
from tests.properties.test_adversary import WEEKLY, WELCOME, play

BIRTHDAY = int(datetime(2027, 2, 11, 9, 30, tzinfo=UTC).timestamp())
FREE, PRO = Plan(0, 0, 0), Plan(1, 2000, 1000)


@dataclass(frozen=True)
class Exploit:
    prices: PriceList
    acts: Callable[[Buyer], None]
    # (function, words of its source, words instead)
    broken: tuple[tuple[str, str, str], ...]


def keeps_credits_of_a_downgrade(buyer: Buyer) -> None:
    buyer.check_out(1)
    buyer.change(0, 0, "always_invoice")


def buys_again_with_the_balance(buyer: Buyer) -> None:
    for _ in range(2):
        buyer.check_out(1)
        buyer.spend()
        buyer.change(0, 0, "always_invoice")
        buyer.cancel(0, "now")


def takes_a_free_plan_again(buyer: Buyer) -> None:
    for _ in range(3):
        buyer.check_out(0)
        buyer.cancel(0, "now")


def follows_a_link_again(buyer: Buyer) -> None:
    for _ in range(3):
        buyer.follow_link(plan=0, code=0)


def pays_what_it_wants(buyer: Buyer) -> None:
    buyer.buy_pack(0, amount=50)


def leaves_a_year_that_cost_nothing(buyer: Buyer) -> None:
    buyer.check_out(0, code=0)
    buyer.change(0, 1, "always_invoice")
    buyer.wait(40 * DAY)


def changes_plans_within_a_trial(buyer: Buyer) -> None:
    buyer.check_out(0)
    buyer.change(0, 1, "none")


def leaves_tiers_whose_first_seat_is_free(buyer: Buyer) -> None:
    buyer.check_out(1, seats=3)
    buyer.change(0, 0, "always_invoice")


def leaves_a_month_that_is_still_to_be_paid(buyer: Buyer) -> None:
    buyer.check_out(1)
    buyer.spend()
    buyer.use_card(empty=True)
    buyer.wait(29 * DAY)
    buyer.change(0, 0, "always_invoice")
    buyer.check_out(1)


def leaves_a_year_that_is_still_to_be_paid(buyer: Buyer) -> None:
    buyer.check_out(2)
    buyer.spend()
    buyer.use_card(empty=True)
    buyer.wait(366 * DAY)
    buyer.change(0, 0, "always_invoice")
    for _ in range(3):
        buyer.check_out(1)
        buyer.spend()
        buyer.cancel(1, "now")


def leaves_a_month_that_a_coupon_paid_for(buyer: Buyer) -> None:
    buyer.check_out(1, code=0)
    buyer.spend()
    buyer.change(0, 0, "always_invoice")
    buyer.check_out(1)


def signs_up_with_another_spelling(buyer: Buyer) -> None:
    buyer.sign_up_again()


def subscribes_and_waits(buyer: Buyer) -> None:
    buyer.check_out(0)
    buyer.wait(31 * DAY)


def owes_more_and_more(buyer: Buyer) -> None:
    buyer.check_out(0)
    buyer.overspend()
    buyer.overspend()


FIRST_OF_TIERS = (
    "order by paid.is_free, paid.period_start desc",
    "order by paid.is_free desc, paid.period_start desc",
)
EXPLOITS = {
    "no take-back on a downgrade": Exploit(
        PriceList((FREE, PRO)),
        keeps_credits_of_a_downgrade,
        (
            (
                "_post_move",
                "if v_change < 0 then",
                "if v_change < 0 and v_move.returned = 0 then return 0;\n elsif v_change < 0 then",
            ),
        ),
    ),
    "nothing is carried": Exploit(
        PriceList((FREE, PRO)),
        buys_again_with_the_balance,
        (("_less_carried", "if v_carried > 0 then", "v_carried := 0;\n    if v_carried > 0 then"),),
    ),
    "what was spent is not carried": Exploit(
        PriceList((FREE, PRO)),
        buys_again_with_the_balance,
        (("_post_move", "else 'carry'", "else 'clamp_and_record'"),),
    ),
    "free lines once for each item": Exploit(
        PriceList((Plan(0, 1000, 100),), codes=(Code(100),)),
        follows_a_link_again,
        (
            (
                "_worth",
                "'free:' || unpaid.account_id || ':' || unpaid.stripe_product_id || ':'",
                "'free:' || unpaid.account_id || ':' || (unpaid.payer).stripe_subscription_item_id || ':'",
            ),
            (
                "_worth",
                "select distinct on (unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket)",
                "select",
            ),
        ),
    ),
    "pack_credits for any amount": Exploit(
        PriceList((), packs=(Pack(None, 50),)),
        pays_what_it_wants,
        (("_declared_pack", "if v_price.has_custom_amount then", "if false then"),),
    ),
    "a credit of no amount adds": Exploit(
        PriceList((Plan(0, 12000, 500, "year"), Plan(1, 2000, 1000)), codes=(Code(100),)),
        leaves_a_year_that_cost_nothing,
        (
            (
                "_record_paid_time",
                "and (coalesce(cardinality(v_line.credited_line_ids), 0) > 0 or v_line.amount < 0)",
                "and v_line.amount < 0",
            ),
            (
                "_match_credits",
                "and (cardinality(lines.credited_line_ids) > 0 or lines.amount <= 0)",
                "and lines.amount < 0",
            ),
            ("_arm_schedules", "v_schedule.stripe_line_id = any (invoice_lines.credited_line_ids)", "false"),
        ),
    ),
    "trial credits of each plan of a trial": Exploit(
        PriceList(
            (
                Plan(0, 1000, 100, trial_days=14, trial_credits=30),
                Plan(1, 2000, 1000, trial_days=14, trial_credits=900),
            )
        ),
        changes_plans_within_a_trial,
        (
            (
                "_grant_trial",
                "where others.stripe_subscription_id = v_subscription.stripe_subscription_id",
                "where others = trial_items",
            ),
        ),
    ),
    "time that is still to be paid": Exploit(
        PriceList((FREE, PRO)),
        leaves_a_month_that_is_still_to_be_paid,
        (
            (
                "_match_credits",
                "else v_change.credits_no_money or not exists (",
                "else true or not exists (",
            ),
        ),
    ),
    "a year that is still to be paid, month by month": Exploit(
        PriceList((FREE, PRO, Plan(1, 24000, 1000, "year"))),
        leaves_a_year_that_is_still_to_be_paid,
        (("_match_credits", "v_is_unpaid := v_gives_back", "v_is_unpaid := false"),),
    ),
    "time that a coupon paid for": Exploit(
        PriceList((FREE, PRO), codes=(Code(100),), is_classic=True),
        leaves_a_month_that_a_coupon_paid_for,
        (
            (
                "_match_credits",
                "when v_credited.stripe_line_id is not null then v_change.credits_no_money",
                "when v_credited.stripe_line_id is not null then v_credited.is_free",
            ),
        ),
    ),
    "each spelling of an address is a person": Exploit(
        PriceList((FREE,), free=(WELCOME,)),
        signs_up_with_another_spelling,
        (("_person_of", "'^([^+]+).*@([^@]+)$'", "'^(.+)@([^@]+)$'"),),
    ),
    "an allowance beside a subscription": Exploit(
        PriceList((PRO,), free=(WEEKLY,)),
        subscribes_and_waits,
        (("_free_candidates", "(_free_candidates.rule).until_subscribed and exists", "false and exists"),),
    ),
    "debt does not count towards the limit": Exploit(
        PriceList((Plan(0, 2000, 1000, overage_limit=40),)),
        owes_more_and_more,
        (
            (
                "_post_spends",
                "> v_balance.balance - v_balance.held then",
                "> v_balance.balance + v_balance.debt - v_balance.held then",
            ),
        ),
    ),
    "a credit of tiers is a credit of the free one": Exploit(
        PriceList((FREE, Plan(1, 1000, 500, first_seat_free=True))),
        leaves_tiers_whose_first_seat_is_free,
        (
            ("_match_credits", *FIRST_OF_TIERS),
            (
                "_match_credits",
                "when v_credited.stripe_line_id is not null then v_change.credits_no_money",
                "when v_credited.stripe_line_id is not null then v_credited.is_free",
            ),
        ),
    ),
}


@pytest.fixture
def market(databases: Databases, template: Callable[[DefaultGrants], str]) -> Callable[..., Market]:
    return lambda *broken: Market(databases, template("none"), broken)


@pytest.mark.parametrize("name", EXPLOITS)
def test_exploit_is_withstood(market: Callable[..., Market], name: str) -> None:
    exploit = EXPLOITS[name]
    with market().buyer(exploit.prices, BIRTHDAY) as buyer:
        exploit.acts(buyer)
        assert buyer.entitlement_discrepancies() == []


@pytest.mark.parametrize("name", EXPLOITS)
def test_exploit_is_seen_when_its_fix_is_taken_out(market: Callable[..., Market], name: str) -> None:
    exploit = EXPLOITS[name]
    with market(*exploit.broken).buyer(exploit.prices, BIRTHDAY) as buyer, pytest.raises(Minted):
        exploit.acts(buyer)


def test_a_free_plan_is_not_for_sale_again_within_its_month(market: Callable[..., Market]) -> None:
    with market().buyer(PriceList((Plan(0, 0, 50),)), BIRTHDAY) as buyer:
        takes_a_free_plan_again(buyer)
        assert [act.count("refused") for act in buyer.acts] == [0, 0, 1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.skipif(
    "ADVERSARY_EXAMPLES" not in os.environ, reason="the machine looks for minutes: make adversary"
)
@pytest.mark.parametrize("name", EXPLOITS)
def test_machine_finds_the_exploit_by_itself(market: Callable[..., Market], name: str) -> None:
    with pytest.raises(Minted):
        play(market(*EXPLOITS[name].broken), int(os.environ["ADVERSARY_EXAMPLES"]), is_random=True)


def test_portal_schedule_gives_each_month_what_it_was_paid_for(market: Callable[..., Market]) -> None:
    """Downgrades that wait for the period's end, called off, planned again, to a year and to nothing."""
    prices = PriceList((FREE, PRO, Plan(1, 20_000, 1000, "year"), Plan(2, 1000, 100)))
    with market().buyer(prices, BIRTHDAY) as buyer:
        buyer.check_out(1)
        buyer.spend()
        buyer.plan_change(0, 3)
        buyer.keep_plan(0)
        buyer.plan_change(0, 3, seats=2)
        buyer.wait(30 * DAY)
        buyer.spend()
        buyer.plan_change(0, 2)
        buyer.wait(10 * DAY)
        buyer.change(0, 1, "always_invoice")
        buyer.plan_change(0, 0)
        buyer.wait(31 * DAY)
        buyer.plan_change(0, 2)
        buyer.wait(40 * DAY)
        buyer.cancel(0, "prorated")
        assert not any("refused" in act for act in buyer.acts)
        assert buyer.entitlement_discrepancies() == []
