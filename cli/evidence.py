"""What the database knows about a disputed payment → Stripe's evidence fields. Pure.

The fields and their lengths: https://docs.stripe.com/api/disputes/update. Fields that take a file's id are left to
the person who has the file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from cli.output import CliError, counted
from worker.money import money_text

FIELD_LENGTH_MAX = 20_000
TOTAL_LENGTH_MAX = 150_000
TEXTS = frozenset(
    {
        "access_activity_log",
        "billing_address",
        "cancellation_policy_disclosure",
        "cancellation_rebuttal",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "duplicate_charge_explanation",
        "duplicate_charge_id",
        "product_description",
        "refund_policy_disclosure",
        "refund_refusal_explanation",
        "service_date",
        "shipping_address",
        "shipping_carrier",
        "shipping_date",
        "shipping_tracking_number",
        "uncategorized_text",
    }
)
FILES = frozenset(
    {
        "cancellation_policy",
        "customer_communication",
        "customer_signature",
        "duplicate_charge_documentation",
        "receipt",
        "refund_policy",
        "service_documentation",
        "shipping_documentation",
        "uncategorized_file",
    }
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows about a dispute: the payment and its customer, what it paid for, sign-ins and usage, oldest first."""

    payment: Row
    lots: Sequence[Row] = ()
    invoices: Sequence[Row] = ()
    sessions: Sequence[Row] = ()
    usage: Sequence[Row] = ()
    refund_policy: str | None = None
    used: int = field(default=0)


def evidence_of(facts: Facts) -> dict[str, str]:
    """Field → text, for every field with data, none longer than Stripe allows."""
    payment = facts.payment
    fields: dict[str, str | None] = {
        "customer_name": payment["customer_name"],
        "customer_email_address": payment["customer_email"] or payment["user_email"],
        "customer_purchase_ip": _purchase_ip(facts),
        "product_description": _product(facts),
        "service_date": _day(min((lot["effective_at"] for lot in facts.lots), default=payment["charged_at"])),
        "access_activity_log": _activity(facts),
        "cancellation_rebuttal": _not_cancelled(facts),
        "refund_policy_disclosure": facts.refund_policy,
        "uncategorized_text": _summary(facts),
    }
    return {name: text[:FIELD_LENGTH_MAX] for name, text in fields.items() if text}


def check(evidence: Any, source: str) -> dict[str, str]:
    """Evidence that a person may have edited, if Stripe would accept it. Raises CliError."""
    if not isinstance(evidence, dict) or not evidence:
        raise CliError(f"{source} is not a JSON object of evidence: delete it and collect the evidence again")
    found = cast("dict[str, Any]", evidence)
    for name, text in found.items():
        if name not in TEXTS | FILES:
            raise CliError(f"{source}: {name!r} is not a field of Stripe's evidence: remove it")
        if not isinstance(text, str):
            raise CliError(f"{source}: {name} is not text: write it as text, or remove it")
        if name in FILES and text and not text.startswith("file_"):
            raise CliError(f"{source}: {name} takes the id of an uploaded file (file_…)")
        if len(text) > FIELD_LENGTH_MAX:
            raise CliError(
                f"{source}: {name} has {len(text):,} characters, Stripe takes {FIELD_LENGTH_MAX:,}"
            )
    total = sum(map(len, found.values()))
    if total > TOTAL_LENGTH_MAX:
        raise CliError(f"{source} has {total:,} characters, Stripe takes {TOTAL_LENGTH_MAX:,} in all")
    return found


def _product(facts: Facts) -> str | None:
    """What was sold, with the names of the catalogue, and its credits."""
    lines = [
        f"{lot['product'] or 'Credits'}: {counted(lot['amount'], 'credit')}, usable from {_moment(lot['effective_at'])}"
        for lot in facts.lots
    ]
    if not lines:
        return None
    kind = "Digital service, paid in advance and used by credits; delivered at once, by access to an account."
    described = {lot["description"] for lot in facts.lots if lot["description"]}
    return "\n".join([kind, *sorted(described), *lines])


def _activity(facts: Facts) -> str | None:
    payment = facts.payment
    lines: list[tuple[datetime, str]] = []

    def add(at: datetime | None, text: str) -> None:
        if at is not None:
            lines.append((at, f"{_moment(at)}  {text}"))

    who = payment["user_email"] or "the customer"
    add(payment["signed_up_at"], f"{who} signed up")
    add(payment["email_confirmed_at"], f"{who} confirmed the e-mail address")
    add(payment["last_sign_in_at"], f"{who} signed in (latest)")
    for session in facts.sessions:
        origin = ", ".join(
            filter(None, (session["ip"] and f"IP address {session['ip']}", session["user_agent"]))
        )
        add(session["created_at"], f"{who} signed in{f' ({origin})' if origin else ''}")
    add(payment["charged_at"], f"payment {payment['stripe_charge_id']} succeeded")
    for entry in facts.usage:
        what = f": {entry['description']}" if entry["description"] else ""
        add(entry["occurred_at"], f"{who} used {counted(-entry['amount'], 'credit')}{what}")
    return _fitting([text for _, text in sorted(lines)]) if payment["account_id"] is not None else None


def _fitting(lines: Sequence[str]) -> str:
    """All lines, or the latest that fit, with the number of earlier ones on top."""
    room, kept = FIELD_LENGTH_MAX - 60, 0
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    left_out = len(lines) - kept
    head = [f"({left_out:,} earlier lines left out)"] if left_out else []
    return "\n".join([*head, *(lines[-kept:] if kept else ())])


def _purchase_ip(facts: Facts) -> str | None:
    """The IP address of the customer's latest sign-in before the payment."""
    before = [
        session["ip"]
        for session in facts.sessions
        if session["ip"] and session["created_at"] and session["created_at"] <= facts.payment["charged_at"]
    ]
    return before[-1] if before else None


def _not_cancelled(facts: Facts) -> str | None:
    if facts.payment["reason"] != "subscription_canceled":
        return None
    told: list[str] = []
    for invoice in facts.invoices:
        if invoice["stripe_subscription_id"] is None:
            continue
        cancelled = invoice["canceled_at"]
        when = (
            "has not been cancelled"
            if cancelled is None
            else f"was cancelled on {_moment(cancelled)}, after this payment"
            if cancelled > facts.payment["charged_at"]
            else None
        )
        if when is not None:
            told.append(f"Subscription {invoice['stripe_subscription_id']} {when}.")
    return "\n".join(told) or None


def _summary(facts: Facts) -> str:
    payment = facts.payment
    amount = money_text(payment["amount"], payment["currency"])
    lines = [f"Payment {payment['stripe_charge_id']} of {amount} on {_moment(payment['charged_at'])}."]
    if payment["is_liability_shifted"]:
        lines.append("The cardholder was authenticated by the issuer (3-D Secure).")
    if payment["risk_level"] is not None:
        score = "" if payment["risk_score"] is None else f", score {payment['risk_score']} of 100"
        lines.append(f"Risk at the time of payment, as assessed by Stripe: {payment['risk_level']}{score}.")
    if payment["amount_refunded"]:
        lines.append(f"Refunded so far: {money_text(payment['amount_refunded'], payment['currency'])}.")
    lines += _links("Receipt", [payment["receipt_url"]])
    lines += _links("Invoice", [invoice["hosted_invoice_url"] for invoice in facts.invoices])
    if facts.lots:
        granted = sum(lot["amount"] for lot in facts.lots)
        lines.append(
            f"The payment gave {counted(granted, 'credit')}, of which {facts.used:,} were used since."
        )
    if facts.usage:
        spent = -sum(entry["amount"] for entry in facts.usage)
        first, last = facts.usage[0]["occurred_at"], facts.usage[-1]["occurred_at"]
        lines.append(
            f"The account used {counted(spent, 'credit')} in {counted(len(facts.usage), 'action')} after the payment, "
            f"between {_moment(first)} and {_moment(last)}."
        )
    return "\n".join(lines)


def _links(name: str, urls: Iterable[str | None]) -> list[str]:
    return [f"{name}: {url}" for url in urls if url]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %B %Y}"
