"""The example app on a running local stack: creates its plans, allows redirects to it, serves its page."""

import time
from pathlib import Path
from typing import Any, LiteralString, Self

import psycopg
import stripe
from deno import find_deno_bin  # pyright: ignore[reportMissingTypeStubs]
from psycopg.rows import dict_row

from cli.plans.catalogue import stripe_account
from cli.plans.changes import steps
from cli.plans.database import push_database
from cli.plans.push import take
from cli.plans.read import read_plan_file
from cli.plans.sync import sync_catalogue
from devstack.deno_process import DenoProcess, deno_environment, spawn
from devstack.errors import LocalStackError
from devstack.paths import example_directory
from devstack.processes import HOST, is_free
from devstack.stack import Stack
from worker.settings import Settings

USUAL_PORT = 3000
READY_SECONDS = 60  # the first start downloads supabase-js
POLL_SECONDS = 0.02

_ALLOW: LiteralString = """
    update billing.settings
    set allowed_redirect_origins = allowed_redirect_origins || %(origin)s::text
    where not %(origin)s = any (allowed_redirect_origins)
"""


class Example(DenoProcess):
    """The process that serves the page."""

    url = ""

    @classmethod
    def start(cls, stack: Stack, *, port: int | None = None) -> Self:
        """Serve on that port, or else on the usual one of web apps if it is free; returns once it answers.

        The stack must have been started with the example's functions (`example_functions`).
        """
        settings = stack.settings
        stock(settings)
        usual = USUAL_PORT if is_free(USUAL_PORT) else 0
        example = cls._serve(settings, usual if port is None else port)
        stack.add("the example", example)
        with psycopg.connect(settings["POSTGRES_URL"], prepare_threshold=None) as connection:
            connection.execute(_ALLOW, {"origin": example.url})
        settings["EXAMPLE_URL"] = example.url
        return example

    @classmethod
    def _serve(cls, settings: dict[str, str], port: int) -> Self:
        project = {name: settings[name] for name in ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY")}
        log_path = Path(settings["TILL_STATE"]) / "example.log"
        example = cls(spawn(_command(port), deno_environment() | project, log_path), log_path)
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not (announced := example.announced_port()):
                if not example.running or time.monotonic() > deadline:
                    last_line = example.log_tail(1) or "it said nothing"
                    raise LocalStackError(f"the example cannot be served: {last_line} (log: {log_path})")
                time.sleep(POLL_SECONDS)
        except BaseException:  # Ctrl-C too must stop the process
            example.stop()
            raise
        example.url = f"http://{HOST}:{announced}"
        return example


def example_functions() -> Path:
    """The directory of the example's own edge functions."""
    return example_directory() / "functions"


def stock(settings: dict[str, str]) -> None:
    """Push the example plan file to the local Stripe and the database, and allow plan changes in the portal."""
    path = example_directory() / "plans.toml"
    with (
        psycopg.Connection[dict[str, Any]].connect(
            settings["POSTGRES_URL"], autocommit=True, prepare_threshold=None, row_factory=dict_row
        ) as connection,
        stripe_account(Settings.from_env(settings)) as account,
    ):
        file = read_plan_file(path)
        take(account, steps(file, account.read_catalogue(_quietly)), _quietly)
        sync_catalogue(connection, account, account.read_catalogue(_quietly), _quietly)
        push_database(connection, file, yes=True)
    _let_plans_be_changed(settings)


def _let_plans_be_changed(settings: dict[str, str]) -> None:
    """The portal's settings, which a real account sets in Stripe's Dashboard."""
    client = stripe.StripeClient(
        settings["STRIPE_API_KEY"], base_addresses={"api": settings["STRIPE_API_BASE"]}
    ).v1
    offered: dict[str, list[str]] = {}
    for price in client.prices.list({"active": True, "type": "recurring", "limit": 100}).data:
        offered.setdefault(str(price.product), []).append(price.id)
    [default] = client.billing_portal.configurations.list({"is_default": True}).data
    client.billing_portal.configurations.update(
        default.id,
        {
            "features": {
                "subscription_update": {
                    "enabled": True,
                    "default_allowed_updates": ["price"],
                    # The local Stripe does not support downgrades at the end of the period (schedule_at_period_end).
                    # Without prorations a change counts from the next invoice, and the paid month stays as it was.
                    "proration_behavior": "none",
                    "products": [
                        {"product": product, "prices": prices} for product, prices in offered.items()
                    ],
                }
            }
        },
    )


def _quietly(*_: Any) -> None:
    pass


def _command(port: int) -> list[str]:
    directory = example_directory()
    return [
        find_deno_bin(),
        "run",
        "--no-prompt",
        "--node-modules-dir=none",
        f"--config={directory / 'deno.json'}",
        f"--allow-net={HOST}",
        "--allow-env=SUPABASE_URL,SUPABASE_PUBLISHABLE_KEY",
        f"--allow-read={directory}",
        str(directory / "server.ts"),
        str(port),
        "--attended",
    ]
