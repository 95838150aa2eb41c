"""An error while applying an event → how the attempt ended. Decided on codes, never on text."""

import random
import re
from typing import Any

import psycopg
from psycopg import Connection

from worker.errors import BillingError, StripeGone, StripeUnavailable
from worker.events.outcomes import Dead, Done, Outcome, Parked, RetryLater

# About two hours of retries: 2, 4, 8 … seconds, at most 15 minutes apart.
ATTEMPTS_MAX = 15
BACKOFF_FIRST_SECONDS = 2
BACKOFF_MAX_SECONDS = 900
# Short, so that a fixed key or a recovered Stripe takes effect soon.
STRIPE_BACKOFF_MAX_SECONDS = 120

# Another transaction held a lock: the app's own, or another worker's.
CONTENTION = {"40001", "40P01", "55P03"}
# No event is at fault: a function, a table or a schema is missing, the server is read-only, its disk is
# full, or it is out of memory.
_OF_INSTALLATION = {"42883", "42P01", "3F000", "25006", "53100", "53200"}
# The same of a right, if it is one of ours.
_MISSING_RIGHT = "42501"
_OWN_SCHEMAS = ("billing", "pgmq")
# In an error's context, innermost first: the schema of each function that was running, and statements.
_FRAME = re.compile(r"([a-z_][a-z0-9_]*)\.[a-z_][a-z0-9_]*\(")
_QUOTED = re.compile(r'"[^"]*"|«[^»]*»')
# Postgres refuses a kept plan that would return something else now. Its SQLSTATE (0A000) is that of much else.
_PLAN_IS_OUTDATED = "RevalidateCachedQuery"
_PLAN_IS_MISSING = "TB010"
_CUSTOMER_IS_NOT_LINKED = "TB011"
# A row that its table always refuses. Foreign keys are not included: the referenced row may still arrive.
_ROW_IS_REFUSED = {"23502", "23514"}


def raise_if_lost(conn: Connection[Any], error: psycopg.Error) -> None:
    """Raises an error that closed the connection again; the caller handles any other one.

    A session that keeps plans from before an upgrade is of no more use, and is closed.
    """
    if error.diag.source_function == _PLAN_IS_OUTDATED:
        conn.close()
        raise psycopg.OperationalError("an upgrade changed a function under this session") from error
    if conn.closed or conn.broken:
        raise error


def raise_if_fatal(conn: Connection[Any], error: psycopg.Error) -> None:
    """The same, and the error that the worker lacks a right: it stops then, because no later attempt gives it one."""
    if lacks_own_right(error):
        raise error
    raise_if_lost(conn, error)


def lacks_own_right(error: psycopg.Error) -> bool:
    """Whether Postgres refused the worker, or a function of ours, what it needs of the objects of billing and pgmq.

    An app's own trigger can raise the same SQLSTATE, or lack a right itself: that is a matter of the event. The place
    in Postgres's source and the names of functions are in no language.
    """
    if error.sqlstate != _MISSING_RIGHT or not (error.diag.source_function or "").startswith(
        "aclcheck_error"
    ):
        return False
    frames = _FRAME.findall(_QUOTED.sub("", error.diag.context or ""))
    return not frames or frames[0] in _OWN_SCHEMAS


def is_of_installation(error: psycopg.Error) -> bool:
    """Whether every event would get the same error, so that no event is at fault."""
    return error.sqlstate in _OF_INSTALLATION or lacks_own_right(error)


def outcome_of_database_error(error: psycopg.Error, attempts: int) -> Outcome:
    """The outcome of an attempt whose transaction Postgres refused."""
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
            return Dead(reason)  # the event itself is refused, and would be refused again
        case code if code in _ROW_IS_REFUSED:
            return Dead(f"{reason}{_where(error)} Upgrade Tillbase, then retry the event.")
        case _:
            return retry_or_bury(reason, attempts)


def outcome_of_billing_error(error: BillingError, read_ct: int) -> Outcome:
    """The outcome of an attempt that depends on Stripe's answer. Waiting for Stripe is always excused."""
    match error:
        case StripeUnavailable():
            delay_seconds = min(backoff_seconds(read_ct), STRIPE_BACKOFF_MAX_SECONDS)
            return RetryLater(delay_seconds, str(error), excused=True)
        case StripeGone():
            return Done()  # the event reports a state that is over, like any older state
        case _:
            return Dead(str(error))


def retry_or_bury(reason: str, attempts: int) -> Outcome:
    """Retry later, or dead after too many attempts."""
    if attempts >= ATTEMPTS_MAX:
        return Dead(f"{reason} (given up after {attempts} attempts)")
    return RetryLater(backoff_seconds(attempts), reason)


def backoff_seconds(attempts: int) -> int:
    """Doubles with each attempt, with jitter so that events that failed together are not retried together."""
    longest = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(attempts - 1, 20))
    return max(1, round(random.uniform(0.5, 1.0) * longest))  # noqa: S311


def _where(error: psycopg.Error) -> str:
    """The table, and the column or constraint, that refused a row; its values are private."""
    diag = error.diag
    name = f"column {diag.column_name}" if diag.column_name else f"constraint {diag.constraint_name}"
    return f" Table {diag.schema_name}.{diag.table_name}, {name}."


def _reason(error: psycopg.Error) -> str:
    message = error.diag.message_primary or str(error) or type(error).__name__
    code = f"{error.sqlstate}: " if error.sqlstate else ""
    hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{code}{message}.{hint}"
