"""`till events …`: the inbox of Stripe events and its dead letters."""

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.app import App
from cli.call import Actor, Yes, actor_or_user, say_nothing_was_done
from cli.database import connect, row, rows
from cli.event_body import without_card_digits
from cli.output import AsJson, CliError, err, out, print_fields, print_json, print_rows

app = App(
    "events",
    panel="Operate",
    help="The inbox of Stripe events: list, show, retry, dismiss.",
)


class Status(StrEnum):
    """How far an event has come."""

    QUEUED = "queued"
    APPLIED = "applied"
    IGNORED = "ignored"
    PARKED = "parked"
    DEAD = "dead"


EventId = Annotated[str, typer.Argument(help="Event id (evt_…).")]


@app.command("list")
def list_events(
    status: Annotated[Status | None, typer.Option(help="Only events of this status.")] = None,
    type: Annotated[str | None, typer.Option(help="Only events of this type, such as invoice.paid.")] = None,
    limit: Annotated[int, typer.Option(help="How many events.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List events, newest first."""
    with connect() as conn:
        found = rows(
            conn,
            "select stripe_event_id, type, status, attempts, received_at, last_error from billing.stripe_events "
            "where (%(status)s::text is null or status = %(status)s) and (%(type)s::text is null or type = %(type)s) "
            "order by received_at desc, stripe_event_id desc limit %(limit)s",
            {"status": status, "type": type, "limit": limit},
        )
    print_rows(found, as_json=as_json, empty="no such events", numbers=("attempts",))


@app.command()
def show(event_id: EventId, as_json: AsJson = False) -> None:
    """Show one event: its status, and its body, without the digits of cards."""
    with connect() as conn:
        found = conn.execute(
            "select * from billing.stripe_events where stripe_event_id = %(event_id)s", {"event_id": event_id}
        ).fetchone()
    if found is None:
        raise CliError(f"there is no event {event_id}: list what is here with `till events list`")
    payload = without_card_digits(found.pop("payload"))
    if as_json:
        print_json(found | {"payload": payload})
        return
    print_fields(found)
    out.print()
    try:
        out.print_json(payload)
    except json.JSONDecodeError:
        out.print(payload, markup=False, highlight=False)


@app.command()
def retry(
    event_ids: Annotated[list[str] | None, typer.Argument(help="Event ids (evt_…).")] = None,
    status: Annotated[
        Status | None, typer.Option(help="Every event of this status: dead, parked or ignored.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send dead, parked or ignored events to the queue again. Others stay as they are."""
    if bool(event_ids) == bool(status):
        raise typer.BadParameter("give event ids or --status, not both")
    if status in (Status.QUEUED, Status.APPLIED):
        raise typer.BadParameter(f"{status} events need no retry: choose dead, parked or ignored")
    with connect() as conn:
        wanted = event_ids or [
            found["stripe_event_id"]
            for found in rows(
                conn,
                "select stripe_event_id from billing.stripe_events where status = %(status)s order by created_at",
                {"status": status},
            )
        ]
        result = [
            {
                "stripe_event_id": event_id,
                "status": row(
                    conn,
                    "select billing.retry_stripe_event(event_id => %(event_id)s) as status",
                    {"event_id": event_id},
                )["status"],
            }
            for event_id in wanted
        ]
    print_rows(result, as_json=as_json, empty=f"no {status} events")
    if any(item["status"] == "applied" for item in result):
        err.print("applied events stay as they are", style="dim")


@app.command()
def dismiss(
    event_ids: Annotated[list[str], typer.Argument(help="Event ids (evt_…).")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the event.")] = "not ours",
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ignore dead or parked events for good. Others stay as they are.

    `till customers dismiss` does it for all events of a customer, also later ones.
    """
    with connect() as conn, conn.transaction(force_rollback=not yes):
        result = [
            {
                "stripe_event_id": event_id,
                "dry_run": not yes,
                "status": row(
                    conn,
                    "select billing.dismiss_stripe_event("
                    "event_id => %(event_id)s, reason => %(reason)s, actor => %(actor)s) as status",
                    {"event_id": event_id, "reason": reason, "actor": actor_or_user(actor)},
                )["status"],
            }
            for event_id in event_ids
        ]
    print_rows(result, as_json=as_json, empty="no events")
    if not yes:
        say_nothing_was_done()


@app.command()
def replay(
    days: Annotated[int, typer.Option(help="How far back to look.", min=1, max=30)] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch events from Stripe that never arrived, and queue them as if their webhook had. Stripe keeps 30 days.

    An event that is here already is left alone, so nothing is granted twice.
    """
    from cli.event_replay import replay as receive_all
    from cli.plans.catalogue import stripe_settings
    from cli.stripe_key import check_key, stripe_client
    from worker.arrivals import undelivered
    from worker.events.decide import DECIDERS

    settings = stripe_settings()
    now = datetime.now(UTC)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        connect() as conn,
        stripe_client(settings) as client,
        Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar,
    ):
        check_key(conn, settings)
        task = bar.add_task("reading Stripe's events", total=None)
        missing: list[dict[str, Any]] = []
        for page in undelivered(conn, client, DECIDERS, now - timedelta(days=days), now):
            missing += page
            bar.update(task, completed=len(missing))
        bar.update(task, description="queueing", total=len(missing), completed=0)
        if dry_run:
            result = [{"stripe_event_id": each["id"], "type": each["type"]} for each in missing]
        else:
            result = receive_all(conn, missing, lambda: bar.advance(task))
    print_rows(result, as_json=as_json, empty=f"no event of the last {days} days is missing")
