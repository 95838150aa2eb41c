"""What an app spends: the price of work, and what budgets allow.

A call costs its quantities by their rates, with the markup, exactly; the sum is rounded once. A budget counts what its
actor and those below it spent in its running period, where they are in the tree now, and a spend needs room on every
level; the account's own cap is the level above all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from simulator.oracle.facts import date_of

FOR_EVER = 1 << 62
NOT_ENOUGH, OVER_CAP, OVER_BUDGET, MORE_THAN_HELD = "TB001", "TB021", "TB091", "TB105"


@dataclass(frozen=True)
class Operation:
    """A price: `rates` are credits for one unit of each component, `markup` is in percent."""

    name: str
    rates: Mapping[str, Fraction]
    markup: Fraction = Fraction(0)
    minimum: int = 0
    rounding: str = "up"
    on_excess: str = "debt"

    def cost(self, quantities: Mapping[str, int]) -> int:
        calls = {"call": 1} if "call" in self.rates else {}
        exact = sum(
            (self.rates[name] * number for name, number in (calls | dict(quantities)).items()), Fraction(0)
        ) * (1 + self.markup / 100)
        rounded = {
            "up": math.ceil(exact),
            "down": math.floor(exact),
            "half_up": math.floor(exact + Fraction(1, 2)),
        }
        return max(self.minimum, rounded[self.rounding])


@dataclass(frozen=True)
class Work:
    """What work used; `held`: what it was estimated to use before, None if it is charged without a hold."""

    operation: Operation
    used: Mapping[str, int]
    held: Mapping[str, int] | None = None
    on_excess: str | None = None

    @property
    def policy(self) -> str:
        return self.on_excess or self.operation.on_excess


@dataclass(frozen=True)
class Spend:
    """Credits of an amount, or those that work costs.

    `was_allowed`: it happened, so it counts even where the rules leave less by then, because an event arrived late.
    """

    at: int
    amount: int = 0
    actor: str | None = None
    work: Work | None = None
    was_allowed: bool = False


@dataclass(frozen=True)
class Budget:
    """From a moment on. `actor` None: the account's own cap. `cap` None: it only counts."""

    since: int
    actor: str | None
    cap: int | None
    period: str
    parent: str | None = None


def period_start(period: str, moment: int) -> int:
    """When the period began that runs at a moment: at the full hour, at midnight, on Monday, on the first."""
    now = date_of(moment).replace(minute=0, second=0, microsecond=0)
    if period == "total":
        return -FOR_EVER
    if period != "hour":
        now = now.replace(hour=0)
    if period == "week":
        now -= timedelta(days=now.weekday())
    if period == "month":
        now = now.replace(day=1)
    return int(now.timestamp())


@dataclass
class Tree:
    """All budgets of an account, and what was charged to whom."""

    budgets: Sequence[Budget] = ()
    charged: list[tuple[int, str | None, int]] = field(default_factory=list[tuple[int, str | None, int]])

    def at(self, moment: int) -> dict[str | None, Budget]:
        """The budgets as they were set last by a moment."""
        return {budget.actor: budget for budget in self.budgets if budget.since <= moment}

    def path(self, actor: str | None, moment: int) -> list[Budget]:
        """Those that count what an actor spends, from its own up, and the account's cap."""
        now = self.at(moment)
        found: list[Budget] = []
        if actor is not None:
            names = (actor, actor.split(":")[0] + ":*", "*")
            name = next((name for name in names if name in now), None)
            while name is not None:
                found.append(now[name])
                name = now[name].parent
        return found + ([now[None]] if None in now else [])

    def used(self, actor: str | None, moment: int) -> int:
        """What a budget has counted in its running period."""
        since = period_start(self.at(moment)[actor].period, moment)
        return sum(
            amount
            for at, who, amount in self.charged
            if since <= at and any(budget.actor == actor for budget in self.path(who, moment))
        )

    def refusal(self, actor: str | None, amount: int, moment: int) -> str | None:
        """Why a spend is not allowed: the account's cap is asked first."""
        for budget in reversed(self.path(actor, moment)):
            if budget.cap is not None and amount > budget.cap - self.used(budget.actor, moment):
                return OVER_CAP if budget.actor is None else OVER_BUDGET
        return None
