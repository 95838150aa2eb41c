"""Who may do what: a decision for every table, view, sequence and function that the catalogue names."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from devstack.scaffold import DefaultGrants
from tests.databases import Databases
from tests.security.inventory import (
    ROLES,
    Connection,
    executors,
    functions,
    relations,
    sequence_privileges,
    table_privileges,
)
from tests.support import Database, as_anon, as_role, as_user, create_user

EVERYTHING = None
API_ROLES = ["anon", "authenticated", "service_role"]

PRICE_COLUMNS = [
    "id", "operation", "valid_from", "name", "active", "charged_rates", "minimum", "rounding", "on_excess",
]  # fmt: skip
PLAN_COLUMNS = [
    "stripe_price_id",
    "stripe_product_id",
    "livemode",
    "active",
    "lookup_key",
    "nickname",
    "currency",
    "unit_amount",
    "recurring_interval",
    "recurring_interval_count",
    "usage_type",
    "initial_credits",
    "monthly_credits",
    "trial_credits",
    "rollover",
    "rollover_periods",
    "rollover_cap",
    "proration_credits",
    "downgrade_credits",
    "cancel_credits",
    "trial_end_credits",
    "trial_days",
    "seats_min",
    "seats_max",
    "overage_limit",
    "overage_pack",
    "features",
]
PRODUCT_COLUMNS = ["stripe_product_id", "livemode", "name", "description", "active"]

# Not token_hash.
INVITATION_COLUMNS = [
    "id",
    "account_id",
    "email",
    "role",
    "invited_by",
    "accepted_by",
    "closed_as",
    "closed_at",
    "expires_at",
    "created_at",
]

# Reading is all that anybody may do with a relation. Relation → role → columns, or EVERYTHING; roles that are not
# named may not read it at all. A new relation fails here until somebody has decided.
READERS: dict[str, dict[str, list[str] | None]] = {
    "billing.account_members": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.accounts": {
        "authenticated": [
            "id",
            "kind",
            "name",
            "owner_id",
            "frozen_at",
            "closed_at",
            "created_at",
            "updated_at",
        ],
        "service_role": EVERYTHING,
    },
    "billing.card_fingerprints": {"service_role": EVERYTHING},
    "billing.trial_items": {"service_role": EVERYTHING},
    "billing.test_clocks": {"service_role": EVERYTHING},
    "billing.pack_purchases": {"service_role": EVERYTHING},
    "billing.account_proof": {"service_role": EVERYTHING},
    "billing.found_discrepancies": {"service_role": EVERYTHING},
    "billing.backfilled_lists": {"service_role": EVERYTHING},
    "billing.stripe_facts": {"service_role": EVERYTHING},
    "billing.wrong_links": {"service_role": EVERYTHING},
    "billing.ungranted_payments": {},
    "billing.entitlement_discrepancies": {"service_role": EVERYTHING},
    "billing.admin_accounts": {"service_role": EVERYTHING},
    "billing.admin_attention": {"service_role": EVERYTHING},
    "billing.admin_credit_reviews": {"service_role": EVERYTHING},
    "billing.admin_plans_without_credits": {"service_role": EVERYTHING},
    "billing.admin_customers": {"service_role": EVERYTHING},
    "billing.admin_disputes": {"service_role": EVERYTHING},
    "billing.admin_fraud_warnings": {"service_role": EVERYTHING},
    "billing.admin_reviews": {"service_role": EVERYTHING},
    "billing.admin_subscriptions": {"service_role": EVERYTHING},
    "billing.credit_terms": {"service_role": EVERYTHING},
    "billing.credit_note_lines": {"service_role": EVERYTHING},
    "billing.budgets": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.carried_credits": {"service_role": EVERYTHING},
    "billing.checkout_requests": {"service_role": EVERYTHING},
    "billing.stripe_requests": {"service_role": EVERYTHING},
    "billing.checkout_line_items": {"service_role": EVERYTHING},
    "billing.checkout_sessions": {"service_role": EVERYTHING},
    "billing.clock": {},
    "billing.credit_balances": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.credit_consumptions": {"service_role": EVERYTHING},
    "billing.credit_entries": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.credit_grants": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.credit_hold_lots": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.credit_holds": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.operation_prices": {
        "anon": PRICE_COLUMNS,
        "authenticated": PRICE_COLUMNS,
        "service_role": EVERYTHING,
    },
    "billing.work_charges": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.work_holds": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_operations": {
        "anon": EVERYTHING,
        "authenticated": EVERYTHING,
        "service_role": EVERYTHING,
    },
    "public.work_charges": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.credit_notes": {"service_role": EVERYTHING},
    "billing.credit_packs": {
        "authenticated": [*PLAN_COLUMNS[:8], "pack_credits", "credits_per_unit", "expires_after"],
        "service_role": EVERYTHING,
    },
    "billing.credit_reinstatements": {"service_role": EVERYTHING},
    "billing.credit_revocations": {"service_role": EVERYTHING},
    "billing.credit_schedules": {"service_role": EVERYTHING},
    "billing.customer_claims": {"service_role": EVERYTHING},
    "billing.team_invitations": {"authenticated": INVITATION_COLUMNS, "service_role": INVITATION_COLUMNS},
    "billing.customer_email_changes": {"service_role": EVERYTHING},
    "billing.customers": {
        "authenticated": ["account_id", "livemode", "email", "name", "created_at"],
        "service_role": EVERYTHING,
    },
    "billing.deleted_prices": {"service_role": EVERYTHING},
    "billing.disputes": {"service_role": EVERYTHING},
    "billing.erasures": {"service_role": EVERYTHING},
    "billing.fraud_actions": {"service_role": EVERYTHING},
    "billing.fraud_policies": {"service_role": EVERYTHING},
    "billing.fraud_warnings": {"service_role": EVERYTHING},
    "billing.free_credit_persons": {"service_role": EVERYTHING},
    "billing.free_credit_slots": {"service_role": EVERYTHING},
    "billing.free_credits": {"service_role": EVERYTHING},
    "billing.held_credits": {"service_role": EVERYTHING},
    "billing.invoice_lines": {"service_role": EVERYTHING},
    "billing.invoice_payments": {"service_role": EVERYTHING},
    "billing.invoices": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.ledger_discrepancies": {"service_role": EVERYTHING},
    "billing.notifications": {"service_role": EVERYTHING},
    "billing.one_time_prices": {"service_role": EVERYTHING},
    "billing.payment_links": {"service_role": EVERYTHING},
    "billing.payment_reference_keys": {},
    "billing.payment_intents": {"service_role": EVERYTHING},
    "billing.payments": {
        "authenticated": [
            "stripe_charge_id",
            "account_id",
            "livemode",
            "status",
            "currency",
            "amount",
            "amount_refunded",
            "receipt_url",
            "charged_at",
        ],
        "service_role": EVERYTHING,
    },
    "billing.plans": {"anon": PLAN_COLUMNS, "authenticated": PLAN_COLUMNS, "service_role": EVERYTHING},
    "billing.products": {
        "anon": PRODUCT_COLUMNS,
        "authenticated": PRODUCT_COLUMNS,
        "service_role": EVERYTHING,
    },
    "billing.overage_periods": {"service_role": EVERYTHING},
    "billing.overages": {
        "authenticated": [
            "id",
            "account_id",
            "stripe_subscription_id",
            "stripe_pack_price_id",
            "period_start",
            "period_end",
            "credits",
            "quantity",
            "amount",
            "currency",
            "status",
            "stripe_invoice_id",
            "reason",
            "claimed_at",
        ],
        "service_role": EVERYTHING,
    },
    "billing.recharge_settings": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.recharges": {
        "authenticated": [
            "id",
            "account_id",
            "status",
            "stripe_price_id",
            "credits",
            "amount",
            "currency",
            "reason",
            "action_url",
            "claimed_at",
            "settled_at",
        ],
        "service_role": EVERYTHING,
    },
    "billing.refunds": {"service_role": EVERYTHING},
    "billing.reviews": {"service_role": EVERYTHING},
    "billing.saved_cards": {"service_role": EVERYTHING},
    "billing.settings": {},
    "billing.stripe_events": {"service_role": EVERYTHING},
    "billing.event_pruning": {},
    "billing.stripe_lookups": {"service_role": EVERYTHING},
    "billing.workers": {},
    "billing.alerts": {"service_role": EVERYTHING},
    "billing.credit_count": {"service_role": EVERYTHING},
    "billing.credit_totals": {"service_role": EVERYTHING},
    "billing.subscription_items": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "billing.subscriptions": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "pgmq.a_billing_jobs": {},
    "pgmq.a_stripe_events": {},
    "pgmq.q_billing_jobs": {},
    "pgmq.q_stripe_events": {},
    "public.billing_account": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.budgets": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_entitlements": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_overages": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_plans": {"anon": EVERYTHING, "authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_packs": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.billing_subscription": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.credit_balance": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.credit_history": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
    "public.team_invitations": {"authenticated": EVERYTHING, "service_role": EVERYTHING},
}

# Function → who may execute it. Private ones (_name) and triggers (tg_name) are for nobody and not listed.
EXECUTORS: dict[str, set[str]] = {
    "billing.sync_test_clock": {"billing_worker"},
    "billing.ask_stripe": {"billing_worker"},
    "billing.lost_messages": {"service_role"},
    "billing.hand_back_stripe_events": {"billing_worker"},
    "billing.prune_events": {"billing_worker"},
    "billing.release_stripe_events": {"billing_worker"},
    "billing.requeue_stripe_events": {"billing_worker"},
    "billing.start_worker": {"billing_worker"},
    "billing.count_credits": {"billing_worker"},
    "billing.metrics": {"billing_worker", "service_role"},
    "billing.receiving_since": {"billing_worker"},
    "billing.report_arrivals": {"billing_worker"},
    "billing.report_worker": {"billing_worker"},
    "billing.unreceived_events": {"billing_worker"},
    "billing.watch": {"billing_worker"},
    "billing.take_stripe_lookups": {"billing_worker"},
    "billing.account_discrepancies": {"service_role"},
    "billing.check_account": {"billing_worker", "service_role"},
    "billing.account_ledger_discrepancies": {"service_role"},
    "billing.account_work_discrepancies": {"service_role"},
    "billing.estimate_work": {"authenticated", "service_role"},
    "public.estimate_work": {"authenticated", "service_role"},
    "billing.set_operation_price": {"service_role"},
    "billing.prove_accounts": {"billing_worker", "service_role"},
    # Only the owner of the database, as which `till` connects.
    "billing.advance_backfill": set(),
    "billing.distrust_stripe_row": set(),
    "billing.recalculate_account": set(),
    "billing.receive_own_events": set(),
    "billing.start_backfill": set(),
    "billing.withdraw_stripe_row": set(),
    "billing.owner_email": {"service_role"},
    "billing.explain_credits": {"service_role"},
    "billing.find_accounts": {"service_role"},
    "billing.find_customers": {"service_role"},
    "billing.installation": {"service_role"},
    "billing.worker_state": {"service_role"},
    "billing.account_entitlements": {"authenticated", "service_role"},
    "billing.settled_balance": {"authenticated", "service_role"},
    "billing.period_start": {"authenticated", "service_role"},
    "billing.period_end": {"authenticated", "service_role"},
    "billing.set_budget": {"authenticated", "service_role"},
    "billing.remove_budget": {"authenticated", "service_role"},
    "billing.claim_stripe_account": {"billing_worker"},
    "billing.continue_checkout": {"billing_checkout"},
    "billing.continue_payment_link": {"billing_checkout"},
    "billing.continue_portal": {"billing_checkout"},
    "billing.current_time": {"anon", "authenticated", "service_role", "billing_worker"},
    "billing.claim_payment_link": set(),
    "billing.begin_email_changes": {"billing_worker"},
    "billing.begin_fraud_actions": {"billing_worker"},
    "billing.begin_notifications": {"billing_worker"},
    "billing.begin_overages": {"billing_worker"},
    "billing.begin_recharges": {"billing_worker"},
    "billing.record_overage": {"billing_worker"},
    "billing.claim_due_overages": {"billing_worker", "service_role"},
    "billing.retry_overage": {"service_role"},
    "billing.account_overage_discrepancies": {"service_role"},
    "billing.begin_retired_links": {"billing_worker"},
    "billing.check_recharges_again": {"billing_worker"},
    "billing.delay_recharge": {"billing_worker"},
    "billing.finish_jobs": {"billing_worker"},
    "billing.record_email_change": {"billing_worker"},
    "billing.record_fraud_action": {"billing_worker"},
    "billing.record_notification": {"billing_worker"},
    "billing.record_recharge": {"billing_worker"},
    "billing.record_retired_link": {"billing_worker"},
    "billing.requeue_jobs": {"billing_worker"},
    "billing.retry_job": {"billing_worker"},
    "billing.skip_notifications": {"billing_worker"},
    "billing.take_jobs": {"billing_worker"},
    "billing.take_unknown_jobs": {"billing_worker"},
    "billing.lost_jobs": {"service_role"},
    "billing.queued_jobs": {"service_role"},
    "billing.delay_stripe_event": {"billing_worker"},
    "billing.ensure_account": {"service_role"},
    "billing.allocate_due_credits": {"billing_worker", "service_role"},
    "billing.allocate_postponed": {"billing_worker"},
    "billing.end_free_credits": {"service_role"},
    "billing.expire_due_credits": {"billing_worker", "service_role"},
    "billing.explain_free_credits": {"service_role"},
    "billing.use_pg_cron": set(),
    "billing.delete_price": {"billing_worker"},
    "billing.delete_product": {"billing_worker"},
    "billing.dismiss_customer": {"service_role"},
    "billing.dismiss_stripe_event": {"service_role"},
    "billing.enqueue_deleted_users": {"billing_worker"},
    "billing.enqueue_expiring_credits": {"billing_worker"},
    "billing.enqueue_reminders": {"billing_worker"},
    "billing.grant_credits": {"service_role"},
    "billing.has_feature": {"authenticated", "service_role"},
    "billing.create_team": {"service_role"},
    "billing.add_member": {"service_role"},
    "billing.set_member_role": {"authenticated", "service_role"},
    "billing.remove_member": {"authenticated", "service_role"},
    "billing.transfer_ownership": {"authenticated", "service_role"},
    "billing.team_members": {"authenticated", "service_role"},
    "billing.invite_member": {"authenticated", "service_role"},
    "billing.accept_invitation": {"authenticated", "service_role"},
    "billing.revoke_invitation": {"authenticated", "service_role"},
    "public.create_team": {"service_role"},
    "public.add_member": {"service_role"},
    "public.set_member_role": {"authenticated", "service_role"},
    "public.remove_member": {"authenticated", "service_role"},
    "public.transfer_ownership": {"authenticated", "service_role"},
    "public.team_members": {"authenticated", "service_role"},
    "public.invite_member": {"authenticated", "service_role"},
    "public.accept_invitation": {"authenticated", "service_role"},
    "public.revoke_invitation": {"authenticated", "service_role"},
    "billing.judge_fraud_warning": {"service_role"},
    "billing.is_livemode": {"anon", "authenticated", "service_role", "billing_worker"},
    "billing.link_customer": {"service_role"},
    "billing.merge_customer": {"service_role"},
    "public.ensure_account": {"service_role"},
    "public.link_customer": {"service_role"},
    "public.dismiss_customer": {"service_role"},
    "public.dismiss_stripe_event": {"service_role"},
    "public.merge_customer": {"service_role"},
    "billing.sync_customer": {"billing_worker"},
    "billing.lock_stripe_events": {"billing_worker"},
    "billing.my_account_ids": {"authenticated"},
    "billing.my_managed_account_ids": {"authenticated"},
    "billing.prepare_checkout": {"billing_checkout"},
    "billing.payment_reference": {"service_role"},
    "billing.prepare_payment_links": {"billing_checkout"},
    "billing.prepare_portal": {"billing_checkout"},
    "billing.prune_notifications": {"billing_worker"},
    "billing.read_stripe_events": {"billing_worker"},
    "billing.receive_stripe_event": {"billing_receiver", "service_role"},
    "billing.record_card": {"billing_worker"},
    "billing.record_fraud_warning": {"billing_worker"},
    "billing.record_saved_card": {"billing_worker"},
    "billing.retire_payment_links": set(),
    "billing.retry_notification": {"service_role"},
    "billing.retry_stripe_event": {"service_role"},
    "billing.set_free_credits": {"service_role"},
    "billing.settle_stripe_events": {"billing_worker"},
    "billing.spend_credits": {"service_role"},
    "billing.stripe_account": {"billing_worker"},
    "billing.sync_checkout_session": {"billing_worker"},
    "billing.sync_credit_note": {"billing_worker"},
    "billing.sync_dispute": {"billing_worker"},
    "billing.sync_invoice": {"billing_worker"},
    "billing.sync_invoice_payment": {"billing_worker"},
    "billing.sync_payment": {"billing_worker"},
    "billing.sync_payment_intent": {"billing_worker"},
    "billing.sync_payment_link": {"billing_worker"},
    "billing.sync_price": {"billing_worker"},
    "billing.sync_product": {"billing_worker"},
    "billing.sync_refund": {"billing_worker"},
    "billing.sync_review": {"billing_worker"},
    "billing.sync_subscription": {"billing_worker"},
    "billing.erase_customer": {"service_role"},
    "billing.export_customer": {"service_role"},
    "public.credit_balance_as_of": {"authenticated", "service_role"},
    "public.credit_statement": {"authenticated", "service_role"},
    "public.credit_usage": {"authenticated", "service_role"},
    "public.credit_usage_by_actor": {"authenticated", "service_role"},
    "public.set_budget": {"authenticated", "service_role"},
    "public.remove_budget": {"authenticated", "service_role"},
    "public.grant_credits": {"service_role"},
    "public.has_feature": {"authenticated", "service_role"},
    "public.spend_credits": {"service_role"},
} | {
    # What moves credits otherwise, and its twin: the app's own server only.
    f"{schema}.{name}": {"service_role"}
    for schema in ("billing", "public")
    for name in (
        "adjust_credits",
        "capture_hold",
        "close_account",
        "erase_account",
        "export_account",
        "extend_hold",
        "freeze_account",
        "hold_credits",
        "hold_work",
        "note_fraud",
        "refund_fraud_warning",
        "refund_spend",
        "reinstate_grant",
        "release_hold",
        "reopen_account",
        "resolve_fraud_warning",
        "review_held_credits",
        "revoke_grant",
        "schedule_credits",
        "set_credit_limits",
        "set_recharge",
        "settle_work",
        "spend_credits_batch",
        "spend_work",
        "transfer_credits",
        "undo_fraud_action",
        "unfreeze_account",
    )
}

ATTEMPTS = {
    "select": "select * from {relation}",
    "insert": "insert into {relation} default values",
    "update": "update {relation} set {column} = {column}",
    "delete": "delete from {relation}",
    "truncate": "truncate {relation} cascade",
    "lock": "lock table {relation} in access exclusive mode",
}


@pytest.fixture(params=["database", "database_of_older_project"])
def project(request: pytest.FixtureRequest) -> Database:
    """A project of either age: older ones grant the API roles everything that is new in `public`."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def project_conn(project: Database) -> Iterator[psycopg.Connection[Any]]:
    with project.connect() as connection:
        yield connection


def test_every_relation_is_read_by_those_decided_on_and_written_by_nobody(project_conn: Connection) -> None:
    found: dict[str, dict[str, list[str] | None]] = {}
    for relation, kind in relations(project_conn).items():
        if kind == "sequence":
            continue
        found[relation] = {}
        for role in ROLES:
            privileges = table_privileges(project_conn, relation, role)
            assert privileges.keys() <= {"select"}, f"{role} on {relation}: {privileges}"
            if "select" in privileges:
                found[relation][role] = privileges["select"]
    assert found == READERS


def test_nobody_uses_a_sequence(project_conn: Connection) -> None:
    sequences = [name for name, kind in relations(project_conn).items() if kind == "sequence"]
    assert sequences
    granted = {
        (sequence, role): privileges
        for sequence in sequences
        for role in ROLES
        if (privileges := sequence_privileges(project_conn, sequence, role))
    }
    assert granted == {}


def test_every_function_is_executed_by_those_decided_on(project_conn: Connection) -> None:
    found: dict[str, set[str]] = {}
    for oid, name in functions(project_conn).items():
        allowed = executors(project_conn, oid)
        if name.partition(".")[2].startswith(("_", "tg_")):
            assert allowed == set(), f"{name} is private, yet {allowed} may execute it"
        else:
            found[name] = allowed
    assert found == EXECUTORS


def test_schemas_are_entered_by_those_decided_on_and_filled_by_nobody(project_conn: Connection) -> None:
    rows = project_conn.execute(
        """
        select schema, role, has_schema_privilege(role, schema, 'usage'),
               has_schema_privilege(role, schema, 'create')
        from unnest(array['billing', 'pgmq', 'public']) as schema, unnest(%s::text[]) as role
        """,
        [ROLES],
    ).fetchall()
    assert {(schema, role) for schema, role, _, create in rows if create} == set()
    assert {role for schema, role, usage, _ in rows if usage and schema == "billing"} == {*ROLES} - {"public"}
    assert {role for schema, role, usage, _ in rows if usage and schema == "pgmq"} == set()


@pytest.mark.parametrize("role", ROLES[1:])
def test_every_verb_on_every_table_ends_as_decided(project: Database, role: str) -> None:
    user_id = create_user(project)
    outcomes: dict[tuple[str, str], bool] = {}
    with project.connect() as connection:
        targets = {name: kind for name, kind in relations(connection).items() if kind != "sequence"}
        for relation in targets:
            column = _writable_column(connection, relation)
            for verb, statement in ATTEMPTS.items():
                attempt = statement.format(relation=relation, column=column)
                outcomes[relation, verb] = _is_permitted(connection, role, user_id, attempt)
    permitted = {key for key, was_permitted in outcomes.items() if was_permitted}
    assert permitted == {
        (relation, "select") for relation, readers in READERS.items() if readers.get(role, []) is EVERYTHING
    }


def _writable_column(connection: Connection, relation: str) -> str:
    row = connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and attname <> 'id' limit 1",
        [relation],
    ).fetchone()
    assert row is not None
    return row[0]


def _is_permitted(connection: Connection, role: str, user_id: Any, statement: str) -> bool:
    match role:
        case "anon":
            session = as_anon(connection)
        case "authenticated":
            session = as_user(connection, user_id)
        case _:
            session = as_role(connection, role)
    try:
        with session:
            connection.execute(statement.encode())
    except errors.InsufficientPrivilege:
        return False
    except (errors.WrongObjectType, errors.ObjectNotInPrerequisiteState):
        return False  # a view of several tables cannot be written by anybody
    return True


@pytest.mark.parametrize("role", ["anon", "authenticated", "billing_worker", "billing_receiver"])
@pytest.mark.parametrize("schema", ["billing", "public"])
@pytest.mark.parametrize("function", ["grant_credits", "spend_credits"])
def test_only_the_apps_server_moves_credits(project: Database, role: str, schema: str, function: str) -> None:
    user_id = create_user(project)
    with project.connect() as connection:
        row = connection.execute("select id from billing.accounts").fetchone()
        assert row is not None
        call = f"select {schema}.{function}('{row[0]}', 5, 'mine')"
        assert not _is_permitted(connection, role, user_id, call)
        assert connection.execute("select count(*) from billing.credit_entries").fetchone() == (0,)
        if function == "grant_credits":
            assert _is_permitted(connection, "service_role", user_id, call)


@pytest.mark.parametrize("default_grants", ["none", "all"])
def test_migrations_leave_the_projects_own_default_privileges_alone(
    databases: Databases, default_grants: DefaultGrants
) -> None:
    with databases.fresh(default_grants) as database, database.connect() as connection:
        # The extension sets its own, in its own schema.
        query = """
                select defaclrole::regrole::text, coalesce(nspname, ''), defaclobjtype::text, defaclacl::text
                from pg_default_acl left join pg_namespace as n on n.oid = defaclnamespace
                where nspname is distinct from 'pgmq'
                order by 1, 2, 3
            """
        before = connection.execute(query).fetchall()
        migrate(database.url, migrations_directory())
        assert connection.execute(query).fetchall() == before
        assert len(before) == (3 if default_grants == "all" else 0)
