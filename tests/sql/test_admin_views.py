"""Views for administrators: one definition of what is open, waits and belongs to whom, and the indexes behind it."""

from uuid import UUID

import pytest

from tests.security.test_plans_of_queries import plan_nodes
from tests.sql.calls import (
    JANUARY,
    Connection,
    fetch,
    fetch_one,
    item,
    link,
    record_fraud_warning,
    sync_dispute,
    sync_payment,
    sync_price,
    sync_refund,
    sync_subscription,
    value,
)
from tests.support import Database, account_of, create_user

KINDS = (
    "open_warnings", "disputes_to_answer", "open_reviews", "credits_under_review", "dead_events", "parked_events",
    "waiting_events", "dead_notifications", "discrepancies", "paused_recharges", "frozen_accounts",
    "unlinked_customers",
)  # fmt: skip


def email_of(conn: Connection, account: UUID) -> str:
    return value(conn, "select billing.owner_email(%s)", [account])


@pytest.mark.parametrize(
    ("status", "is_open", "needs_response"),
    [
        ("warning_needs_response", True, True),
        ("warning_under_review", True, False),
        ("warning_closed", False, False),
        ("prevented", False, False),
        ("needs_response", True, True),
        ("under_review", True, False),
        ("appeal_needs_response", True, True),
        ("appeal_under_review", True, False),
        ("won", False, False),
        ("lost", False, False),
    ],
)
def test_a_dispute_is_open_until_it_is_decided_and_counted_while_stripe_waits_for_an_answer(
    app: Connection, worker: Connection, account: UUID, status: str, is_open: bool, needs_response: bool
) -> None:
    link(app, account, "cus_1")
    sync_payment(worker)
    sync_dispute(worker, status=status)
    found = fetch_one(app, "select * from billing.admin_disputes")
    assert (found["is_open"], found["needs_response"]) == (is_open, needs_response)
    assert (found["account_id"], found["email"]) == (account, email_of(app, account))
    assert value(app, "select disputes_to_answer from billing.admin_attention") == needs_response


def test_each_kind_that_waits_for_a_person_is_counted_once(
    app: Connection, worker: Connection, admin: Connection, account: UUID
) -> None:
    assert set(fetch_one(app, "select * from billing.admin_attention").items()) == {
        (kind, 0) for kind in KINDS
    }
    link(app, account, "cus_1")
    sync_payment(worker)
    sync_dispute(worker)
    record_fraud_warning(worker)
    sync_price(worker)
    admin.execute("set session_replication_role = replica")  # rows by themselves, without what leads to them
    admin.execute(
        "insert into billing.held_credits (account_id, matched_account_id, kind, amount, card_fingerprint, "
        "idempotency_key, source, held_at) values (%s, gen_random_uuid(), 'initial', 5, 'f', 'k', 'test', now())",
        [account],
    )
    admin.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, last_error, created_at, "
        "settled_at) select 'evt_' || status, 'invoice.paid', false, '{}', status, 'why', now(), now() "
        "from unnest(array['dead', 'parked', 'applied', 'ignored']) as status"
    )
    admin.execute(
        "insert into billing.stripe_lookups (stripe_event_id, msg_id, attempts) values ('evt_a', 1, 4), ('evt_b', 2, 3)"
    )
    admin.execute(
        "insert into billing.reviews (stripe_review_id, livemode, is_open, reason, opened_at, as_of) "
        "values ('prv_1', false, true, 'rule', now(), now()), ('prv_2', false, false, 'rule', now(), now())"
    )
    admin.execute(
        "insert into billing.found_discrepancies (account_id, invariant, detail) values (%s, 'test', 'why')",
        [account],
    )
    admin.execute(
        "insert into billing.notifications (audience, kind, dedupe_key, status, last_error) "
        "values ('administrators', 'test', 'one', 'dead', 'why'), "
        "('administrators', 'test', 'two', 'skipped', 'why')"
    )
    admin.execute(
        "insert into billing.recharge_settings (account_id, threshold, stripe_price_id, is_paused, paused_reason, "
        "paused_at) values (%s, 5, 'price_1', true, 'declined', now()), "
        "(gen_random_uuid(), 5, 'price_1', false, null, null)",
        [account],
    )
    admin.execute(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'why' where id = %s", [account]
    )
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode) values ('cus_2', false), ('cus_3', false)"
    )
    admin.execute(
        "update billing.customers set dismissed_at = now(), dismissed_reason = 'why', dismissed_by = 'grace' "
        "where stripe_customer_id = 'cus_3'"
    )
    assert set(fetch_one(app, "select * from billing.admin_attention").items()) == {
        (kind, 1) for kind in KINDS
    }


def test_a_warning_takes_its_risk_from_the_charge_where_it_has_none(
    app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_payment(worker, risk_level="elevated", risk_score=66)
    record_fraud_warning(worker, risk_level=None, risk_score=None)
    found = fetch_one(app, "select * from billing.admin_fraud_warnings")
    assert (found["risk_level"], found["risk_score"], found["amount"]) == ("elevated", 66, 2000)
    assert (found["email"], found["actions"]) == (email_of(app, account), [])


def test_a_subscription_has_the_names_of_its_plans_and_its_latest_end(
    app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_price(worker, nickname="Pro, monthly")
    sync_subscription(worker, items=[item(quantity=3)])
    found = fetch_one(app, "select * from billing.admin_subscriptions")
    assert (found["plans"], found["is_live"], found["email"]) == (
        "Pro, monthly × 3",
        True,
        email_of(app, account),
    )
    assert found["current_period_end"] > JANUARY


def test_a_customer_is_unlinked_linked_or_dismissed(app: Connection, account: UUID) -> None:
    link(app, account, "cus_1")
    app.execute("select billing.dismiss_customer('cus_2', 'another app', 'grace')")
    found = fetch(app, "select stripe_customer_id, status from billing.admin_customers order by 1")
    assert [tuple(row.values()) for row in found] == [("cus_1", "linked"), ("cus_2", "dismissed")]


def test_an_exact_search_means_one_account_and_of_a_user_the_personal_one(
    app: Connection, admin: Connection, database: Database, account: UUID
) -> None:
    owner = create_user(database, "ada@example.com")
    personal = value(admin, "select id from billing.accounts where owner_id = %s", [owner])
    team = value(
        admin,
        "insert into billing.accounts (kind, name, owner_id) values ('team', 'Ada and friends', %s) returning id",
        [owner],
    )
    link(app, team, "cus_of_team")

    def found(search: object, *, is_exact: bool) -> list[UUID]:
        return [
            row["id"]
            for row in fetch(app, "select billing.find_accounts(%s, 10, %s) as id", [str(search), is_exact])
        ]

    for name in ("Ada@Example.com", owner):
        assert found(name, is_exact=False) == [personal, team]
        assert found(name, is_exact=True) == [personal]
    for name in (team, "cus_of_team"):
        assert found(name, is_exact=True) == [team]
    assert found("and friends", is_exact=False) == [team]
    assert found("and friends", is_exact=True) == found("ada@example", is_exact=True) == []


def test_any_object_of_stripes_leads_to_its_account(
    app: Connection, worker: Connection, admin: Connection, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_subscription(worker)
    sync_payment(worker)
    sync_dispute(worker)
    sync_refund(worker)
    record_fraud_warning(worker)
    admin.execute(
        "insert into billing.checkout_sessions (stripe_checkout_session_id, stripe_customer_id, livemode, mode, "
        "status, payment_status, as_of) values ('cs_1', 'cus_1', false, 'payment', 'complete', 'paid', now())"
    )
    event = """insert into billing.stripe_events
        (stripe_event_id, type, livemode, payload, status, waiting_for, last_error, created_at, settled_at) values
        ('evt_1', 'invoice.paid', false, '{"data": {"object": {"id": "in_1", "customer": "cus_1"}}}', 'applied', null,
         null, now(), now()),
        ('evt_2', 'customer.updated', false, '{"id": "evt_2", "data": {"object": {"id": "cus_1"}}}', 'applied', null,
         null, now(), now()),
        ('evt_3', 'invoice.paid', false, '{}', 'parked', 'cus_1', 'why', now(), now())"""
    admin.execute(event.encode())
    for name in (
        "cus_1", "sub_1", "ch_1", "pi_1", "cs_1", "du_1", "re_1", "issfr_1", "evt_1", "evt_2", "evt_3"
    ):  # fmt: skip
        found = fetch(app, "select billing.find_accounts(%s, 9) as id", [name])
        assert found == [{"id": account}], name
    # An event is shown, but it never names the account of a command: anybody can write into a payload.
    assert fetch(app, "select billing.find_accounts('evt_1', 9, true)") == []


def test_customers_of_nobody_are_found_by_id_object_address_and_name(
    app: Connection, worker: Connection, admin: Connection, database: Database, account: UUID
) -> None:
    link(app, account, "cus_1")
    sync_payment(worker)
    admin.execute(
        "insert into billing.customers (stripe_customer_id, livemode, email, name) values "
        "('cus_9', false, 'Eve@example.com', 'Eve Moneypenny')"
    )
    sync_payment(worker, stripe_charge_id="ch_9", stripe_payment_intent_id="pi_9", stripe_customer_id="cus_9")
    for search in ("cus_9", "ch_9", "pi_9", "EVE@example.com", "moneypenny", "ve@exam"):
        assert fetch(app, "select billing.find_customers(%s, 9) as id", [search]) == [{"id": "cus_9"}], search
    for search in ("cus_1", "ch_1", "ev", "nobody", "%"):
        assert fetch(app, "select billing.find_customers(%s, 9)", [search]) == [], search
    other = account_of(admin, create_user(database))
    link(app, other, "cus_9")
    assert fetch(app, "select billing.find_customers('cus_9', 9)") == []
    # Linked, the name in Stripe leads to the account.
    assert fetch(app, "select billing.find_accounts('moneypenny', 9) as id") == [{"id": other}]


# What the dashboard shows first and again every few seconds.
@pytest.mark.parametrize(
    "query",
    [
        "select * from billing.admin_attention",
        "select * from billing.admin_accounts order by created_at desc, id desc limit 51",
        "select * from billing.admin_disputes order by disputed_at desc, stripe_dispute_id desc limit 51",
        "select * from billing.admin_disputes where needs_response "
        "order by disputed_at desc, stripe_dispute_id desc limit 51",
        "select * from billing.admin_fraud_warnings "
        "order by warned_at desc, stripe_early_fraud_warning_id desc limit 51",
        "select * from billing.admin_reviews order by is_open desc, opened_at desc limit 50",
        "select * from billing.admin_subscriptions order by started_at desc, stripe_subscription_id desc limit 51",
    ],
)
def test_what_is_shown_is_found_by_index_among_many(app: Connection, admin: Connection, query: str) -> None:
    admin.execute("set session_replication_role = replica")
    for statement in _MANY:
        admin.execute(statement.encode())
    admin.execute("analyze")
    nodes = plan_nodes(app, query)
    read = [node for node in nodes if node.get("Relation Name") in _LARGE]
    assert read
    assert [node["Relation Name"] for node in read if node["Node Type"] == "Seq Scan"] == []
    assert [node for node in nodes if node["Node Type"] == "Sort" and node["Actual Rows"] > 51] == []
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 500


_LARGE = (
    "accounts", "credit_balances", "customers", "disputes", "fraud_warnings", "payments", "reviews", "stripe_events",
    "subscriptions",
)  # fmt: skip
_MANY = (
    "insert into billing.accounts (id, kind, created_at) "
    "select md5('a' || n)::uuid, 'team', now() - n * interval '1 minute' from generate_series(1, 5000) as n",
    "insert into billing.credit_balances (account_id) select md5('a' || n)::uuid from generate_series(1, 5000) as n",
    "insert into billing.customers (stripe_customer_id, account_id, livemode) "
    "select 'cus_m' || n, md5('a' || n)::uuid, false from generate_series(1, 5000) as n",
    "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, created_at, settled_at) "
    "select 'evt_m' || n, 'invoice.paid', false, '{}', 'applied', now(), now() from generate_series(1, 5000) as n",
    "insert into billing.payments (stripe_charge_id, livemode, status, currency, amount, charged_at, as_of) "
    "select 'ch_m' || n, false, 'succeeded', 'usd', 1900, now(), now() from generate_series(1, 5000) as n",
    "insert into billing.disputes (stripe_dispute_id, stripe_charge_id, livemode, status, currency, amount, "
    "disputed_at, as_of) select 'du_m' || n, 'ch_m' || n, false, "
    "case when n % 10 = 0 then 'needs_response' else 'lost' end, 'usd', 1900, now() - n * interval '1 hour', now() "
    "from generate_series(1, 5000) as n",
    "insert into billing.fraud_warnings (stripe_early_fraud_warning_id, stripe_charge_id, account_id, livemode, "
    "fraud_type, actionable, status, warned_at, as_of) select 'issfr_m' || n, 'ch_m' || n, md5('a' || n)::uuid, false, "
    "'misc', true, case when n % 100 = 0 then 'open' else 'resolved' end, now() - n * interval '1 hour', now() "
    "from generate_series(1, 5000) as n",
    "insert into billing.reviews (stripe_review_id, stripe_charge_id, account_id, livemode, is_open, reason, "
    "opened_at, as_of) select 'prv_m' || n, 'ch_m' || n, md5('a' || n)::uuid, false, n % 100 = 0, 'rule', "
    "now() - n * interval '1 hour', now() from generate_series(1, 5000) as n",
    "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, account_id, livemode, status, "
    "billing_cycle_anchor, started_at, as_of) select 'sub_m' || n, 'cus_m' || n, md5('a' || n)::uuid, false, 'active', "
    "now(), now() - n * interval '1 minute', now() from generate_series(1, 5000) as n",
)
