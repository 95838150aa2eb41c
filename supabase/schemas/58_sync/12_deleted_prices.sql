-- Prices and products deleted in Stripe → permanently off sale; their rows stay for earlier purchases.
--
-- Invariant: deletion is the final state of a price or a product. Whatever writes its row later, a late event or a
-- person, it does not go on sale again. All other fields of a late update are stored.
--
-- Called by billing_worker, and by the owner of the database (`till plans sync`).

create table billing.deleted_prices (
    kind text not null,
    stripe_id text not null,
    deleted_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (kind, stripe_id),
    constraint kind_is_known check (kind in ('price', 'product'))
);

alter table billing.deleted_prices enable row level security;

revoke all on billing.deleted_prices from public, anon, authenticated, service_role;
grant select on billing.deleted_prices to service_role;

create function billing.tg_prices__stay_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'price' and deleted_prices.stripe_id = new.stripe_price_id
    );
    return new;
end
$$;

create trigger tg_plans__stay_deleted
before insert or update on billing.plans
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create trigger tg_credit_packs__stay_deleted
before insert or update on billing.credit_packs
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create trigger tg_one_time_prices__stay_deleted
before insert or update on billing.one_time_prices
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create function billing.tg_products__stay_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'product' and deleted_prices.stripe_id = new.stripe_product_id
    );
    return new;
end
$$;

create trigger tg_products__stay_deleted
before insert or update on billing.products
for each row when (new.active)
execute function billing.tg_products__stay_deleted();

-- Returns applied, or stale if it was deleted before. It takes the same arrival lock as sync_price, so a concurrent
-- sync_price is either seen here or sees the deletion.
create function billing.delete_price(stripe_price_id text, as_of timestamptz)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(delete_price.stripe_price_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('price', delete_price.stripe_price_id, delete_price.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.plans set active = false, updated_at = now()
    where plans.stripe_price_id = delete_price.stripe_price_id and plans.active;
    update billing.credit_packs set active = false, updated_at = now()
    where credit_packs.stripe_price_id = delete_price.stripe_price_id and credit_packs.active;
    update billing.one_time_prices set active = false
    where one_time_prices.stripe_price_id = delete_price.stripe_price_id and one_time_prices.active;
    return 'applied';
end
$$;

create function billing.delete_product(stripe_product_id text, as_of timestamptz)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(delete_product.stripe_product_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('product', delete_product.stripe_product_id, delete_product.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.products set active = false, updated_at = now()
    where products.stripe_product_id = delete_product.stripe_product_id and products.active;
    return 'applied';
end
$$;

revoke all on function
    billing.tg_prices__stay_deleted, billing.tg_products__stay_deleted, billing.delete_price, billing.delete_product
from public, anon, authenticated, service_role;
grant execute on function
    billing.delete_price(text, timestamptz), billing.delete_product(text, timestamptz)
to billing_worker;

comment on table billing.deleted_prices is 'Prices and products that were deleted in Stripe: they never go on sale again.';
comment on column billing.deleted_prices.kind is 'The kind of stripe_id: price or product.';
comment on function billing.delete_price(text, timestamptz) is 'A price was deleted in Stripe: takes it off sale permanently and keeps its row for earlier purchases. Returns applied, or stale if it was deleted before.';
comment on function billing.delete_product(text, timestamptz) is 'A product was deleted in Stripe: takes it and its prices off sale permanently. Returns applied, or stale if it was deleted before.';
