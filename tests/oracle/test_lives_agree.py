"""Random lives: the database's credits are the oracle's, to the credit.

Where the app spends in between, events arrive in order, each while its time is now, and the two are compared after
every step. Other lives arrive when they are over: shuffled, some events twice, some late. Every life comes in the shape
of one of five versions of the API. Half of the lives are of the usual family, half of the wide one, each with seeds of
its own. `LIVES=2000` plays as many of both together; `LIVES_OF=wide LIVES_FROM=1234 LIVES=1` plays one again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from devstack.scaffold import DefaultGrants
from simulator.judge import TAKEN_OF_LATER
from simulator.oracle.credits import Oracle
from simulator.oracle.facts import DAY, FreeRule
from simulator.oracle.ledger import Ledger
from simulator.oracle.spends import Budget, Spend, Work
from tests.databases import Databases
from tests.oracle import lives
from tests.oracle.app import OPERATIONS
from tests.oracle.in_process import Stripe
from tests.oracle.kinds import FAMILIES
from tests.sql.calls import call, make_jobs_due
from tests.support import account_of, create_user
from tests.worker.conftest import Shop, opened, work
from tests.worker.events import Event
from tests.worker.test_lives import VERSIONS, Life, shuffled
from worker.jobs.overages import OVERAGE, Overages

pytestmark = pytest.mark.slow

FIRST = int(os.environ.get("LIVES_FROM", "0"))
LIVES = int(os.environ.get("LIVES", "60"))
OF = [name for name in FAMILIES if os.environ.get("LIVES_OF", name) == name]
SHRINKING_TRIES = 60
APART_SECONDS = 60
# Of one mailbox: who signed up first, and the user.
FIRST_EMAIL, EMAIL = "ada.l+first@googlemail.com", "AdaL@gmail.com"
FOUND = """
select idempotency_key, amount, remaining, effective_at at time zone 'utc', stripe_invoice_id
from billing.credit_grants where entry_id is not null order by effective_at, id
"""
# What the clock has to do next, by then: a month, free credits, or the end of a period of overage.
NEXT_DUE = """
select ceil(extract(epoch from min(due.at)))::bigint
from (
    select next_slot_at from billing.credit_schedules where disarmed_reason is null
    union all
    select greatest(next_at, billing.current_time()) from billing.free_credit_slots where next_at is not null
    union all
    select greatest(judge_at, billing.current_time()) from billing.overage_periods
) as due (at)
where due.at <= to_timestamp(%s)
"""
ALL_BUT_CARRIED = """
select
    coalesce(sum(lots.remaining + billing._lapsed_of_lot(lots)), 0)::bigint - %(carried)s,
    coalesce(sum(lots.held), 0)::bigint,
    coalesce(sum(lots.remaining) filter (
        where lots.source = 'stripe.trial' or lots.idempotency_key ^@ 'free:'
            or lots.idempotency_key ^@ 'free_pack:' or lots.idempotency_key ^@ 'pack:cs_'
            or lots.source = 'stripe.subscription' and invoices.amount_returned is not distinct from 0
    ), 0)::bigint
from billing.credit_grants as lots
left join billing.invoices on invoices.stripe_invoice_id = lots.stripe_invoice_id
where lots.account_id = %(account)s and lots.entry_id is not null
"""


class Differs(AssertionError):
    """What the oracle and the database don't agree on."""


@dataclass
class Project:
    """A database that is told of one life."""

    shop: Shop
    admin: psycopg.Connection[Any]
    account: UUID
    version: str
    # The account lives at the time of Stripe's test clock, and the database's own time stands still.
    by_clock: bool = False
    spent: int = 0
    told: int = 0
    budgets: int = 0
    is_confirmed: bool = True
    problems: list[str] = field(default_factory=list[str])

    def tell(self, stripe: Stripe, events: list[dict[str, Any]], seed: str | None = None) -> None:
        """Deliver events shuffled, or in order, each while its time is now, and let what is due happen."""
        relevant = [
            event for event in events if self.by_clock or not event["type"].startswith("test_helpers.")
        ]
        world = SimpleNamespace(world=stripe.world)
        told = Life(world, "", relevant).shown(self.version)  # type: ignore[arg-type]
        if seed is not None:
            self._deliver(stripe.now, shuffled(told, seed) if len(told) >= 8 else told)
        else:
            for some in _apart(told):
                # Months that began before it are granted before it: the oldest credits are spent first.
                self._pass_time(some[-1].created)
                self._deliver(some[-1].created, some)
        while self.shop.is_busy():
            stripe.wait(1)
            self.shop.make_due()
            self.shop.drain()
        self._pass_time(stripe.now)

    def _deliver(self, now: int, events: list[Event]) -> None:
        self.set_clock(now)
        self.shop.receive(*events)
        self.shop.drain()

    def _pass_time(self, now: int) -> None:
        """Let the clock do its work, each month at its own moment."""
        before = None
        while (due := self.shop.value(NEXT_DUE, now)) is not None and due != before:
            before = due
            self.set_clock(due)
            self.shop.app.execute("select billing.expire_due_credits()")
            self.shop.app.execute("select billing.allocate_due_credits()")
            self.shop.app.execute("select billing.claim_due_overages()")
        self.set_clock(now)
        self.shop.app.execute("select billing.allocate_due_credits()")
        self.shop.app.execute("select billing.expire_due_credits()")

    def set_clock(self, now: int) -> None:
        if not self.by_clock:
            self.admin.execute("update billing.clock set ahead_by = to_timestamp(%s) - now()", [now])

    def follow(self, life: lives.Life) -> None:
        """What happened since it was told last; then both must have the same, and the app spends."""
        self._hear(life)
        while life.app.overage is not None and self.bill(life.stripe):
            self._hear(life)
        self.compare(life)

    def _hear(self, life: lives.Life) -> None:
        events = list(life.stripe.world.events.bodies())
        new, self.told = events[self.told :], len(events)
        self.tell(life.stripe, new)

    def bill(self, stripe: Stripe) -> bool:
        """The worker bills overages, a step each; whether there were any."""
        make_jobs_due(self.admin)
        return bool(work(self.shop.worker, Overages(stripe.access()), "overage"))

    def act(self, life: lives.Life) -> None:
        """What the app does now: it sets budgets, its user confirms, it spends, and repeats what succeeded."""
        for budget in life.budgets[self.budgets :]:
            self.set_budget(budget)
        self.budgets = len(life.budgets)
        if life.confirmed_at is not None and not self.is_confirmed:
            self.confirm()
        for number, spend in enumerate(life.spent[self.spent :], self.spent):
            expected = life.oracle().outcomes[number]
            for _ in range(2 if isinstance(expected, int) else 1):
                found = self._spend(spend, f"spend-{number}")
                if found != expected:
                    raise Differs(f"{spend}: {found} in the database, {expected} by the oracle")
        self.spent = len(life.spent)

    def set_budget(self, budget: Budget) -> None:
        names = ("account_id", "actor", "cap", "period", "parent")
        values = (self.account, budget.actor, budget.cap, budget.period, budget.parent)
        if budget.actor is None:
            names, values = ("account_id", "spend_cap", "spend_cap_period"), (values[0], *values[2:4])
            if budget.cap is None:
                names, values = names[:1], values[:1]
        function = "set_credit_limits" if budget.actor is None else "set_budget"
        call(self.shop.app, function, **dict(zip(names, values, strict=True)))

    def give_for_free(self, rule: FreeRule) -> None:
        call(
            self.shop.app, "set_free_credits", name=rule.name, credits=rule.credits, every=rule.every,
            expires=rule.expires, until_subscribed=rule.until_subscribed, once_per_person=rule.once_per_person,
        )  # fmt: skip

    def confirm(self) -> None:
        self.is_confirmed = True
        self.admin.execute(
            "update auth.users set email_confirmed_at = now() "
            "where id = (select owner_id from billing.accounts where id = %s)",
            [self.account],
        )

    def _spend(self, spend: Spend, key: str) -> int | str:
        """The credits that it took, or the code of its refusal."""
        try:
            if spend.work is not None:
                return self._work(spend, spend.work, key)
            given = {"account_id": self.account, "idempotency_key": key, "actor": spend.actor}
            return -call(self.shop.app, "spend_credits", amount=spend.amount, **given)["amount"]
        except psycopg.Error as error:
            return error.sqlstate or str(error)

    def _work(self, spend: Spend, work: Work, key: str) -> int:
        app, operation = self.shop.app, work.operation.name
        given = {"account_id": self.account, "idempotency_key": key, "actor": spend.actor}
        if work.held is None:
            charge = call(app, "spend_work", operation=operation, quantities=Jsonb(work.used), **given)
            return charge["charged"]
        held = call(app, "hold_work", operation=operation, quantities=Jsonb(work.held), **given)
        settling = {
            "hold_id": held["id"],
            "usage": Jsonb(work.used),
            "on_excess": work.on_excess,
            "idempotency_key": key,
        }
        try:
            return call(app, "settle_work", **settling)["charged"]
        except psycopg.Error:
            call(app, "release_hold", hold_id=held["id"], idempotency_key=f"{key} released")
            raise

    def compare(self, life: lives.Life) -> None:
        oracle = life.oracle()
        expected = oracle.ledger
        balance = "select balance, available from public.credit_balance where account_id = %s"
        found = self.shop.app.execute(balance, [self.account]).fetchone()
        if found != (expected.balance, expected.available):
            raise Differs(
                f"the database has (balance, available) = {found}, the oracle "
                f"{(expected.balance, expected.available)}\n{self._lots(expected)}"
            )
        self._compare_budgets(oracle, life.stripe.now)
        if life.app.overage is not None:
            self._compare_overages(oracle, life)

    def _compare_budgets(self, oracle: Oracle, now: int) -> None:
        rows = self.shop.app.execute(
            "select actor, spent from public.budgets where account_id = %s", [self.account]
        ).fetchall()
        expected = {
            actor: oracle.budgets.used(actor, now) for actor in oracle.budgets.at(now) if actor is not None
        }
        if dict(rows) != expected:
            raise Differs(f"budgets have counted {dict(rows)}, {expected} by the oracle")

    def _compare_overages(self, oracle: Oracle, life: lives.Life) -> None:
        """Each was claimed once, and is on one item at Stripe, in whole packs."""
        rows = self.shop.app.execute(
            "select credits, status, id::text, quantity from billing.overages order by counted_from"
        ).fetchall()
        claimed = [credits for _, credits in oracle.overages.claimed]
        if [row[:2] for row in rows] != [(credits, "invoiced") for credits in claimed]:
            raise Differs(f"overages are {rows}, {oracle.overages.claimed} by the oracle")
        items = {
            item["metadata"][OVERAGE]: item["quantity"]
            for item in life.stripe.world.store.all("invoiceitem")
            if OVERAGE in item["metadata"]
        }
        assert life.app.overage is not None
        pack = life.app.overage[0]
        if items != {row[2]: -(-row[0] // pack) for row in rows}:
            raise Differs(f"items at Stripe are {items}, overages {rows}")

    def compare_shuffled(self, life: lives.Life) -> None:
        """The same where events came in any order.

        What is carried is set against whatever is posted first, which need not be what was first in time: it may be
        still carried here and taken off a lot there, or off a lot that lapses since. A cap lapses what is left when a
        month is posted, which time that was given back may turn out to have ended before. And what was given back is
        taken of a later month, which lapses later, if its own is posted after that. Then as much must be there of all
        together, lapsed or not, and of what is never less for what is carried: but for the initial credits of a payment
        that money came back of, for what its months lack is taken of them, or carried if they lack it later.
        """
        expected = life.credits()
        carried, lots = self._carried(), self.shop.value("select count(*) from billing.carried_credits")
        is_capped = life.policies.get("credits_rollover", "").startswith("cap")
        if (
            not is_capped
            and not expected.carried
            and not lots
            and not any(x.kept_back for x in expected.lots)
            and not self.shop.value(TAKEN_OF_LATER, self.account)
        ):
            self.compare(life)
            return
        found = self.shop.app.execute(
            ALL_BUT_CARRIED, {"account": self.account, "carried": carried}
        ).fetchone()
        whole = expected.balance + sum(lot.lapsed for lot in expected.lots) - expected.carried
        returned = life.returned()
        never_less = sum(
            lot.remaining
            for lot in expected.lots
            if not lot.is_less_carried and not (lot.kind == "initial" and lot.paid_with & returned)
        )
        if found != (whole, expected.frozen, never_less):
            raise Differs(
                f"the database has (all but what is carried, frozen, never less) = {found}, the oracle "
                f"{(whole, expected.frozen, never_less)}\n{self._lots(expected)}"
            )

    def _carried(self) -> int:
        return self.shop.value(
            "select carried from billing.credit_balances where account_id = %s", self.account
        )

    def check(self) -> None:
        """The database's own proofs, and nothing that is left in the inbox."""
        for view in ("ledger_discrepancies", "entitlement_discrepancies"):
            rows = self.shop.app.execute(f"select * from billing.{view}").fetchall()
            if rows:
                raise Differs(f"{view}: {rows}")
        unsettled = (
            "select type, status, last_error from billing.stripe_events "
            "where status not in ('applied', 'ignored')"
        )
        if rows := self.shop.app.execute(unsettled).fetchall():
            raise Differs(f"events: {rows}")

    def _lots(self, expected: Ledger) -> str:
        rows = self.shop.app.execute(FOUND).fetchall()
        carried = self._carried()
        database = "\n".join("    " + ", ".join(str(value) for value in row) for row in rows)
        oracle = "\n".join(f"    {lot}" for lot in expected.lots)
        return f"database (carried: {carried}):\n{database}\noracle (carried: {expected.carried}):\n{oracle}"


@dataclass
class Stage:
    """Where lives are played: a database for each."""

    databases: Databases
    template: Callable[[DefaultGrants], str]

    @contextmanager
    def project(self, life: lives.Life, version: str) -> Iterator[Project]:
        with (
            self.databases.copy(self.template("none")) as database,
            opened(database, life.stripe.reader()) as shop,
            database.connect(admin=True) as admin,
        ):
            admin.execute(
                "update billing.settings set initial_credits_per = %s, one_trial_per = %s",
                [life.rules.initial_credits_per, life.rules.one_trial_per],
            )
            project = Project(shop, admin, UUID(int=0), version, getattr(life, "by_clock", False))
            if life.spends:
                project.set_clock(life.born)
            self._open(project, life)
            shop.app.execute("select billing.link_customer(%s, %s)", [project.account, life.customer])
            yield project

    def _open(self, project: Project, life: lives.Life) -> None:
        """What the app has set up when its user signs up."""
        app = project.shop.app
        for rule in life.app.free_rules:
            project.give_for_free(rule)
        for operation in OPERATIONS if life.app.has_work else ():
            rates = {
                name: {"credits": rate.numerator, "per": rate.denominator}
                for name, rate in operation.rates.items()
            }
            call(
                app, "set_operation_price", operation=operation.name, rates=Jsonb(rates), markup=int(operation.markup),
                minimum=operation.minimum, rounding=operation.rounding, on_excess=operation.on_excess,
            )  # fmt: skip
        if life.app.is_somebody_known:
            create_user(project.shop.database, FIRST_EMAIL)
        if life.app.confirms_at_once:
            user = create_user(project.shop.database, EMAIL)
        else:
            user = uuid4()
            project.admin.execute("insert into auth.users (id, email) values (%s, %s)", [user, EMAIL])
        project.account = account_of(app, user)
        project.is_confirmed = life.app.confirms_at_once
        for budget in life.budgets:
            project.set_budget(budget)
        project.budgets = len(life.budgets)

    def play(self, life: lives.Life, version: str) -> str | None:
        """Live it and tell of it; what differs, None if nothing does."""
        with self.project(life, version) as project:
            try:
                if life.spends:
                    life.lived, life.paid = project.follow, project.act
                    life.live()
                else:
                    life.live()
                    events = list(life.stripe.world.events.bodies())
                    project.tell(life.stripe, events, f"{life.seed}")
                    project.compare_shuffled(life)
                project.check()
            except Differs as difference:
                return str(difference)
        return None

    def smallest(self, life: lives.Life, version: str, difference: str) -> tuple[lives.Life, str]:
        """Leave out steps as long as it still differs."""
        tries, number = 0, 0
        while number < len(life.steps) and tries < SHRINKING_TRIES:
            tries += 1
            steps = [*life.steps[:number], *life.steps[number + 1 :]]
            shorter = type(life)(life.seed, steps, life.spends, life.theme)
            found = self.play(shorter, version)
            if found is None:
                number += 1
            else:
                life, difference = shorter, found
        return life, difference


def _apart(events: list[Event]) -> list[list[Event]]:
    """Events as they come: those of about one moment together, and of one day, which begins with free credits."""
    together: list[list[Event]] = []
    for event in events:
        last = together[-1][-1].created if together else 0
        if event.created > last + APART_SECONDS or event.created // DAY > last // DAY:
            together.append([])
        together[-1].append(event)
    return together


@pytest.fixture(scope="module")
def stage(databases: Databases, template: Callable[[DefaultGrants], str]) -> Stage:
    return Stage(databases, template)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + -(-LIVES // len(OF))))
@pytest.mark.parametrize("family", OF)
def test_credits_are_those_of_the_oracle(stage: Stage, family: str, seed: int) -> None:
    life, version = FAMILIES[family](seed), VERSIONS[seed % len(VERSIONS)]
    difference = stage.play(life, version)
    if difference is not None:
        life, difference = stage.smallest(life, version, difference)
        way = "in order, the app spends" if life.spends else "shuffled"
        story = "\n".join(f"    {line}" for line in life.told)
        pytest.fail(
            f"LIVES_OF={family} LIVES_FROM={seed} LIVES=1, {version}, {way}, {life.rhythms}, {life.policies}:"
            f"\n{story}\n{difference}",
            pytrace=False,
        )
