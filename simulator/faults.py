"""A seed → when which fault happens, and what makes them happen. What has happened is counted, not what was planned."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from simulator.business import HOUR, Span
from simulator.proxy import Proxy, Trap, When
from simulator.shop import Shop
from simulator.site import CHANNELS, Site
from stripe_local.api_spec import VERSION
from stripe_local.faults import Faults

VERSIONS = (
    "2025-02-24.acacia",
    "2025-08-27.basil",
    "2026-02-25.clover",
    "2026-08-26.dahlia",
    VERSION,
)
# A statement of a worker's batch is among the next so many.
MESSAGES_MAX = 40
SKEW_SECONDS_MAX = 120
# Webhooks are tried again after hours; here the hours are parts of a second.
RETRY_DELAYS_SECONDS = (0.1, 0.4, 1.0)
# How each fault of the local Stripe is called.
NAMES = {
    "duplicate": "webhook sent twice",
    "drop": "webhook lost",
    "corrupt_signature": "webhook with a wrong signature",
    "429": "429 of Stripe",
    "500": "500 of Stripe",
}
# Kinds that come once or more in each span, and those that cost a second and come in some.
USUAL = (
    "kill worker", "kill worker", "cut before commit", "cut after commit", "cut connections", "silent Stripe",
    "slow Stripe", "clock skew", "channel down",
)  # fmt: skip
RARE = ("crash Postgres", "restart receiver")
RARE_SHARE = 0.5
Repair = Literal["replay", "reconcile"]


@dataclass(frozen=True, slots=True)
class Fault:
    at: int
    what: str
    seed: int


@dataclass(frozen=True, slots=True)
class Weather:
    """What may happen to any webhook and any request of a span, as the local Stripe's faults are set."""

    settings: dict[str, Any]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`repair`: how lost webhooks are brought at the end, by Stripe's list of events or by `till reconcile --apply`."""

    weather: Weather
    faults: tuple[Fault, ...]
    repair: Repair


def plan(seed: int, span: Span) -> Plan:
    """The same for the same seed and span."""
    draw = Random(f"faults {seed} {span.number}")  # noqa: S311 - a die for tests
    weather = Weather(
        {
            "duplicate": draw.choice([0.05, 0.2, 0.5]),
            "drop": draw.choice([0.02, 0.1, 0.3]),
            "corrupt_signature": draw.choice([0.02, 0.1]),
            "reorder": draw.choice([4, 16]),
            "delay_ms": draw.choice([0, 0, 5]),
            "api": {"429": draw.choice([0.2, 0.35]), "500": draw.choice([0.2, 0.35])},
            "seed": draw.randrange(10**9),
        },
        draw.choice([1, 4, 8]),
    )
    kinds = [*USUAL, *(kind for kind in RARE if draw.random() < RARE_SHARE or span.number == 0)]
    # While something happens: a fault at rest shows little.
    times = [act.at for act in span.acts] or [span.start + HOUR]
    faults = [Fault(draw.choice(times), kind, draw.randrange(10**9)) for kind in kinds]
    repair: Repair = draw.choice(["replay", "replay", "reconcile"])
    return Plan(weather, tuple(sorted(faults, key=lambda fault: (fault.at, fault.what))), repair)


class CountedFaults(Faults):
    """The local Stripe's faults, counted when they happen."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        super().__init__()

    def happens(self, name: str) -> bool:
        found = super().happens(name)
        if found:
            self._counts[NAMES[name]] += 1
        return found

    def api_fault(self) -> str | None:
        found = super().api_fault()
        if found:
            self._counts[NAMES[found]] += 1
        return found

    def pick(self, waiting: int) -> int:
        picked = super().pick(waiting)
        if picked:
            self._counts["webhook out of order"] += 1
        return picked


class Injector:
    """Does what was planned. `counts`: how often each fault really happened."""

    def __init__(self, site: Site, shop: Shop, counts: Counter[str]) -> None:
        self._site = site
        self._shop = shop
        self.counts = counts
        world = shop.world
        world.faults = CountedFaults(counts)
        self._repairs: list[threading.Thread] = []
        self._versions: Random | None = None
        queue = world.webhooks.queue

        def queue_in_version(
            event_id: str, event_type: str, endpoint: Any, api_version: str, body: str | None = None
        ) -> Any:
            if api_version != VERSION:
                counts["webhook of an older API version"] += 1
            return queue(event_id, event_type, endpoint, api_version, body)

        world.webhooks.queue = queue_in_version
        shop.do(lambda: world.webhooks.configure(4, RETRY_DELAYS_SECONDS, 5.0))

    def begin(self, weather: Weather) -> None:
        """The weather of a span."""
        world = self._shop.world
        self._shop.do(lambda: world.faults.set(weather.settings))
        self._shop.do(lambda: world.webhooks.configure(weather.concurrency, RETRY_DELAYS_SECONDS, 5.0))
        self._versions = Random(weather.settings["seed"])  # noqa: S311 - a die for tests

    def before_act(self) -> None:
        """The endpoint's version of the API is another one from time to time."""
        if self._versions is not None and self._versions.random() < 0.3:
            self._set_version(self._versions.choice(VERSIONS))

    def _set_version(self, version: str | None) -> None:
        def work() -> None:
            for endpoint in self._shop.world.store.all("webhook_endpoint"):
                endpoint["api_version"] = version

        self._shop.do(work)

    def inject(self, fault: Fault) -> None:
        draw = Random(fault.seed)  # noqa: S311 - a die for tests
        site = self._site
        worker = draw.choice(site.workers)
        when: When = draw.choice(["before", "after"])
        match fault.what:
            case "kill worker":
                countdown = draw.randrange(1, MESSAGES_MAX)
                self._arm(
                    worker.to_postgres,
                    "kill worker",
                    Trap("message", when, countdown, worker.kill, cuts=False),
                )
            case "cut before commit" | "cut after commit":
                when = "before" if fault.what == "cut before commit" else "after"
                self._arm(
                    worker.to_postgres, fault.what, Trap("commit", when, draw.randrange(1, 4), lambda: None)
                )
            case "cut connections":
                if worker.to_postgres.cut():
                    self.counts[fault.what] += 1
            case "silent Stripe":
                keeps_requests = draw.choice([True, False])
                for each in site.workers:
                    each.to_stripe.hush(keeps_requests)
            case "slow Stripe":
                delay_seconds = draw.choice([0.05, 0.3])
                for each in site.workers:
                    each.to_stripe.slow(delay_seconds)
            case "clock skew":
                site.skew_seconds = draw.randrange(-SKEW_SECONDS_MAX, SKEW_SECONDS_MAX)
                self.counts[fault.what] += 1
            case "channel down":
                site.sink.refusals[draw.choice(CHANNELS)] += draw.choice([1, 2])
            case "crash Postgres":
                site.crash_postgres()
                self.counts[fault.what] += 1
            case "restart receiver":
                site.receiver.kill()
                self.counts[fault.what] += 1
                self._repair(site.receiver.start)
            case _:
                raise AssertionError(f"a fault of no kind: {fault.what}")

    def _arm(self, proxy: Proxy, name: str, trap: Trap) -> None:
        act = trap.sprung

        def sprung() -> None:
            self.counts[name] += 1
            act()

        trap.sprung = sprung
        proxy.arm(trap)

    def _repair(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="repair")
        thread.start()
        self._repairs.append(thread)

    def cut_app(self, draw: Random) -> None:
        """The next statement of the app's server loses its connection, before or after it was done."""
        when: When = draw.choice(["before", "after"])
        self._arm(
            self._site.to_app,
            "app's connection cut",
            Trap("message", when, draw.randrange(1, 4), lambda: None),
        )

    def end(self) -> None:
        """Faults stop: whatever was armed is forgotten, what was down is up again."""
        for thread in self._repairs:
            thread.join()
        self._repairs.clear()
        self._shop.do(lambda: self._shop.world.faults.set({}))
        self._versions = None
        self._set_version(None)
        site = self._site
        site.skew_seconds = 0
        site.to_app.disarm()
        for name in CHANNELS:
            self.counts["channel down"] += site.sink.refused[name]
            site.sink.refused[name] = 0
            site.sink.refusals[name] = 0
        for worker in site.workers:
            worker.to_postgres.disarm()
            self.counts["silent Stripe"] += worker.to_stripe.speak()
            self.counts["slow Stripe"] += worker.to_stripe.slow(0)
        site.mend()
