"""Retired Payment Links → inactive at Stripe, told until it has answered.

A link is retired in the database, in the transaction of what ended it. To deactivate it twice is to deactivate it once,
so whoever takes one next, after a death or a failure, just says it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from uuid import UUID

import stripe
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.events.failures import BACKOFF_MAX_SECONDS, backoff_seconds
from worker.jobs.errands import REQUEST_TIMEOUT_SECONDS, Errands
from worker.stripe_api import key_of_step, stripe_client

# At most one request for each link.
LEASE_SECONDS = 60

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class RetiredLink:
    """A link to deactivate."""

    id: UUID
    stripe_payment_link_id: str
    attempts: int


def take(conn: Connection[Any], links_max: int) -> list[RetiredLink]:
    """Take links that are due, for LEASE_SECONDS, in a transaction of its own."""
    with conn.cursor(row_factory=class_row(RetiredLink)) as cursor:
        return cursor.execute(
            "select id, stripe_payment_link_id, attempts "
            "from billing.take_retired_links(links_max => %s, lease_seconds => %s)",
            [links_max, LEASE_SECONDS],
        ).fetchall()


def settle(conn: Connection[Any], link: RetiredLink, reason: str | None) -> None:
    """Write down that a link is inactive, or why nobody knows and when it is tried again. Raises psycopg.Error."""
    put_off(conn, link, reason, None if reason is None else backoff_seconds(link.attempts))


def put_off(conn: Connection[Any], link: RetiredLink, reason: str | None, seconds: int | None) -> None:
    """Try again in so many seconds; None: never."""
    conn.execute(
        "select billing.settle_retired_link(link_id => %s, retry_in_seconds => %s, reason => %s)",
        [link.id, seconds, reason],
    )


class Deactivator:
    """Tells Stripe; makes a client when the first link is there."""

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

    def deactivate(self, link: RetiredLink) -> str | None:
        """None when the link is inactive or gone, else why nobody knows. Never raises."""
        if self._api_key is None:
            return "STRIPE_API_KEY is not set, and a payment link is to be deactivated at Stripe"
        try:
            # A key of each attempt's own: Stripe would repeat its failure under an earlier one.
            self._v1.payment_links.update(
                link.stripe_payment_link_id,
                {"active": False},
                {"idempotency_key": key_of_step(link.id, f"deactivate {link.attempts}")},
            )
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            return f"{_told(error)} (check STRIPE_API_KEY and its permissions)"
        except stripe.InvalidRequestError as error:
            if error.http_status == 404 and self._is_our_key():
                return None
            return _told(error)
        except stripe.StripeError as error:
            return _told(error)
        except Exception as error:  # an answer that is none of Stripe's, such as a proxy's page
            return f"{type(error).__name__}: {error}"
        return None

    @cached_property
    def _v1(self) -> Any:
        return stripe_client(cast("str", self._api_key), self._api_base, self._timeout_seconds).v1


class LinkCloser(Errands[RetiredLink, str | None]):
    """Takes retired links, has them deactivated in the background, and writes down what became of them."""

    name = "payment_link"

    def __init__(self, deactivate: Callable[[RetiredLink], str | None]) -> None:
        super().__init__()
        self._deactivate = deactivate

    def take(self, conn: Connection[Any], tasks_max: int) -> list[RetiredLink]:
        return take(conn, tasks_max)

    def do(self, task: RetiredLink) -> str | None:
        return self._deactivate(task)

    def settle(self, conn: Connection[Any], task: RetiredLink, answer: str | None) -> None:
        settle(conn, task, answer)
        metrics.LINKS.labels("deactivated" if answer is None else "delayed").inc()
        if answer is None:
            log.info("payment_link_deactivated", **self.describe(task))
        else:
            log.warning("payment_link_delayed", **self.describe(task), reason=answer)

    def put_off(self, conn: Connection[Any], task: RetiredLink, reason: str) -> None:
        metrics.LINKS.labels("refused").inc()
        put_off(conn, task, reason, BACKOFF_MAX_SECONDS)

    def describe(self, task: RetiredLink) -> dict[str, str]:
        return {"stripe_payment_link_id": task.stripe_payment_link_id}


def _told(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"
