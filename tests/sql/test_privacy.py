"""One person's data is exported and erased: whole, alone, and for good. The tests walk the catalogue.

Two people live the same life, with a row in every table that can have one. Then their e-mail address is written into
every column that can hold text. A new table or column fails here until somebody has decided what an erasure does to it.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    Connection,
    available,
    call,
    discrepancies,
    fetch,
    fetch_one,
    grant,
    hold,
    item,
    line,
    link,
    lots,
    refused,
    reinstate,
    revoke,
    set_limits,
    spend,
    sync_checkout_session,
    sync_credit_note,
    sync_dispute,
    sync_invoice,
    sync_invoice_payment,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    value,
)
from tests.sql.everywhere import all_tables, found_anywhere, texts
from tests.sql.work import hold_work, per_second, settle_work
from tests.support import Database, account_of, create_user

WHO = {"reason": "asked for on 30 November", "actor": "root@example.org"}

# Tables with nothing of one person, and why.
NOT_PERSONAL = {
    "billing.credit_consumptions": "ids and numbers",
    "billing.credit_hold_lots": "ids and numbers",
    "billing.work_holds": "ids and numbers",
    "billing.operation_prices": "the catalogue",
    "billing.account_proof": "how far the check has come",
    "billing.alerts": "about the installation; payloads have ids",
    "billing.backfilled_lists": "how far the history was read",
    "billing.credit_count": "one row",
    "billing.credit_totals": "sums of all accounts",
    "billing.clock": "one row",
    "billing.credit_packs": "the catalogue",
    "billing.credit_terms": "the catalogue",
    "billing.deleted_prices": "the catalogue",
    "billing.event_pruning": "how far events are pruned",
    "billing.fraud_policies": "the policy",
    "billing.free_credits": "the catalogue",
    "billing.one_time_prices": "the catalogue",
    "billing.payment_links": "a link belongs to a price",
    "billing.payment_reference_keys": "keys",
    "billing.plans": "the catalogue",
    "billing.products": "the catalogue",
    "billing.settings": "one row",
    "billing.stripe_lookups": "ids of events, until they are applied",
    "billing.test_clocks": "Stripe's test clocks",
    "billing.workers": "sessions of workers",
}

# Columns that keep what they have, and why. All others with text are emptied.
KEPT = {
    "an id": (
        "account_id id user_id owner_id stripe_customer_id duplicate_of stripe_subscription_id stripe_charge_id "
        "stripe_subscription_item_id stripe_price_id stripe_pack_price_id stripe_product_id "
        "stripe_invoice_item_id stripe_test_clock_id stripe_invoice_id "
        "stripe_line_id credited_line_id credited_line_ids credited_invoice_id stripe_payment_intent_id "
        "stripe_invoice_payment_id stripe_checkout_session_id stripe_payment_link_id stripe_refund_id "
        "stripe_refund_ids stripe_dispute_id stripe_credit_note_id stripe_early_fraud_warning_id stripe_review_id "
        "stripe_payment_method_id stripe_line_item_id stripe_event_id reference_id waiting_for"
    ),
    "a key that makes a row unique; docs/how-to/privacy.md says to put no personal data into keys": (
        "idempotency_key release_key key_space business_key dedupe_key"
    ),
    "one of a few words of ours or of Stripe's": (
        "kind status role currency billing_reason collection_method mode payment_status risk_level failure_code "
        "failure_reason fraud_type closed_reason disarmed_reason shortfall_policy spend_cap_period action source "
        "type api_version feature invariant audience reader brand paused_reason closed_as period on_excess"
    ),
    "channels, not addresses": "delivered_to",
    "ids and numbers": "detail quantities",
    "a rule's name": "rule",
}
KEPT_IN = {
    "billing.refunds.reason": "one of Stripe's words",
    "billing.disputes.reason": "one of Stripe's words",
    "billing.credit_notes.reason": "one of Stripe's words",
    "billing.reviews.reason": "one of Stripe's words",
    "billing.recharges.reason": "a decline code",
    "billing.card_fingerprints.card_fingerprint": "part of the key; the row is deleted or kept",
    "billing.free_credit_persons.person": "a hash; the row is deleted or kept",
    "billing.team_invitations.email": "the address by which a row is found; the row is deleted",
    "billing.budgets.actor": "part of the key; the row is deleted",
    "billing.budgets.parent": "the actor of another row, which is deleted",
    "billing.budgets.path": "actors of rows that are deleted",
    "billing.erasures.reason": "the record of the erasure",
    "billing.erasures.actor": "the record of the erasure",
    "pgmq.q_stripe_events.message": "an event's id",
    "pgmq.a_stripe_events.message": "an event's id",
    "pgmq.q_stripe_events.headers": "not used",
    "pgmq.a_stripe_events.headers": "not used",
    "pgmq.q_billing_jobs.message": "a job's kind and a row's id",
    "pgmq.a_billing_jobs.message": "a job's kind and a row's id",
}
_KEPT_NAMES = {name for names in KEPT.values() for name in names.split()}


@dataclass(frozen=True)
class Life:
    """One person: `number` makes the ids of their Stripe objects."""

    number: int
    name: str
    account_id: UUID
    user_id: UUID

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def customer(self) -> str:
        return f"cus_{self.number}"

    @property
    def words(self) -> list[str]:
        """What must be found nowhere after an erasure."""
        return [self.email, f"{self.name.title()} Lovelace", f"{self.number} Main Street"]

    @property
    def marks(self) -> list[str]:
        """What a row of theirs has: one of these."""
        return [str(self.account_id), str(self.user_id), f'_{self.number}"', self.email]


def body(life: Life, kind: str, object: dict[str, Any]) -> str:
    details = {"email": life.email, "name": life.words[1], "address": {"line1": life.words[2]}}
    return json.dumps({"type": kind, "data": {"object": object | {"billing_details": details}}})


def receive(conn: Connection, life: Life, kind: str, object: dict[str, Any]) -> str:
    event_id = f"evt_{kind}_{life.number}"
    conn.execute(
        "select billing.receive_stripe_event(%s, %s, '2026-10-28.endive', 1, false, %s)",
        [event_id, kind, body(life, kind, object)],
    )
    return event_id


def settle(conn: Connection, *event_ids: str, status: str = "applied") -> None:
    """As the worker does at the end of an event."""
    count = len(event_ids)
    conn.execute(
        "select billing.settle_stripe_events(array(select msg_id from pgmq.q_stripe_events where message ->> "
        "'event_id' = any (%s)), %s, %s, %s, array_fill(null::text, array[%s]))",
        [list(event_ids), list(event_ids), [status] * count, ["no reason"] * count, count],
    )


def live(database: Database, number: int, name: str) -> Life:
    """A life with a row in every table that can have one of a person."""
    with (
        database.connect("service_role") as app,
        database.connect("billing_worker") as worker,
        database.connect(admin=True) as admin,
    ):
        user = create_user(database, f"{name}@example.com")
        life = Life(number, name, account_of(admin, user), user)
        n, account = number, life.account_id
        link(app, account, life.customer)
        call(
            worker,
            "sync_customer",
            stripe_customer_id=life.customer,
            livemode=False,
            email=life.email,
            name=life.words[1],
            is_deleted=False,
            as_of=JANUARY,
        )
        paid = {"stripe_payment_intent_id": f"pi_{n}", "stripe_charge_id": f"ch_{n}"}
        own = {"stripe_customer_id": life.customer}
        sub = {"stripe_subscription_id": f"sub_{n}"}
        items = [item(f"si_{n}")]
        # A trial first, then a paid month, then the end.
        trial = {"status": "trialing", "trial_start": JANUARY - timedelta(days=7), "trial_end": JANUARY}
        sync_subscription(worker, **own, **sub, items=items, **trial, as_of=JANUARY - timedelta(days=7))
        sync_subscription(worker, **own, **sub, items=items, metadata={"note": life.words[1]})
        sync_payment(
            worker, **own, **paid, card_fingerprint=f"card_{n}", receipt_url=f"https://pay.stripe.com/{n}"
        )
        sync_invoice(
            worker, **own, **sub, stripe_invoice_id=f"in_{n}", hosted_invoice_url=f"https://invoice.stripe.com/{n}",
            lines=[line(f"il_{n}", stripe_subscription_item_id=f"si_{n}")],
        )  # fmt: skip
        sync_invoice_payment(
            worker, stripe_invoice_payment_id=f"inpay_{n}", stripe_invoice_id=f"in_{n}",
            stripe_payment_intent_id=f"pi_{n}",
        )  # fmt: skip
        bought = {
            "stripe_line_item_id": f"li_{n}", "stripe_price_id": "price_pack", "quantity": 1, "amount_total": 900,
            "declares_credits": True,
        }  # fmt: skip
        sync_checkout_session(
            worker, **own, stripe_checkout_session_id=f"cs_{n}", mode="payment", stripe_subscription_id=None,
            stripe_invoice_id=None, stripe_payment_intent_id=f"pi_pack_{n}", amount_total=900, lines=[bought],
            client_reference_id=life.email,
        )  # fmt: skip
        sync_payment(
            worker,
            **own,
            stripe_charge_id=f"ch_pack_{n}",
            stripe_payment_intent_id=f"pi_pack_{n}",
            amount=900,
        )
        admin.execute(
            "insert into billing.payment_intents values (%s, 900) on conflict do nothing", [f"pi_{n}"]
        )
        sync_refund(worker, stripe_refund_id=f"re_{n}", **paid, amount=100)
        sync_dispute(
            worker, stripe_dispute_id=f"du_{n}", stripe_charge_id=f"ch_pack_{n}",
            stripe_payment_intent_id=f"pi_pack_{n}", amount=900, status="won",
        )  # fmt: skip
        sync_credit_note(
            worker, stripe_credit_note_id=f"cn_{n}", stripe_invoice_id=f"in_{n}", amount=100,
            lines=[{"stripe_line_id": f"il_{n}", "amount": 100}],
        )  # fmt: skip
        sync_subscription(
            worker, **own, **sub, items=items, status="canceled", ended_at=FEBRUARY, canceled_at=FEBRUARY,
            as_of=FEBRUARY,
        )  # fmt: skip
        call(
            worker, "record_saved_card", stripe_payment_method_id=f"pm_{n}", **own, livemode=False,
            card_brand="visa", card_last4="4242", card_exp_month=1, card_exp_year=2030, as_of=JANUARY,
        )  # fmt: skip
        call(worker, "record_card", **own, livemode=False, card_fingerprint=f"card_{n}", seen_at=JANUARY)
        call(
            worker, "record_fraud_warning", stripe_early_fraud_warning_id=f"issfr_{n}", **paid, **own,
            livemode=False, fraud_type="other", actionable=True, risk_level="normal", risk_score=1,
            warned_at=JANUARY, as_of=JANUARY,
        )  # fmt: skip
        admin.execute(
            "insert into billing.reviews (stripe_review_id, stripe_charge_id, account_id, livemode, is_open, reason, "
            "closed_reason, opened_at, as_of) values (%s, %s, %s, false, false, 'rule', 'approved', now(), now())",
            [f"prv_{n}", f"ch_{n}", account],
        )
        # What the app did.
        first = grant(
            app, account, 500, description=f"A gift for {life.words[1]}", metadata=Jsonb({"to": life.email})
        )
        spend(app, account, 20, description=life.words[2], metadata=Jsonb({"prompt": life.words[1]}))
        call(app, "set_budget", account_id=account, actor=f"member:{life.email}", cap=50, period="month")
        hold(app, account, 10, description=life.words[1], metadata=Jsonb({"prompt": life.email}))
        per_second(app)
        settle_work(app, hold_work(app, account, 5, description=life.words[1])["id"], 4)
        [lot] = [each for each in lots(app, account) if each["entry_id"] == first["id"]]
        taken = revoke(app, lot["id"], 5, actor=life.email)
        reinstate(app, taken["id"], 2, actor=life.email)
        call(
            app,
            "freeze_account",
            account_id=account,
            reason=f"{life.words[1]} called",
            actor="root@example.org",
        )
        call(app, "unfreeze_account", account_id=account, reason="all well", actor="root@example.org")
        call(app, "set_recharge", account_id=account, threshold=5, stripe_price_id="price_pack", is_paused=True,
             return_url="https://app.example.com/ada")  # fmt: skip
        admin.execute(
            "insert into billing.recharges (account_id, status, stripe_customer_id, stripe_price_id, credits, amount, "
            "currency, reason, claimed_at, settled_at) "
            "values (%s, 'failed', %s, 'price_pack', 500, 900, 'usd', 'declined', now(), now())",
            [account, life.customer],
        )
        set_limits(app, account, overdraft=1)
        since = value(app, "select billing.current_time()")
        spend(app, account, available(app, account) + 1)
        admin.execute(
            "insert into billing.overages (account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, "
            "stripe_pack_price_id, period_start, period_end, counted_from, counted_until, credits, quantity, amount, "
            "currency, status, reason, claimed_at, settled_at, last_error) select %s, 'sub', %s, 'price_1', "
            "'price_pack', %s, billing.current_time(), %s, billing.current_time(), 1, 1, 1, 'usd', 'failed', %s, "
            "now(), now(), %s",
            [account, life.customer, since, since, f"no customer {life.words[1]}", life.email],
        )
        grant(app, account, 1000)
        admin.execute("insert into billing.overage_periods values (%s, 'infinity')", [account])
        # What there is only in the middle of something.
        admin.execute("insert into billing.customer_claims (account_id, livemode, idempotency_key, email, name) "
                      "values (%s, false, %s, %s, %s)", [account, f"claim_{n}", life.email, life.words[1]])  # fmt: skip
        admin.execute("insert into billing.stripe_requests (account_id, idempotency_key) values (%s, %s)",
                      [account, f"click_{n}"])  # fmt: skip
        admin.execute(
            "insert into billing.checkout_requests (account_id, user_id, livemode, stripe_price_id, params, "
            "idempotency_key) values (%s, %s, false, 'price_1', '{}', %s)",
            [account, user, f"req_{n}"],
        )
        admin.execute("insert into billing.carried_credits (business_key, account_id, amount) "
                      "values (%s, %s, 1), (%s, %s, -1)", [f"a:{n}", account, f"b:{n}", account])  # fmt: skip
        admin.execute("insert into billing.found_discrepancies (account_id, invariant, detail) values (%s, 'x', 'y')",
                      [account])  # fmt: skip
        admin.execute(
            "insert into billing.held_credits (account_id, kind, amount, card_fingerprint, matched_account_id, status, "
            "reason, reviewed_by, reviewed_at, idempotency_key, source, held_at) select %s, 'initial', 1, %s, id, "
            "'refused', 'a friend', 'root@example.org', now(), %s, 'stripe.subscription', now() "
            "from billing.accounts where id <> %s limit 1",
            [account, f"card_{n}", f"initial:{n}", account],
        )
        admin.execute("insert into billing.account_members (account_id, user_id) select id, %s from billing.accounts "
                      "where kind = 'team'", [user])  # fmt: skip
        admin.execute(
            "insert into billing.team_invitations (account_id, email, role, token_hash, expires_at) "
            "select id, %s, 'member', %s, 'infinity' from billing.accounts where kind = 'team'",
            [life.email, life.email.encode()],
        )
        admin.execute("insert into billing.notifications (account_id, audience, kind, dedupe_key, payload, status, "
                      "last_error) values (%s, 'customer', 'receipt', %s, %s, 'dead', 'no such mailbox')",
                      [account, f"receipt:{n}", Jsonb({"url": f"https://pay.stripe.com/{n}"})])  # fmt: skip
        # An address that changed, and its job.
        admin.execute(
            "select billing._follow_email(%s, %s, %s)", [life.customer, life.email, f"new-{life.email}"]
        )
        received = [
            receive(app, life, "customer.updated", {"id": life.customer}),
            receive(app, life, "charge.succeeded", {"id": f"ch_{n}", "customer": life.customer}),
            receive(app, life, "charge.dispute.closed", {"id": f"du_{n}", "charge": f"ch_pack_{n}"}),
            receive(app, life, "setup_intent.created", {"id": f"seti_{n}"}),
        ]
        settle(admin, *received[:2])
        settle(admin, *received[2:], status="ignored")
    return life


def is_left_alone(table: str, column: str) -> bool:
    """Not written to by `plant`. An event's body names the person already, and is found by that."""
    name = f"{table}.{column}"
    return (
        table in NOT_PERSONAL
        or column in _KEPT_NAMES
        or name in KEPT_IN
        or name == "billing.stripe_events.payload"
    )


def plant(database: Database, life: Life, other: str) -> None:
    """Write the person's address into every text that an erasure must empty, of every row that is not the other's."""
    with database.connect(admin=True) as admin, admin.transaction():
        # No trigger, foreign key or check in the way.
        admin.execute("set local session_replication_role = replica")
        checks = "select conrelid::regclass::text, conname from pg_constraint where contype = 'c' and conrelid <> 0"
        for table, name in admin.execute(checks + " and connamespace = 'billing'::regnamespace").fetchall():
            admin.execute(
                sql.SQL("alter table {} drop constraint {}").format(
                    sql.Identifier(*table.split(".")), sql.Identifier(name)
                )
            )
        for table, column, kind in texts(admin):
            if is_left_alone(table, column):
                continue
            text = f"{life.email} {table}.{column}"
            planted: Any = Jsonb({"planted": text}) if kind in ("jsonb", "json") else text
            name = sql.Identifier(*table.split("."))
            admin.execute(
                sql.SQL(
                    "update {table} set {column} = {value} "
                    "where {column} is null or strpos({column}::text, {other}) = 0"
                ).format(
                    table=name,
                    column=sql.Identifier(column),
                    value=sql.SQL("array[{}::text]").format(planted)
                    if kind == "_text"
                    else sql.Literal(planted),
                    other=sql.Literal(other),
                )
            )


def snapshot(conn: Connection, life: Life) -> dict[str, list[str]]:
    """Every row that is a person's, by table."""
    found: dict[str, list[str]] = {}
    for table in sorted({table for table, _, _ in texts(conn)} | all_tables(conn)):
        rows = [
            row[0]
            for row in conn.execute(
                sql.SQL("select to_jsonb(t)::text from {} as t order by 1").format(
                    sql.Identifier(*table.split("."))
                )
            ).fetchall()
        ]
        found[table] = [row for row in rows if any(mark in row for mark in life.marks)]
    return found


@pytest.fixture
def catalogue(database: Database, admin: Connection) -> None:
    """A plan, a pack, and a team that has everybody as a member."""
    with database.connect("billing_worker") as worker:
        sync_product(worker)
        sync_price(worker, metadata={"monthly_credits": "100", "trial_credits": "10", "initial_credits": "5"})
        pack = {"type": "one_time", "unit_amount": 900, "metadata": {"pack_credits": "500"}}
        sync_price(worker, stripe_price_id="price_pack", **pack)
    with database.connect("service_role") as app:
        call(app, "set_free_credits", name="welcome", credits=1, every="once")
    boss = create_user(database, "boss@example.com")
    admin.execute("insert into billing.accounts (kind, name, owner_id) values ('team', 'Crew', %s)", [boss])


@pytest.fixture
def lives(database: Database, catalogue: None) -> tuple[Life, Life]:
    """Ada and Grace, who live the same life."""
    return live(database, 1, "ada"), live(database, 2, "grace")


@pytest.fixture
def planted(database: Database, catalogue: None) -> tuple[Life, Life]:
    """The two, with their addresses in every column that can hold one."""
    grace = live(database, 2, "grace")
    plant(database, grace, other="ada@example.com")
    ada = live(database, 1, "ada")
    plant(database, ada, other=grace.email)
    return ada, grace


def erase(app: Connection, life: Life, **more: Any) -> dict[str, Any]:
    return call(app, "erase_account", account_id=life.account_id, **WHO | more)


def test_every_table_has_rows_of_both(lives: tuple[Life, Life], conn: Connection) -> None:
    """Else the tests below would look at nothing."""
    for life in lives:
        empty = {table for table, found in snapshot(conn, life).items() if not found}
        assert {table for table in empty if table.startswith("billing.")} - NOT_PERSONAL.keys() == {
            "billing.erasures"
        }


def test_an_erasure_empties_every_text_of_the_person_and_nothing_of_others(
    planted: tuple[Life, Life], app: Connection, admin: Connection
) -> None:
    ada, grace = planted
    call(app, "close_account", account_id=ada.account_id, reason="left", actor="root@example.org")
    ledger = (
        "select id, account_id, kind, amount, balance_after, source, reference_id, idempotency_key, occurred_at "
        "from billing.credit_entries order by id"
    )
    assert len(found_anywhere(admin, ada.words)) > 30
    entries, others = fetch(app, ledger), snapshot(admin, grace)
    erase(app, ada)
    assert found_anywhere(admin, ada.words) == []
    assert fetch(app, ledger) == entries
    assert snapshot(admin, grace) == others
    assert discrepancies(app) == []
    assert fetch(app, "select * from billing.entitlement_discrepancies") == []


def test_an_erasure_breaks_no_rule_of_a_table(
    lives: tuple[Life, Life], app: Connection, admin: Connection
) -> None:
    ada, _ = lives
    erase(app, ada)
    assert found_anywhere(admin, ada.words) == []
    assert discrepancies(app) == []


def test_an_export_has_every_row_and_text_of_the_person_and_nothing_of_others(
    planted: tuple[Life, Life], app: Connection, admin: Connection
) -> None:
    ada, grace = planted
    rows = fetch(app, "select * from billing.export_account(%s)", [ada.account_id])
    exported = {(f"billing.{row['section']}", json.dumps(row["data"])) for row in rows}
    tables = {table for table, _ in exported}
    assert all_tables(admin) - tables - NOT_PERSONAL.keys() == {"billing.erasures"}
    text = "".join(row for _, row in exported)
    assert [word for word in grace.words if word in text] == []
    named = {
        f"{table}.{column}"
        for table, column, _ in texts(admin)
        if table.startswith("billing.") and not is_left_alone(table, column)
    }
    assert len(named) > 30
    assert {name for name in named if f"{ada.email} {name}" not in text} == set()


# What stands in the way


def in_the_way(worker: Connection, admin: Connection, account_id: UUID, what: str) -> str:
    """Something that is not over: what the refusal names."""
    if what == "subscription":
        sync_product(worker)
        sync_price(worker)
        sync_subscription(worker)
        return "subscription sub_1 is active"
    if what == "dispute":
        sync_payment(worker)
        sync_dispute(worker)
        return "dispute du_1 is open (needs_response)"
    if what == "recharge":
        [row] = fetch(
            admin,
            "insert into billing.recharges (account_id, stripe_customer_id, stripe_price_id, credits, amount, "
            "currency, claimed_at) values (%s, 'cus_1', 'price_1', 1, 1, 'usd', now()) returning id",
            [account_id],
        )
        return f"recharge {row['id']} is being paid"
    if what == "overage":
        sync_product(worker)
        sync_price(worker, stripe_price_id="price_pack", type="one_time", metadata={"pack_credits": "1"})
        [row] = fetch(
            admin,
            "insert into billing.overages (account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, "
            "stripe_pack_price_id, period_start, period_end, counted_from, counted_until, credits, quantity, amount, "
            "currency, claimed_at) select %s, 'sub', 'cus_1', 'price_1', 'price_pack', now(), now(), now(), "
            "'infinity', 1, 1, 1, 'usd', now() returning id",
            [account_id],
        )
        return f"overage {row['id']} is being billed"
    [row] = fetch(
        admin,
        "insert into billing.accounts (kind, owner_id) "
        "select 'team', owner_id from billing.accounts where id = %s returning id",
        [account_id],
    )
    return f"the person owns the team account {row['id']}"


@pytest.mark.parametrize("what", ["subscription", "dispute", "recharge", "overage", "team"])
def test_an_erasure_waits_for_what_is_not_over(
    app: Connection, worker: Connection, admin: Connection, account: UUID, what: str
) -> None:
    link(app, account)
    named = in_the_way(worker, admin, account, what)
    with refused("TB080") as error:
        call(app, "erase_account", account_id=account, **WHO)
    assert error.value.diag.message_primary == named
    assert error.value.diag.message_hint
    assert fetch(app, "select * from billing.erasures") == []
    assert value(app, "select closed_at from billing.accounts where id = %s", [account]) is None


def test_erasing_again_returns_the_first_erasure(app: Connection, account: UUID) -> None:
    first = call(app, "erase_account", account_id=account, **WHO)
    again = call(app, "erase_account", account_id=account, reason="once more", actor="other@example.org")
    assert again == first
    assert (first["reason"], first["actor"]) == (WHO["reason"], WHO["actor"])


@pytest.mark.parametrize(("reason", "actor"), [("", "root"), ("asked for", None)])
def test_an_erasure_needs_a_reason_and_an_actor(
    app: Connection, account: UUID, reason: str, actor: str | None
) -> None:
    with refused("TB028"):
        call(app, "erase_account", account_id=account, reason=reason, actor=actor)


def test_an_unknown_account_or_customer_is_refused(app: Connection, account: UUID) -> None:
    with refused("TB004"):
        call(app, "erase_account", account_id=None, **WHO)
    with refused("TB004"):
        fetch(app, "select * from billing.export_account(null)")
    with refused("TB018"):
        call(app, "erase_customer", stripe_customer_id="cus_none", **WHO)
    link(app, account)
    with refused("TB018"):
        call(app, "erase_customer", stripe_customer_id="cus_1", **WHO)
    with refused("TB018"):
        fetch(app, "select * from billing.export_customer('cus_1')")


# What goes and what stays


def test_the_account_has_no_user_and_no_team_any_more(
    database: Database, catalogue: None, app: Connection, admin: Connection
) -> None:
    ada = live(database, 1, "ada")
    assert fetch(app, "select from billing.account_members where user_id = %s", [ada.user_id]) != []
    erase(app, ada)
    row = fetch_one(app, "select owner_id, closed_at from billing.accounts where id = %s", [ada.account_id])
    assert row["owner_id"] is None
    assert row["closed_at"] is not None
    assert fetch(app, "select from billing.account_members where user_id = %s", [ada.user_id]) == []
    # The user is deleted next, and nothing of billing is in the way.
    admin.execute("delete from auth.users where id = %s", [ada.user_id])
    assert fetch(app, "select from billing.notifications where kind = 'user_deleted_while_subscribed'") == []


def test_the_person_may_come_back_with_a_new_account(
    app: Connection, admin: Connection, account: UUID
) -> None:
    user = value(app, "select owner_id from billing.accounts where id = %s", [account])
    call(app, "erase_account", account_id=account, **WHO)
    new = value(app, "select billing.ensure_account(%s)", [user])
    assert new != account
    assert grant(app, new, 5, description="Welcome back")["description"] == "Welcome back"


@pytest.mark.parametrize(("policy", "is_kept"), [("grant", False), ("hold", True), ("refuse", True)])
def test_a_card_is_remembered_only_while_cards_are_compared(
    database: Database, catalogue: None, app: Connection, admin: Connection, policy: str, is_kept: bool
) -> None:
    """So that nobody gets free credits again by being erased."""
    ada = live(database, 1, "ada")
    admin.execute("update billing.settings set seen_card_policy = %s", [policy])
    erase(app, ada)
    kept = fetch(app, "select card_fingerprint from billing.card_fingerprints")
    assert kept == ([{"card_fingerprint": "card_1"}] if is_kept else [])
    assert value(app, "select count(*) from billing.payments where card_fingerprint is not null") == 0


@pytest.mark.parametrize("is_active", [True, False])
def test_the_hash_of_an_address_stays_only_while_a_rule_asks_for_persons(
    lives: tuple[Life, Life], app: Connection, is_active: bool
) -> None:
    ada, grace = lives
    call(app, "set_free_credits", name="welcome", credits=1, every="once", active=is_active)
    erase(app, ada)
    kept = {row["account_id"] for row in fetch(app, "select account_id from billing.free_credit_persons")}
    assert (ada.account_id in kept, grace.account_id in kept) == (is_active, True)


def test_texts_of_entries_change_by_an_erasure_only(app: Connection, conn: Connection, account: UUID) -> None:
    grant(app, account, 10, description="A gift")
    emptied = "update billing.credit_entries set description = null, metadata = '{}'"
    with refused("TB015"):
        conn.execute(emptied.encode())
    call(app, "erase_account", account_id=account, **WHO)
    conn.execute(emptied.encode())
    for change in ("description = 'other'", "metadata = '{\"a\": 1}'", "actor = 'other'"):
        with refused("TB015"):
            conn.execute(f"update billing.credit_entries set {change}".encode())


def test_open_notifications_about_the_person_are_not_sent(
    app: Connection, admin: Connection, account: UUID
) -> None:
    for audience in ("customer", "administrators"):
        admin.execute(
            "insert into billing.notifications (account_id, audience, kind, dedupe_key, payload) "
            "values (%s, %s, 'receipt', %s, '{\"url\": \"https://example.com\"}')",
            [account, audience, audience],
        )
    call(app, "erase_account", account_id=account, **WHO)
    assert (
        fetch(app, "select status, payload, last_error from billing.notifications")
        == [{"status": "skipped", "payload": {}, "last_error": "erased"}] * 2
    )
    assert fetch(app, "select * from billing.queued_jobs()") == []
    assert discrepancies(app) == []


# Whose an event is


def bodies(conn: Connection) -> set[str]:
    """The events that have one."""
    return {
        row["stripe_event_id"]
        for row in fetch(conn, "select stripe_event_id from billing.stripe_events where payload <> ''")
    }


def exported_events(app: Connection, account_id: UUID) -> set[str]:
    query = "select data ->> 'stripe_event_id' as id from billing.export_account(%s) where section = 'stripe_events'"
    return {row["id"] for row in fetch(app, query, [account_id])}


def purchase(database: Database, user: UUID, email: str, *, customer: str | None) -> str:
    """An event of a checkout in which this address was typed, applied."""
    life = Life(int(user) % 1000, email.partition("@")[0], user, user)
    with database.connect("service_role") as app, database.connect(admin=True) as admin:
        event_id = receive(app, life, "checkout.session.completed", {"id": "cs_1", "customer": customer})
        settle(admin, event_id)
    return event_id


def test_an_erased_team_leaves_its_owner_alone(
    database: Database, catalogue: None, app: Connection, admin: Connection
) -> None:
    """Their own purchases, and invitations to other teams."""
    boss = value(admin, "select id from auth.users where email = 'boss@example.com'")
    crew = value(app, "select id from billing.accounts where kind = 'team'")
    own = purchase(database, boss, "boss@example.com", customer="cus_of_boss")
    other = call(app, "create_team", name="Other", owner_id=create_user(database))
    call(app, "invite_member", account_id=other["id"], email="boss@example.com")
    assert exported_events(app, crew) == set()
    assert call(app, "erase_account", account_id=crew, **WHO)["events_emptied"] == 0
    assert bodies(admin) == {own}
    assert len(fetch(app, "select * from public.team_invitations")) == 1


@pytest.mark.parametrize("customer", ["cus_of_grace", None])
def test_who_types_the_address_of_another_gets_and_erases_nothing_of_theirs(
    database: Database,
    worker: Connection,
    app: Connection,
    admin: Connection,
    account: UUID,
    customer: str | None,
) -> None:
    grace = create_user(database, "grace@example.com")
    theirs = purchase(database, grace, "grace@example.com", customer=customer)
    link(app, account)
    sync_customer = {"livemode": False, "name": "M", "is_deleted": False, "as_of": JANUARY}
    call(worker, "sync_customer", stripe_customer_id="cus_1", email="grace@example.com", **sync_customer)
    assert exported_events(app, account) == set()
    call(app, "erase_account", account_id=account, **WHO)
    assert bodies(admin) == {theirs}


def test_an_address_that_was_not_confirmed_is_of_nobody(
    database: Database, app: Connection, admin: Connection
) -> None:
    grace = create_user(database, "grace@example.com")
    theirs = purchase(database, grace, "grace@example.com", customer=None)
    account_id = account_of(admin, grace)
    assert exported_events(app, account_id) == {theirs}
    admin.execute("update auth.users set email_confirmed_at = null where id = %s", [grace])
    assert exported_events(app, account_id) == set()
