"""A business with history on a local Stripe, a database that was just installed beside it, and the command line."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
import pytest
import stripe

from cli.main import main
from devstack.scaffold import DefaultGrants
from simulator.shop import flat
from stripe_local.world import World
from tests.databases import Databases
from tests.reconcile.business import KEY, Business
from tests.reconcile.site import Site
from tests.stripe_local.conftest import Local, _serve
from tests.support import Database, account_of, create_user
from tests.worker.conftest import drain_with_stripe, make_due
from worker.events.fetch import StripeReader
from worker.events.mend import Mender
from worker.sessions import connect
from worker.settings import Settings

CUSTOMERS = 24
SEED = 7
# A tie ends within a second of Stripe's clock.
TIE_SECONDS_MAX = 5.0
_PATHS = {
    "product": "products", "price": "prices", "subscription": "subscriptions", "invoice": "invoices",
}  # fmt: skip
PROOFS = ("ledger_discrepancies", "entitlement_discrepancies")


@dataclass
class Served(Business):
    """The business's Stripe is served over HTTP, and sends events: what happens, happens in its own thread."""

    local: Local = field(kw_only=True)

    def call(self, method: str, path: str, **parameters: Any) -> Any:
        answer = self.local.call(method, f"/v1/{path}", urlencode(list(flat(parameters))))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def control(self, act: str, identifier: str, **given: Any) -> Any:
        return self.local.control(act.format(identifier=identifier), given)


@dataclass
class Place:
    """One business: its Stripe, its database, and what a person types."""

    local: Local
    business: Business
    database: Database
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str] | None
    # Customers and objects that a damage took for itself.
    taken: set[str | int] = field(default_factory=set[str | int])
    site: Site | None = None
    key: str = KEY

    def till(self, *arguments: object) -> tuple[int, Any, str]:
        """Exit status, JSON, stderr."""
        self.monkeypatch.setattr(sys, "argv", ["till", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as exited:
            main()
        if self.capsys is None:
            return int(exited.value.code or 0), None, ""
        told = self.capsys.readouterr()
        return int(exited.value.code or 0), json.loads(told.out) if told.out else None, told.err

    def mend(self, mend: str) -> None:
        """Do what a finding names, as a person would, and let the worker apply it."""
        self.do(mend)
        self.work()

    def do(self, mend: str) -> None:
        """Do what a finding names, as a person would."""
        for command in commands_of(mend):
            words = shlex.split(command)
            if "ACCOUNT" in words:  # which only the app knows
                words[words.index("ACCOUNT")] = str(self.account_for(words[3]))
            if words[:3] == ["till", "worker", "run"]:
                self.let_work()
                continue
            status, told, error = self.till(*words[1:])
            # It says itself what to do next.
            is_look = words[1:] == ["webhook", "verify"]
            # What --apply queues is not all that was found: what follows from it is judged again.
            assert status == 0 or is_look or ("--apply" in words and told["events"]), (command, told, error)

    def account_for(self, customer: str) -> UUID:
        """The account of the user who pays as an unlinked customer."""
        with self.database.connect() as conn:
            return account_of(conn, create_user(self.database, f"{customer}@example.com"))

    def let_work(self) -> None:
        """`till worker run`: it takes over what lost its message, too."""
        if self.site is not None:
            self.site.start_worker()
            return
        with connect(Settings(self.database.url)) as worker:
            Mender().tick(worker, 0)

    def prove(self) -> None:
        """Every account, as a worker does over time."""
        while self.value("select accounts from billing.prove_accounts(100, 10000)"):
            pass

    def environment(self, name: str, value: str) -> Callable[[], None]:
        """Set a variable → what sets it back."""
        held = os.environ[name]
        self.monkeypatch.setenv(name, value)
        return lambda: self.monkeypatch.setenv(name, held)

    def doctor(self, *options: str) -> list[dict[str, str]]:
        """What `till doctor` finds."""
        assert self.site is not None
        with self.database.connect() as conn:
            if self.site.has_worker and self.site.worker is None:
                conn.execute("set application_name = 'till worker'")
            status, told, error = self.till("doctor", *options)
        assert told is not None, error
        errors = [each for each in told["findings"] if each["severity"] == "error"]
        assert status == (1 if errors else 0)
        return told["findings"]

    def findings(self, *options: object) -> list[dict[str, str]]:
        status, told, error = self.till("reconcile", *options)
        assert told is not None, error
        if "--apply" not in options:
            assert status == (1 if any(each["severity"] == "error" for each in told["findings"]) else 0)
        return told["findings"]

    def work(self) -> None:
        """A worker applies what is queued."""
        if self.site is not None and self.site.worker is not None:
            self.site.settle()
            return
        with connect(Settings(self.database.url)) as worker, self.database.connect() as app:
            reader = StripeReader(KEY, self.local.url)
            until_seconds = time.monotonic() + TIE_SECONDS_MAX
            while drain_with_stripe(worker, reader) or (
                make_due(app) and self.busy(app, is_patient=time.monotonic() < until_seconds)
            ):
                pass
        if self.capsys is not None:
            self.capsys.readouterr()  # its log

    def busy(self, app: psycopg.Connection[Any], *, is_patient: bool) -> bool:
        """Whether more attempts help. A tie ends when Stripe's clock shows a later second, after however many."""
        query = (
            "select exists (select from pgmq.q_stripe_events where read_ct < 10) "
            "or %s and exists ("
            "select from pgmq.q_stripe_events as message "
            "join billing.stripe_events as event on event.stripe_event_id = message.message ->> 'event_id' "
            "where event.status = 'queued' and event.last_error is null)"
        )
        row = app.execute(query, [is_patient]).fetchone()
        return bool(row and row[0])

    def query(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        given = parameters[0] if parameters and isinstance(parameters[0], dict) else parameters
        with self.database.connect() as conn:
            return conn.execute(query.encode(), given).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        [(value,)] = self.query(query, *parameters)
        return value

    def damage(self, statement: str, *parameters: Any) -> None:
        """As a superuser who knows no rules: no trigger sees it."""
        with self.database.connect(admin=True) as conn:
            conn.execute("set session_replication_role = replica")
            conn.execute(statement.encode(), parameters)

    @property
    def client(self) -> stripe.StripeClient:
        return stripe.StripeClient(KEY, base_addresses={"api": self.local.url})

    def receive(self, event_type: str, stored: dict[str, Any]) -> None:
        """An event of Stripe arrives, with the object as it is now."""
        body = json.loads(self.local.call("GET", f"/v1/{_PATHS[stored['object']]}/{stored['id']}").text)
        event = {"id": f"evt_{len(event_type)}{stored['id']}", "data": {"object": body}}
        self.query(
            "select billing.receive_stripe_event(%s, %s, %s, %s, false, %s)",
            event["id"], event_type, stripe.api_version, int(time.time()), json.dumps(event),
        )  # fmt: skip

    def changed(self, subscription: dict[str, Any]) -> bool:
        query = "select exists (select from billing.credit_schedules where stripe_subscription_id = %s and is_change)"
        return self.value(query, subscription["id"])

    def month_of(self, start: datetime, end: datetime, moment: datetime) -> tuple[datetime, datetime]:
        """The month of credits of a paid period that a moment is in."""
        [found] = self.query(
            "select months.from_moment, least(months.until_moment, %(end)s) from ("
            "select billing._slot(%(start)s, k) as from_moment, billing._slot(%(start)s, k + 1) as until_moment "
            "from generate_series(0, 12) as k) as months where %(moment)s >= months.from_moment "
            "and %(moment)s < months.until_moment", {"start": start, "end": end, "moment": moment},
        )  # fmt: skip
        return found[0], found[1]

    def account(self, number: int) -> Any:
        query = "select account_id from billing.customers where stripe_customer_id = %s"
        return self.value(query, self.business.customers[number])

    def subscription(self, number: int) -> dict[str, Any]:
        [found] = self.business.of("subscription", self.business.customers[number])
        return found

    def paid_invoice(self, number: int) -> dict[str, Any]:
        found = self.business.of("invoice", self.business.customers[number])
        return next(each for each in reversed(found) if each["status"] == "paid" and each["total"] > 0)

    def line_of(self, number: int) -> str:
        query = "select min(stripe_line_id) from billing.invoice_lines where stripe_invoice_id = %s"
        return self.value(query, self.paid_invoice(number)["id"])

    def newest(self, kind: str) -> str:
        """The newest object of a kind."""
        return next(iter(self.local.world.store.newest_first(kind)))["id"]

    def own(self, fits: Callable[[int], bool] | None = None) -> int:
        """The first customer that fits and that nothing else took: unless told, one who pays and changed nothing."""
        numbers = (number for number in range(len(self.business.customers)) if number not in self.taken)
        found = next(filter(fits or is_plain, numbers))
        self.taken.add(found)
        return found

    def own_object(self, kind: str) -> str:
        """An object of a kind that is in Stripe and in the database, and that nothing else took."""
        held = set(self.query("select stripe_id from billing.stripe_facts where object = %s", kind))
        objects = self.local.world.store.newest_first(kind)
        found = next(each["id"] for each in objects if (each["id"],) in held and each["id"] not in self.taken)
        self.taken.add(found)
        return found

    def charge(self) -> str:
        """The first charge of an own customer."""
        return self.business.of("charge", self.business.customers[self.own()])[0]["id"]

    def dispute(self) -> str:
        """A payer disputes that charge."""
        return self.business.control("charges/{identifier}/dispute", self.charge())["id"]

    def subscribe_again(self) -> tuple[int, dict[str, Any]]:
        """An own customer whose subscription has ended buys a plan that they did not have."""
        number = self.own(has_left)
        had = self.subscription(number)["_items"][0]
        price = self.local.world.store.get("subscription_item", had)["price"]
        plan = next(each for each in ("pro", "basic") if self.business.prices[each] != price)
        items = [{"price": self.business.prices[plan]}]
        return number, self.business.post(
            "subscriptions", customer=self.business.customers[number], items=items
        )

    def take_from_balance(self, number: int, amount: int) -> None:
        """Of a customer's account, behind the ledger's back."""
        self.damage(
            "update billing.credit_balances set balance = balance - %s where account_id = %s",
            amount,
            self.account(number),
        )

    def delete_grant(self, number: int, key: str = "") -> int:
        """A customer's last grant and its entry, as if they had never been; how many credits it was."""
        account = self.account(number)
        query = (
            "select max(id) from billing.credit_grants "
            "where account_id = %s and key_space = 'stripe' and idempotency_key ^@ %s"
        )
        grant = self.value(query, account, key)
        amount = self.value("select amount from billing.credit_grants where id = %s", grant)
        self.damage(
            "with gone as (delete from billing.credit_grants where id = %s returning entry_id) "
            "delete from billing.credit_entries using gone where credit_entries.id = gone.entry_id", grant
        )  # fmt: skip
        return amount

    def assert_sound(self) -> None:
        for proof in PROOFS:
            assert self.query(f"select * from billing.{proof}") == []
        unsettled = (
            "select type, status, last_error from billing.stripe_events "
            "where status in ('queued', 'parked', 'dead')"
        )
        assert self.query(unsettled) == []


def commands_of(mend: str) -> list[str]:
    """The commands in what a finding says is to be done, but not those that only say why."""
    found: list[str] = re.findall(r"till [a-z][^,;:]*", mend)
    return [command.strip() for command in found if " says " not in command]


def is_plain(number: int) -> bool:
    """Whether a customer of the business pays for a plan, and nothing else happened (see Business._happen)."""
    return number % 10 in (0, 2, 5, 8, 9) and number % 9 != 5


def has_left(number: int) -> bool:
    """Whether a customer's subscription has ended."""
    return number % 10 == 3


def link_all(database: Database, customers: list[str]) -> None:
    """The app's own server knows whose each customer is."""
    with database.connect() as conn:
        for customer in customers:
            account = account_of(conn, create_user(database, f"{customer}@example.com"))
            conn.execute("select billing.link_customer(%s, %s)", [account, customer])


@dataclass(frozen=True)
class KeptSessions:
    """Connects `till` in sessions that have planned the proofs before: that halves their time."""

    database: Database

    def connect(self, url: str, **options: Any) -> psycopg.Connection[Any]:
        if url != self.database.url:
            return psycopg.Connection[Any].connect(url, **options)
        connection = self.database.connect()
        connection.row_factory = options["row_factory"]
        connection.execute("select set_config('application_name', %s, false)", [options["application_name"]])
        return connection


@contextmanager
def placed(
    business: Business,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    """Serve a copy of the business's Stripe, so that what happens there stays in one test."""
    with contextmanager(_serve)(None) as local:
        local.world.store = business.world.store.copy()
        local.world.account_id = business.world.account_id
        environ = {"POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("cli.database.Connection", KeptSessions(database))
        copied = Served(local.world, SEED, list(business.customers), dict(business.prices), local=local)
        yield Place(local, copied, database, monkeypatch, capsys)


@pytest.fixture(scope="session")
def business() -> Business:
    return Business(World(SEED), SEED).live(CUSTOMERS)


@pytest.fixture
def place(
    business: Business,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    """Nothing is brought yet; every customer has an account."""
    with placed(business, database, monkeypatch, capsys) as place:
        link_all(database, business.customers)
        yield place


@pytest.fixture(scope="session")
def history(
    databases: Databases, template: Callable[[DefaultGrants], str], business: Business
) -> Iterator[str]:
    """A template: the business's history is in the database, with the rest of each paid period granted."""
    with databases.copy(template("none")) as database:
        with (
            pytest.MonkeyPatch.context() as monkeypatch,
            placed(business, database, monkeypatch, None) as place,
        ):
            link_all(database, business.customers)
            status, told, error = place.till("backfill", "--grant-current-period")
            assert status == 0, (told, error)
            place.work()
            place.prove()
            place.assert_sound()
        yield database.name


@pytest.fixture
def place_with_history(
    history: str,
    databases: Databases,
    business: Business,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    """The history is in the database."""
    with databases.copy(history) as database, placed(business, database, monkeypatch, capsys) as place:
        yield place
