"""A plan or pack and options → its Payment Link, found or created, like the edge function `payment-links`.

The database decides what may be sold, with the functions that the edge function calls. This module only passes data
between the database and Stripe.
"""

from collections.abc import Mapping
from typing import Any

import stripe
from psycopg.types.json import Jsonb

from cli.database import Connection, Row, call, rows
from cli.open_checkout import answer, once
from cli.output import CliError
from worker.jobs.links import Deactivator, RetiredLink, settle
from worker.settings import Settings

_CHANGED = "the plan was changed at the same time: run the command again"


def open_link(
    conn: Connection, client: Any, plan: str | None, pack: str | None, options: Mapping[str, Any]
) -> Row:
    """The row of billing.payment_links for these options; creates the link if there is none.

    If anything fails, the same call continues where this one stopped. Raises CliError, stripe.StripeError.
    """
    arguments: dict[str, Any] = {"plan": plan, "pack": pack, "options": Jsonb(dict(options))}
    [claimed] = call(conn, "billing.claim_payment_link", **arguments)
    link: dict[str, Any] = claimed["claim_payment_link"]
    while "url" in link:
        if not link["check"] or _stands(client, link["id"]):
            answer(conn, "confirm_payment_link", stripe_payment_link_id=link["id"])
            return _row(conn, link["id"])
        link = answer(conn, "replace_payment_link", stripe_payment_link_id=link["id"], name=link["name"])
    made = _find(client, link) or once(
        conn,
        link["idempotency_key"],
        lambda options: client.payment_links.create(link["params"], options),
        discard="discard_payment_link_key",
    )
    note = {"token": link["token"], "stripe_payment_link_id": made.id, "url": made.url}
    url = answer(conn, "note_payment_link", **note)
    if url is None:
        raise CliError(_CHANGED)
    return rows(conn, "select * from billing.payment_links where url = %(url)s", {"url": url})[0]


def close_links(conn: Connection, settings: Settings, links: list[Row]) -> list[str]:
    """Deactivate retired links in Stripe now; returns why some failed, which the worker retries."""
    deactivator = Deactivator(settings.stripe_api_key, settings.stripe_api_base)
    reasons: list[str] = []
    for link in links:
        if link["stripe_payment_link_id"] is None:
            continue
        retired = RetiredLink(link["id"], link["stripe_payment_link_id"], link["attempts"])
        reason = deactivator.deactivate(retired)
        settle(conn, retired, reason)
        if reason is not None:
            reasons.append(f"{retired.stripe_payment_link_id}: {reason}")
    return reasons


def _stands(client: Any, link_id: str) -> bool:
    try:
        return client.payment_links.retrieve(link_id).active
    except stripe.InvalidRequestError as error:
        if error.http_status == 404:
            return False
        raise


def _find(client: Any, link: Mapping[str, Any]) -> stripe.PaymentLink | None:
    if not link["lookup"]:
        return None
    made: list[stripe.PaymentLink] = client.payment_links.list(link["lookup"]).data
    return next((found for found in made if _token_of(found) == link["token"]), None)


def _token_of(link: stripe.PaymentLink) -> str | None:
    metadata = link.metadata
    return metadata["tillbase_link"] if metadata and "tillbase_link" in metadata else None


def _row(conn: Connection, link_id: str) -> Row:
    query = "select * from billing.payment_links where stripe_payment_link_id = %(id)s"
    return rows(conn, query, {"id": link_id})[0]
