"""`till dev` and `till token`: the local stack in the foreground, and tokens for its users."""

import signal
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from cli.adopt.project import NoProject, find_project
from cli.app import App
from cli.database import one_line_errors, setting
from cli.output import CliError, err, out
from cli.tables import print_table
from devstack.paths import state_directory, supabase_directory

if TYPE_CHECKING:
    from devstack.project import LocalProject
    from devstack.stack import Stack

app = App(panel="Local stack")

WATCH_SECONDS = 0.5
_ADDRESSES = {
    "EXAMPLE_URL": "Example app",
    "DASHBOARD_URL": "Dashboard",
    "SUPABASE_URL": "Supabase",
    "FUNCTIONS_URL": "Edge functions",
    "STRIPE_API_BASE": "Stripe",
}
DATA_API_SECONDS = 15


class Part(StrEnum):
    """A part of the local stack that can be started alone."""

    DATABASE = "database"
    STRIPE = "stripe"


Port = Annotated[int | None, typer.Option(help="Port; a free one if left out.", min=1, max=65535)]


@app.command()
def dev(
    env_file: Annotated[
        Path | None,
        typer.Option(help="Write the stack's settings to this dotenv file once everything answers."),
    ] = None,
    only: Annotated[Part | None, typer.Option(help="Start this part alone.")] = None,
    no_migrate: Annotated[
        bool, typer.Option("--no-migrate", help="Leave the database without migrations.")
    ] = False,
    skip_migration: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out this migration of your project, by the digits of its name; can be repeated.",
            metavar="VERSION",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the data of earlier runs first.")] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print the settings too, passwords and keys included.")
    ] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Serve the example app, too: a shop to click through.")
    ] = False,
    postgres_port: Port = None,
    stripe_port: Port = None,
    functions_port: Port = None,
    metrics_port: Port = None,
    api_port: Port = None,
    dashboard_port: Port = None,
) -> None:
    """Run the local stack until Ctrl-C.

    Postgres, Stripe, sign-in and Data API, edge functions, worker, dashboard. In a Supabase project: with its
    migrations, its seed and its edge functions.
    Needs no Docker, no Node and no account. The database is kept in .till/ of this directory; Stripe starts empty.
    Other commands that run in this directory use the stack.
    """
    # The stack's libraries come with the `local` extra: a server that only runs the worker does without.
    from cli.example import Example, example_functions
    from devstack.env_file import write_env_file
    from devstack.stack import Ports, Stack

    if example and (only or no_migrate):
        raise typer.BadParameter("it needs the whole stack", param_hint="--example")
    if example and not fresh and (state_directory() / "postgres").exists():
        # The local Stripe starts empty, and the database would have customers and prices of the earlier one.
        raise CliError(
            "the example begins with an empty shop: add --fresh, which forgets the data of earlier runs"
        )
    project = None if only is Part.STRIPE or no_migrate else project_here()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    ports = Ports(postgres_port, stripe_port, functions_port, metrics_port, api_port, dashboard_port)
    dead = None
    with err.status("starting") as status:
        stack = Stack.start(
            state_directory(),
            ports=ports,
            only=None if only is None else only.value,
            with_migrations=not no_migrate,
            left_out=skip_migration or [],
            fresh=fresh,
            project=project,
            more_functions=[example_functions()] if example else [],
            report=status.update,
        )
    with stack, suppress(KeyboardInterrupt):
        warn_of_the_data_api(stack)
        for warning in stack.warnings:
            err.print(f"warning: {escape(warning)}", style="bold yellow", soft_wrap=True)
        if example:
            with err.status("opening the example"):
                Example.start(stack)
        _print_addresses(stack.settings)
        if settings:
            _print_settings(stack.settings)
        if env_file is not None:
            write_env_file(env_file, stack.settings)
        err.print(
            f"settings: {escape(str(state_directory() / 'env'))}, or --env-file", style="dim", highlight=False
        )
        err.print("ready. Ctrl-C stops everything.", style="bold green")
        while (dead := stack.first_dead()) is None:
            time.sleep(WATCH_SECONDS)
    if dead is not None:
        raise CliError(f"{dead} ended by itself: look into the logs in {state_directory()}")


def project_here() -> "LocalProject | None":
    """The Supabase project of this directory; None where there is none, or it is Tillbase's own."""
    from devstack.project import local_project

    try:
        project = find_project(Path.cwd())
    except NoProject:
        return None
    if (project.root / "supabase").samefile(supabase_directory()):
        return None
    if not project.releases():
        raise CliError(
            f"Tillbase is not in the Supabase project {project.root}: run `till init`, then this again"
        )
    return local_project(project.root, project.config, project.functions_prefix())


@app.command()
def token(
    user: Annotated[
        str, typer.Option(help="E-mail address; the user is signed up if need be.", metavar="EMAIL")
    ],
) -> None:
    """Print an access token for a user of the local stack."""
    from devstack.tokens import SigningKeys, find_or_create_user

    if "@" not in user:
        raise typer.BadParameter("give an e-mail address", param_hint="--user")
    url = setting("DATABASE_URL")
    with one_line_errors("DATABASE_URL", url):
        user_id = find_or_create_user(url, user)
    state = Path(setting("TILL_STATE"))
    out.print(SigningKeys.load(state).access_token(user_id, user.strip().lower()), highlight=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def warn_of_the_data_api(stack: "Stack") -> None:
    """It alone may fail without the rest: its packages come over the network when it starts for the first time."""
    with err.status("loading the Data API"):
        trouble = stack.data_api.trouble(DATA_API_SECONDS) if stack.data_api else None
    if trouble:
        err.print(f"warning: {escape(trouble)}", style="bold yellow", soft_wrap=True)


def _print_addresses(settings: dict[str, str]) -> None:
    """What to open in a browser or to connect to; the settings have passwords and keys in them."""
    shown = {what: settings[name] for name, what in _ADDRESSES.items() if name in settings}
    if "POSTGRES_URL" in settings:
        parts = urlsplit(settings["POSTGRES_URL"])
        shown["Postgres"] = f"{parts.hostname}:{parts.port}"
    print_table(("what", "where"), (("", row) for row in shown.items()), wrapped=(), headed=False)


def _print_settings(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        out.print(f"[bold]{name}[/]={escape(value)}", highlight=False)
