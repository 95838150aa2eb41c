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
from simulator.business import DAY, HOUR, Act, Business, Span, business
from simulator.faults import Fault, Injector, Repair, plan
from simulator.judge import Difference, judge, settle
from simulator.shard import Shards
from simulator.shop import KEY, Shop
from simulator.site import DATABASE, Site, Stuck
from simulator.spending import spend

# So much may be under way before the business goes on: else all would arrive at the end of a span.
DELIVERIES_MAX = 25
QUEUED_MAX = 40
PACE_SECONDS = 2.0
STARTED_SECONDS = 60.0
# An event may show what else is missing: an unlinked customer's payments, once it is linked.
RECONCILES_MAX = 5


class Tools(Protocol):
    """What the command line does for the simulator."""

    def push(self, postgres_url: str, stripe_url: str, key: str) -> None:
        """Bring what is sold to Stripe, and the prices of operations to the database."""
        ...

    def reconcile(self, postgres_url: str, stripe_url: str, key: str) -> list[str]:
        """Queue what differs from Stripe, and return it with whatever else is wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    seed: int
    days: int
    customers: int
    workers: int = 2
    faults: bool = True
    adversary: bool = False


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

    @property
    def faults_so_far(self) -> int:
        return sum(self.faults.values())


@dataclass(slots=True)
class Outcome:
    """What came of it. `done` and `refused` count acts by their names: the same for each run of a seed."""

    wanted: Wanted
    moments: list[Moment] = field(default_factory=list[Moment])
    differences: list[Difference] = field(default_factory=list[Difference])
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
    planned = business(wanted.seed, wanted.days, wanted.customers, adversary=wanted.adversary)
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(TemporaryDirectory(prefix="till-simulate-", ignore_cleanup_errors=True))
        )
        directory.chmod(0o755)  # the server may run as another user
        site = stack.enter_context(Site(directory))
        shop = stack.enter_context(
            Shop(wanted.seed, planned.spans[0].start, site.receiver.url, site.receiver.secret)
        )
        shards = Shards(shop.world)
        site.set_clock(shop.now)
        tools.push(site.postgres.url(DATABASE), shop.url, KEY)
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
        self.actions = Actions(self.shop, self.site, self.shards, self.outcome.done, self.outcome.refused)
        self.injector = Injector(self.site, self.shop, self.outcome.faults)
        self._repair: Repair = "replay"
        self._missing: list[str] = []

    def live(self, progress: Callable[[float], None]) -> None:
        start = self.planned.spans[0].start
        self._wait_for_workers()
        for span in self.planned.spans:
            for each in self._events_of(span):
                self._until(each.at)
                if isinstance(each, Act):
                    if self.wanted.faults:
                        self.injector.before_act()
                    self.actions.act(each)
                    self._keep_pace()
                else:
                    self.injector.inject(each)
                progress((self.shop.now - start) / DAY)
            self._until(span.until - HOUR)
            self._judge(span, self._rest())
            if self.outcome.differences:
                break
            self._spend(span)
            progress((span.until - start) / DAY)

    def _events_of(self, span: Span) -> list[Act | Fault]:
        """Acts and faults, by time."""
        if not self.wanted.faults:
            return list(span.acts)
        planned = plan(self.wanted.seed, span)
        self._repair = planned.repair
        self.injector.begin(planned.weather)
        return sorted([*span.acts, *planned.faults], key=lambda each: each.at)

    def _until(self, moment: int) -> None:
        if moment > self.shop.now:
            self.shop.until(moment)
        self.site.set_clock(self.shop.now)

    def _keep_pace(self) -> None:
        """Let the receiver and the workers follow, unless faults hold them up."""
        self.site.mend()
        deadline = time.monotonic() + PACE_SECONDS
        while self._is_behind() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _is_behind(self) -> bool:
        return self.shop.under_way() > DELIVERIES_MAX or self.site.value(_QUEUED) > QUEUED_MAX

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + STARTED_SECONDS
        while self.site.value(_WORKERS) < self.wanted.workers:
            if time.monotonic() > deadline:
                logs = (worker.log_tail() or "it said nothing" for worker in self.site.workers)
                raise Stuck("\n".join(["the workers did not start", *logs]))
            time.sleep(0.05)

    def _rest(self) -> float:
        """Faults stop, what was lost is brought, and all comes to rest; how many seconds it took."""
        started = time.monotonic()
        self.injector.end()
        settle(self.site, self.shop)
        if self._repair == "replay":
            while self.shop.take_lost(again=True):
                settle(self.site, self.shop)
        elif lost := self.shop.take_lost(again=False):
            self.outcome.faults["webhook never sent again"] += lost
        for _ in range(RECONCILES_MAX):
            self._missing = found = self._reconcile()
            settle(self.site, self.shop)
            if self._repair == "replay":
                # Older versions of the API have no events of the payments of invoices; all else has arrived.
                self.outcome.differences += [
                    Difference("reconcile, after all was sent again", what)
                    for what in found
                    if not what.startswith("invoice payment ")
                ]
            if not found:
                break
        return time.monotonic() - started

    def _judge(self, span: Span, drain_seconds: float) -> None:
        site, shop = self.site, self.shop
        site.set_clock(shop.now)
        accounts = self.actions.accounts.values()
        self.outcome.differences += judge(site, shop, self.shards, accounts, self._missing)
        start = self.planned.spans[0].start
        [(granted, spent, taken)] = site.query(_COUNTED)
        self.outcome.moments.append(
            Moment(
                (span.until - start) / DAY, len(accounts), granted, spent, taken, self.shards.told, drain_seconds,
                dict(self.outcome.faults),
            )
        )  # fmt: skip

    def _reconcile(self) -> list[str]:
        return self.tools.reconcile(self.site.postgres.url(DATABASE), self.shop.url, KEY)

    def _spend(self, span: Span) -> None:
        """At one moment, while nothing else happens."""
        draw = Random(f"spend {self.wanted.seed} {span.number}")  # noqa: S311 - a life, not a secret
        self.shop.until(self.shop.now + 60)
        self.site.set_clock(self.shop.now)
        for account in self.actions.accounts.values():
            if account.customer.spends:
                if self.wanted.faults and draw.random() < 0.4:
                    self.injector.cut_app(draw)
                self.outcome.spent.update(spend(self.site, account, self.shop.now, draw))


_QUEUED: LiteralString = "select count(*) from billing.stripe_events where status = 'queued'"
_WORKERS: LiteralString = "select count(*) from billing.workers"
_COUNTED: LiteralString = """
select
    coalesce(sum(amount) filter (where amount > 0), 0)::bigint,
    coalesce(-sum(amount) filter (where kind in ('spend', 'capture')), 0)::bigint,
    coalesce(-sum(amount) filter (where kind not in ('spend', 'capture') and amount < 0), 0)::bigint
from billing.credit_entries
"""
