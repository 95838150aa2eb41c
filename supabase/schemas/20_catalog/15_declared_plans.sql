-- Metadata of a price and of its product → the plan that it declares.
--
-- Invariant: a value comes from the metadata of the price, else of the product, else it stays as it is. A value that is
-- not valid is an error that names it (TB017), and never counts as 0. Private: called by the functions that sync the
-- catalogue.

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
    raise exception 'metadata % of % is "%", it must be a whole number of credits',
        _declared_credits.key, _declared_credits.stripe_id, v_text
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
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
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
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
    raise exception 'metadata % of % is "%", it must be one of %', _declared_choice.key,
        (_declared_choice.plan).stripe_price_id, v_text, array_to_string(_declared_choice.choices, ', ')
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

-- The plan that its own and its product's metadata declare; undeclared values stay as they are. The product's credits
-- apply to its licensed prices only: a metered price bills usage, and has credits only by its own metadata.
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
        raise exception 'metadata credits_rollover of % is "%", it must be none, all, periods:N or cap:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
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

revoke all on function
    billing._declared_credits, billing._declared_features, billing._declared_choice, billing._declared_plan,
    billing._declares_credits
from public, anon, authenticated, service_role;
