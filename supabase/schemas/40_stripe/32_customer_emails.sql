-- A user's new e-mail address, or the address of an account's new owner → the Stripe customers of the account, by the worker.
--
-- Invariant: changing an address never fails because of billing, and waits for billing at most a second. A customer is
-- changed only while its address in Stripe is one that the user had before: an address that was entered in Stripe, or
-- by a payer, stays. The newest address wins; writing it twice is harmless.
--
-- Begun and recorded by billing_worker. Private: _follow_email.

create table billing.customer_email_changes (
    stripe_customer_id text primary key references billing.customers (stripe_customer_id),
    old_emails text[] not null,
    new_email text not null,
    settled_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index customer_email_changes_open on billing.customer_email_changes (stripe_customer_id) where settled_at is null;

alter table billing.customer_email_changes enable row level security;

revoke all on billing.customer_email_changes from public, anon, authenticated, service_role;
grant select on billing.customer_email_changes to service_role;

-- old_email is null if there was none. Each change is a job of its own, because a job that is in progress may write the
-- address before.
create function billing._follow_email(stripe_customer_id text, old_email text, new_email text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.customer_email_changes as held (stripe_customer_id, old_emails, new_email)
    values (
        _follow_email.stripe_customer_id, array[coalesce(_follow_email.old_email, '')], _follow_email.new_email
    )
    on conflict (stripe_customer_id) do update
    -- Until the change is done in Stripe, the customer may have any of the earlier addresses.
    set old_emails = case
            when held.settled_at is not null then excluded.old_emails
            else held.old_emails || held.new_email || excluded.old_emails
        end,
        new_email = excluded.new_email, settled_at = null, last_error = null, updated_at = now();
    select billing._enqueue_jobs('email_change', array[_follow_email.stripe_customer_id]);
$$;

create function billing.tg_users__follow_email()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._follow_email(customers.stripe_customer_id, old.email, new.email)
    from billing.accounts
    join billing.customers on customers.account_id = accounts.id
    where accounts.owner_id = new.id and customers.stripe_customer_id is not null and customers.deleted_at is null
        and customers.livemode = billing.is_livemode()
    order by customers.stripe_customer_id;
    return null;
exception when others then
    raise warning 'could not queue the new e-mail address of user % for Stripe: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_users__follow_email
after update of email on auth.users
for each row when (new.email <> '' and old.email is distinct from new.email)
execute function billing.tg_users__follow_email();

-- Receipts of an account go to its new owner. Of an owner who was deleted no address is left to compare with, so the
-- customer keeps it.
create function billing.tg_accounts__follow_owner()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._follow_email(customers.stripe_customer_id, before.email, after.email)
    from billing.customers
    join auth.users as before on before.id = old.owner_id
    join auth.users as after on after.id = new.owner_id
    where customers.account_id = new.id and customers.stripe_customer_id is not null and customers.deleted_at is null
        and customers.livemode = billing.is_livemode() and after.email <> ''
        and after.email is distinct from before.email
    order by customers.stripe_customer_id;
    return null;
exception when others then
    raise warning 'could not queue the new owner''s e-mail address of account % for Stripe: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_accounts__follow_owner
after update of owner_id on billing.accounts
for each row when (old.owner_id <> new.owner_id)
execute function billing.tg_accounts__follow_owner();

-- Which of these jobs' customers are still to have another address; of several jobs of one customer, one.
create function billing.begin_email_changes(msg_ids bigint[], ids text[])
returns table (msg_id bigint, stripe_customer_id text, old_emails text[], new_email text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct on (changes.stripe_customer_id)
        job.msg_id, changes.stripe_customer_id, changes.old_emails, changes.new_email
    from unnest(begin_email_changes.msg_ids, begin_email_changes.ids) as job (msg_id, id)
    join billing.customer_email_changes as changes on changes.stripe_customer_id = job.id
    where changes.settled_at is null
    order by changes.stripe_customer_id, job.msg_id;
end
$$;

-- new_email: the address as begun; a newer one stays due, by its own job. retry_in_seconds is null if the change is finished;
-- reason says why the customer was left unchanged.
create function billing.record_email_change(
    msg_id bigint, stripe_customer_id text, new_email text, retry_in_seconds integer, reason text
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
        record_email_change.msg_id, record_email_change.retry_in_seconds, record_email_change.reason
    ) or record_email_change.retry_in_seconds is null then
        update billing.customer_email_changes
        set settled_at = case when record_email_change.retry_in_seconds is null then now() end,
            last_error = record_email_change.reason, updated_at = now()
        where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
            and customer_email_changes.new_email = record_email_change.new_email
            and customer_email_changes.settled_at is null;
        if not found and record_email_change.retry_in_seconds is null then
            -- A newer address was written to Stripe meanwhile, and this attempt may have overwritten it.
            update billing.customer_email_changes
            set settled_at = null, old_emails = customer_email_changes.old_emails || record_email_change.new_email,
                updated_at = now()
            where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
                and customer_email_changes.new_email <> record_email_change.new_email
                and customer_email_changes.settled_at is not null;
            if found then
                perform billing._enqueue_jobs('email_change', array[record_email_change.stripe_customer_id]);
            end if;
        end if;
    end if;
end
$$;

revoke all on function
    billing._follow_email, billing.tg_users__follow_email, billing.tg_accounts__follow_owner, billing.begin_email_changes, billing.record_email_change
from public, anon, authenticated, service_role;
grant execute on function
    billing.begin_email_changes(bigint[], text[]),
    billing.record_email_change(bigint, text, text, integer, text)
to billing_worker;

comment on table billing.customer_email_changes is 'Stripe customers whose user has a new e-mail address; one row for each customer.';
comment on column billing.customer_email_changes.old_emails is 'The user''s earlier addresses; empty text: none. A customer with any other address is left unchanged.';
comment on column billing.customer_email_changes.last_error is 'Why the change is retried, or why the customer was left unchanged.';
comment on function billing.begin_email_changes(bigint[], text[]) is 'Customers whose e-mail address must be changed in Stripe, of the jobs that the caller took.';
comment on function billing.record_email_change(bigint, text, text, integer, text) is 'Records that a customer has its new address in Stripe, was left unchanged, or must be retried later.';
