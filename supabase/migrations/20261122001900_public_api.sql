-- What apps see: views for clients under RLS, and twins of the ledger's functions for the app's own server.
--
-- Invariant: a view shows nothing that its reader's policies on the tables beneath don't (security_invoker), and a
-- twin runs as its caller: only service_role may execute it. Each object first loses what default privileges of older
-- projects give, then gets its grants.

create view public.credit_balance with (security_invoker = on) as
select
    balances.account_id,
    balances.balance,
    balances.held,
    -- A lot that is due counts no more, though no movement has closed it yet.
    greatest(
        balances.balance - balances.held - case
            when balances.next_due_at <= billing.current_time() then coalesce((
                select sum(lots.remaining - lots.held) from billing.credit_grants as lots
                where lots.account_id = balances.account_id and lots.closed_at is null
                    and lots.expires_at <= billing.current_time()
            ), 0)
            else 0
        end, 0
    )::bigint as available,
    balances.updated_at
from billing.credit_balances as balances;

create view public.credit_history with (security_invoker = on) as
select id, account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, occurred_at
from billing.credit_entries;

create view public.billing_plans with (security_invoker = on) as
select
    plans.stripe_price_id, plans.lookup_key, coalesce(plans.nickname, products.name) as name, products.description,
    plans.currency, plans.unit_amount, plans.recurring_interval, plans.recurring_interval_count,
    plans.initial_credits, plans.monthly_credits, plans.trial_credits, plans.features
from billing.plans
join billing.products on products.stripe_product_id = plans.stripe_product_id;

create view public.billing_subscription with (security_invoker = on) as
select
    subscriptions.account_id, subscriptions.stripe_subscription_id, subscriptions.status,
    items.stripe_price_id, items.quantity, items.current_period_start, items.current_period_end,
    subscriptions.trial_end,
    -- Flexible billing schedules a cancellation by cancel_at alone.
    case when subscriptions.cancel_at_period_end then items.current_period_end else subscriptions.cancel_at end as cancels_at,
    subscriptions.ended_at
from billing.subscriptions
join billing.subscription_items as items
    on items.stripe_subscription_id = subscriptions.stripe_subscription_id and items.removed_at is null;

revoke all on public.credit_balance, public.credit_history, public.billing_plans, public.billing_subscription
from public, anon, authenticated, service_role;
grant select on public.credit_balance, public.credit_history, public.billing_subscription to authenticated, service_role;
grant select on public.billing_plans to anon, authenticated, service_role;

create function public.grant_credits(
    account_id uuid, amount numeric, idempotency_key text, description text default null, source text default 'app',
    reference_id text default null, expires_at timestamptz default null, priority integer default 100,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.grant_credits(
        grant_credits.account_id, grant_credits.amount, grant_credits.idempotency_key, grant_credits.description,
        grant_credits.source, grant_credits.reference_id, grant_credits.expires_at, grant_credits.priority,
        grant_credits.metadata
    )
$$;

create function public.spend_credits(
    account_id uuid, amount numeric, idempotency_key text, description text default null, metadata jsonb default '{}',
    feature text default null, reference_id text default null
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id
    )
$$;

create function public.ensure_account(user_id uuid)
returns uuid
language sql
volatile
set search_path = ''
as $$
    select billing.ensure_account(ensure_account.user_id)
$$;

create function public.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language sql
volatile
set search_path = ''
as $$
    select billing.link_customer(link_customer.account_id, link_customer.stripe_customer_id, link_customer.livemode)
$$;

revoke all on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean),
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean),
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text)
to service_role;

comment on view public.credit_balance is 'Credits of my accounts: one row each. available leaves out what is held and what is due.';
comment on view public.credit_history is 'Movements of credits of my accounts; page by id descending.';
comment on view public.billing_plans is 'Plans on sale and the credits they are worth.';
comment on view public.billing_subscription is 'Subscriptions of my accounts: one row for each item.';

-- Accounts for the users who were here before billing.
select billing.ensure_account(users.id) from auth.users;
