-- Payment Links that must stop selling: the price was archived, changed or lost its lookup key, Stripe reports the link as
-- inactive, or an administrator retired it. The row is updated in the same transaction; the worker then deactivates the
-- link in Stripe.
--
-- Invariant: the deactivation is sent to Stripe until Stripe has answered; sending it twice is harmless.
--
-- Called by billing_worker; retire_payment_links by the owner of the database only (`till links deactivate`).

-- Links that are no longer offered. One whose creation Stripe has not answered yet is deactivated later (_note_payment_link).
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

-- Triggers, so that changes by hand, by `till plans` and by events all count.
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

-- If a lookup key moves to another price, the name has a new price.
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

-- Inactive is a link's final state, so the order of its events does not matter. token: the row for which it was created,
-- if Stripe's answer to us was lost; writing it needs our API key.
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

-- Every link that has to be deactivated is a job.
create function billing.tg_payment_links__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs('payment_link', array[new.id::text]);
    return null;
end
$$;

create trigger tg_payment_links__made_retired
after insert on billing.payment_links
for each row when (new.deactivate_at is not null)
execute function billing.tg_payment_links__enqueue();

create trigger tg_payment_links__retired
after update of deactivate_at on billing.payment_links
for each row when (old.deactivate_at is null and new.deactivate_at is not null)
execute function billing.tg_payment_links__enqueue();

-- The links of these jobs that are not deactivated yet.
create function billing.begin_retired_links(msg_ids bigint[], ids text[])
returns table (msg_id bigint, id uuid, stripe_payment_link_id text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select job.msg_id, payment_links.id, payment_links.stripe_payment_link_id
    from unnest(begin_retired_links.msg_ids, begin_retired_links.ids) as job (msg_id, id)
    join billing.payment_links on payment_links.id = job.id::uuid
    where payment_links.deactivate_at is not null
    order by job.msg_id;
end
$$;

-- retry_in_seconds is null if the link is inactive or deleted in Stripe. msg_id is null if there was no job.
create function billing.record_retired_link(
    msg_id bigint, link_id uuid, retry_in_seconds integer, reason text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    if billing._end_job(
        record_retired_link.msg_id, record_retired_link.retry_in_seconds, record_retired_link.reason
    ) or record_retired_link.retry_in_seconds is null then
        update billing.payment_links
        set deactivate_at = case when record_retired_link.retry_in_seconds is not null
                then payment_links.deactivate_at end,
            deactivated_at = case when record_retired_link.retry_in_seconds is null then now() end,
            last_error = record_retired_link.reason, updated_at = now()
        where payment_links.id = record_retired_link.link_id and payment_links.deactivated_at is null;
    end if;
end
$$;

-- Retires the active links of a Stripe id, a price or a lookup key. Returns those to deactivate in Stripe.
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
    billing.tg_products__retire_links, billing.sync_payment_link, billing.tg_payment_links__enqueue,
    billing.begin_retired_links, billing.record_retired_link, billing.retire_payment_links
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment_link(text, boolean, boolean, text, uuid),
    billing.begin_retired_links(bigint[], text[]),
    billing.record_retired_link(bigint, uuid, integer, text)
to billing_worker;

comment on function billing.sync_payment_link(text, boolean, boolean, text, uuid) is 'Stores the state of a Payment Link in Stripe; links that we did not create are ignored.';
comment on function billing.begin_retired_links(bigint[], text[]) is 'Payment Links to deactivate in Stripe, of the jobs that the caller took.';
comment on function billing.record_retired_link(bigint, uuid, integer, text) is 'Records that a retired link is inactive in Stripe, or that it is retried later.';
comment on function billing.retire_payment_links(text) is 'Retires the links of a plan or pack, or one by its id; the worker deactivates them in Stripe.';
