"""Paid lines → what each gives or takes in each slot, as exact fractions."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from simulator.oracle.facts import DAY, SECONDS, Facts, Invoice, Line, Price, date_of, months_after

# Days from 1 January 1970 to the Monday after it.
MONDAY = 4


@dataclass(frozen=True, eq=False)
class Share:
    """What one line gives (or takes, below zero) in one slot, from `moment` on."""

    line: Line
    invoice: Invoice
    price: Price
    subscription: str
    item: str
    moment: int
    slot: tuple[int, int]
    # What slots are counted from, and which this one is.
    grid: tuple[int, int]
    credits: Fraction
    # What the whole slot would be worth.
    whole: int
    is_first: bool
    # The line began within the slot: a change, or a short first period.
    is_change: bool
    gives_back: bool
    # Stripe credits money for time that nobody paid for (it is still to be paid, or a coupon paid). The money is there
    # at once, so all of it counts at once.
    at_once: bool
    # A give-back waits where the line that it credits waits.
    known_at: int
    # Since when the line that adds, or that is credited, adds time.
    granted_from: int

    @property
    def is_free(self) -> bool:
        return not self.gives_back and self.line.paid == 0


@dataclass(frozen=True, eq=False)
class Paid:
    """A line of a paid invoice that is about a subscription item."""

    line: Line
    invoice: Invoice
    order: int

    @property
    def item(self) -> str:
        assert self.line.item is not None
        return self.line.item

    @property
    def price(self) -> Price:
        assert self.line.price is not None
        return self.line.price


class Worth:
    """All lines of an account, told apart: what adds time, and what gives it back of which line."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        of_items = [
            (line, invoice)
            for invoice in sorted(facts.invoices, key=lambda invoice: invoice.paid_at)
            for line in invoice.lines
            if line.item is not None
            and line.subscription in facts.subscriptions
            and line.price is not None
            # Of no seats there is nothing to have; usage of nothing is a seat all the same.
            and (line.quantity > 0 or line.price.is_metered)
        ]
        every = [Paid(line, invoice, order) for order, (line, invoice) in enumerate(of_items)]
        self.adding = [paid for paid in every if not self._gives_back(paid, every)]
        self.given_back = [(paid, self._credited(paid)) for paid in every if paid not in self.adding]
        self.shares = list(self._shares())

    def _gives_back(self, paid: Paid, every: list[Paid]) -> bool:
        line = paid.line
        if line.credited or line.amount < 0:
            return True
        if line.amount > 0 or not line.is_proration:
            return False
        same = (line.item, paid.price.id, line.quantity)
        before = any(
            (other.line.item, other.price.id, other.line.quantity) == same
            for other in every
            if other.invoice.id != paid.invoice.id
            and other.line.start < line.end
            and other.order < paid.order
        )
        # Else it is itself what the change adds, and a coupon pays for it.
        another_adds = any(
            other.invoice.id == paid.invoice.id
            and other.line.item == line.item
            and other.line.id != line.id
            and other.line.is_proration
            and other.line.start == line.start
            and other.line.amount >= 0
            and not other.line.credited
            for other in every
        )
        return before and another_adds

    def _credited(self, paid: Paid) -> Paid | None:
        line = paid.line
        if line.credited:
            return max(self._named(line), key=lambda other: other.line.paid > 0, default=None)
        covering = [
            other
            for other in self.adding
            if (other.line.item, other.price.id) == (line.item, paid.price.id)
            and other.line.start <= line.start < other.line.end
        ]
        return max(covering, key=lambda other: (other.line.start, other.order), default=None)

    def _named(self, line: Line) -> list[Paid]:
        return [other for other in self.adding if other.line.id in line.credited]

    def _grid(self, paid: Paid, as_of: int) -> Iterator[tuple[int, int]]:
        """(anchor, number) of the slots that a line's period touches, by the anchor of a moment."""
        line, price = paid.line, paid.price
        assert price.interval is not None
        assert line.subscription is not None
        if price.interval in SECONDS:
            start = min(line.start, line.end - SECONDS[price.interval] * price.count)
            yield start, 0
            return
        anchor = self.facts.subscriptions[line.subscription].at(as_of).anchor
        number = (line.start - anchor) // (31 * 86_400) - 2
        while months_after(anchor, number + 1) <= line.start:
            number += 1
        while months_after(anchor, number) < line.end:
            yield anchor, number
            number += 1

    def is_trial(self, line: Line) -> bool:
        """The line of no amount that a trial begins with."""
        if line.paid != 0 or line.subscription is None:
            return False
        state = self.facts.subscriptions[line.subscription].at(line.start)
        if state.trial_start is None or state.trial_end is None:
            return False
        return state.trial_start <= line.start < state.trial_end

    def _shares(self) -> Iterator[Share]:
        for paid in self.adding:
            if not self.is_trial(paid.line):
                yield from self._shares_of(paid, paid)
        for paid, credited in self.given_back:
            owed = [self.facts.owed[name] for name in paid.line.credited if name in self.facts.owed]
            if paid.line.paid < 0 and (credited or any(paid.line.start <= until for until in owed)):
                yield from self._shares_of(paid, credited or paid, gives_back=True)

    def _shares_of(self, paid: Paid, granted: Paid, *, gives_back: bool = False) -> Iterator[Share]:
        line, price = paid.line, granted.price
        # Of several tiers that are credited those that something was paid for.
        bought = sum(other.line.quantity for other in self._named(line) if other.line.paid > 0)
        quantity = min(line.quantity, bought or line.quantity)
        ends = [max(p.line.start, p.invoice.paid_at) for p, c in self.given_back if c is granted]
        is_first = True
        # Time of which no line is known is given back as it was before the change, which may move the anchor.
        as_of = granted.line.start - (1 if gives_back and granted is paid else 0)
        for anchor, number in self._grid(granted, as_of):
            start, end = months_after(anchor, number), months_after(anchor, number + 1)
            from_, to = max(line.start, start), min(line.end, end)
            at_once = gives_back and (granted is paid or granted.line.paid == 0)
            if from_ >= to:
                continue
            given_at = start if gives_back and granted is paid else max(granted.line.start, start)
            seats = 1 if price.is_metered else quantity
            whole = price.credits("monthly_credits", given_at) * seats
            credits = whole * Fraction(to - from_, end - start)
            # A credit for time that cost nothing takes nothing: it ends what begins after it is known.
            ended = (
                not gives_back and line.paid == 0 and not is_first and any(start >= moment for moment in ends)
            )
            if credits and not ended:
                yield Share(
                    line=line,
                    invoice=paid.invoice,
                    price=price,
                    subscription=line.subscription or "",
                    item=paid.item,
                    moment=line.start if at_once else from_,
                    slot=(start, end),
                    grid=(anchor, number),
                    credits=-credits if gives_back else credits,
                    whole=whole,
                    is_first=is_first,
                    is_change=line.start > start,
                    gives_back=gives_back,
                    at_once=at_once,
                    known_at=paid.invoice.paid_at,
                    granted_from=granted.line.start,
                )
            is_first = False


def bucket(share: Share) -> tuple[str, int]:
    """The calendar slot that credits without a price come once for.

    It is the month of the slot's start in UTC. Of plans by weeks or days it is one of the bins of so many weeks or days
    that are counted from Monday, 5 January 1970.
    """
    interval, start = share.price.interval, share.slot[0]
    if interval in SECONDS:
        days = SECONDS[interval] * share.price.count // DAY
        return f"{days} days", (start // DAY - MONDAY) // days
    return "month", date_of(start).year * 12 + date_of(start).month


def expiry(share: Share) -> int | None:
    """When what is granted for a slot lapses, by the plan's rule at that moment."""
    rule, _, number = share.price.term("credits_rollover", share.moment, "all").partition(":")
    if rule not in ("none", "periods"):
        return None
    months = 1 + int(number or 0)
    anchor, slot = share.grid
    usual = months_after(anchor, slot + months)
    if share.known_at > share.moment + DAY:
        return max(usual, months_after(share.known_at, months))
    return usual
