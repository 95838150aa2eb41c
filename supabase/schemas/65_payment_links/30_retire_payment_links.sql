-- Payment Links that must not sell any more: their price was archived, changed or lost its name, Stripe says that they are
-- inactive, or somebody said so. Noted here in the transaction of what happened; the worker then tells Stripe.
--
-- Invariant: Stripe is told until it has answered, however often it fails; to tell it twice is to tell it once.
--
-- Called by billing_worker; retire_payment_links by the owner of the database only (`till links deactivate`).

-- Links that are handed out no more. One that Stripe has not answered yet is deactivated when it does (_note_payment_link).
create function billing._retire_links(ids uuid[], reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = _retire_links.reason,
        deactivate_at = case when payment_links.stripe_payment_link_id is not null then now() end, updated_at = now()
    where payment_links.id = any (_retire_links.ids) and payment_links.active
$$;

create function billing._retire_links_of_price(stripe_price_id text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._retire_links(array_agg(payment_links.id), 'price') from billing.payment_links
    where payment_links.stripe_price_id = _retire_links_of_price.stripe_price_id and payment_links.active
$$;

-- Triggers, so that a plan changed by hand, by `till plans` or by an event all count.
create function billing.tg_prices__retire_links()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._retire_links_of_price(new.stripe_price_id);
    return null;
end
$$;

-- A lookup key that moved to another price is a new price for the same name.
create trigger tg_plans__retire_links
after update on billing.plans
for each row
when (
    old.active and not new.active or old.lookup_key <> coalesce(new.lookup_key, '')
    or (old.unit_amount, old.currency) is distinct from (new.unit_amount, new.currency)
)
execute function billing.tg_prices__retire_links();

create trigger tg_credit_packs__retire_links
after update on billing.credit_packs
for each row
when (
    old.active and not new.active or old.lookup_key <> coalesce(new.lookup_key, '')
    or (old.unit_amount, old.currency) is distinct from (new.unit_amount, new.currency)
)
execute function billing.tg_prices__retire_links();

create function billing.tg_products__retire_links()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._retire_links_of_price(price.stripe_price_id)
    from (
        select plans.stripe_price_id from billing.plans where plans.stripe_product_id = new.stripe_product_id
        union all
        select credit_packs.stripe_price_id from billing.credit_packs
        where credit_packs.stripe_product_id = new.stripe_product_id
    ) as price;
    return null;
end
$$;

create trigger tg_products__retire_links
after update on billing.products
for each row when (old.active and not new.active)
execute function billing.tg_products__retire_links();

-- Inactive is the last thing that happens to a link here, so the order of its events does not matter. token: the row that
-- it was made for, when Stripe's answer to us was lost; only whoever has our API key can have written it.
create function billing.sync_payment_link(
    stripe_payment_link_id text, livemode boolean, active boolean, url text, token uuid
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.payment_links
        where payment_links.id = sync_payment_link.token and payment_links.livemode = sync_payment_link.livemode
    ) then
        perform billing._note_payment_link(
            sync_payment_link.token, sync_payment_link.stripe_payment_link_id, sync_payment_link.url
        );
    end if;
    if not sync_payment_link.active then
        update billing.payment_links
        set active = false, retired_at = coalesce(payment_links.retired_at, now()),
            retired_reason = coalesce(payment_links.retired_reason, 'stripe'), deactivate_at = null,
            deactivated_at = coalesce(payment_links.deactivated_at, now()), updated_at = now()
        where payment_links.stripe_payment_link_id = sync_payment_link.stripe_payment_link_id
            and payment_links.deactivated_at is null;
    end if;
    return 'applied';
end
$$;

-- Links to deactivate, taken for a while: whoever is not heard of by then is thought to have died.
create function billing.take_retired_links(links_max integer, lease_seconds integer)
returns table (id uuid, stripe_payment_link_id text, attempts integer)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set attempts = payment_links.attempts + 1,
        deactivate_at = now() + make_interval(secs => take_retired_links.lease_seconds), updated_at = now()
    where payment_links.id in (
        select due.id from billing.payment_links as due
        where due.deactivate_at <= now()
        order by due.deactivate_at
        limit take_retired_links.links_max
        for update skip locked
    )
    returning payment_links.id, payment_links.stripe_payment_link_id, payment_links.attempts
$$;

-- retry_in_seconds is null when the link is inactive in Stripe, or gone.
create function billing.settle_retired_link(link_id uuid, retry_in_seconds integer, reason text)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set deactivate_at = now() + make_interval(secs => settle_retired_link.retry_in_seconds),
        deactivated_at = case when settle_retired_link.retry_in_seconds is null then now() end,
        last_error = settle_retired_link.reason, updated_at = now()
    where payment_links.id = settle_retired_link.link_id and payment_links.deactivated_at is null
$$;

-- The active links of an id in Stripe, a price or a lookup key, retired; those that Stripe is to be told of.
create function billing.retire_payment_links(name text)
returns setof billing.payment_links
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids uuid[] := array(
        select payment_links.id from billing.payment_links
        where payment_links.active and payment_links.livemode = billing.is_livemode()
            and (
                retire_payment_links.name in (payment_links.stripe_payment_link_id, payment_links.stripe_price_id)
                or payment_links.stripe_price_id in (
                    select plans.stripe_price_id from billing.plans where plans.lookup_key = retire_payment_links.name
                    union all
                    select credit_packs.stripe_price_id from billing.credit_packs
                    where credit_packs.lookup_key = retire_payment_links.name
                )
            )
        order by 1
    );
begin
    perform billing._retire_links(v_ids, 'caller');
    return query
    select * from billing.payment_links where payment_links.id = any (v_ids) order by payment_links.created_at;
end
$$;

revoke all on function
    billing._retire_links, billing._retire_links_of_price, billing.tg_prices__retire_links,
    billing.tg_products__retire_links, billing.sync_payment_link, billing.take_retired_links,
    billing.settle_retired_link, billing.retire_payment_links
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment_link(text, boolean, boolean, text, uuid),
    billing.take_retired_links(integer, integer),
    billing.settle_retired_link(uuid, integer, text)
to billing_worker;

comment on function billing.sync_payment_link(text, boolean, boolean, text, uuid) is 'What Stripe tells of a Payment Link; those that we did not make are left alone.';
comment on function billing.take_retired_links(integer, integer) is 'Payment Links to deactivate in Stripe, taken by the caller for lease_seconds.';
comment on function billing.settle_retired_link(uuid, integer, text) is 'A retired link is inactive in Stripe, or is to be tried again later.';
comment on function billing.retire_payment_links(text) is 'Retires the links of a plan or pack, or one by its id; the worker deactivates them in Stripe.';
