"""Command line → one call each. `till --help` lists them."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from cli.commands import (
    checkout,
    customers,
    demo,
    dev,
    events,
    links,
    notifications,
    plans,
    recharge,
    testdata,
    trigger,
)
from cli.commands.credits import read as credits
from cli.commands.fraud import queue as fraud
from cli.dashboard.command import dashboard
from cli.output import err
from worker.errors import BillingError

app = typer.Typer(
    name="till",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Stripe billing and a credit ledger that live in your own Supabase database.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(dev.dev)
app.command()(demo.demo)
app.command()(dev.token)
app.command()(dashboard)
app.command()(trigger.trigger)
app.command()(checkout.checkout)
app.command()(checkout.portal)
app.add_typer(credits.app, name="credits")
app.add_typer(customers.app, name="customers")
app.add_typer(events.app, name="events")
app.add_typer(fraud.app, name="fraud")
app.add_typer(links.app, name="links")
app.add_typer(notifications.app, name="notifications")
app.add_typer(plans.app, name="plans")
app.add_typer(recharge.app, name="recharge")
app.add_typer(testdata.app, name="testdata")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"till {version('tillbase')}")
        raise typer.Exit


@app.callback()
def till(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options that stand before a command."""


worker_app = typer.Typer(no_args_is_help=True, help="The process that drains the queue of Stripe events.")
app.add_typer(worker_app, name="worker")


@worker_app.command("run")
def worker_run() -> None:
    """Run the worker until SIGTERM or Ctrl-C; what is in hand is finished first.

    Reads POSTGRES_URL, STRIPE_API_KEY, STRIPE_API_BASE, WORKER_METRICS_ADDRESS, TILLBASE_NOTIFY_URLS,
    TILLBASE_CUSTOMER_MAIL_URL and TILLBASE_TEMPLATES.
    """
    from worker.run import main as run_worker
    from worker.settings import Settings

    run_worker(Settings.from_env(os.environ))


# Of the extra `local`, which a server that only runs the worker does without.
LOCAL_MODULES = {"httpx", "jwt", "cryptography"}


def main() -> None:
    """Entry point of `till`: 0 done, 1 failed with one line on stderr, 2 wrong usage."""
    try:
        app()
    except BillingError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in LOCAL_MODULES:
            raise
        _fail("the local stack is not installed: pip install 'tillbase[local]'")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> None:
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(1)
