"""A full queue → the rows that the product writes for its events, by bare statements: the floor of the drain.

Two transactions for each batch and one round trip for what it writes, as the product has. What an event says is
trusted: nothing is compared with what is there, and the credits of the plan are known. The tables are the product's
own, without its triggers.
"""

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection

from worker.events.inbox import BATCH_SIZE, VISIBILITY_SECONDS

MONTHLY_CREDITS = 500

_READ = """
select message.msg_id, events.stripe_event_id, events.type, events.payload
from pgmq.read('stripe_events', %s, %s) as message
join billing.stripe_events as events on events.stripe_event_id = message.message ->> 'event_id'
"""
_SUBSCRIPTION = """
update billing.subscriptions
set status = %(status)s, currency = %(currency)s, billing_cycle_anchor = to_timestamp(%(billing_cycle_anchor)s),
    cancel_at = to_timestamp(%(cancel_at)s), cancel_at_period_end = %(cancel_at_period_end)s,
    canceled_at = to_timestamp(%(canceled_at)s), ended_at = to_timestamp(%(ended_at)s),
    trial_start = to_timestamp(%(trial_start)s), trial_end = to_timestamp(%(trial_end)s),
    metadata = %(metadata_text)s::jsonb, as_of = to_timestamp(%(as_of)s), updated_at = now()
where stripe_subscription_id = %(id)s
"""
_ITEM = """
update billing.subscription_items
set stripe_price_id = %(price_id)s, stripe_product_id = %(product_id)s, quantity = %(quantity)s,
    current_period_start = to_timestamp(%(current_period_start)s),
    current_period_end = to_timestamp(%(current_period_end)s), updated_at = now()
where stripe_subscription_item_id = %(id)s
"""
_INVOICE = """
insert into billing.invoices (
    stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, billing_reason,
    collection_method, currency, subtotal, total, amount_due, amount_paid, attempt_count, hosted_invoice_url,
    invoiced_at, paid_at, as_of
)
select
    %(id)s, %(customer)s, account_id, %(subscription)s, %(livemode)s, %(status)s, %(billing_reason)s,
    %(collection_method)s, %(currency)s,
    %(subtotal)s, %(total)s, %(amount_due)s, %(amount_paid)s, %(attempt_count)s, %(hosted_invoice_url)s,
    to_timestamp(%(created)s), to_timestamp(%(paid_at)s), to_timestamp(%(as_of)s)
from billing.customers where stripe_customer_id = %(customer)s
"""
_LINE = """
insert into billing.invoice_lines (
    stripe_line_id, stripe_invoice_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, amount,
    discount, quantity, is_proration, period_start, period_end
)
values (
    %(id)s, %(invoice)s, %(subscription)s, %(item)s, %(price)s, %(amount)s, 0, %(quantity)s, false,
    to_timestamp(%(start)s), to_timestamp(%(end)s)
)
"""
_SCHEDULE = """
insert into billing.credit_schedules (
    stripe_line_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_invoice_id, stripe_price_id,
    gives_back, is_change, is_free, is_plain, quantity, period_start, period_end, anchor, terms_from, paid_at, ends_at
)
select
    %(id)s, account_id, %(subscription)s, %(item)s, %(invoice)s, %(price)s, false, false, false, true, %(quantity)s,
    to_timestamp(%(start)s), to_timestamp(%(end)s), to_timestamp(%(start)s), to_timestamp(%(start)s),
    to_timestamp(%(start)s), to_timestamp(%(end)s)
from billing.customers where stripe_customer_id = %(customer)s
"""
_CREDITS = f"""
with moved as (
    update billing.credit_balances set balance = balance + {MONTHLY_CREDITS}, updated_at = now()
    where account_id = (select account_id from billing.customers where stripe_customer_id = %(customer)s)
    returning account_id, balance
),
entry as (
    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key,
        occurred_at
    )
    select
        account_id, 'grant', {MONTHLY_CREDITS}, balance, 'stripe.monthly_allocation', %(subscription)s,
        'Monthly subscription credits for Pro monthly', 'stripe', %(key)s, now()
    from moved
    returning id, account_id
)
insert into billing.credit_grants (
    account_id, entry_id, amount, remaining, effective_at, source, reference_id, key_space, idempotency_key,
    stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
)
select
    account_id, id, {MONTHLY_CREDITS}, {MONTHLY_CREDITS}, to_timestamp(%(start)s), 'stripe.monthly_allocation',
    %(subscription)s, 'stripe', %(key)s, %(invoice)s, %(item)s, %(price)s
from entry
"""
_SETTLE = """
update billing.stripe_events set status = 'applied', attempts = attempts + 1, settled_at = now()
where stripe_event_id = any (%s)
"""


def connect_bare(url: str) -> Connection[Any]:
    """Log in as the owner of the queue's tables; the worker takes a role of its own."""
    conn = psycopg.connect(url, autocommit=True)
    # As the worker does: pgmq's estimate of a thousand messages would have every event that ever was read for a batch.
    conn.execute("set enable_seqscan = off")
    return conn


def drain_bare(conn: Connection[Any]) -> bool:
    """Write and archive one batch; False when there was none."""
    taken = conn.execute(_READ, [VISIBILITY_SECONDS, BATCH_SIZE]).fetchall()
    if not taken:
        return False
    with conn.pipeline(), conn.transaction():
        for _, _, event_type, payload in taken:
            event = json.loads(payload)
            write = _write_invoice if event_type == "invoice.paid" else _write_subscription
            write(conn, event["data"]["object"] | {"as_of": event["created"]})
        conn.execute(_SETTLE, [[event_id for _, event_id, _, _ in taken]])
        conn.execute(
            "select pgmq.archive('stripe_events', %s::bigint[])", [[msg_id for msg_id, _, _, _ in taken]]
        )
    return True


def _write_subscription(conn: Connection[Any], subscription: dict[str, Any]) -> None:
    conn.execute(_SUBSCRIPTION, subscription | {"metadata_text": json.dumps(subscription["metadata"])})
    for item in subscription["items"]["data"]:
        price = item["price"]
        conn.execute(_ITEM, item | {"price_id": price["id"], "product_id": price["product"]})


def _write_invoice(conn: Connection[Any], invoice: dict[str, Any]) -> None:
    subscription = invoice["parent"]["subscription_details"]["subscription"]
    paid_at = invoice["status_transitions"]["paid_at"]
    conn.execute(_INVOICE, invoice | {"subscription": subscription, "paid_at": paid_at})
    for line in invoice["lines"]["data"]:
        start = line["period"]["start"]
        item = line["parent"]["subscription_item_details"]["subscription_item"]
        fields = {
            **line,
            **line["period"],
            "customer": invoice["customer"],
            "subscription": subscription,
            "item": item,
            "price": line["pricing"]["price_details"]["price"],
            "key": f"monthly:{item}:{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        for statement in (_LINE, _SCHEDULE, _CREDITS):
            conn.execute(statement, fields)
