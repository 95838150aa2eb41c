-- One-time prices from Stripe → credit packs, whichever comes first, the price or the product that declares its credits.
--
-- Invariant: a one-time price is a pack here as soon as it or its product declares pack_credits, and one that was a pack
-- stays one: its newest state stands, and so do its credits until others are declared. Until then it waits in
-- one_time_prices, at no more than its id and state, and can't be bought.
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
    metadata jsonb not null,
    as_of timestamptz not null
);

create index one_time_prices_product on billing.one_time_prices (stripe_product_id);

alter table billing.one_time_prices enable row level security;

revoke all on billing.one_time_prices from public, anon, authenticated, service_role;
grant select on billing.one_time_prices to service_role;

-- What a one-time price, or its product, declares; null where neither does.
create function billing._declared_pack(price billing.one_time_prices)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
    v_credits bigint := billing._declared_credits(
        (_declared_pack.price).stripe_price_id, 'pack_credits', (_declared_pack.price).metadata,
        (
            select products.metadata from billing.products
            where products.stripe_product_id = (_declared_pack.price).stripe_product_id
        )
    );
begin
    if v_credits = 0 then
        raise exception 'metadata pack_credits of % is "0", a credit pack has at least one',
            (_declared_pack.price).stripe_price_id
            using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the pack here.';
    end if;
    return v_credits;
end
$$;

-- applied, stale or refetch, as every sync_… function.
create function billing._sync_one_time_price(price billing.one_time_prices)
returns text
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_price billing.one_time_prices := _sync_one_time_price.price;
    v_credits bigint := billing._declared_pack(v_price);
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
        pack_credits = coalesce(v_credits, credit_packs.pack_credits), metadata = v_price.metadata,
        as_of = v_price.as_of, updated_at = now()
    where credit_packs.stripe_price_id = v_price.stripe_price_id;
    if found then
        return 'applied';
    end if;
    delete from billing.one_time_prices where one_time_prices.stripe_price_id = v_price.stripe_price_id;
    if v_credits is null then
        insert into billing.one_time_prices select (v_price).*;
    else
        perform billing._open_pack(v_price, v_credits);
    end if;
    return 'applied';
end
$$;

create function billing._open_pack(price billing.one_time_prices, pack_credits bigint)
returns void
language sql
volatile
set search_path = ''
as $$
    insert into billing.credit_packs (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        pack_credits, metadata, as_of
    )
    values (
        (_open_pack.price).stripe_price_id, (_open_pack.price).stripe_product_id, (_open_pack.price).livemode,
        (_open_pack.price).active, (_open_pack.price).lookup_key, (_open_pack.price).nickname,
        (_open_pack.price).currency, (_open_pack.price).unit_amount, _open_pack.pack_credits,
        (_open_pack.price).metadata, (_open_pack.price).as_of
    )
$$;

-- What a product declares, for its prices that declare nothing themselves.
create function billing._resolve_packs(stripe_product_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_price billing.one_time_prices;
begin
    update billing.credit_packs set pack_credits = declared.pack_credits, updated_at = now()
    from (
        select packs.stripe_price_id, billing._declared_pack(row(
            packs.stripe_price_id, packs.stripe_product_id, packs.livemode, packs.active, packs.lookup_key,
            packs.nickname, packs.currency, packs.unit_amount, packs.metadata, packs.as_of
        )) as pack_credits
        from billing.credit_packs as packs
        where packs.stripe_product_id = _resolve_packs.stripe_product_id
    ) as declared
    where credit_packs.stripe_price_id = declared.stripe_price_id
        and credit_packs.pack_credits <> declared.pack_credits;

    for v_price in
        delete from billing.one_time_prices
        where one_time_prices.stripe_product_id = _resolve_packs.stripe_product_id
            and billing._declared_pack(one_time_prices) is not null
        returning *
    loop
        perform billing._open_pack(v_price, billing._declared_pack(v_price));
    end loop;
end
$$;

revoke all on function
    billing._declared_pack, billing._sync_one_time_price, billing._open_pack, billing._resolve_packs
from public, anon, authenticated, service_role;

comment on table billing.one_time_prices is 'One-time Stripe prices that declare no credits, nor does their product: no packs, unless one of them does later.';
