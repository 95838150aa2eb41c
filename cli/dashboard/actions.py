"""A form → one call of the function that the CLI calls, then back to the page of the form.

Actions that remove money or credits are confirmed first, on a separate page that works without scripts.
"""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cli.dashboard.database import first
from cli.dashboard.render import database, money, page, waiting
from cli.dashboard.session import Flash
from cli.database import call, refusal, rows

RETRIES_MAX = 500


def freeze(request: Request) -> Response:
    """Freeze an account."""
    account_id = request.path_params["account_id"]
    return _do(
        request, "freeze_account", "The account is frozen.", account_id=account_id, reason=_reason(request)
    )


def unfreeze(request: Request) -> Response:
    """Unfreeze an account."""
    account_id = request.path_params["account_id"]
    return _do(
        request,
        "unfreeze_account",
        "The account can spend again.",
        account_id=account_id,
        reason=_reason(request),
    )


def adjust(request: Request) -> Response:
    """Adjust a balance; removing credits is confirmed first."""
    form = request.state.form
    account_id: UUID = request.path_params["account_id"]
    text = form.get("amount", "").replace(",", "").replace("−", "-")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not int(text):
        return _back(request, "bad", "Enter a whole number of credits, with a minus sign to remove them.")
    amount = int(text)
    if amount < 0 and "confirmed" not in form:
        question = f"Take {-amount:,} credits from this account?"
        return _ask(
            request,
            question,
            "They are removed at once. To undo, add them with another adjustment.",
            "Take them",
        )
    verb = "given" if amount > 0 else "taken"
    return _do(
        request,
        "adjust_credits",
        f"{abs(amount):,} credits were {verb}.",
        account_id=account_id,
        amount=amount,
        idempotency_key=form.get("key", ""),
        reason=_reason(request),
    )


def resolve(request: Request) -> Response:
    """Close or reopen a warning."""
    decision = request.state.form.get("decision", "")
    done = {"resolved": "Resolved.", "dismissed": "Dismissed: no fraud.", "open": "Reopened."}
    return _do(
        request,
        "resolve_fraud_warning",
        done.get(decision, ""),
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        decision=decision,
        notes=_reason(request),
    )


def note(request: Request) -> Response:
    """Add a note to a warning."""
    return _do(
        request,
        "note_fraud",
        "Noted.",
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        notes=_reason(request),
    )


def refund(request: Request) -> Response:
    """Refund the charge of a warning; confirmed first."""
    warning_id = request.path_params["warning_id"]
    if _reason(request) and "confirmed" not in request.state.form:
        with database(request).reading() as conn:
            charge = first(
                conn,
                "select amount - amount_refunded as amount, currency from billing.payments "
                "where stripe_charge_id = (select stripe_charge_id from billing.fraud_warnings "
                "where stripe_early_fraud_warning_id = %(id)s)",
                {"id": warning_id},
            )
        if charge is None:
            return _back(request, "bad", "Its charge is not in the database. See it in Stripe's Dashboard.")
        amount = money(charge["amount"], charge["currency"])
        return _ask(
            request, f"Refund {amount}?", "Refunds can't be undone. The credits of the payment are revoked.",
            f"Refund {amount}",
        )  # fmt: skip
    return _do(
        request,
        "refund_fraud_warning",
        "The worker sends the refund to Stripe.",
        stripe_early_fraud_warning_id=warning_id,
        reason=_reason(request),
    )


def undo(request: Request) -> Response:
    """Undo a freeze, or an action that was not sent to Stripe yet."""
    return _do(request, "undo_fraud_action", "Undone.", id=request.path_params["id"], reason=_reason(request))


def review(request: Request) -> Response:
    """Approve or refuse credits under review."""
    decision = request.state.form.get("decision", "")
    done = {"approve": "The credits were granted.", "refuse": "The credits were refused."}
    return _do(
        request,
        "review_held_credits",
        done.get(decision, ""),
        id=request.path_params["id"],
        decision=decision,
        reason=_reason(request),
    )


def retry(request: Request) -> Response:
    """Requeue an event."""
    event_id = request.path_params["event_id"]

    def call_it(conn: Any) -> str:
        [found] = call(conn, "billing.retry_stripe_event", event_id=event_id)
        status = found["retry_stripe_event"]
        return "Queued again." if status == "queued" else f"It is {status}; nothing was changed."

    return _write(request, call_it)


def retry_all(request: Request) -> Response:
    """Requeue all dead or parked events, oldest first."""
    status = request.state.form.get("status", "")
    if status not in ("dead", "parked"):
        raise HTTPException(404)

    def call_it(conn: Any) -> str:
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

    return _write(request, call_it)


def retry_notification(request: Request) -> Response:
    """Retry a notification that could not be delivered."""

    def call_it(conn: Any) -> str:
        call(conn, "billing.retry_notification", notification_id=request.path_params["id"])
        return "It will be sent again."

    return _write(request, call_it)


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


def _reason(request: Request) -> str:
    return request.state.form.get("reason", "")


def _do(request: Request, function: str, done: str, **arguments: Any) -> Response:
    """One call, by the actor of this dashboard."""

    def call_it(conn: Any) -> str:
        call(conn, f"billing.{function}", **arguments, actor=request.app.state.actor)
        return done

    return _write(request, call_it)


def _write(request: Request, call_it: Callable[[Any], str]) -> Response:
    try:
        with database(request).writing() as conn:
            done = call_it(conn)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise  # the connection was lost
        return _back(request, "bad", refusal(error))
    return _back(request, "good", done)


def _back(request: Request, mood: Any, text: str) -> Response:
    request.app.state.session.flash(Flash(mood, text))
    return RedirectResponse(_origin(request), 303)


def _origin(request: Request) -> str:
    """The page of the form: a path of the dashboard, never another address."""
    path = request.state.form.get("back", "")
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _ask(request: Request, question: str, consequence: str, answer: str) -> Response:
    """The same form again, with a question."""
    fields = {name: value for name, value in request.state.form.items() if name != "csrf"}
    with database(request).reading() as conn:
        common = waiting(conn)
    return page(
        request, "confirm.jinja", title=question, consequence=consequence, answer=answer, fields=fields,
        action=request.url.path, back=_origin(request), **common,
    )  # fmt: skip
