"""Overage: how far spends may go below zero, and what of that is billed.

The highest limit of the plans of a subscription that is active (or past due) and not paused counts. What is billed is
what is owed when a month of credits ends, and at most what spends of that month owe; at once when the subscription
ends, has no overage any more, or gets another billing anchor.
"""

from dataclasses import dataclass, field, replace

from simulator.oracle.facts import SECONDS, Facts, Price, State, months_after
from simulator.oracle.ledger import Ledger

WITH_OVERAGE = ("active", "past_due")


@dataclass(frozen=True)
class Terms:
    subscription: str
    price: Price
    anchor: int
    limit: int
    pack: str


@dataclass(frozen=True)
class Period:
    terms: Terms
    since: int
    end: int


@dataclass
class Overages:
    """`claimed`: (when, credits) of each bill."""

    facts: Facts
    ledger: Ledger
    period: Period | None = None
    claimed: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def next_end(self) -> int | None:
        return self.period and self.period.end

    def limit(self, now: int) -> int:
        terms = self._terms(now)
        return 0 if terms is None else terms.limit

    def judge(self, now: int) -> None:
        """End what is over by now. What is granted at that moment comes after it."""
        terms, period = self._terms(now), self.period
        while period is not None and period.end <= now:
            self._claim(period, period.end)
            period = replace(period, since=period.end, end=_end(period.terms, period.end))
        if period is not None and (terms is None or _is_another(period.terms, terms)):
            self._claim(period, now)
            period = None
        if terms is not None:
            since = now if period is None else period.since
            period = Period(terms, since, _end(terms, now))
        self.period = period

    def _claim(self, period: Period, until: int) -> None:
        made = sum(debt for at, debt in self.ledger.debts if period.since <= at < until)
        credits = min(made, self.ledger.debt)
        if credits > 0:
            self.claimed.append((until, credits))

    def _terms(self, now: int) -> Terms | None:
        """The plan with the highest limit, of several the one that was subscribed to first."""
        found: list[Terms] = []
        for subscription in self.facts.subscriptions.values():
            state = subscription.at(now)
            if subscription.states[0].since <= now and _has_overage(state):
                for price in (self.facts.prices[name] for name in state.prices):
                    limit, pack = price.credits("overage_limit", now), price.term("overage_pack", now)
                    if limit > 0:
                        found.append(Terms(subscription.id, price, state.anchor, limit, pack))
        return max(found, key=lambda terms: terms.limit, default=None)


def _has_overage(state: State) -> bool:
    return state.status in WITH_OVERAGE and not state.is_collection_paused


def _is_another(before: Terms, now: Terms) -> bool:
    return (before.subscription, before.anchor) != (now.subscription, now.anchor) or (
        before.price is not now.price and before.pack != now.pack
    )


def _end(terms: Terms, moment: int) -> int:
    """The first end of a month of credits (of a plan by days or weeks: of its period) after a moment."""
    seconds = SECONDS.get(terms.price.interval or "", 0) * terms.price.count
    if seconds:
        return terms.anchor + ((moment - terms.anchor) // seconds + 1) * seconds
    number = max((moment - terms.anchor) // (32 * 86_400), 0)
    while months_after(terms.anchor, number) <= moment:
        number += 1
    return months_after(terms.anchor, number)
