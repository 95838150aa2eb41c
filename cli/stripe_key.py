"""The environment's Stripe key → a client, after checking that it belongs to the database."""

from collections.abc import Generator
from contextlib import contextmanager

import stripe

from cli.database import Connection
from cli.output import CliError
from worker.account import ask, check_answer, check_mode, read_installation
from worker.settings import Settings
from worker.stripe_api import KeyRefused, Refused, Trouble, opened_client, trouble_of

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
def stripe_client(settings: Settings) -> Generator[stripe.StripeClient]:
    """A client for a command; an error of Stripe is one line that says what to do."""
    if settings.stripe_api_key is None:
        raise CliError("STRIPE_API_KEY is not set: export a restricted key of your Stripe account")
    try:
        with opened_client(
            settings.stripe_api_key, settings.stripe_api_base, REQUEST_TIMEOUT_SECONDS, REQUEST_RETRIES
        ) as client:
            yield client
    except stripe.StripeError as error:
        raise CliError(refusal(error)) from None


def refusal(error: stripe.StripeError) -> str:
    """An error of Stripe, on one line."""
    # The key is the one that the person who runs the command exported.
    trouble = trouble_of(error, is_our_key=True)
    match trouble:
        case KeyRefused():
            return f"Stripe refused the key: {trouble.text} ({trouble.advice})"
        case Refused() | Trouble(error="IdempotencyError"):
            return f"Stripe refused: {trouble.text}"
        case _:
            return f"the request to Stripe failed: {trouble.text}; try again"
