"""Every check of an installation, in the order in which to fix them: files, database, Stripe, clients.

`till doctor` runs them all; the dashboard runs those of the database for each page, and the others when asked.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from cli.commands.webhook import webhook_url
from cli.database import Connection, connect, setting
from cli.doctor import database, security, stripe_checks
from cli.doctor.files import files
from cli.findings import Result, Skipped, finding_of
from cli.output import CliError
from cli.plans.catalogue import stripe_settings
from worker.errors import BillingError
from worker.settings import Settings
from worker.stripe_api import stripe_client

REQUEST_TIMEOUT_SECONDS = 20

Check = Callable[[], Iterable[Result]]


def checks(directory: Path, url: str | None, *, full: bool) -> Iterator[tuple[str, Check]]:
    """The name of each check, and the check; the connection is open until the next one is taken."""
    yield "project files", lambda: files(directory)
    with ExitStack() as stack:
        try:
            settings = environment()
            conn = stack.enter_context(connect())
        except BillingError as error:
            trouble = finding_of("connection", error)
            yield "connection", lambda: [trouble]
        else:
            yield "pooler", lambda: database.pooler(conn)
            yield from of_database(conn)
            if full:
                yield "proofs", lambda: database.run(conn, database.proofs)
            yield from of_stripe(conn, settings, url or endpoint_url(directory))
    yield "Data API", lambda: of_data_api(_setting("SUPABASE_URL"), _setting("SUPABASE_PUBLISHABLE_KEY"))


def of_database(conn: Connection) -> Iterator[tuple[str, Check]]:
    """What only the database is asked about."""
    for name, check in database.CHECKS.items():
        yield name, lambda check=check: database.run(conn, check)


def security_checks() -> Iterator[tuple[str, Check]]:
    """The checks of `till doctor --security`, in the same form."""
    with connect() as conn:
        yield from of_security(conn)
        yield "requests to the Data API", lambda: of_outsiders(conn)


def of_security(conn: Connection) -> Iterator[tuple[str, Check]]:
    """The catalog is read, then statements are tried."""
    for name, check in security.CHECKS.items():
        yield name, lambda check=check: database.run(conn, check)
    for name, check in security.TRIALS.items():
        yield name, lambda check=check: database.run(conn, check, read_only=False)


def of_outsiders(conn: Connection) -> Iterable[Result]:
    """What a visitor, and a user whose token is given, get from the Data API."""
    url, key = _setting("SUPABASE_URL"), _setting("SUPABASE_PUBLISHABLE_KEY")
    if not url or not key:
        return [Skipped("data_api", "SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY are not set")]
    from cli.doctor.data_api import outsider

    return list(outsider(conn, url, key, os.environ.get("SUPABASE_USER_TOKEN")))


def environment() -> Settings:
    """As other commands read them, but a database of the environment is checked without a key as well."""
    return Settings.from_env(os.environ) if os.environ.get("POSTGRES_URL", "").strip() else stripe_settings()


def of_stripe(conn: Connection, settings: Settings, url: str | None) -> Iterator[tuple[str, Check]]:
    """What Stripe is asked about; `url` is the webhook endpoint's."""
    key = settings.stripe_api_key
    if key is None:
        yield "Stripe", lambda: [Skipped("stripe", "STRIPE_API_KEY is not set")]
        return
    client = stripe_client(key, settings.stripe_api_base, REQUEST_TIMEOUT_SECONDS, retries=1)
    livemode = stripe_checks.is_live_key(settings)
    of_key: dict[str, Check] = {
        "Stripe key": lambda: stripe_checks.key(conn, settings),
        "Stripe permissions": lambda: stripe_checks.permissions(client),
        "webhook endpoint": lambda: _no_url() if url is None else stripe_checks.endpoint(client, url),
        "arrival of events": lambda: stripe_checks.arrived(conn, client, url, livemode=livemode),
        "clock": lambda: stripe_checks.clock(conn, client),
    }
    for name, check in of_key.items():
        yield name, lambda check=check: stripe_checks.run(check)


def _no_url() -> list[Result]:
    return [Skipped("webhook", "no project is linked here: pass --webhook-url")]


def endpoint_url(directory: Path) -> str | None:
    """The webhook endpoint of the project that is linked there, if one is."""
    try:
        return webhook_url(directory)
    except CliError:
        return None


def of_data_api(url: str | None, key: str | None) -> Iterator[Result]:
    """What a visitor reads with supabase-py."""
    if not url or not key:
        yield Skipped("data_api", "SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY are not set")
        return
    from cli.doctor.data_api import visitor  # loads supabase-py

    yield from visitor(url, key)


def _setting(name: str) -> str | None:
    try:
        return setting(name)
    except CliError:
        return None
