"""A plan or pack and options → its Payment Link, found or created; retired links → inactive in Stripe."""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from cli.database import Connection, Row, call, row
from cli.stripe_steps import carry_out
from worker.jobs.links import RetiredLink, deactivate, record
from worker.settings import Settings
from worker.stripe_api import StripeAccess


def open_link(
    conn: Connection, client: Any, plan: str | None, pack: str | None, options: Mapping[str, Any]
) -> Row:
    """The row of billing.payment_links for these options; creates the link if there is none.

    If anything fails, the same call continues where this one stopped. Raises CliError, psycopg.Error.
    """
    arguments: dict[str, Any] = {"plan": plan, "pack": pack, "options": Jsonb(dict(options))}
    [claimed] = call(conn, "billing.claim_payment_link", **arguments)
    link = carry_out(conn, client, claimed["claim_payment_link"], "continue_payment_link")
    return row(conn, "select * from billing.payment_links where url = %(url)s", link)


def close_links(conn: Connection, settings: Settings, links: list[Row]) -> list[str]:
    """Deactivate retired links in Stripe now; returns why some failed, which the worker retries."""
    stripe_access = StripeAccess(settings.stripe_api_key, settings.stripe_api_base)
    reasons: list[str] = []
    for link in links:
        if link["stripe_payment_link_id"] is None:
            continue
        retired = RetiredLink(None, link["id"], link["stripe_payment_link_id"])
        reason = deactivate(stripe_access, retired, attempt=0)
        record(conn, retired, reason, None if reason is None else 0)
        if reason is not None:
            reasons.append(f"{retired.stripe_payment_link_id}: {reason}")
    return reasons
