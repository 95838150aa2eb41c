"""Claimed overages → one invoice item each at Stripe: on the draft of the renewal, or on an invoice of its own.

Each attempt makes at most one change at Stripe and records it before the next one: the invoice that was chosen, the
item, the end of the draft. A repeated request is the same and has the same Idempotency-Key; once Stripe has forgotten
the key, what was made is found by the overage's id in its metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import stripe as stripe_sdk
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker import metrics
from worker.jobs.handler import Handler, stripe_delay_seconds
from worker.jobs.queue import Job, columns
from worker.stripe_api import NotFound, Refused, StripeAccess, is_replayed, key_of_step

# Metadata of our invoices and items: the overage that each belongs to.
OVERAGE = "tillbase_overage"
# Stripe renews a subscription within minutes after its period is over; if it does not, the overage is billed alone.
RENEWAL_SECONDS = 2 * 3600
ASK_AGAIN_SECONDS = 60

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Overage:
    """Packs to bill. `stripe_invoice_id`: the invoice that an earlier attempt chose, `stripe_invoice_item_id`: its item
    there."""

    msg_id: int
    id: UUID
    stripe_customer_id: str
    stripe_subscription_id: str
    stripe_price_id: str
    quantity: int
    currency: str
    period_start: datetime
    period_end: datetime
    stripe_invoice_id: str | None
    is_own_invoice: bool | None
    stripe_invoice_item_id: str | None
    attempts: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What is at Stripe now, as record_overage takes it; `claimed`: the next step is due after `delay_seconds` (None:
    after a failure, later each time)."""

    status: Literal["claimed", "invoiced", "failed"]
    stripe_invoice_id: str | None = None
    is_own_invoice: bool | None = None
    stripe_invoice_item_id: str | None = None
    reason: str | None = None
    delay_seconds: int | None = 0


class Overages(Handler[Overage, Answer]):
    def __init__(self, stripe: StripeAccess) -> None:
        self._stripe = stripe

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, Overage]:
        with conn.cursor(row_factory=class_row(Overage)) as cursor:
            found = cursor.execute(
                "select msg_id, id, stripe_customer_id, stripe_subscription_id, stripe_price_id, quantity, currency, "
                "period_start, period_end, stripe_invoice_id, is_own_invoice, stripe_invoice_item_id, attempts, "
                "age_seconds from billing.begin_overages(msg_ids => %s, ids => %s)",
                columns(jobs),
            ).fetchall()
        return {overage.msg_id: overage for overage in found}

    def do(self, job: Job, task: Overage) -> Answer:
        return bill(self._stripe, task)

    def record(self, conn: Connection[Any], job: Job, task: Overage, answer: Answer) -> None:
        delay_seconds = stripe_delay_seconds(job) if answer.delay_seconds is None else answer.delay_seconds
        _record(conn, task, answer, delay_seconds)
        outcome = "delayed" if answer.status == "claimed" and answer.delay_seconds != 0 else answer.status
        metrics.OVERAGES.labels(outcome).inc()
        told = self.describe(task) | {"outcome": outcome}
        if answer.reason is not None:
            log.warning("overage_not_billed", **told, reason=answer.reason)
        else:
            event = "overage_billed" if answer.status == "invoiced" else "overage_under_way"
            log.info(event, **told, stripe_invoice_id=answer.stripe_invoice_id)

    def put_off(
        self, conn: Connection[Any], job: Job, task: Overage, reason: str, delay_seconds: int
    ) -> None:
        metrics.OVERAGES.labels("put_off").inc()
        _record(conn, task, _unchanged(task, reason, delay_seconds), delay_seconds)

    def describe(self, task: Overage) -> dict[str, str]:
        return {"overage_id": str(task.id)}


def bill(stripe: StripeAccess, overage: Overage) -> Answer:
    """Make the next change at Stripe, or find that an earlier attempt made it. Never raises."""
    try:
        if overage.stripe_invoice_id is None:
            return _choose_invoice(stripe, overage)
        if overage.stripe_invoice_item_id is None:
            return _add_item(stripe, overage, overage.stripe_invoice_id)
        return _finalize(stripe, overage, overage.stripe_invoice_id)
    except Exception as error:
        trouble = stripe.trouble_of(error)
        if isinstance(trouble, Refused):
            return Answer(
                "failed",
                overage.stripe_invoice_id,
                overage.is_own_invoice,
                overage.stripe_invoice_item_id,
                str(trouble),
            )
        return _unchanged(overage, str(trouble), None)


def _choose_invoice(stripe: StripeAccess, overage: Overage) -> Answer:
    """The renewal's draft while there is one; else a draft of the overage's own."""
    subscription = _subscription(stripe, overage)
    if subscription is not None:
        if _is_about_to_renew(subscription, overage):
            return _unchanged(overage, "the subscription has not been renewed yet", ASK_AGAIN_SECONDS)
        drafts: list[stripe_sdk.Invoice] = stripe.v1.invoices.list(
            {"subscription": subscription.id, "status": "draft", "limit": 100}
        ).data
        for draft in drafts:
            # Drafts of an unpaid subscription, or of one whose collection is paused, stay drafts.
            if draft.billing_reason == "subscription_cycle" and draft.auto_advance:
                return Answer("claimed", draft.id, is_own_invoice=False)
    made = _find_invoice(stripe, overage) if overage.attempts > 1 else None
    if made is None:
        made = _create(stripe.v1.invoices.create, _invoice_of(overage, subscription), overage, "invoice")
    return Answer("claimed", made.id, is_own_invoice=True)


def _subscription(stripe: StripeAccess, overage: Overage) -> Any:
    """Also one that has ended; None if Stripe has none any more."""
    try:
        return stripe.v1.subscriptions.retrieve(overage.stripe_subscription_id)
    except stripe_sdk.InvalidRequestError as error:
        if isinstance(stripe.trouble_of(error), NotFound):
            return None
        raise


def _is_about_to_renew(subscription: Any, overage: Overage) -> bool:
    """The period ended with one of the subscription's own, and Stripe has not begun the next one yet."""
    ends = {item.current_period_end for item in subscription["items"].data}
    return (
        subscription.status in ("active", "past_due")
        and int(overage.period_end.timestamp()) in ends
        and overage.age_seconds < RENEWAL_SECONDS
    )


def _invoice_of(overage: Overage, subscription: Any) -> dict[str, Any]:
    """A draft that is collected as the subscription's invoices are, and bills nothing else."""
    order: dict[str, Any] = {
        "customer": overage.stripe_customer_id,
        "currency": overage.currency,
        "auto_advance": False,  # an empty draft must not become an invoice
        "pending_invoice_items_behavior": "exclude",
        "metadata": {OVERAGE: str(overage.id)},
    }
    if subscription is None:
        return order
    order["collection_method"] = subscription.collection_method
    if subscription.collection_method == "send_invoice":
        order["days_until_due"] = subscription.days_until_due
    method = subscription.default_payment_method
    if method is not None:
        order["default_payment_method"] = method if isinstance(method, str) else method.id
    if subscription.automatic_tax.enabled:
        order["automatic_tax"] = {"enabled": True}
    rates: list[Any] = subscription.default_tax_rates or []
    if rates:
        order["default_tax_rates"] = [rate.id for rate in rates]
    return order


def _add_item(stripe: StripeAccess, overage: Overage, invoice_id: str) -> Answer:
    item_id = _find_item(stripe, overage, invoice_id)
    if item_id is None:
        order = {
            "customer": overage.stripe_customer_id,
            "invoice": invoice_id,
            "pricing": {"price": overage.stripe_price_id},
            "quantity": overage.quantity,
            # A coupon of the subscription lowers the plan's price, not this one.
            "discountable": False,
            "period": {
                "start": int(overage.period_start.timestamp()),
                "end": int(overage.period_end.timestamp()),
            },
            "metadata": {OVERAGE: str(overage.id)},
        }
        try:
            item_id = _create(stripe.v1.invoice_items.create, order, overage, f"item {invoice_id}").id
        except stripe_sdk.InvalidRequestError:
            if overage.is_own_invoice or stripe.v1.invoices.retrieve(invoice_id).status == "draft":
                raise
            # The renewal was finalized meanwhile: another invoice is chosen.
            return Answer("claimed")
    return Answer(
        "claimed" if overage.is_own_invoice else "invoiced", invoice_id, overage.is_own_invoice, item_id
    )


def _finalize(stripe: StripeAccess, overage: Overage, invoice_id: str) -> Answer:
    """Let Stripe collect it. Somebody may have finalized it already."""
    if stripe.v1.invoices.retrieve(invoice_id).status == "draft":
        finalize = partial(stripe.v1.invoices.finalize_invoice, invoice_id)
        _create(finalize, {"auto_advance": True}, overage, "finalize")
    return Answer("invoiced", invoice_id, overage.is_own_invoice, overage.stripe_invoice_item_id)


def _create(request: Any, order: Mapping[str, Any], overage: Overage, step: str) -> Any:
    """Repeated, it is the same request with the same key. A failure that Stripe keeps for a key needs a new key."""
    try:
        return request(order, {"idempotency_key": key_of_step(overage.id, step)})
    except stripe_sdk.StripeError as error:
        if not is_replayed(error.headers):
            raise
        return request(
            order, {"idempotency_key": key_of_step(overage.id, f"{step}, attempt {overage.attempts}")}
        )


def _find_invoice(stripe: StripeAccess, overage: Overage) -> Any:
    """The draft that an earlier attempt made, if any: among the customer's latest invoices."""
    latest = stripe.v1.invoices.list({"customer": overage.stripe_customer_id, "limit": 100}).data
    return next((invoice for invoice in latest if _is_of(invoice, overage)), None)


def _find_item(stripe: StripeAccess, overage: Overage, invoice_id: str) -> str | None:
    """The item that an earlier attempt added, if any."""
    items = stripe.v1.invoice_items.list({"invoice": invoice_id, "limit": 100})
    return next((item.id for item in items.auto_paging_iter() if _is_of(item, overage)), None)


def _is_of(made: Any, overage: Overage) -> bool:
    metadata = made.metadata
    return bool(metadata) and OVERAGE in metadata and metadata[OVERAGE] == str(overage.id)


def _unchanged(overage: Overage, reason: str, delay_seconds: int | None) -> Answer:
    return Answer(
        "claimed",
        overage.stripe_invoice_id,
        overage.is_own_invoice,
        overage.stripe_invoice_item_id,
        reason,
        delay_seconds,
    )


def _record(conn: Connection[Any], overage: Overage, answer: Answer, delay_seconds: int) -> None:
    conn.execute(
        "select billing.record_overage(msg_id => %s, overage_id => %s, status => %s, stripe_invoice_id => %s, "
        "is_own_invoice => %s, stripe_invoice_item_id => %s, reason => %s, retry_in_seconds => %s)",
        [
            overage.msg_id,
            overage.id,
            answer.status,
            answer.stripe_invoice_id,
            answer.is_own_invoice,
            answer.stripe_invoice_item_id,
            answer.reason,
            delay_seconds,
        ],
    )
