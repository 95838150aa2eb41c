"""Sign-ups, aliases, deleted users, subscriptions, rules and days in any order: who has which free credits.

The model knows nothing of slots, locks and sets: for each day and rule it asks each person's accounts in their order.
"""

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
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

from tests.sql.calls import call, discrepancies, fetch, link
from tests.sql.free_credits import DAY, NOON, World
from tests.support import Database

RULES = {"bonus": "once", "daily": "day", "monthly": "month"}
PEOPLE = ["ada", "eve"]


@dataclass
class Account:
    """An account as the model knows it. `person` None: its address is not confirmed."""

    id: UUID
    name: str
    person: str | None
    has_user: bool = True
    is_frozen: bool = False
    is_subscribed: bool = False


@dataclass
class Rule:
    """A rule, and what it granted: (account, period) → credits."""

    name: str
    credits: int
    per_person: bool
    until_subscribed: bool
    active: bool = True
    holders: dict[str, Account] = field(default_factory=dict)
    granted: dict[tuple[UUID, str], int] = field(default_factory=dict)
    over: set[UUID] = field(default_factory=set)

    def period(self, day: datetime) -> str:
        match RULES[self.name]:
            case "once":
                return "once"
            case "day":
                return f"{day:%Y-%m-%d}"
            case _:
                return f"{day:%Y-%m}-01"

    def grant(self, accounts: list[Account], day: datetime) -> None:
        """To those of `accounts` that may have it and do not."""
        period = self.period(day)
        for account in accounts:
            if (account.id, period) in self.granted or account.id in self.over:
                continue
            if not account.has_user:
                self.over.add(account.id)
                continue
            if account.is_frozen or (self.until_subscribed and account.is_subscribed):
                continue
            if self.per_person:
                if account.person is None:
                    continue
                holder = self.holders.get(account.person)
                if holder is not account:
                    if holder is not None and (
                        holder.has_user or holder.is_frozen or (holder.id, period) in self.granted
                    ):
                        if RULES[self.name] == "once":
                            self.over.add(account.id)
                        continue
                    self.holders[account.person] = account
            self.granted[account.id, period] = self.credits


class FreeCreditsMachine(RuleBasedStateMachine):
    """Two people with several addresses each."""

    database: Database
    admin: psycopg.Connection[Any]
    app: psycopg.Connection[Any]

    @initialize()
    def begin(self) -> None:
        for table in ("free_credit_slots", "free_credit_persons", "free_credits"):
            self.admin.execute(f"truncate billing.{table} cascade")
        self.admin.execute("delete from auth.users")
        self.world = World(self.database, self.app, self.admin)
        self.day: datetime = NOON
        self.number = 0
        self.accounts: list[Account] = []
        self.rules: dict[str, Rule] = {}

    def active(self) -> list[Rule]:
        return [each for each in self.rules.values() if each.active]

    @rule(
        name=st.sampled_from(sorted(RULES)),
        credits=st.integers(1, 9),
        per_person=st.sampled_from([True, True, False]),
        until_subscribed=st.booleans(),
        active=st.sampled_from([True, True, True, False]),
    )
    def sets_a_rule(
        self, name: str, credits: int, per_person: bool, until_subscribed: bool, active: bool
    ) -> None:
        known = self.rules.get(name)
        if known is None:
            known = self.rules[name] = Rule(name, credits, per_person, until_subscribed)
        elif active and not known.active:
            known.over.clear()  # all are looked at again
        known.credits, known.per_person, known.until_subscribed = credits, per_person, until_subscribed
        known.active = active
        self.world.rule(
            name, credits, RULES[name], expires="never", once_per_person=per_person,
            until_subscribed=until_subscribed, active=active,
        )  # fmt: skip

    @rule(name=st.sampled_from(PEOPLE), is_confirmed=st.sampled_from([True, True, False]))
    def signs_up(self, name: str, is_confirmed: bool) -> None:
        self.number += 1
        email = f"{name}+{self.number}@example.com"
        id = self.world.sign_up(email) if is_confirmed else self.world.sign_up_unconfirmed(email)
        account = Account(id, name, name if is_confirmed else None)
        self.accounts.append(account)
        for each in self.active():
            each.grant([account], self.day)

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def confirms(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        if account.person is None and account.has_user:
            account.person = account.name
            self.admin.execute(
                "update auth.users set email_confirmed_at = now() "
                "where id = (select owner_id from billing.accounts where id = %s)",
                [account.id],
            )
            for each in self.active():
                each.grant([account], self.day)

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def deletes_the_user(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        self.world.delete_user(account.id)
        account.has_user = False

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def freezes_or_opens(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        account.is_frozen = not account.is_frozen
        self.admin.execute(
            "update billing.accounts set frozen_at = case when %(frozen)s then now() end, "
            "frozen_reason = case when %(frozen)s then 'a test' end where id = %(account)s",
            {"frozen": account.is_frozen, "account": account.id},
        )

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def subscribes_or_cancels(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        account.is_subscribed = not account.is_subscribed
        customer = f"cus_{account.id.hex}"
        if not fetch(self.admin, "select from billing.customers where stripe_customer_id = %s", [customer]):
            link(self.app, account.id, customer)
        self.admin.execute(
            "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, account_id, livemode, "
            "status, billing_cycle_anchor, started_at, as_of) values (%s, %s, %s, false, %s, now(), now(), now()) "
            "on conflict (stripe_subscription_id) do update set status = excluded.status",
            [
                f"sub_{account.id.hex}",
                customer,
                account.id,
                "active" if account.is_subscribed else "canceled",
            ],
        )

    @rule(days=st.sampled_from([1, 1, 1, 2, 20]), times=st.integers(1, 2))
    def days_pass(self, days: int, times: int) -> None:
        self.day += days * DAY
        self.world.go_to(self.day)
        for _ in range(times):
            call(self.app, "allocate_due_credits", accounts_max=100)
        for each in sorted(self.active(), key=lambda each: each.name):
            each.grant(self.accounts, self.day)

    @invariant()
    def they_have_what_the_model_says(self) -> None:
        if not hasattr(self, "rules"):
            return
        expected = {
            f"free_credits:{each.name}:{account}:{period}": credits
            for each in self.rules.values()
            for (account, period), credits in each.granted.items()
        }
        mine = [account.id for account in self.accounts]
        found = fetch(
            self.admin,
            "select idempotency_key, amount from billing.credit_grants where source = 'free' and account_id = any (%s)",
            [mine],
        )
        assert {row["idempotency_key"]: row["amount"] for row in found} == expected
        assert discrepancies(self.admin) == []
        off = "select invariant, business_key from billing.account_discrepancies(%s)"
        assert [row for account in mine for row in fetch(self.admin, off, [account])] == []


def test_free_credits_are_what_the_model_says(database: Database) -> None:
    with database.connect(admin=True) as admin, database.connect("service_role") as app:
        machine = type("Machine", (FreeCreditsMachine,), {"database": database, "admin": admin, "app": app})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=int(os.environ.get("FREE_EXAMPLES", "15")),
                stateful_step_count=30,
                derandomize="FREE_EXAMPLES" not in os.environ,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
