"""People with cards, what Stripe reports of them, and what is held of their credits."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    Connection,
    Row,
    answer,
    call,
    fetch,
    fresh,
    item,
    line,
    link,
    sync_invoice,
    sync_payment,
    sync_subscription,
    value,
)

INITIAL, TRIAL = 100, 40
Event = Callable[[], object]


class Person:
    """An account with one Stripe customer, and what Stripe tells of it."""

    def __init__(self, account_id: UUID, worker: Connection, app: Connection) -> None:
        self.account_id = account_id
        self.customer = fresh("cus")
        self._worker = worker
        self._app = app
        self._subscription = fresh("sub")
        self._item = fresh("si")

    def link(self) -> "Person":
        link(self._app, self.account_id, self.customer)
        return self

    def attach(self, card: str, at: datetime = JANUARY, conn: Connection | None = None) -> str:
        """`payment_method.attached`."""
        return answer(
            conn or self._worker,
            "record_card",
            stripe_customer_id=self.customer,
            livemode=False,
            card_fingerprint=card,
            seen_at=at,
        )

    def charge(self, card: str | None, at: datetime = JANUARY, **more: Any) -> str:
        """`charge.succeeded`."""
        charge = {"stripe_charge_id": fresh("ch"), "stripe_customer_id": self.customer, **more}
        return sync_payment(self._worker, card_fingerprint=card, charged_at=at, **charge)

    def pay(self, price: str = "price_1", conn: Connection | None = None, **more: Any) -> str:
        """`invoice.paid`."""
        # Each plan is an item of its own: a period of an item is paid for once.
        of_item = f"{self._item}_{price}"
        paid = line(fresh("il"), stripe_subscription_item_id=of_item, stripe_price_id=price)
        invoice = {"stripe_invoice_id": fresh("in"), "lines": [paid | more.pop("line", {})], **more}
        return sync_invoice(
            conn or self._worker,
            stripe_customer_id=self.customer,
            stripe_subscription_id=self._subscription,
            **invoice,
        )

    def start_trial(self, price: str = "price_1") -> str:
        """`customer.subscription.created`."""
        trial = {"trial_start": JANUARY, "trial_end": FEBRUARY, "status": "trialing"}
        return sync_subscription(
            self._worker,
            stripe_subscription_id=self._subscription,
            stripe_customer_id=self.customer,
            items=[item(self._item, stripe_price_id=price)],
            **trial,
        )


def policy(conn: Connection, seen_card_policy: str) -> None:
    conn.execute("update billing.settings set seen_card_policy = %s", [seen_card_policy])


def held(conn: Connection, *people: Person) -> list[Row]:
    """What is held and was decided, less ids and times."""
    return fetch(
        conn,
        "select account_id, kind, amount, card_fingerprint, matched_account_id, status from billing.held_credits "
        "where account_id = any (%s) order by idempotency_key",
        [[person.account_id for person in people]],
    )


def held_id(conn: Connection, person: Person) -> int:
    return value(conn, "select id from billing.held_credits where account_id = %s", [person.account_id])


def row_of(later: Person, earlier: Person, card: str, **more: Any) -> Row:
    return {
        "account_id": later.account_id,
        "kind": "initial",
        "amount": INITIAL,
        "card_fingerprint": card,
        "matched_account_id": earlier.account_id,
        "status": "pending",
        **more,
    }


def review(app: Connection, id: int | None, decision: str | None, **more: Any) -> Row:
    arguments = {"reason": "a couple with one card", "actor": "root@example.com", **more}
    return call(app, "review_held_credits", id=id, decision=decision, **arguments)


def tell(events: Sequence[Event]) -> None:
    """As the worker does: what a link is missing for comes back after the others."""
    waiting: list[Event] = []
    for event in events:
        try:
            event()
        except psycopg.Error as error:
            if error.sqlstate != "TB011":
                raise
            waiting.append(event)
    for event in waiting:
        event()
