"""What Stripe and the project say of one account, as plain values: the oracle's only input besides what the app spent.

Times are seconds since 1970 in UTC, money is in minor units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dateutil.relativedelta import relativedelta

DAY = 86_400
SECONDS = {"day": DAY, "week": 7 * DAY}


def date_of(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def months_after(moment: int, months: int) -> int:
    """So many months later; a day that the month does not have becomes its last."""
    return int((date_of(moment) + relativedelta(months=months)).timestamp())


@dataclass(frozen=True, eq=False)
class Price:
    """`terms`: (since when, metadata), oldest first; the product's metadata where the price has none."""

    id: str
    product: str
    interval: str | None = None
    count: int = 1
    terms: tuple[tuple[int, Mapping[str, str]], ...] = ()
    currency: str = "usd"
    is_metered: bool = False
    is_custom_amount: bool = False

    def term(self, name: str, moment: int, default: str = "") -> str:
        """What was declared at that moment; before the first state that is known, what that one says."""
        metadata = self.terms[0][1]
        for since, newer in self.terms:
            if since <= moment:
                metadata = newer
        return metadata.get(name, default)

    def credits(self, name: str, moment: int) -> int:
        return int(self.term(name, moment, "0"))


@dataclass(frozen=True, eq=False)
class Line:
    id: str
    price: Price | None
    amount: int
    start: int
    end: int
    quantity: int = 1
    # What coupons took off.
    discount: int = 0
    subscription: str | None = None
    item: str | None = None
    is_proration: bool = False
    # The lines that Stripe says this one credits.
    credited: tuple[str, ...] = ()

    @property
    def paid(self) -> int:
        return self.amount - self.discount


@dataclass(frozen=True, eq=False)
class Invoice:
    """A paid invoice."""

    id: str
    paid_at: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        return sum(line.paid for line in self.lines)


@dataclass(frozen=True)
class State:
    """A subscription from a moment on."""

    since: int
    status: str
    anchor: int
    is_collection_paused: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    prices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subscription:
    id: str
    states: tuple[State, ...]

    def at(self, moment: int) -> State:
        """The state at a moment; the first one before it."""
        found = self.states[0]
        for state in self.states:
            if state.since <= moment:
                found = state
        return found


@dataclass(frozen=True, eq=False)
class Sale:
    """Packs paid for at Checkout without an invoice: (price, quantity, amount).

    `captured`: what was paid, where a later capture took less than the amounts. `charged_at`: when the charge was made
    that was paid, where that was before.
    """

    id: str
    paid_at: int
    packs: tuple[tuple[Price, int, int], ...]
    captured: int | None = None
    charged_at: int | None = None

    @property
    def asked(self) -> int:
        return sum(amount for _, _, amount in self.packs)

    @property
    def total(self) -> int:
        """What was paid for all of them."""
        return self.asked if self.captured is None else self.captured


@dataclass(frozen=True)
class Return:
    """Money that goes back of an invoice or a sale: a refund or a credit note. `lines`: what it names of them."""

    id: str
    of: str
    at: int
    amount: int
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    undone_at: int | None = None


@dataclass(frozen=True)
class Dispute:
    id: str
    of: str
    opened_at: int
    amount: int
    closed_at: int | None = None
    is_lost: bool = False


@dataclass(frozen=True)
class FreeRule:
    """Credits without a subscription: `every` once, day, week or month; `expires` period_end, never or "30 days"."""

    name: str
    credits: int
    every: str
    expires: str
    until_subscribed: bool = False
    once_per_person: bool = True


@dataclass(frozen=True)
class User:
    """Who owns the account. `is_somebody_known`: another account of the same person signed up before."""

    signed_up_at: int = 0
    confirmed_at: int | None = 0
    is_somebody_known: bool = False


@dataclass(frozen=True)
class Facts:
    """All of one account."""

    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict[str, Subscription])
    invoices: tuple[Invoice, ...] = ()
    # Lines that are still to be paid → until when, as far as a change that credits them can tell.
    owed: Mapping[str, int] = field(default_factory=dict[str, int])
    sales: tuple[Sale, ...] = ()
    returns: tuple[Return, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    user: User = field(default_factory=User)
    free_rules: tuple[FreeRule, ...] = ()
