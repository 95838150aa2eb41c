"""A connection → what is missing in the database before it goes live: migrations, mode, plans, redirects."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cli.adopt.project import Project
from cli.database import Connection, row, rows
from cli.deploy.project import is_local
from cli.doctor import database
from cli.findings import Finding
from worker.settings import Settings, is_live

PUSH = "supabase db push --remote --yes"

_HISTORY: LiteralString = "select version from supabase_migrations.schema_migrations"
_SETTINGS: LiteralString = "select livemode, site_url, allowed_redirect_origins from billing.settings"
_SET_MODE = "update billing.settings set livemode ="
_SOLD: LiteralString = """
    select (select count(*) from public.billing_plans) + (select count(*) from public.billing_packs) as number
"""
# Credits that payments in test mode granted: they stay when live mode begins.
_TEST_CREDITS: LiteralString = (
    "select count(*) as entries from billing.credit_entries where source like 'stripe.%%'"
)


def address(settings: Settings, project: Project | None) -> Iterator[Finding]:
    """Whether POSTGRES_URL leads to the linked project: its host, or at a pooler its user, has the reference."""
    reference = None if project is None else project.reference()
    parts = conninfo_to_dict(settings.postgres_url)
    if reference and reference not in f"{parts.get('user')} {parts.get('host')}":
        yield Finding(
            "connection", f"POSTGRES_URL leads to {parts.get('host')}, and the linked project is {reference}",
            "export the connection string of that project: Connect in the Dashboard, direct or session pooler",
        )  # fmt: skip


def migrations(conn: Connection, project: Project | None) -> Iterator[Finding]:
    """Whether every migration of the project was pushed, and whether what it made is as shipped."""
    try:
        applied = {each["version"] for each in rows(conn, _HISTORY, {})}
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        yield Finding("migrations", "no migration was pushed to this database", PUSH)
        return
    here: Mapping[str, str] = {} if project is None else project.migrations
    if waiting := [f"{version}_{name}" for version, name in here.items() if version not in applied]:
        others = f" and {len(waiting) - 1} more" if waiting[1:] else ""
        yield Finding("migrations", f"{waiting[0]}{others} was not pushed", PUSH)
        return
    if project is not None and (unknown := sorted(applied - here.keys())):
        yield Finding(
            "migrations", f"the database has migration {unknown[0]}, which is not in the project",
            "supabase migration fetch --remote: without that file no push is accepted", "warning",
        )  # fmt: skip
    yield from database.objects(conn)


def mode(conn: Connection, settings: Settings, *, livemode: bool) -> Iterator[Finding]:
    """Whether key and installation are both in the mode that is wanted."""
    wanted, other = ("live", "test") if livemode else ("test", "live")
    key = settings.stripe_api_key
    if key is None:
        yield Finding(
            "mode",
            "STRIPE_API_KEY is not set",
            f"export STRIPE_API_KEY=rk_{wanted}_…: the worker's restricted key",
        )
    elif is_live(key) is not None and is_live(key) != livemode:
        yield Finding("mode", f"STRIPE_API_KEY is a {other} key", f"export STRIPE_API_KEY=rk_{wanted}_…")
    if row(conn, _SETTINGS, {})["livemode"] != livemode:
        yield Finding(
            "mode", f"the installation is in {other} mode: it ignores {wanted} payments",
            f"{_SET_MODE} {str(livemode).lower()}",
        )  # fmt: skip
        entries = row(conn, _TEST_CREDITS, {})["entries"]
        if livemode and entries:
            yield Finding(
                "mode", f"test payments granted credits here ({entries:,} entries), which stay in live mode",
                "go live in a Supabase project of its own, or till credits revoke", "warning",
            )  # fmt: skip


def plans(conn: Connection) -> Iterator[Finding]:
    """Whether there is something to sell, and whether it gives credits."""
    if not row(conn, _SOLD, {})["number"]:
        yield Finding(
            "plans", "no plan or pack is for sale", "till plans sync, or till plans push plans.toml --yes"
        )
    yield from database.plans(conn)


def redirects(conn: Connection) -> Iterator[Finding]:
    """Where checkout and portal send people back to."""
    held = row(conn, _SETTINGS, {})
    site = held["site_url"]
    example = "update billing.settings set site_url = 'https://app.example.com'"
    if site is None:
        yield Finding(
            "redirects", "site_url is not set: checkout and portal have nowhere to return to", example
        )
    elif is_local(site) or not site.startswith("https://"):
        yield Finding("redirects", f"site_url is {site}, which no customer can open safely", example)
    if local := [origin for origin in held["allowed_redirect_origins"] if is_local(origin)]:
        yield Finding(
            "redirects", f"checkout may return to {', '.join(local)}",
            "take them out of allowed_redirect_origins of billing.settings", "warning",
        )  # fmt: skip


def site_url(conn: Connection) -> str | None:
    """The app's address; None where it, or the table, is not there."""
    try:
        return row(conn, _SETTINGS, {})["site_url"]
    except psycopg.Error:
        return None
