"""Users whose e-mail address changed → their Stripe customers.

A customer that has an address of its own, entered in Stripe or by a payer, keeps it. Writing an address twice is the
same as once, so a job that is repeated after a crash or a failure writes it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.jobs.handler import Handler, stripe_delay_seconds
from worker.jobs.queue import Job, columns
from worker.stripe_api import Refused, StripeAccess

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class EmailChange:
    """The new address of a customer, and the old ones that may be replaced; empty text: none."""

    msg_id: int
    stripe_customer_id: str
    old_emails: list[str]
    new_email: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of an attempt: nothing is left to do, or it is retried. `reason`: why the address was not written."""

    is_settled: bool
    reason: str | None = None


class Emails(Handler[EmailChange, Answer]):
    def __init__(self, stripe: StripeAccess) -> None:
        self._stripe = stripe

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, EmailChange]:
        with conn.cursor(row_factory=class_row(EmailChange)) as cursor:
            found = cursor.execute(
                "select msg_id, stripe_customer_id, old_emails, new_email "
                "from billing.begin_email_changes(msg_ids => %s, ids => %s)",
                columns(jobs),
            ).fetchall()
        return {change.msg_id: change for change in found}

    def do(self, job: Job, task: EmailChange) -> Answer:
        return write(self._stripe, task)

    def record(self, conn: Connection[Any], job: Job, task: EmailChange, answer: Answer) -> None:
        _record(conn, task, answer.reason, None if answer.is_settled else stripe_delay_seconds(job))
        outcome = "delayed" if not answer.is_settled else "kept" if answer.reason else "written"
        metrics.EMAIL_CHANGES.labels(outcome).inc()
        write_line = log.warning if outcome == "delayed" else log.info
        write_line(f"email_change_{outcome}", **self.describe(task), reason=answer.reason)

    def put_off(
        self, conn: Connection[Any], job: Job, task: EmailChange, reason: str, delay_seconds: int
    ) -> None:
        metrics.EMAIL_CHANGES.labels("put_off").inc()
        _record(conn, task, reason, delay_seconds)

    def describe(self, task: EmailChange) -> dict[str, str]:
        return {"stripe_customer_id": task.stripe_customer_id}


def write(stripe: StripeAccess, change: EmailChange) -> Answer:
    """Write the address, unless the customer has one of its own. Never raises."""
    try:
        customers = stripe.v1.customers
        customer = customers.retrieve(change.stripe_customer_id)
        if getattr(customer, "deleted", False):
            return Answer(True, "the customer is deleted in Stripe")
        held = (customer.email or "").lower()
        if held == change.new_email.lower():
            return Answer(True)
        if held not in {email.lower() for email in change.old_emails}:
            return Answer(True, "the customer has an address of its own in Stripe")
        customers.update(change.stripe_customer_id, {"email": change.new_email})
    except Exception as error:
        trouble = stripe.trouble_of(error)
        # Refused: there is no such customer, or Stripe does not accept the address.
        return Answer(isinstance(trouble, Refused), str(trouble))
    return Answer(True)


def _record(
    conn: Connection[Any], change: EmailChange, reason: str | None, delay_seconds: int | None
) -> None:
    conn.execute(
        "select billing.record_email_change("
        "msg_id => %s, stripe_customer_id => %s, new_email => %s, retry_in_seconds => %s, reason => %s)",
        [change.msg_id, change.stripe_customer_id, change.new_email, delay_seconds, reason],
    )
