"""What somebody is to buy → an open Checkout Session, the way of the edge function `checkout`.

What may be bought, at which price and by whom is judged in the database, by the functions that the edge function calls
(billing.prepare_checkout and those that follow). This is no more than the carrying between the database and Stripe.
"""

from collections.abc import Callable, Mapping
from typing import Any

import stripe

from cli.database import Connection, call
from cli.output import CliError

_SUPERSEDED = "another checkout was begun in the meantime, which excludes this one: run it again"
_SUBSCRIBED = "there is a subscription already: use `till portal` to change it"


def open_checkout(conn: Connection, client: Any, order: Mapping[str, Any]) -> stripe.checkout.Session:
    """Open a session. `order` has the arguments of billing.prepare_checkout.

    Whatever breaks on the way, the same call later goes on where this one ended. Raises CliError, stripe.StripeError.
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
    # A customer that was made, and whose making nobody heard of, has the claim's token.
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
        # Stripe expires open sessions only, and says so in words alone.
        if client.checkout.sessions.retrieve(session_id).status == "complete":
            raise CliError(_SUBSCRIBED) from None


def once(
    conn: Connection, key: str, make: Callable[[dict[str, str]], Any], discard: str = "discard_checkout_key"
) -> Any:
    """A call under its key; a key that Stripe would answer with this failure for a day is given up by `discard`."""
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
    """The one value that a function of `billing` returns to the edge functions, as the role that they have."""
    with conn.transaction():
        conn.execute("set local role billing_checkout")
        [row] = call(conn, f"billing.{function}", **arguments)
    [value] = row.values()
    return value
