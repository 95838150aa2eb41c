"""An order → an open Checkout Session, like the edge function `checkout`.

The database decides what may be bought, at which price and by whom, with the functions that the edge function calls
(billing.prepare_checkout and those that follow). This module only passes data between the database and Stripe.
"""

from collections.abc import Callable, Mapping
from typing import Any

import stripe

from cli.database import Connection, call
from cli.output import CliError

_SUPERSEDED = "another checkout was started at the same time: run the command again"
_SUBSCRIBED = "the account is already subscribed: use `till portal` to change it"


def open_checkout(conn: Connection, client: Any, order: Mapping[str, Any]) -> stripe.checkout.Session:
    """Open a session. `order` has the arguments of billing.prepare_checkout.

    If anything fails, the same call continues where this one stopped. Raises CliError, stripe.StripeError.
    """
    checkout: dict[str, Any] = answer(conn, "prepare_checkout", **order)
    customer_id = _customer(conn, client, checkout["customer"])
    superseded: list[str] = checkout["superseded"]
    for session_id in superseded:
        _expire(client, session_id)
    key: str = checkout["session"]["idempotency_key"]
    params = checkout["session"]["params"] | {"customer": customer_id}
    session: stripe.checkout.Session = once(
        conn, key, lambda options: client.checkout.sessions.create(params, options)
    )
    if not answer(
        conn,
        "note_checkout_session",
        idempotency_key=key,
        stripe_checkout_session_id=session.id,
        expired=superseded,
    ):
        _expire(client, session.id)
        raise CliError(_SUPERSEDED)
    return session


def _customer(conn: Connection, client: Any, customer: Mapping[str, Any]) -> str:
    if "id" in customer:
        return customer["id"]
    # A customer whose creation was not confirmed has the claim's token.
    found = _find(client, customer["lookup"], customer["token"]) if customer["lookup"] else None
    if found is None:
        params, key = customer["params"], customer["idempotency_key"]
        found = once(conn, key, lambda options: client.customers.create(params, options)).id
    return answer(
        conn,
        "link_checkout_customer",
        account_id=customer["account_id"],
        claim_token=customer["token"],
        stripe_customer_id=found,
    )


def _find(client: Any, lookup: Mapping[str, Any], token: str) -> str | None:
    made: list[stripe.Customer] = client.customers.list(lookup).data
    return next((customer.id for customer in made if _token_of(customer) == token), None)


def _token_of(customer: stripe.Customer) -> str | None:
    metadata = customer.metadata
    return metadata["tillbase_claim"] if metadata and "tillbase_claim" in metadata else None


def _expire(client: Any, session_id: str) -> None:
    try:
        client.checkout.sessions.expire(session_id)
    except stripe.InvalidRequestError:
        # Stripe only expires open sessions, and reports others by text alone.
        if client.checkout.sessions.retrieve(session_id).status == "complete":
            raise CliError(_SUBSCRIBED) from None


def once(
    conn: Connection, key: str, make: Callable[[dict[str, str]], Any], discard: str = "discard_checkout_key"
) -> Any:
    """A call with its key; if Stripe would repeat this failure for a day, `discard` replaces the key."""
    try:
        return make({"idempotency_key": key})
    except stripe.StripeError as error:
        is_kept = isinstance(error, stripe.IdempotencyError) or (
            isinstance(error, stripe.APIError) and (error.http_status or 0) >= 500
        )
        if is_kept:
            answer(conn, discard, idempotency_key=key)
        raise


def answer(conn: Connection, function: str, **arguments: Any) -> Any:
    """The one value that a function of `billing` returns to the edge functions, called with their role."""
    with conn.transaction():
        conn.execute("set local role billing_checkout")
        [row] = call(conn, f"billing.{function}", **arguments)
    [value] = row.values()
    return value
