-- One example for each function that an app may call, run from top to bottom against one database.
--
-- `-- name` begins an example, `-- name as ada` runs it as that signed-in user; else it runs as service_role. One that
-- is to be refused is marked `-- name fails`.
-- Ada's account is a0000000-…-0001, Grace's …-0002. It is noon (UTC) of 15 January 2030.

-- current_time
select date_trunc('day', billing.current_time()) as today;

-- is_livemode
select billing.is_livemode();

-- ensure_account
select billing.ensure_account(user_id => '10000000-0000-0000-0000-000000000001');

-- my_account_ids as ada
select billing.my_account_ids();

-- my_managed_account_ids as ada
select billing.my_managed_account_ids();

-- create_team
select kind, name from billing.create_team(
    name => 'Rocket', owner_id => '10000000-0000-0000-0000-000000000001'
);

-- add_member
select role from billing.add_member(
    account_id => (select id from billing.accounts where name = 'Rocket'),
    user_id => '10000000-0000-0000-0000-000000000002', role => 'admin'
);

-- team_members as ada
select email, role from billing.team_members(
    account_id => (select id from billing.accounts where name = 'Rocket')
);

-- invite_member as ada
select length(token) as token_length, date_trunc('day', expires_at) as expires_on from billing.invite_member(
    account_id => (select id from billing.accounts where name = 'Rocket'), email => 'lin@example.com', role => 'member'
);

-- accept_invitation as grace fails
-- The token comes from the link; one that was used, revoked or has expired is refused.
select billing.accept_invitation(token => 'a-token-of-last-year');

-- revoke_invitation as ada
select billing.revoke_invitation(
    account_id => (select id from billing.accounts where name = 'Rocket'), email => 'lin@example.com'
);

-- set_member_role as grace fails
-- Admins can't change owners.
select billing.set_member_role(
    account_id => (select id from billing.accounts where name = 'Rocket'),
    user_id => '10000000-0000-0000-0000-000000000001', role => 'member'
);

-- transfer_ownership as ada
select user_id, role from billing.transfer_ownership(
    account_id => (select id from billing.accounts where name = 'Rocket'),
    user_id => '10000000-0000-0000-0000-000000000002'
);

-- remove_member as ada
-- Everybody may leave.
select user_id, role from billing.remove_member(
    account_id => (select id from billing.accounts where name = 'Rocket'),
    user_id => '10000000-0000-0000-0000-000000000001'
);

-- link_customer
select billing.link_customer(
    account_id => 'a0000000-0000-0000-0000-000000000001', stripe_customer_id => 'cus_ada'
);

-- merge_customer
select billing.merge_customer(stripe_customer_id => 'cus_guest', duplicate_of => 'cus_ada');

-- dismiss_customer
select billing.dismiss_customer(
    stripe_customer_id => 'cus_other_app', reason => 'Belongs to our staging app', actor => 'grace@example.com'
) as events_ignored;

-- grant_credits
select id, kind, amount, balance_after, source, description
from billing.grant_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 500, idempotency_key => 'welcome-ada',
    description => 'Welcome'
);

-- spend_credits
select id, kind, amount, balance_after, description
from billing.spend_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 120, idempotency_key => 'render-1',
    description => 'Rendered a video', feature => 'video'
);

-- spend_credits
-- The same key and arguments: the first entry again, and nothing is spent.
select id, kind, amount, balance_after, description
from billing.spend_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 120, idempotency_key => 'render-1',
    description => 'Rendered a video', feature => 'video'
);

-- spend_credits fails
select billing.spend_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 1000, idempotency_key => 'render-2'
);

-- spend_credits_batch
select account_id, amount, balance_after
from billing.spend_credits_batch('[
    {"account_id": "a0000000-0000-0000-0000-000000000001", "amount": 5, "idempotency_key": "job-1"},
    {"account_id": "a0000000-0000-0000-0000-000000000001", "amount": 7, "idempotency_key": "job-2"}
]');

-- hold_credits
select id, amount, captured, status, expires_at::date
from billing.hold_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 200, idempotency_key => 'transcode-1',
    expires_in => '30 minutes'
);

-- extend_hold
select id, status, expires_at::date
from billing.extend_hold(hold_id => 'b0000000-0000-0000-0000-000000000001', expires_in => '24 hours');

-- capture_hold
select kind, amount, balance_after
from billing.capture_hold(
    hold_id => 'b0000000-0000-0000-0000-000000000001', amount => 140, idempotency_key => 'transcode-1'
);

-- release_hold
select amount, captured, status
from billing.release_hold(hold_id => 'b0000000-0000-0000-0000-000000000001', idempotency_key => 'transcode-1');

-- refund_spend
select kind, amount, balance_after
from billing.refund_spend(entry_id => 3, amount => 20, idempotency_key => 'render-1-too-slow');

-- schedule_credits
select id, amount, effective_at::date, expires_at::date
from billing.schedule_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 50, effective_at => '2030-02-01',
    idempotency_key => 'february', expires_at => '2030-03-01'
);

-- transfer_credits
select kind, amount, balance_after
from billing.transfer_credits(
    from_account_id => 'a0000000-0000-0000-0000-000000000001',
    to_account_id => 'a0000000-0000-0000-0000-000000000002', amount => 30, idempotency_key => 'gift-1'
);

-- adjust_credits
select kind, amount, balance_after
from billing.adjust_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 10, idempotency_key => 'ticket-77',
    reason => 'Sorry for the outage', actor => 'grace@example.com'
);

-- revoke_grant
select requested, taken, shortfall
from billing.revoke_grant(
    grant_id => 2, amount => 100, idempotency_key => 'ticket-78', reason => 'Granted by mistake',
    actor => 'grace@example.com'
);

-- reinstate_grant
select amount, unwithheld
from billing.reinstate_grant(
    revocation_id => 1, amount => 40, idempotency_key => 'ticket-79', reason => 'Part of it was right',
    actor => 'grace@example.com'
);

-- set_credit_limits
select overdraft, spend_cap, spend_cap_period, low_balance_threshold
from billing.set_credit_limits(
    account_id => 'a0000000-0000-0000-0000-000000000001', spend_cap => 1000, spend_cap_period => 'month',
    low_balance_threshold => 50
);

-- set_budget
select actor, cap, period, parent, path
from billing.set_budget(
    account_id => 'a0000000-0000-0000-0000-000000000001', actor => 'member:1', cap => 500, period => 'month'
);

-- set_budget
-- Of these, an agent may spend at most 20 a day.
select actor, cap, period, parent, path
from billing.set_budget(
    account_id => 'a0000000-0000-0000-0000-000000000001', actor => 'agent:writer', cap => 20, period => 'day',
    parent => 'member:1'
);

-- spend_credits
-- An agent spends: the entry names it, and its budgets count it.
select amount, actor
from billing.spend_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 3, idempotency_key => 'chapter-1',
    actor => 'agent:writer'
);

-- spend_credits fails
-- More than its budget allows.
select billing.spend_credits(
    account_id => 'a0000000-0000-0000-0000-000000000001', amount => 18, idempotency_key => 'chapter-2',
    actor => 'agent:writer'
);

-- remove_budget
select actor, cap, period
from billing.remove_budget(account_id => 'a0000000-0000-0000-0000-000000000001', actor => 'agent:writer');

-- period_start
select billing.period_start(period => 'week', moment => '2030-02-01 12:00Z');

-- period_end
select billing.period_end(period => 'week', period_start => '2030-01-28 00:00Z');

-- credit_statement as ada
select * from public.credit_statement(
    account_id => 'a0000000-0000-0000-0000-000000000001', period_start => '2030-01-01', period_end => '2030-02-01'
);

-- credit_usage as ada
select * from public.credit_usage(
    account_id => 'a0000000-0000-0000-0000-000000000001', period_start => '2030-01-01', period_end => '2030-02-01'
);

-- credit_usage_by_actor as ada
select * from public.credit_usage_by_actor(
    account_id => 'a0000000-0000-0000-0000-000000000001', period_start => '2030-01-01', period_end => '2030-02-01'
);

-- credit_balance_as_of as ada
select public.credit_balance_as_of(
    account_id => 'a0000000-0000-0000-0000-000000000001', moment => '2030-02-01'
);

-- expire_due_credits
select * from billing.expire_due_credits();

-- set_free_credits
select name, credits, every, expires, once_per_person, active
from billing.set_free_credits(name => 'daily', credits => 20, every => 'day', until_subscribed => true);

-- explain_free_credits
select * from billing.explain_free_credits('a0000000-0000-0000-0000-000000000001');

-- end_free_credits
select name, active from billing.end_free_credits('daily');

-- allocate_due_credits
select * from billing.allocate_due_credits();

-- account_entitlements
select * from billing.account_entitlements(account_id => 'a0000000-0000-0000-0000-000000000002');

-- has_feature as grace
select billing.has_feature('projects');

-- has_feature as grace
-- Another user's account: nothing is said about it.
select billing.has_feature('projects', account_id => 'a0000000-0000-0000-0000-000000000001');

-- set_recharge
select threshold, stripe_price_id, monthly_cap_amount, monthly_cap_count, is_paused
from billing.set_recharge(
    account_id => 'a0000000-0000-0000-0000-000000000001', threshold => 10, stripe_price_id => 'price_pack',
    monthly_cap_amount => 10000
);

-- claim_due_overages
select * from billing.claim_due_overages();

-- retry_overage fails
-- Only one that Stripe refused: `till overage list` shows them.
select status from billing.retry_overage(overage_id => 'b0000000-0000-0000-0000-000000000001');

-- payment_reference
select left(billing.payment_reference(
    account_id => 'a0000000-0000-0000-0000-000000000001', expires_in => '7 days'
), 4) as begins_with;

-- judge_fraud_warning
select action, is_due, reason
from billing.judge_fraud_warning(stripe_early_fraud_warning_id => 'issfr_1');

-- note_fraud
select action, status, reason, actor
from billing.note_fraud(
    stripe_early_fraud_warning_id => 'issfr_1', notes => 'Called the customer', actor => 'grace@example.com'
);

-- refund_fraud_warning
select id, action, status, amount, currency
from billing.refund_fraud_warning(
    stripe_early_fraud_warning_id => 'issfr_1', reason => 'Stolen card', actor => 'grace@example.com'
);

-- undo_fraud_action
select action, status, undone_by, undone_reason
from billing.undo_fraud_action(
    id => (select max(id) from billing.fraud_actions where action = 'refund'), reason => 'It was the customer',
    actor => 'grace@example.com'
);

-- freeze_account
select id, frozen_reason
from billing.freeze_account(
    account_id => 'a0000000-0000-0000-0000-000000000002', reason => 'Under investigation',
    actor => 'grace@example.com'
);

-- unfreeze_account
select id, frozen_at, frozen_reason
from billing.unfreeze_account(
    account_id => 'a0000000-0000-0000-0000-000000000002', reason => 'Known customer', actor => 'grace@example.com'
);

-- resolve_fraud_warning
select stripe_early_fraud_warning_id, status
from billing.resolve_fraud_warning(
    stripe_early_fraud_warning_id => 'issfr_1', decision => 'dismissed', notes => 'No fraud',
    actor => 'grace@example.com'
);

-- review_held_credits
select kind, amount, status, reviewed_by
from billing.review_held_credits(
    id => (select id from billing.held_credits where status = 'pending'), decision => 'approve',
    reason => 'Colleagues who share a card', actor => 'grace@example.com'
);

-- set_operation_price
select operation, charged_rates, rounding, on_excess
from billing.set_operation_price(
    operation => 'chat', markup => 20,
    rates => '{"input": {"credits": 0.25, "per": 1000, "unit": "tokens"}, "call": 0.1}'
);

-- estimate_work as ada
select unrounded, credits
from public.estimate_work(operation => 'chat', quantities => '{"input": 1200}');

-- hold_work
select id, amount, status
from billing.hold_work(
    account_id => 'a0000000-0000-0000-0000-000000000001', operation => 'chat',
    quantities => '{"input": 1200, "call": 60}', idempotency_key => 'answer-1'
);

-- settle_work
select quantities, unrounded, credits, charged
from billing.settle_work(
    hold_id => 'b0000000-0000-0000-0000-000000000002', usage => '{"input": 1200}',
    idempotency_key => 'answer-1'
);

-- spend_work
select quantities, unrounded, credits, charged
from billing.spend_work(
    account_id => 'a0000000-0000-0000-0000-000000000001', operation => 'chat',
    quantities => '{"input": 90}', idempotency_key => 'title-1'
);

-- account_work_discrepancies
select * from billing.account_work_discrepancies('a0000000-0000-0000-0000-000000000001');

-- close_account
select id, closed_at is not null as is_closed
from billing.close_account(
    account_id => 'a0000000-0000-0000-0000-000000000002', reason => 'Asked for it', actor => 'grace@example.com'
);

-- reopen_account
select id, closed_at is not null as is_closed
from billing.reopen_account(account_id => 'a0000000-0000-0000-0000-000000000002');

-- receive_stripe_event
select billing.receive_stripe_event(
    event_id => 'evt_1', type => 'customer.created', api_version => '2025-09-30.clover', created => 1894708800,
    livemode => false, payload => '{"id": "evt_1"}'
);

-- dismiss_stripe_event
select billing.dismiss_stripe_event(
    event_id => 'evt_dismissed', reason => 'Another app''s price', actor => 'grace@example.com'
);

-- retry_stripe_event
select billing.retry_stripe_event(event_id => 'evt_dead');

-- retry_notification
select billing.retry_notification(
    notification_id => (select min(id) from billing.notifications where status = 'dead')
);

-- check_account
select * from billing.check_account(account_id => 'a0000000-0000-0000-0000-000000000001');

-- account_ledger_discrepancies
select * from billing.account_ledger_discrepancies(account_id => 'a0000000-0000-0000-0000-000000000001');

-- account_overage_discrepancies
select * from billing.account_overage_discrepancies(account_id => 'a0000000-0000-0000-0000-000000000001');

-- account_discrepancies
select invariant, business_key, expected, found from billing.account_discrepancies(account_id => 'a0000000-0000-0000-0000-000000000001');

-- lost_jobs
select * from billing.lost_jobs();

-- queued_jobs
select kind, id, attempts, reason from billing.queued_jobs();

-- lost_messages
select * from billing.lost_messages();

-- prove_accounts
select * from billing.prove_accounts(accounts_max => 10, milliseconds_max => 60000);

-- settled_balance
select settled.balance, settled.held
from billing.credit_balances as balances, billing.settled_balance(balances) as settled
where balances.account_id = 'a0000000-0000-0000-0000-000000000001';

-- owner_email
select billing.owner_email(account_id => 'a0000000-0000-0000-0000-000000000001');

-- find_accounts
select billing.find_accounts(search => 'ada@', results_max => 10);

-- find_customers
select billing.find_customers(search => 'eve@example.com', results_max => 10);

-- explain_credits
select business_key, moment, stripe_invoice_id, worth, returned, posted, remaining
from billing.explain_credits(account_id => 'a0000000-0000-0000-0000-000000000001', results_max => 3);

-- worker_state
select queue_length, messages_waiting, workers from billing.worker_state();

-- metrics
select name, label, value from billing.metrics() where name = 'events';

-- installation
select name, value from billing.installation() order by name limit 3;

-- export_account
select section, count(*)
from billing.export_account(account_id => 'a0000000-0000-0000-0000-000000000001')
where section in ('accounts', 'user', 'credit_entries')
group by section order by section;

-- export_customer
select section, data ->> 'email' as email
from billing.export_customer(stripe_customer_id => 'cus_other') where section = 'customers';

-- erase_customer
select stripe_customer_id, actor
from billing.erase_customer(
    stripe_customer_id => 'cus_other', reason => 'Request of 30 November', actor => 'grace@example.com'
);

-- erase_account
select account_id, reason, actor
from billing.erase_account(
    account_id => 'a0000000-0000-0000-0000-000000000001', reason => 'Request of 30 November',
    actor => 'grace@example.com'
);
