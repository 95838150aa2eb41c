"""Anything that names a customer → what happened to them, from payments to credits, and why credits are missing.

`till explain` and the account's page of the dashboard show the same `Case`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

from cli.database import Connection, Row, row, rows
from cli.findings import Finding
from cli.output import CliError, counted

TIMELINE_MAX = 60
PAYMENTS_MAX = 40
CREDITS_MAX = 200
FOUND_MAX = 20

_ACCOUNT: LiteralString = """
    select
        accounts.id as account_id, accounts.kind, accounts.name, accounts.email, accounts.frozen_at,
        accounts.frozen_reason, accounts.closed_at, accounts.balance, accounts.held, accounts.debt, accounts.withheld,
        balances.carried, (
            select array_agg(customers.stripe_customer_id order by customers.stripe_customer_id)
            from billing.customers where customers.account_id = accounts.id
        ) as stripe_customer_ids, (
            select min(next_slot_at) from billing.credit_schedules
            where credit_schedules.account_id = accounts.id and next_slot_at is not null and disarmed_reason is null
        ) as next_credits_at
    from billing.admin_accounts as accounts
    join billing.credit_balances as balances on balances.account_id = accounts.id
    where accounts.id = %(account_id)s
"""
_INVOICES: LiteralString = """
    select stripe_invoice_id, stripe_subscription_id, status, billing_reason, total, amount_paid, amount_returned,
        currency, coalesce(paid_at, invoiced_at) as at, hosted_invoice_url
    from billing.invoices where account_id = %(account_id)s
    order by invoiced_at desc, stripe_invoice_id limit %(payments)s
"""
_LINES: LiteralString = """
    select lines.stripe_invoice_id, lines.stripe_price_id, lines.amount, lines.quantity, lines.is_proration,
        lines.period_start, lines.period_end,
        coalesce(nullif(plans.nickname, ''), nullif(packs.nickname, ''), products.name, lines.stripe_price_id) as name
    from billing.invoice_lines as lines
    left join billing.plans on plans.stripe_price_id = lines.stripe_price_id
    left join billing.credit_packs as packs on packs.stripe_price_id = lines.stripe_price_id
    left join billing.products
        on products.stripe_product_id = coalesce(plans.stripe_product_id, packs.stripe_product_id)
    where lines.stripe_invoice_id = any (%(invoices)s)
    order by lines.period_start, lines.stripe_line_id
"""
_CREDITS: LiteralString = "select * from billing.explain_credits(%(account_id)s, %(credits)s)"
_CHARGES: LiteralString = """
    select stripe_payment_intent_id, stripe_charge_id, status, amount, amount_refunded, currency, charged_at
    from billing.payments where stripe_payment_intent_id = any (%(intents)s) order by charged_at
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
            coalesce(entries.description, concat_ws(', ', entries.source, entries.reference_id))
        from (
            select * from billing.credit_entries where credit_entries.account_id = %(account_id)s
            order by credit_entries.id desc limit %(limit)s
        ) as entries
        union all
        select grants.effective_at, 'credits: to come', grants.id::text, null, null, grants.amount,
            coalesce(grants.description, concat_ws(', ', grants.source, grants.reference_id))
        from billing.credit_grants as grants
        where grants.account_id = %(account_id)s and grants.entry_id is null and grants.closed_at is null
        union all
        select held.held_at, 'credits: under review', held.id::text, null, null, held.amount, held.kind
        from billing.held_credits as held where held.account_id = %(account_id)s and held.status = 'pending'
        union all
        select overages.claimed_at, 'overage ' || overages.status, overages.id::text, overages.amount,
            overages.currency, null,
            concat_ws(', ', overages.credits || ' credits', overages.stripe_invoice_id, overages.reason)
        from public.billing_overages as overages where overages.account_id = %(account_id)s
    )
    select * from told order by at desc nulls last, what limit %(limit)s
"""
# Of the account's customers: what waits for one by an index; of dead events and of those that Stripe does not give data
# for, the newest.
_EVENTS: LiteralString = """
    with candidates as (
        (
            select stripe_event_id, type, status, last_error, received_at, true as is_ours from billing.stripe_events
            where waiting_for = any (%(stripe_ids)s) and status in ('dead', 'parked')
            order by received_at limit 20
        )
        union
        select stripe_event_id, type, status, last_error, received_at,
            substring(payload from '"customer"\\s*:\\s*"(cus_[A-Za-z0-9_]+)"') = any (%(stripe_ids)s)
        from (
            select * from billing.stripe_events where status = 'dead' order by received_at desc limit 100
        ) as dead
        union
        select stripe_event_id, type, 'waiting', last_error, received_at,
            substring(payload from '"customer"\\s*:\\s*"(cus_[A-Za-z0-9_]+)"') = any (%(stripe_ids)s)
        from (
            select * from billing.stripe_lookups join billing.stripe_events using (stripe_event_id)
            where stripe_lookups.attempts > 3 order by next_attempt_at limit 100
        ) as waiting
    )
    select distinct on (received_at, stripe_event_id) stripe_event_id, type, status, last_error
    from candidates where is_ours order by received_at, stripe_event_id limit 20
"""
_EVENT: LiteralString = """
    select stripe_event_id, type, status, last_error from billing.stripe_events where stripe_event_id = %(it)s
"""
_WITHOUT_CREDITS: LiteralString = """
    select distinct stripe_price_id, name from billing.admin_plans_without_credits where account_id = %(account_id)s
"""
_WAITING_MONTHS: LiteralString = """
    select subscriptions.stripe_subscription_id, schedules.disarmed_reason, min(schedules.next_slot_at) as since
    from billing.subscriptions join billing.credit_schedules as schedules using (stripe_subscription_id)
    where subscriptions.account_id = %(account_id)s and schedules.next_slot_at is not null
        and schedules.disarmed_reason is not null
    group by 1, 2 order by 3
"""
_DISPUTES: LiteralString = """
    select stripe_dispute_id, amount, currency, evidence_due_at, needs_response from billing.admin_disputes
    where account_id = %(account_id)s and is_open order by disputed_at
"""
_REVIEWS: LiteralString = """
    select id, amount from billing.admin_credit_reviews where account_id = %(account_id)s and status = 'pending'
"""
_FREE: LiteralString = """
    select rule, reason from billing.explain_free_credits(%(account_id)s) where reason = any (%(explained)s)
"""
_UNPAID: LiteralString = """
    select stripe_invoice_id, status, hosted_invoice_url from billing.invoices
    where account_id = %(account_id)s and status in ('open', 'uncollectible') order by invoiced_at desc limit 5
"""
# All checks, which read every entry of the account; or those of its payments, and what the running proof found.
_PROOF: LiteralString = "select invariant, business_key, detail from billing.check_account(%(account_id)s)"
_DISCREPANCIES: LiteralString = """
    select invariant, business_key, detail from billing.account_discrepancies(%(account_id)s)
    union
    select invariant, business_key, detail from billing.found_discrepancies
    where account_id = %(account_id)s and business_key is null
"""
_CUSTOMERS: LiteralString = """
    select customers.* from billing.find_customers(%(it)s, %(limit)s) as found (stripe_customer_id)
    join billing.admin_customers as customers using (stripe_customer_id)
    order by customers.stripe_customer_id
"""

_REASONS = {
    "paused": ("the subscription is paused", "resume it in Stripe"),
    "collection_paused": ("its payments are paused", "resume collection in Stripe"),
    "unpaid": ("its invoices are unpaid", "collect them in Stripe, or end the subscription"),
    "incomplete": ("its first payment is incomplete", "the customer completes it, or it expires"),
    "customer_deleted": ("its customer was deleted in Stripe", "end the subscription in Stripe"),
    "account_closed": ("the account is closed", "till accounts reopen"),
    "disputed": ("its payment is disputed", "answer the dispute"),
}
_INVOICES_FOR = {
    "subscription_create": "first invoice",
    "subscription_cycle": "renewal",
    "subscription_update": "change of plan",
    "subscription_threshold": "usage",
    "manual": "invoice",
}
_KINDS = {
    "monthly": "month",
    "proration": "change of plan",
    "credited": "credited time",
    "initial": "initial credits",
    "trial": "trial credits",
    "pack": "credit pack",
    "recharge": "auto-recharge",
    "free_credits": "free credits",
}
_NO_FREE_CREDITS = {
    "unconfirmed": ("neither an e-mail address nor a phone number is confirmed", "the user confirms one"),
    "same_person": (
        "another account of the same person gets them",
        "nothing, or grant some with till credits grant",
    ),
    "subscribed": ("the account has a subscription", "nothing: they come back when it ends"),
    "banned": ("the user is banned", "lift the ban in Supabase"),
}


@dataclass(slots=True)
class Payment:
    """What was paid for (lines), and what that is worth and has become in the ledger (credits).

    `stripe_id` is an invoice's or a charge's; None for credits that nothing was paid for, such as those of a trial.
    Each of `credits` has what, moment, worth, returned, posted, remaining, expires_at, state and waits_for.
    """

    at: datetime
    stripe_id: str | None
    what: str
    status: str
    amount: int | None = None
    returned: int = 0
    currency: str | None = None
    lines: list[Row] = field(default_factory=list[Row])
    credits: list[Row] = field(default_factory=list[Row])


@dataclass(slots=True)
class Case:
    """What is known of one account; `account` None: of a Stripe customer, or an event, that no account owns."""

    account: Row | None
    customer: Row | None = None
    payments: list[Payment] = field(default_factory=list[Payment])
    timeline: list[Row] = field(default_factory=list[Row])
    findings: list[Finding] = field(default_factory=list[Finding])


def explain(conn: Connection, search: str) -> list[Case]:
    """The cases that a search names: an e-mail address, a name, an account's or user's id, or an id of Stripe's.

    Raises CliError where nothing is known by that name.
    """
    accounts = rows(conn, "select billing.find_accounts(%(it)s, 5) as id", {"it": search})
    cases = [case_of(conn, each["id"], is_proved=True) for each in accounts]
    cases += [unlinked_case(conn, each) for each in find_customers(conn, search)]
    if not cases and search.startswith("evt_"):
        cases = [Case(None, findings=[_event(each)]) for each in rows(conn, _EVENT, {"it": search})]
    if not cases:
        raise CliError(
            f"nothing is known of {search!r}: if Stripe has it, fetch what never arrived with `till events replay`, "
            "and check the endpoint with `till doctor`"
        )
    return cases


def find_customers(conn: Connection, search: str) -> Sequence[Row]:
    """Stripe customers that no account owns, by what names them."""
    return rows(conn, _CUSTOMERS, {"it": search, "limit": FOUND_MAX})


def case_of(conn: Connection, account_id: object, *, is_proved: bool) -> Case:
    """The case of an account that exists. `is_proved`: also check every entry of its ledger."""
    asked = {
        "explained": list(_NO_FREE_CREDITS),
        "account_id": account_id,
        "limit": TIMELINE_MAX,
        "payments": PAYMENTS_MAX,
        "credits": CREDITS_MAX,
    }
    account = row(conn, _ACCOUNT, asked)
    discrepancies = rows(conn, _PROOF if is_proved else _DISCREPANCIES, asked)
    case = Case(
        account,
        payments=_payments(conn, asked, {each["business_key"] for each in discrepancies}),
        timeline=list(rows(conn, _TIMELINE, asked)),
    )
    customers: list[str] = account["stripe_customer_ids"] or []
    if not customers:
        case.findings.append(
            Finding(
                "no_customer",
                "no Stripe customer belongs to this account, so no payment can reach it",
                f"till customers link {_name(account)} cus_…",
            )
        )
    case.findings += _of_events(conn, customers)
    case.findings += [of(each) for query, of in _FINDINGS for each in rows(conn, query, asked)]
    case.findings += _of_balance(account)
    case.findings += [
        Finding(
            "discrepancy",
            f"{each['invariant']}: {each['detail']}",
            f"till credits recalculate {account_id} --yes",
            about=each["business_key"] or "",
        )
        for each in discrepancies
    ]
    return case


def unlinked_case(conn: Connection, customer: Row) -> Case:
    """The case of a customer that no account owns."""
    customer_id = customer["stripe_customer_id"]
    if customer["dismissed_at"]:
        what = f"{customer_id} was dismissed, so its payments are ignored"
    else:
        what = f"{customer_id} ({customer['email'] or 'no e-mail'}) is not linked to an account, so its payments wait"
    findings = [Finding("unlinked", what, f"till customers link EMAIL {customer_id}", about=customer_id)]
    return Case(None, customer, findings=findings + _of_events(conn, [customer_id]))


def _payments(conn: Connection, asked: dict[str, object], off: set[str | None]) -> list[Payment]:
    """Invoices and other payments with the credits of each, newest first."""
    credits = rows(conn, _CREDITS, asked)
    invoices = {each["stripe_invoice_id"]: _invoice(each) for each in rows(conn, _INVOICES, asked)}
    for each in rows(conn, _LINES, {"invoices": list(invoices)}):
        invoices[each["stripe_invoice_id"]].lines.append(each)
    intents = {each["stripe_payment_intent_id"] for each in credits} - {None}
    charges = {
        each["stripe_payment_intent_id"]: each for each in rows(conn, _CHARGES, {"intents": list(intents)})
    }
    others: dict[str, Payment] = {}
    for each in credits:
        found = each | {"what": _KINDS.get(_kind(each), "credits"), "state": _state(each, off)}
        payment = invoices.get(each["stripe_invoice_id"]) or others.get(
            each["stripe_payment_intent_id"] or each["business_key"]
        )
        if payment is None:
            charge = charges.get(each["stripe_payment_intent_id"])
            payment = (
                _charge(charge, found)
                if charge
                else Payment(
                    each["moment"],
                    each["stripe_invoice_id"],
                    found["what"],
                    "paid" if each["stripe_invoice_id"] else "free",
                )
            )
            others[each["stripe_payment_intent_id"] or each["business_key"]] = payment
        payment.credits.append(found)
    return sorted([*invoices.values(), *others.values()], key=lambda payment: payment.at, reverse=True)


def _invoice(each: Row) -> Payment:
    return Payment(
        each["at"], each["stripe_invoice_id"], _INVOICES_FOR.get(each["billing_reason"], "invoice"), each["status"],
        each["amount_paid"] if each["status"] == "paid" else each["total"], each["amount_returned"], each["currency"],
    )  # fmt: skip


def _charge(charge: Row, credits: Row) -> Payment:
    return Payment(
        charge["charged_at"], charge["stripe_charge_id"], credits["what"], charge["status"], charge["amount"],
        charge["amount_refunded"], charge["currency"],
    )  # fmt: skip


def _kind(credits: Row) -> str:
    return credits["business_key"].partition(":")[0]


def _state(credits: Row, off: set[str | None]) -> str:
    """granted, due, waiting, missing or too_much: what the ledger has, against what was paid for."""
    if credits["business_key"] in off:
        return "missing" if credits["posted"] < credits["worth"] else "too_much"
    if credits["posted"] >= credits["worth"]:
        return "granted"
    return "waiting" if credits["waits_for"] else "due"


def _name(account: Row) -> str:
    return account["email"] or str(account["account_id"])


def _of_plan(each: Row) -> Finding:
    return Finding(
        "plan_without_credits",
        f"plan {each['name']} declares no credits",
        f"set monthly_credits on {each['stripe_price_id']} in Stripe, or till plans push",
        about=each["stripe_price_id"],
    )


def _of_months(each: Row) -> Finding:
    why, mend = _REASONS[each["disarmed_reason"]]
    return Finding(
        "waiting_months",
        f"months of credits of {each['stripe_subscription_id']} wait since {each['since']:%Y-%m-%d}: {why}",
        mend,
        "warning",
        each["stripe_subscription_id"],
    )


def _of_invoice(each: Row) -> Finding:
    return Finding(
        "unpaid_invoice",
        f"invoice {each['stripe_invoice_id']} is {each['status']}: nothing was paid",
        each["hosted_invoice_url"] or "collect it in Stripe's Dashboard",
        "warning",
        each["stripe_invoice_id"],
    )


def _of_dispute(each: Row) -> Finding:
    dispute_id = each["stripe_dispute_id"]
    if each["needs_response"]:
        due = f" by {each['evidence_due_at']:%Y-%m-%d}" if each["evidence_due_at"] else ""
        what = f"dispute {dispute_id} wants an answer{due}; its credits are frozen until it is decided"
        return Finding("dispute", what, f"till fraud evidence {dispute_id}", "error", dispute_id)
    what = f"dispute {dispute_id} is not decided yet; its credits are frozen until then"
    return Finding("dispute", what, f"till fraud show {dispute_id}", "warning", dispute_id)


def _of_review(each: Row) -> Finding:
    return Finding(
        "review",
        f"{counted(each['amount'], 'credit', 'are')} under review",
        f"till credits review approve {each['id']} --reason …",
        "warning",
        str(each["id"]),
    )


def _of_free_credits(each: Row) -> Finding:
    why, mend = _NO_FREE_CREDITS[each["reason"]]
    return Finding(
        "no_free_credits", f"no free credits by the rule {each['rule']}: {why}", mend, "warning", each["rule"]
    )


_FINDINGS: tuple[tuple[LiteralString, Callable[[Row], Finding]], ...] = (
    (_WITHOUT_CREDITS, _of_plan),
    (_WAITING_MONTHS, _of_months),
    (_UNPAID, _of_invoice),
    (_DISPUTES, _of_dispute),
    (_REVIEWS, _of_review),
    (_FREE, _of_free_credits),
)


def _of_balance(account: Row) -> list[Finding]:
    name = _name(account)
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
            "owed, because credits that were spent already were revoked: the next grant repays them",
        ),
        ("withheld", "withheld from the next grants, because money for spent credits was refunded"),
        (
            "carried",
            "deducted from later payments, because Stripe credited time whose credits were spent",
        ),
    ):
        if account[column]:
            findings.append(
                Finding(
                    column,
                    f"{counted(account[column], 'credit', 'are')} {what}",
                    f"till credits history {name}",
                    "warning",
                )
            )
    if account["held"]:
        findings.append(
            Finding(
                "held",
                f"{counted(account['held'], 'credit', 'are')} held for work in progress",
                f"till credits holds {name}",
                "warning",
            )
        )
    return findings


def _of_events(conn: Connection, stripe_ids: list[str]) -> list[Finding]:
    if not stripe_ids:
        return []
    return [_event(each) for each in rows(conn, _EVENTS, {"stripe_ids": stripe_ids})]


def _event(each: Row) -> Finding:
    event_id = each["stripe_event_id"]
    return Finding(
        f"{each['status']}_event",
        f"{each['type']} {event_id} is {each['status']}"
        + (f": {each['last_error']}" if each["last_error"] else ""),
        f"till events show {event_id}, then till events retry {event_id}",
        about=event_id,
    )
