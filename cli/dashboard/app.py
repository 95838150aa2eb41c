"""Routes and error pages → the ASGI application."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cli.dashboard import (
    accounts,
    actions,
    customers,
    disputes,
    doctor,
    fraud,
    inbox,
    notices,
    overview,
    policy,
    search,
    subscriptions,
    worker,
)
from cli.dashboard.database import ServiceDatabase
from cli.dashboard.doctor import Checkup
from cli.dashboard.guard import Guard, is_open
from cli.dashboard.render import Renderer, page
from cli.dashboard.session import Session
from cli.database import refusal

ROUTES = [
    Route("/", overview.show),
    Route("/search", search.show),
    Route("/fraud", fraud.warnings),
    Route("/fraud/reviews", fraud.reviews),
    Route("/fraud/held", fraud.held),
    Route("/fraud/{warning_id}", fraud.show),
    Route("/disputes", disputes.listing),
    Route("/disputes/{dispute_id}", disputes.show),
    Route("/accounts", accounts.listing),
    Route("/accounts/{account_id:uuid}", accounts.show),
    Route("/customers", customers.listing),
    Route("/customers/{customer_id}", customers.show),
    Route("/subscriptions", subscriptions.show),
    Route("/inbox", inbox.events),
    Route("/inbox/{event_id}", inbox.show),
    Route("/notifications", notices.show),
    Route("/worker", worker.show),
    Route("/doctor", doctor.show),
    Route("/settings", policy.show),
    *actions.ROUTES,
    *customers.ROUTES,
    *disputes.ROUTES,
    *doctor.ROUTES,
]

log = logging.getLogger("uvicorn.error")


def create_app(
    database: ServiceDatabase,
    session: Session,
    *,
    port: int,
    actor: str,
    environment: Mapping[str, str],
) -> ASGIApp:
    """The dashboard of one browser; `actor` is recorded with decisions.

    `environment` has what is set of WORKER_METRICS_URL, STRIPE_API_KEY, STRIPE_API_BASE, WEBHOOK_URL, SUPABASE_URL and
    SUPABASE_PUBLISHABLE_KEY.
    """
    renderer = Renderer(session, actor, database.place, environment.get("STRIPE_API_BASE"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        database.open()
        yield
        database.close()

    app = Starlette(
        routes=[
            Route("/ready", _ready),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
            *ROUTES,
        ],
        exception_handlers={
            HTTPException: _lost,
            PoolTimeout: _away,
            psycopg.OperationalError: _away,
            psycopg.Error: _refused,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    app.state.database = database
    app.state.session = session
    app.state.renderer = renderer
    app.state.actor = actor
    app.state.environment = environment
    app.state.checkup = Checkup()
    return Guard(app, session, port, renderer.bare)


async def _ready(_: Request) -> Response:
    return PlainTextResponse("ready\n")


def _lost(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if is_open(request.url.path):
        return PlainTextResponse(f"{error.detail}\n", error.status_code)
    known = {
        404: (
            "Nothing is here",
            "Check the address, search for the account, or choose from the menu.",
        )
    }
    title, advice = known.get(error.status_code, (f"Refused ({error.status_code})", str(error.detail)))
    return page(request, "message.jinja", http_status=error.status_code, title=title, advice=advice)


def _away(request: Request, error: Exception) -> Response:
    if isinstance(error, psycopg.Error) and error.sqlstate and not error.sqlstate.startswith(("57P", "08")):
        return _refused(request, error)  # Postgres answers, with an error
    log.warning("Postgres is not available: %s", type(error).__name__)
    return page(
        request, "message.jinja", http_status=503, title="Postgres does not answer",
        advice="Check that it runs and that POSTGRES_URL is correct, then reload this page.",
    )  # fmt: skip


def _broken(request: Request, _: Exception) -> Response:
    # The last handler logs the traceback.
    return page(
        request, "message.jinja", http_status=500, title="Something is wrong with this page",
        advice="This is a bug. The output of `till dashboard` has the error.",
    )  # fmt: skip


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, psycopg.Error)
    if isinstance(
        error,
        psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName,
    ):
        advice = "The database has no billing schema of this version: run `supabase db push --remote`."
    elif isinstance(error, psycopg.errors.QueryCanceled):
        advice = "The query took too long. Narrow the search or the time range."
    else:
        advice = refusal(error)
    return page(request, "message.jinja", http_status=500, title="Postgres refused", advice=advice)
