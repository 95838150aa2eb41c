"""Random lives: the database's credits are the oracle's, to the credit.

Where the app spends in between, events arrive in order, each while its time is now, and the two are compared after
every step. Other lives arrive when they are over: shuffled, some events twice, some late. Every life comes in the shape
of one of five versions of the API. `LIVES=2000` plays as many; `LIVES_FROM=1234 LIVES=1` plays one again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from cli.local.postgres import Postgres
from cli.local.scaffold import DefaultGrants, clone_database
from tests.conftest import _database
from tests.oracle import lives
from tests.oracle.in_process import Stripe
from tests.oracle.ledger import Ledger
from tests.support import account_of, create_user
from tests.worker.conftest import Shop, opened
from tests.worker.test_lives import VERSIONS, Life, shuffled

pytestmark = pytest.mark.slow

FIRST = int(os.environ.get("LIVES_FROM", "0"))
LIVES = int(os.environ.get("LIVES", "60"))
SHRINKING_TRIES = 60
FOUND = """
select idempotency_key, amount, remaining, effective_at at time zone 'utc', stripe_invoice_id
from billing.credit_grants where entry_id is not null order by effective_at, id
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
    spent: int = 0
    told: int = 0
    key: int = 0
    problems: list[str] = field(default_factory=list[str])

    def tell(self, stripe: Stripe, events: list[dict[str, Any]], seed: str | None = None) -> None:
        """Deliver events, in order or shuffled, and let what is due happen."""
        self.admin.execute("update billing.clock set ahead_by = to_timestamp(%s) - now()", [stripe.now])
        world = SimpleNamespace(world=stripe.world)
        relevant = [event for event in events if not event["type"].startswith("test_helpers.")]
        told = Life(world, "", relevant).shown(self.version)  # type: ignore[arg-type]
        if seed is not None and len(told) >= 8:
            told = shuffled(told, seed)
        self.shop.receive(*told)
        self.shop.drain()
        while self.shop.value("select count(*) from pgmq.q_stripe_events where read_ct < 10"):
            stripe.wait(1)
            self.shop.make_due()
            self.shop.drain()
        self.shop.app.execute("select billing.allocate_due_credits()")
        self.shop.app.execute("select billing.expire_due_credits()")

    def follow(self, life: lives.Life) -> None:
        """What happened since it was told last; then both must have the same, and the app spends."""
        events = list(life.stripe.world.events.bodies())
        new, self.told = events[self.told :], len(events)
        self.tell(life.stripe, new)
        self.compare(life)

    def spend(self, life: lives.Life) -> None:
        for spend in life.spent[self.spent :]:
            self.key += 1
            self.shop.app.execute(
                "select billing.spend_credits(%s, %s, %s)", [self.account, spend.amount, f"spend-{self.key}"]
            )
        self.spent = len(life.spent)

    def compare(self, life: lives.Life) -> None:
        expected = life.credits()
        balance = "select balance, available from public.credit_balance where account_id = %s"
        found = self.shop.app.execute(balance, [self.account]).fetchone()
        if found != (expected.balance, expected.available):
            raise Differs(
                f"the database has (balance, available) = {found}, the oracle "
                f"{(expected.balance, expected.available)}\n{self._lots(expected)}"
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
        carried = self.shop.value(
            "select carried from billing.credit_balances where account_id = %s", self.account
        )
        database = "\n".join("    " + ", ".join(str(value) for value in row) for row in rows)
        oracle = "\n".join(f"    {lot}" for lot in expected.lots)
        return f"database (carried: {carried}):\n{database}\noracle (carried: {expected.carried}):\n{oracle}"


@dataclass
class Stage:
    """Where lives are played: a database for each."""

    server: Postgres
    template: Callable[[DefaultGrants], str]

    @contextmanager
    def project(self, life: lives.Life, version: str) -> Iterator[Project]:
        make = lambda name: clone_database(self.server, self.template("none"), name)  # noqa: E731
        with (
            _database(self.server, make) as database,
            opened(database, life.stripe.reader()) as shop,
            database.connect(admin=True) as admin,
        ):
            account = account_of(shop.app, create_user(database))
            shop.app.execute("select billing.link_customer(%s, %s)", [account, life.customer])
            yield Project(shop, admin, account, version)

    def play(self, life: lives.Life, version: str) -> str | None:
        """Live it and tell of it; what differs, None if nothing does."""
        with self.project(life, version) as project:
            try:
                if life.spends:
                    life.lived, life.paid = project.follow, project.spend
                    life.live()
                else:
                    life.live()
                    events = list(life.stripe.world.events.bodies())
                    project.tell(life.stripe, events, f"{life.seed}")
                    project.compare(life)
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
            shorter = lives.Life(life.seed, steps, life.spends, life.theme)
            found = self.play(shorter, version)
            if found is None:
                number += 1
            else:
                life, difference = shorter, found
        return life, difference


@pytest.fixture(scope="module")
def stage(server: Postgres, template: Callable[[DefaultGrants], str]) -> Stage:
    return Stage(server, template)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + LIVES))
def test_credits_are_those_of_the_oracle(stage: Stage, seed: int) -> None:
    life, version = lives.random_life(seed), VERSIONS[seed % len(VERSIONS)]
    difference = stage.play(life, version)
    if difference is not None:
        life, difference = stage.smallest(life, version, difference)
        way = "in order, the app spends" if life.spends else "shuffled"
        story = "\n".join(f"    {line}" for line in life.told)
        pytest.fail(
            f"LIVES_FROM={seed} LIVES=1, {version}, {way}, {life.rhythms}, {life.policies}:\n{story}\n{difference}",
            pytrace=False,
        )
