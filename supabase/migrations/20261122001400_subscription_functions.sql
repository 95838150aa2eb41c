-- Customers and subscriptions from Stripe → their rows here.
--
-- Invariant: a customer is linked to an account by the app's own server, once; a final status is left only for what
-- Stripe itself answered (is_fetched), never for what an event says.
--
-- sync_subscription by billing_worker; link_customer by service_role (the app's own server).

create function billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_livemode boolean := coalesce(link_customer.livemode, billing.is_livemode());
    v_customer billing.customers;
begin
    -- No key update: two links of one account wait for each other, rows that refer to the account don't.
    perform from billing.accounts where accounts.id = link_customer.account_id for no key update;
    if not found then
        perform billing._raise_no_account(link_customer.account_id);
    elsif link_customer.stripe_customer_id is null or link_customer.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', link_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'Pass the id that Stripe gave, such as cus_NffrFeUfNV2Hib.';
    end if;

    perform billing._lock_arrival(link_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (link_customer.stripe_customer_id, v_livemode)
    on conflict do nothing;
    -- Waits for whoever is about to use the answer "linked to nobody" (_account_of_customer), so that the updates below
    -- see what was written with it.
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = link_customer.stripe_customer_id
    for update;

    if v_customer.account_id = link_customer.account_id then
        return;
    elsif v_customer.account_id is not null then
        raise exception 'customer % belongs to another account', link_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer never changes its account; make a new customer in Stripe.';
    elsif exists (
        select from billing.customers
        where customers.account_id = link_customer.account_id and customers.livemode = v_livemode
            and customers.deleted_at is null
    ) then
        raise exception 'account % has a customer already', link_customer.account_id
            using errcode = 'TB018', hint = 'Use the customer that billing.customers names for this account.';
    end if;

    update billing.customers set account_id = link_customer.account_id, linked_at = now(), updated_at = now()
    where customers.stripe_customer_id = link_customer.stripe_customer_id;

    -- What Stripe told us of this customer before anyone was linked now has an account.
    update billing.subscriptions set account_id = link_customer.account_id
    where subscriptions.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.invoices set account_id = link_customer.account_id
    where invoices.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.checkout_sessions set account_id = link_customer.account_id
    where checkout_sessions.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.payments set account_id = link_customer.account_id
    where payments.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.fraud_warnings set account_id = link_customer.account_id
    where fraud_warnings.stripe_customer_id = link_customer.stripe_customer_id;
    perform billing._freeze_on_warning(fraud_warnings) from billing.fraud_warnings
    where fraud_warnings.stripe_customer_id = link_customer.stripe_customer_id and fraud_warnings.status = 'open';
    perform billing._retry_events_waiting_for(link_customer.stripe_customer_id);
end
$$;

-- A customer that was deleted in Stripe stays here with its account, for the books; the account may have a new one then.
create function billing.sync_customer(
    stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_as_of timestamptz;
begin
    insert into billing.customers as held (stripe_customer_id, livemode, email, name, deleted_at, as_of)
    values (
        sync_customer.stripe_customer_id, sync_customer.livemode, sync_customer.email, sync_customer.name,
        case when sync_customer.is_deleted then sync_customer.as_of end, sync_customer.as_of
    )
    on conflict on constraint customers_stripe_customer_id_key do update
    set email = excluded.email,
        name = excluded.name,
        deleted_at = coalesce(held.deleted_at, excluded.deleted_at),
        as_of = excluded.as_of,
        updated_at = now()
    -- Deletion is the last thing that happens to a customer, also within one second.
    where held.as_of < excluded.as_of or held.deleted_at is null and excluded.deleted_at is not null;

    if not found then
        select customers.as_of into strict v_as_of from billing.customers
        where customers.stripe_customer_id = sync_customer.stripe_customer_id;
        return billing._refused(v_as_of, sync_customer.as_of);
    end if;
    return 'applied';
end
$$;

create function billing.sync_subscription(
    stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text,
    billing_cycle_anchor timestamptz, cancel_at timestamptz, cancel_at_period_end boolean, canceled_at timestamptz,
    ended_at timestamptz, trial_start timestamptz, trial_end timestamptz, is_collection_paused boolean,
    metadata jsonb, started_at timestamptz, items jsonb, as_of timestamptz, is_fetched boolean
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_as_of timestamptz;
begin
    insert into billing.subscriptions as held (
        stripe_subscription_id, stripe_customer_id, account_id, livemode, status, currency, billing_cycle_anchor,
        cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, collection_paused_at,
        metadata, started_at, as_of
    )
    values (
        sync_subscription.stripe_subscription_id, sync_subscription.stripe_customer_id,
        billing._account_of_customer(sync_subscription.stripe_customer_id, sync_subscription.livemode),
        sync_subscription.livemode, sync_subscription.status, sync_subscription.currency,
        sync_subscription.billing_cycle_anchor, sync_subscription.cancel_at, sync_subscription.cancel_at_period_end,
        sync_subscription.canceled_at, sync_subscription.ended_at, sync_subscription.trial_start,
        sync_subscription.trial_end, case when sync_subscription.is_collection_paused then sync_subscription.as_of end,
        sync_subscription.metadata, sync_subscription.started_at, sync_subscription.as_of
    )
    on conflict on constraint subscriptions_pkey do update
    set status = excluded.status,
        currency = excluded.currency,
        billing_cycle_anchor = excluded.billing_cycle_anchor,
        cancel_at = excluded.cancel_at,
        cancel_at_period_end = excluded.cancel_at_period_end,
        canceled_at = excluded.canceled_at,
        ended_at = excluded.ended_at,
        trial_start = excluded.trial_start,
        trial_end = excluded.trial_end,
        collection_paused_at = case
            when sync_subscription.is_collection_paused then coalesce(held.collection_paused_at, excluded.as_of)
        end,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
        and (
            sync_subscription.is_fetched or held.status not in ('canceled', 'incomplete_expired')
            or held.status = excluded.status
        );

    if not found then
        select subscriptions.as_of into strict v_as_of from billing.subscriptions
        where subscriptions.stripe_subscription_id = sync_subscription.stripe_subscription_id;
        return billing._refused(v_as_of, sync_subscription.as_of);
    end if;

    insert into billing.subscription_items (
        stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, stripe_product_id, quantity,
        current_period_start, current_period_end
    )
    select
        item.stripe_subscription_item_id, sync_subscription.stripe_subscription_id, item.stripe_price_id,
        item.stripe_product_id, item.quantity, item.current_period_start, item.current_period_end
    from jsonb_to_recordset(sync_subscription.items) as item (
        stripe_subscription_item_id text, stripe_price_id text, stripe_product_id text, quantity bigint,
        current_period_start timestamptz, current_period_end timestamptz
    )
    on conflict on constraint subscription_items_pkey do update
    set stripe_price_id = excluded.stripe_price_id,
        stripe_product_id = excluded.stripe_product_id,
        quantity = excluded.quantity,
        current_period_start = excluded.current_period_start,
        current_period_end = excluded.current_period_end,
        removed_at = null,
        updated_at = now();

    update billing.subscription_items
    set removed_at = sync_subscription.as_of, updated_at = now()
    where subscription_items.stripe_subscription_id = sync_subscription.stripe_subscription_id
        and subscription_items.removed_at is null
        and not exists (
            select from jsonb_array_elements(sync_subscription.items) as item
            where item ->> 'stripe_subscription_item_id' = subscription_items.stripe_subscription_item_id
        );
    return 'applied';
end
$$;

revoke all on function billing.link_customer, billing.sync_customer, billing.sync_subscription
from public, anon, authenticated, service_role;
grant execute on function billing.link_customer(uuid, text, boolean) to service_role;
grant execute on function billing.sync_customer(text, boolean, text, text, boolean, timestamptz) to billing_worker;
grant execute on function billing.sync_subscription(
    text, text, boolean, text, text, timestamptz, timestamptz, boolean, timestamptz, timestamptz, timestamptz,
    timestamptz, boolean, jsonb, timestamptz, jsonb, timestamptz, boolean
) to billing_worker;

comment on function billing.link_customer(uuid, text, boolean) is 'Binds a Stripe customer to an account, once and for ever; events that waited for it go on. Call it from the server that made the customer.';
