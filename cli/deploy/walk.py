"""A project's directory → each step of going live, in order, with what it lacks. Nothing is changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cli.adopt.project import Project, functions_url
from cli.adopt.shipped import shipped
from cli.database import Connection, connect, setting
from cli.deploy import database, functions
from cli.deploy import project as on_disk
from cli.doctor import database as health
from cli.doctor.checks import environment, of_stripe
from cli.findings import Finding, Result, Skipped, finding_of
from cli.output import CliError
from worker.errors import BillingError
from worker.settings import Settings

_NO_DATABASE = "after the database and its migrations"
_NO_LINK = "after the link"
_NO_KEY = "after the mode and its key"
_BACKUPS = "supabase backups list: a ledger needs point-in-time recovery, an add-on of the hosted project"


def walk(
    directory: Path, url: str | None, *, livemode: bool, progress: Callable[[str], None]
) -> Mapping[str, Sequence[Result]]:
    """`url`: where the edge functions are; that of the linked project, or else of the local stack, if None."""
    with ExitStack() as stack:
        return _Walk(stack, progress).take_all(directory, url, livemode=livemode)


class _Walk:
    """The results so far. A step that depends on one that is not done says after which it comes."""

    def __init__(self, stack: ExitStack, progress: Callable[[str], None]) -> None:
        self._stack = stack
        self._progress = progress
        self._results: dict[str, list[Result]] = {}

    def take_all(self, directory: Path, url: str | None, *, livemode: bool) -> Mapping[str, Sequence[Result]]:
        """All steps, in the order in which they are done."""
        project, found = on_disk.open_project(directory)
        self._take("project", lambda: found)
        self._take("link", lambda: on_disk.link(project, url))
        conn, settings, trouble = self._connect()
        self._take(
            "database", lambda: trouble if conn is None else self._server(conn, settings, project, url)
        )
        self._in_database("migrations", conn, lambda conn: database.migrations(conn, project))
        migrated = conn if self._is_done("migrations") else None
        base = _functions_url(project, url)
        prefix = "" if project is None else project.functions_prefix()
        names = shipped(prefix).config_blocks
        answers: Mapping[str, functions.Answer] = functions.ask(base, names) if base else {}
        self._take(
            "functions", lambda: functions.deployed(answers) if base else [Skipped("functions", _NO_LINK)]
        )
        self._in_database("mode", migrated, lambda conn: database.mode(conn, settings, livemode=livemode))
        self._take_stripe(migrated, settings, base and f"{base}/{prefix}{functions.RECEIVER}")
        is_hosted = url is None and self._is_done("link")
        self._take("secrets", lambda: functions.secrets(answers, directory, is_hosted=is_hosted))
        self._in_database("plans", migrated, database.plans)
        self._in_database("redirects", migrated, database.redirects)
        site_url = None if migrated is None else database.site_url(migrated)
        self._take("auth", lambda: on_disk.auth(project, site_url))
        self._in_database("worker", migrated, health.queue)
        self._take("backups", lambda: [Skipped("backups", _BACKUPS)])
        return self._results

    def _connect(self) -> tuple[Connection | None, Settings, list[Result]]:
        try:
            settings = environment()
            return self._stack.enter_context(connect()), settings, []
        except BillingError as error:
            return None, Settings(""), [finding_of("database", error)]

    def _server(
        self, conn: Connection, settings: Settings, project: Project | None, url: str | None
    ) -> Iterator[Result]:
        if url is None:
            yield from database.address(settings, project)
        yield from health.run(conn, health.server)

    def _take_stripe(self, conn: Connection | None, settings: Settings, webhook_url: str | None) -> None:
        if conn is None or settings.stripe_api_key is None or not self._is_done("mode"):
            self._take("Stripe", lambda: [Skipped("stripe", _NO_KEY)])
            return
        for name, check in of_stripe(conn, settings, webhook_url):
            self._take(name, check)

    def _in_database(self, name: str, conn: Connection | None, check: health.Check) -> None:
        self._take(name, lambda: [Skipped(name, _NO_DATABASE)] if conn is None else health.run(conn, check))

    def _take(self, name: str, check: Callable[[], Iterable[Result]]) -> None:
        self._progress(name)
        # What Stripe did not answer is not known to be in order.
        self._results[name] = [
            replace(each, severity="error") if isinstance(each, Finding) and each.check == "stripe" else each
            for each in check()
        ]

    def _is_done(self, name: str) -> bool:
        results = self._results[name]
        return not any(isinstance(each, Finding) and each.severity == "error" for each in results)


def _functions_url(project: Project | None, url: str | None) -> str | None:
    """As given, or of the linked project, or else of the local stack that runs in this directory."""
    found = url or (None if project is None else functions_url(project))
    if found is None:
        try:
            found = setting("FUNCTIONS_URL")
        except CliError:
            return None
    return found.rstrip("/")
