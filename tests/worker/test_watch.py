"""What breaks an installation: each is noticed by the worker that runs, or the next one, and told to administrators."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.sql.test_watch import UP_FOR_DAYS
from tests.support import Database
from tests.worker.conftest import Shop
from tests.worker.events import Event, paid
from tests.worker.inboxes import Webhook, webhook
from tests.worker.stripe_stub import StripeStub
from worker import arrivals
from worker.clock import Clock
from worker.database_metrics import FIGURES
from worker.events.outcomes import Done
from worker.run import run
from worker.settings import Settings
from worker.watch import ASK_STRIPE_SECONDS, WATCH_SECONDS, Watch

DEADLINE_SECONDS = 30
A_QUARTER = (
    "update billing.workers set stripe_key_failing_since = stripe_key_failing_since - interval '16 minutes'"
)


def told(shop: Shop) -> list[str]:
    return [kind for (kind,) in shop.app.execute("select kind from billing.notifications order by id")]


class Watched:
    """A worker's watch, and a monotonic clock that goes as fast as the test wants."""

    def __init__(self, shop: Shop, key: str | None = "sk_test_1", base: str | None = None) -> None:
        self.watch, self._shop, self._seconds = Watch(key, base), shop, 1000.0
        shop.worker.execute("select billing.start_worker()")

    def look(self) -> None:
        """Ask Stripe, wait for its answer, report it, and look at what is open."""
        self._seconds += ASK_STRIPE_SECONDS
        self._tick()
        if self.watch._asked is not None:
            self.watch._asked.exception(DEADLINE_SECONDS)
        self._seconds += WATCH_SECONDS
        self._tick()
        self._seconds += WATCH_SECONDS
        self._tick()

    def _tick(self) -> None:
        assert self.watch.tick(self._shop.worker, self._seconds) is False


@pytest.fixture
def watched(shop_with_stripe: Shop, stripe: StripeStub, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """With a Stripe whose events should have arrived at once."""
    monkeypatch.setattr(arrivals, "ARRIVAL", timedelta(seconds=-5))
    lists(stripe)
    return Watched(shop_with_stripe, base=stripe.url)


def lists(stripe: StripeStub, *events: Event) -> None:
    """What Stripe answers when it is asked for events."""
    data = [{"id": event.id, "type": event.type, "created": event.created} for event in events]
    stripe.put("events", {"object": "list", "data": data, "has_more": False})


def asked_since(stripe: StripeStub) -> datetime:
    """From which moment on Stripe was asked for events last."""
    *_, last = [urlsplit(path) for path in stripe.asked if path.startswith("/v1/events")]
    [seconds] = parse_qs(last.query)["created[gte]"]
    return datetime.fromtimestamp(int(seconds), UTC)


# Events that never arrive


def test_an_event_that_was_dropped_is_told_until_it_has_arrived(
    shop_with_stripe: Shop, stripe: StripeStub, watched: Watched
) -> None:
    arrived, dropped = paid(1), paid(2)
    shop_with_stripe.receive(arrived)
    lists(stripe, dropped, arrived)
    for _ in range(2):
        watched.look()
    assert told(shop_with_stripe) == ["events_missing"]
    payload = shop_with_stripe.value("select payload from billing.notifications")
    assert (payload["count"], payload["stripe_event_id"], payload["type"]) == (1, dropped.id, "invoice.paid")
    shop_with_stripe.receive(dropped)
    watched.look()
    assert shop_with_stripe.value("select count(*) from billing.alerts where ended_at is null") == 0


def test_an_endpoint_from_which_nothing_ever_came_is_noticed_as_well(
    shop_with_stripe: Shop, stripe: StripeStub, watched: Watched
) -> None:
    """Disabled, or with the wrong signing secret: what happened since this worker runs should have arrived."""
    shop_with_stripe.app.execute("delete from billing.stripe_events")
    lists(stripe, paid(1), paid(2))
    watched.look()
    assert told(shop_with_stripe) == ["events_missing"]
    assert abs(datetime.now(UTC) - asked_since(stripe)) < timedelta(minutes=1)


def test_events_of_a_day_and_not_of_before_the_installation_are_asked_for(
    shop_with_stripe: Shop, stripe: StripeStub, watched: Watched
) -> None:
    def since() -> datetime:
        watched.look()
        return asked_since(stripe)

    now = datetime.now(UTC)
    shop_with_stripe.app.execute("update billing.stripe_events set received_at = now() - interval '2 hours'")
    assert abs(now - timedelta(hours=2) - since()) < timedelta(minutes=1)
    shop_with_stripe.app.execute("update billing.stripe_events set received_at = now() - interval '9 days'")
    assert abs(now - timedelta(days=1) - since()) < timedelta(minutes=1)


# The key


def test_a_key_that_expired_is_told_within_half_an_hour(
    shop_with_stripe: Shop, stripe: StripeStub, watched: Watched
) -> None:
    watched.look()
    stripe.failure = 401
    with capture_logs() as logs:
        watched.look()
    assert [line["event"] for line in logs] == ["stripe_key_refused"]
    error = shop_with_stripe.value("select stripe_key_error from billing.workers")
    assert error == "Stripe does not accept STRIPE_API_KEY: it has expired or was deleted"
    shop_with_stripe.app.execute(A_QUARTER)
    for _ in range(2):
        watched.look()
    assert told(shop_with_stripe) == ["stripe_key"]
    stripe.failure = None
    shop_with_stripe.app.execute("update billing.workers set started_at = now() - interval '3 minutes'")
    watched.look()
    assert shop_with_stripe.value("select stripe_key_error from billing.workers") is None
    assert shop_with_stripe.value("select count(*) from billing.alerts where ended_at is null") == 0


def test_a_key_that_is_missing_is_told_as_well(shop: Shop) -> None:
    watched = Watched(shop, None)
    watched.look()
    shop.app.execute(A_QUARTER)
    watched.look()
    assert told(shop) == ["stripe_key"]
    assert shop.value("select payload ->> 'reason' from billing.notifications") == "STRIPE_API_KEY is not set"


@pytest.mark.parametrize("failure", [429, 500, 503])
def test_that_stripe_is_not_well_says_nothing_about_the_key(
    shop_with_stripe: Shop, stripe: StripeStub, watched: Watched, failure: int
) -> None:
    stripe.failure = failure
    with capture_logs() as logs:
        watched.look()
    assert [line["event"] for line in logs] == ["arrivals_not_checked"]
    assert shop_with_stripe.value("select stripe_key_error from billing.workers") is None


# The running proof


def paid_account(shop: Shop) -> str:
    account = shop.link()
    shop.outcome(paid())
    assert shop.balance(account) > 0
    return str(account)


DAMAGES = {
    "entry and grant deleted": "delete from billing.credit_grants; delete from billing.credit_entries",
    "the same with the balance corrected": (
        "delete from billing.credit_grants; delete from billing.credit_entries; "
        "update billing.credit_balances set balance = 0"
    ),
    "balance edited": "update billing.credit_balances set balance = balance + 1",
}


def prove(shop: Shop) -> None:
    """A round of the check: every account, and the end."""
    clock = Clock()
    for seconds in (0.0, 100.0):
        clock.tick(shop.worker, seconds)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damage_to_the_ledger_is_found_by_the_running_check_and_told(shop: Shop, damage: str) -> None:
    account = paid_account(shop)
    prove(shop)
    assert told(shop) == []
    with shop.database.connect(admin=True) as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute(damage.encode())
    for _ in range(2):
        prove(shop)
    kinds = told(shop)
    assert kinds
    assert set(kinds) <= {"ledger_discrepancy", "entitlement_discrepancy"}
    assert shop.value("select min(account_id::text) from billing.notifications") == account
    assert len(kinds) == shop.value("select count(*) from billing.found_discrepancies")


def test_a_discrepancy_that_comes_back_is_told_again(shop: Shop) -> None:
    paid_account(shop)
    with shop.database.connect(admin=True) as admin:
        admin.execute("set session_replication_role = replica")
        counts: list[int] = []
        for change in ("+ 1", "- 1", "+ 1"):
            admin.execute(f"update billing.credit_balances set balance = balance {change}".encode())
            prove(shop)
            counts.append(len(told(shop)))
    once = counts[0]
    assert once
    assert counts == [once, once, 2 * once]


# A worker that was missing; what a running one tells


@contextmanager
def running(database: Database, hook: Webhook) -> Iterator[None]:
    stop = Flag()
    thread = Thread(target=run, args=[Settings(database.url, notify_urls=(hook.url,)), stop])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


def test_the_next_worker_tells_that_none_ran_and_since_when(shop: Shop, hook: Webhook) -> None:
    """Also where there is no pg_cron to notice it meanwhile."""
    with shop.database.connect(admin=True) as admin:
        admin.execute(UP_FOR_DAYS)
    shop.app.execute("update billing.workers set last_seen_at = '2026-01-05 10:00Z'")
    with running(shop.database, hook):
        until(lambda: hook.posts)
    [body] = hook.bodies
    assert body["title"] == "A worker runs again"
    assert "No worker was seen from 5 January 2026, 10:00 UTC to" in body["message"]


def test_a_worker_that_runs_is_seen_again_and_again(
    shop: Shop, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.watch.BEAT_SECONDS", 0.05)
    shop.app.execute("update billing.workers set last_seen_at = '2026-01-05 10:00Z'")
    seen = "select max(last_seen_at) from billing.workers"
    with running(shop.database, hook):
        until(lambda: shop.value("select count(*) from billing.workers") == 2)
        first = shop.value(seen)
        until(lambda: shop.value(seen) > first)


WAITING = (
    "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, waiting_for, "
    "settled_at, created_at, received_at) values "
)
TOLD = {
    "dead": (
        f"{WAITING} ('evt_1', 'customer.updated', false, '{{}}', 'queued', null, null, null, now(), now()); "
        "update billing.stripe_events set status = 'dead', last_error = 'broken', settled_at = now() "
        "where stripe_event_id = 'evt_1'",
        "A Stripe event needs you: customer.updated",
    ),
    "parked": (
        f"{WAITING} ('evt_1', 'customer.updated', false, '{{}}', 'parked', 'no account', 'cus_9', "
        "now() - interval '2 hours', now(), now())",
        "A Stripe event has waited for more than an hour: customer.updated",
    ),
    "a payment that is parked": (
        f"{WAITING} ('evt_1', 'invoice.paid', false, '{{}}', 'parked', 'no account', 'cus_9', "
        "now() - interval '20 minutes', now(), now())",
        "A payment came in, and its credits could not be granted",
    ),
    "waiting in the queue": (
        f"{WAITING} ('evt_1', 'invoice.paid', false, '{{}}', 'queued', 'no key', null, null, now(), "
        "now() - interval '2 hours')",
        "A Stripe event has waited for more than an hour: invoice.paid",
    ),
    "undeliverable": (
        "insert into billing.notifications (audience, kind, dedupe_key, status, last_error) "
        "values ('administrators', 'test', 'k', 'dead', 'no route')",
        "1 notification could not be delivered",
    ),
}


@pytest.mark.parametrize(("damage", "title"), TOLD.values(), ids=TOLD)
def test_what_waits_for_a_person_is_told_by_a_worker_that_runs(
    shop: Shop, hook: Webhook, damage: str, title: str
) -> None:
    shop.app.execute(damage.encode())
    with running(shop.database, hook):
        until(lambda: hook.posts)
    assert [body["title"] for body in hook.bodies] == [title]


def test_every_alert_has_a_text(shop: Shop) -> None:
    kinds = (
        "events_missing",
        "notifications_undeliverable",
        "plan_without_credits",
        "stripe_key",
        "worker_back",
    )
    templates = Path(__file__).parents[2] / "worker/jobs/templates"
    assert [kind for kind in (*kinds, "worker_missing") if not (templates / f"{kind}.txt").is_file()] == []


def test_a_refusal_of_the_watch_is_logged_and_stops_nothing(shop: Shop) -> None:
    with shop.database.connect(admin=True) as admin:
        admin.execute("alter table billing.alerts rename to alerts_elsewhere")
    shop.app.execute("insert into billing.workers (pid, last_seen_at) values (1, now())")
    watch = Watch(None, None)
    with capture_logs() as logs:
        watch.begin(shop.worker, 0.0)
        watch.tick(shop.worker, 1.0)
    assert {line["event"] for line in logs} == {"watch_refused"}
    assert isinstance(shop.worker, psycopg.Connection)
    assert not shop.worker.closed


def test_a_worker_that_may_not_watch_goes_on(shop: Shop) -> None:
    """Money is applied all the same; the doctor names the right."""
    for function in ("watch()", "report_worker(text)", "receiving_since()", "count_credits()"):
        shop.app.execute(f"revoke execute on function billing.{function} from billing_worker".encode())
    with capture_logs() as logs:
        Watch("sk_test_1", None).tick(shop.worker, ASK_STRIPE_SECONDS)
        FIGURES.tick(shop.worker, float("inf"))
    assert {entry["event"] for entry in logs} == {
        "watch_refused", "sign_of_life_refused", "arrivals_not_checked", "metrics_refused",
    }  # fmt: skip
    account = shop.link()
    assert shop.outcome(paid()) == Done()
    assert shop.balance(account)
