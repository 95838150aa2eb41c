-- Products and prices from Stripe → products, plans and credit packs with their credits.
--
-- Invariant: a plan is what its price and its product declare in their newest states, whatever the order of events.
--
-- Called by billing_worker.

-- Updates a plan to what its price and its product declare, and records its terms as of the newer of the two.
create function billing._resolve_plan(stripe_price_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into strict v_plan from billing.plans where plans.stripe_price_id = _resolve_plan.stripe_price_id;
    select * into strict v_product from billing.products
    where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan := billing._declared_plan(v_plan, v_product);
    perform billing._set_terms(v_plan);
    if billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata) then
        perform billing._record_terms(v_plan, greatest(v_plan.as_of, v_product.as_of));
    end if;
    perform billing._resolve_terms(v_plan, v_product);
end
$$;

-- A late event still says which terms were valid at its time. Invalid metadata is skipped: it was not valid then
-- either.
create function billing._record_late_terms(
    stripe_price_id text, price_metadata jsonb, product_metadata jsonb, as_of timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into v_plan from billing.plans where plans.stripe_price_id = _record_late_terms.stripe_price_id;
    select * into v_product from billing.products where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan.metadata := coalesce(_record_late_terms.price_metadata, v_plan.metadata);
    v_product.metadata := coalesce(_record_late_terms.product_metadata, v_product.metadata);
    if v_plan.stripe_price_id is not null
        and (billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata)) then
        perform billing._record_terms(billing._declared_plan(v_plan, v_product), _record_late_terms.as_of);
    end if;
exception when sqlstate 'TB017' then
    null;
end
$$;

-- Grants trial credits of trials that started before their price or product was synced, of customers linked meanwhile.
create function billing._allocate_trials(stripe_price_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id)
    from billing.plans
    join billing.subscription_items as items on items.stripe_price_id = plans.stripe_price_id
    join billing.subscriptions on subscriptions.stripe_subscription_id = items.stripe_subscription_id
    where plans.stripe_price_id = _allocate_trials.stripe_price_id and plans.trial_credits > 0
        and subscriptions.status = 'trialing' and subscriptions.account_id is not null
        and not exists (
            select from billing.credit_grants
            where credit_grants.account_id = subscriptions.account_id and credit_grants.source = 'stripe.trial'
        )
    order by subscriptions.account_id;
end
$$;

create function billing.sync_product(
    stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb,
    as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz;
    v_known_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_product.stripe_product_id);
    select products.as_of into v_known_as_of from billing.products
    where products.stripe_product_id = sync_product.stripe_product_id;
    insert into billing.products as held (
        stripe_product_id, livemode, name, description, active, metadata, as_of
    )
    values (
        sync_product.stripe_product_id, sync_product.livemode, sync_product.name, sync_product.description,
        sync_product.active, sync_product.metadata, sync_product.as_of
    )
    on conflict on constraint products_pkey do update
    set livemode = excluded.livemode,
        name = excluded.name,
        description = excluded.description,
        active = excluded.active,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of;

    if not found then
        select products.as_of into strict v_as_of from billing.products
        where products.stripe_product_id = sync_product.stripe_product_id;
        perform billing._record_late_terms(plans.stripe_price_id, null, sync_product.metadata, sync_product.as_of)
        from billing.plans
        where plans.stripe_product_id = sync_product.stripe_product_id and sync_product.as_of < v_as_of;
        return billing._refused(v_as_of, sync_product.as_of);
    end if;

    perform billing._resolve_plan(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._allocate_trials(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._resolve_packs(
        sync_product.stripe_product_id,
        case when v_known_as_of > '-infinity' then sync_product.as_of else '-infinity' end
    );
    perform billing._retry_events_waiting_for(sync_product.stripe_product_id);
    return 'applied';
end
$$;

create function billing.sync_price(
    stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text,
    nickname text, currency text, unit_amount bigint, has_custom_amount boolean, recurring_interval text,
    recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_price.stripe_price_id);
    insert into billing.products (stripe_product_id, livemode, name)
    values (sync_price.stripe_product_id, sync_price.livemode, sync_price.stripe_product_id)
    on conflict do nothing;
    -- The product's declaration is read below: this lock makes a concurrent update of it visible, or makes it wait.
    perform from billing.products where products.stripe_product_id = sync_price.stripe_product_id for no key update;

    if sync_price.type = 'one_time' then
        return billing._sync_one_time_price(row(
            sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
            sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
            sync_price.has_custom_amount, sync_price.metadata, sync_price.as_of
        ));
    end if;

    insert into billing.plans as held (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        recurring_interval, recurring_interval_count, usage_type, metadata, as_of
    )
    values (
        sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
        sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
        sync_price.recurring_interval, sync_price.recurring_interval_count, sync_price.usage_type,
        sync_price.metadata, sync_price.as_of
    )
    on conflict on constraint plans_pkey do update
    set stripe_product_id = excluded.stripe_product_id, livemode = excluded.livemode, active = excluded.active,
        lookup_key = excluded.lookup_key, nickname = excluded.nickname, currency = excluded.currency,
        unit_amount = excluded.unit_amount, recurring_interval = excluded.recurring_interval,
        recurring_interval_count = excluded.recurring_interval_count, usage_type = excluded.usage_type,
        metadata = excluded.metadata, as_of = excluded.as_of, updated_at = now()
    where held.as_of < excluded.as_of;
    if not found then
        select plans.as_of into strict v_as_of from billing.plans
        where plans.stripe_price_id = sync_price.stripe_price_id;
        if sync_price.as_of < v_as_of then
            perform billing._record_late_terms(sync_price.stripe_price_id, sync_price.metadata, null, sync_price.as_of);
        end if;
        return billing._refused(v_as_of, sync_price.as_of);
    end if;

    perform billing._resolve_plan(sync_price.stripe_price_id);
    perform billing._allocate_trials(sync_price.stripe_price_id);
    perform billing._retry_events_waiting_for(sync_price.stripe_price_id);
    return 'applied';
end
$$;

revoke all on function
    billing._resolve_plan, billing._record_late_terms, billing._allocate_trials, billing.sync_product,
    billing.sync_price
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz),
    billing.sync_price(
        text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz
    )
to billing_worker;

comment on function billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz) is 'Stores the state of a Stripe product at a point in time. Returns applied, stale or refetch.';
comment on function billing.sync_price(text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz) is 'Stores the state of a Stripe price at a point in time, as a plan or a credit pack. Returns applied, stale or refetch.';
