"""`till reconcile` and `till backfill`: Stripe's objects and the database's rows."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from cli.app import App
from cli.database import Connection, connect, row
from cli.findings import findings_json, print_findings
from cli.output import AsJson, CliError, counted, err, out, print_json, print_rows

if TYPE_CHECKING:
    from cli.reconcile.stripe_lists import StripeLists
    from worker.settings import Settings

app = App(panel="Operate")

_QUEUED = "select count(*) as events from billing.stripe_events where status = 'queued'"


@app.command()
def reconcile(
    apply: Annotated[
        bool, typer.Option("--apply", help="Queue what Stripe says, for the worker to apply.")
    ] = False,
    days: Annotated[
        int | None,
        typer.Option(help="Only what was created in the last days. Default: everything.", min=1),
    ] = None,
    from_mirror: Annotated[
        bool,
        typer.Option(
            "--from-mirror",
            help="Compare with the tables of Stripe's sync engine in schema stripe; ask Stripe only where they differ.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe with the database, and credits with payments.

    Exits 1 if something differs. Reads POSTGRES_URL and STRIPE_API_KEY, which needs only read permissions. Changes
    nothing without --apply, which queues an event for each difference: an event grants nothing twice.
    """
    from cli.reconcile.apply import apply as bring
    from cli.reconcile.compare import compare
    from cli.reconcile.kinds import KINDS
    from cli.reconcile.mirror import open_mirror
    from cli.reconcile.report import LEDGER, findings_of, of_database, of_stripe

    with connect() as conn, _stripe(conn) as stripe, _progress() as progress:
        since = None if days is None else datetime.now(UTC) - timedelta(days=days)
        mirror = open_mirror(conn, KINDS) if from_mirror else None
        differences = list(compare(conn, stripe, since, progress, mirror))
        progress("proofs", 0)
        reported = of_stripe(conn, differences)
        local = list(of_database(conn))
        queued = row(conn, _QUEUED, {})["events"]
        mendable = [each for each in reported if each.is_mendable]
        brought = bring(conn, [each.difference for each in mendable]) if apply else []
    # The ledger first: what is missing from it can be put back in its place only before more is posted.
    findings = sorted(findings_of(reported) + local, key=lambda each: each.check != LEDGER)
    of_mirror = mirror.findings if mirror else []
    if as_json:
        print_json({"findings": findings_json([*findings, *of_mirror]), "events": brought})
    else:
        _print(findings, brought, queued)
        if of_mirror:
            print_findings(of_mirror)
    if local or len(reported) > len(brought):
        raise typer.Exit(1)


@app.command()
def backfill(
    grant_current_period: Annotated[
        bool,
        typer.Option(
            "--grant-current-period",
            help="Grant what is left of the period that each subscription has paid for.",
        ),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Read all lists from their start again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the history of a business that used Stripe before.

    Products, prices, customers, subscriptions, invoices, payments, refunds and disputes. Payments of the past grant
    no credits. Ctrl-C stops it; run again, it goes on.
    """
    from cli.reconcile.backfill import backfill as bring

    with connect() as conn, _stripe(conn) as stripe, _progress() as progress:
        started = row(
            conn,
            "select * from billing.start_backfill("
            "grant_current_period => %(grant_current_period)s, restart => %(restart)s)",
            {"grant_current_period": grant_current_period, "restart": restart},
        )
        brought = bring(conn, stripe, lambda kind, objects: progress(kind.noun, objects))
    lists = [{"list": each.list, "objects": each.objects, "events_queued": each.queued} for each in brought]
    if as_json:
        print_json({**started, "lists": lists})
        return
    print_rows(lists, as_json=False, empty="", numbers=("objects", "events_queued"))
    what = "the rest of each paid period gives credits" if started["grants_current_period"] else "nothing"
    err.print(
        f"payments before {started['credits_since']:%Y-%m-%d %H:%M:%S}Z give credits: {what}. "
        "A worker applies the events; then run till reconcile.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _print(findings: list[Any], brought: list[dict[str, str | None]], queued: int) -> None:
    if not findings:
        out.print("nothing is missing: Stripe and the database say the same, and credits follow payments")
        return
    print_findings(findings)
    if queued:
        err.print(
            f"{counted(queued, 'event', 'wait')} for a worker: run this again when they are applied",
            style="dim",
        )
    if brought:
        err.print(
            f"{counted(len(brought), 'difference', 'are')} repaired when a worker has applied their events: "
            "then run till reconcile again",
            style="dim", highlight=False,
        )  # fmt: skip
    out.print(escape(counted(len(findings), "difference")), highlight=False)


@contextmanager
def _stripe(conn: Connection) -> Generator["StripeLists"]:
    """Stripe's lists, read with a key that is checked. A 404 counts, so the key's account must be known."""
    from cli.plans.catalogue import stripe_settings
    from cli.reconcile.stripe_lists import REQUESTS_PER_SECOND, StripeLists
    from cli.stripe_key import check_key, stripe_client
    from worker.account import ask, check_answer, read_installation

    settings: Settings = stripe_settings()
    with stripe_client(settings) as client:
        if not check_key(conn, settings):
            assert settings.stripe_api_key is not None
            answer = ask(settings.stripe_api_key, settings.stripe_api_base, read_installation(conn))
            if not check_answer(answer, None):
                raise CliError(
                    "the Stripe account of STRIPE_API_KEY is not known: give the key read permission on events"
                )
        # A local Stripe has no limits.
        yield StripeLists(client, None if settings.stripe_api_base else REQUESTS_PER_SECOND)


@contextmanager
def _progress() -> Generator[Any]:
    """What is read, and how much of it; Stripe's lists don't say how long they are."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        current = ""

        def advance(what: str, objects: int) -> None:
            nonlocal current
            if what != current:
                current = what
                bar.reset(task, description=f"reading: {what}", total=None)
            bar.advance(task, objects)

        yield advance
