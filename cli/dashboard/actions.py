"""A form → one call of the function that the CLI calls, then back to the page of the form.

Actions that remove money or credits are confirmed first, on a separate page that works without scripts.
"""

import re
from typing import LiteralString
from uuid import UUID

import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cli.dashboard.database import first
from cli.dashboard.forms import ask, back, do, is_confirmed, reason, write
from cli.dashboard.render import database, money
from cli.database import Connection, call, refusal, row, rows
from cli.output import counted

RETRIES_MAX = 500

# The charge of a warning, its account's balance, and what is left of the credits that it paid for.
_CHARGE: LiteralString = """
    select payments.amount - payments.amount_refunded as amount, payments.currency, payments.stripe_customer_id,
        accounts.email, accounts.balance, coalesce((
            select sum(lots.remaining) from billing.credit_grants as lots
            where lots.account_id = payments.account_id and lots.closed_at is null and (
                lots.stripe_payment_intent_id = payments.stripe_payment_intent_id
                or lots.stripe_invoice_id in (
                    select stripe_invoice_id from billing.invoice_payments
                    where stripe_payment_intent_id = payments.stripe_payment_intent_id
                        or stripe_charge_id = payments.stripe_charge_id
                )
            )
        ), 0)::bigint as credits
    from billing.fraud_warnings as warnings
    join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
    left join billing.admin_accounts as accounts on accounts.id = payments.account_id
    where warnings.stripe_early_fraud_warning_id = %(id)s
"""


def freeze(request: Request) -> Response:
    """Freeze an account."""
    account_id = request.path_params["account_id"]
    return do(
        request, "freeze_account", "The account is frozen.", account_id=account_id, reason=reason(request)
    )


def unfreeze(request: Request) -> Response:
    """Unfreeze an account."""
    account_id = request.path_params["account_id"]
    return do(
        request,
        "unfreeze_account",
        "The account can spend again.",
        account_id=account_id,
        reason=reason(request),
    )


def adjust(request: Request) -> Response:
    """Adjust a balance; removing credits is confirmed first."""
    form = request.state.form
    account_id: UUID = request.path_params["account_id"]
    text = form.get("amount", "").replace(",", "").replace("−", "-")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not int(text):
        return back(request, "bad", "Enter a whole number of credits, with a minus sign to remove them.")
    amount = int(text)
    if amount < 0 and not is_confirmed(request):
        return _ask_to_take(request, account_id, -amount)
    verb = "given" if amount > 0 else "taken"
    return do(
        request,
        "adjust_credits",
        f"{counted(abs(amount), 'credit', 'were')} {verb}.",
        account_id=account_id,
        amount=amount,
        idempotency_key=form.get("key", ""),
        reason=reason(request),
    )


def resolve(request: Request) -> Response:
    """Close or reopen a warning."""
    decision = request.state.form.get("decision", "")
    done = {"resolved": "Resolved.", "dismissed": "Dismissed: no fraud.", "open": "Reopened."}
    return do(
        request,
        "resolve_fraud_warning",
        done.get(decision, ""),
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        decision=decision,
        notes=reason(request),
    )


def note(request: Request) -> Response:
    """Add a note to a warning."""
    return do(
        request,
        "note_fraud",
        "Noted.",
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        notes=reason(request),
    )


def refund(request: Request) -> Response:
    """Refund the charge of a warning; confirmed first."""
    warning_id = request.path_params["warning_id"]
    if reason(request) and not is_confirmed(request):
        with database(request).reading() as conn:
            charge = first(conn, _CHARGE, {"id": warning_id})
        if charge is None:
            return back(request, "bad", "Its charge is not in the database. See it in Stripe's Dashboard.")
        amount = money(charge["amount"], charge["currency"])
        facts = [("Account", charge["email"] or charge["stripe_customer_id"] or "not linked")]
        if charge["balance"] is not None:
            facts += balances(charge["balance"], charge["balance"] - charge["credits"])
        return ask(
            request, f"Refund {amount}?", facts=facts, answer=f"Refund {amount}",
            consequence="Refunds can't be undone. The credits that are left of the payment are revoked.",
        )  # fmt: skip
    return do(
        request,
        "refund_fraud_warning",
        "The worker sends the refund to Stripe.",
        stripe_early_fraud_warning_id=warning_id,
        reason=reason(request),
    )


def undo(request: Request) -> Response:
    """Undo a freeze, or an action that was not sent to Stripe yet."""
    return do(request, "undo_fraud_action", "Undone.", id=request.path_params["id"], reason=reason(request))


def review(request: Request) -> Response:
    """Approve or refuse credits under review."""
    decision = request.state.form.get("decision", "")
    done = {"approve": "The credits were granted.", "refuse": "The credits were refused."}
    return do(
        request,
        "review_held_credits",
        done.get(decision, ""),
        id=request.path_params["id"],
        decision=decision,
        reason=reason(request),
    )


def retry(request: Request) -> Response:
    """Requeue an event."""
    event_id = request.path_params["event_id"]

    def call_it(conn: Connection) -> str:
        [found] = call(conn, "billing.retry_stripe_event", event_id=event_id)
        status = found["retry_stripe_event"]
        return "Queued again." if status == "queued" else f"It is {status}; nothing was changed."

    return write(request, call_it)


def retry_all(request: Request) -> Response:
    """Requeue all dead or parked events, oldest first."""
    status = request.state.form.get("status", "")
    if status not in ("dead", "parked"):
        raise HTTPException(404)

    def call_it(conn: Connection) -> str:
        found = rows(
            conn,
            "select billing.retry_stripe_event(event_id => stripe_event_id) from (select stripe_event_id "
            "from billing.stripe_events where status = %(status)s order by received_at limit %(limit)s) as events",
            {"status": status, "limit": RETRIES_MAX},
        )
        more = (
            " There may be more: press the button again for the next ones."
            if len(found) == RETRIES_MAX
            else ""
        )
        return f"{len(found):,} event{'s are' if len(found) != 1 else ' is'} queued again.{more}"

    return write(request, call_it)


def retry_notification(request: Request) -> Response:
    """Retry a notification that could not be delivered."""

    def call_it(conn: Connection) -> str:
        call(conn, "billing.retry_notification", notification_id=request.path_params["id"])
        return "It will be sent again."

    return write(request, call_it)


ROUTES = [
    Route("/accounts/{account_id:uuid}/freeze", freeze, methods=["POST"]),
    Route("/accounts/{account_id:uuid}/unfreeze", unfreeze, methods=["POST"]),
    Route("/accounts/{account_id:uuid}/adjust", adjust, methods=["POST"]),
    Route("/fraud/actions/{id:int}/undo", undo, methods=["POST"]),
    Route("/fraud/held/{id:int}/review", review, methods=["POST"]),
    Route("/fraud/{warning_id}/resolve", resolve, methods=["POST"]),
    Route("/fraud/{warning_id}/note", note, methods=["POST"]),
    Route("/fraud/{warning_id}/refund", refund, methods=["POST"]),
    Route("/inbox/retry", retry_all, methods=["POST"]),
    Route("/inbox/{event_id}/retry", retry, methods=["POST"]),
    Route("/notifications/{id:int}/retry", retry_notification, methods=["POST"]),
]


def balances(now: int, then: int) -> list[tuple[str, str]]:
    """The balance before and after, for a question."""
    return [("Balance now", f"{now:,}"), ("Balance after", f"{then:,}")]


def _ask_to_take(request: Request, account_id: UUID, amount: int) -> Response:
    """The question, with the balance that the adjustment would leave: it is tried, and rolled back."""
    account = "select email, name, balance from billing.admin_accounts where id = %(id)s"
    try:
        with database(request).writing() as conn:
            before = first(conn, account, {"id": account_id})
            call(
                conn, "billing.adjust_credits", account_id=account_id, amount=-amount, reason=reason(request),
                idempotency_key=request.state.form.get("key", ""), actor=request.app.state.actor,
            )  # fmt: skip
            after = row(conn, account, {"id": account_id})
            raise psycopg.Rollback
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return back(request, "bad", refusal(error))
    assert before is not None
    name = before["email"] or before["name"] or str(account_id)
    return ask(
        request,
        f"Take {counted(amount, 'credit')} from {name}?",
        facts=[("Account", name), *balances(before["balance"], after["balance"])],
        consequence="They are removed at once. To undo, add them with another adjustment.",
        answer=f"Take {counted(amount, 'credit')}",
    )
