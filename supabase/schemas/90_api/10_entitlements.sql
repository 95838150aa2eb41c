-- Entitlements: the features that an account may use, by the plans that it subscribes to.
--
-- Features are declared in the metadata `features` of a price (plans.features). They apply while the subscription's
-- status is active or trialing, or past_due unless the settings say otherwise. A pause of collection does not change
-- the status, so the features stay. Subscribers of a plan keep its features even if it is no longer on sale.
--
-- Invariant: users can read only their own accounts, also inside a security definer function of the app; roles that
-- bypass row level security (service_role, postgres) can read all. Nothing is stored: features are calculated from the
-- newest state of the subscriptions.
--
-- For authenticated and service_role. Policies: with check ((select billing.has_feature('projects'))).

-- The only definition of the rules. Security definer: users can't read archived plans, settings and deleted customers.
-- In plpgsql, because its plan is kept: a function in SQL that cannot be inlined is planned at each call.
create function billing.account_entitlements(account_id uuid)
returns table (feature text, value jsonb, stripe_subscription_id text, stripe_price_id text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 10
as $$
begin
    return query
    select features.key, features.value, subscriptions.stripe_subscription_id, items.stripe_price_id
    from billing.settings
    join billing.subscriptions on subscriptions.livemode = settings.livemode
    join billing.customers
        on customers.stripe_customer_id = subscriptions.stripe_customer_id and customers.deleted_at is null
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    join billing.plans on plans.stripe_price_id = items.stripe_price_id
    cross join lateral jsonb_each(plans.features) as features
    where subscriptions.account_id = account_entitlements.account_id
        and (
            subscriptions.status in ('active', 'trialing')
            or subscriptions.status = 'past_due' and settings.past_due_keeps_features
        )
        and features.value not in ('false', 'null', '0')
        and (
            account_entitlements.account_id = any (array(select billing.my_account_ids()))
            or (select billing._sees_every_account())
        );
end
$$;

-- Security definer: service_role, which has no accounts, may not execute my_account_ids.
create function billing.has_feature(feature text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from billing.my_account_ids() as mine (account_id)
        cross join lateral billing.account_entitlements(mine.account_id) as granted
        where granted.feature = has_feature.feature
    );
end
$$;

create function billing.has_feature(feature text, account_id uuid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from billing.account_entitlements(has_feature.account_id) as granted
        where granted.feature = has_feature.feature
    );
end
$$;

create function public.has_feature(feature text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return billing.has_feature(has_feature.feature);
end
$$;

create function public.has_feature(feature text, account_id uuid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return billing.has_feature(has_feature.feature, has_feature.account_id);
end
$$;

revoke all on function
    billing.account_entitlements(uuid),
    billing.has_feature(text), billing.has_feature(text, uuid),
    public.has_feature(text), public.has_feature(text, uuid)
from public, anon, authenticated, service_role;
grant execute on function
    billing.account_entitlements(uuid),
    billing.has_feature(text), billing.has_feature(text, uuid),
    public.has_feature(text), public.has_feature(text, uuid)
to authenticated, service_role;

-- The policy on subscriptions limits the rows, and so does the function.
create view public.billing_entitlements with (security_invoker = on) as
select
    subscribers.account_id, granted.feature, granted.value, granted.stripe_subscription_id, granted.stripe_price_id
from (select distinct subscriptions.account_id from billing.subscriptions) as subscribers
cross join lateral billing.account_entitlements(subscribers.account_id) as granted;

revoke all on public.billing_entitlements from public, anon, authenticated, service_role;
grant select on public.billing_entitlements to authenticated, service_role;

comment on function billing.account_entitlements(uuid) is 'The features that an account may use. Empty for another user''s account, unless the caller bypasses row level security.';
comment on function billing.has_feature(text) is 'True if one of the signed-in user''s accounts has the feature. Policies: with check ((select billing.has_feature(''projects''))).';
comment on function billing.has_feature(text, uuid) is 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';
comment on function public.has_feature(text) is 'True if one of the signed-in user''s accounts has the feature.';
comment on function public.has_feature(text, uuid) is 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';
comment on view public.billing_entitlements is 'Features of my accounts: one row for each feature of a price that the account subscribes to.';
comment on column public.billing_entitlements.account_id is 'The account; its id is in public.billing_account.';
comment on column public.billing_entitlements.feature is 'Name of the feature, from the metadata key features of the price or its product.';
comment on column public.billing_entitlements.value is 'Its value there: true, a number, a text. Features that are false, null or 0 have no row.';
comment on column public.billing_entitlements.stripe_subscription_id is 'The subscription that unlocks it.';
comment on column public.billing_entitlements.stripe_price_id is 'The price that declares it.';
