"""What `till doctor` checks → a page: the database at once, and when asked, in a thread, all that takes longer."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cli.dashboard.render import database, page, waiting
from cli.database import connect
from cli.doctor.checks import endpoint_url, of_data_api, of_database, of_security, of_stripe
from cli.doctor.files import files
from cli.findings import Finding, Result, Skipped, finding_of
from worker.errors import BillingError
from worker.settings import Settings

log = logging.getLogger("uvicorn.error")

Check = tuple[str, Callable[[], Iterable[Result]]]


@dataclass(slots=True)
class Checkup:
    """The results of what is not in the database, by name; one thread at a time looks."""

    results: dict[str, list[Result]] = field(default_factory=dict[str, list[Result]])
    started_at: datetime | None = None
    checked_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_running(self) -> bool:
        """Whether a thread is looking now."""
        return self._lock.locked()

    def start(self, checks: Callable[[], Iterator[Check]]) -> None:
        """Look, unless a thread does already."""
        if self._lock.acquire(blocking=False):
            self.started_at, self.results = datetime.now(UTC), {}
            # Stripe may take its time: neither a page nor Ctrl-C waits for it.
            threading.Thread(target=self._run, args=(checks,), daemon=True).start()

    def _run(self, checks: Callable[[], Iterator[Check]]) -> None:
        name = "connection"
        try:
            for name, check in checks():
                self.results[name] = list(check())
        except BillingError as error:
            self.results["connection"] = [finding_of("connection", error)]
        except Exception as error:
            # Else the page would show what was checked before, and that nothing is wrong.
            log.exception("a check of the doctor broke")
            broke = Finding(
                "doctor", f"{name} could not be checked ({type(error).__name__})", "run `till doctor`"
            )
            self.results[name] = [broke]
        finally:
            self.checked_at = datetime.now(UTC)
            self._lock.release()


def show(request: Request) -> Response:
    """The page."""
    checkup: Checkup = request.app.state.checkup
    with database(request).reading() as conn:
        common = waiting(conn)
    with database(request).reading_as_owner() as conn:
        inside = [_shown(name, list(check())) for name, check in of_database(conn)]
    elsewhere = [_shown(name, results) for name, results in list(checkup.results.items())]
    findings = [each for _, _, found, _ in [*inside, *elsewhere] for each in found]
    return page(
        request, "doctor.jinja", inside=inside, elsewhere=elsewhere, checkup=checkup, clock=datetime.now(UTC),
        findings=sorted(findings, key=lambda each: each.severity), **common,
    )  # fmt: skip


def run(request: Request) -> Response:
    """Check Stripe, the project's files and the Data API now."""
    checkup: Checkup = request.app.state.checkup
    environment: Mapping[str, str] = request.app.state.environment
    url = database(request).url
    checkup.start(lambda: _elsewhere(environment, url))
    return RedirectResponse("/doctor", 303)


ROUTES = [Route("/doctor/check", run, methods=["POST"])]


def _elsewhere(environment: Mapping[str, str], url: str) -> Iterator[Check]:
    """As `till doctor` does, with the settings of this dashboard."""
    yield "project files", lambda: files(Path())
    settings = Settings.from_env({**environment, "POSTGRES_URL": url})
    with connect(url) as conn:
        yield from of_security(conn)
        yield from of_stripe(conn, settings, environment.get("WEBHOOK_URL") or endpoint_url(Path()))
    api_url, key = environment.get("SUPABASE_URL"), environment.get("SUPABASE_PUBLISHABLE_KEY")
    yield "Data API", lambda: of_data_api(api_url, key)


def _shown(name: str, results: list[Result]) -> tuple[str, str, list[Finding], str | None]:
    """A check's name, its state, what it found, and why it was skipped."""
    findings = [each for each in results if isinstance(each, Finding)]
    skipped = next((each.why for each in results if isinstance(each, Skipped)), None)
    severities = {each.severity for each in findings}
    state = (
        "error" if "error" in severities
        else "warning" if severities
        else "skipped" if skipped
        else "good"
    )  # fmt: skip
    return name, state, findings, skipped
