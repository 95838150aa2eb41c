-- Plans and credit packs: how many credits a Stripe price is worth.
--
-- A plan is a recurring price, a credit pack a one-time price with `pack_credits`. Credits are declared in the metadata
-- of the price, or else of its product, and stored here as numbers. Credits are never read from the metadata of an
-- event. Clients and visitors read active plans of this installation's mode; only functions write.

create table billing.products (
    stripe_product_id text primary key,
    livemode boolean not null,
    name text not null,
    description text,
    active boolean not null default true,
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table billing.plans (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null default false,
    active boolean not null default true,
    lookup_key text,
    nickname text,
    currency text not null default 'usd',
    unit_amount bigint,
    recurring_interval text not null default 'month',
    recurring_interval_count integer not null default 1,
    usage_type text not null default 'licensed',
    initial_credits bigint not null default 0,
    monthly_credits bigint not null default 0,
    trial_credits bigint not null default 0,
    rollover text not null default 'all',
    rollover_periods integer,
    rollover_cap bigint,
    proration_credits text not null default 'delta',
    downgrade_credits text not null default 'take_back',
    cancel_credits text not null default 'period_end',
    trial_end_credits text not null default 'trial_end',
    trial_days integer not null default 0,
    seats_min bigint not null default 1,
    seats_max bigint,
    overage_limit bigint not null default 0,
    overage_pack text,
    features jsonb not null default '{}',
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint recurring_interval_is_known check (recurring_interval in ('day', 'week', 'month', 'year')),
    constraint recurring_interval_count_is_positive check (recurring_interval_count > 0),
    constraint usage_type_is_known check (usage_type in ('licensed', 'metered')),
    constraint initial_credits_are_not_negative check (initial_credits >= 0),
    constraint monthly_credits_are_not_negative check (monthly_credits >= 0),
    constraint trial_credits_are_not_negative check (trial_credits >= 0),
    constraint rollover_is_known check (rollover in ('none', 'all', 'periods', 'cap')),
    constraint rollover_periods_come_with_the_rule check ((rollover = 'periods') = (rollover_periods is not null)),
    constraint rollover_periods_are_positive check (rollover_periods > 0),
    constraint rollover_cap_comes_with_the_rule check ((rollover = 'cap') = (rollover_cap is not null)),
    constraint rollover_cap_is_not_negative check (rollover_cap >= 0),
    constraint proration_credits_is_known check (proration_credits in ('none', 'delta', 'full')),
    constraint downgrade_credits_is_known check (downgrade_credits in ('take_back', 'keep')),
    constraint trial_end_credits_is_known check (trial_end_credits in ('trial_end', 'keep')),
    constraint cancel_credits_is_known check (cancel_credits in ('period_end', 'stop')),
    constraint trial_days_are_at_most_two_years check (trial_days between 0 and 730),
    constraint seats_are_in_order check (seats_min > 0 and seats_max >= seats_min),
    constraint overage_limit_is_not_negative check (overage_limit >= 0),
    constraint overage_comes_with_its_pack check (overage_limit = 0 or overage_pack is not null),
    constraint features_are_an_object check (jsonb_typeof(features) = 'object')
);

create index plans_product on billing.plans (stripe_product_id);
create index plans_lookup_key on billing.plans (lookup_key) where lookup_key is not null;
create index plans_with_overage on billing.plans (stripe_price_id) where overage_limit > 0;

create table billing.credit_packs (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null default false,
    active boolean not null default true,
    lookup_key text,
    nickname text,
    currency text not null default 'usd',
    unit_amount bigint,
    pack_credits bigint,
    credits_per_unit numeric,
    expires_after interval,
    declared_from timestamptz not null default '-infinity',
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint pack_credits_are_positive check (pack_credits > 0),
    constraint credits_per_unit_are_positive check (credits_per_unit > 0),
    constraint credits_are_fixed_or_by_the_amount check ((pack_credits is null) <> (credits_per_unit is null)),
    constraint expires_after_is_positive check (expires_after > interval '0')
);

create index credit_packs_product on billing.credit_packs (stripe_product_id);
create index credit_packs_lookup_key on billing.credit_packs (lookup_key) where lookup_key is not null;

alter table billing.products enable row level security;
alter table billing.plans enable row level security;
alter table billing.credit_packs enable row level security;

revoke all on billing.products, billing.plans, billing.credit_packs from public, anon, authenticated, service_role;

create policy products_select_everyone on billing.products
for select to anon, authenticated using (active and livemode = (select billing.is_livemode()));

create policy plans_select_everyone on billing.plans
for select to anon, authenticated using (active and livemode = (select billing.is_livemode()));

create policy credit_packs_select_users on billing.credit_packs
for select to authenticated using (active and livemode = (select billing.is_livemode()));

grant select (stripe_product_id, livemode, name, description, active) on billing.products to anon, authenticated;
grant select (
    stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
    recurring_interval, recurring_interval_count, usage_type, initial_credits, monthly_credits, trial_credits,
    rollover, rollover_periods, rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits,
    trial_days, seats_min, seats_max, overage_limit, overage_pack, features
) on billing.plans to anon, authenticated;
grant select (
    stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount, pack_credits,
    credits_per_unit, expires_after
) on billing.credit_packs to authenticated;
grant select on billing.products, billing.plans, billing.credit_packs to service_role;

comment on table billing.products is 'Stripe products.';
comment on table billing.plans is 'Recurring Stripe prices and the credits they are worth.';
comment on column billing.plans.unit_amount is 'Minor units of currency for one unit; null for tiered prices.';
comment on column billing.plans.initial_credits is 'Granted once for each account and product, with the first paid period.';
comment on column billing.plans.monthly_credits is 'Granted for each paid month, for each seat of a licensed price.';
comment on column billing.plans.trial_credits is 'Granted once for each account and product, when a trial starts.';
comment on column billing.plans.rollover is 'What happens to unspent monthly credits: none (expire with their month), all (never expire), periods (expire after rollover_periods more months), cap (at most rollover_cap are carried into the next month).';
comment on column billing.plans.proration_credits is 'The credits of a change to this plan within a paid period, for the running month: delta (the share of the time left), full (a whole month, once), none.';
comment on column billing.plans.downgrade_credits is 'Unspent credits of time that Stripe credits back: take_back (revoked; spent credits are carried against later credits) or keep.';
comment on column billing.plans.trial_end_credits is 'Whether trial credits expire at the end of the trial (trial_end) or stay (keep).';
comment on column billing.plans.cancel_credits is 'Which months are granted after the customer cancels: period_end (all that are paid), stop (none).';
comment on column billing.plans.trial_days is 'Length of the trial for new subscribers at checkout; 0: no trial.';
comment on column billing.plans.features is 'What the plan unlocks: a JSON object of your own names. A feature that is false, null or 0 is not granted.';
comment on column billing.plans.seats_min is 'The smallest quantity at checkout, and the default.';
comment on column billing.plans.seats_max is 'The largest quantity at checkout; null: settings.max_checkout_quantity.';
comment on column billing.plans.overage_limit is 'How many credits may be spent beyond those that there are, and are billed afterwards; 0: none.';
comment on column billing.plans.overage_pack is 'The pack that bills them: its lookup key or the id of its price.';
comment on column billing.credit_packs.declared_from is 'Since when it is a pack: what was paid for it before gave no credits. -infinity: since its price is known.';
comment on table billing.credit_packs is 'One-time Stripe prices and the credits they are worth.';
comment on column billing.credit_packs.pack_credits is 'Credits of one pack; null if the customer chooses the amount.';
comment on column billing.credit_packs.credits_per_unit is 'Credits for one whole unit of currency (1.00 usd, 1 jpy) of a price whose amount the customer chooses.';
comment on column billing.credit_packs.expires_after is 'How long after the payment the credits expire; null: never.';
