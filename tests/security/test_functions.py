"""How functions, tables and policies are made: nothing that a stranger could bend."""

from tests.security.inventory import Connection, functions, relations

# Run with their owner's rights, because their callers may not touch the tables themselves. Each one more is a
# decision: what could somebody who may execute it reach?
SECURITY_DEFINERS = {
    "billing.tg_credit_terms__allocate",
    "billing.count_credits",
    "billing.metrics",
    "billing.receiving_since",
    "billing.report_arrivals",
    "billing.report_worker",
    "billing.unreceived_events",
    "billing.watch",
    "billing.sync_test_clock",
    "billing.tg_one_time_prices__end_waiting",
    "billing.tg_credit_packs__purchase_since",
    "billing.tg_plans__record_terms",
    "billing.tg_money__meet",
    "billing.account_ledger_discrepancies",
    "billing.prove_accounts",
    "billing.check_account",
    "billing.lost_messages",
    "billing.ask_stripe",
    "billing.hand_back_stripe_events",
    "billing.prune_events",
    "billing.release_stripe_events",
    "billing.requeue_stripe_events",
    "billing.start_worker",
    "billing.take_stripe_lookups",
    "billing.tg_stripe_events__prune_again",
    "billing.account_discrepancies",
    "billing.account_entitlements",
    "billing.adjust_credits",
    "billing.allocate_due_credits",
    "billing.allocate_postponed",
    "billing.capture_hold",
    "billing.claim_payment_link",
    "billing.claim_stripe_account",
    "billing.close_account",
    "billing.erase_account",
    "billing.erase_customer",
    "billing.export_account",
    "billing.export_customer",
    "billing.tg_stripe_events__erase",
    "billing.continue_checkout",
    "billing.continue_payment_link",
    "billing.continue_portal",
    "billing.current_time",
    "billing.begin_email_changes",
    "billing.begin_fraud_actions",
    "billing.begin_notifications",
    "billing.begin_overages",
    "billing.begin_recharges",
    "billing.record_overage",
    "billing.claim_due_overages",
    "billing.retry_overage",
    "billing.account_overage_discrepancies",
    "billing.tg_plans__judge_overage",
    "billing.tg_credit_packs__judge_overage",
    "billing.tg_subscriptions__judge_overage",
    "billing.begin_retired_links",
    "billing.check_recharges_again",
    "billing.delay_recharge",
    "billing.finish_jobs",
    "billing.lost_jobs",
    "billing.queued_jobs",
    "billing.record_email_change",
    "billing.record_fraud_action",
    "billing.record_notification",
    "billing.record_recharge",
    "billing.record_retired_link",
    "billing.requeue_jobs",
    "billing.retry_job",
    "billing.skip_notifications",
    "billing.take_jobs",
    "billing.take_unknown_jobs",
    "billing.tg_fraud_actions__enqueue",
    "billing.tg_notifications__enqueue",
    "billing.tg_payment_links__enqueue",
    "billing.delay_stripe_event",
    "billing.dismiss_customer",
    "billing.dismiss_stripe_event",
    "billing.delete_price",
    "billing.delete_product",
    "billing.tg_prices__stay_deleted",
    "billing.tg_products__stay_deleted",
    "billing.enqueue_deleted_users",
    "billing.enqueue_expiring_credits",
    "billing.enqueue_reminders",
    "billing.ensure_account",
    "billing.create_team",
    "billing.add_member",
    "billing.set_member_role",
    "billing.remove_member",
    "billing.transfer_ownership",
    "billing.team_members",
    "billing.invite_member",
    "billing.accept_invitation",
    "billing.revoke_invitation",
    "billing.tg_account_members__appoint_owner",
    "billing.expire_due_credits",
    "billing.extend_hold",
    "billing.explain_credits",
    "billing.find_accounts",
    "billing.find_customers",
    "billing.freeze_account",
    "billing.grant_credits",
    "billing.has_feature",
    "billing.account_work_discrepancies",
    "billing.estimate_work",
    "billing.set_operation_price",
    "billing.hold_work",
    "billing.settle_work",
    "billing.spend_work",
    "billing.hold_credits",
    "billing.installation",
    "billing.is_livemode",
    "billing.link_customer",
    "billing.lock_stripe_events",
    "billing.merge_customer",
    "billing.my_account_ids",
    "billing.my_managed_account_ids",
    "billing.note_fraud",
    "billing.owner_email",
    "billing.payment_reference",
    "billing.prepare_checkout",
    "billing.prepare_payment_links",
    "billing.prepare_portal",
    "billing.prune_notifications",
    "billing.read_stripe_events",
    "billing.receive_stripe_event",
    "billing.record_card",
    "billing.record_fraud_warning",
    "billing.record_saved_card",
    "billing.refund_fraud_warning",
    "billing.refund_spend",
    "billing.reinstate_grant",
    "billing.release_hold",
    "billing.reopen_account",
    "billing.resolve_fraud_warning",
    "billing.retire_payment_links",
    "billing.retry_notification",
    "billing.retry_stripe_event",
    "billing.review_held_credits",
    "billing.remove_budget",
    "billing.revoke_grant",
    "billing.schedule_credits",
    "billing.set_budget",
    "billing.end_free_credits",
    "billing.explain_free_credits",
    "billing.set_credit_limits",
    "billing.set_free_credits",
    "billing.tg_accounts__schedule_free_credits",
    "billing.tg_users__confirmed",
    "billing.set_recharge",
    "billing.settle_stripe_events",
    "billing.spend_credits",
    "billing.spend_credits_batch",
    "billing.stripe_account",
    "billing.sync_checkout_session",
    "billing.sync_credit_note",
    "billing.sync_customer",
    "billing.sync_dispute",
    "billing.sync_invoice",
    "billing.sync_invoice_payment",
    "billing.sync_payment",
    "billing.sync_payment_intent",
    "billing.sync_payment_link",
    "billing.sync_price",
    "billing.sync_product",
    "billing.sync_refund",
    "billing.sync_review",
    "billing.sync_subscription",
    "billing.tg_accounts__may_spend",
    "billing.tg_accounts__open_balance",
    "billing.tg_checkout_sessions__receipt",
    "billing.tg_credit_balances__low_balance",
    "billing.tg_credit_balances__recharge",
    "billing.tg_credit_packs__arrive",
    "billing.tg_invoices__payment_failed",
    "billing.tg_invoices__receipt",
    "billing.tg_prices__retire_links",
    "billing.tg_products__retire_links",
    "billing.tg_stripe_events__notify",
    "billing.tg_account_members__member_deleted",
    "billing.tg_accounts__follow_owner",
    "billing.tg_accounts__owner_deleted",
    "billing.tg_accounts__pause_recharge",
    "billing.tg_users__deleted_softly",
    "billing.tg_users__follow_email",
    "billing.tg_users__open_account",
    "billing.transfer_credits",
    "billing.undo_fraud_action",
    "billing.unfreeze_account",
    "billing.worker_state",
}


# Private helpers without a clause of their own, so that the planner can inline them: pure expressions whose names are
# those of pg_catalog or fully qualified.
INLINED = {
    "billing._budget_names",
    "billing._counts_from",
    "billing._description_of_move",
    "billing._entry",
    "billing._first_slot",
    "billing._invoice_rank",
    "billing._is_alarming",
    "billing._is_free",
    "billing._is_plain",
    "billing._lets_lapse",
    "billing._lot",
    "billing._moment_text",
    "billing._months",
    "billing._is_cap_period",
    "billing._moved",
    "billing._room_in_budget",
    "billing._seats",
    "billing._slot",
    "billing._slot_number",
}
PINNED = {"search_path=pg_catalog, pg_temp"}


def test_every_function_has_a_pinned_search_path(conn: Connection) -> None:
    names = functions(conn)
    rows = conn.execute(
        "select oid::int8, proconfig, prosecdef from pg_proc where oid = any (%s)", [list(names)]
    ).fetchall()
    loose = {names[oid]: definer for oid, config, definer in rows if not PINNED & set(config or [])}
    assert rows
    assert loose.keys() == INLINED
    assert not any(loose.values())


def test_functions_with_their_owners_rights_are_those_decided_on(conn: Connection) -> None:
    names = functions(conn)
    rows = conn.execute(
        "select oid::int8 from pg_proc where oid = any (%s) and prosecdef", [list(names)]
    ).fetchall()
    assert {names[oid] for (oid,) in rows} == SECURITY_DEFINERS


def test_nothing_is_owned_by_a_superuser(conn: Connection) -> None:
    rows = conn.execute(
        """
        select proname from pg_proc join pg_roles as r on r.oid = proowner
        where proname is not null and pronamespace = 'billing'::regnamespace and rolsuper
        union all
        select relname from pg_class join pg_roles as r on r.oid = relowner
        where relnamespace = 'billing'::regnamespace and rolsuper
        """
    ).fetchall()
    assert rows == []


def test_every_table_has_row_level_security(conn: Connection) -> None:
    tables = [name for name, kind in relations(conn).items() if kind == "table"]
    rows = conn.execute(
        "select name from unnest(%s::text[]) as name "
        "join pg_class on oid = name::regclass where not relrowsecurity",
        [tables],
    ).fetchall()
    assert "pgmq.q_stripe_events" in tables
    assert rows == []


def test_every_view_shows_what_its_reader_may_see(conn: Connection) -> None:
    views = [name for name, kind in relations(conn).items() if kind == "view"]
    rows = conn.execute(
        "select name from unnest(%s::text[]) as name join pg_class on oid = name::regclass "
        "where 'security_invoker=on' <> all (coalesce(reloptions, '{}'))",
        [views],
    ).fetchall()
    assert len(views) >= 5
    assert rows == []


def test_every_policy_reads_only_and_names_its_roles(conn: Connection) -> None:
    rows = conn.execute(
        "select policyname, permissive, roles::text[], cmd, qual from pg_policies where schemaname = 'billing'"
    ).fetchall()
    assert rows
    for name, permissive, roles, command, condition in rows:
        assert command == "SELECT", name
        assert permissive == "PERMISSIVE", name
        assert set(roles) <= {"anon", "authenticated"}, name
        assert condition not in {"true", "(true)"}, name


def test_every_policy_asks_once_for_a_statement_who_is_there(conn: Connection) -> None:
    # A bare call would run for every row; inside a sub-select it runs once.
    rows = conn.execute("select policyname, qual from pg_policies where schemaname = 'billing'").fetchall()
    for name, condition in rows:
        for function in ["my_account_ids()", "my_managed_account_ids()", "is_livemode()", "auth.uid()"]:
            if function in condition:
                assert f"SELECT billing.{function} AS" in condition, f"{name}: {condition}"


def test_no_policy_reads_the_members(conn: Connection) -> None:
    rows = conn.execute(
        "select policyname from pg_policies where schemaname = 'billing' and qual like '%account_members %'"
    ).fetchall()
    assert rows == []
