"""What a test wants to happen → a call of the billing function that does it, other arguments filled in."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[Any]
Row = dict[str, Any]

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)

SECOND = timedelta(seconds=1)

_numbers = count(1)


def fetch(conn: Connection, query: str, parameters: Any = ()) -> list[Row]:
    """Rows as dictionaries."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


def fetch_one(conn: Connection, query: str, parameters: Any = ()) -> Row:
    """The only row there must be."""
    rows = fetch(conn, query, parameters)
    assert len(rows) == 1, rows
    return rows[0]


def value(conn: Connection, query: str, parameters: Any = ()) -> Any:
    """The only column of the only row there must be."""
    (only,) = fetch_one(conn, query, parameters).values()
    return only


def call(conn: Connection, function: str, /, **arguments: Any) -> Row:
    """`select * from billing.function(argument => value, …)`: the row it returns."""
    query = sql.SQL("select * from {}({})").format(
        sql.Identifier(*(function.split(".") if "." in function else ["billing", function])),
        sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(name)) for name in arguments),
    )
    parameters = [
        Jsonb(argument, _dumps) if isinstance(argument, dict | list) and name in _JSON else argument
        for name, argument in arguments.items()
    ]
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query, parameters).fetchone()
    assert row is not None
    return row


_JSON = {"metadata", "lines", "items"}


def _dumps(document: Any) -> str:
    return json.dumps(document, default=datetime.isoformat)


def answer(conn: Connection, function: str, /, **arguments: Any) -> Any:
    """The one value that a function returns."""
    (only,) = call(conn, function, **arguments).values()
    return only


@contextmanager
def refused(sqlstate: str) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """The block ends in an error with this code, and one of ours says what to do."""
    with pytest.raises(psycopg.Error) as caught:
        yield caught
    assert caught.value.diag.sqlstate == sqlstate, caught.value
    if sqlstate.startswith("TB"):
        assert caught.value.diag.message_hint


def fresh(prefix: str) -> str:
    """An id that no other call of this process returns."""
    return f"{prefix}_{next(_numbers)}"


def grant(conn: Connection, account_id: UUID | None, amount: Any, key: str | None = None, **more: Any) -> Row:
    arguments = {"idempotency_key": key or fresh("grant"), **more}
    return call(conn, "grant_credits", account_id=account_id, amount=amount, **arguments)


def spend(conn: Connection, account_id: UUID | None, amount: Any, key: str | None = None, **more: Any) -> Row:
    arguments = {"idempotency_key": key or fresh("spend"), **more}
    return call(conn, "spend_credits", account_id=account_id, amount=amount, **arguments)


def balance(conn: Connection, account_id: UUID) -> int:
    return value(conn, "select balance from billing.credit_balances where account_id = %s", [account_id])


def available(conn: Connection, account_id: UUID) -> int:
    return value(conn, "select available from public.credit_balance where account_id = %s", [account_id])


def entries(conn: Connection, account_id: UUID) -> list[tuple[str, int]]:
    """Kind and amount of every movement, in order."""
    rows = fetch(
        conn,
        "select kind, amount from billing.credit_entries where account_id = %s order by id",
        [account_id],
    )
    return [(row["kind"], row["amount"]) for row in rows]


def lots(conn: Connection, account_id: UUID) -> list[Row]:
    """Every lot of an account, oldest first."""
    return fetch(conn, "select * from billing.credit_grants where account_id = %s order by id", [account_id])


def discrepancies(conn: Connection) -> list[tuple[str, str]]:
    """Broken invariants and their figures."""
    rows = fetch(conn, "select invariant, detail from billing.ledger_discrepancies order by 1, 2")
    return [(row["invariant"], row["detail"]) for row in rows]


LEASE_SECONDS = 60


def take_jobs(worker: Connection, *kinds: str, jobs_max: int = 10) -> list[Row]:
    """Jobs of these kinds that are due, up to so many of each."""
    return fetch(
        worker,
        "select * from billing.take_jobs(kinds => %s::text[], jobs_max => %s::integer[], lease_seconds => %s)",
        [list(kinds), [jobs_max] * len(kinds), LEASE_SECONDS],
    )


def begin_jobs(worker: Connection, function: str, *kinds: str, jobs_max: int = 10) -> list[Row]:
    """As a worker does it: take jobs that are due, begin them, and finish those that have nothing left to do."""
    jobs = take_jobs(worker, *kinds, jobs_max=jobs_max)
    if not jobs:
        return []
    columns = [[job[name] for job in jobs] for name in ("msg_id", "id")]
    begun = fetch(worker, f"select * from billing.{function}(msg_ids => %s, ids => %s)", columns)
    msg_ids = {row["msg_id"] for row in begun}
    call(worker, "finish_jobs", msg_ids=[job["msg_id"] for job in jobs if job["msg_id"] not in msg_ids])
    return begun


def make_jobs_due(conn: Connection, passed: timedelta | None = None) -> None:
    """Let the time-outs and delays of all jobs be over, or so much shorter."""
    conn.execute(
        "update pgmq.q_billing_jobs set vt = coalesce(vt - %(t)s::interval, clock_timestamp())", {"t": passed}
    )


def move_clock(admin: Connection, ahead_by: timedelta) -> None:
    """Billing time is this much ahead of now() from here on; `admin` is a superuser's connection."""
    admin.execute("update billing.clock set ahead_by = %s", [ahead_by])


def sync_product(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_product_id": "prod_1",
        "livemode": False,
        "name": "Pro",
        "description": None,
        "active": True,
        "metadata": {},
        "as_of": JANUARY,
    }
    return answer(conn, "sync_product", **_merged(arguments, more))


def sync_price(conn: Connection, **more: Any) -> str:
    """A monthly price of 20.00; with `type="one_time"` a one-time price."""
    recurring = more.get("type", "recurring") == "recurring"
    arguments: Row = {
        "stripe_price_id": "price_1",
        "stripe_product_id": "prod_1",
        "livemode": False,
        "active": True,
        "type": "recurring",
        "lookup_key": None,
        "nickname": None,
        "currency": "usd",
        "unit_amount": 2000,
        "has_custom_amount": False,
        "recurring_interval": "month" if recurring else None,
        "recurring_interval_count": 1 if recurring else None,
        "usage_type": "licensed" if recurring else None,
        "metadata": {},
        "as_of": JANUARY,
    }
    return answer(conn, "sync_price", **_merged(arguments, more))


def item(stripe_subscription_item_id: str = "si_1", **more: Any) -> Row:
    """One item of a subscription, as `sync_subscription` takes it."""
    arguments: Row = {
        "stripe_subscription_item_id": stripe_subscription_item_id,
        "stripe_price_id": "price_1",
        "stripe_product_id": "prod_1",
        "quantity": 1,
        "current_period_start": JANUARY,
        "current_period_end": FEBRUARY,
    }
    return _merged(arguments, more)


def sync_subscription(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_subscription_id": "sub_1",
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "status": "active",
        "currency": "usd",
        "billing_cycle_anchor": JANUARY,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "trial_start": None,
        "trial_end": None,
        "is_collection_paused": False,
        "metadata": {},
        "started_at": JANUARY,
        "stripe_test_clock_id": None,
        "items": [item()],
        "as_of": JANUARY,
        "is_fetched": False,
    }
    return answer(conn, "sync_subscription", **_merged(arguments, more))


def line(stripe_line_id: str = "il_1", **more: Any) -> Row:
    """One line of an invoice, as `sync_invoice` takes it: a seat for January."""
    arguments: Row = {
        "stripe_line_id": stripe_line_id,
        "stripe_subscription_id": None,
        "stripe_subscription_item_id": "si_1",
        "stripe_price_id": "price_1",
        "amount": 2000,
        "discount": None,
        "quantity": 1,
        "is_proration": False,
        "credited_line_ids": None,
        "credited_invoice_id": None,
        "period_start": JANUARY,
        "period_end": FEBRUARY,
    }
    return _merged(arguments, more)


def sync_invoice(conn: Connection, **more: Any) -> str:
    """A paid first invoice of a subscription."""
    arguments: Row = {
        "stripe_invoice_id": "in_1",
        "stripe_customer_id": "cus_1",
        "stripe_subscription_id": "sub_1",
        "livemode": False,
        "status": "paid",
        "billing_reason": "subscription_create",
        "collection_method": "charge_automatically",
        "currency": "usd",
        "subtotal": 2000,
        "total": 2000,
        "amount_due": 2000,
        "amount_paid": 2000,
        "attempt_count": 1,
        "next_payment_attempt_at": None,
        "hosted_invoice_url": None,
        "invoiced_at": JANUARY,
        "paid_at": JANUARY,
        "lines": [line()],
        "as_of": JANUARY,
    }
    return answer(conn, "sync_invoice", **_merged(arguments, more))


def sync_checkout_session(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_checkout_session_id": "cs_1",
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "mode": "subscription",
        "status": "complete",
        "payment_status": "paid",
        "client_reference_id": None,
        "stripe_subscription_id": "sub_1",
        "stripe_invoice_id": "in_1",
        "stripe_payment_intent_id": None,
        "stripe_payment_link_id": None,
        "currency": "usd",
        "amount_total": 2000,
        "opened_at": JANUARY,
        "lines": None,
        "as_of": JANUARY,
    }
    return answer(conn, "sync_checkout_session", **_merged(arguments, more))


def sync_payment(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_charge_id": "ch_1",
        "stripe_payment_intent_id": "pi_1",
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "status": "succeeded",
        "currency": "usd",
        "amount": 2000,
        "amount_refunded": 0,
        "is_disputed": False,
        "risk_level": "normal",
        "risk_score": 10,
        "is_liability_shifted": False,
        "card_fingerprint": None,
        "failure_code": None,
        "receipt_url": None,
        "charged_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(conn, "sync_payment", **_merged(arguments, more))


def record_fraud_warning(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_early_fraud_warning_id": "issfr_1",
        "stripe_charge_id": "ch_1",
        "stripe_payment_intent_id": "pi_1",
        "stripe_customer_id": "cus_1",
        "livemode": False,
        "fraud_type": "made_with_stolen_card",
        "actionable": True,
        "risk_level": "highest",
        "risk_score": 90,
        "warned_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(conn, "record_fraud_warning", **_merged(arguments, more))


def sync_invoice_payment(conn: Connection, **more: Any) -> str:
    """What paid in_1."""
    arguments: Row = {
        "stripe_invoice_payment_id": "inpay_1",
        "stripe_invoice_id": "in_1",
        "stripe_payment_intent_id": "pi_1",
        "stripe_charge_id": None,
        "livemode": False,
        "status": "paid",
        "currency": "usd",
        "amount_paid": 2000,
        "paid_at": JANUARY,
    }
    return answer(conn, "sync_invoice_payment", **_merged(arguments, more))


def sync_refund(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_refund_id": "re_1",
        "stripe_charge_id": "ch_1",
        "stripe_payment_intent_id": "pi_1",
        "status": "succeeded",
        "currency": "usd",
        "amount": 2000,
        "reason": None,
        "failure_reason": None,
        "refunded_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(conn, "sync_refund", **_merged(arguments, more))


def sync_dispute(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_dispute_id": "du_1",
        "stripe_charge_id": "ch_1",
        "stripe_payment_intent_id": "pi_1",
        "livemode": False,
        "status": "needs_response",
        "currency": "usd",
        "amount": 2000,
        "reason": "fraudulent",
        "evidence_due_at": None,
        "disputed_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(conn, "sync_dispute", **_merged(arguments, more))


def sync_credit_note(conn: Connection, **more: Any) -> str:
    """One that gives back to the customer's balance."""
    arguments: Row = {
        "stripe_credit_note_id": "cn_1",
        "stripe_invoice_id": "in_1",
        "livemode": False,
        "status": "issued",
        "currency": "usd",
        "amount": 2000,
        "amount_refunded": 0,
        "pre_payment_amount": 0,
        "stripe_refund_ids": [],
        "reason": None,
        "noted_at": JANUARY,
        "lines": [],
        "as_of": JANUARY,
    }
    return answer(conn, "sync_credit_note", **_merged(arguments, more))


def link(
    conn: Connection, account_id: UUID | None, stripe_customer_id: str | None = "cus_1", **more: Any
) -> None:
    call(conn, "link_customer", account_id=account_id, stripe_customer_id=stripe_customer_id, **more)


def _merged(defaults: Row, more: Mapping[str, Any]) -> Row:
    unknown = more.keys() - defaults.keys()
    assert not unknown, f"no such argument: {unknown}"
    return defaults | more


def hold(conn: Connection, account_id: UUID | None, amount: Any, key: str | None = None, **more: Any) -> Row:
    arguments = {"idempotency_key": key or fresh("hold"), **more}
    return call(conn, "hold_credits", account_id=account_id, amount=amount, **arguments)


def capture(
    conn: Connection, hold_id: UUID | None, amount: Any = None, key: str | None = None, **more: Any
) -> Row:
    """All that is left of the hold unless told."""
    arguments = {"idempotency_key": key or fresh("capture"), **more}
    return call(conn, "capture_hold", hold_id=hold_id, amount=amount, **arguments)


def release(conn: Connection, hold_id: UUID | None, key: str | None = None) -> Row:
    return call(conn, "release_hold", hold_id=hold_id, idempotency_key=key or fresh("release"))


def refund(
    conn: Connection, entry_id: int | None, amount: Any = None, key: str | None = None, **more: Any
) -> Row:
    """All that is left of the spend unless told."""
    arguments = {"idempotency_key": key or fresh("refund"), **more}
    return call(conn, "refund_spend", entry_id=entry_id, amount=amount, **arguments)


def revoke(
    conn: Connection, grant_id: int | None, amount: Any = None, key: str | None = None, **more: Any
) -> Row:
    """All that is left of the lot unless told."""
    arguments = {
        "idempotency_key": key or fresh("revoke"),
        "reason": "chargeback",
        "actor": "ada@example.com",
        **more,
    }
    return call(conn, "revoke_grant", grant_id=grant_id, amount=amount, **arguments)


def reinstate(
    conn: Connection, revocation_id: int | None, amount: Any = None, key: str | None = None, **more: Any
) -> Row:
    """All that is left of the revocation unless told."""
    arguments = {
        "idempotency_key": key or fresh("reinstate"),
        "reason": "dispute won",
        "actor": "ada@example.com",
        **more,
    }
    return call(conn, "reinstate_grant", revocation_id=revocation_id, amount=amount, **arguments)


def adjust(
    conn: Connection, account_id: UUID | None, amount: Any, key: str | None = None, **more: Any
) -> Row:
    arguments = {
        "idempotency_key": key or fresh("adjust"),
        "reason": "goodwill",
        "actor": "ada@example.com",
        **more,
    }
    return call(conn, "adjust_credits", account_id=account_id, amount=amount, **arguments)


def transfer(
    conn: Connection,
    from_account_id: UUID | None,
    to_account_id: UUID | None,
    amount: Any,
    key: str | None = None,
    **more: Any,
) -> Row:
    return call(
        conn,
        "transfer_credits",
        from_account_id=from_account_id,
        to_account_id=to_account_id,
        amount=amount,
        idempotency_key=key or fresh("transfer"),
        **more,
    )


def schedule(
    conn: Connection,
    account_id: UUID | None,
    amount: Any,
    effective_at: datetime | None,
    key: str | None = None,
    **more: Any,
) -> Row:
    arguments = {"idempotency_key": key or fresh("schedule"), **more}
    return call(
        conn, "schedule_credits", account_id=account_id, amount=amount, effective_at=effective_at, **arguments
    )


def set_limits(conn: Connection, account_id: UUID | None, **limits: Any) -> Row:
    """What is left out is no overdraft, no cap and no warning."""
    return call(conn, "set_credit_limits", account_id=account_id, **limits)


def allocate(conn: Connection, **more: Any) -> Row:
    """Grants the slots that are due; its counts."""
    row = call(conn, "allocate_due_credits", **more)
    return row | {"credits_granted": int(row["credits_granted"])}


def expire_due(conn: Connection, **arguments: Any) -> Row:
    return call(conn, "expire_due_credits", **arguments)


def balances(conn: Connection, account_id: UUID) -> Row:
    """The whole balance row."""
    return fetch_one(conn, "select * from billing.credit_balances where account_id = %s", [account_id])
