-- Customers: which Stripe customer belongs to which account.
--
-- Invariant: besides duplicates, an account has at most one customer that is not deleted in each mode, and a customer
-- never moves to another account. Only the app's own server, our checkout or a signed reference creates the link, never
-- an event's content, its metadata or a plain URL parameter. A customer that is reported by an event is stored without
-- an account until it is linked or merged.

create table billing.customers (
    id bigint generated always as identity primary key,
    stripe_customer_id text unique,
    account_id uuid references billing.accounts (id),
    duplicate_of text references billing.customers (stripe_customer_id),
    livemode boolean not null,
    email text,
    name text,
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    linked_at timestamptz,
    deleted_at timestamptz,
    dismissed_at timestamptz,
    dismissed_reason text,
    dismissed_by text,
    status text not null generated always as (case
        when duplicate_of is not null then 'duplicate'
        when account_id is not null then 'linked'
        when dismissed_at is not null then 'dismissed'
        else 'unlinked'
    end) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint customer_is_known_to_us_or_to_stripe check (account_id is not null or stripe_customer_id is not null),
    constraint dismissed_customers_say_why_and_by_whom check (
        (dismissed_at is null) = (dismissed_reason is null) and (dismissed_at is null) = (dismissed_by is null)
    ),
    constraint customer_is_no_duplicate_of_itself check (duplicate_of <> stripe_customer_id),
    constraint duplicates_have_an_account check (duplicate_of is null or account_id is not null)
);

create unique index customers_account on billing.customers (account_id, livemode)
where deleted_at is null and duplicate_of is null;
create index customers_of_account on billing.customers (account_id);
create index customers_email on billing.customers (lower(email));
create index customers_unlinked on billing.customers (created_at) where status = 'unlinked';
create index customers_duplicates on billing.customers (duplicate_of) where duplicate_of is not null;

alter table billing.customers enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.customers from public, anon, authenticated, service_role;

create policy customers_select_managed on billing.customers
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.customers to service_role;
grant select (account_id, livemode, email, name, created_at) on billing.customers to authenticated;

-- The account of a Stripe customer; null if the customer is not linked. Stores the customer in both cases.
create function billing._account_of_customer(stripe_customer_id text, livemode boolean)
returns uuid
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    if _account_of_customer.stripe_customer_id is null then
        return null;
    end if;
    select customers.account_id into v_account_id from billing.customers
    where customers.stripe_customer_id = _account_of_customer.stripe_customer_id;
    if v_account_id is null then
        insert into billing.customers (stripe_customer_id, livemode)
        values (_account_of_customer.stripe_customer_id, _account_of_customer.livemode)
        on conflict do nothing;
        -- This lock, held until the caller commits, prevents a link between this answer and its use.
        select customers.account_id into v_account_id from billing.customers
        where customers.stripe_customer_id = _account_of_customer.stripe_customer_id
        for share;
    end if;
    return v_account_id;
end
$$;

revoke all on function billing._account_of_customer from public, anon, authenticated, service_role;

comment on table billing.customers is 'Stripe customers and their accounts.';
comment on column billing.customers.status is 'unlinked (no account owns it yet, and its events wait), linked, duplicate or dismissed.';
comment on column billing.customers.as_of is 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';
comment on column billing.customers.account_id is 'Null until link_customer, merge_customer or checkout links the customer; set once.';
comment on column billing.customers.dismissed_at is 'Since when the customer is dismissed, because it belongs to another app or environment: events that would wait for its link are ignored. Linking the customer ends this.';
comment on column billing.customers.duplicate_of is 'For a duplicate of the same person: the customer that the account keeps. Set by merge_customer.';
