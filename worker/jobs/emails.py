"""Users whose e-mail address changed → their Stripe customers, asked of Stripe until it has answered.

A customer that has an address of its own, entered in Stripe or by a payer, keeps it. To write an address twice is to
write it once, so whoever takes a change next, after a crash or a failure, just writes it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import stripe
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.events.failures import BACKOFF_MAX_SECONDS, backoff_seconds
from worker.jobs.errands import REQUEST_TIMEOUT_SECONDS, Errands
from worker.stripe_api import stripe_client

# At most two requests for each change.
LEASE_SECONDS = 60

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class EmailChange:
    """The address that a customer is to have, and those that may be replaced; empty text is no address."""

    stripe_customer_id: str
    old_emails: list[str]
    new_email: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended: nothing is left to do, or it is tried again. `reason`: why the address was not written."""

    is_settled: bool
    reason: str | None = None


def take(conn: Connection[Any], changes_max: int) -> list[EmailChange]:
    """Take changes that are due, for LEASE_SECONDS, in a transaction of its own."""
    with conn.cursor(row_factory=class_row(EmailChange)) as cursor:
        return cursor.execute(
            "select stripe_customer_id, old_emails, new_email, attempts "
            "from billing.take_email_changes(changes_max => %s, lease_seconds => %s)",
            [changes_max, LEASE_SECONDS],
        ).fetchall()


def settle(conn: Connection[Any], change: EmailChange, answer: Answer) -> None:
    """Write down what became of a change, or when it is tried again. Raises psycopg.Error."""
    put_off(conn, change, answer.reason, None if answer.is_settled else backoff_seconds(change.attempts))


def put_off(conn: Connection[Any], change: EmailChange, reason: str | None, seconds: int | None) -> None:
    """Try again in so many seconds; None: never."""
    conn.execute(
        "select billing.settle_email_change("
        "stripe_customer_id => %s, new_email => %s, retry_in_seconds => %s, reason => %s)",
        [change.stripe_customer_id, change.new_email, seconds, reason],
    )


class AddressWriter:
    """Asks Stripe; makes a client when the first change is there."""

    def __init__(
        self,
        api_key: str | None,
        api_base: str | None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        is_our_key: Callable[[], bool] = lambda: True,
    ) -> None:
        self._api_key = api_key
        self._api_base = api_base
        self._timeout_seconds = timeout_seconds
        self._is_our_key = is_our_key

    def write(self, change: EmailChange) -> Answer:
        """Write the address, unless the customer has one of its own. Never raises."""
        if self._api_key is None:
            return Answer(
                False, "STRIPE_API_KEY is not set, and a customer's e-mail address is to change in Stripe"
            )
        try:
            return self._write(change)
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            return Answer(False, f"{_told(error)} (check STRIPE_API_KEY and its permissions)")
        except stripe.InvalidRequestError as error:
            return self._refused(error)
        except stripe.StripeError as error:
            return Answer(False, _told(error))
        except Exception as error:  # an answer that is none of Stripe's, such as a proxy's page
            return Answer(False, f"{type(error).__name__}: {error}")

    def _write(self, change: EmailChange) -> Answer:
        customers = self._v1.customers
        customer = customers.retrieve(change.stripe_customer_id)
        if getattr(customer, "deleted", False):
            return Answer(True, "the customer is deleted in Stripe")
        held = (customer.email or "").lower()
        if held == change.new_email.lower():
            return Answer(True)
        if held not in {email.lower() for email in change.old_emails}:
            return Answer(True, "the customer has an address of its own in Stripe")
        customers.update(change.stripe_customer_id, {"email": change.new_email})
        return Answer(True)

    def _refused(self, error: stripe.InvalidRequestError) -> Answer:
        if error.http_status == 404 and not self._is_our_key():
            return Answer(False, f"{_told(error)} (it is not known yet whose key STRIPE_API_KEY is)")
        # No such customer, or an address that Stripe does not take: it would say the same again.
        return Answer(error.http_status in (400, 404), _told(error))

    @cached_property
    def _v1(self) -> Any:
        return stripe_client(cast("str", self._api_key), self._api_base, self._timeout_seconds).v1


class EmailFollower(Errands[EmailChange, Answer]):
    """Takes changes of address, has them written in the background, and writes down what became of them."""

    name = "email_change"

    def __init__(self, write: Callable[[EmailChange], Answer]) -> None:
        super().__init__()
        self._write = write

    def take(self, conn: Connection[Any], tasks_max: int) -> list[EmailChange]:
        return take(conn, tasks_max)

    def do(self, task: EmailChange) -> Answer:
        return self._write(task)

    def settle(self, conn: Connection[Any], task: EmailChange, answer: Answer) -> None:
        settle(conn, task, answer)
        outcome = "delayed" if not answer.is_settled else "kept" if answer.reason else "written"
        metrics.EMAIL_CHANGES.labels(outcome).inc()
        write = log.warning if outcome == "delayed" else log.info
        write(f"email_change_{outcome}", **self.describe(task), reason=answer.reason)

    def put_off(self, conn: Connection[Any], task: EmailChange, reason: str) -> None:
        metrics.EMAIL_CHANGES.labels("refused").inc()
        put_off(conn, task, reason, BACKOFF_MAX_SECONDS)

    def describe(self, task: EmailChange) -> dict[str, str]:
        return {"stripe_customer_id": task.stripe_customer_id}


def _told(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"
