"""The cheapest buyer, as a state machine: whatever is done, in any order, gives no more credits than were paid for.

The machine does nothing but what a customer can do (`buyer`), on a small price list that it draws, with the default
policies; what the money buys is worked out from Stripe's own objects (`paid_for`). That it finds what it is there for
is tested in test_adversary_finds.py. A run of the suite plays a few buyers, always the same;
`ADVERSARY_EXAMPLES=2000` plays as many new ones.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from devstack.scaffold import DefaultGrants
from simulator.oracle.facts import DAY, FreeRule
from simulator.oracle.price_list import SEATS_MAX, Code, Pack, Plan, PriceList
from tests.databases import Databases
from tests.properties.buyer import BEHAVIORS, Buyer, Market, Minted

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("ADVERSARY_EXAMPLES", "15"))
STEPS = 15
# Where months end is where calendars go wrong.
BIRTHDAYS = [
    datetime(2027, 1, 31, 12, 0, 7, tzinfo=UTC),
    datetime(2027, 2, 11, 9, 30, tzinfo=UTC),
    datetime(2027, 11, 30, 23, 59, tzinfo=UTC),
    datetime(2028, 2, 29, 6, tzinfo=UTC),
]
HOUR = 3_600
WAYS_TO_CANCEL = ["now", "invoiced", "prorated", "period end", "resume"]
WAITS = [HOUR, 5 * HOUR, DAY, 3 * DAY, 10 * DAY, 15 * DAY, 31 * DAY, 31 * DAY, 64 * DAY, 200 * DAY]
PARTS = [Fraction(1), Fraction(1), Fraction(1), Fraction(1, 2)]
# Prices and credits of a month. Where every plan sells at one rate there is no slack for an exploit to hide in.
FREE_AND_ALIKE = [(0, 50), (1000, 500), (1900, 950), (3000, 1500)]
UNALIKE = [(1000, 100), (1000, 500), (1900, 1000), (3000, 107)]
WELCOME = FreeRule("welcome", 30, "once", "never")
WEEKLY = FreeRule("weekly", 7, "week", "never", until_subscribed=True)
MONTHLY = FreeRule("monthly", 20, "month", "period_end", until_subscribed=True)
ANY = st.integers(0, 7)
Act = tuple[str, dict[str, Any]]
# A price list, the time, and the local Stripe's seed.
Scene = tuple[PriceList, int, int]


@st.composite
def plans_of_a_product(draw: st.DrawFn, product: int) -> list[Plan]:
    """A plan, and perhaps the same by the year or the week."""
    amount, credits = draw(st.sampled_from(FREE_AND_ALIKE if draw(st.booleans()) else UNALIKE))
    plan = Plan(
        product,
        amount,
        credits,
        rollover=draw(st.sampled_from(["all", "all", "none", "periods:1", "cap:30"])),
        initial_credits=draw(st.sampled_from([0, 0, 20])),
        trial_days=draw(st.sampled_from([0, 0, 7])),
        trial_credits=draw(st.sampled_from([0, 30])),
        first_seat_free=amount > 0 and draw(st.integers(0, 5)) == 0,
        overage_limit=draw(st.sampled_from([0, 0, 40])) if amount else 0,
    )
    also = draw(st.sampled_from([[], [], [], [("year", 10)], [("year", 12), ("week", Fraction(1, 4))]]))
    others = [
        Plan(**(vars(plan) | {"interval": interval, "amount": int(plan.amount * times)}))
        for interval, times in also
    ]
    return [plan, *others]


@st.composite
def price_lists(draw: st.DrawFn) -> PriceList:
    products = draw(st.integers(1, 3))
    plans = [plan for product in range(products) for plan in draw(plans_of_a_product(product))]
    packs = draw(st.lists(st.sampled_from([Pack(500, 250), Pack(700, 200), Pack(None, 50)]), max_size=2))
    codes = draw(
        st.sampled_from(
            [
                [],
                [],
                [],
                [Code(100)],
                [Code(100, first_time=True)],
                [Code(100, once=False)],
                [Code(50)],
                [Code(50, once=False), Code(100)],
            ]
        )
    )
    return PriceList(
        tuple(plans),
        tuple(packs),
        tuple(codes),
        is_classic=draw(st.integers(0, 3)) == 0,
        overage=draw(st.sampled_from([Pack(100, 50), Pack(3, 1)])),
        free=tuple(draw(st.sampled_from([[], [], [WELCOME], [WEEKLY], [WELCOME, MONTHLY]]))),
    )


def smallest(market: Market, scene: Scene, acts: list[Act], minted: Minted) -> Minted:
    """The same with acts left out as long as a bound is broken."""
    number = len(acts) - 1
    while number >= 0:
        fewer = acts[:number] + acts[number + 1 :]
        try:
            with market.buyer(*scene) as buyer:
                for name, given in fewer:
                    getattr(buyer, name)(**given)
        except Minted as still:
            acts, minted = fewer, still
        number -= 1
    return minted


class CheapestBuyer(RuleBasedStateMachine):
    market: Market

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()

    @initialize(prices=price_lists(), birthday=st.sampled_from(BIRTHDAYS), seed=st.integers(1, 10**6))
    def finds_a_shop(self, prices: PriceList, birthday: datetime, seed: int) -> None:
        self.scene = (prices, int(birthday.timestamp()), seed)
        self.acts: list[Act] = []
        self.buyer: Buyer = self.stack.enter_context(self.market.buyer(*self.scene))

    def teardown(self) -> None:
        self.stack.close()

    def do(self, name: str, **given: Any) -> None:
        """An act of the buyer's. What breaks a bound is made as short as leaving acts out makes it."""
        self.acts.append((name, given))
        try:
            getattr(self.buyer, name)(**given)
        except Minted as minted:
            raise smallest(self.market, self.scene, self.acts, minted) from None

    def plan(self, number: int) -> int:
        return number % len(self.buyer.prices.plans)

    def code(self, number: int | None) -> int | None:
        codes = self.buyer.prices.codes
        return None if number is None or not codes else number % len(codes)

    def is_subscribed(self) -> bool:
        return bool(self.buyer.subscriptions())

    def has_packs(self) -> bool:
        return bool(self.buyer.prices.packs)

    @rule(number=ANY, seats=st.sampled_from([1, 1, 1, 2, SEATS_MAX]), code=st.none() | ANY)
    def subscribes(self, number: int, seats: int, code: int | None) -> None:
        self.do("check_out", plan=self.plan(number), seats=seats, code=self.code(code))

    @rule(number=ANY, code=st.none() | ANY)
    def subscribes_by_a_link(self, number: int, code: int | None) -> None:
        self.do("follow_link", plan=self.plan(number), code=self.code(code))

    @precondition(has_packs)
    @rule(
        number=ANY,
        how_many=st.sampled_from([1, 1, 3]),
        code=st.none() | ANY,
        amount=st.sampled_from([50, 51, 199, 1000]),
        by_link=st.booleans(),
    )
    def buys_a_pack(self, number: int, how_many: int, code: int | None, amount: int, by_link: bool) -> None:
        pack = number % len(self.buyer.prices.packs)
        if by_link:
            self.do("follow_link", pack=pack, code=self.code(code), amount=amount)
        else:
            how_many = how_many if self.buyer.prices.packs[pack].amount else 1
            self.do("buy_pack", pack=pack, number=how_many, code=self.code(code), amount=amount)

    @precondition(is_subscribed)
    @rule(
        which=ANY,
        number=ANY,
        behavior=st.sampled_from(BEHAVIORS),
        end_trial=st.booleans(),
        spends_first=st.booleans(),
    )
    def changes_the_plan(
        self, which: int, number: int, behavior: str, end_trial: bool, spends_first: bool
    ) -> None:
        if spends_first:
            self.do("spend")
        self.do("change", which=which, plan=self.plan(number), behavior=behavior, end_trial=end_trial)

    @precondition(is_subscribed)
    @rule(which=ANY, number=ANY, seats=st.sampled_from([1, 1, SEATS_MAX]), spends_first=st.booleans())
    def plans_a_change(self, which: int, number: int, seats: int, spends_first: bool) -> None:
        if spends_first:
            self.do("spend")
        self.do("plan_change", which=which, plan=self.plan(number), seats=seats)

    @precondition(is_subscribed)
    @rule(which=ANY)
    def keeps_the_plan(self, which: int) -> None:
        self.do("keep_plan", which=which)

    @precondition(is_subscribed)
    @rule(which=ANY, seats=st.integers(1, SEATS_MAX), behavior=st.sampled_from(BEHAVIORS))
    def changes_the_seats(self, which: int, seats: int, behavior: str) -> None:
        self.do("take_seats", which=which, seats=seats, behavior=behavior)

    @precondition(is_subscribed)
    @rule(which=ANY, how=st.sampled_from(WAYS_TO_CANCEL), spends_first=st.booleans())
    def cancels(self, which: int, how: str, spends_first: bool) -> None:
        if spends_first:
            self.do("spend")
        self.do("cancel", which=which, how=how)

    @precondition(is_subscribed)
    @rule(empty=st.booleans())
    def changes_the_card(self, empty: bool) -> None:
        self.do("use_card", empty=empty)

    @rule(part=st.sampled_from(PARTS))
    def spends(self, part: Fraction) -> None:
        self.do("spend", part=part)

    @precondition(lambda self: self.buyer.prices.overage_limit)
    @rule(part=st.sampled_from(PARTS))
    def spends_on_account(self, part: Fraction) -> None:
        self.do("overspend", part=part)

    @precondition(lambda self: self.buyer.prices.overage_limit)
    @rule()
    def has_the_overage_refunded(self) -> None:
        self.do("have_overage_refunded")

    @rule(part=st.sampled_from(PARTS))
    def holds_work(self, part: Fraction) -> None:
        self.do("hold_work", part=part)

    @precondition(lambda self: self.buyer.holds)
    @rule(
        which=ANY,
        times=st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2)]),
        on_excess=st.sampled_from(["debt", "clip", "refuse"]),
    )
    def settles_work(self, which: int, times: Fraction, on_excess: str) -> None:
        self.do("settle_work", which=which, times=times, on_excess=on_excess)

    @precondition(lambda self: self.buyer.prices.free and len(self.buyer.others) < 2)
    @rule()
    def signs_up_again(self) -> None:
        self.do("sign_up_again")

    @rule(seconds=st.sampled_from(WAITS))
    def waits(self, seconds: int) -> None:
        self.do("wait", seconds=seconds)

    @precondition(lambda self: self.buyer.refundable is not None)
    @rule(part=st.sampled_from([Fraction(1), Fraction(1, 2)]))
    def is_refunded(self, part: Fraction) -> None:
        self.do("be_refunded", part=part)


def play(market: Market, examples: int, *, is_random: bool) -> None:
    """Let so many buyers try. Raises what the first one found that got more than was paid for."""
    run_state_machine_as_test(
        type("Buyers", (CheapestBuyer,), {"market": market}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            derandomize=not is_random,
            phases=[Phase.generate],  # `smallest` shrinks
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_buyer_gets_more_credits_than_were_paid_for(
    databases: Databases, template: Callable[[DefaultGrants], str]
) -> None:
    play(Market(databases, template("none")), EXAMPLES, is_random="ADVERSARY_EXAMPLES" in os.environ)
