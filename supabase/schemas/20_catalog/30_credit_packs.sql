-- One-time prices from Stripe → credit packs, whether the price or the product that declares its credits arrives first.
--
-- Invariant: a one-time price is a pack as soon as it or its product declares pack_credits, and then stays a pack:
-- later states update it, and its credits stay until others are declared. A price that was known before and was no pack is
-- one from the time of the state that declares it (declared_from): editing a price gives nothing for earlier payments. Until then only its id and state are kept in
-- one_time_prices, and it can't be bought.
--
-- Private: called by sync_price and sync_product, which hold the product's lock.

create table billing.one_time_prices (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null,
    active boolean not null,
    lookup_key text,
    nickname text,
    currency text not null,
    unit_amount bigint,
    has_custom_amount boolean not null default false,
    metadata jsonb not null,
    as_of timestamptz not null
);

create index one_time_prices_product on billing.one_time_prices (stripe_product_id);

alter table billing.one_time_prices enable row level security;

revoke all on billing.one_time_prices from public, anon, authenticated, service_role;
grant select on billing.one_time_prices to service_role;

create type billing.declared_pack as (pack_credits bigint, credits_per_unit numeric, expires_after interval);

-- The pack that a one-time price or its product declares; all null if neither declares one. If the customer chooses the
-- amount, pack_credits would be a fixed number for any amount, so only credits_per_unit counts.
create function billing._declared_pack(price billing.one_time_prices)
returns billing.declared_pack
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices := _declared_pack.price;
    v_pack billing.declared_pack;
    v_metadata jsonb := (
        select products.metadata from billing.products where products.stripe_product_id = v_price.stripe_product_id
    ) || v_price.metadata;
    v_after text := v_metadata ->> 'pack_expires_after';
begin
    if v_price.has_custom_amount then
        if (v_metadata ->> 'credits_per_unit') !~ '^[0-9]{1,12}([.][0-9]{1,6})?$'
            or (v_metadata ->> 'credits_per_unit')::numeric = 0 then
            raise exception 'metadata credits_per_unit of % is "%", it must be a number above 0',
                v_price.stripe_price_id, v_metadata ->> 'credits_per_unit'
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
        v_pack.credits_per_unit := (v_metadata ->> 'credits_per_unit')::numeric;
    else
        v_pack.pack_credits := billing._declared_credits(v_price.stripe_price_id, 'pack_credits', v_metadata, '{}');
        if v_pack.pack_credits = 0 then
            raise exception 'metadata pack_credits of % is "0", it must be at least 1', v_price.stripe_price_id
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
    end if;
    if v_after !~ '^[1-9][0-9]{0,3} (day|month|year)s?$' then
        raise exception 'metadata pack_expires_after of % is "%", it must be a duration such as "90 days", "12 months" or "1 year"',
            v_price.stripe_price_id, v_after
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
    end if;
    v_pack.expires_after := v_after::interval;
    return v_pack;
end
$$;

create function billing._is_pack(declared billing.declared_pack)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_is_pack.declared).pack_credits is not null or (_is_pack.declared).credits_per_unit is not null
$$;

-- Returns applied, stale or refetch, as every sync_… function does.
create function billing._sync_one_time_price(price billing.one_time_prices)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices := _sync_one_time_price.price;
    v_declared billing.declared_pack := billing._declared_pack(v_price);
    v_declared_from timestamptz;
    v_as_of timestamptz := (
        select max(held.as_of)
        from (
            select credit_packs.as_of from billing.credit_packs
            where credit_packs.stripe_price_id = v_price.stripe_price_id
            union all
            select one_time_prices.as_of from billing.one_time_prices
            where one_time_prices.stripe_price_id = v_price.stripe_price_id
        ) as held
    );
begin
    if v_as_of >= v_price.as_of then
        return billing._refused(v_as_of, v_price.as_of);
    end if;

    update billing.credit_packs
    set active = v_price.active, lookup_key = v_price.lookup_key, nickname = v_price.nickname,
        pack_credits = case
            when billing._is_pack(v_declared) then v_declared.pack_credits else credit_packs.pack_credits
        end,
        credits_per_unit = case
            when billing._is_pack(v_declared) then v_declared.credits_per_unit else credit_packs.credits_per_unit
        end,
        expires_after = v_declared.expires_after, metadata = v_price.metadata, as_of = v_price.as_of, updated_at = now()
    where credit_packs.stripe_price_id = v_price.stripe_price_id;
    if found then
        return 'applied';
    end if;
    delete from billing.one_time_prices where one_time_prices.stripe_price_id = v_price.stripe_price_id;
    v_declared_from := case when found then v_price.as_of else '-infinity' end;
    if billing._is_pack(v_declared) then
        perform billing._open_pack(v_price, v_declared, v_declared_from);
    else
        insert into billing.one_time_prices select (v_price).*;
    end if;
    return 'applied';
end
$$;

create function billing._open_pack(
    price billing.one_time_prices, declared billing.declared_pack, declared_from timestamptz
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.credit_packs (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        pack_credits, credits_per_unit, expires_after, declared_from, metadata, as_of
    )
    values (
        (_open_pack.price).stripe_price_id, (_open_pack.price).stripe_product_id, (_open_pack.price).livemode,
        (_open_pack.price).active, (_open_pack.price).lookup_key, (_open_pack.price).nickname,
        (_open_pack.price).currency, (_open_pack.price).unit_amount, (_open_pack.declared).pack_credits,
        (_open_pack.declared).credits_per_unit, (_open_pack.declared).expires_after, _open_pack.declared_from,
        (_open_pack.price).metadata, (_open_pack.price).as_of
    )
$$;

-- Applies what a product declares to those of its prices that declare nothing themselves. declared_from: when it declared
-- it; -infinity if the product was not known before.
create function billing._resolve_packs(stripe_product_id text, declared_from timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices;
begin
    update billing.credit_packs
    set pack_credits = (found.declared).pack_credits, credits_per_unit = (found.declared).credits_per_unit,
        expires_after = (found.declared).expires_after, updated_at = now()
    from (
        select packs.stripe_price_id, billing._declared_pack(row(
            packs.stripe_price_id, packs.stripe_product_id, packs.livemode, packs.active, packs.lookup_key,
            packs.nickname, packs.currency, packs.unit_amount, packs.credits_per_unit is not null, packs.metadata,
            packs.as_of
        )) as declared
        from billing.credit_packs as packs
        where packs.stripe_product_id = _resolve_packs.stripe_product_id
    ) as found
    where credit_packs.stripe_price_id = found.stripe_price_id and billing._is_pack(found.declared)
        and (credit_packs.pack_credits, credit_packs.credits_per_unit, credit_packs.expires_after) is distinct from
            ((found.declared).pack_credits, (found.declared).credits_per_unit, (found.declared).expires_after);

    for v_price in
        delete from billing.one_time_prices
        where one_time_prices.stripe_product_id = _resolve_packs.stripe_product_id
            and billing._is_pack(billing._declared_pack(one_time_prices))
        returning *
    loop
        perform billing._open_pack(v_price, billing._declared_pack(v_price), _resolve_packs.declared_from);
    end loop;
end
$$;

revoke all on function
    billing._declared_pack, billing._is_pack, billing._sync_one_time_price, billing._open_pack, billing._resolve_packs
from public, anon, authenticated, service_role;

comment on table billing.one_time_prices is 'One-time Stripe prices without credits of their own or of their product. They become packs if credits are declared later.';
