"""The local stack: Postgres with the migrations, the Stripe emulator, the edge functions, the worker, the dashboard.

    Stripe emulator ──webhooks──▶ edge functions ──▶ Postgres ◀── worker
                                                        ▲
                                        clients ──▶ Data API

Started in the order of dependency, stopped in the opposite one; nothing outlives the process that started it.
"""

import json
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, LiteralString, Self

import psycopg

from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.deno_process import DenoProcess
from devstack.env_file import write_env_file
from devstack.errors import LocalStackError
from devstack.functions import EdgeFunctions, function_names
from devstack.migrate import migrate, seed
from devstack.paths import migrations_directory, supabase_directory
from devstack.postgres import Postgres
from devstack.postgres_data import delete_data
from devstack.processes import HOST, Process, free_port
from devstack.project import LocalProject
from devstack.scaffold import add_platform, create_database
from devstack.tokens import ISSUER, SigningKeys

Part = Literal["database", "stripe"]
API_KEY = "sk_test_tillbase_local"

# Usual addresses of apps under development (Next.js, Vite) and of the examples. The owner's own settings are left
# unchanged.
_ALLOW_LOCAL_APPS: LiteralString = """
    update billing.settings
    set site_url = coalesce(%(site_url)s, 'http://localhost:3000'),
        allowed_redirect_origins =
            '{http://127.0.0.1:3000,http://localhost:5173,http://127.0.0.1:5173,https://example.com}'
    where site_url is null and allowed_redirect_origins = '{}'
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Requested ports; a free one is used if a port is None."""

    postgres: int | None = None
    stripe: int | None = None
    functions: int | None = None
    metrics: int | None = None
    data_api: int | None = None
    dashboard: int | None = None


class Stack:
    """A running stack. `settings`: the contents of the env file; `parts`: the processes that must keep running."""

    def __init__(
        self,
        state_directory: Path,
        ports: Ports,
        project: LocalProject | None,
        report: Callable[[str], None],
    ) -> None:
        self._state = state_directory
        self._project = project
        # Set before Stripe starts: the functions start first, because Stripe needs their address.
        self._stripe_port = ports.stripe or free_port()
        self._ports = ports
        self._report = report
        self._exit = ExitStack()
        self.settings: dict[str, str] = {}
        self.parts: dict[str, Process | Postgres | DenoProcess] = {}
        self.data_api: DataApi | None = None
        self.warnings: list[str] = []

    @classmethod
    def start(
        cls,
        state_directory: Path,
        *,
        ports: Ports = Ports(),
        only: Part | None = None,
        with_migrations: bool = True,
        left_out: Collection[str] = (),
        fresh: bool = False,
        durable: bool = True,
        server: Postgres | None = None,
        project: LocalProject | None = None,
        more_functions: Sequence[Path] = (),
        report: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Start everything, or one part; returns once all of it answers. `report` is called with each step.

        `server`: a running Postgres of the caller's, which stays. `project`: somebody's own, with Tillbase in it; its
        migrations, seed and functions are taken instead of those that are shipped. `left_out`: versions of migrations
        that are not applied. `more_functions`: further directories of edge functions, such as the example's. What the
        owner should know is in `warnings`.
        """
        stack = cls(state_directory.absolute(), ports, project, report)
        stack._state.mkdir(parents=True, exist_ok=True)
        # In a project's repository: it has data and keys in it.
        (stack._state / ".gitignore").write_text("*\n", encoding="utf-8")
        try:
            if only != "stripe":
                stack._start_database(server, fresh=fresh, durable=durable)
                if with_migrations:
                    stack._migrate(left_out)
            if only is None:
                stack._start_data_api()
                stack._start_functions(more_functions)
            if only != "database":
                stack._start_stripe()
            if only is None:
                stack._start_worker()
                stack._start_dashboard()
            write_env_file(stack._state / "env", stack.settings)
            stack._exit.callback((stack._state / "env").unlink, missing_ok=True)
        except BaseException:  # Ctrl-C too must stop the processes
            stack.stop()
            raise
        return stack

    def stop(self) -> None:
        """Stop the parts, in reverse order."""
        self._exit.close()

    def add(self, name: str, part: DenoProcess) -> None:
        """Add a process: it is stopped first, and reported if it ends by itself."""
        self._exit.callback(part.stop)
        self.parts[name] = part

    def first_dead(self) -> str | None:
        """Name of a part that has ended by itself, if any."""
        return next((name for name, part in self.parts.items() if not part.running), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_database(self, server: Postgres | None, *, fresh: bool, durable: bool) -> None:
        data = self._state / "postgres"
        if fresh:
            delete_data(data)
        self._report("starting Postgres")
        if server is None:
            server = Postgres.start(data, port=self._ports.postgres, durable=durable)
            self._exit.callback(server.stop)
        create_database(server, "postgres")
        if self._project is not None:
            with psycopg.connect(server.admin_url(), autocommit=True) as connection:
                add_platform(connection)
        self.parts["Postgres"] = server
        self.settings |= {
            "DATABASE_URL": server.admin_url(),
            "POSTGRES_URL": server.url(),
            "TILL_STATE": str(self._state),
        }

    def _migrate(self, left_out: Collection[str]) -> None:
        self._report("applying the migrations")
        url, project = self.settings["POSTGRES_URL"], self._project
        migrate(url, migrations_directory() if project is None else project.migrations, left_out=left_out)
        if project is not None:
            for name in seed(url, project.root, project.seeds):
                self.warnings.append(f"{name} has changed since it was run: till dev --fresh runs it again")
        with psycopg.connect(url, prepare_threshold=None) as connection:
            connection.execute(_ALLOW_LOCAL_APPS, {"site_url": None if project is None else project.site_url})

    def _start_data_api(self) -> None:
        """Started right after Postgres: it loads while the others start, and nothing waits for it."""
        self._report("starting the Data API")
        keys = SigningKeys.load(self._state)
        server = self.parts["Postgres"]
        assert isinstance(server, Postgres)
        environment = data_api_settings(server, keys)
        self.data_api = DataApi.start(self._state, environment, port=self._ports.data_api)
        self._exit.callback(self.data_api.stop)
        self.parts["the Data API"] = self.data_api
        self.settings |= {"SUPABASE_URL": self.data_api.url, "SUPABASE_JWKS": keys.jwks(), **api_keys(keys)}

    def _start_functions(self, more: Sequence[Path]) -> None:
        self._report("starting the edge functions")
        secret = f"whsec_{secrets.token_hex(16)}"
        project = self._project
        keys = {name: self.settings[f"SUPABASE_{name}_KEY"] for name in ("PUBLISHABLE", "SECRET")}
        functions = EdgeFunctions.start(
            supabase_directory() / "functions" if project is None else project.functions,
            self._state / "functions",
            {
                # Theirs first: what this stack has of its own counts.
                **({} if project is None else project.secrets),
                # As on Supabase, every function gets all of these.
                "SUPABASE_URL": self.settings["SUPABASE_URL"],
                "SUPABASE_PUBLISHABLE_KEYS": json.dumps({"default": keys["PUBLISHABLE"]}),
                "SUPABASE_SECRET_KEYS": json.dumps({"default": keys["SECRET"]}),
                # Their names on older projects, which functions of an existing one still read.
                "SUPABASE_ANON_KEY": keys["PUBLISHABLE"],
                "SUPABASE_SERVICE_ROLE_KEY": keys["SECRET"],
                "SUPABASE_DB_URL": self.settings["POSTGRES_URL"],
                "SUPABASE_JWKS": self.settings["SUPABASE_JWKS"],
                "BILLING_JWT_ISSUER": ISSUER,
                "STRIPE_WEBHOOK_SECRET": secret,
                "STRIPE_API_BASE": f"http://{HOST}:{self._stripe_port}",
                "STRIPE_API_KEY": API_KEY,
            },
            more=more,
            port=self._ports.functions,
        )
        self._exit.callback(functions.stop)
        prefix = "" if project is None else project.prefix
        ours = {f"{prefix}{name}" for name in function_names(supabase_directory() / "functions")}
        for name, failure in functions.failures.items():
            line = f"the edge function {name} cannot be loaded: {failure.splitlines()[0]}"
            if project is None or name in ours:
                raise LocalStackError(line)
            self.warnings.append(f"{line} (log: {functions.log_path})")
        self.parts["the edge functions"] = functions
        if self.data_api:
            self.data_api.serve_functions(functions.url)
        self.settings |= {
            "FUNCTIONS_URL": functions.url,
            "WEBHOOK_URL": f"{functions.url}/{prefix}stripe-webhook",
            "STRIPE_WEBHOOK_SECRET": secret,
        }

    def _start_stripe(self) -> None:
        self._report("starting Stripe")
        port = self._stripe_port
        webhook = ["--webhook-url", self.settings["WEBHOOK_URL"]] if "WEBHOOK_URL" in self.settings else []
        # In the environment: all users of the machine can read arguments.
        names = ("STRIPE_WEBHOOK_SECRET",) if webhook else ()
        environment = {name: self.settings[name] for name in names}
        arguments = ["stripe_local", "--port", str(port), *webhook]
        self._start_process("stripe", arguments, environment, port, "/_control/health")
        self.settings |= {"STRIPE_API_BASE": f"http://{HOST}:{port}", "STRIPE_API_KEY": API_KEY}

    def _start_worker(self) -> None:
        self._report("starting the worker")
        port = self._ports.metrics or free_port()
        environment = {
            "POSTGRES_URL": self.settings["POSTGRES_URL"],
            "STRIPE_API_BASE": self.settings["STRIPE_API_BASE"],
            "STRIPE_API_KEY": self.settings["STRIPE_API_KEY"],
            "WORKER_METRICS_ADDRESS": f"{HOST}:{port}",
        }
        self._start_process("worker", ["worker"], environment, port, "/metrics")
        self.settings["WORKER_METRICS_URL"] = f"http://{HOST}:{port}/metrics"

    def _start_dashboard(self) -> None:
        self._report("starting the dashboard")
        port = self._ports.dashboard or free_port()
        token = secrets.token_urlsafe()
        names = (
            "POSTGRES_URL", "WORKER_METRICS_URL", "STRIPE_API_KEY", "STRIPE_API_BASE", "WEBHOOK_URL", "SUPABASE_URL",
            "SUPABASE_PUBLISHABLE_KEY",
        )  # fmt: skip
        environment = {name: self.settings[name] for name in names} | {"TILL_DASHBOARD_TOKEN": token}
        self._start_process("dashboard", ["cli.dashboard", str(port)], environment, port, "/ready")
        self.settings["DASHBOARD_URL"] = f"http://{HOST}:{port}/?token={token}"

    def _start_process(
        self, name: str, arguments: list[str], environment: dict[str, str], port: int, ready_path: str
    ) -> None:
        process = Process.start(name, arguments, environment, self._state)
        self._exit.callback(process.stop)
        process.wait_for(port, ready_path)
        self.parts[name] = process
