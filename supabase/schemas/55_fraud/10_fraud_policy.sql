-- The policy for early fraud warnings, and the actions that were taken.
--
-- Invariant: each action is one row with its reason. An action that the policy asks for and that the charge's state
-- forbids is a row too: skipped, with the reason. With settings.fraud_dry_run, warnings are recorded and nothing is done.
--
-- fraud_policies   which actions to take, for each risk level of the charge
-- fraud_actions    the actions of the policy and of people: done, skipped, failed or undone, each with its reason
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

-- The policy takes each action once for a warning; a person may repeat it.
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

comment on table billing.fraud_policies is 'Which actions an early fraud warning causes, by the risk level of its charge. Edit the rows as you like.';
comment on column billing.fraud_policies.refund_amount_max is 'The largest amount that is refunded automatically, in minor units of the charge''s currency; null: any amount.';
comment on table billing.fraud_actions is 'Actions because of fraud, of the policy (actor policy) or of a person, with their status and reason.';
comment on column billing.fraud_actions.idempotency_key is 'Part of the Idempotency-Key of the request to Stripe, and in the metadata of the action''s refund. Not the id, because two databases of one Stripe account can have the same ids.';
comment on column billing.fraud_actions.attempts is 'The number of requests to Stripe.';
comment on column billing.fraud_actions.is_in_doubt is 'True if a request was sent and its answer is unknown: Stripe may have done it.';
