"""What a merchant sells → prices at Stripe, and the most credits that the list gives for a cent."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from simulator.oracle.facts import FreeRule
from tests.oracle.in_process import Stripe

SEATS_MAX = 5
# Stripe shares a price out by seconds, and months have 28 to 31 days: a month's credits are cheapest where it is
# short and the period that was paid for is long: of a year's price, February costs 28 days of 366.
SHORTEST_MONTH_DAYS = 28
LONGEST_YEAR_DAYS = 366


@dataclass(frozen=True)
class Plan:
    """`amount` in cents for a period and seat. `first_seat_free`: a graduated price."""

    product: int
    amount: int
    credits: int
    interval: str = "month"
    trial_days: int = 0
    trial_credits: int = 0
    initial_credits: int = 0
    rollover: str = "all"
    first_seat_free: bool = False
    overage_limit: int = 0

    def cost(self, seats: int) -> int:
        return self.amount * (seats - 1 if self.first_seat_free else seats)

    @property
    def credits_of_period(self) -> Fraction:
        """At the cheapest: what a whole period's price buys."""
        whole = {
            "month": Fraction(1),
            "year": Fraction(LONGEST_YEAR_DAYS, SHORTEST_MONTH_DAYS),
            "week": Fraction(7, SHORTEST_MONTH_DAYS),
        }
        return self.credits * whole[self.interval]


@dataclass(frozen=True)
class Pack:
    """`amount` None: the customer chooses it, and `credits` are those of a whole dollar."""

    amount: int | None
    credits: int


@dataclass(frozen=True)
class Code:
    """A promotion code that anybody may type in. `once`: off the first invoice only."""

    percent: int
    once: bool = True
    first_time: bool = False


@dataclass(frozen=True)
class PriceList:
    """`is_classic`: subscriptions of Stripe's classic mode, which credits time by today's price, whatever was paid.

    `overage`: the pack that bills what is owed at the end of a month. `free`: rules of credits without a subscription.
    """

    plans: tuple[Plan, ...]
    packs: tuple[Pack, ...] = ()
    codes: tuple[Code, ...] = ()
    is_classic: bool = False
    overage: Pack = Pack(100, 50)
    free: tuple[FreeRule, ...] = ()

    @property
    def overage_limit(self) -> int:
        return max((plan.overage_limit for plan in self.plans), default=0)

    @property
    def best_rate(self) -> Fraction:
        """Credits for a cent where they are cheapest, by the best code that leaves something to be paid."""
        rates = [
            plan.credits_of_period * seats / plan.cost(seats)
            for plan in self.plans
            for seats in range(1, SEATS_MAX + 1)
            if plan.cost(seats) > 0
        ]
        billed = (self.overage,) if self.overage_limit else ()
        rates += [Fraction(pack.credits, pack.amount or 100) for pack in (*self.packs, *billed)]
        paid = min((1 - Fraction(code.percent, 100) for code in self.codes if code.percent < 100), default=1)
        return max(rates, default=Fraction(0)) / paid


@dataclass(frozen=True)
class Offers:
    """Ids of the prices, and codes as they are typed in, in the order of the list."""

    plans: list[str]
    packs: list[str]
    codes: list[str]


def put_on_sale(stripe: Stripe, prices: PriceList) -> Offers:
    products = {
        number: stripe.post("products", name=f"Product {number}")["id"]
        for number in sorted({plan.product for plan in prices.plans})
    }
    overage = _pack(stripe, prices.overage) if prices.overage_limit else ""
    return Offers(
        plans=[_plan(stripe, products[plan.product], plan, overage) for plan in prices.plans],
        packs=[_pack(stripe, pack) for pack in prices.packs],
        codes=[_code(stripe, number, code) for number, code in enumerate(prices.codes)],
    )


def _plan(stripe: Stripe, product: str, plan: Plan, overage: str) -> str:
    declared = {
        "monthly_credits": plan.credits,
        "initial_credits": plan.initial_credits,
        "trial_credits": plan.trial_credits,
        "trial_days": plan.trial_days,
    }
    metadata = {name: str(value) for name, value in declared.items() if value}
    if plan.rollover != "all":
        metadata["credits_rollover"] = plan.rollover
    if plan.overage_limit:
        metadata |= {"overage_limit": str(plan.overage_limit), "overage_pack": overage}
    cost: dict[str, Any] = {"unit_amount": plan.amount}
    if plan.first_seat_free:
        tiers = [{"up_to": 1, "unit_amount": 0}, {"up_to": "inf", "unit_amount": plan.amount}]
        cost = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    return stripe.post(
        "prices",
        product=product,
        currency="usd",
        recurring={"interval": plan.interval},
        metadata=metadata,
        **cost,
    )["id"]


def _pack(stripe: Stripe, pack: Pack) -> str:
    product = stripe.post("products", name="Credits")["id"]
    if pack.amount is not None:
        metadata = {"pack_credits": str(pack.credits)}
        return stripe.post(
            "prices", product=product, currency="usd", unit_amount=pack.amount, metadata=metadata
        )["id"]
    # Both are declared, as a merchant may who also sells a pack of fixed size: only one of them may count.
    return stripe.post(
        "prices",
        product=product,
        currency="usd",
        custom_unit_amount={"enabled": True, "minimum": 50, "preset": 1000},
        metadata={"credits_per_unit": str(pack.credits), "pack_credits": str(pack.credits * 100)},
    )["id"]


def _code(stripe: Stripe, number: int, code: Code) -> str:
    duration = "once" if code.once else "forever"
    coupon = stripe.post("coupons", percent_off=code.percent, duration=duration)["id"]
    text = f"CODE{number}"
    stripe.post(
        "promotion_codes",
        code=text,
        promotion={"type": "coupon", "coupon": coupon},
        restrictions={"first_time_transaction": code.first_time},
    )
    return text
