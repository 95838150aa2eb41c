"""A seed → a business that lives with faults, judged at each quiet moment → what was counted and what differed."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import LiteralString, Protocol

from simulator.actions import Actions
from simulator.business import Business, Span, business
from simulator.judge import Difference, judge, settle
from simulator.shard import Shards
from simulator.shop import KEY, Shop
from simulator.site import DATABASE, Site, Stuck
from simulator.spending import spend

# So many deliveries may be under way before the business goes on: else all would arrive at the end of a span.
UNDER_WAY_MAX = 25
PACE_SECONDS = 3.0


class Tools(Protocol):
    """What the command line does for the simulator."""

    def push(self, stripe_url: str, key: str) -> None:
        """Bring what is sold to Stripe."""
        ...

    def reconcile(self, postgres_url: str, stripe_url: str, key: str, *, apply: bool) -> list[str]:
        """What differs from Stripe; `apply`: and queue it."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    seed: int
    days: int
    customers: int
    workers: int = 2
    faults: bool = True


@dataclass(slots=True)
class Moment:
    """A quiet moment: what there was until then."""

    day: float
    customers: int
    granted: int
    spent: int
    taken_back: int
    events: int
    drain_seconds: float
    faults: dict[str, int]


@dataclass(slots=True)
class Outcome:
    """What came of it. `acts`: the business's log, the same for each run of a seed."""

    wanted: Wanted
    moments: list[Moment] = field(default_factory=list[Moment])
    differences: list[Difference] = field(default_factory=list[Difference])
    acts: list[str] = field(default_factory=list[str])
    done: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    spent: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        return not self.differences


def simulate(wanted: Wanted, tools: Tools, progress: Callable[[float], None] = lambda day: None) -> Outcome:
    """Run it. Raises LocalStackError if something of the stack does not start."""
    outcome, started = Outcome(wanted), time.monotonic()
    planned = business(wanted.seed, wanted.days, wanted.customers)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="till-simulate-", ignore_cleanup_errors=True)))
        directory.chmod(0o755)  # the server may run as another user
        site = stack.enter_context(Site(directory))
        shop = stack.enter_context(Shop(wanted.seed, planned.spans[0].start, site.receiver.url, site.receiver.secret))
        shards = Shards(shop.world)
        tools.push(shop.url, KEY)
        site.set_clock(shop.now)
        site.start_workers(wanted.workers, shop.port)
        life = _Life(wanted, planned, site, shop, shards, tools, outcome)
        try:
            life.live(progress)
        except Stuck as error:
            outcome.differences.append(Difference("stuck", str(error)))
    outcome.seconds = time.monotonic() - started
    return outcome


@dataclass
class _Life:
    wanted: Wanted
    planned: Business
    site: Site
    shop: Shop
    shards: Shards
    tools: Tools
    outcome: Outcome

    def __post_init__(self) -> None:
        self.actions = Actions(self.shop, self.site, self.shards)

    def live(self, progress: Callable[[float], None]) -> None:
        start = self.planned.spans[0].start
        for span in self.planned.spans:
            for act in span.acts:
                self._until(act.at)
                self.actions.act(act)
                self._keep_pace()
                progress((self.shop.now - start) / 86_400)
            self._until(span.until - 3600)
            self._rest(span)
            self._judge(span)
            if self.outcome.differences:
                break
            self._spend(span)
            progress((span.until - start) / 86_400)
        outcome, actions = self.outcome, self.actions
        outcome.acts, outcome.done, outcome.refused = actions.told, Counter(actions.done), Counter(actions.refused)

    def _until(self, moment: int) -> None:
        if moment > self.shop.now:
            self.shop.until(moment)
        self.site.set_clock(self.shop.now)

    def _keep_pace(self) -> None:
        self.site.mend()
        deadline = time.monotonic() + PACE_SECONDS
        while self.shop.under_way() > UNDER_WAY_MAX and time.monotonic() < deadline:
            time.sleep(0.01)

    def _rest(self, span: Span) -> None:
        self.drained = settle(self.site, self.shop)

    def _judge(self, span: Span) -> None:
        site, shop = self.site, self.shop
        site.set_clock(shop.now)
        accounts = self.actions.accounts.values()
        found = judge(site, shop, self.shards, accounts, self._reconcile)
        self.outcome.differences += found
        start = self.planned.spans[0].start
        [(granted, spent, taken)] = site.query(_COUNTED)
        self.outcome.moments.append(
            Moment(
                (span.until - start) / 86_400, len(accounts), granted, spent, taken, self.shards.told, self.drained,
                dict(self.outcome.faults),
            )
        )  # fmt: skip

    def _reconcile(self, *, apply: bool) -> list[str]:
        return self.tools.reconcile(self.site.postgres.url(DATABASE), self.shop.url, KEY, apply=apply)

    def _spend(self, span: Span) -> None:
        """At one moment, while nothing else happens."""
        draw = Random(f"spend {self.wanted.seed} {span.number}")  # noqa: S311 - a life, not a secret
        self.shop.until(self.shop.now + 60)
        self.site.set_clock(self.shop.now)
        for account in self.actions.accounts.values():
            if account.customer.spends:
                self.outcome.spent.update(spend(self.site, account, self.shop.now, draw))


_COUNTED: LiteralString = """
select
    coalesce(sum(amount) filter (where amount > 0), 0)::bigint,
    coalesce(-sum(amount) filter (where kind in ('spend', 'capture')), 0)::bigint,
    coalesce(-sum(amount) filter (where kind not in ('spend', 'capture') and amount < 0), 0)::bigint
from billing.credit_entries
"""
