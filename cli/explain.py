"""Anything that names a customer → what happened to them, from payments to credits, and why credits are missing."""

from dataclasses import dataclass, field
from typing import LiteralString

from cli.database import Connection, Row, row, rows
from cli.findings import Finding
from cli.output import CliError

TIMELINE_MAX = 60

_ACCOUNT: LiteralString = """
    select
        accounts.id as account_id, accounts.kind, accounts.email, accounts.frozen_at, accounts.frozen_reason,
        accounts.closed_at, accounts.balance, accounts.held, accounts.debt, accounts.withheld, balances.carried, (
            select array_agg(customers.stripe_customer_id order by customers.stripe_customer_id)
            from billing.customers where customers.account_id = accounts.id
        ) as stripe_customer_ids
    from billing.admin_accounts as accounts
    join billing.credit_balances as balances on balances.account_id = accounts.id
    where accounts.id = %(account_id)s
"""
# Newest first; credits of a movement, money of a payment.
_TIMELINE: LiteralString = """
    with told as (
        select invoices.invoiced_at as at, 'invoice ' || invoices.status as what, invoices.stripe_invoice_id as id,
            invoices.total as amount, invoices.currency, null::bigint as credits, invoices.billing_reason as detail
        from billing.invoices where invoices.account_id = %(account_id)s
        union all
        select payments.charged_at, 'payment ' || payments.status, payments.stripe_charge_id,
            payments.amount, payments.currency, null, payments.failure_code
        from billing.payments where payments.account_id = %(account_id)s
        union all
        select refunds.refunded_at, 'refund ' || refunds.status, refunds.stripe_refund_id, -refunds.amount,
            refunds.currency, null, coalesce(refunds.failure_reason, refunds.reason)
        from billing.payments join billing.refunds using (stripe_charge_id)
        where payments.account_id = %(account_id)s
        union all
        select disputes.disputed_at, 'dispute ' || disputes.status, disputes.stripe_dispute_id, -disputes.amount,
            disputes.currency, null, disputes.reason
        from billing.payments join billing.disputes using (stripe_charge_id)
        where payments.account_id = %(account_id)s
        union all
        select subscriptions.started_at, 'subscription ' || subscriptions.status, subscriptions.stripe_subscription_id,
            null, null, null, (
                select string_agg(items.stripe_price_id || ' × ' || items.quantity, ', ')
                from billing.subscription_items as items
                where items.stripe_subscription_id = subscriptions.stripe_subscription_id
            )
        from billing.subscriptions where subscriptions.account_id = %(account_id)s
        union all
        select entries.occurred_at, 'credits: ' || entries.kind, entries.id::text, null, null, entries.amount,
            concat_ws(', ', entries.source, entries.reference_id, entries.description)
        from (
            select * from billing.credit_entries where credit_entries.account_id = %(account_id)s
            order by credit_entries.id desc limit %(limit)s
        ) as entries
        union all
        select grants.effective_at, 'credits: to come', grants.id::text, null, null, grants.amount,
            concat_ws(', ', grants.source, grants.reference_id)
        from billing.credit_grants as grants
        where grants.account_id = %(account_id)s and grants.entry_id is null and grants.closed_at is null
        union all
        select held.held_at, 'credits: under review', held.id::text, null, null, held.amount, held.kind
        from billing.held_credits as held where held.account_id = %(account_id)s and held.status = 'pending'
    )
    select * from told order by at desc nulls last, what limit %(limit)s
"""
# Of the account, or of one of its Stripe objects.
_EVENTS: LiteralString = """
    select stripe_event_id, type, status, last_error, waiting_for from billing.stripe_events
    where status in ('dead', 'parked') and (
        waiting_for = any (%(stripe_ids)s)
        or substring(payload from '"customer"\\s*:\\s*"(cus_[A-Za-z0-9_]+)"') = any (%(stripe_ids)s)
    )
    order by received_at limit 20
"""
_WITHOUT_CREDITS: LiteralString = """
    select distinct stripe_price_id, name from billing.admin_plans_without_credits where account_id = %(account_id)s
"""
_REVIEWS: LiteralString = """
    select id, amount from billing.admin_credit_reviews where account_id = %(account_id)s and status = 'pending'
"""
_UNPAID: LiteralString = """
    select stripe_invoice_id, status, hosted_invoice_url from billing.invoices
    where account_id = %(account_id)s and status in ('open', 'uncollectible') order by invoiced_at desc limit 5
"""
_UNLINKED: LiteralString = """
    select stripe_customer_id, email, livemode, dismissed_at from billing.customers
    where account_id is null and (stripe_customer_id = %(it)s or email = lower(%(it)s))
    order by stripe_customer_id
"""
# The customer of an object that belongs to no account yet.
_CUSTOMER_OF: LiteralString = """
    select stripe_customer_id from billing.subscriptions where stripe_subscription_id = %(it)s
    union select stripe_customer_id from billing.invoices where stripe_invoice_id = %(it)s
    union select stripe_customer_id from billing.payments
        where stripe_charge_id = %(it)s or stripe_payment_intent_id = %(it)s
"""


@dataclass(slots=True)
class Case:
    """What is known of one account; `account` None: of a Stripe customer that no account owns."""

    account: Row | None
    timeline: list[Row] = field(default_factory=list[Row])
    findings: list[Finding] = field(default_factory=list[Finding])


def explain(conn: Connection, search: str) -> list[Case]:
    """The cases that a search names: an e-mail address, an account's or user's id, or an id of Stripe's.

    Raises CliError where nothing is known by that name.
    """
    accounts = rows(conn, "select billing.find_accounts(%(it)s, 5) as id", {"it": search})
    cases = [_account(conn, each["id"]) for each in accounts]
    cases += [_unlinked(conn, each) for each in _customers(conn, search)]
    if not cases:
        raise CliError(
            f"nothing is known of {search!r}: if Stripe has it, fetch what never arrived with `till events replay`, "
            "and check the endpoint with `till doctor`"
        )
    return cases


def _customers(conn: Connection, search: str) -> list[Row]:
    found = {each["stripe_customer_id"]: each for each in rows(conn, _UNLINKED, {"it": search})}
    for each in rows(conn, _CUSTOMER_OF, {"it": search}):
        for customer in rows(conn, _UNLINKED, {"it": each["stripe_customer_id"]}):
            found[customer["stripe_customer_id"]] = customer
    return list(found.values())


def _account(conn: Connection, account_id: str) -> Case:
    asked = {"account_id": account_id, "limit": TIMELINE_MAX}
    account = row(conn, _ACCOUNT, asked)
    case = Case(account, list(rows(conn, _TIMELINE, asked)))
    customers: list[str] = account["stripe_customer_ids"] or []
    if not customers:
        case.findings.append(
            Finding(
                "no_customer",
                "no Stripe customer belongs to this account, so no payment can reach it",
                f"till customers link {account['email'] or account_id} cus_…",
            )
        )
    case.findings += _of_events(conn, customers)
    for each in rows(conn, _WITHOUT_CREDITS, asked):
        case.findings.append(
            Finding(
                "plan_without_credits",
                f"plan {each['name']} declares no credits",
                f"set monthly_credits on {each['stripe_price_id']} in Stripe, or till plans push",
            )
        )
    for each in rows(conn, _UNPAID, asked):
        case.findings.append(
            Finding(
                "unpaid_invoice",
                f"invoice {each['stripe_invoice_id']} is {each['status']}: nothing was paid",
                each["hosted_invoice_url"] or "collect it in Stripe's Dashboard",
                "warning",
            )
        )
    case.findings += _of_balance(account)
    for each in rows(conn, _REVIEWS, asked):
        case.findings.append(
            Finding(
                "review",
                f"{each['amount']:,} credits are under review",
                f"till credits review approve {each['id']} --reason …",
                "warning",
            )
        )
    for each in rows(conn, "select invariant, detail from billing.check_account(%(account_id)s)", asked):
        case.findings.append(
            Finding("discrepancy", f"{each['invariant']}: {each['detail']}", "till doctor --full")
        )
    return case


def _of_balance(account: Row) -> list[Finding]:
    name = account["email"] or account["account_id"]
    findings: list[Finding] = []
    if account["closed_at"]:
        findings.append(
            Finding(
                "closed",
                f"the account is closed since {account['closed_at']:%Y-%m-%d}",
                f"till accounts reopen {name}",
            )
        )
    if account["frozen_at"]:
        findings.append(
            Finding(
                "frozen",
                f"the account is frozen: {account['frozen_reason']}",
                f"till accounts unfreeze {name} --reason …",
            )
        )
    for column, what in (
        (
            "debt",
            "credits are owed, because credits that were spent already were revoked: the next grant repays them",
        ),
        ("withheld", "credits of the next grants are withheld, because money for spent credits was refunded"),
        (
            "carried",
            "credits of later payments are deducted, because Stripe credited time whose credits were spent",
        ),
    ):
        if account[column]:
            findings.append(
                Finding(column, f"{account[column]:,} {what}", f"till credits history {name}", "warning")
            )
    if account["held"]:
        findings.append(
            Finding(
                "held",
                f"{account['held']:,} credits are held for work in progress",
                f"till credits holds {name}",
                "warning",
            )
        )
    return findings


def _unlinked(conn: Connection, customer: Row) -> Case:
    customer_id = customer["stripe_customer_id"]
    if customer["dismissed_at"]:
        what = f"{customer_id} was dismissed, so its payments are ignored"
    else:
        what = f"{customer_id} ({customer['email'] or 'no e-mail'}) is not linked to an account, so its payments wait"
    findings = [Finding("unlinked", what, f"till customers link EMAIL {customer_id}")]
    return Case(None, [], findings + _of_events(conn, [customer_id]))


def _of_events(conn: Connection, stripe_ids: list[str]) -> list[Finding]:
    if not stripe_ids:
        return []
    return [
        Finding(
            f"{each['status']}_event",
            f"{each['type']} {each['stripe_event_id']} is {each['status']}: {each['last_error']}",
            f"till events show {each['stripe_event_id']}, then till events retry {each['stripe_event_id']}",
        )
        for each in rows(conn, _EVENTS, {"stripe_ids": stripe_ids})
    ]
