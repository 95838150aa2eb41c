"""A seed → who joins a business when, and what each customer does when. Pure: nothing here knows a process.

An act has a seed of its own and acts on what it finds, so what it comes to depends on the business alone and not on the
workers that follow it. What begins in one span and must end (a pause, a dispute, a card that fails) ends in it: at a
quiet moment nothing waits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

DAY = 86_400
HOUR = 3_600
# Of no calendar month, so that quiet moments move through the months of customers.
SPAN_DAYS = 15
# At the end of a span, so that what the last act began is over.
FREE_SECONDS = 6 * HOUR
# Where months end is where calendars go wrong.
START = 1_990_612_807  # 2033-01-29 12:00:07
# How often each kind of act comes, within a span of a customer.
WEIGHTS = {
    "subscribe": 3.0,
    "switch": 4.0,
    "seats": 2.0,
    "cancel": 1.5,
    "keep": 0.5,
    "buy_pack": 3.0,
    "refund": 1.5,
    "credit": 1.0,
    "discount": 0.7,
    "balance": 0.5,
    "warn": 1.5,
    "fail_card": 1.0,
    "dispute": 1.0,
    "pause": 0.7,
}
# The same for an adversary, who looks for credits that nobody pays for: in bursts, of acts that follow each other soon.
ADVERSARY_WEIGHTS = {
    "check_out": 4.0,
    "switch": 4.0,
    "seats": 3.0,
    "cancel": 3.0,
    "keep": 0.5,
    "spend_all": 5.0,
    "get_refund": 2.0,
    "dispute_last": 1.5,
    "warn_of_last": 1.5,
    "fail_card": 1.0,
    "pause": 0.7,
}
BURSTS = (2, 3, 5)
ACTS_OF_BURST = (2, 3, 5, 8)
PAUSES_SECONDS = (5, 60, 600, 2 * HOUR)
# One in so many customers is an adversary, if there are any.
ONE_IN = 4
# What ends what another act began.
ENDS = {"fail_card": "mend_card", "dispute": "decide", "dispute_last": "decide", "pause": "resume"}


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who joins. A team has members, who spend; some never spend, so that what lapses is seen too."""

    number: int
    joins_at: int
    is_team: bool
    spends: bool
    # Events of an unlinked customer are parked.
    links_after_seconds: int
    is_adversary: bool = False

    @property
    def email(self) -> str:
        return f"customer{self.number}@example.com"


@dataclass(frozen=True, slots=True)
class Act:
    at: int
    customer: Customer
    what: str
    seed: int


@dataclass(frozen=True, slots=True)
class Span:
    """What happens until a quiet moment, oldest first."""

    number: int
    start: int
    until: int
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class Business:
    customers: tuple[Customer, ...]
    spans: tuple[Span, ...]


def business(seed: int, days: int, customers: int, *, adversary: bool = False) -> Business:
    """The same for the same arguments."""
    draw = Random(f"business {seed}")  # noqa: S311 - a life, not a secret
    until = START + days * DAY
    people = tuple(
        _customer(draw, number, days, is_adversary=adversary and number % ONE_IN == 0)
        for number in range(customers)
    )
    spans = tuple(
        Span(number, start, min(start + SPAN_DAYS * DAY, until), ())
        for number, start in enumerate(range(START, until, SPAN_DAYS * DAY))
    )
    return Business(people, tuple(_lived(draw, span, people) for span in spans))


def _customer(draw: Random, number: int, days: int, *, is_adversary: bool) -> Customer:
    is_first = number % 4 == 0
    return Customer(
        number,
        joins_at=START
        + (HOUR * (1 + number) if is_first else draw.randrange(HOUR, max(days * 2 // 3, 1) * DAY)),
        is_team=draw.random() < 0.2,
        spends=draw.random() < 0.6 and not is_adversary,
        links_after_seconds=draw.choice([0, 0, 0, 2 * HOUR]),
        is_adversary=is_adversary,
    )


def _lived(draw: Random, span: Span, people: tuple[Customer, ...]) -> Span:
    acts = [act for each in people for act in _acts(draw, span, each)]
    return Span(
        span.number,
        span.start,
        span.until,
        tuple(sorted(acts, key=lambda act: (act.at, act.customer.number))),
    )


def _acts(draw: Random, span: Span, customer: Customer) -> Iterator[Act]:
    first, last = max(span.start, customer.joins_at), span.until - FREE_SECONDS
    if first >= last:
        return
    if span.number == 0 or span.start - FREE_SECONDS <= customer.joins_at:
        yield Act(first, customer, "join", draw.randrange(10**9))
        if customer.links_after_seconds:
            yield Act(first + customer.links_after_seconds, customer, "link", 0)
        first += 60
        what = "check_out" if customer.is_adversary else "subscribe"
        yield Act(first, customer, what, draw.randrange(10**9))
        first += 3 * HOUR
    count = draw.choice([0, 1, 1, 2])
    if first >= last:
        return
    if customer.is_adversary:
        times = sorted(_bursts(draw, first, last))
        names = draw.choices(list(ADVERSARY_WEIGHTS), list(ADVERSARY_WEIGHTS.values()), k=len(times))
    else:
        names = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
        times = sorted(draw.randrange(first, last) for _ in names)
    for name, at in zip(names, times, strict=True):
        yield Act(at, customer, name, draw.randrange(10**9))
        if name in ENDS:
            yield Act(draw.randrange(at + 60, last + HOUR), customer, ENDS[name], draw.randrange(10**9))


def _bursts(draw: Random, first: int, last: int) -> Iterator[int]:
    """Moments of acts."""
    for _ in range(draw.choice(BURSTS)):
        at = draw.randrange(first, last)
        for _ in range(draw.choice(ACTS_OF_BURST)):
            if at < last:
                yield at
            at += draw.choice(PAUSES_SECONDS)
