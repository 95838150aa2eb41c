"""`till fraud list`, `show`, `resolve`, `note`, `refund`, `undo`: what a person decides about warnings."""

from enum import StrEnum
from typing import Annotated, LiteralString

import typer

from cli.app import App
from cli.call import Actor, Reason, Yes, actor_or_user, perform, row_id
from cli.commands.fraud.tables import for_people, is_told, print_others, print_warnings
from cli.database import Connection, Row, connect, rows
from cli.output import AsJson, CliError, err, out, print_fields, print_json, print_rows

app = App()

WarningId = Annotated[
    str, typer.Argument(help="Early fraud warning (issfr_…), as `till fraud list` prints it.")
]


class Kind(StrEnum):
    """What there is to list."""

    WARNINGS = "warnings"
    DISPUTES = "disputes"
    REVIEWS = "reviews"


class Status(StrEnum):
    """Whether something is still to be dealt with."""

    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"


class Decision(StrEnum):
    """What a warning came to: something was done or nothing had to be, there was no fraud, it is taken up again."""

    RESOLVED = "resolved"
    DISMISSED = "dismissed"
    OPEN = "open"


_WARNINGS: LiteralString = """
select stripe_early_fraud_warning_id, warned_at, status, fraud_type, risk_level, risk_score, actionable,
    stripe_charge_id, amount, currency, account_id, email, frozen_at is not null as is_frozen, actions
from billing.admin_fraud_warnings
where (%(id)s::text is null or stripe_early_fraud_warning_id = %(id)s)
    and (%(is_open)s::boolean is null or (status = 'open') = %(is_open)s)
order by warned_at desc, stripe_early_fraud_warning_id desc limit %(limit)s
"""
_DISPUTES: LiteralString = """
select * from billing.admin_disputes
where (%(id)s::text is null or stripe_dispute_id = %(id)s)
    and (%(is_open)s::boolean is null or is_open = %(is_open)s)
order by disputed_at desc, stripe_dispute_id desc limit %(limit)s
"""
_REVIEWS: LiteralString = """
select * from billing.admin_reviews
where (%(id)s::text is null or stripe_review_id = %(id)s)
    and (%(is_open)s::boolean is null or is_open = %(is_open)s)
order by opened_at desc, stripe_review_id desc limit %(limit)s
"""
_ACTIONS = """
select id, decided_at, action, status, reason, actor, amount, currency, stripe_subscription_id, stripe_refund_id,
    attempts, last_error, undone_by, undone_reason
from billing.fraud_actions where stripe_early_fraud_warning_id = %(id)s order by id
"""
_JUDGED = """
select action, is_due, reason, stripe_subscription_id, amount, currency from billing.judge_fraud_warning(%(id)s)
"""
_QUERIES: dict[Kind, LiteralString] = {
    Kind.WARNINGS: _WARNINGS,
    Kind.DISPUTES: _DISPUTES,
    Kind.REVIEWS: _REVIEWS,
}


@app.command("list")
def list_fraud(
    what: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.WARNINGS,
    status: Annotated[
        Status, typer.Option(help="Those that need attention, or those that are closed.")
    ] = Status.OPEN,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List early fraud warnings, disputes or reviews, newest first."""
    is_open = None if status is Status.ALL else status is Status.OPEN
    with connect() as conn:
        found = rows(conn, _QUERIES[what], {"id": None, "is_open": is_open, "limit": limit})
    if as_json:
        print_json(found)
    elif not found:
        err.print(f"no {what}" if status is Status.ALL else f"no {status} {what}", style="dim")
    elif what is Kind.WARNINGS:
        print_warnings(found)
    elif what is Kind.DISPUTES:
        print_others(found, ("stripe_dispute_id", "disputed_at", "status", "reason", "evidence_due_at"))
    else:
        print_others(found, ("stripe_review_id", "opened_at", "reason", "closed_reason"))


@app.command()
def show(
    id: Annotated[
        str, typer.Argument(help="Early fraud warning (issfr_…), dispute (du_…) or review (prv_…).")
    ],
    as_json: AsJson = False,
) -> None:
    """Show a warning, dispute or review: its account, what was done, what the policy would do."""
    with connect() as conn:
        found = _find(conn, id)
        if "stripe_early_fraud_warning_id" not in found:
            print_json(found) if as_json else print_fields(for_people(found))
            return
        del found["actions"]
        actions = rows(conn, _ACTIONS, {"id": id})
        judged = rows(conn, _JUDGED, {"id": id})
    if as_json:
        print_json(found | {"actions": actions, "policy_now": judged})
        return
    print_fields(for_people(found))
    for title, listing in (("What was done", actions), ("What the policy would do now", judged)):
        out.print(f"\n[bold]{title}[/]")
        shown = [
            {name: row[name] for name in row if is_told(name, listing)} for row in map(for_people, listing)
        ]
        print_rows(shown, as_json=False, empty="nothing", numbers=("id", "attempts"))


@app.command()
def resolve(
    warning_id: WarningId,
    decision: Annotated[
        Decision, typer.Option("--as", help="resolved, dismissed (no fraud), or open: take it up again.")
    ] = Decision.RESOLVED,
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Close a warning, or open it again. A frozen account stays frozen until `till accounts unfreeze`."""
    perform(
        "resolve_fraud_warning",
        as_json=as_json,
        stripe_early_fraud_warning_id=warning_id,
        decision=decision,
        notes=reason,
        actor=actor_or_user(actor),
    )


@app.command()
def note(
    warning_id: WarningId,
    text: Annotated[str, typer.Argument(help="What to write down.")],
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Add a note to a warning."""
    perform(
        "note_fraud",
        as_json=as_json,
        stripe_early_fraud_warning_id=warning_id,
        notes=text,
        actor=actor_or_user(actor),
    )


@app.command()
def refund(
    warning_id: WarningId, *, reason: Reason, actor: Actor = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Refund the remaining amount of a warning's charge, as fraudulent. Its credits are revoked."""
    perform(
        "refund_fraud_warning",
        as_json=as_json,
        yes=yes,
        stripe_early_fraud_warning_id=warning_id,
        reason=reason,
        actor=actor_or_user(actor),
    )


@app.command()
def undo(
    action_id: Annotated[
        int, typer.Argument(help="Id of an action, as `till fraud show` prints it.", parser=row_id)
    ],
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Undo a freeze, or a refund or cancellation that was not sent to Stripe yet."""
    perform("undo_fraud_action", as_json=as_json, id=action_id, reason=reason, actor=actor_or_user(actor))


def _find(conn: Connection, id: str) -> Row:
    for query in _QUERIES.values():
        found = rows(conn, query, {"id": id, "is_open": None, "limit": 1})
        if found:
            return found[0]
    raise CliError(
        f"there is no warning, dispute or review {id}: list them with `till fraud list [warnings|disputes|reviews]`"
    )
