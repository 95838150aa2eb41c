-- Subscriptions and their items: the newest state from Stripe.
--
-- Invariant: a row never moves to an older state, and no event leaves a final status (canceled, incomplete_expired).
-- The rows hold facts of the newest state and nothing that depends on the order of events; items that the subscription
-- no longer has are deleted. Periods belong to items, not to the subscription. Credits are never calculated from these
-- rows alone. Clients read their own rows; only functions write.

create table billing.subscriptions (
    stripe_subscription_id text primary key,
    stripe_customer_id text not null references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    status text not null,
    currency text,
    billing_cycle_anchor timestamptz not null,
    anchors timestamptz[] not null default '{}',
    cancel_at timestamptz,
    cancel_at_period_end boolean not null default false,
    canceled_at timestamptz,
    ended_at timestamptz,
    trial_start timestamptz,
    trial_end timestamptz,
    is_collection_paused boolean not null default false,
    metadata jsonb not null default '{}',
    started_at timestamptz not null,
    stripe_test_clock_id text,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (
        status in ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused')
    )
);

create index subscriptions_account on billing.subscriptions (account_id);
create index subscriptions_test_clock on billing.subscriptions (stripe_test_clock_id)
where stripe_test_clock_id is not null;
create index subscriptions_customer on billing.subscriptions (stripe_customer_id);
create index subscriptions_started on billing.subscriptions (started_at, stripe_subscription_id);

create table billing.subscription_items (
    stripe_subscription_item_id text primary key,
    stripe_subscription_id text not null references billing.subscriptions (stripe_subscription_id),
    stripe_price_id text not null,
    stripe_product_id text,
    quantity bigint,
    current_period_start timestamptz not null,
    current_period_end timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint quantity_is_not_negative check (quantity >= 0),
    constraint current_period_ends_after_it_starts check (current_period_end >= current_period_start)
);

create index subscription_items_subscription on billing.subscription_items (stripe_subscription_id);
create index subscription_items_price on billing.subscription_items (stripe_price_id, current_period_end);

alter table billing.subscriptions enable row level security;
alter table billing.subscription_items enable row level security;

revoke all on billing.subscriptions, billing.subscription_items from public, anon, authenticated, service_role;

create policy subscriptions_select_own on billing.subscriptions
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy subscription_items_select_own on billing.subscription_items
for select to authenticated using (
    stripe_subscription_id in (
        select subscriptions.stripe_subscription_id from billing.subscriptions
        where subscriptions.account_id = any (array(select billing.my_account_ids()))
    )
);

grant select on billing.subscriptions, billing.subscription_items to authenticated, service_role;

comment on table billing.subscriptions is 'Stripe subscriptions.';
comment on column billing.subscriptions.anchors is 'Every billing_cycle_anchor that Stripe reported, late events included: earlier paid periods keep their own anchor.';
comment on column billing.subscriptions.account_id is 'Null while the customer is not linked to an account.';
comment on column billing.subscriptions.as_of is 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';
comment on column billing.subscriptions.is_collection_paused is 'True while Stripe creates invoices without collecting them (pause_collection); independent of status.';
comment on table billing.subscription_items is 'The items of a subscription in its newest state, each with a price, a quantity and a current period.';

-- The plans of a trial, with the earliest state or invoice that shows each; the earliest ones are those with which the
-- trial started.
create table billing.trial_items (
    stripe_subscription_id text not null,
    stripe_subscription_item_id text not null,
    stripe_price_id text not null,
    seen_at timestamptz not null,
    primary key (stripe_subscription_id, stripe_subscription_item_id, stripe_price_id)
);

alter table billing.trial_items enable row level security;
revoke all on billing.trial_items from public, anon, authenticated, service_role;
grant select on billing.trial_items to service_role;

comment on table billing.trial_items is 'The plans of subscriptions during their trial, with the time of the earliest state or invoice that shows each.';
