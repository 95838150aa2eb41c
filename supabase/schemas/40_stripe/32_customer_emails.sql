-- A user's new e-mail address → the Stripe customers of their accounts, by the worker.
--
-- Invariant: changing an address never fails because of billing, and waits for billing at most a second. A customer is
-- changed only while its address in Stripe is one that the user had before: an address that was entered in Stripe, or
-- by a payer, stays. The newest address wins; writing it twice is harmless.
--
-- Taken and settled by billing_worker. Private: _follow_email.

create table billing.customer_email_changes (
    stripe_customer_id text primary key references billing.customers (stripe_customer_id),
    old_emails text[] not null,
    new_email text not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz default now(),
    settled_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint settled_changes_are_not_due check ((settled_at is null) = (next_attempt_at is not null))
);

create index customer_email_changes_due on billing.customer_email_changes (next_attempt_at)
where next_attempt_at is not null;

alter table billing.customer_email_changes enable row level security;

revoke all on billing.customer_email_changes from public, anon, authenticated, service_role;
grant select on billing.customer_email_changes to service_role;

-- old_email is null if there was none.
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
        new_email = excluded.new_email, attempts = 0, next_attempt_at = now(), settled_at = null, last_error = null,
        updated_at = now()
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

-- Leased: when the lease expires, another worker may take the change.
create function billing.take_email_changes(changes_max integer, lease_seconds integer)
returns table (stripe_customer_id text, old_emails text[], new_email text, attempts integer)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    update billing.customer_email_changes
    set attempts = customer_email_changes.attempts + 1,
        next_attempt_at = now() + make_interval(secs => take_email_changes.lease_seconds), updated_at = now()
    where customer_email_changes.stripe_customer_id in (
        select due.stripe_customer_id from billing.customer_email_changes as due
        where due.next_attempt_at <= now()
        order by due.next_attempt_at
        limit take_email_changes.changes_max
        for update skip locked
    )
    returning
        customer_email_changes.stripe_customer_id, customer_email_changes.old_emails, customer_email_changes.new_email,
        customer_email_changes.attempts
$$;

-- new_email: the address as taken; a newer one stays due. retry_in_seconds is null if the change is finished; reason
-- says why the customer was left unchanged.
create function billing.settle_email_change(
    stripe_customer_id text, new_email text, retry_in_seconds integer, reason text
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    update billing.customer_email_changes
    set next_attempt_at = now() + make_interval(secs => settle_email_change.retry_in_seconds),
        settled_at = case when settle_email_change.retry_in_seconds is null then now() end,
        last_error = settle_email_change.reason, updated_at = now()
    where customer_email_changes.stripe_customer_id = settle_email_change.stripe_customer_id
        and customer_email_changes.new_email = settle_email_change.new_email
        and customer_email_changes.settled_at is null
$$;

revoke all on function
    billing._follow_email, billing.tg_users__follow_email, billing.take_email_changes, billing.settle_email_change
from public, anon, authenticated, service_role;
grant execute on function
    billing.take_email_changes(integer, integer),
    billing.settle_email_change(text, text, integer, text)
to billing_worker;

comment on table billing.customer_email_changes is 'Stripe customers whose user has a new e-mail address; one row for each customer.';
comment on column billing.customer_email_changes.old_emails is 'The user''s earlier addresses; empty text: none. A customer with any other address is left unchanged.';
comment on column billing.customer_email_changes.last_error is 'Why the change is retried, or why the customer was left unchanged.';
comment on function billing.take_email_changes(integer, integer) is 'Leases customers whose e-mail address must be changed in Stripe, for lease_seconds.';
comment on function billing.settle_email_change(text, text, integer, text) is 'Records that a customer has its new address in Stripe, was left unchanged, or must be retried.';
