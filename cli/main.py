"""Command line → one call each. `till --help` lists them."""

import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from cli.app import App
from cli.commands import (
    accounts,
    budgets,
    checkout,
    credits,
    customers,
    demo,
    deploy,
    dev,
    doctor,
    events,
    explain,
    fraud,
    init,
    links,
    notifications,
    operations,
    overage,
    plans,
    recharge,
    reconcile,
    simulate,
    subscriptions,
    teams,
    testdata,
    trigger,
    webhook,
    worker,
)
from cli.dashboard import command as dashboard
from cli.output import err
from cli.usage import usage_line
from worker.errors import BillingError

app = App(
    "till",
    help="Stripe billing and a credit ledger that live in your own Supabase database.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(init.app)
app.add_typer(webhook.app)
app.add_typer(deploy.app)
app.add_typer(doctor.app)
app.add_typer(plans.app)
app.add_typer(operations.app)
app.add_typer(links.app)
app.add_typer(checkout.app)
app.add_typer(accounts.app)
app.add_typer(teams.app)
app.add_typer(budgets.app)
app.add_typer(customers.app)
app.add_typer(subscriptions.app)
app.add_typer(credits.app)
app.add_typer(recharge.app)
app.add_typer(overage.app)
app.add_typer(explain.app)
app.add_typer(worker.app)
app.add_typer(dashboard.app)
app.add_typer(events.app)
app.add_typer(reconcile.app)
app.add_typer(fraud.app)
app.add_typer(notifications.app)
app.add_typer(dev.app)
app.add_typer(demo.app)
app.add_typer(trigger.app)
app.add_typer(simulate.app)
app.add_typer(testdata.app)


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


# Of the extra `local`, which a server that only runs the worker does without.
LOCAL_MODULES = {"httpx", "jwt", "cryptography"}


def main() -> None:
    """Entry point of `till`: 0 done, 1 failed with one line on stderr, 2 wrong usage."""
    try:
        sys.exit(app(prog_name="till", standalone_mode=False))
    except typer.TyperException as error:
        # A group without a command has printed its help by now.
        if error.__class__.__name__ != "NoArgsIsHelpError":
            _fail(usage_line(error), error.exit_code)
        sys.exit(error.exit_code)
    except BillingError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in LOCAL_MODULES:
            raise
        _fail("the local stack is not installed: pip install 'tillbase[local]'")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str, status: int = 1) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)
