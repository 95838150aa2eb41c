"""An error while applying an event → how the attempt ended. Decided on codes, never on text."""

import random
from typing import Any

import psycopg
from psycopg import Connection

from worker.errors import BillingError, StripeGone, StripeUnavailable
from worker.events.outcomes import Dead, Done, Outcome, Parked, RetryLater

# About two hours of trying: 2, 4, 8 … seconds, at most 15 minutes apart.
ATTEMPTS_MAX = 15
BACKOFF_FIRST_SECONDS = 2
BACKOFF_MAX_SECONDS = 900
# Whoever has mended a key or waited for Stripe wants to see it go on.
STRIPE_BACKOFF_MAX_SECONDS = 120

# Somebody else held a lock: the app's own transaction, or another worker.
CONTENTION = {"40001", "40P01", "55P03"}
# Nothing is wrong with any event: a privilege, a function, a table or a schema is missing, the server is read-only, its
# disk is full, or it is short of memory.
_OF_INSTALLATION = {"42501", "42883", "42P01", "3F000", "25006", "53100", "53200"}
_PLAN_IS_MISSING = "TB010"
_CUSTOMER_IS_NOT_LINKED = "TB011"
# A row that its table will not have, whenever it is offered. Keys are no such thing: what they wait for may come.
_ROW_IS_REFUSED = {"23502", "23514"}


def raise_if_lost(conn: Connection[Any], error: psycopg.Error) -> None:
    """Goes on with an error that took the connection with it; any other one is the caller's to judge."""
    if conn.closed or conn.broken:
        raise error


def is_of_installation(error: psycopg.Error) -> bool:
    """Whether every event would meet the same error, so that none is to blame for it."""
    return error.sqlstate in _OF_INSTALLATION


def outcome_of_database_error(error: psycopg.Error, attempts: int) -> Outcome:
    """How an attempt ended whose transaction Postgres refused."""
    reason = _reason(error)
    waiting_for = error.diag.message_detail
    match error.sqlstate:
        case code if code in CONTENTION:
            return RetryLater(random.randint(1, 3), reason, excused=True)  # noqa: S311
        case code if code == _PLAN_IS_MISSING:
            return Dead(reason, waiting_for)
        case code if code == _CUSTOMER_IS_NOT_LINKED and waiting_for is not None:
            return Parked(waiting_for, reason)
        case str() as code if code[:2] in {"TB", "22"}:
            return Dead(reason)  # the event itself is refused, and will be the next time
        case code if code in _ROW_IS_REFUSED:
            return Dead(f"{reason}{_where(error)} Update Tillbase, then retry the event.")
        case _:
            return retry_or_bury(reason, attempts)


def outcome_of_billing_error(error: BillingError, read_ct: int) -> Outcome:
    """How an attempt ended that Stripe's answer decided. Waiting for Stripe is excused however long it takes."""
    match error:
        case StripeUnavailable():
            delay_seconds = min(backoff_seconds(read_ct), STRIPE_BACKOFF_MAX_SECONDS)
            return RetryLater(delay_seconds, str(error), excused=True)
        case StripeGone():
            return Done()  # what the event tells is over, as with any older state
        case _:
            return Dead(str(error))


def retry_or_bury(reason: str, attempts: int) -> Outcome:
    """Try again later, until it has been tried often enough."""
    if attempts >= ATTEMPTS_MAX:
        return Dead(f"{reason} (given up after {attempts} attempts)")
    return RetryLater(backoff_seconds(attempts), reason)


def backoff_seconds(attempts: int) -> int:
    """Doubles with each attempt, with jitter so that what failed together does not come back together."""
    longest = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(attempts - 1, 20))
    return max(1, round(random.uniform(0.5, 1.0) * longest))  # noqa: S311


def _where(error: psycopg.Error) -> str:
    """Table, and column or constraint, that a row was refused by; its values are other people's data."""
    diag = error.diag
    name = f"column {diag.column_name}" if diag.column_name else f"constraint {diag.constraint_name}"
    return f" Table {diag.schema_name}.{diag.table_name}, {name}."


def _reason(error: psycopg.Error) -> str:
    message = error.diag.message_primary or str(error) or type(error).__name__
    code = f"{error.sqlstate}: " if error.sqlstate else ""
    hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{code}{message}.{hint}"
