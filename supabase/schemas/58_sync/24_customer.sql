-- Customers from Stripe → their rows here.
--
-- Invariant: the newest state wins; deletion is a customer's final state, whenever it is reported.
--
-- Called by billing_worker.

-- A customer that was deleted in Stripe keeps its row and its account, because the ledger refers to it; the account may
-- then get a new customer. After the deletion Stripe's answers have only its id.
create function billing.sync_customer(
    stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.customers;
begin
    insert into billing.customers as held (stripe_customer_id, livemode, email, name, deleted_at, as_of)
    values (
        sync_customer.stripe_customer_id, sync_customer.livemode, sync_customer.email, sync_customer.name,
        case when sync_customer.is_deleted then sync_customer.as_of end, sync_customer.as_of
    )
    on conflict on constraint customers_stripe_customer_id_key do update
    set email = case
            when held.as_of > excluded.as_of then held.email
            when sync_customer.is_deleted then coalesce(excluded.email, held.email)
            else excluded.email
        end,
        name = case
            when held.as_of > excluded.as_of then held.name
            when sync_customer.is_deleted then coalesce(excluded.name, held.name)
            else excluded.name
        end,
        deleted_at = least(held.deleted_at, excluded.deleted_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- Deletion is final, also within one second, and its time is that of the earliest report.
    where held.as_of < excluded.as_of or excluded.deleted_at < coalesce(held.deleted_at, 'infinity');

    if not found then
        select * into strict v_held from billing.customers
        where customers.stripe_customer_id = sync_customer.stripe_customer_id;
        return case
            when sync_customer.is_deleted then 'stale'  -- it is already deleted
            else billing._refused(v_held.as_of, sync_customer.as_of)
        end;
    elsif sync_customer.is_deleted then
        perform billing._allocate_subscriptions_of(sync_customer.stripe_customer_id);
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_customer from public, anon, authenticated, service_role;
grant execute on function billing.sync_customer(text, boolean, text, text, boolean, timestamptz) to billing_worker;

comment on function billing.sync_customer(text, boolean, text, text, boolean, timestamptz) is 'Stores the state of a Stripe customer at a point in time. Returns applied, stale or refetch.';
