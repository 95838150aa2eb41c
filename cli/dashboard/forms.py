"""What every form has in common: a reason, one write, a question before what cannot be undone, and the way back."""

from collections.abc import Callable
from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cli.dashboard.render import database, page, waiting
from cli.dashboard.session import Flash
from cli.database import Connection, call, refusal


def reason(request: Request) -> str:
    """Why, as typed."""
    return request.state.form.get("reason", "")


def is_confirmed(request: Request) -> bool:
    """Whether the form comes from the page that asked."""
    return "confirmed" in request.state.form


def do(request: Request, function: str, done: str, **arguments: Any) -> Response:
    """One call of a function of `billing`, by the actor of this dashboard."""

    def call_it(conn: Connection) -> str:
        call(conn, f"billing.{function}", **arguments, actor=request.app.state.actor)
        return done

    return write(request, call_it)


def write(request: Request, call_it: Callable[[Connection], str]) -> Response:
    """One transaction, and the page of the form with what was done, or why not."""
    try:
        with database(request).writing() as conn:
            done = call_it(conn)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise  # the connection was lost
        return back(request, "bad", refusal(error))
    return back(request, "good", done)


def back(request: Request, mood: Any, text: str) -> Response:
    """The page of the form, with a message."""
    request.app.state.session.flash(Flash(mood, text))
    return RedirectResponse(origin(request), 303)


def origin(request: Request) -> str:
    """The page of the form: a path of the dashboard, never another address."""
    path = request.state.form.get("back", "")
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def ask(
    request: Request, question: str, *, facts: list[tuple[str, str]], consequence: str, answer: str
) -> Response:
    """The same form again, with a question; `facts` name the account, its balance, and what becomes of it."""
    fields = {name: value for name, value in request.state.form.items() if name != "csrf"}
    with database(request).reading() as conn:
        common = waiting(conn)
    return page(
        request, "confirm.jinja", title=question, facts=facts, consequence=consequence, answer=answer, fields=fields,
        action=request.url.path, back=origin(request), **common,
    )  # fmt: skip
