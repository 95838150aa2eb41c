-- Auto-recharge: a credit pack is bought with the saved card when the available credits fall below a threshold.
--
-- recharge_settings   what an account agreed to: the threshold, the pack, the monthly caps
-- recharges           each purchase: claimed in the database, charged by the worker, paid or failed
--
-- Invariant: an account has at most one open recharge, and each recharge is at most one payment: its id is the
-- Idempotency-Key of the request to Stripe. A failed recharge pauses the settings, so nothing is retried until a person
-- resumes them. The balance's own row has the threshold (recharge_below; null while no recharge can begin), so that spends
-- of accounts without auto-recharge cost nothing more.
--
-- Clients read their own rows, also where to authenticate a payment; only functions write.

create table billing.recharge_settings (
    account_id uuid primary key references billing.accounts (id),
    threshold bigint not null,
    stripe_price_id text not null references billing.credit_packs (stripe_price_id),
    monthly_cap_amount bigint,
    monthly_cap_count integer,
    return_url text,
    is_paused boolean not null default false,
    paused_reason text,
    paused_at timestamptz,
    check_again_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint threshold_is_positive check (threshold > 0),
    constraint monthly_cap_amount_is_positive check (monthly_cap_amount > 0),
    constraint monthly_cap_count_is_positive check (monthly_cap_count > 0),
    constraint paused_settings_say_why_and_when
    check (is_paused = (paused_reason is not null) and is_paused = (paused_at is not null))
);

create index recharge_settings_price on billing.recharge_settings (stripe_price_id);
create index recharge_settings_paused on billing.recharge_settings (paused_at) where is_paused;
create index recharge_settings_check_again on billing.recharge_settings (check_again_at) where check_again_at is not null;

create table billing.recharges (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    status text not null default 'claimed',
    stripe_customer_id text not null,
    stripe_price_id text not null,
    credits billing.positive_credits not null,
    amount bigint not null,
    currency text not null,
    return_url text,
    idempotency_key text not null generated always as (id::text) stored,
    stripe_payment_intent_id text,
    stripe_payment_method_id text,
    reason text,
    is_final boolean not null default false,
    action_url text,
    attempts integer not null default 0,
    last_error text,
    first_attempt_at timestamptz,
    claimed_at timestamptz not null,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('claimed', 'charging', 'paid', 'failed', 'requires_action')),
    constraint amount_is_positive check (amount > 0),
    constraint paid_recharges_name_their_payment check (status <> 'paid' or stripe_payment_intent_id is not null),
    constraint failed_recharges_say_why check (status not in ('failed', 'requires_action') or reason is not null),
    constraint settled_recharges_say_when check ((status in ('paid', 'failed')) = (settled_at is not null))
);

create unique index recharges_under_way on billing.recharges (account_id)
where status in ('claimed', 'charging', 'requires_action');
create unique index recharges_payment_intent on billing.recharges (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;
create unique index recharges_key on billing.recharges (idempotency_key);
create index recharges_account on billing.recharges (account_id, claimed_at);

alter table billing.recharge_settings enable row level security;
alter table billing.recharges enable row level security;

revoke all on billing.recharge_settings, billing.recharges from public, anon, authenticated, service_role;

create policy recharge_settings_select_managed on billing.recharge_settings
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

create policy recharges_select_managed on billing.recharges
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.recharge_settings, billing.recharges to service_role;
grant select on billing.recharge_settings to authenticated;
grant select (
    id, account_id, status, stripe_price_id, credits, amount, currency, reason, action_url, claimed_at, settled_at
) on billing.recharges to authenticated;

comment on table billing.recharge_settings is 'What accounts agreed to for auto-recharge.';
comment on column billing.recharge_settings.threshold is 'A pack is bought when fewer credits are available.';
comment on column billing.recharge_settings.monthly_cap_amount is 'The largest amount in a calendar month (UTC), in minor units of the pack''s currency; null: no cap.';
comment on column billing.recharge_settings.monthly_cap_count is 'The largest number of recharges in a calendar month (UTC); null: no cap.';
comment on column billing.recharge_settings.return_url is 'Where the bank''s page sends the customer after an authentication; null: settings.site_url.';
comment on column billing.recharge_settings.paused_reason is 'paused: by the app. Else why the last recharge failed: a Stripe code, or no_customer, no_pack, no_payment_method, no_user, account_closed, no_answer.';
comment on column billing.recharge_settings.check_again_at is 'When the balance is checked again without a movement: the month of the cap is over, or the account may be unfrozen.';
comment on table billing.recharges is 'Auto-recharges, each at most one payment; amounts in minor units of currency.';
comment on column billing.recharges.idempotency_key is 'The Idempotency-Key of every request to Stripe for this recharge: its id.';
comment on column billing.recharges.reason is 'Why it failed or must be authenticated: Stripe''s decline code or code.';
comment on column billing.recharges.is_final is 'The card was refused permanently: auto-recharge never charges this payment method again.';
comment on column billing.recharges.action_url is 'The bank''s page on which the customer authenticates the payment.';
comment on column billing.recharges.attempts is 'The number of requests to Stripe.';
