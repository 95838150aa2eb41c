-- Functions that administrators read besides tables and views: users' e-mail addresses, the queue and the settings.
--
-- Invariant: nothing here writes. The functions run as their owner, because the app's own server may not read auth.users, the
-- queue's tables or the settings. Callable by service_role only.
--
--   owner_email        an account → its owner's e-mail address
--   find_accounts      an id, an e-mail address or a part of one → accounts
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

-- An id names one account: its own, or one of Stripe's. A user's id or e-mail address names the accounts that the user
-- owns, the personal one first. Any other text is a part of an e-mail address or of a team's name, from three letters on.
-- With is_exact, a user means the personal account, and parts find nothing: that is how a command names an account.
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
    elsif v_id ~ '^(cus|sub|in|ch|py|pi|issfr)_[A-Za-z0-9_]+$' then
        return query select distinct found.account_id from (
            select customers.account_id from billing.customers where customers.stripe_customer_id = v_id
            union all
            select subscriptions.account_id from billing.subscriptions where subscriptions.stripe_subscription_id = v_id
            union all
            select invoices.account_id from billing.invoices where invoices.stripe_invoice_id = v_id
            union all
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = v_id or payments.stripe_payment_intent_id = v_id
            union all
            select fraud_warnings.account_id from billing.fraud_warnings
            where fraud_warnings.stripe_early_fraud_warning_id = v_id
        ) as found
        where found.account_id is not null
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

revoke all on function billing.owner_email, billing.find_accounts, billing.worker_state, billing.installation
from public, anon, authenticated, service_role;
grant execute on function
    billing.owner_email(uuid), billing.find_accounts(text, integer, boolean), billing.worker_state(), billing.installation()
to service_role;

comment on function billing.owner_email(uuid) is 'The e-mail address of an account''s owner; null if the owner was deleted.';
comment on function billing.find_accounts(text, integer, boolean) is 'Finds accounts by an id of ours or of Stripe''s, an e-mail address or, unless is_exact, a part of one.';
comment on function billing.worker_state() is 'How many messages wait in the queue and since when, how many of them are retries, how many workers are connected, and when one was last seen.';
comment on function billing.installation() is 'The settings of this installation, with their descriptions; of the alert webhook the host only.';
