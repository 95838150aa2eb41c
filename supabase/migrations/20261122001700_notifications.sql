-- The outbox: what people are to be told, written in the transaction of what it tells of.
--
-- Invariant: one row for each dedupe_key, so that a replayed event tells nobody twice.

create table billing.notifications (
    id bigint generated always as identity primary key,
    account_id uuid references billing.accounts (id),
    audience text not null,
    kind text not null,
    dedupe_key text not null unique,
    payload jsonb not null default '{}',
    status text not null default 'queued',
    attempts integer not null default 0,
    last_error text,
    created_at timestamptz not null default now(),
    delivered_at timestamptz,
    constraint audience_is_known check (audience in ('administrators', 'customer')),
    constraint status_is_known check (status in ('queued', 'delivered', 'digested', 'dead')),
    constraint payload_is_an_object check (jsonb_typeof(payload) = 'object')
);

create index notifications_account on billing.notifications (account_id);
create index notifications_queued on billing.notifications (created_at) where status = 'queued';

alter table billing.notifications enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.notifications from public, anon, authenticated, service_role;

grant select on billing.notifications to service_role;

comment on table billing.notifications is 'What people are to be told; delivered by the worker.';
