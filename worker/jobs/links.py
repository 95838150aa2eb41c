"""Retired Payment Links → inactive at Stripe.

A link is retired in the database, in the transaction of what ended it. Deactivating it twice is the same as once, so
a job that is repeated after a crash or a failure sends the same request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.jobs.handler import Handler, stripe_delay_seconds
from worker.jobs.queue import Job, columns
from worker.stripe_api import NotFound, StripeAccess, key_of_step

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class RetiredLink:
    """A link to deactivate."""

    msg_id: int | None
    id: UUID
    stripe_payment_link_id: str


class Links(Handler[RetiredLink, str | None]):
    """An answer is None if the link is inactive or deleted, else the reason why this is unknown."""

    def __init__(self, stripe: StripeAccess) -> None:
        self._stripe = stripe

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, RetiredLink]:
        with conn.cursor(row_factory=class_row(RetiredLink)) as cursor:
            found = cursor.execute(
                "select msg_id, id, stripe_payment_link_id "
                "from billing.begin_retired_links(msg_ids => %s, ids => %s)",
                columns(jobs),
            ).fetchall()
        return {link.msg_id: link for link in found if link.msg_id is not None}

    def do(self, job: Job, task: RetiredLink) -> str | None:
        return deactivate(self._stripe, task, job.attempts)

    def record(self, conn: Connection[Any], job: Job, task: RetiredLink, answer: str | None) -> None:
        record(conn, task, answer, None if answer is None else stripe_delay_seconds(job))
        metrics.LINKS.labels("deactivated" if answer is None else "delayed").inc()
        if answer is None:
            log.info("payment_link_deactivated", **self.describe(task))
        else:
            log.warning("payment_link_delayed", **self.describe(task), reason=answer)

    def put_off(
        self, conn: Connection[Any], job: Job, task: RetiredLink, reason: str, delay_seconds: int
    ) -> None:
        metrics.LINKS.labels("put_off").inc()
        record(conn, task, reason, delay_seconds)

    def describe(self, task: RetiredLink) -> dict[str, str]:
        return {"stripe_payment_link_id": task.stripe_payment_link_id}


def deactivate(stripe: StripeAccess, link: RetiredLink, attempt: int) -> str | None:
    """None if the link is inactive or deleted, else the reason why this is unknown. Never raises."""
    try:
        # Each attempt has its own key, because Stripe would repeat an earlier failure.
        stripe.v1.payment_links.update(
            link.stripe_payment_link_id,
            {"active": False},
            {"idempotency_key": key_of_step(link.id, f"deactivate {attempt}")},
        )
    except Exception as error:
        trouble = stripe.trouble_of(error)
        return None if isinstance(trouble, NotFound) else str(trouble)
    return None


def record(conn: Connection[Any], link: RetiredLink, reason: str | None, delay_seconds: int | None) -> None:
    """Record that a link is inactive, or why not and when it is retried. Raises psycopg.Error."""
    conn.execute(
        "select billing.record_retired_link(msg_id => %s, link_id => %s, retry_in_seconds => %s, reason => %s)",
        [link.msg_id, link.id, delay_seconds, reason],
    )
