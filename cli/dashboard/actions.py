"""A form → one call of the function that the CLI calls, and back to the page it came from.

Whatever takes money or credits away is asked about first, on a page of its own: that needs no script.
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

from cli.dashboard.books import first
from cli.dashboard.render import books, money, page, waiting
from cli.dashboard.session import Told
from cli.database import call, refusal, rows

RETRIES_MAX = 500


def freeze(request: Request) -> Response:
    """An account can't spend from now on."""
    account_id = request.path_params["account_id"]
    return _do(
        request, "freeze_account", "The account is frozen.", account_id=account_id, reason=_reason(request)
    )


def unfreeze(request: Request) -> Response:
    """An account can spend again."""
    account_id = request.path_params["account_id"]
    return _do(
        request,
        "unfreeze_account",
        "The account can spend again.",
        account_id=account_id,
        reason=_reason(request),
    )


def adjust(request: Request) -> Response:
    """Credits by hand; what takes some is asked about first."""
    form = request.state.form
    account_id: UUID = request.path_params["account_id"]
    text = form.get("amount", "").replace(",", "").replace("−", "-")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not int(text):
        return _back(request, "bad", "Give a whole number of credits; with a minus sign to take them.")
    amount = int(text)
    if amount < 0 and "confirmed" not in form:
        question = f"Take {-amount:,} credits from this account?"
        return _ask(
            request, question, "They are gone at once; give them back by another adjustment.", "Take them"
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
    """A warning is closed, or taken up again."""
    decision = request.state.form.get("decision", "")
    done = {"resolved": "Resolved.", "dismissed": "Dismissed: no fraud.", "open": "Open again."}
    return _do(
        request,
        "resolve_fraud_warning",
        done.get(decision, ""),
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        decision=decision,
        notes=_reason(request),
    )


def note(request: Request) -> Response:
    """A line beside a warning."""
    return _do(
        request,
        "note_fraud",
        "Noted.",
        stripe_early_fraud_warning_id=request.path_params["warning_id"],
        notes=_reason(request),
    )


def refund(request: Request) -> Response:
    """The charge of a warning goes back; asked about first."""
    warning_id = request.path_params["warning_id"]
    if _reason(request) and "confirmed" not in request.state.form:
        with books(request).reading() as conn:
            charge = first(
                conn,
                "select amount - amount_refunded as amount, currency from billing.payments "
                "where stripe_charge_id = (select stripe_charge_id from billing.fraud_warnings "
                "where stripe_early_fraud_warning_id = %(id)s)",
                {"id": warning_id},
            )
        if charge is None:
            return _back(request, "bad", "Its charge is not known here. Look at it in Stripe's Dashboard.")
        amount = money(charge["amount"], charge["currency"])
        return _ask(
            request, f"Refund {amount}?", "Money that went back can't be fetched back. Its credits go with it.",
            f"Refund {amount}",
        )  # fmt: skip
    return _do(
        request,
        "refund_fraud_warning",
        "The worker asks Stripe for the refund.",
        stripe_early_fraud_warning_id=warning_id,
        reason=_reason(request),
    )


def undo(request: Request) -> Response:
    """A freeze, or what Stripe was not asked for yet."""
    return _do(request, "undo_fraud_action", "Undone.", id=request.path_params["id"], reason=_reason(request))


def review(request: Request) -> Response:
    """Held credits are given, or kept back for good."""
    decision = request.state.form.get("decision", "")
    done = {"approve": "The credits were given.", "refuse": "The credits are kept back."}
    return _do(
        request,
        "review_held_credits",
        done.get(decision, ""),
        id=request.path_params["id"],
        decision=decision,
        reason=_reason(request),
    )


def retry(request: Request) -> Response:
    """An event goes back to the queue."""
    event_id = request.path_params["event_id"]

    def call_it(conn: Any) -> str:
        [found] = call(conn, "billing.retry_stripe_event", event_id=event_id)
        status = found["retry_stripe_event"]
        return (
            "It is in the queue again." if status == "queued" else f"It is {status}, and was left as it is."
        )

    return _write(request, call_it)


def retry_all(request: Request) -> Response:
    """All dead or parked events go back to the queue, oldest first."""
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
        more = " There may be more: once again takes the next." if len(found) == RETRIES_MAX else ""
        return f"{len(found):,} event{'s are' if len(found) != 1 else ' is'} in the queue again.{more}"

    return _write(request, call_it)


def retry_notification(request: Request) -> Response:
    """A notification that could not be delivered is tried again."""

    def call_it(conn: Any) -> str:
        call(conn, "billing.retry_notification", notification_id=request.path_params["id"])
        return "It is tried again."

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
        with books(request).writing() as conn:
            done = call_it(conn)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise  # the connection was lost
        return _back(request, "bad", refusal(error))
    return _back(request, "good", done)


def _back(request: Request, mood: Any, text: str) -> Response:
    request.app.state.session.tell(Told(mood, text))
    return RedirectResponse(_origin(request), 303)


def _origin(request: Request) -> str:
    """The page that the form was on: a path of ours, never another place."""
    path = request.state.form.get("back", "")
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _ask(request: Request, question: str, consequence: str, answer: str) -> Response:
    """The same form once more, with a question."""
    fields = {name: value for name, value in request.state.form.items() if name != "csrf"}
    with books(request).reading() as conn:
        common = waiting(conn)
    return page(
        request, "confirm.jinja", title=question, consequence=consequence, answer=answer, fields=fields,
        action=request.url.path, back=_origin(request), **common,
    )  # fmt: skip
