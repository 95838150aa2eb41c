-- Which account owns a customer: links a customer to an account, or merges it with the account's customer.
--
-- Invariant: the app's own server links a customer, once and permanently. Everything that Stripe has already reported
-- about the customer then belongs to the account, and the events that waited for the link are retried.
--
-- Locks, here as in the worker: the account's balance, then the customer.
--
-- Called by service_role: the app's own server decides which account owns a customer.

-- The account's current Stripe customer; null before the first.
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

-- Raises if the text is not the id of a Stripe customer.
create function billing._check_customer_id(stripe_customer_id text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_customer_id.stripe_customer_id is null or _check_customer_id.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', coalesce(_check_customer_id.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'Pass an id such as cus_NffrFeUfNV2Hib.';
    end if;
end
$$;

-- Locks the customer's row, and creates it if Stripe has not reported the customer yet. Waits for transactions that are
-- about to use the answer "not linked" (_account_of_customer), so that their rows are seen afterwards. TB018 if the
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
    -- Not `for update`: rows that the worker writes refer to the customer, and then wait for the balance.
    for no key update;
    if v_customer.account_id <> _lock_customer.account_id then
        raise exception 'customer % belongs to another account', v_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer cannot move to another account. Create a new customer in Stripe.';
    end if;
    return v_customer;
end
$$;

-- Assigns everything that Stripe reported about the customer to the account, and requeues its events.
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

-- An unknown plan stops neither a link nor a deletion: when it arrives, the subscription's credits are calculated.
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
        perform billing._adopt_customer(v_customer.stripe_customer_id, v_customer.account_id)
        where exists (
            select from billing.wrong_links where wrong_links.stripe_customer_id = v_customer.stripe_customer_id
        );
        return;
    -- A deleted customer is linked for its earlier payments; it does not count as the account's customer.
    elsif v_customer.deleted_at is null
        and billing._customer_of(link_customer.account_id, v_customer.livemode) is not null then
        raise exception 'account % already has a customer', link_customer.account_id
            using errcode = 'TB018',
            hint = 'Use the account''s customer in billing.customers. If both are the same person, call billing.merge_customer(stripe_customer_id, duplicate_of).';
    end if;
    perform billing._adopt_customer(link_customer.stripe_customer_id, link_customer.account_id);
end
$$;

-- A second customer of the same person (from a Payment Link, or a guest): its payments belong to the account too.
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
        raise exception 'customer % cannot be merged into itself', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Pass the customer that the account keeps as duplicate_of.';
    end if;

    select * into v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    if v_kept.account_id is null then
        raise exception 'customer % is not linked to an account', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Link it first with billing.link_customer(account_id, stripe_customer_id).';
    end if;
    -- An account never changes once it is set. The rest of the row is read again under the lock that all links of the
    -- account take.
    perform billing._lock_balance(v_kept.account_id);
    select * into strict v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    v_duplicate := billing._lock_customer(merge_customer.stripe_customer_id, v_kept.account_id, v_kept.livemode);
    if v_duplicate.duplicate_of = v_kept.stripe_customer_id then
        return;
    elsif v_kept.duplicate_of is not null then
        raise exception 'customer % is itself a duplicate of %', v_kept.stripe_customer_id, v_kept.duplicate_of
            using errcode = 'TB033', hint = pg_catalog.format('Merge into %s.', v_kept.duplicate_of);
    elsif v_kept.deleted_at is not null then
        raise exception 'customer % is deleted in Stripe', v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'Link the other customer to the account with billing.link_customer.';
    elsif v_kept.livemode <> v_duplicate.livemode then
        raise exception 'one of the customers % and % is in test mode, the other in live mode', v_duplicate.stripe_customer_id, v_kept.stripe_customer_id
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

comment on function billing.link_customer(uuid, text, boolean) is 'Links a Stripe customer to an account, once and permanently; events that waited for it are retried. Call it from the server that created the customer.';
comment on function billing.merge_customer(text, text) is 'Marks a Stripe customer as a duplicate of the same person: its payments belong to the account too, and events that waited for it are retried. Call it from the server that knows the person.';
