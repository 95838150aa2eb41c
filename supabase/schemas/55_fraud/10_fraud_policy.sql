-- What is to be done about early fraud warnings, and what was done.
--
-- Invariant: each action is one row with its reason, done or not: what the policy asks for and the state of the charge
-- forbids is skipped and says why. settings.fraud_dry_run: warnings are recorded and nothing is done.
--
-- fraud_policies   for each risk level of the charge, what is to be done
-- fraud_actions    what was done, by the policy or by a person, and what was not, and why
-- Only functions write actions; the policy is the owner's to edit. service_role reads both.

create table billing.fraud_policies (
    risk_level text primary key,
    alert boolean not null default true,
    freeze_account boolean not null default false,
    refund boolean not null default false,
    refund_amount_max bigint,
    refund_age_max interval not null default '7 days',
    cancel_subscription boolean not null default false,
    updated_at timestamptz not null default now(),
    constraint risk_level_is_known check (risk_level in ('normal', 'elevated', 'highest', 'not_assessed', 'unknown')),
    constraint refund_amount_max_is_positive check (refund_amount_max > 0),
    constraint refund_age_max_is_positive check (refund_age_max > interval '0')
);

insert into billing.fraud_policies (risk_level, freeze_account)
values ('normal', false), ('elevated', false), ('highest', true), ('not_assessed', false), ('unknown', false);

create table billing.fraud_actions (
    id bigint generated always as identity primary key,
    idempotency_key uuid not null default gen_random_uuid(),
    stripe_early_fraud_warning_id text references billing.fraud_warnings (stripe_early_fraud_warning_id),
    account_id uuid references billing.accounts (id),
    action text not null,
    status text not null,
    reason text not null,
    actor text not null,
    stripe_charge_id text,
    stripe_subscription_id text,
    amount bigint,
    currency text,
    stripe_refund_id text,
    is_in_doubt boolean not null default false,
    attempts integer not null default 0,
    last_error text,
    decided_at timestamptz not null,
    settled_at timestamptz,
    undone_at timestamptz,
    undone_by text,
    undone_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint action_is_known
    check (action in ('alert', 'freeze_account', 'unfreeze_account', 'refund', 'cancel_subscription', 'note')),
    constraint status_is_known check (status in ('queued', 'done', 'skipped', 'failed', 'undone')),
    constraint undone_actions_say_who_and_why
    check ((status = 'undone') = (undone_at is not null) and (undone_at is null) = (undone_by is null or undone_reason is null))
);

-- What the policy does about a warning it does once; a person may do it again.
create unique index fraud_actions_of_policy on billing.fraud_actions
    (stripe_early_fraud_warning_id, action, coalesce(stripe_subscription_id, ''))
where actor = 'policy';
create index fraud_actions_warning on billing.fraud_actions (stripe_early_fraud_warning_id);
create index fraud_actions_account on billing.fraud_actions (account_id);
create index fraud_actions_refund on billing.fraud_actions (stripe_refund_id) where stripe_refund_id is not null;
create index fraud_actions_queued on billing.fraud_actions (id) where status = 'queued';
create unique index fraud_actions_of_deleted_user on billing.fraud_actions (stripe_subscription_id)
where actor = 'on_user_deleted';

alter table billing.fraud_policies enable row level security;
alter table billing.fraud_actions enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.fraud_policies, billing.fraud_actions from public, anon, authenticated, service_role;
grant select on billing.fraud_policies, billing.fraud_actions to service_role;

comment on table billing.fraud_policies is 'What is done about an early fraud warning, by the risk level of its charge. Edit it as you see fit.';
comment on column billing.fraud_policies.refund_amount_max is 'Refund at most so much by itself, in minor units of the charge''s currency; null: any amount.';
comment on table billing.fraud_actions is 'What was done about fraud, by the policy (actor policy) or by a person, and what was skipped, and why.';
comment on column billing.fraud_actions.idempotency_key is 'What Stripe is asked with, and what a refund of this action carries in its metadata. Not the id: two databases of one Stripe account have the same ids.';
comment on column billing.fraud_actions.attempts is 'How often Stripe was asked.';
comment on column billing.fraud_actions.is_in_doubt is 'Stripe may have done it already, and its answer was lost.';
