-- Checkout requests of users, and which of them exclude each other.
--
-- Invariant: nobody subscribes twice against one_subscription_per, not even with two open sessions. A repeated click,
-- within ten minutes and until its session has ended, is the same request with the same Idempotency-Key, and so the
-- same session; a click on another plan supersedes it. The same applies to trials.
--
-- Only functions write; service_role reads. Private: all functions here.

create table billing.checkout_requests (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    user_id uuid references auth.users (id) on delete set null,
    livemode boolean not null,
    stripe_price_id text not null,
    quantity bigint,
    params jsonb not null,
    idempotency_key text not null unique,
    stripe_checkout_session_id text unique,
    discarded_at timestamptz,
    superseded_at timestamptz,
    expired_at timestamptz,
    created_at timestamptz not null default now(),
    constraint quantity_is_positive check (quantity > 0),
    constraint params_are_an_object check (jsonb_typeof(params) = 'object')
);

create index checkout_requests_account on billing.checkout_requests (account_id, created_at);
create index checkout_requests_user on billing.checkout_requests (user_id);

alter table billing.checkout_requests enable row level security;

revoke all on billing.checkout_requests from public, anon, authenticated, service_role;
grant select on billing.checkout_requests to service_role;

-- True if a rule for each price, product or account covers both a plan and a price.
create function billing._is_within(
    scope text, plan billing.plans, stripe_price_id text, stripe_product_id text default null
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case _is_within.scope
        when 'account' then true
        when 'product' then coalesce(
            (select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _is_within.stripe_price_id),
            _is_within.stripe_product_id
        ) is not distinct from (_is_within.plan).stripe_product_id
        when 'price' then _is_within.stripe_price_id = (_is_within.plan).stripe_price_id
        else false
    end
$$;

-- A subscription that was paid at checkout counts from the end of the session, before its own events arrive: until then
-- its row is missing or incomplete.
create function billing._check_not_subscribed(account_id uuid, plan billing.plans)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_scope text := (select settings.one_subscription_per from billing.settings);
begin
    if exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) or exists (
        select from billing.checkout_requests as requests
        join billing.checkout_sessions as sessions
            on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
        left join billing.subscriptions
            on subscriptions.stripe_subscription_id = sessions.stripe_subscription_id
        where requests.account_id = _check_not_subscribed.account_id
            and requests.livemode = (_check_not_subscribed.plan).livemode
            and sessions.mode = 'subscription' and sessions.status = 'complete'
            and coalesce(subscriptions.status, 'incomplete') = 'incomplete'
            and requests.created_at > now() - interval '2 days'
            and billing._is_within(v_scope, _check_not_subscribed.plan, requests.stripe_price_id)
    ) then
        raise exception 'the account is already subscribed: use the portal to change the plan'
            using errcode = 'TB045', hint = 'billing.settings.one_subscription_per decides which plans exclude each other.';
    -- A free plan that is cancelled and taken again at once would grant its month's credits again.
    elsif (_check_not_subscribed.plan).unit_amount = 0 and exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status = 'canceled' and items.current_period_end > billing.current_time()
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) then
        raise exception 'a cancelled free plan can be taken again after its last period'
            using errcode = 'TB045', hint = 'Choose another plan until then.';
    end if;
end
$$;

-- Days of trial that a plan gives to an account: none after an earlier subscription, as one_trial_per says. A completed
-- session counts permanently, whatever plan its subscription has changed to.
create function billing._trial_days(account_id uuid, plan billing.plans)
returns integer
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_trial_days.plan).trial_days from billing.settings
    where (_trial_days.plan).trial_days > 0
        and not exists (
            select from billing.subscriptions
            join billing.subscription_items as items
                on items.stripe_subscription_id = subscriptions.stripe_subscription_id
            where subscriptions.account_id = _trial_days.account_id
                and subscriptions.livemode = (_trial_days.plan).livemode
                and subscriptions.status not in ('incomplete', 'incomplete_expired')
                and billing._is_within(
                    settings.one_trial_per, _trial_days.plan, items.stripe_price_id, items.stripe_product_id
                )
        )
        and not exists (
            select from billing.checkout_requests as requests
            join billing.checkout_sessions as sessions
                on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
            where requests.account_id = _trial_days.account_id and requests.livemode = (_trial_days.plan).livemode
                and sessions.mode = 'subscription' and sessions.status = 'complete'
                and billing._is_within(settings.one_trial_per, _trial_days.plan, requests.stripe_price_id)
        )
$$;

-- The account's other open sessions that one_subscription_per or one_trial_per excludes; their keys are discarded. A
-- session that is being opened at this moment is unknown here: its own click closes it (continue_checkout). A session
-- lives for a day.
create function billing._supersede_requests(
    account_id uuid, plan billing.plans, idempotency_key text, has_trial boolean
)
returns text[]
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with superseded as (
        update billing.checkout_requests as requests
        set discarded_at = coalesce(requests.discarded_at, now()),
            superseded_at = coalesce(requests.superseded_at, now())
        from billing.settings
        where requests.account_id = _supersede_requests.account_id
            and requests.livemode = (_supersede_requests.plan).livemode
            and requests.idempotency_key <> _supersede_requests.idempotency_key
            and requests.params ->> 'mode' = 'subscription'
            and requests.created_at > now() - interval '25 hours' and requests.expired_at is null
            and (
                billing._is_within(settings.one_subscription_per, _supersede_requests.plan, requests.stripe_price_id)
                or _supersede_requests.has_trial
                and requests.params #> '{subscription_data,trial_period_days}' is not null
                and billing._is_within(settings.one_trial_per, _supersede_requests.plan, requests.stripe_price_id)
            )
            and not exists (
                select from billing.checkout_sessions as sessions
                where sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
                    and sessions.status <> 'open'
            )
        returning requests.stripe_checkout_session_id
    )
    select coalesce(array_agg(stripe_checkout_session_id order by stripe_checkout_session_id), '{}') from superseded
    where stripe_checkout_session_id is not null
$$;

revoke all on function
    billing._is_within, billing._check_not_subscribed, billing._trial_days, billing._supersede_requests
from public, anon, authenticated, service_role;

comment on table billing.checkout_requests is 'Checkout requests of users, and the session that Stripe opened for each.';
comment on column billing.checkout_requests.params is 'The parameters for Stripe, without the customer.';
comment on column billing.checkout_requests.discarded_at is 'Since when the idempotency key is no longer used; the next click is a new request.';
comment on column billing.checkout_requests.superseded_at is 'Since when a request for another plan, which excludes this one, has replaced it.';
comment on column billing.checkout_requests.expired_at is 'When we closed the session, because another one replaced it.';
