-- Which account owns a customer: it is linked to the account, or merged with the customer that the account has.
--
-- Invariant: a customer gets its account by the app's own server, once and for ever; whatever Stripe had told of it then
-- gets the account too, and events that waited go on.
--
-- Locks, here as in the worker: the account's balance, then the customer.
--
-- Called by service_role: the app's own server says whose a customer is.

-- The customer that an account has at Stripe now; null before the first.
create function billing._customer_of(account_id uuid, livemode boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select customers.stripe_customer_id from billing.customers
    where customers.account_id = _customer_of.account_id and customers.livemode = _customer_of.livemode
        and customers.deleted_at is null and customers.duplicate_of is null
$$;

-- Refuses what is no id of a Stripe customer.
create function billing._check_customer_id(stripe_customer_id text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_customer_id.stripe_customer_id is null or _check_customer_id.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', coalesce(_check_customer_id.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'Pass the id that Stripe gave, such as cus_NffrFeUfNV2Hib.';
    end if;
end
$$;

-- The customer's row under its lock, made if Stripe has told us nothing of it yet. Waits for whoever is about to use the
-- answer "linked to nobody" (_account_of_customer), so that what was written with it is seen afterwards. TB018 when the
-- customer belongs to another account.
create function billing._lock_customer(stripe_customer_id text, account_id uuid, livemode boolean)
returns billing.customers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_arrival(_lock_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (_lock_customer.stripe_customer_id, _lock_customer.livemode)
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = _lock_customer.stripe_customer_id
    -- Not `for update`: what the worker writes of a customer refers to it, and then waits for the balance.
    for no key update;
    if v_customer.account_id <> _lock_customer.account_id then
        raise exception 'customer % belongs to another account', v_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer never changes its account; make a new customer in Stripe.';
    end if;
    return v_customer;
end
$$;

-- Brings the account to what Stripe told of a customer before anyone was linked, and its events back to the queue.
create function billing._adopt_customer(stripe_customer_id text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.customers
    set account_id = _adopt_customer.account_id, linked_at = coalesce(customers.linked_at, now()),
        dismissed_at = null, dismissed_reason = null, dismissed_by = null, updated_at = now()
    where customers.stripe_customer_id = _adopt_customer.stripe_customer_id;

    update billing.subscriptions set account_id = _adopt_customer.account_id
    where subscriptions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.invoices set account_id = _adopt_customer.account_id
    where invoices.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.checkout_sessions set account_id = _adopt_customer.account_id
    where checkout_sessions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.payments set account_id = _adopt_customer.account_id
    where payments.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.fraud_warnings set account_id = _adopt_customer.account_id
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id;

    perform billing._act_on_warning(fraud_warnings) from billing.fraud_warnings
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id and fraud_warnings.status = 'open';
    perform billing._record_cards_of_customer(_adopt_customer.stripe_customer_id, _adopt_customer.account_id);
    perform billing._allocate_subscriptions_of(_adopt_customer.stripe_customer_id);
    perform billing._retry_events_waiting_for(_adopt_customer.stripe_customer_id);
end
$$;

-- What is not here yet (a plan) holds up neither a link nor a deletion: it settles the subscription when it arrives.
create function billing._allocate_subscriptions_of(stripe_customer_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_id text;
begin
    for v_subscription_id in
        select subscriptions.stripe_subscription_id from billing.subscriptions
        where subscriptions.stripe_customer_id = _allocate_subscriptions_of.stripe_customer_id
        order by 1
    loop
        begin
            perform billing._allocate_subscription(v_subscription_id);
        exception when sqlstate 'TB010' then
            null;
        end;
    end loop;
end
$$;

create function billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_balance(link_customer.account_id);
    perform billing._check_customer_id(link_customer.stripe_customer_id);
    v_customer := billing._lock_customer(
        link_customer.stripe_customer_id, link_customer.account_id,
        coalesce(link_customer.livemode, billing.is_livemode())
    );
    if v_customer.account_id is not null then
        return;
    -- A deleted one is linked for what it paid before; it takes nobody's place.
    elsif v_customer.deleted_at is null
        and billing._customer_of(link_customer.account_id, v_customer.livemode) is not null then
        raise exception 'account % has a customer already', link_customer.account_id
            using errcode = 'TB018',
            hint = 'Use the customer that billing.customers names for this account, or billing.merge_customer(stripe_customer_id, duplicate_of) when both are the same person.';
    end if;
    perform billing._adopt_customer(link_customer.stripe_customer_id, link_customer.account_id);
end
$$;

-- A second customer of one person (of a Payment Link, of a guest who paid): what it paid is the account's too.
create function billing.merge_customer(stripe_customer_id text, duplicate_of text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept billing.customers;
    v_duplicate billing.customers;
begin
    perform billing._check_customer_id(merge_customer.stripe_customer_id);
    perform billing._check_customer_id(merge_customer.duplicate_of);
    if merge_customer.stripe_customer_id = merge_customer.duplicate_of then
        raise exception 'customer % is no duplicate of itself', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Name the customer that the account keeps as duplicate_of.';
    end if;

    select * into v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    if v_kept.account_id is null then
        raise exception 'customer % is linked to no account', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Link it first, with billing.link_customer(account_id, stripe_customer_id).';
    end if;
    -- An account once set stays; the rest of the row is read again under the lock that all links of the account take.
    perform billing._lock_balance(v_kept.account_id);
    select * into strict v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    v_duplicate := billing._lock_customer(merge_customer.stripe_customer_id, v_kept.account_id, v_kept.livemode);
    if v_duplicate.duplicate_of = v_kept.stripe_customer_id then
        return;
    elsif v_kept.duplicate_of is not null then
        raise exception 'customer % is a duplicate of % itself', v_kept.stripe_customer_id, v_kept.duplicate_of
            using errcode = 'TB033', hint = pg_catalog.format('Merge into %s.', v_kept.duplicate_of);
    elsif v_kept.deleted_at is not null then
        raise exception 'customer % is deleted in Stripe', v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'Link the other one to the account instead, with billing.link_customer.';
    elsif v_kept.livemode <> v_duplicate.livemode then
        raise exception 'customers % and % are of different modes', v_duplicate.stripe_customer_id, v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'An account has one customer in test mode and one in live mode.';
    end if;

    update billing.customers
    set account_id = v_kept.account_id, duplicate_of = v_kept.stripe_customer_id, updated_at = now()
    where customers.stripe_customer_id = v_duplicate.stripe_customer_id
        or customers.duplicate_of = v_duplicate.stripe_customer_id;
    perform billing._adopt_customer(v_duplicate.stripe_customer_id, v_kept.account_id);
end
$$;

revoke all on function
    billing._customer_of, billing._check_customer_id, billing._lock_customer, billing._adopt_customer,
    billing._allocate_subscriptions_of, billing.link_customer, billing.merge_customer
from public, anon, authenticated, service_role;
grant execute on function billing.link_customer(uuid, text, boolean), billing.merge_customer(text, text) to service_role;

comment on function billing.link_customer(uuid, text, boolean) is 'Binds a Stripe customer to an account, once and for ever; events that waited for it go on. Call it from the server that made the customer.';
comment on function billing.merge_customer(text, text) is 'Says that a Stripe customer is another of the same person: what it pays is the account''s too, and events that waited for it go on. Call it from the server that knows the person.';
