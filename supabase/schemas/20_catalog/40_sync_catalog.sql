-- Products and prices from Stripe → products, plans and credit packs with their credits.
--
-- Invariant: credits come from metadata of the price, else of the product, else stay as they are. A value that is not
-- a whole number is refused by name (TB017), never read as 0. What a plan's terms and packs are made of is beside it
-- (_resolve_terms, _sync_one_time_price).
--
-- Freshness, here and in every sync_… function, is decided by the upsert itself, under the row's lock. The answer is
--     applied   the state offered is newer and is now held
--     stale     what is held is newer: nothing changed
--     refetch   only Stripe can tell which is later (both of the same second): nothing changed
-- as_of is the event's created, or the Date of the answer when the object was read from Stripe.
--
-- Called by billing_worker.

create function billing._refused(held_as_of timestamptz, offered_as_of timestamptz)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

create function billing._declared_credits(stripe_id text, key text, price_metadata jsonb, product_metadata jsonb)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text := coalesce(
        _declared_credits.price_metadata ->> _declared_credits.key,
        _declared_credits.product_metadata ->> _declared_credits.key
    );
begin
    if v_text is null or v_text ~ '^[0-9]{1,18}$' then
        return v_text::bigint;
    end if;
    raise exception 'metadata % of % is "%", not a whole number of credits',
        _declared_credits.key, _declared_credits.stripe_id, v_text
        using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
end
$$;

create function billing._declared_features(stripe_id text, features text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(_declared_features.features::jsonb) <> 'object' then
        raise invalid_text_representation;
    end if;
    return _declared_features.features::jsonb;
exception when invalid_text_representation then
    raise exception 'metadata features of % is not a JSON object', _declared_features.stripe_id
        using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
end
$$;

create function billing._declared_choice(plan billing.plans, product billing.products, key text, choices text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text := coalesce(
        (_declared_choice.plan).metadata ->> _declared_choice.key,
        (_declared_choice.product).metadata ->> _declared_choice.key
    );
begin
    if v_text is null or v_text = any (_declared_choice.choices) then
        return v_text;
    end if;
    raise exception 'metadata % of % is "%", not one of %', _declared_choice.key,
        (_declared_choice.plan).stripe_price_id, v_text, array_to_string(_declared_choice.choices, ', ')
        using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
end
$$;

-- The plan as its metadata and its product's metadata declare it; what they don't mention stays as it is. What a product
-- declares is meant for its licensed prices: a metered price of it bills usage, and gives credits only by its own metadata.
create function billing._declared_plan(plan billing.plans, product billing.products)
returns billing.plans
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans := _declared_plan.plan;
    v_product billing.products := _declared_plan.product;
    v_rollover text;
    v_features text := coalesce(v_plan.metadata ->> 'features', v_product.metadata ->> 'features');
begin
    if v_plan.usage_type = 'metered' then
        v_product.metadata := '{}';
    end if;
    v_rollover := coalesce(v_plan.metadata ->> 'credits_rollover', v_product.metadata ->> 'credits_rollover');
    if v_rollover !~ '^(none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15})$' then
        raise exception 'metadata credits_rollover of % is "%", not none, all, periods:N or cap:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
    elsif v_rollover is not null then
        v_plan.rollover := split_part(v_rollover, ':', 1);
        v_plan.rollover_periods := case when v_rollover ^@ 'periods:' then split_part(v_rollover, ':', 2)::integer end;
        v_plan.rollover_cap := case when v_rollover ^@ 'cap:' then split_part(v_rollover, ':', 2)::bigint end;
    end if;
    v_plan.initial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'initial_credits', v_plan.metadata, v_product.metadata), v_plan.initial_credits);
    v_plan.monthly_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'monthly_credits', v_plan.metadata, v_product.metadata), v_plan.monthly_credits);
    v_plan.trial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'trial_credits', v_plan.metadata, v_product.metadata), v_plan.trial_credits);
    v_plan.proration_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_proration', array['none', 'delta', 'full']), v_plan.proration_credits);
    v_plan.downgrade_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_downgrade', array['take_back', 'keep']), v_plan.downgrade_credits);
    v_plan.cancel_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_cancel', array['period_end', 'stop']), v_plan.cancel_credits);
    v_plan.trial_end_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'trial_credits_end', array['trial_end', 'keep']), v_plan.trial_end_credits);
    v_plan.features := coalesce(billing._declared_features(v_plan.stripe_price_id, v_features), v_plan.features);
    return v_plan;
end
$$;

create function billing._declares_credits(metadata jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select _declares_credits.metadata ?| array[
        'initial_credits', 'monthly_credits', 'trial_credits', 'credits_rollover', 'credits_on_proration',
        'credits_on_downgrade', 'credits_on_cancel', 'trial_credits_end'
    ]
$$;

-- Brings a plan to what its price and its product declare, and records its terms as of the later of the two.
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

    perform set_config('billing.is_resolving_plan', 'true', true);
    update billing.plans
    set initial_credits = v_plan.initial_credits,
        monthly_credits = v_plan.monthly_credits,
        trial_credits = v_plan.trial_credits,
        rollover = v_plan.rollover,
        rollover_periods = v_plan.rollover_periods,
        rollover_cap = v_plan.rollover_cap,
        proration_credits = v_plan.proration_credits,
        downgrade_credits = v_plan.downgrade_credits,
        cancel_credits = v_plan.cancel_credits,
        trial_end_credits = v_plan.trial_end_credits,
        features = v_plan.features,
        updated_at = now()
    where plans.stripe_price_id = _resolve_plan.stripe_price_id;
    perform set_config('billing.is_resolving_plan', '', true);
    if billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata) then
        perform billing._record_terms(v_plan, greatest(v_plan.as_of, v_product.as_of));
    end if;
    perform billing._resolve_terms(v_plan, v_product);
end
$$;

-- An event that came late still says what held at its time. What cannot be read was refused then, and is passed over.
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

-- Trials of a plan that began before its price or product was here, of customers that were linked in between.
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
begin
    perform billing._lock_arrival(sync_product.stripe_product_id);
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
    perform billing._resolve_packs(sync_product.stripe_product_id);
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
    -- What the product declares is read below: an update of it must be seen, or wait.
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
    billing._refused, billing._declared_credits, billing._declared_features, billing._declared_choice,
    billing._declared_plan, billing._declares_credits, billing._resolve_plan, billing._record_late_terms,
    billing._allocate_trials,
    billing.sync_product, billing.sync_price
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz),
    billing.sync_price(
        text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz
    )
to billing_worker;

comment on function billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz) is 'A Stripe product as of a moment: applied, stale or refetch.';
comment on function billing.sync_price(text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz) is 'A Stripe price as of a moment, a plan or a credit pack here: applied, stale or refetch.';
