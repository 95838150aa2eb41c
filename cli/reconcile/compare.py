"""Stripe and the database → the objects on which they differ.

A list takes minutes, and events arrive meanwhile. So a row that looks different is compared once more, after the object
was read from Stripe again, and it counts only if the row is not newer than that answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString, cast

from cli.database import Connection, Row, row, rows
from cli.reconcile.kinds import KINDS, Differing, Kind, differing
from cli.reconcile.mirror import SUSPECTS_MAX, Mirror, Table
from cli.reconcile.mirror import known as known_of
from cli.reconcile.mirror import suspects as suspects_of
from cli.reconcile.own_events import Body, understood
from cli.reconcile.stripe_lists import Page, StripeLists

Problem = Literal["missing", "differs", "deleted", "unknown"]

# A row from further in the future than clocks differ was not written by an event.
_SKEW = timedelta(minutes=1)

_HELD: LiteralString = """
    select stripe_id, nullif(as_of, '-infinity') as as_of, facts from billing.stripe_facts
    where object = %(object)s and stripe_id = any (%(ids)s)
"""
_EXPECTED: LiteralString = """
    select stripe_id from billing.stripe_facts
    where object = %(object)s and is_expected and coalesce(livemode = billing.is_livemode(), true)
"""
_OF_DELETED_CUSTOMER: LiteralString = """
    select exists (
        select from billing.customers where customers.deleted_at is not null and customers.stripe_customer_id in (
            select stripe_customer_id from billing.subscriptions where stripe_subscription_id = %(id)s
            union all select stripe_customer_id from billing.invoices where stripe_invoice_id = %(id)s
            union all select stripe_customer_id from billing.payments where stripe_charge_id = %(id)s
        )
    ) as it
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One object. `unknown`: a row of which Stripe has no object. `facts`: (here, in Stripe), by name.

    `read_at` is the database's time before Stripe was read; `body` and `as_of` are Stripe's answer.
    """

    kind: Kind
    stripe_id: str
    problem: Problem
    facts: Mapping[str, tuple[Any, Any]]
    read_at: datetime
    body: Body | None = None
    as_of: datetime | None = None
    held_as_of: datetime | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether no event can bring Stripe's state, because the row is newer or has what no event changes."""
        if self.held_as_of is not None and self.as_of is not None and self.as_of <= self.held_as_of:
            return True
        return self.problem == "differs" and not self.kind.final.isdisjoint(self.facts)

    @property
    def status(self) -> str | None:
        """Stripe's, if the row says another one and nothing else that no event changes."""
        return self.facts["status"][1] if set(self.kind.final & self.facts.keys()) == {"status"} else None

    @property
    def edited_lines(self) -> list[str]:
        """Lines of an invoice that say something else here."""
        if self.kind.name != "invoice" or "lines" not in self.facts:
            return []
        lines: tuple[dict[str, Any] | None, dict[str, Any]] = self.facts["lines"]
        here = lines[0] or {}
        return sorted(line for line in here if here[line] != lines[1].get(line))


def compare(
    conn: Connection,
    stripe: StripeLists,
    since: datetime | None,
    on_page: Callable[[str, int], None],
    mirror: Mirror | None = None,
) -> Iterator[Difference]:
    """`since`: only objects that were created since then. Kinds that `mirror` has are read there. Raises CliError."""
    credits_since = row(conn, "select credits_since from billing.settings", {})["credits_since"]
    for kind in KINDS:
        since_when = credits_since - kind.open_for if credits_since and kind.is_recent_only else None
        bounds = [moment for moment in (since, since_when) if moment]
        reading = _Reading(
            conn, stripe, kind, max(bounds, default=None), since is None, on_page, credits_since
        )
        on_page(kind.noun, 0)
        found = None if mirror is None else _of_mirror(reading, mirror)
        yield from _of_lists(reading) if found is None else found


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read of a kind. `is_whole`: also rows are looked at of which Stripe's list has no object."""

    conn: Connection
    stripe: StripeLists
    kind: Kind
    since: datetime | None
    is_whole: bool
    on_page: Callable[[str, int], None]
    credits_since: datetime | None

    def pages(self) -> Iterator[Page]:
        created = {} if self.since is None else {"created": {"gte": int(self.since.timestamp())}}
        for page in self.stripe.pages(self.kind.path, {**self.kind.params, **created}):
            self.on_page(self.kind.noun, len(page.bodies))
            bodies = [_as_in_events(body) for body in page.bodies if not self._is_of_the_past(body)]
            yield Page(bodies, page.as_of, page.is_last)

    def _is_of_the_past(self, body: Body) -> bool:
        """Whether it was opened and paid before payments gave credits, where a list shows what was opened before."""
        if not self.kind.open_for or self.credits_since is None:
            return False
        first = self.credits_since.timestamp()
        intent: Any = body.get("payment_intent")
        if not isinstance(intent, dict):
            return body["created"] < first
        charge: Any = cast("Body", intent).get("latest_charge")
        paid_at: int = cast("Body", charge)["created"] if isinstance(charge, dict) else body["created"]
        return max(body["created"], paid_at) < first


def _as_in_events(body: Body) -> Body:
    """The object with the id of a payment that was expanded."""
    intent: Any = body.get("payment_intent")
    return {**body, "payment_intent": cast("Body", intent)["id"]} if isinstance(intent, dict) else body


def _of_lists(reading: _Reading) -> Iterator[Difference]:
    conn, kind = reading.conn, reading.kind
    listed: set[str] = set()
    for page in reading.pages():
        listed.update(body["id"] for body in page.bodies)
        yield from _of_page(conn, reading.stripe, kind, page.bodies, page.as_of)
    if reading.is_whole:
        for held in rows(conn, _EXPECTED, {"object": kind.name}):
            if held["stripe_id"] not in listed:
                yield from _confirmed(conn, reading.stripe, kind, held["stripe_id"])


def _of_mirror(reading: _Reading, mirror: Mirror) -> Iterator[Difference] | None:
    """The newest objects by Stripe's list, the others by the mirror; None where it can't be used for them."""
    conn, kind = reading.conn, reading.kind
    table = mirror.tables.get(kind.name)
    if table is None:
        return None
    suspects = suspects_of(conn, table, reading.since, is_whole=reading.is_whole)
    if len(suspects) > SUSPECTS_MAX:
        mirror.tell(kind, f"more than {SUSPECTS_MAX} seem to differ, so Stripe's list was read")
        return None
    return _confirmed_of_mirror(reading, mirror, table, suspects)


def _confirmed_of_mirror(
    reading: _Reading, mirror: Mirror, table: Table, suspects: Sequence[str]
) -> Iterator[Difference]:
    conn, stripe, kind = reading.conn, reading.stripe, reading.kind
    listed: set[str] = set()
    known: set[str] = set()
    for page in reading.pages():
        yield from _of_page(conn, stripe, kind, page.bodies, page.as_of)
        ids = [body["id"] for body in page.bodies]
        listed.update(ids)
        known = known_of(conn, table, ids)
        if known:  # what is older can be compared with the mirror
            break
    if lacking := len(listed - known):
        mirror.tell(
            kind, f"the mirror lacks {lacking:,} of the newest, which were compared with Stripe's list"
        )
    behind: list[str] = []
    for stripe_id in suspects:
        if stripe_id in listed:
            continue
        confirmed = list(_confirmed(conn, stripe, kind, stripe_id))
        yield from confirmed
        if not confirmed:
            behind.append(stripe_id)
    if behind:
        mirror.tell(kind, f"the mirror has {len(behind):,} not as Stripe has them, such as {behind[0]}")


def _of_page(
    conn: Connection, stripe: StripeLists, kind: Kind, bodies: Sequence[Body], as_of: datetime
) -> Iterator[Difference]:
    read_at = _now(conn)
    held = _held(conn, kind, [body["id"] for body in bodies])
    for body in bodies:
        problem = _problem(kind, body, held.get(body["id"]))
        if problem is None:
            continue
        if problem[0] == "differs":
            yield from _confirmed(conn, stripe, kind, body["id"])
        else:  # an event that arrives meanwhile is the newer one
            yield Difference(kind, body["id"], problem[0], {}, read_at, body, as_of)


def _problem(kind: Kind, body: Body, held: Row | None) -> tuple[Problem, Differing] | None:
    found = understood(body)
    if held is None:
        return ("missing", {}) if kind.is_needed(found) else None
    differs = differing(kind, held["facts"], kind.facts(found))
    return ("differs", differs) if differs else None


def _confirmed(conn: Connection, stripe: StripeLists, kind: Kind, stripe_id: str) -> Iterator[Difference]:
    read_at = _now(conn)
    expanded = {"expand": ["line_items"]} if kind.name == "checkout.session" else {}
    answer = stripe.read(kind.path, stripe_id, expanded)
    held = _held(conn, kind, [stripe_id]).get(stripe_id)
    if answer is None or (answer.body.get("deleted") and kind.name != "customer"):
        # A test clock that is deleted takes its customers, and all that is theirs, with it.
        if held is not None and not row(conn, _OF_DELETED_CUSTOMER, {"id": stripe_id})["it"]:
            yield Difference(kind, stripe_id, "unknown", {}, read_at)
        return
    body, as_of = answer.body, answer.as_of
    held_as_of: datetime | None = held["as_of"] if held else None
    if held_as_of is not None and as_of < held_as_of <= read_at + _SKEW:
        return
    problem = _problem(kind, body, held)
    if problem is not None:
        name: Problem = "deleted" if body.get("deleted") else problem[0]
        yield Difference(kind, stripe_id, name, problem[1], read_at, body, as_of, held_as_of)


def _now(conn: Connection) -> datetime:
    return row(conn, "select clock_timestamp() as now", {})["now"]


def _held(conn: Connection, kind: Kind, stripe_ids: Sequence[str]) -> dict[str, Row]:
    found = rows(conn, _HELD, {"object": kind.name, "ids": list(stripe_ids)})
    return {each["stripe_id"]: each for each in found}
