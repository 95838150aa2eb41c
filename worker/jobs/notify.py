"""Notifications that are due → delivered by every channel.

A message goes out at least once. Its Message-ID and Idempotency-Key are the same each time, and a channel that took it
is not tried again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from psycopg import Connection

from worker import metrics
from worker.events.failures import backoff_seconds
from worker.jobs.channels import Channel, administrator_channels, customer_channel
from worker.jobs.compose import Composer
from worker.jobs.handler import Handler
from worker.jobs.mail import NeverDelivered, NotDelivered
from worker.jobs.outbox import Notification, Outcome, begin, record
from worker.jobs.queue import Job
from worker.settings import Settings

# With four threads, forty mails a second if the server needs 100 ms for each.
MESSAGES_MAX = 40

log = structlog.stdlib.get_logger()


class Notifier(Handler[Notification, Outcome]):
    jobs_max = MESSAGES_MAX

    def __init__(
        self,
        channels: Sequence[Channel] = (),
        customer_mail: Channel | None = None,
        templates: Path | None = None,
    ) -> None:
        self._channels = list(channels)
        self._customer_mail = customer_mail
        self._composer = Composer(templates)

    @classmethod
    def of(cls, settings: Settings) -> "Notifier":
        """With the channels that the environment names. Raises SettingsError."""
        mail_url = settings.customer_mail_url
        return cls(
            administrator_channels(settings.notify_urls),
            None if mail_url is None else customer_channel(mail_url),
            settings.templates_directory,
        )

    @property
    def kinds(self) -> list[str]:
        """The kinds of jobs with a channel; others wait for a worker that has one."""
        return [
            *(["administrators_notification"] if self._channels else []),
            *(["customer_notification"] if self._customer_mail else []),
        ]

    def begin(self, conn: Connection[Any], jobs: Sequence[Job]) -> dict[int, Notification]:
        return {notification.msg_id: notification for notification in begin(conn, jobs)}

    def do(self, job: Job, task: Notification) -> Outcome:
        try:
            return self._send(task)
        except Exception as error:  # a bug; channels that accepted the message may get it again
            log.exception("notification_failed", **self.describe(task))
            return _again(task, (), type(error).__name__)

    def record(self, conn: Connection[Any], job: Job, task: Notification, answer: Outcome) -> None:
        status = record(conn, task, answer)
        metrics.NOTIFICATIONS.labels(status or "taken_over").inc()
        told = self.describe(task) | {"outcome": status or "taken_over"}
        match status:
            case "delivered":
                log.info("notified", **told)
            case "dead":
                log.error("notification_dead", **told, reason=answer.reason)
            case _:
                log.warning("not_notified", **told, reason=answer.reason)

    def put_off(
        self, conn: Connection[Any], job: Job, task: Notification, reason: str, delay_seconds: int
    ) -> None:
        metrics.NOTIFICATIONS.labels("put_off").inc()
        record(conn, task, Outcome("queued", reason=reason, retry_in_seconds=delay_seconds))

    def describe(self, task: Notification) -> dict[str, str]:
        return {"notification_id": str(task.id), "kind": task.kind}

    def _send(self, task: Notification) -> Outcome:
        ways = self._ways(task)
        if not ways:
            return Outcome("skipped", reason="the account has no owner with an e-mail address")
        message = self._composer.compose(task)
        delivered: list[str] = []
        failed: list[str] = []
        is_over = True
        for channel in ways:
            if channel.name in task.delivered_to:
                continue
            try:
                channel.send(message, task.email or "")
                delivered.append(channel.name)
            except NeverDelivered as error:
                failed.append(f"{channel.name}: {error}")
            except NotDelivered as error:
                failed.append(f"{channel.name}: {error}")
                is_over = False
        if not failed:
            return Outcome("delivered", tuple(delivered))
        reason = "; ".join(failed)
        if is_over:
            return Outcome("dead", tuple(delivered), reason)
        return _again(task, tuple(delivered), reason)

    def _ways(self, task: Notification) -> list[Channel]:
        if task.audience == "administrators":
            return self._channels
        return [self._customer_mail] if self._customer_mail and task.email else []


def _again(task: Notification, delivered_to: tuple[str, ...], reason: str) -> Outcome:
    return Outcome("queued", delivered_to, reason, backoff_seconds(task.attempts))
