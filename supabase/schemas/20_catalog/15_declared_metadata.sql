-- Metadata of a price and of its product → values of the type that a key has.
--
-- Invariant: a value that is not valid is an error that names it (TB017), and never counts as 0.

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

revoke all on function billing._declared_credits, billing._declared_features, billing._declared_choice
from public, anon, authenticated, service_role;
