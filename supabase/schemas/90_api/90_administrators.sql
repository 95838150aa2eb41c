-- Functions that administrators read besides tables and views: users' e-mail addresses, the queue and the settings.
--
-- Invariant: nothing here writes. The functions run as their owner, because the app's own server may not read auth.users, the
-- queue's tables or the settings. Callable by service_role only.
--
--   owner_email        an account → its owner's e-mail address
--   find_accounts      an id, an e-mail address, a name or a part of one → accounts
--   worker_state       the queue's length and age, the connected workers and their last sign of life
--   installation       the settings

create function billing.owner_email(account_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select users.email from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = owner_email.account_id
    );
end
$$;

-- What an object of Stripe's belongs to: accounts, customers or both. Private.
create function billing._owners_of_object(stripe_id text)
returns table (account_id uuid, stripe_customer_id text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id text := _owners_of_object.stripe_id;
    v_charge_ids text[] := array(
        select v_id
        union
        select payments.stripe_charge_id from billing.payments where payments.stripe_payment_intent_id = v_id
        union
        select refunds.stripe_charge_id from billing.refunds where refunds.stripe_refund_id = v_id
        union
        select disputes.stripe_charge_id from billing.disputes where disputes.stripe_dispute_id = v_id
        union
        select reviews.stripe_charge_id from billing.reviews where reviews.stripe_review_id = v_id
    );
begin
    return query
    select distinct coalesce(found.account_id, customers.account_id), found.stripe_customer_id
    from (
        select null::uuid as account_id, v_id as stripe_customer_id
        union all
        select subscriptions.account_id, subscriptions.stripe_customer_id from billing.subscriptions
        where subscriptions.stripe_subscription_id = v_id
        union all
        select invoices.account_id, invoices.stripe_customer_id from billing.invoices
        where invoices.stripe_invoice_id = v_id
        union all
        select invoices.account_id, invoices.stripe_customer_id from billing.invoice_payments
        join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
        where invoice_payments.stripe_payment_intent_id = v_id
        union all
        select sessions.account_id, sessions.stripe_customer_id from billing.checkout_sessions as sessions
        where sessions.stripe_checkout_session_id = v_id or sessions.stripe_payment_intent_id = v_id
        union all
        select payments.account_id, payments.stripe_customer_id from billing.payments
        where payments.stripe_charge_id = any (v_charge_ids)
        union all
        select warnings.account_id, warnings.stripe_customer_id from billing.fraud_warnings as warnings
        where warnings.stripe_early_fraud_warning_id = v_id
        union all
        select reviews.account_id, null from billing.reviews where reviews.stripe_review_id = v_id
        union all
        -- The customer that the event waits for, or is about.
        select null, coalesce(
            substring(events.waiting_for from '^cus_[A-Za-z0-9_]+$'),
            substring(events.payload from '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"'),
            substring(events.payload from '"id"\s*:\s*"(cus_[A-Za-z0-9_]+)"')
        )
        from billing.stripe_events as events where events.stripe_event_id = v_id
    ) as found
    left join billing.customers on customers.stripe_customer_id = found.stripe_customer_id
    where coalesce(found.account_id, customers.account_id) is not null
        or customers.stripe_customer_id is not null;
end
$$;

-- An id names one account: its own, or that of an object of Stripe's. A user's id or e-mail address names the accounts
-- that the user owns, the personal one first. Any other text is a part of an address or a name, from three letters on,
-- of a user, a team or a Stripe customer. With is_exact, a user means the personal account, and parts, the addresses of
-- Stripe customers and events find nothing: that is how a command names an account.
create function billing.find_accounts(search text, results_max integer, is_exact boolean default false)
returns setof uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id text := pg_catalog.btrim(find_accounts.search);
    v_search text := lower(v_id);
begin
    if v_search ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        return query select accounts.id from billing.accounts
        where accounts.id = v_search::uuid
            or accounts.owner_id = v_search::uuid and (accounts.kind = 'personal' or not find_accounts.is_exact)
        order by accounts.id <> v_search::uuid, accounts.kind <> 'personal', accounts.id
        limit find_accounts.results_max;
        return;
    elsif v_id ~ '^(cus|sub|in|ch|py|pi|cs|re|pyr|du|dp|prv|issfr|evt)_[A-Za-z0-9_]+$'
        and not (find_accounts.is_exact and v_id ^@ 'evt_') then
        return query select distinct owners.account_id from billing._owners_of_object(v_id) as owners
        where owners.account_id is not null
        limit find_accounts.results_max;
        return;
    end if;
    return query select accounts.id from auth.users
    join billing.accounts on accounts.owner_id = users.id
    where users.email = v_search and (accounts.kind = 'personal' or not find_accounts.is_exact)
    order by accounts.kind <> 'personal', accounts.id limit find_accounts.results_max;
    if found or find_accounts.is_exact or length(v_search) < 3 then
        return;
    end if;
    return query select accounts.id from billing.accounts
    left join auth.users on users.id = accounts.owner_id
    where pg_catalog.strpos(lower(users.email), v_search) > 0 or pg_catalog.strpos(lower(accounts.name), v_search) > 0
    union
    select customers.account_id from billing.customers
    where customers.account_id is not null
        and (pg_catalog.strpos(lower(customers.email), v_search) > 0 or pg_catalog.strpos(lower(customers.name), v_search) > 0)
    limit find_accounts.results_max;
end
$$;

create function billing.worker_state()
returns table (
    queue_length bigint, oldest_message_at timestamptz, messages_waiting bigint, workers bigint, last_seen_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        count(*), min(messages.enqueued_at), count(*) filter (where messages.vt > now() and messages.read_ct > 0),
        (
            select count(*) from pg_catalog.pg_stat_activity
            where pg_stat_activity.datname = pg_catalog.current_database()
                and pg_stat_activity.application_name = 'till worker'
        ),
        (select max(workers.last_seen_at) from billing.workers)
    from pgmq.q_stripe_events as messages
$$;

create function billing.installation()
returns table (name text, value jsonb, meaning text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select field.key, case
            -- Anybody who has the whole URL can post there.
            when field.key = 'alert_webhook_url' then to_jsonb(billing._origin_of(settings.alert_webhook_url) || '/…')
            else field.value
        end, pg_catalog.col_description('billing.settings'::pg_catalog.regclass, attribute.attnum)
    from billing.settings
    cross join lateral jsonb_each(to_jsonb(settings)) as field
    join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = 'billing.settings'::pg_catalog.regclass and attribute.attname = field.key
    where field.key not in ('id', 'updated_at')
    order by attribute.attnum
$$;

revoke all on function
    billing.owner_email, billing._owners_of_object, billing.find_accounts, billing.worker_state, billing.installation
from public, anon, authenticated, service_role;
grant execute on function
    billing.owner_email(uuid), billing.find_accounts(text, integer, boolean), billing.worker_state(), billing.installation()
to service_role;

comment on function billing.owner_email(uuid) is 'The e-mail address of an account''s owner; null if the owner was deleted.';
comment on function billing.find_accounts(text, integer, boolean) is 'Finds accounts by an id of ours or of Stripe''s, an e-mail address or, unless is_exact, a part of an address or a name.';
comment on function billing.worker_state() is 'How many messages wait in the queue and since when, how many of them are retries, how many workers are connected, and when one was last seen.';
comment on function billing.installation() is 'The settings of this installation, with their descriptions; of the alert webhook the host only.';
