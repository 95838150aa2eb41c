"""Credits of one account: what was granted, spent, taken back, carried and has lapsed. Knows nothing of Stripe."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

NEVER = 1 << 62


@dataclass(eq=False)
class Lot:
    """Credits that were granted for one thing."""

    kind: str
    granted: int
    number: int
    remaining: int
    expires_at: int | None = None
    spent: int = 0
    lapsed: int = 0
    frozen: int = 0
    # What was granted together with what was granted less for what was carried; whether it may be less for that.
    declared: int = 0
    is_less_carried: bool = False
    # How much of what it was granted less is carried again.
    again: int = 0
    # How much of it was asked back, taken or not.
    asked: int = 0
    subscription: str | None = None
    item: str | None = None
    # Of a month of a subscription: when it began, and since when the lot counts.
    slot: int = 0
    moment: int = 0
    paid_at: int = 0
    # The invoices or the sale that it was paid with.
    paid_with: set[str] = field(default_factory=set[str])

    def __str__(self) -> str:
        began = datetime.fromtimestamp(self.slot or self.paid_at, UTC).isoformat()[:19]
        return (
            f"{self.kind}:{self.item}, {self.granted}, {self.remaining}, {began} "
            f"(spent {self.spent}, lapsed {self.lapsed}, frozen {self.frozen}), {', '.join(sorted(self.paid_with))}"
        )

    @property
    def kept_back(self) -> int:
        return self.declared - self.granted - self.again

    def take(self, amount: int) -> int:
        """Take up to `amount` of what is unspent, what has lapsed first; how much was taken."""
        lapsed = min(amount, self.lapsed)
        taken = min(amount - lapsed, self.remaining)
        self.lapsed -= lapsed
        self.remaining -= taken
        return lapsed + taken

    def give(self, amount: int, now: int) -> None:
        """Put back what was taken."""
        if self.expires_at is not None and self.expires_at <= now:
            self.lapsed += amount
        else:
            self.remaining += amount


@dataclass
class Ledger:
    lots: list[Lot] = field(default_factory=list[Lot])
    # What later credits of the account give less.
    carried: int = 0
    # What was spent that no lot could pay, and is not repaid yet; and when how much of it was made.
    debt: int = 0
    debts: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def balance(self) -> int:
        return sum(lot.remaining for lot in self.lots) - self.debt

    @property
    def frozen(self) -> int:
        return sum(lot.frozen for lot in self.lots)

    @property
    def available(self) -> int:
        return max(self.balance - self.frozen, 0)

    def grant(self, lot: Lot, now: int, *, less_carried: bool) -> None:
        """Add a lot; what is carried is set against it first."""
        lot.declared, lot.is_less_carried = lot.granted, less_carried
        if less_carried:
            kept_back = min(self.carried, lot.granted)
            self.carried -= kept_back
            lot.granted -= kept_back
        lot.number = len(self.lots)
        lot.remaining = 0
        self.put(lot, lot.granted, now)
        self.lots.append(lot)

    def put(self, lot: Lot, amount: int, now: int) -> None:
        """What comes to a lot repays what is owed first."""
        repaid = min(self.debt, amount)
        self.debt -= repaid
        lot.spent += repaid
        lot.give(amount - repaid, now)

    def give_less_reduced(self, amount: int, now: int) -> None:
        """What was kept back for what is not carried after all goes to the lots that lack it, the newest first."""
        for lot in reversed(self.lots):
            part = min(amount, lot.kept_back)
            lot.granted += part
            self.put(lot, part, now)
            amount -= part

    def lapse(self, now: int) -> None:
        for lot in self.lots:
            if lot.expires_at is not None and lot.expires_at <= now:
                lot.lapsed += lot.remaining
                lot.remaining = lot.frozen = 0

    def spend(self, amount: int, now: int) -> None:
        """The soonest expiry first, then the oldest; what lots cannot pay becomes debt."""
        debt = self._use(amount)
        if debt:
            self.debt += debt
            self.debts.append((now, debt))

    def repay(self) -> None:
        """What has come free repays what is owed."""
        self.debt = self._use(self.debt)

    def _use(self, amount: int) -> int:
        """Take from lots in the order of spending; what they lack."""
        if amount:
            for lot in sorted(self.lots, key=lambda lot: (lot.expires_at or NEVER, lot.number)):
                part = min(amount, lot.remaining - lot.frozen)
                lot.remaining -= part
                lot.spent += part
                amount -= part
        return amount

    def take(self, lots: Iterable[Lot], amount: int) -> list[tuple[Lot, int]]:
        """Take as much as is unspent of lots, in their order."""
        taken: list[tuple[Lot, int]] = []
        for lot in lots:
            part = lot.take(amount)
            amount -= part
            if part:
                lot.asked += part
                taken.append((lot, part))
        return taken
