-- The outbox of notifications: a row is written in the same transaction as the change that it reports.
--
-- Invariant: one row for each dedupe_key, so a replayed event notifies once. Queued and sending rows have a job, by their
-- audience, because a worker may have channels for only one audience. A digest is one message for many rows: each row has
-- the id of the first one in digest_id, the first one its own, and all of them share its outcome.

create table billing.notifications (
    id bigint generated always as identity primary key,
    account_id uuid references billing.accounts (id),
    audience text not null,
    reader text not null generated always as (case audience when 'customer' then account_id::text else audience end) stored,
    kind billing.notification_kind not null,
    dedupe_key text not null unique,
    payload jsonb not null default '{}',
    status text not null default 'queued',
    attempts integer not null default 0,
    queued_at timestamptz not null default now(),
    first_attempt_at timestamptz,
    delivered_to text[] not null default '{}',
    digest_id bigint references billing.notifications (id) on delete cascade,
    digest_size integer,
    last_error text,
    created_at timestamptz not null default now(),
    delivered_at timestamptz,
    constraint audience_is_known check (audience in ('administrators', 'customer')),
    constraint customers_have_an_account check (audience <> 'customer' or account_id is not null),
    constraint status_is_known check (status in ('queued', 'sending', 'delivered', 'digested', 'skipped', 'dead')),
    constraint payload_is_an_object check (jsonb_typeof(payload) = 'object'),
    constraint delivered_notifications_say_when check ((status = 'delivered') = (delivered_at is not null)),
    constraint undelivered_notifications_say_why check (status not in ('skipped', 'dead') or last_error is not null),
    constraint digests_say_how_many check ((digest_size is null) = (digest_id is distinct from id)),
    constraint digested_notifications_name_their_digest check ((status = 'digested') = ((digest_id <> id) is true))
);

create index notifications_account on billing.notifications (account_id);
create index notifications_open on billing.notifications (audience, status, queued_at) where status in ('queued', 'sending');
create index notifications_alike on billing.notifications (kind, reader) where status = 'queued';
create index notifications_sent on billing.notifications (kind, reader, first_attempt_at)
where first_attempt_at is not null;
create index notifications_digest on billing.notifications (digest_id, id) where digest_id is not null;
create index notifications_over on billing.notifications (created_at) where status in ('delivered', 'skipped');
create index notifications_dead on billing.notifications (id) where status = 'dead';

alter table billing.notifications enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.notifications from public, anon, authenticated, service_role;

grant select on billing.notifications to service_role;

-- Adds a row, for customers only if settings.customer_notifications names the kind.
create function billing._notify(account_id uuid, audience text, kind text, dedupe_key text, payload jsonb)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        _notify.account_id, _notify.audience, _notify.kind, _notify.dedupe_key, jsonb_strip_nulls(_notify.payload)
    from billing.settings
    where _notify.audience <> 'customer' or _notify.kind = any (settings.customer_notifications)
    on conflict (dedupe_key) do nothing
$$;

create function billing.tg_notifications__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs(queued.audience || '_notification', queued.ids)
    from (
        select added.audience, array_agg(added.id::text order by added.id) as ids from added
        where added.status = 'queued'
        group by added.audience
    ) as queued;
    return null;
end
$$;

-- By the statement: ten thousand rows at once are one insert into the queue.
create trigger tg_notifications__enqueue
after insert on billing.notifications
referencing new table as added
for each statement execute function billing.tg_notifications__enqueue();

revoke all on function billing._notify, billing.tg_notifications__enqueue from public, anon, authenticated, service_role;

comment on table billing.notifications is 'Notifications; the worker delivers them.';
comment on column billing.notifications.audience is 'administrators, or customer: the owner of the account, if the kind is enabled in the settings.';
comment on column billing.notifications.reader is 'The recipient: administrators, or a customer''s account id.';
comment on column billing.notifications.status is 'queued, sending: to be delivered. delivered: by every channel. digested: part of the message of digest_id. skipped: has no recipient. dead: needs a person; last_error says why.';
comment on column billing.notifications.queued_at is 'When it was written, or retried by a person.';
comment on column billing.notifications.attempts is 'How often its channels were tried.';
comment on column billing.notifications.delivered_to is 'The channels that accepted it; later attempts skip them.';
comment on column billing.notifications.digest_id is 'The notification whose message includes this one.';
