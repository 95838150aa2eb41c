"""The ledger of the last months, replayed with the prices as they were and with those of a plan file → what differs.

Pure: no database. Both sides go through the same replay, so that they can be compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from cli.plans.file import CustomPack, FixedPack, Plan, PlanFile, Price
from cli.plans.history import Account, Movement, Payment, Sold
from cli.plans.pricing import cost_of, credits_of

ASSUMPTIONS = (
    "Everybody uses as much as they did, whatever it costs: no account buys more, leaves or waits because of a price.",
    "Use that an account could not pay for counts as unpaid. It is not carried on as debt.",
    "Work is priced again from its recorded quantities; all other spends cost what they cost.",
    "Work whose hold was clipped is charged the same share as before.",
    "Credits and payments of a plan or pack change in proportion, by its lookup key; prices without one stay.",
    "Credits expire when they did; holds, caps, budgets, overdrafts and frozen accounts are left out.",
    "Costs are those of the plan file on both sides: quantity × cost ÷ per. Taxes and Stripe's fees are left out.",
)
_OF_SOURCE = {
    "stripe.monthly_allocation": "monthly_credits",
    "stripe.proration": "monthly_credits",
    "stripe.subscription": "initial_credits",
    "stripe.trial": "trial_credits",
    "stripe.pack": "pack_credits",
    "stripe.recharge": "pack_credits",
}


@dataclass(slots=True)
class _Lot:
    left: int
    priority: int
    expires_at: datetime | None

    def order(self) -> tuple[int, bool, datetime | None]:
        return self.priority, self.expires_at is None, self.expires_at


@dataclass(slots=True)
class Outcome:
    """One account on one side. `dry_at`: when it first could not pay for all of its use."""

    granted: int = 0
    used: int = 0
    unpaid: int = 0
    expired: int = 0
    outstanding: int = 0
    dry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One account on both sides."""

    account_id: str
    email: str | None
    now: Outcome
    new: Outcome


@dataclass(slots=True)
class Work:
    """One operation: its calls, what they were charged and would be, and what they cost you."""

    calls: int = 0
    now: int = 0
    new: int = 0
    cost: Fraction = Fraction(0)
    is_in_file: bool = True


@dataclass(slots=True)
class Simulation:
    """What a replay found. `days`: the credits outstanding at the end of each day, on both sides."""

    start: datetime
    until: datetime
    accounts: list[Row] = field(default_factory=list[Row])
    operations: dict[str, Work] = field(default_factory=dict[str, Work])
    days: list[tuple[datetime, int, int]] = field(default_factory=list[tuple[datetime, int, int]])
    revenue_now: dict[str, int] = field(default_factory=dict[str, int])
    revenue_new: dict[str, int] = field(default_factory=dict[str, int])
    difference: int = 0

    def total(self, side: str) -> Outcome:
        """All accounts of a side; `dry_at` is the first."""
        sides: list[Outcome] = [getattr(row, side) for row in self.accounts]
        return Outcome(
            sum(each.granted for each in sides),
            sum(each.used for each in sides),
            sum(each.unpaid for each in sides),
            sum(each.expired for each in sides),
            sum(each.outstanding for each in sides),
            min((each.dry_at for each in sides if each.dry_at), default=None),
        )

    def dry(self, side: str) -> int:
        """How many accounts run dry."""
        return sum(getattr(row, side).dry_at is not None for row in self.accounts)

    @property
    def cost(self) -> Fraction:
        return sum((work.cost for work in self.operations.values()), Fraction(0))


def simulate(
    file: PlanFile,
    start: datetime,
    until: datetime,
    accounts: Iterable[Account],
    payments: Iterable[Payment],
    sold: Mapping[str, Sold],
) -> Simulation:
    """Replay both sides."""
    found = Simulation(start, until)
    ends = [start + timedelta(days=day) for day in range(1, (until - start).days + 1)] or [until]
    ends[-1] = until
    totals = {"now": [0] * len(ends), "new": [0] * len(ends)}
    for account in accounts:
        now = _replay(account.opening, account.movements, ends, totals["now"])
        new = _replay(
            account.opening,
            [_changed(movement, file, sold, found.operations) for movement in account.movements],
            ends,
            totals["new"],
        )
        found.accounts.append(Row(account.account_id, account.email, now, new))
        found.difference += now.outstanding - account.left
    found.days = list(zip(ends, totals["now"], totals["new"], strict=True))
    for paid in payments:
        amount = _scaled_payment(paid, file, sold)
        for side, part in ((found.revenue_now, paid.amount), (found.revenue_new, amount)):
            side[paid.currency] = side.get(paid.currency, 0) + part
    return found


def _replay(
    opening: Iterable[Movement], movements: Iterable[Movement], ends: list[datetime], totals: list[int]
) -> Outcome:
    """The end of one account; what it has at the end of each day is added to `totals`."""
    lots = [_Lot(lot.amount, lot.priority, lot.expires_at) for lot in opening]
    outcome = Outcome()
    day = 0

    def expire(moment: datetime) -> None:
        for lot in lots:
            if lot.expires_at is not None and lot.expires_at <= moment:
                outcome.expired += lot.left
                lot.left = 0
        lots[:] = [lot for lot in lots if lot.left]

    for movement in movements:
        while day < len(ends) and ends[day] < movement.at:
            expire(ends[day])
            totals[day] += sum(lot.left for lot in lots)
            day += 1
        expire(movement.at)
        match movement.kind:
            case "grant":
                outcome.granted += movement.amount
                lots.append(_Lot(movement.amount, movement.priority, movement.expires_at))
            case "refund":
                outcome.used -= movement.amount
                lots.append(_Lot(movement.amount, movement.priority, movement.expires_at))
            case "use":
                missing = _take(lots, movement.amount)
                outcome.used += movement.amount
                outcome.unpaid += missing
                if missing and outcome.dry_at is None:
                    outcome.dry_at = movement.at
            case "debit":
                _take(lots, movement.amount)
    for later in range(day, len(ends)):
        expire(ends[later])
        totals[later] += sum(lot.left for lot in lots)
    outcome.outstanding = sum(lot.left for lot in lots)
    return outcome


def _take(lots: list[_Lot], amount: int) -> int:
    """Take from lots in the order of spending; what they don't have."""
    for lot in sorted(lots, key=_Lot.order):
        part = min(lot.left, amount)
        lot.left -= part
        amount -= part
    return amount


def _changed(
    movement: Movement, file: PlanFile, sold: Mapping[str, Sold], operations: dict[str, Work]
) -> Movement:
    """The movement as it would have been with the file."""
    if movement.operation is not None and movement.quantities is not None:
        return _priced_again(movement, movement.operation, movement.quantities, file, operations)
    if movement.kind == "grant" and movement.stripe_price_id is not None:
        return replace(movement, amount=_scaled_grant(movement, file, sold))
    return movement


def _priced_again(
    movement: Movement,
    key: str,
    quantities: Mapping[str, Any],
    file: PlanFile,
    operations: dict[str, Work],
) -> Movement:
    work = operations.setdefault(key, Work())
    operation = file.operations.get(key)
    credits = None if operation is None else credits_of(operation, quantities)
    amount = movement.amount if credits is None else round(credits * movement.part)
    sign = -1 if movement.kind == "refund" else 1
    work.now += sign * movement.amount
    work.new += sign * amount
    work.is_in_file = work.is_in_file and credits is not None
    if sign == 1:
        work.calls += 1
        work.cost += Fraction(0) if operation is None else cost_of(operation, quantities)
    return replace(movement, amount=amount)


def _scaled_grant(movement: Movement, file: PlanFile, sold: Mapping[str, Sold]) -> int:
    now = sold.get(movement.stripe_price_id or "")
    name = _OF_SOURCE.get(movement.source or "")
    price = _price_of(now, file)
    if now is None or name is None or price is None:
        return movement.amount
    old, new = now.credits.get(name, 0), _credits(price, name)
    return movement.amount if not old or new is None else movement.amount * new // old


def _scaled_payment(paid: Payment, file: PlanFile, sold: Mapping[str, Sold]) -> int:
    now = sold.get(paid.stripe_price_id or "")
    price = _price_of(now, file)
    if now is None or price is None or not now.unit_amount or price.unit_amount is None:
        return paid.amount
    return paid.amount * price.unit_amount // now.unit_amount


def _price_of(now: Sold | None, file: PlanFile) -> Price | None:
    return None if now is None or now.lookup_key is None else file.prices.get(now.lookup_key)


def _credits(price: Price, name: str) -> int | None:
    match price:
        case Plan():
            return getattr(price, name, None)
        case FixedPack():
            return price.pack_credits if name == "pack_credits" else None
        case CustomPack():
            return None
