"""`till notifications …`: what was sent, what could not be delivered and why, and a test of the channels."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.app import App
from cli.call import row_id
from cli.database import Row, call, connect, rows
from cli.output import AsJson, CliError, print_rows, time_text
from cli.tables import print_table

if TYPE_CHECKING:  # apprise takes its time to load: only who needs it waits
    from worker.jobs.channels import Channel
    from worker.jobs.compose import Message

app = App("notifications", panel="Operate", help="Sent and failed notifications, and a test of the channels.")

_LIST = """
select id, created_at, audience, kind, status, attempts, digest_size, account_id, last_error,
    case when status in ('queued', 'sending') then job.due_at end as next_attempt_at, delivered_at, payload
from billing.notifications
left join (
    select id as notification_id, min(due_at) as due_at from billing.queued_jobs()
    where kind in ('administrators_notification', 'customer_notification') group by id
) as job on job.notification_id = notifications.id::text
where (%(status)s::text is null or status = %(status)s) and (%(kind)s::text is null or kind = %(kind)s)
order by id desc limit %(limit)s
"""
_STYLES = {"dead": "red", "skipped": "dim", "digested": "dim"}


class Status(StrEnum):
    """How far a notification has come."""

    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    DIGESTED = "digested"
    SKIPPED = "skipped"
    DEAD = "dead"


@app.command("list")
def list_notifications(
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind, such as fraud_warning.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List notifications, newest first."""
    with connect() as conn:
        found = rows(conn, _LIST, {"status": status, "kind": kind, "limit": limit})
    if as_json or not found:
        print_rows(found, as_json=as_json, empty="no such notifications")
    else:
        _print(found)


@app.command()
def retry(
    notification_ids: Annotated[
        list[int] | None, typer.Argument(help="Notification ids.", parser=row_id)
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Every notification of this status: dead or skipped.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send dead or skipped notifications again, except by channels that took them."""
    if bool(notification_ids) == bool(status):
        raise typer.BadParameter("give notification ids or --status, not both")
    if status not in (None, Status.DEAD, Status.SKIPPED):
        raise typer.BadParameter(f"{status} notifications need no retry: choose dead or skipped")
    with connect() as conn:
        wanted = notification_ids or [
            row["id"]
            for row in rows(
                conn,
                "select id from billing.notifications where status = %(status)s order by id",
                {"status": status},
            )
        ]
        result: list[dict[str, Any]] = []
        for notification_id in wanted:
            [found] = call(conn, "billing.retry_notification", notification_id=notification_id)
            result.append({"id": notification_id, "status": found["retry_notification"]})
    print_rows(result, as_json=as_json, empty=f"no {status} notifications")


@app.command("test")
def send_test(
    to: Annotated[
        str | None,
        typer.Option(
            help="Write to this address by TILLBASE_CUSTOMER_MAIL_URL, as to a customer.", metavar="EMAIL"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message by every channel of TILLBASE_NOTIFY_URLS."""
    from worker.jobs.channels import administrator_channels, customer_channel
    from worker.settings import notification_settings

    urls, mail_url, templates = notification_settings(os.environ)
    if to is None:
        if not urls:
            raise CliError("TILLBASE_NOTIFY_URLS is not set: give it one or more URLs, separated by spaces")
        channels = administrator_channels(urls)
    elif mail_url is None:
        raise CliError("TILLBASE_CUSTOMER_MAIL_URL is not set: give it a mailto:// or mailtos:// URL")
    else:
        channels = [customer_channel(mail_url)]
    from worker.jobs.compose import Composer

    message = Composer(templates).compose(_sample())
    result = [_try(channel, message, to or "") for channel in channels]
    print_rows(result, as_json=as_json, empty="")
    failed = sum(row["outcome"] != "sent" for row in result)
    if failed:
        raise CliError(f"{failed} of {len(result)} channels did not take the test: see the reason of each")


def _print(found: Sequence[Row]) -> None:
    print_table(
        ("id", "created", "to", "kind", "status", "attempts", "reason"),
        (
            (
                _STYLES.get(row["status"], ""),
                (
                    str(row["id"]),
                    time_text(row["created_at"]),
                    row["audience"],
                    row["kind"],
                    row["status"]
                    if row["digest_size"] is None
                    else f"{row['status']} ({row['digest_size']:,})",
                    str(row["attempts"]),
                    row["last_error"],
                ),
            )
            for row in found
        ),
        wrapped=("reason",),
        numbers=("id", "attempts"),
    )


def _try(channel: "Channel", message: "Message", address: str) -> dict[str, str | None]:
    from worker.jobs.mail import NeverDelivered, NotDelivered

    try:
        channel.send(message, address)
    except (NeverDelivered, NotDelivered) as error:
        return {"channel": channel.name, "outcome": "failed", "reason": str(error)}
    return {"channel": channel.name, "outcome": "sent", "reason": None}


def _sample() -> Any:
    from worker.jobs.outbox import Notification

    return Notification(
        msg_id=0,
        id=0,
        audience="administrators",
        kind="test",
        account_id=None,
        payload={"note": "Nothing happened."},
        attempts=1,
        delivered_to=[],
        digest_size=None,
        first=None,
        email=None,
        created_at=datetime.now(UTC),
    )
