"""A price list, and the most credits that it gives for a cent."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from simulator.oracle.facts import FreeRule
from stripe_local.store import Object

SEATS_MAX = 5
# Stripe shares a price out by seconds, and months have 28 to 31 days: a month's credits are cheapest where it is
# short and the period that was paid for is long: of a year's price, February costs 28 days of 366.
SHORTEST_MONTH_DAYS = 28
LONGEST_DAYS = {"day": 1, "week": 7, "month": 31, "year": 366}


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
    interval_count: int = 1

    def cost(self, seats: int) -> int:
        return self.amount * (seats - 1 if self.first_seat_free else seats)

    @property
    def credits_of_period(self) -> Fraction:
        """At the cheapest: what a whole period's price buys."""
        if (self.interval, self.interval_count) == ("month", 1):
            return Fraction(self.credits)
        days = LONGEST_DAYS[self.interval] * self.interval_count
        return self.credits * Fraction(days, SHORTEST_MONTH_DAYS)


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


def plans_of(prices: Iterable[Object]) -> PriceList:
    """The list of these prices of Stripe, which are plans of one amount for each seat."""
    return PriceList(
        tuple(
            Plan(
                number,
                price["unit_amount"],
                int(price["metadata"].get("monthly_credits", "0")),
                price["recurring"]["interval"],
                interval_count=price["recurring"]["interval_count"],
            )
            for number, price in enumerate(prices)
        )
    )
