-- What users asked checkout for, and which of it excludes what.
--
-- Invariant: nobody subscribes twice to what the owner says is one too many, not with two open sessions either: the same
-- click again, within ten minutes and until its session has ended, is the same request with the same Idempotency-Key, and
-- so the same session; a click on another plan supersedes it.
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

-- Whether an account may not subscribe to both: whom that concerns is the owner's setting.
create function billing._is_one_too_many(plan billing.plans, stripe_price_id text, stripe_product_id text)
returns boolean
language sql
stable
set search_path = ''
as $$
    select case settings.one_subscription_per
        when 'account' then true
        when 'product' then coalesce(
            (select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _is_one_too_many.stripe_price_id),
            _is_one_too_many.stripe_product_id
        ) = (_is_one_too_many.plan).stripe_product_id
        when 'price' then _is_one_too_many.stripe_price_id = (_is_one_too_many.plan).stripe_price_id
        else false
    end
    from billing.settings
$$;

-- A subscription that was paid at checkout counts from the session's end, before its own events have come: until then
-- it is not here, or incomplete.
create function billing._check_not_subscribed(account_id uuid, plan billing.plans)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and billing._is_one_too_many(_check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
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
            and billing._is_one_too_many(_check_not_subscribed.plan, requests.stripe_price_id, null)
    ) then
        raise exception 'there is a subscription already: use the portal to change it'
            using errcode = 'TB045', hint = 'billing.settings.one_subscription_per decides what is one too many.';
    end if;
end
$$;

-- The account's other open sessions for a subscription that would be one too many; their keys are given up. One that is
-- being opened at this moment is not known here: its own click closes it (note_checkout_session). A session lives for
-- a day.
create function billing._supersede_requests(account_id uuid, plan billing.plans, idempotency_key text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
    with superseded as (
        update billing.checkout_requests as requests
        set discarded_at = coalesce(requests.discarded_at, now()),
            superseded_at = coalesce(requests.superseded_at, now())
        where requests.account_id = _supersede_requests.account_id
            and requests.livemode = (_supersede_requests.plan).livemode
            and requests.idempotency_key <> _supersede_requests.idempotency_key
            and requests.params ->> 'mode' = 'subscription'
            and requests.created_at > now() - interval '25 hours' and requests.expired_at is null
            and billing._is_one_too_many(_supersede_requests.plan, requests.stripe_price_id, null)
            and not exists (
                select from billing.checkout_sessions as sessions
                where sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
                    and sessions.status <> 'open'
            )
        returning requests.stripe_checkout_session_id
    )
    select coalesce(jsonb_agg(stripe_checkout_session_id order by stripe_checkout_session_id), '[]') from superseded
    where stripe_checkout_session_id is not null
$$;

revoke all on function billing._is_one_too_many, billing._check_not_subscribed, billing._supersede_requests
from public, anon, authenticated, service_role;

comment on table billing.checkout_requests is 'What users asked checkout for, and the session that Stripe opened for it.';
comment on column billing.checkout_requests.params is 'What Stripe was sent, without the customer.';
comment on column billing.checkout_requests.discarded_at is 'Since when the idempotency key is good for nothing; the next click is a new request.';
comment on column billing.checkout_requests.superseded_at is 'Since when another plan was asked for, which excludes this one.';
comment on column billing.checkout_requests.expired_at is 'When we closed the session, because another took its place.';
