"""What `till doctor` looks at beside the database: a project on disk, an endpoint at Stripe, its receiver, a worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import stripe

from cli.webhook_endpoints import events_of, params_of
from devstack.functions import EdgeFunctions
from devstack.paths import supabase_directory
from tests.stripe_local.conftest import until

if TYPE_CHECKING:
    from tests.reconcile.conftest import Place

# Where nothing listens; what no test delivers to.
NOWHERE = "https://abc.supabase.co/functions/v1/stripe-webhook"
SETTLED_SECONDS = 60.0

_SETTLED = """
select workers > 0 and not exists (select from billing.stripe_events where status = 'queued')
from billing.worker_state()
"""


@dataclass
class Site:
    """One installation around a database."""

    place: "Place"
    directory: Path
    url: str = NOWHERE
    functions: EdgeFunctions | None = None
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    worker: subprocess.Popen[bytes] | None = None
    # Without a process of its own, the doctor is shown a session of this name.
    has_worker: bool = True

    @classmethod
    @contextmanager
    def opened(cls, place: "Place", directory: Path, *, receives: bool) -> Iterator[Self]:
        """`till init` in a new project, and an endpoint; with a receiver that is deployed, where events matter."""
        (directory / "supabase").mkdir()
        (directory / "supabase/config.toml").write_text('project_id = "shop"\n')
        site = cls(place, directory)
        place.site = site
        place.monkeypatch.chdir(directory)
        for name in ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY"):
            place.monkeypatch.delenv(name, raising=False)
        status, told, error = place.till("init")
        assert status == 0, (told, error)
        try:
            if receives:
                site.serve(STRIPE_WEBHOOK_SECRET="whsec_none_yet")
            place.monkeypatch.setenv("WEBHOOK_URL", site.url)
            made = site.api.webhook_endpoints.create(
                params_of(site.url, "STRIPE_WEBHOOK_SECRET", livemode=False)
            )
            if receives:
                site.serve(STRIPE_WEBHOOK_SECRET=made.secret)
            with place.database.connect() as conn:  # the business was lived some minutes ago
                conn.execute("update billing.workers set last_seen_at = clock_timestamp()")
            yield site
        finally:
            site.stop_worker()
            if site.functions is not None:
                site.functions.stop()

    @property
    def api(self) -> Any:
        return self.place.client.v1

    @property
    def endpoint(self) -> stripe.WebhookEndpoint:
        """The newest of ours."""
        return max(self.api.webhook_endpoints.list().data, key=lambda each: each.created)

    @property
    def endpoint_row(self) -> dict[str, Any]:
        """The same, as the local Stripe keeps it."""
        return self.place.local.world.store.get("webhook_endpoint", self.endpoint.id)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What happens in Stripe is sent to no endpoint."""
        webhooks = self.place.local.world.webhooks
        announce = webhooks.announce
        webhooks.announce = lambda event_id, event: None
        yield
        webhooks.announce = announce

    @contextmanager
    def heard(self) -> Iterator[None]:
        """What happens in Stripe is sent, and answered, also where it is not heard otherwise."""
        webhooks = self.place.local.world.webhooks
        announce, webhooks.announce = webhooks.announce, type(webhooks).announce.__get__(webhooks)
        endpoint = self.endpoint_row
        was, endpoint["status"] = endpoint["status"], "enabled"
        yield
        webhooks.announce, endpoint["status"] = announce, was
        assert self.place.local.control("wait_idle")["idle"]

    def serve(self, **secrets: str) -> None:
        """Deploy the functions with these secrets, at the same URL as before."""
        port = None if self.functions is None else self.functions.port
        if self.functions is not None:
            self.functions.stop()
        self.secrets = secrets
        environment = {"SUPABASE_DB_URL": self.place.database.url, **secrets}
        self.functions = EdgeFunctions.start(
            supabase_directory() / "functions", self.directory / ".functions", environment, port=port
        )
        self.url = f"{self.functions.url}/stripe-webhook"

    def start_worker(self) -> None:
        """`till worker run`, as a process."""
        self.has_worker = True
        if self.worker is None or self.worker.poll() is not None:
            with (self.directory / "worker.log").open("ab") as log:
                self.worker = subprocess.Popen(
                    [sys.executable, "-m", "worker"], env=dict(os.environ), stdout=log, stderr=log,
                    cwd=Path(__file__).parents[2],
                )  # fmt: skip

    def stop_worker(self) -> None:
        """Killed: it does not say goodbye."""
        self.has_worker = False
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None

    def settle(self) -> None:
        """Until its worker has done what is queued; delays are not waited for."""
        with self.place.database.connect() as conn:
            until(lambda: self._is_settled(conn), SETTLED_SECONDS)

    def _is_settled(self, conn: psycopg.Connection[Any]) -> bool:
        assert self.worker is not None
        assert self.worker.poll() is None, (self.directory / "worker.log").read_text()[-2000:]
        conn.execute("update billing.stripe_lookups set next_attempt_at = now() where worker_pid is null")
        row = conn.execute(_SETTLED).fetchone()
        return row is not None and row[0]


def lacking(event: str) -> list[str]:
    """What an endpoint asks for that leaves out an event."""
    return [each for each in events_of(livemode=False) if each != event]
