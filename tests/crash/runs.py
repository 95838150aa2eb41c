"""A worker that is killed again and again, until it has done all that there is to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.crash.nursery import start_worker
from tests.crash.points import Points
from tests.crash.proxies import http_proxy, postgres_proxy
from tests.stripe_local.conftest import KEY, Local
from tests.worker.conftest import Shop
from tests.worker.events import Event

DEADLINE_SECONDS = 60
STRIPE_NOWHERE = "http://127.0.0.1:1"

_LEFT = """
    select (select count(*) from pgmq.q_stripe_events) + (select count(*) from billing.stripe_lookups)
        + (select count(*) from pgmq.q_billing_jobs where %s or message ->> 'kind' !~ '_notification$')
"""
_WORKERS = """
    select count(*) from pg_stat_activity where application_name = 'till worker' and datname = current_database()
        and backend_type = 'client backend' and pid <> all (%s)
"""
# A kill is the first that its events and jobs have met: after several they wait, and after fifteen they are buried.
_FORGIVE = """
    update pgmq.q_stripe_events set read_ct = least(read_ct, 1);
    update pgmq.q_billing_jobs set read_ct = least(read_ct, 1);
    update billing.stripe_lookups set attempts = least(attempts, 1);
"""


@dataclass
class Run:
    """A worker on a shop, through proxies that kill it."""

    shop: Shop
    points: Points
    log: Path
    local: Local | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])
    _told: int = 0

    def until_done(self, is_done: Callable[[], bool] = lambda: True) -> None:
        """Start the worker as often as it is killed, and stop it when nothing is left."""
        ours = [conn.info.backend_pid for conn in (self.shop.app, self.shop.worker)]
        with self._served() as environment:
            while True:
                worker = start_worker(environment, self.log)
                self.points.arm(worker.pid or 0)
                try:
                    if self._watch(worker, is_done):
                        return
                finally:
                    worker.kill()
                    worker.join()
                    worker.close()
                until(lambda: self.shop.value(_WORKERS, ours) == 0, self.text)
                self.shop.app.execute(_FORGIVE)

    def left(self) -> int:
        """How much the worker has still to do; without channels it notifies nobody."""
        return self.shop.value(_LEFT, "TILLBASE_NOTIFY_URLS" in self.environment)

    def text(self) -> str:
        """What happened, for a failure."""
        log = self.log.read_text() if self.log.exists() else ""
        return f"killed {self.points.killed}\n{log[-3000:]}"

    @contextmanager
    def _served(self) -> Iterator[dict[str, str]]:
        server = self.shop.database.server
        with (
            postgres_proxy(server.port, self.points) as port,
            http_proxy(self.local.url if self.local else STRIPE_NOWHERE, self.points) as stripe,
        ):
            url = self.shop.database.url.replace(f":{server.port}/", f":{port}/")
            of_stripe = {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": stripe} if self.local else {}
            yield {"POSTGRES_URL": url} | of_stripe | self.environment

    def _watch(self, worker: BaseProcess, is_done: Callable[[], bool]) -> bool:
        """True when all is done, False when the worker was killed."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        seen, done_rounds = self.points.met["before billing.take_jobs"], 0
        while worker.exitcode is None:
            assert time.monotonic() < deadline, self.text()
            self._tell()
            rounds = self.points.met["before billing.take_jobs"]
            if rounds > seen:  # it has gone round since we looked
                is_idle = self.left() == 0 and is_done()
                seen, done_rounds = rounds, done_rounds + 1 if is_idle else 0
            if done_rounds > 2:
                self.points.disarm()
                worker.terminate()
                worker.join(DEADLINE_SECONDS)
                assert worker.exitcode == 0, self.text()
                return True
            worker.join(0.03)
        assert worker.exitcode == -9, self.text()
        return False

    def _tell(self) -> None:
        """Where the worker dies once, Stripe's events arrive while it works; else they arrive afterwards.

        Not where time stands still: two events of one second are told apart in the next one.
        """
        if self.local is None or not self.points.is_alone or self.local.world.pretended_time is not None:
            return
        bodies = list(self.local.world.events.bodies())
        new, self._told = bodies[self._told :], len(bodies)
        self.shop.receive(
            *(Event(body["type"], body["data"]["object"], body["created"], body["id"]) for body in new)
        )


def until(condition: Callable[[], bool], text: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, text()
        time.sleep(0.005)
