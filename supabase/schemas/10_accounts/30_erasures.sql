-- Erasures: whose personal data was removed, when, why and by whom. 87_privacy removes it.
--
-- Invariant: one row for each erased account, and for each erased customer that no account owns. Rows are kept, because
-- they say which data must not come back with later events. service_role reads.

create table billing.erasures (
    id bigint generated always as identity primary key,
    account_id uuid unique references billing.accounts (id),
    stripe_customer_id text unique,
    reason text not null,
    actor text not null,
    events_emptied bigint not null default 0,
    erased_at timestamptz not null default now(),
    constraint erases_an_account_or_a_customer check ((account_id is null) <> (stripe_customer_id is null))
);

alter table billing.erasures enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.erasures from public, anon, authenticated, service_role;
grant select on billing.erasures to service_role;

comment on table billing.erasures is 'Accounts and customers whose personal data was erased.';
comment on column billing.erasures.stripe_customer_id is 'A customer that no account owned; null for an account, whose customers are erased with it.';
comment on column billing.erasures.events_emptied is 'How many stored events lost their body.';
