"""Differences from Stripe, and what the database says about itself → findings, each with the command that mends it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from cli.database import Connection, Row, row, rows
from cli.findings import Finding
from cli.output import counted, time_text
from cli.reconcile.apply import WITHDRAWN
from cli.reconcile.compare import Difference
from cli.reconcile.kinds import Kind
from cli.reconcile.own_events import understood
from worker.errors import UnknownShape

APPLY = "till reconcile --apply"
BACKFILL = "till backfill"
LEDGER = "ledger_discrepancy"
_SHOWN_MAX = 3
# More missing objects of a kind are one finding.
_MANY = 20
# Of so many differences it is looked up whether an event waits with them; where there are more, none arrived.
_ASKED_MAX = 500
_MEMBERS = ("items", "lines")
_TIMES = (
    "billing_cycle_anchor",
    "cancel_at",
    "canceled_at",
    "ended_at",
    "trial_start",
    "trial_end",
    "start",
    "end",
)

# Events that name an object and are not applied.
_WAITING: LiteralString = """
    select ids.stripe_id, events.stripe_event_id, events.status, events.waiting_for, events.payload
    from unnest(%(ids)s::text[]) as ids (stripe_id)
    join billing.stripe_events as events on strpos(events.payload, '"' || ids.stripe_id || '"') > 0
    where events.status in ('queued', 'parked', 'dead')
    order by events.received_at
"""
# Since when events of Stripe arrive here; null: never one did. What is older is history.
_HISTORY: LiteralString = """
    select settings.credits_since is not null as is_backfilled, (
        select min(stripe_events.received_at) from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_' and stripe_events.status <> 'ignored'
    ) as first_event_at
    from billing.settings
"""
_LEDGER: LiteralString = """
    select account_id, invariant, detail from billing.ledger_discrepancies
    order by account_id, invariant, detail limit 100
"""
_ENTITLEMENTS: LiteralString = """
    select account_id, invariant, detail from billing.entitlement_discrepancies
    order by account_id, invariant, detail limit 100
"""
_WRONG_LINKS: LiteralString = """
    select stripe_customer_id, coalesce(account_id, (array_agg(found_account_id))[1]) as account_id,
        account_id is null as is_unlinked, count(*) as number, min(object || ' ' || stripe_id) as example
    from billing.wrong_links group by stripe_customer_id, wrong_links.account_id order by stripe_customer_id
"""
# Customers who have paid, and whom no account owns.
_UNLINKED: LiteralString = """
    select customers.stripe_customer_id, customers.email, count(*) as number from billing.customers
    join billing.invoices on invoices.stripe_customer_id = customers.stripe_customer_id and invoices.status = 'paid'
    where customers.status = 'unlinked' and invoices.account_id is null and exists (
        select from billing.subscriptions
        where subscriptions.stripe_customer_id = customers.stripe_customer_id
            and subscriptions.status in ('active', 'trialing', 'past_due', 'paused', 'unpaid')
    )
    group by 1, 2 order by 1
"""
_UNGRANTED: LiteralString = """
    select account_id, detail from billing.ungranted_payments order by account_id, detail limit 100
"""


@dataclass(frozen=True, slots=True)
class Reported:
    """A difference as a finding. `is_mendable`: `--apply` brings what Stripe says."""

    difference: Difference
    finding: Finding
    is_mendable: bool


def of_stripe(conn: Connection, found: Sequence[Difference]) -> list[Reported]:
    """Each difference, with the event that already waits with it."""
    asked = {difference.stripe_id: difference for difference in found[:_ASKED_MAX]}
    waiting = {
        each["stripe_id"]: each
        for each in rows(conn, _WAITING, {"ids": list(asked)})
        if _brings(each["payload"], asked[each["stripe_id"]])
    }
    history = row(conn, _HISTORY, {})
    return [
        _reported(difference, waiting.get(difference.stripe_id), is_history=_is_history(difference, history))
        for difference in found
    ]


def _brings(payload: str, difference: Difference) -> bool:
    """Whether an event reports the object as Stripe has it now, as far as its body says."""
    if difference.body is None:
        return False
    try:
        body = json.loads(payload)["data"]["object"]
        told = difference.kind.facts(understood(body)) if body["id"] == difference.stripe_id else None
    except (ValueError, TypeError, KeyError, UnknownShape):
        return False
    wanted = difference.kind.facts(understood(difference.body))
    # A body may have only the beginning of a list, or none.
    return told is not None and all(told.get(name) in (value, {}) for name, value in wanted.items())


def _is_history(difference: Difference, history: Row) -> bool:
    """Whether only `till backfill` may bring it: an event would grant the credits of years."""
    if history["is_backfilled"] or difference.problem != "missing" or difference.body is None:
        return False
    first: datetime | None = history["first_event_at"]
    return first is None or difference.body["created"] < first.timestamp()


def findings_of(reported: Sequence[Reported]) -> list[Finding]:
    """A finding for each difference, or one for many objects of a kind that are missing."""
    missing = Counter(each.finding.check for each in reported if each.difference.problem == "missing")
    told: dict[str, Finding] = {}
    for each in reported:
        kind, number = each.difference.kind, missing[each.finding.check]
        if number <= _MANY:
            told[each.difference.stripe_id] = each.finding
        else:
            what = f"{number:,} {kind.noun}s are not in the database, such as {each.difference.stripe_id}"
            told.setdefault(each.finding.check, Finding(each.finding.check, what, each.finding.mend))
    return list(told.values())


def _reported(difference: Difference, event: Row | None, *, is_history: bool) -> Reported:
    kind, what = difference.kind, _what(difference)
    check = f"{kind.name.rpartition('.')[2]}_{difference.problem}"
    if difference.problem == "unknown":
        is_mendable = kind.name in WITHDRAWN
        mend = APPLY if is_mendable else _mend_unknown(kind)
        return Reported(difference, Finding(check, what, mend), is_mendable=is_mendable)
    if event is None:
        mend = BACKFILL if is_history else APPLY
        return Reported(difference, Finding(check, what, mend), is_mendable=not is_history)
    event_id = event["stripe_event_id"]
    match event["status"]:
        case "queued":
            mend = f"till worker run, which applies {event_id}"
        case "parked" if str(event["waiting_for"]).startswith("cus_"):
            mend = f"till customers link {event['waiting_for']} ACCOUNT --yes, for which {event_id} waits"
        case _:
            mend = (
                f"till events retry {event_id}; till events show {event_id} says why it is {event['status']}"
            )
    return Reported(difference, Finding(check, what, mend), is_mendable=False)


def _what(difference: Difference) -> str:
    name = f"{difference.kind.noun} {difference.stripe_id}"
    match difference.problem:
        case "missing":
            return f"{name} is not in the database"
        case "deleted":
            return f"{name} is deleted in Stripe, and not here"
        case "unknown":
            return f"{name} is not in this Stripe account"
        case "differs":
            return f"{name}: {_facts(difference.facts)}"


def _facts(facts: Mapping[str, tuple[Any, Any]]) -> str:
    told = [_fact(name, *values) for name, values in facts.items()]
    more = [f"and {len(told) - _SHOWN_MAX} more"] if len(told) > _SHOWN_MAX else []
    return "; ".join(told[:_SHOWN_MAX] + more)


def _fact(name: str, here: Any, there: Any) -> str:
    if name in _MEMBERS:
        return _member(name.removesuffix("s"), here or {}, there)
    words = name.removeprefix("stripe_").removesuffix("_id").replace("_", " ")
    return f"{words} is {_value(name, here)} here and {_value(name, there)} in Stripe"


def _member(noun: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The first member of a list within an object that differs."""
    member = min(each for each in {*here, *there} if here.get(each) != there.get(each))
    if member not in here:
        return f"{noun} {member} is missing"
    if member not in there:
        return f"{noun} {member} is not in Stripe"
    return "; ".join(
        f"{part} of {noun} {member} is {_value(part, here[member][part])} here and {_value(part, value)} in Stripe"
        for part, value in there[member].items()
        if here[member][part] != value
    )


def _value(name: str, value: Any) -> str:
    if name in _TIMES and value is not None:
        return time_text(datetime.fromtimestamp(value, UTC))
    return "none" if value is None else str(value)


def _mend_unknown(kind: Kind) -> str:
    if kind.name in ("product", "price"):
        return "till plans sync, which takes it off sale"
    return "check STRIPE_API_KEY; a row that was written by hand must be deleted by hand"


def of_database(conn: Connection) -> Iterator[Finding]:
    """What the database says about itself: links, purchases, both proofs."""
    for each in rows(conn, _WRONG_LINKS, {}):
        what = (
            f"customer {each['stripe_customer_id']} has lost its account, which {each['example']} still names"
            if each["is_unlinked"]
            else f"{each['example']} names another account than its customer {each['stripe_customer_id']}"
        )
        yield Finding("wrong_link", what, _link(each["stripe_customer_id"], each["account_id"]))
    for each in rows(conn, _UNLINKED, {}):
        yield Finding(
            "unlinked_customer",
            f"customer {each['stripe_customer_id']} ({each['email']}) has paid {counted(each['number'], 'invoice')}, "
            "and no account owns it",
            _link(each["stripe_customer_id"], "ACCOUNT"),
        )
    for each in rows(conn, _UNGRANTED, {}):
        yield Finding("ungranted_payment", each["detail"], _recalculate(each))
    for each in rows(conn, _LEDGER, {}):
        mend = "till worker run, which queues it again" if each["account_id"] is None else _recalculate(each)
        yield Finding(LEDGER, f"{each['invariant']}: {each['detail']}", mend)
    for each in rows(conn, _ENTITLEMENTS, {}):
        yield Finding("entitlement_discrepancy", f"{each['invariant']}: {each['detail']}", _recalculate(each))


def _link(customer: str, account: Any) -> str:
    return f"till customers link {customer} {account} --yes"


def _recalculate(each: Row) -> str:
    return f"till credits recalculate {each['account_id']} --yes"
