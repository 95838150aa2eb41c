"""One installation for a simulated business: Postgres, the receiver, workers, and channels that remember messages.

the local Stripe ──webhooks──▶ receiver (Deno) ──▶ Postgres ◀──proxy── workers ──proxy──▶ the local Stripe
                                                      ▲                   └──▶ sink (notifications)
                                          the app's own server, pg_cron
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self, TypeVar
from uuid import UUID

import psycopg

from devstack import launch
from devstack.functions import EdgeFunctions, functions_of
from devstack.migrate import migrate
from devstack.paths import migrations_directory, supabase_directory
from devstack.postgres import Postgres
from devstack.processes import HOST, free_port
from devstack.scaffold import create_database
from devstack.tokens import sign_up
from simulator.proxy import Proxy
from simulator.shop import KEY

DATABASE = "postgres"
BACK_SECONDS = 60.0
POLL_SECONDS = 0.05
FUNCTION = "stripe-webhook"
# Two, so that one may fail while the other takes a message.
CHANNELS = ("first", "second")
# Settings of a worker that this one must not have: they are about the user's own installation.
_OF_THE_USER = ("POSTGRES_", "STRIPE_", "TILLBASE_", "WORKER_", "OTEL_")
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
Row = tuple[Any, ...]
Found = TypeVar("Found")


class Stuck(Exception):
    """Something did not come to rest in time; the message says what."""


class Sink:
    """Takes notifications over HTTP. `taken`: channel → Idempotency-Key → how often it arrived."""

    def __init__(self) -> None:
        taken: dict[str, Counter[str]] = {name: Counter() for name in CHANNELS}
        self.taken = taken
        # A channel that is down answers 503 as often as this says.
        self.refusals: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        refusals, refused = self.refusals, self.refused

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                channel = self.path.strip("/").partition("?")[0]
                is_down = refusals[channel] > 0
                refusals[channel] -= is_down
                refused[channel] += is_down
                if not is_down:
                    taken[channel][self.headers["Idempotency-Key"]] += 1
                self.send_response(503 if is_down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def urls(self) -> list[str]:
        """As TILLBASE_NOTIFY_URLS names them."""
        return [f"json://{HOST}:{self._server.server_port}/{name}" for name in CHANNELS]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Worker:
    """`python -m worker`, with a proxy on each of its ways. One that is killed is started again by `mend`."""

    def __init__(self, to_postgres: Proxy, to_stripe: Proxy, url: str, notify: str, log: Path) -> None:
        self.to_postgres = to_postgres
        self.to_stripe = to_stripe
        self._log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_USER)},
            "POSTGRES_URL": url,
            "STRIPE_API_BASE": f"http://{HOST}:{to_stripe.port}",
            "STRIPE_API_KEY": KEY,
            "TILLBASE_NOTIFY_URLS": notify,
        }
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                # By the launcher, so that it ends with this process.
                [sys.executable, launch.__file__, "0", str(os.getpid()), sys.executable, "-m", "worker"],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches only us
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, from any thread."""
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    def mend(self) -> None:
        """Start it again if it has ended."""
        if not self.running:
            self._process = self._start()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its output."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Receiver:
    """The edge function that receives webhooks, always on the same port."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.secret = f"whsec_{secrets.token_hex(16)}"
        self.port = free_port()
        self._directory = directory / "receiver"
        self._environment = {"SUPABASE_DB_URL": database_url, "STRIPE_WEBHOOK_SECRET": self.secret}
        self._functions: EdgeFunctions | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/functions/v1/{FUNCTION}"

    def start(self) -> None:
        settings = functions_of(supabase_directory() / "functions")[FUNCTION]
        self._functions = EdgeFunctions.start(
            {FUNCTION: settings}, self._directory, self._environment, port=self.port
        )

    def kill(self) -> None:
        """SIGKILL: what it has in hand is answered to nobody."""
        if self._functions is not None:
            os.kill(self._functions.pid, signal.SIGKILL)
            self._functions.stop()

    def stop(self) -> None:
        if self._functions is not None:
            self._functions.stop()


class Site:
    """Started before the Stripe that it listens to; workers come later, because they need Stripe's address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._exit = ExitStack()
        self.workers: list[Worker] = []
        self._sessions: dict[bool, psycopg.Connection[Any]] = {}
        self.skew_seconds = 0

    def __enter__(self) -> Self:
        try:
            # Durable, because it is killed.
            self.postgres = Postgres.start(self.directory / "postgres", durable=True)
            self._exit.callback(self.postgres.delete)
            self.to_app = Proxy(self.postgres.port)
            self._exit.callback(self.to_app.close)
            create_database(self.postgres, DATABASE)
            migrate(self.postgres.url(DATABASE), migrations_directory())
            # Ten minutes, in which a season passes here: later messages would wait for its end.
            self.query("update billing.settings set notification_window = interval '1 second'")
            # So that workers have something to do at Stripe that must be done once.
            self.admin("update billing.fraud_policies set refund = true, refund_age_max = '60 days'")
            self.receiver = Receiver(self.directory, self.postgres.url(DATABASE))
            self._exit.callback(lambda: self.receiver.stop())
            self.sink = Sink()
            self._exit.callback(self.sink.close)
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def start_workers(self, count: int, stripe_port: int) -> None:
        for number in range(count):
            to_postgres, to_stripe = Proxy(self.postgres.port), Proxy(stripe_port)
            self._exit.callback(to_stripe.close)
            self._exit.callback(to_postgres.close)
            url = self._url_by(to_postgres)
            log = self.directory / f"worker-{number + 1}.log"
            worker = Worker(to_postgres, to_stripe, url, " ".join(self.sink.urls), log)
            self.workers.append(worker)
            self._exit.callback(worker.stop)

    def _url_by(self, proxy: Proxy) -> str:
        return self.postgres.url(DATABASE).replace(f":{self.postgres.port}/", f":{proxy.port}/")

    def mend(self) -> None:
        """Start again what has ended."""
        for worker in self.workers:
            worker.mend()

    # The database, as the app's own server and as a superuser

    def query(self, statement: LiteralString, *parameters: Any) -> list[Row]:
        """A statement of the app's server, repeated while the database is away: it must be one that may be."""
        return self._patiently(lambda: self._execute(statement, parameters, is_admin=False))

    def value(self, statement: LiteralString, *parameters: Any) -> Any:
        rows = self.query(statement, *parameters)
        return rows[0][0] if rows else None

    def admin(self, statement: LiteralString, *parameters: Any) -> list[Row]:
        """The same as a superuser."""
        return self._patiently(lambda: self._execute(statement, parameters, is_admin=True))

    def _execute(self, statement: LiteralString, parameters: tuple[Any, ...], *, is_admin: bool) -> list[Row]:
        cursor = self._session(is_admin=is_admin).execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def _session(self, *, is_admin: bool) -> psycopg.Connection[Any]:
        conn = self._sessions.get(is_admin)
        if conn is None or conn.closed:
            url = self.postgres.admin_url(DATABASE) if is_admin else self._url_by(self.to_app)
            conn = self._sessions[is_admin] = psycopg.connect(url, autocommit=True, prepare_threshold=None)
            self._exit.callback(conn.close)
        return conn

    def _patiently(self, work: Callable[[], Found]) -> Found:
        deadline = time.monotonic() + BACK_SECONDS
        while True:
            try:
                return work()
            except _LOST as error:
                if isinstance(error, psycopg.errors.QueryCanceled) or time.monotonic() > deadline:
                    raise
                for conn in self._sessions.values():
                    if conn.broken:
                        conn.close()
                time.sleep(POLL_SECONDS)

    def set_clock(self, now: int) -> None:
        """Billing time follows Stripe's, give or take the skew."""
        self.admin(
            "update billing.clock set ahead_by = greatest(to_timestamp(%s) - clock_timestamp(), interval '0')",
            now + self.skew_seconds,
        )

    def sign_up(self, email: str) -> UUID:
        """A user of the app."""

        def work() -> UUID:
            conn = self._session(is_admin=True)
            with conn.transaction():
                return sign_up(conn, email)

        return self._patiently(work)

    def tick(self) -> bool:
        """What pg_cron does each minute: months granted, lots and holds expired. Whether there was anything to do."""
        allocated = self.query("select accounts from billing.allocate_due_credits()")
        expired = self.query("select accounts from billing.expire_due_credits()")
        return bool(allocated[0][0] or expired[0][0])

    def crash_postgres(self) -> None:
        """Immediate shutdown, and a start that recovers."""
        self.postgres.restart("immediate")
