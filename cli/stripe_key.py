"""The environment's Stripe key → a client, after checking that it belongs to the database."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import stripe

from cli.database import Connection
from cli.output import CliError
from cli.plans.catalogue import refusal
from worker.account import ask, check_answer, check_mode, read_installation
from worker.settings import Settings

REQUEST_TIMEOUT_SECONDS = 20
REQUEST_RETRIES = 2


def check_key(conn: Connection, settings: Settings) -> bool:
    """Refuse a key of the other mode, or of another account than the database's.

    Returns whether the key is known to be of that account: only then does a 404 mean that an object is deleted.
    Raises WrongStripeKey, stripe.StripeError.
    """
    if settings.stripe_api_key is None:
        return False
    installation = read_installation(conn)
    check_mode(settings.stripe_api_key, installation)
    if installation.stripe_account_id is None:
        return False
    return check_answer(
        ask(settings.stripe_api_key, settings.stripe_api_base, installation), installation.stripe_account_id
    )


@contextmanager
def stripe_client(settings: Settings) -> Generator[Any]:
    """Stripe's `v1` for a command; an error of Stripe is one line that says what to do."""
    with whole_client(settings) as client:
        yield client.v1


@contextmanager
def whole_client(settings: Settings) -> Generator[stripe.StripeClient]:
    """Like `stripe_client`, with raw requests too."""
    if settings.stripe_api_key is None:
        raise CliError("STRIPE_API_KEY is not set: export a key that may write customers and sessions")
    http = stripe.RequestsClient(timeout=REQUEST_TIMEOUT_SECONDS)
    client = stripe.StripeClient(
        settings.stripe_api_key,
        base_addresses={"api": settings.stripe_api_base} if settings.stripe_api_base else None,
        max_network_retries=REQUEST_RETRIES,
        http_client=http,
    )
    try:
        yield client
    except stripe.StripeError as error:
        raise CliError(refusal(error)) from None
    finally:
        http.close()
