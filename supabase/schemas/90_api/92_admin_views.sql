-- Views for administrators: each question that the command line and the dashboard both ask is answered here once.
--
-- Invariant: nothing here writes, and nothing here is for clients: readable by service_role, which reads the tables
-- beneath as well (security_invoker). Readers order and page by the columns that the tables have an index for.
--
--   admin_attention        how much waits for a person, by kind: one row
--   admin_accounts         accounts with owner, status and balance
--   admin_customers        Stripe customers and what they are to this installation
--   admin_subscriptions    subscriptions with owner, plans and end of the period
--   admin_fraud_warnings   early fraud warnings with charge, owner and what was done
--   admin_disputes         disputes with owner
--   admin_reviews          Radar reviews with payment and owner
--   admin_plans_without_credits  live subscriptions whose plan gives neither credits nor features
--   admin_credit_reviews   initial, trial and free credits under review, with both owners
--
-- owner_email is called for the rows that are shown: Postgres works out the columns of a view after its limit.

create view billing.admin_attention with (security_invoker = on) as
select
    (select count(*) from billing.fraud_warnings where fraud_warnings.status = 'open') as open_warnings,
    (select count(*) from billing.disputes where disputes.needs_response) as disputes_to_answer,
    (select count(*) from billing.reviews where reviews.is_open) as open_reviews,
    (select count(*) from billing.held_credits where held_credits.status = 'pending') as credits_under_review,
    (select count(*) from billing.stripe_events where stripe_events.status = 'dead') as dead_events,
    (select count(*) from billing.stripe_events where stripe_events.status = 'parked') as parked_events,
    -- Of events in the queue that need data from Stripe: those that Stripe did not give three times.
    (select count(*) from billing.stripe_lookups where stripe_lookups.attempts > 3) as waiting_events,
    (select count(*) from billing.notifications where notifications.status = 'dead') as dead_notifications,
    (select count(*) from billing.found_discrepancies) as discrepancies,
    (select count(*) from billing.recharge_settings where recharge_settings.is_paused) as paused_recharges,
    (select count(*) from billing.accounts where accounts.frozen_at is not null) as frozen_accounts,
    (select count(*) from billing.customers where customers.status = 'unlinked') as unlinked_customers;

create view billing.admin_accounts with (security_invoker = on) as
select
    accounts.id, accounts.kind, accounts.name, accounts.owner_id, billing.owner_email(accounts.id) as email,
    states.status, accounts.frozen_at, accounts.frozen_reason, accounts.closed_at, accounts.created_at,
    settled.balance, settled.held, settled.available, balances.debt, balances.withheld
from billing.accounts
join public.billing_account as states on states.account_id = accounts.id
join public.credit_balance as settled on settled.account_id = accounts.id
join billing.credit_balances as balances on balances.account_id = accounts.id;

create view billing.admin_customers with (security_invoker = on) as
select
    customers.stripe_customer_id, customers.status, customers.email, customers.name, customers.account_id,
    customers.duplicate_of, customers.dismissed_at, customers.dismissed_reason, customers.dismissed_by,
    customers.livemode, customers.deleted_at, customers.created_at,
    (
        select count(*) from billing.stripe_events
        where stripe_events.waiting_for = customers.stripe_customer_id and stripe_events.status in ('parked', 'dead')
    ) as events_waiting
from billing.customers
where customers.stripe_customer_id is not null;

create view billing.admin_subscriptions with (security_invoker = on) as
select
    subscriptions.stripe_subscription_id, subscriptions.status,
    subscriptions.status in ('active', 'trialing', 'past_due') as is_live,
    subscriptions.account_id, billing.owner_email(subscriptions.account_id) as email, subscriptions.stripe_customer_id,
    subscriptions.livemode, subscriptions.currency, subscriptions.started_at, subscriptions.billing_cycle_anchor,
    subscriptions.trial_end, subscriptions.cancel_at_period_end, subscriptions.cancel_at, subscriptions.canceled_at,
    subscriptions.ended_at, subscriptions.is_collection_paused,
    (
        select string_agg(
            coalesce(nullif(plans.nickname, ''), products.name, items.stripe_price_id)
                || case when items.quantity > 1 then ' × ' || items.quantity else '' end,
            ', ' order by items.stripe_subscription_item_id
        )
        from billing.subscription_items as items
        left join billing.plans on plans.stripe_price_id = items.stripe_price_id
        left join billing.products on products.stripe_product_id = plans.stripe_product_id
        where items.stripe_subscription_id = subscriptions.stripe_subscription_id
    ) as plans,
    (
        select max(items.current_period_end) from billing.subscription_items as items
        where items.stripe_subscription_id = subscriptions.stripe_subscription_id
    ) as current_period_end
from billing.subscriptions;

create view billing.admin_fraud_warnings with (security_invoker = on) as
select
    warnings.stripe_early_fraud_warning_id, warnings.warned_at, warnings.status, warnings.fraud_type,
    coalesce(warnings.risk_level, payments.risk_level) as risk_level,
    coalesce(warnings.risk_score, payments.risk_score) as risk_score,
    warnings.actionable, warnings.stripe_charge_id, payments.amount, payments.amount_refunded, payments.currency,
    payments.charged_at, payments.is_disputed, payments.is_liability_shifted, warnings.stripe_customer_id,
    warnings.account_id, billing.owner_email(warnings.account_id) as email, accounts.frozen_at,
    array(
        select actions.action || ' ' || actions.status from billing.fraud_actions as actions
        where actions.stripe_early_fraud_warning_id = warnings.stripe_early_fraud_warning_id
            and actions.action not in ('alert', 'note')
        order by actions.id
    ) as actions
from billing.fraud_warnings as warnings
left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
left join billing.accounts on accounts.id = warnings.account_id;

create view billing.admin_disputes with (security_invoker = on) as
select
    disputes.stripe_dispute_id, disputes.disputed_at, disputes.status, disputes.is_open, disputes.needs_response,
    disputes.reason, disputes.amount, disputes.currency, disputes.evidence_due_at, disputes.stripe_charge_id,
    payments.stripe_customer_id, payments.account_id, billing.owner_email(payments.account_id) as email
from billing.disputes
left join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id;

create view billing.admin_reviews with (security_invoker = on) as
select
    reviews.stripe_review_id, reviews.opened_at, reviews.is_open, reviews.reason, reviews.closed_reason,
    reviews.stripe_charge_id, payments.amount, payments.currency, payments.risk_level, reviews.account_id,
    billing.owner_email(reviews.account_id) as email
from billing.reviews
left join billing.payments on payments.stripe_charge_id = reviews.stripe_charge_id;

create view billing.admin_plans_without_credits with (security_invoker = on) as
select
    plans.stripe_price_id, coalesce(plans.lookup_key, nullif(plans.nickname, ''), products.name) as name,
    subscriptions.stripe_subscription_id, subscriptions.account_id
from billing.subscriptions
join billing.subscription_items as items on items.stripe_subscription_id = subscriptions.stripe_subscription_id
join billing.plans on plans.stripe_price_id = items.stripe_price_id
join billing.products on products.stripe_product_id = plans.stripe_product_id
where subscriptions.status in ('active', 'trialing', 'past_due') and plans.usage_type = 'licensed'
    -- The period of a live subscription ends in the future, or has just ended while its renewal is on its way: so items of
    -- subscriptions that ended long ago are not looked at.
    and items.current_period_end > now() - interval '31 days'
    and plans.initial_credits = 0 and plans.monthly_credits = 0 and plans.trial_credits = 0 and plans.features = '{}';

create view billing.admin_credit_reviews with (security_invoker = on) as
select
    held.id, held.held_at, held.status, held.kind, held.amount, held.description, held.source, held.reference_id,
    held.account_id, billing.owner_email(held.account_id) as email,
    held.matched_account_id, billing.owner_email(held.matched_account_id) as matched_email,
    held.reviewed_at, held.reviewed_by, held.reason
from billing.held_credits as held;

revoke all on
    billing.admin_attention, billing.admin_accounts, billing.admin_customers, billing.admin_subscriptions,
    billing.admin_fraud_warnings, billing.admin_disputes, billing.admin_reviews, billing.admin_credit_reviews,
    billing.admin_plans_without_credits
from public, anon, authenticated, service_role;
grant select on
    billing.admin_attention, billing.admin_accounts, billing.admin_customers, billing.admin_subscriptions,
    billing.admin_fraud_warnings, billing.admin_disputes, billing.admin_reviews, billing.admin_credit_reviews,
    billing.admin_plans_without_credits
to service_role;

comment on view billing.admin_attention is 'How much waits for a person, by kind. Each number is answered from an index of just those rows, or from a table of few.';
comment on view billing.admin_accounts is 'Accounts with their owner, status and balance; what is due counts as settled.';
comment on view billing.admin_customers is 'Stripe customers: unlinked, linked, duplicate or dismissed, and how many events wait for each.';
comment on view billing.admin_subscriptions is 'Subscriptions with their owner, plans and end of the current period.';
comment on view billing.admin_fraud_warnings is 'Early fraud warnings with the charge, its risk, the owner and what was done.';
comment on view billing.admin_disputes is 'Disputes with the owner of the payment. Open: not decided yet. needs_response: Stripe waits for an answer.';
comment on view billing.admin_reviews is 'Radar reviews with the payment and its owner.';
comment on view billing.admin_plans_without_credits is 'Live subscriptions whose plan declares neither credits nor features: the customers pay and get nothing here.';
comment on view billing.admin_credit_reviews is 'Initial and trial credits under review because their card was seen on another account; pending until a person decides.';
