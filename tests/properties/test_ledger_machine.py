"""Grants, spends, replays and the passing of time in any order: the ledger does what a page of Python says."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
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

from tests.sql.calls import Row, discrepancies, fetch_one, grant, lots, move_clock, spend, value
from tests.support import Database, account_of, create_user

LARGEST = 2**63 - 1
AMOUNTS = st.one_of(st.integers(1, 60), st.sampled_from([1, 1000, LARGEST - 100, LARGEST]))
HOUR = timedelta(hours=1)
HALF_AN_HOUR = HOUR / 2


@dataclass
class Lot:
    """A lot as the model knows it."""

    number: int
    amount: int
    remaining: int
    priority: int
    expires_at: datetime | None

    def is_due(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def spending_order(self) -> tuple[int, bool, Any, int]:
        return (self.priority, self.expires_at is None, self.expires_at, self.number)


@dataclass
class Model:
    """One account: its lots, whether it is frozen, and each call with what it returned."""

    lots: list[Lot] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any], Row]] = field(default_factory=list)
    is_frozen: bool = False

    @property
    def balance(self) -> int:
        return sum(lot.remaining for lot in self.lots)

    def available(self, now: datetime) -> int:
        return sum(lot.remaining for lot in self.lots if not lot.is_due(now))

    def sweep(self, now: datetime) -> None:
        for lot in self.lots:
            if lot.is_due(now):
                lot.remaining = 0

    def spend(self, amount: int) -> None:
        for lot in sorted(self.lots, key=Lot.spending_order):
            taken = min(amount, lot.remaining)
            lot.remaining -= taken
            amount -= taken
        assert amount == 0


class LedgerMachine(RuleBasedStateMachine):
    """Every step is one call on one database; `admin` also moves the clock."""

    database: Database
    admin: psycopg.Connection[Any]
    app: psycopg.Connection[Any]

    @initialize()
    def sign_up(self) -> None:
        self.account: UUID = account_of(self.admin, create_user(self.database))
        self.model = Model()
        self.start: datetime = value(self.admin, "select now()")
        self.move_clock(timedelta())

    def move_clock(self, ahead_by: timedelta) -> None:
        """Lots last whole hours; the clock is half an hour off, so that none falls due in the middle of a step."""
        self.ahead_by = ahead_by
        move_clock(self.admin, ahead_by + HALF_AN_HOUR)

    def now(self) -> datetime:
        return self.start + self.ahead_by + HALF_AN_HOUR

    @rule(amount=AMOUNTS, priority=st.sampled_from([1, 100]), hours=st.none() | st.integers(1, 6))
    def grants(self, amount: int, priority: int, hours: int | None) -> None:
        expires_at = None if hours is None else self.start + self.ahead_by + hours * HOUR
        arguments = {
            "amount": amount,
            "key": f"key-{len(self.model.calls)}",
            "priority": priority,
            "expires_at": expires_at,
        }
        if self.model.balance > LARGEST - amount:
            assert self.refusal(grant, arguments) == "TB009"
            return
        entry = grant(self.app, self.account, **arguments)
        number = len(self.model.lots)
        self.model.lots.append(Lot(number, amount, amount, priority, expires_at))
        self.model.calls.append(("grant", arguments, entry))
        assert (entry["amount"], entry["balance_after"]) == (amount, self.model.balance)

    @rule(amount=AMOUNTS)
    def spends(self, amount: int) -> None:
        arguments = {"amount": amount, "key": f"key-{len(self.model.calls)}"}
        if self.model.is_frozen:
            assert self.refusal(spend, arguments) == "TB003"
        elif amount > self.model.available(self.now()):
            assert self.refusal(spend, arguments) == "TB001"
        else:
            self.model.sweep(self.now())
            self.model.spend(amount)
            entry = spend(self.app, self.account, **arguments)
            self.model.calls.append(("spend", arguments, entry))
            assert (entry["amount"], entry["balance_after"]) == (-amount, self.model.balance)

    @precondition(lambda self: self.model.available(self.now()) > 0 and not self.model.is_frozen)
    @rule()
    def spends_all_there_is(self) -> None:
        self.spends(self.model.available(self.now()))
        assert self.model.balance == 0

    @precondition(lambda self: self.model.calls)
    @rule(data=st.data())
    def replays(self, data: st.DataObject) -> None:
        kind, arguments, entry = data.draw(st.sampled_from(self.model.calls))
        move = {"grant": grant, "spend": spend}[kind]
        assert move(self.app, self.account, **arguments) == entry
        changed = arguments | {"amount": arguments["amount"] % LARGEST + 1}
        assert self.refusal(move, changed) == "TB002"

    @rule(hours=st.integers(1, 4))
    def time_passes(self, hours: int) -> None:
        self.move_clock(self.ahead_by + hours * HOUR)

    @rule()
    def freezes_or_opens(self) -> None:
        self.model.is_frozen = not self.model.is_frozen
        self.admin.execute(
            "update billing.accounts set frozen_at = case when %(frozen)s then now() end, "
            "frozen_reason = case when %(frozen)s then 'a test' end where id = %(account)s",
            {"frozen": self.model.is_frozen, "account": self.account},
        )

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        assert discrepancies(self.admin) == []
        seen = fetch_one(
            self.admin,
            "select balance, available from public.credit_balance where account_id = %s",
            [self.account],
        )
        assert seen == {
            "balance": self.model.balance,
            "available": self.model.available(self.now()),
        }
        left = [lot["remaining"] for lot in lots(self.admin, self.account)]
        assert left == [lot.remaining for lot in self.model.lots]

    def refusal(self, move: Any, arguments: dict[str, Any]) -> str | None:
        with pytest.raises(psycopg.Error) as caught:
            move(self.app, self.account, **arguments)
        return caught.value.sqlstate


def test_ledger_does_what_the_model_says(database: Database) -> None:
    with database.connect(admin=True) as admin, database.connect("service_role") as app:
        machine = type("Machine", (LedgerMachine,), {"database": database, "admin": admin, "app": app})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30,
                stateful_step_count=25,
                derandomize=True,
                phases=[Phase.generate],  # shrinking would take minutes; so few steps are read as they are
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
