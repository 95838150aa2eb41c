"""Movements of every kind, replays and the passing of time in any order: the ledger does what the model says."""

import math
import os
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sql.calls import Row, call, discrepancies, fetch, fetch_one, lots, move_clock, value
from tests.support import Database, account_of, create_user

LARGEST = 2**63 - 1
AMOUNTS = st.one_of(st.integers(1, 60), st.sampled_from([1, 1000, LARGEST - 100, LARGEST]))
HOUR = timedelta(hours=1)
HALF_AN_HOUR = HOUR / 2
ACTORS = st.sampled_from([None, "agent:a", "agent:b", "key:x", "nobody"])
BUDGETS = ["team", "agent:a", "agent:b", "agent:*", "key:x", "*"]
PERIODS = ["hour", "day", "total"]
POLICIES = ["clamp_and_record", "allow_negative", "block_future_grants"]


@dataclass
class Lot:
    """A lot as the model knows it; `pins` are holds and what they have of it."""

    number: int
    amount: int
    remaining: int
    priority: int
    expires_at: datetime | None
    opens_at: datetime | None = None
    pins: dict[int, int] = field(default_factory=dict)
    spent: int = 0
    is_cancelled: bool = False

    @property
    def held(self) -> int:
        return sum(self.pins.values())

    @property
    def free(self) -> int:
        return self.remaining - self.held

    def is_due(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def is_waiting(self, now: datetime) -> bool:
        return self.opens_at is not None and self.opens_at <= now and not self.is_cancelled

    def spending_order(self) -> tuple[int, bool, Any, int]:
        return (self.priority, self.expires_at is None, self.expires_at, self.number)


@dataclass
class Hold:
    """Credits set aside."""

    number: int
    id: UUID
    left: int
    expires_at: datetime
    actor: str | None = None
    rate: int | None = None  # of priced work: credits for four units, when it was held


@dataclass
class Spend:
    """What an entry took: from which lots, in their order, and as debt."""

    entry_id: int
    taken: list[tuple[Lot, int]]
    debt: int
    revoked: Lot | None = None
    actor: str | None = None
    moment: datetime | None = None

    @property
    def left(self) -> int:
        return self.debt + sum(part for _, part in self.taken)


@dataclass
class Budget:
    """What an actor and those below may use. It counts nothing: the model adds it up from the spends each time."""

    cap: int | None
    period: str
    parent: str | None


@dataclass
class Revocation:
    """What was taken of a lot and could not be."""

    id: int
    lot: Lot
    policy: str
    requested: int
    taken: int
    shortfall: int
    entry: Spend | None
    reinstated: int = 0
    returned: int = 0
    voided: int = 0
    claims: list[Spend] = field(default_factory=list)

    @property
    def left(self) -> int:
        collected = 0 if self.policy == "clamp_and_record" else self.shortfall
        return self.taken + collected - self.reinstated

    @property
    def open_shortfall(self) -> int:
        recorded = self.voided if self.policy == "clamp_and_record" else 0
        return max(self.shortfall - recorded, 0) - (self.reinstated - self.returned)


@dataclass
class Model:
    """One account."""

    lots: list[Lot] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    spends: list[Spend] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    debt: int = 0
    withheld: int = 0
    overdraft: int = 0
    overage_limit: int = 0
    is_frozen: bool = False
    rate: int = 0
    budgets: dict[str, Budget] = field(default_factory=dict)

    @property
    def may_owe(self) -> int:
        return max(self.overdraft, self.overage_limit)

    def path(self, actor: str | None) -> list[str]:
        """The budgets that count what an actor spends, from its own up."""
        if actor is None:
            return []
        names = [actor, actor.split(":")[0] + ":*", "*"]
        name = next((name for name in names if name in self.budgets), None)
        return [] if name is None else self.path_of_budget(name)

    def path_of_budget(self, name: str | None) -> list[str]:
        """The budget and those above it."""
        found: list[str] = []
        while name is not None:
            found.append(name)
            name = self.budgets[name].parent
        return found

    def used(self, name: str, now: datetime) -> tuple[int, int]:
        """What a budget has spent in its period that runs now, and holds."""
        started = {
            "hour": now.replace(minute=0, second=0, microsecond=0),
            "day": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "total": datetime.min.replace(tzinfo=UTC),
        }[self.budgets[name].period]
        spent = sum(
            spend.left
            for spend in self.spends
            if spend.moment is not None and spend.moment >= started and name in self.path(spend.actor)
        )
        return spent, sum(hold.left for hold in self.holds if name in self.path(hold.actor))

    def room(self, actor: str | None, now: datetime) -> float:
        """What the tightest budget leaves an actor."""
        caps = {name: self.budgets[name].cap for name in self.path(actor)}
        return min(
            (max(cap - sum(self.used(name, now)), 0) for name, cap in caps.items() if cap is not None),
            default=math.inf,
        )

    @property
    def balance(self) -> int:
        return sum(lot.remaining for lot in self.lots) - self.debt

    @property
    def held(self) -> int:
        return sum(lot.held for lot in self.lots)

    def in_order(self) -> list[Lot]:
        return sorted(self.lots, key=Lot.spending_order)

    def sweep(self, now: datetime) -> None:
        for hold in [hold for hold in self.holds if hold.expires_at <= now]:
            self.give_back(hold)
        self.repay()
        self.claim()
        for lot in sorted(self.lots, key=lambda lot: (lot.opens_at is None, lot.opens_at, lot.number)):
            if lot.is_waiting(now) and self.balance <= LARGEST - lot.amount:
                lot.opens_at = None
                self.open(lot, is_grant=True)
        for lot in self.lots:
            if lot.is_due(now):
                lot.remaining = lot.held

    def open(self, lot: Lot, *, is_grant: bool) -> None:
        repaid = min(self.debt, lot.amount)
        self.debt -= repaid
        lot.spent += repaid
        withheld = min(self.withheld, lot.amount - repaid) if is_grant else 0
        self.withheld -= withheld
        lot.spent += withheld
        lot.remaining = lot.amount - repaid - withheld

    def add_lot(self, amount: int, priority: int = 100, expires_at: datetime | None = None) -> Lot:
        lot = Lot(len(self.lots), amount, 0, priority, expires_at)
        self.lots.append(lot)
        return lot

    def burn(self, amount: int) -> list[tuple[Lot, int]]:
        taken = []
        for lot in self.in_order():
            part = min(amount, lot.free)
            if part > 0:
                lot.remaining -= part
                amount -= part
                taken.append((lot, part))
        assert amount == 0
        return taken

    def pin(self, hold: Hold) -> None:
        left = hold.left
        for lot in self.in_order():
            part = min(left, lot.free)
            if part > 0:
                lot.pins[hold.number] = part
                left -= part

    def capture(self, hold: Hold, amount: int) -> list[tuple[Lot, int]]:
        taken = []
        left = amount
        for lot in self.in_order():
            part = min(left, lot.pins.get(hold.number, 0))
            if part:
                lot.pins[hold.number] -= part
                lot.remaining -= part
                lot.spent += part
                left -= part
                taken.append((lot, part))
        hold.left -= amount
        return taken

    def end(self, hold: Hold) -> None:
        self.give_back(hold)
        self.repay()
        self.claim()

    def spend(self, entry_id: int, amount: int, actor: str | None, now: datetime) -> int:
        """What the lots can't pay becomes debt; returns how much."""
        debt = max(amount - sum(lot.free for lot in self.lots), 0)
        taken = self.burn(amount - debt)
        for lot, part in taken:
            lot.spent += part
        self.debt += debt
        self.spends.append(Spend(entry_id, taken, debt, actor=actor, moment=now))
        return debt

    def give_back(self, hold: Hold) -> None:
        self.holds.remove(hold)
        for lot in self.lots:
            lot.pins.pop(hold.number, None)

    def repay(self) -> None:
        """Debt takes what has come free."""
        repaid = min(self.debt, sum(lot.free for lot in self.lots))
        self.debt -= repaid
        for lot, part in self.burn(repaid):
            lot.spent += part

    def claim(self) -> None:
        """What came back to a lot is taken as far as its revocations lack it."""
        for revocation in self.revocations:
            if revocation.policy == "block_future_grants":
                collected = max(revocation.taken, revocation.reinstated)
                owed = min(self.withheld, revocation.requested - collected)
            else:
                owed = revocation.shortfall - revocation.voided
            claimed = min(revocation.lot.free, revocation.shortfall, owed)
            if revocation.policy == "allow_negative" or claimed <= 0:
                continue
            revocation.lot.remaining -= claimed
            revocation.taken += claimed
            revocation.shortfall -= claimed
            if revocation.policy == "block_future_grants":
                self.withheld -= claimed
            revocation.claims.append(Spend(0, [(revocation.lot, claimed)], 0, revocation.lot))

    def reverse(self, spend: Spend, amount: int) -> int:
        """Last taken first: debt, which comes back as a lot where it is repaid already; then lots from the end.

        Returns what went back to the lot that was revoked.
        """
        returned = 0
        debt = min(amount, spend.debt)
        spend.debt -= debt
        self.debt -= (repaid := min(debt, self.debt))
        left = amount - debt
        for index in reversed(range(len(spend.taken))):
            lot, taken = spend.taken[index]
            part = min(left, taken)
            lot.remaining += part
            if lot is spend.revoked:
                returned += part
            else:
                lot.spent -= part
            spend.taken[index] = (lot, taken - part)
            left -= part
        new = debt - repaid + left
        if new:
            self.add_lot(new).remaining = new
        self.repay()
        self.claim()
        return returned


def in_order(taken: list[tuple[Lot, int]]) -> list[tuple[Lot, int]]:
    """What was taken, in the order in which lots are spent."""
    return sorted(taken, key=lambda pair: pair[0].spending_order())


class LedgerMachine(RuleBasedStateMachine):
    """Every step is one call, by one of two connections in turn; `admin` also moves the clock."""

    database: Database
    admin: psycopg.Connection[Any]
    apps: list[psycopg.Connection[Any]]

    @initialize()
    def sign_up(self) -> None:
        self.account: UUID = account_of(self.admin, create_user(self.database))
        self.model = Model()
        self.calls: list[tuple[str, Row, Row]] = []
        # From a full hour on, so that with the half hour below no budget's hour ends in the middle of a step.
        now: datetime = value(self.admin, "select now()").astimezone(UTC)
        self.start = now.replace(minute=0, second=0, microsecond=0) + HOUR
        self.ahead_of_now = self.start - now
        self.keys = 0
        self.move_clock(timedelta())
        self.changes_the_price_of_work(rate=3)

    def move_clock(self, ahead_by: timedelta) -> None:
        """Lots last whole hours; the clock is half an hour off, so that none falls due in the middle of a step."""
        self.ahead_by = ahead_by
        move_clock(self.admin, self.ahead_of_now + ahead_by + HALF_AN_HOUR)

    @property
    def now(self) -> datetime:
        return self.start + self.ahead_by + HALF_AN_HOUR

    def in_hours(self, hours: int | None) -> datetime | None:
        return None if hours is None else self.start + self.ahead_by + hours * HOUR

    def do(self, function: str, **arguments: Any) -> Row:
        """Call it, and remember the call for a replay."""
        self.keys += 1
        arguments = {"idempotency_key": f"key-{self.keys}", **arguments}
        row = call(self.apps[self.keys % len(self.apps)], function, **arguments)
        self.calls.append((function, arguments, row))
        return row

    def refused(self, code: str, function: str, **arguments: Any) -> None:
        """The call is refused with this code; what it swept is rolled back with it."""
        before = value(self.admin, "select count(*) from billing.credit_entries")
        with pytest.raises(psycopg.Error) as caught:
            self.do(function, **arguments)
        assert caught.value.sqlstate == code, caught.value
        assert value(self.admin, "select count(*) from billing.credit_entries") == before

    @rule(amount=AMOUNTS, priority=st.sampled_from([1, 100]), hours=st.none() | st.integers(1, 6))
    def grants(self, amount: int, priority: int, hours: int | None) -> None:
        arguments = {
            "account_id": self.account,
            "amount": amount,
            "priority": priority,
            "expires_at": self.in_hours(hours),
        }
        if self.model.balance > LARGEST - amount:
            self.refused("TB009", "grant_credits", **arguments)
            return
        entry = self.do("grant_credits", **arguments)
        lot = self.model.add_lot(amount, priority, self.in_hours(hours))
        before = self.model.balance
        self.model.open(lot, is_grant=True)
        assert (entry["amount"], entry["balance_after"]) == (amount, before + amount)

    @rule(amount=st.integers(1, 60), lasts_a_day=st.booleans())
    def gives_for_free(self, amount: int, lasts_a_day: bool) -> None:
        """By a rule that holds for this account alone, and is over at once; a frozen account gets nothing."""
        self.keys += 1
        since = value(self.admin, "select created_at from billing.accounts where id = %s", [self.account])
        name, expires = f"rule_{self.account.hex}_{self.keys}", "1 day" if lasts_a_day else "never"
        given = {"every": "once", "expires": expires, "once_per_person": False, "for_accounts_since": since}
        call(self.apps[0], "set_free_credits", name=name, credits=amount, **given)
        for _ in range(2):
            call(self.apps[1], "allocate_due_credits")
        call(self.apps[0], "end_free_credits", name=name)
        model = self.swept()
        if not model.is_frozen and model.balance <= LARGEST - amount:
            lot = model.add_lot(amount, expires_at=self.now + 24 * HOUR if lasts_a_day else None)
            model.open(lot, is_grant=True)

    @rule(amount=st.integers(1, 60), opens=st.integers(1, 5), lasts=st.none() | st.integers(1, 3))
    def schedules(self, amount: int, opens: int, lasts: int | None) -> None:
        opens_at = self.in_hours(opens)
        assert opens_at is not None
        expires_at = None if lasts is None else opens_at + lasts * HOUR
        self.do(
            "schedule_credits",
            account_id=self.account,
            amount=amount,
            effective_at=opens_at,
            expires_at=expires_at,
        )
        self.model.add_lot(amount, expires_at=expires_at).opens_at = opens_at

    def swept(self) -> Model:
        self.model.sweep(self.now)
        return self.model

    @rule(amount=AMOUNTS, up_to=st.booleans(), actor=ACTORS)
    def spends(self, amount: int, up_to: bool, actor: str | None) -> None:
        if actor is not None:
            amount = min(amount, 1000)  # counters of budgets are no larger than a balance
        arguments = {"account_id": self.account, "amount": amount, "up_to": up_to, "actor": actor}
        if self.model.is_frozen:
            self.refused("TB003", "spend_credits", **arguments)
            return
        model = self.peek()
        usable = model.balance - model.held + model.may_owe
        if usable < (1 if up_to else amount):
            self.refused("TB001", "spend_credits", **arguments)
            return
        room = model.room(actor, self.now)
        if room < (1 if up_to else amount):
            self.refused("TB091", "spend_credits", **arguments)
            return
        usable = int(min(usable, room))
        model = self.swept()
        amount = min(amount, usable) if up_to else amount
        entry = self.do("spend_credits", **arguments)
        debt = model.spend(entry["id"], amount, actor, self.now)
        assert (entry["amount"], entry["debt"], entry["balance_after"]) == (-amount, debt, model.balance)

    @rule(jobs=st.lists(st.tuples(st.integers(1, 40), ACTORS), min_size=1, max_size=5))
    def spends_a_batch(self, jobs: list[tuple[int, str | None]]) -> None:
        self.keys += 1
        amounts = [amount for amount, _ in jobs]
        asked = [
            {
                "account_id": str(self.account),
                "amount": amount,
                "idempotency_key": f"batch-{self.keys}-{n}",
                "actor": actor,
            }
            for n, (amount, actor) in enumerate(jobs)
        ]
        spends = psycopg.types.json.Jsonb(asked)
        query = "select * from billing.spend_credits_batch(%s)"
        peeked = self.peek()
        usable = peeked.balance - peeked.held + peeked.may_owe
        if self.model.is_frozen or usable < sum(amounts):
            with pytest.raises(psycopg.Error) as caught:
                fetch(self.apps[0], query, [spends])
            assert caught.value.sqlstate == ("TB003" if self.model.is_frozen else "TB001")
            return
        judged = deepcopy(peeked)
        for amount, actor in jobs:
            if judged.room(actor, self.now) < amount:
                with pytest.raises(psycopg.Error) as caught:
                    fetch(self.apps[0], query, [spends])
                assert caught.value.sqlstate == "TB091"
                return
            judged.spends.append(Spend(0, [], amount, actor=actor, moment=self.now))
        entries = fetch(self.apps[0], query, [spends])
        assert entries == fetch(self.apps[1], query, [spends])
        model = self.swept()
        for (amount, actor), entry in zip(jobs, entries, strict=True):
            debt = model.spend(entry["id"], amount, actor, self.now)
            assert (entry["debt"], entry["balance_after"]) == (debt, model.balance)

    @rule(amount=st.integers(1, 60), hours=st.integers(1, 4), actor=ACTORS)
    def holds(self, amount: int, hours: int, actor: str | None) -> None:
        arguments = {
            "account_id": self.account,
            "amount": amount,
            "expires_in": hours * HOUR - HALF_AN_HOUR,
            "actor": actor,
        }
        peeked = self.peek()
        if self.model.is_frozen:
            self.refused("TB003", "hold_credits", **arguments)
        elif peeked.balance - peeked.held < amount:
            self.refused("TB001", "hold_credits", **arguments)
        elif peeked.room(actor, self.now) < amount:
            self.refused("TB091", "hold_credits", **arguments)
        else:
            hold_row = self.do("hold_credits", **arguments)
            model = self.swept()
            hold = Hold(self.keys, hold_row["id"], amount, self.now + hours * HOUR - HALF_AN_HOUR, actor)
            model.holds.append(hold)
            model.pin(hold)

    @rule(rate=st.sampled_from([0, 1, 3, 4, 9]))
    def changes_the_price_of_work(self, rate: int) -> None:
        """A price of before stays that of the holds which were made at it."""
        rates = psycopg.types.json.Jsonb({"units": {"credits": rate, "per": 4}})
        call(self.apps[0], "set_operation_price", operation=f"job {self.account}", rates=rates)
        self.model.rate = rate

    @rule(units=st.integers(0, 40), hours=st.integers(1, 4), actor=ACTORS)
    def holds_work(self, units: int, hours: int, actor: str | None) -> None:
        expires_in = hours * HOUR - HALF_AN_HOUR
        arguments = {
            "account_id": self.account,
            "operation": f"job {self.account}",
            "quantities": psycopg.types.json.Jsonb({"units": units}),
            "expires_in": expires_in,
            "actor": actor,
        }
        peeked = self.peek()
        amount = -(-units * self.model.rate // 4)
        if self.model.is_frozen:
            self.refused("TB003", "hold_work", **arguments)
        elif 0 < amount > peeked.balance - peeked.held:
            self.refused("TB001", "hold_work", **arguments)
        elif amount > peeked.room(actor, self.now):
            self.refused("TB091", "hold_work", **arguments)
        else:
            row = self.do("hold_work", **arguments)
            assert row["amount"] == amount
            model = self.swept() if amount else self.model
            hold = Hold(self.keys, row["id"], amount, self.now + expires_in, actor, self.model.rate)
            model.holds.append(hold)
            model.pin(hold)

    @precondition(lambda self: any(hold.rate is not None for hold in self.model.holds))
    @rule(data=st.data(), units=st.integers(0, 60), policy=st.sampled_from(["debt", "clip", "refuse"]))
    def settles_work(self, data: st.DataObject, units: int, policy: str) -> None:
        hold = data.draw(st.sampled_from([hold for hold in self.model.holds if hold.rate is not None]))
        assert hold.rate is not None
        usage = psycopg.types.json.Jsonb({"units": units})
        arguments = {"hold_id": hold.id, "usage": usage, "on_excess": policy}
        cost = -(-units * hold.rate // 4)
        captured = min(cost, hold.left)
        excess = cost - captured if policy == "debt" else 0
        if hold.expires_at <= self.now:
            self.refused("TB020", "settle_work", **arguments)
        elif captured < cost and policy == "refuse":
            self.refused("TB105", "settle_work", **arguments)
        else:
            charge = self.do("settle_work", **arguments)
            model = self.swept()
            taken = model.capture(hold, captured)
            model.end(hold)
            entry_ids = [charge["entry_id"], charge["excess_entry_id"]]
            if captured:
                model.spends.append(Spend(entry_ids.pop(0), taken, 0, actor=hold.actor, moment=self.now))
            if excess:
                model.spend(entry_ids.pop(0), excess, hold.actor, self.now)
            assert entry_ids in ([None], [None, None], [])
            assert (charge["credits"], charge["charged"]) == (cost, captured + excess)

    @rule(units=st.integers(0, 60), actor=ACTORS)
    def spends_work(self, units: int, actor: str | None) -> None:
        arguments = {
            "account_id": self.account,
            "operation": f"job {self.account}",
            "quantities": psycopg.types.json.Jsonb({"units": units}),
            "actor": actor,
        }
        peeked = self.peek()
        amount = -(-units * self.model.rate // 4)
        if self.model.is_frozen:
            self.refused("TB003", "spend_work", **arguments)
        elif 0 < amount > peeked.balance - peeked.held + peeked.may_owe:
            self.refused("TB001", "spend_work", **arguments)
        elif amount > peeked.room(actor, self.now):
            self.refused("TB091", "spend_work", **arguments)
        else:
            charge = self.do("spend_work", **arguments)
            if amount:
                self.swept().spend(charge["entry_id"], amount, actor, self.now)
            assert charge["charged"] == amount

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), release_rest=st.booleans())
    def captures(self, data: st.DataObject, release_rest: bool) -> None:
        hold = data.draw(st.sampled_from(self.model.holds))
        amount = data.draw(st.integers(1, hold.left + 1))
        arguments = {"hold_id": hold.id, "amount": amount, "release_rest": release_rest}
        if hold.expires_at <= self.now:
            self.refused("TB020", "capture_hold", **arguments)
        elif amount > hold.left:
            self.refused("TB025", "capture_hold", **arguments)
        else:
            entry = self.do("capture_hold", **arguments)
            model = self.swept()
            taken = model.capture(hold, amount)
            model.spends.append(Spend(entry["id"], taken, 0, actor=hold.actor, moment=self.now))
            assert entry["balance_after"] == model.balance
            if release_rest or hold.left == 0:
                model.end(hold)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def releases(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.model.holds))
        self.do("release_hold", hold_id=hold.id)
        model = self.swept()
        if hold in model.holds:
            model.give_back(hold)
            model.repay()
            model.claim()

    @precondition(lambda self: self.model.spends)
    @rule(data=st.data())
    def refunds(self, data: st.DataObject) -> None:
        spend = data.draw(st.sampled_from(self.model.spends))
        left = spend.left
        amount = data.draw(st.integers(1, left + 1))
        arguments = {"entry_id": spend.entry_id, "amount": amount}
        if amount > left:
            self.refused("TB027", "refund_spend", **arguments)
        elif self.peek().balance > LARGEST - amount:
            self.refused("TB009", "refund_spend", **arguments)
        else:
            self.do("refund_spend", **arguments)
            self.swept().reverse(spend, amount)

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), policy=st.sampled_from(POLICIES))
    def revokes(self, data: st.DataObject, policy: str) -> None:
        number = data.draw(st.integers(0, len(self.model.lots) - 1))
        model = self.swept_by_the_clock()
        lot = model.lots[number]
        earlier = [revocation for revocation in model.revocations if revocation.lot is lot]
        revocable = lot.amount - sum(each.requested - each.reinstated for each in earlier)
        amount = data.draw(st.integers(1, min(revocable + 1, 2000)))
        arguments = {
            "grant_id": lots(self.admin, self.account)[number]["id"],
            "amount": amount,
            "reason": "a test",
            "actor": "the model",
            "shortfall_policy": policy,
        }
        if amount > revocable:
            self.refused("TB027", "revoke_grant", **arguments)
            return
        if lot.opens_at is not None and amount < revocable:
            self.refused("TB032", "revoke_grant", **arguments)
            return
        row = self.do("revoke_grant", **arguments)
        taken = min(amount, lot.free)
        shortfall = min(
            amount - taken, max(lot.spent + lot.held - sum(each.open_shortfall for each in earlier), 0)
        )
        assert (row["taken"], row["shortfall"]) == (taken, shortfall)
        lot.is_cancelled = lot.opens_at is not None
        lot.remaining -= taken
        took = [(lot, taken)]
        debt = 0
        if policy == "allow_negative":
            debt = max(shortfall - sum(other.free for other in model.lots), 0)
            for other, part in model.burn(shortfall - debt):
                other.spent += part
                took.append((other, part))
            model.debt += debt
        elif policy == "block_future_grants":
            model.withheld += shortfall
        entry = None if row["entry_id"] is None else Spend(row["entry_id"], in_order(took), debt, lot)
        model.revocations.append(Revocation(row["id"], lot, policy, amount, taken, shortfall, entry))

    @precondition(lambda self: self.model.revocations)
    @rule(data=st.data())
    def reinstates(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.model.revocations) - 1))
        model = self.swept_by_the_clock()
        revocation = model.revocations[number]
        amount = data.draw(st.integers(1, revocation.left + 1))
        arguments = {
            "revocation_id": revocation.id,
            "amount": amount,
            "reason": "a test",
            "actor": "the model",
        }
        if amount > revocation.left:
            self.refused("TB027", "reinstate_grant", **arguments)
            return
        if model.balance > LARGEST - amount:
            return
        self.do("reinstate_grant", **arguments)
        lifted = 0
        if revocation.policy == "block_future_grants":
            from_taken = min(amount, max(revocation.taken - revocation.reinstated, 0))
            lifted = min(model.withheld, amount - from_taken)
            model.withheld -= lifted
        revocation.reinstated += amount
        if revocation.policy == "clamp_and_record":
            revocation.voided = max(revocation.voided, revocation.shortfall)
        left = amount - lifted
        # What it took at once, then what it took of credits that came back later.
        for took in [*([revocation.entry] if revocation.entry else []), *revocation.claims]:
            part = min(left, took.debt + sum(taken for _, taken in took.taken))
            if part:
                # The lot's own part counts before the next claim.
                revocation.returned += model.reverse(took, part)
                left -= part
        if left:
            model.open(model.add_lot(left), is_grant=False)

    @rule(amount=st.integers(-60, 60).filter(bool))
    def adjusts(self, amount: int) -> None:
        arguments = {"account_id": self.account, "amount": amount, "reason": "a test", "actor": "the model"}
        peeked = self.peek()
        if amount > 0 and self.model.balance > LARGEST - amount:
            self.refused("TB009", "adjust_credits", **arguments)
        elif amount > 0:
            self.do("adjust_credits", **arguments)
            self.model.open(self.model.add_lot(amount), is_grant=False)
        elif peeked.balance - peeked.held < -amount:
            self.refused("TB001", "adjust_credits", **arguments)
        else:
            self.do("adjust_credits", **arguments)
            for lot, part in self.swept().burn(-amount):
                lot.spent += part

    @rule(
        actor=st.sampled_from(BUDGETS),
        cap=st.sampled_from([None, 0, 20, 60, 200]),
        period=st.sampled_from(PERIODS),
        parent=st.none() | st.sampled_from(BUDGETS),
    )
    def sets_a_budget(self, actor: str, cap: int | None, period: str, parent: str | None) -> None:
        model = self.model
        arguments = {
            "account_id": self.account,
            "actor": actor,
            "cap": cap,
            "period": period,
            "parent": parent,
        }
        below = [name for name in model.budgets if actor in model.path_of_budget(name)]
        depth = max((model.path_of_budget(name).index(actor) for name in below), default=0)
        above = [] if parent not in model.budgets else model.path_of_budget(parent)
        refusal = (
            "TB095"
            if parent is not None and parent not in model.budgets and parent != actor
            else "TB094"
            if (parent == actor and actor in model.budgets) or actor in above or 1 + depth + len(above) > 5
            else "TB095"
            if parent == actor
            else None
        )
        if refusal is not None:
            with pytest.raises(psycopg.Error) as caught:
                call(self.apps[0], "set_budget", **arguments)
            assert caught.value.sqlstate == refusal
            return
        call(self.apps[0], "set_budget", **arguments)
        model.budgets[actor] = Budget(cap, period, parent)

    @precondition(lambda self: self.model.budgets)
    @rule(data=st.data())
    def removes_a_budget(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted(self.model.budgets)))
        if any(budget.parent == actor for budget in self.model.budgets.values()):
            with pytest.raises(psycopg.Error) as caught:
                call(self.apps[0], "remove_budget", account_id=self.account, actor=actor)
            assert caught.value.sqlstate == "TB096"
            return
        call(self.apps[1], "remove_budget", account_id=self.account, actor=actor)
        del self.model.budgets[actor]

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def replays(self, data: st.DataObject) -> None:
        function, arguments, row = data.draw(st.sampled_from(self.calls))
        again = call(self.apps[0], function, **arguments)
        # Entries never change; lots, holds and revocations live on.
        assert again == row if "balance_after" in row else again["id"] == row["id"]
        if function in {"spend_credits", "hold_credits"}:
            other = arguments | {"actor": "agent:b" if arguments["actor"] != "agent:b" else None}
            with pytest.raises(psycopg.Error) as caught:
                call(self.apps[1], function, **other)
            assert caught.value.sqlstate == "TB002"
        if function in {"grant_credits", "spend_credits", "hold_credits", "schedule_credits"}:
            changed = arguments | {"amount": arguments["amount"] % LARGEST + 1}
            with pytest.raises(psycopg.Error) as caught:
                call(self.apps[1], function, **changed)
            assert caught.value.sqlstate == "TB002"

    @rule(hours=st.integers(1, 4))
    def time_passes(self, hours: int) -> None:
        self.move_clock(self.ahead_by + hours * HOUR)

    @rule()
    def the_clock_sweeps(self) -> None:
        self.swept_by_the_clock()

    def swept_by_the_clock(self) -> Model:
        call(self.apps[0], "expire_due_credits")
        return self.swept()

    @rule(overdraft=st.sampled_from([0, 0, 25]))
    def sets_the_overdraft(self, overdraft: int) -> None:
        call(self.apps[0], "set_credit_limits", account_id=self.account, overdraft=overdraft)
        self.model.overdraft = overdraft

    @rule(limit=st.sampled_from([0, 0, 40]))
    def gets_overage(self, limit: int) -> None:
        """As a plan gives it: beside the overdraft the larger counts."""
        self.admin.execute(
            "update billing.credit_balances set overage_limit = %s where account_id = %s",
            [limit, self.account],
        )
        self.model.overage_limit = limit

    @rule()
    def freezes_or_opens(self) -> None:
        self.model.is_frozen = not self.model.is_frozen
        self.admin.execute(
            "update billing.accounts set frozen_at = case when %(frozen)s then now() end, "
            "frozen_reason = case when %(frozen)s then 'a test' end where id = %(account)s",
            {"frozen": self.model.is_frozen, "account": self.account},
        )

    def peek(self) -> Model:
        """The model as a sweep would leave it; itself it stays unswept, as the database does."""
        peeked = deepcopy(self.model)
        peeked.sweep(self.now)
        return peeked

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert discrepancies(self.admin) == []
        row = fetch_one(
            self.admin,
            "select b.balance, b.held, b.debt, b.withheld, v.available from billing.credit_balances as b "
            "join public.credit_balance as v using (account_id) where account_id = %s",
            [self.account],
        )
        peeked = self.peek()
        assert row == {
            "balance": self.model.balance,
            "held": self.model.held,
            "debt": self.model.debt,
            "withheld": self.model.withheld,
            "available": max(peeked.balance - peeked.held, 0),
        }
        rows = fetch(
            self.admin,
            'select actor, spent, held from public.budgets where account_id = %s order by actor collate "C"',
            [self.account],
        )
        assert rows == [
            {"actor": name, "spent": spent, "held": held}
            for name in sorted(self.model.budgets)
            for spent, held in [self.model.used(name, self.now)]
        ]
        left = [(lot["remaining"], lot["held"]) for lot in lots(self.admin, self.account)]
        assert left == [(lot.remaining, lot.held) for lot in self.model.lots]


def test_ledger_does_what_the_model_says(database: Database) -> None:
    with (
        database.connect(admin=True) as admin,
        database.connect("service_role") as app,
        database.connect("service_role") as another,
    ):
        machine = type(
            "Machine", (LedgerMachine,), {"database": database, "admin": admin, "apps": [app, another]}
        )
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=int(os.environ.get("LEDGER_EXAMPLES", "30")),
                stateful_step_count=40,
                derandomize="LEDGER_EXAMPLES" not in os.environ,
                phases=[Phase.generate],  # shrinking would take minutes; so few steps are read as they are
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
