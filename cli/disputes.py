"""A dispute → the evidence that the database has for it, and the answer to the bank through Stripe.

`till fraud evidence`, `till fraud accept` and the dispute's page of the dashboard do the same.
"""

import hashlib
import json
from typing import Any, LiteralString

from cli.database import Connection, row, rows
from cli.evidence import Facts
from cli.output import CliError
from cli.stripe_key import check_key, stripe_client
from worker.settings import Settings

# Metadata of disputes whose evidence came from here: which evidence it was, and who answered.
SUBMITTED = "tillbase_evidence"
ACTOR = "tillbase_actor"
ANSWERABLE = ("needs_response", "warning_needs_response")

_PAYMENT: LiteralString = """
select disputes.stripe_dispute_id, disputes.reason, disputes.status, disputes.disputed_at, disputes.evidence_due_at,
    disputes.stripe_charge_id,
    coalesce(payments.stripe_payment_intent_id, disputes.stripe_payment_intent_id) as stripe_payment_intent_id,
    coalesce(payments.amount, disputes.amount) as amount, coalesce(payments.amount_refunded, 0) as amount_refunded,
    disputes.currency, coalesce(payments.charged_at, disputes.disputed_at) as charged_at, payments.receipt_url,
    payments.risk_level, payments.risk_score, coalesce(payments.is_liability_shifted, false) as is_liability_shifted,
    payments.account_id, customers.name as customer_name, customers.email as customer_email, accounts.owner_id,
    users.email as user_email, users.created_at as signed_up_at, users.email_confirmed_at, users.last_sign_in_at
from billing.disputes
left join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id
left join billing.customers on customers.stripe_customer_id = payments.stripe_customer_id
left join billing.accounts on accounts.id = payments.account_id
left join auth.users on users.id = accounts.owner_id
where disputes.stripe_dispute_id = %(id)s
"""
_INVOICES: LiteralString = """
select distinct invoices.stripe_invoice_id, invoices.hosted_invoice_url, invoices.stripe_subscription_id,
    subscriptions.canceled_at
from billing.invoice_payments
join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
left join billing.subscriptions on subscriptions.stripe_subscription_id = invoices.stripe_subscription_id
where invoice_payments.stripe_payment_intent_id = %(intent)s or invoice_payments.stripe_charge_id = %(charge)s
order by invoices.stripe_invoice_id
"""
_LOTS: LiteralString = """
select lots.id, lots.amount, lots.effective_at, coalesce(plans.nickname, packs.nickname, products.name) as product,
    products.description
from billing.credit_grants as lots
left join billing.plans on plans.stripe_price_id = lots.stripe_price_id
left join billing.credit_packs as packs on packs.stripe_price_id = lots.stripe_price_id
left join billing.products
    on products.stripe_product_id = coalesce(plans.stripe_product_id, packs.stripe_product_id)
where lots.stripe_payment_intent_id = %(intent)s or lots.stripe_invoice_id = any (%(invoices)s)
order by lots.id
"""
_USED: LiteralString = """
select coalesce(sum(consumptions.amount), 0)::bigint as used
from billing.credit_consumptions as consumptions
join billing.credit_entries as entries on entries.id = consumptions.entry_id
where consumptions.grant_id = any (%(lots)s) and entries.kind in ('spend', 'capture', 'refund')
"""
_USAGE: LiteralString = """
select occurred_at, amount, coalesce(description, feature) as description from billing.credit_entries
where account_id = %(account)s and kind in ('spend', 'capture') and occurred_at >= %(since)s
order by id
"""
# Its columns differ by the version of the auth server.
_SESSIONS: LiteralString = """
select sessions.created_at, to_jsonb(sessions) ->> 'ip' as ip, to_jsonb(sessions) ->> 'user_agent' as user_agent
from auth.sessions where sessions.user_id = %(user)s order by sessions.created_at
"""


def collect(conn: Connection, dispute_id: str) -> Facts:
    """What the database knows of a dispute. Raises CliError when it knows none of that id."""
    found = rows(conn, _PAYMENT, {"id": dispute_id})
    if not found:
        raise CliError(f"there is no dispute {dispute_id}: list them with `till fraud list disputes`")
    payment = found[0]
    ids = {"intent": payment["stripe_payment_intent_id"], "charge": payment["stripe_charge_id"]}
    invoices = rows(conn, _INVOICES, ids)
    lots = rows(conn, _LOTS, ids | {"invoices": [invoice["stripe_invoice_id"] for invoice in invoices]})
    since = {"account": payment["account_id"], "since": payment["charged_at"]}
    return Facts(
        payment=payment,
        lots=lots,
        invoices=invoices,
        sessions=_sessions(conn, payment["owner_id"]),
        usage=rows(conn, _USAGE, since),
        refund_policy=row(conn, "select refund_policy from billing.settings", {})["refund_policy"],
        used=row(conn, _USED, {"lots": [lot["id"] for lot in lots]})["used"],
    )


def submit(conn: Connection, settings: Settings, dispute_id: str, found: dict[str, str], actor: str) -> str:
    """Submit evidence to the bank, once; the dispute's status then. Raises CliError."""
    print_of = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]
    with stripe_client(settings) as client:
        check_key(conn, settings)
        disputes: Any = client.v1.disputes
        dispute = disputes.retrieve(dispute_id)
        if dispute.evidence_details.submission_count:
            if SUBMITTED in dispute.metadata and dispute.metadata[SUBMITTED] == print_of:
                return dispute.status
            raise CliError(
                f"evidence for {dispute_id} was submitted before, and the bank takes one submission"
            )
        if dispute.status not in ANSWERABLE:
            raise CliError(
                f"dispute {dispute_id} is {dispute.status.replace('_', ' ')}: it takes no evidence"
            )
        order = {"evidence": found, "submit": True, "metadata": {SUBMITTED: print_of, ACTOR: actor}}
        options = {"idempotency_key": f"evidence:{dispute_id}:{print_of}"}
        return disputes.update(dispute_id, order, options).status


def accept(conn: Connection, settings: Settings, dispute_id: str, actor: str) -> str:
    """Accept that the money is lost; the dispute's status then. It can't be undone. Raises CliError."""
    with stripe_client(settings) as client:
        check_key(conn, settings)
        disputes: Any = client.v1.disputes
        dispute = disputes.retrieve(dispute_id)
        if dispute.status == "lost":
            return dispute.status
        if dispute.status not in ANSWERABLE:
            raise CliError(
                f"dispute {dispute_id} is {dispute.status.replace('_', ' ')}: only one that needs a response can be "
                "accepted"
            )
        disputes.update(dispute_id, {"metadata": {ACTOR: actor}})
        return disputes.close(dispute_id, options={"idempotency_key": f"accept:{dispute_id}"}).status


def _sessions(conn: Connection, user_id: Any) -> Any:
    readable = row(
        conn,
        "select to_regclass('auth.sessions') is not null "
        "and has_table_privilege(to_regclass('auth.sessions'), 'select') as it",
        {},
    )
    return rows(conn, _SESSIONS, {"user": user_id}) if readable["it"] and user_id is not None else ()
