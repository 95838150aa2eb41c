"""`examples.sql` → what each example prints, on a database of fixed ids and a fixed day."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from tests.reference.catalogue import Connection
from tests.sql.calls import (
    item,
    line,
    link,
    move_clock,
    record_fraud_warning,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.support import Database, as_role, as_user

FILE = Path(__file__).with_name("examples.sql")

NOON = datetime(2030, 1, 15, 12, tzinfo=UTC)
DAY, MONTH = timedelta(days=1), timedelta(days=31)
USERS = {
    name: UUID(f"10000000-0000-0000-0000-00000000000{number}")
    for number, name in enumerate(("ada", "grace"), 1)
}
ADAS_ACCOUNT, GRACES_ACCOUNT = (UUID(f"a0000000-0000-0000-0000-00000000000{number}") for number in (1, 2))


# Postgres's numeric types, which psql aligns to the right.
_NUMBERS = {20, 21, 23, 26, 700, 701, 1700}


@dataclass(frozen=True)
class Example:
    """One example and what it printed: a table, or an error."""

    function: str
    user: str | None
    fails: bool
    query: str
    output: str


def run_examples(database: Database) -> list[Example]:
    """Every example, run in order."""
    with database.connect(admin=True) as admin, database.connect(role="billing_worker") as worker:
        _prepare(admin)
        with database.connect() as conn:
            _sell(conn, worker, admin)
            return [_run(conn, *parts) for parts in _examples()]


def _examples() -> Iterator[tuple[str, str | None, bool, str]]:
    for block in FILE.read_text().split("\n\n")[1:]:
        head, query = block.split("\n", 1)
        found = re.fullmatch(r"-- (\w+)(?: as (\w+))?( fails)?", head)
        assert found, head
        yield found[1], found[2], bool(found[3]), query.strip()


def _run(conn: Connection, function: str, user: str | None, fails: bool, query: str) -> Example:
    session = as_user(conn, USERS[user]) if user else as_role(conn, "service_role")
    try:
        with session:
            output = _table(conn.execute(query.encode()))
    except psycopg.Error as error:
        if not fails:
            raise
        output = (
            f"ERROR:  {error.diag.sqlstate}: {error.diag.message_primary}\nHINT:  {error.diag.message_hint}"
        )
    else:
        assert not fails, f"the example of {function} was to be refused"
    return Example(function, user, fails, query, output)


def _table(cursor: psycopg.Cursor[Any]) -> str:
    """As psql prints it."""
    result = cursor.pgresult
    assert result is not None
    places = range(result.nfields)
    head = [(result.fname(place) or b"").decode() for place in places]
    rows = [
        [(result.get_value(row, place) or b"").decode() for place in places] for row in range(result.ntuples)
    ]
    widths = [max(len(line[place]) for line in [head, *rows]) for place in places]

    def line(values: list[str]) -> str:
        padded = [
            values[place].rjust(widths[place])
            if result.ftype(place) in _NUMBERS
            else values[place].ljust(widths[place])
            for place in places
        ]
        return f" {' | '.join(padded)}".rstrip()

    rule = "-" + "-+-".join("-" * width for width in widths) + "-"
    count = f"({len(rows)} row{'' if len(rows) == 1 else 's'})"
    return "\n".join([line(head), rule, *map(line, rows), count])


def _prepare(admin: Connection) -> None:
    """Accounts and holds get ids that are always the same, and the day is fixed."""
    admin.execute(
        """
        create sequence public.account_numbers;
        create sequence public.hold_numbers;
        grant usage on sequence public.account_numbers, public.hold_numbers to public;
        alter table billing.accounts alter column id
            set default ('a0000000-0000-0000-0000-' || lpad(nextval('public.account_numbers')::text, 12, '0'))::uuid;
        alter table billing.credit_holds alter column id
            set default ('b0000000-0000-0000-0000-' || lpad(nextval('public.hold_numbers')::text, 12, '0'))::uuid;
        """
    )
    move_clock(admin, NOON - datetime.now(UTC))
    for name, user in USERS.items():
        admin.execute("insert into auth.users (id, email) values (%s, %s)", [user, f"{name}@example.com"])


def _sell(conn: Connection, worker: Connection, admin: Connection) -> None:
    """Grace bought a plan, with a card that Ada had before and that its bank warns of."""
    admin.execute("update billing.settings set seen_card_policy = 'hold'")
    metadata = {"initial_credits": "25", "monthly_credits": "100", "features": json.dumps({"projects": True})}
    sync_product(worker, name="Pro", as_of=NOON)
    sync_price(worker, metadata=metadata, as_of=NOON)
    pack = {"stripe_price_id": "price_pack", "type": "one_time", "unit_amount": 900}
    sync_price(worker, **pack, metadata={"pack_credits": "500"}, as_of=NOON)
    link(conn, ADAS_ACCOUNT, "cus_ada")
    card = {"card_fingerprint": "fp_1", "risk_level": "elevated"}
    sync_payment(
        worker,
        stripe_customer_id="cus_ada",
        stripe_charge_id="ch_0",
        charged_at=NOON - DAY,
        as_of=NOON,
        **card,
    )
    link(conn, GRACES_ACCOUNT, "cus_1")
    period = {"current_period_start": NOON, "current_period_end": NOON + MONTH}
    sync_subscription(worker, billing_cycle_anchor=NOON, started_at=NOON, as_of=NOON, items=[item(**period)])
    sync_payment(worker, charged_at=NOON, as_of=NOON, **card)
    paid = line(period_start=NOON, period_end=NOON + MONTH)
    sync_invoice(worker, invoiced_at=NOON, paid_at=NOON, as_of=NOON, lines=[paid])
    record_fraud_warning(worker, risk_level="elevated", warned_at=NOON, as_of=NOON)
    for event in ("evt_dead", "evt_dismissed"):
        value(
            conn,
            "select billing.receive_stripe_event(%s, 'price.updated', null, 1894708800, false, '{}')",
            [event],
        )
    admin.execute("delete from pgmq.q_stripe_events")
    admin.execute(
        "update billing.stripe_events set status = 'dead', last_error = 'unknown price', settled_at = received_at"
    )
    admin.execute("update billing.notifications set status = 'dead', last_error = 'mailbox full'")
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email) "
        "values ('cus_other', false, 'guest@example.com')"
    )
