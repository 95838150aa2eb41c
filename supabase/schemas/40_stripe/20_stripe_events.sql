-- The inbox: every signed event from Stripe, its queue, and the functions that move it.
--
-- Invariant: each event id is stored once, permanently, with its original payload (text, because \u0000 and lone surrogates
-- pass the signature check but fail a cast to jsonb). Row and queue message are written in one transaction. A queued event has
-- a message; applied, ignored, parked and dead events have none.
--
--   receive_stripe_event   billing_receiver      inbox row + message
--   retry_stripe_event     service_role          requeues a dead, parked or ignored event
--
-- Taking messages: 24_workers. Ending events: 26_settle_stripe_events. Events that need data from Stripe: 22_stripe_lookups.

create table billing.stripe_events (
    stripe_event_id text primary key,
    type text not null,
    api_version text,
    livemode boolean not null,
    payload text not null,
    status text not null default 'queued',
    attempts integer not null default 0,
    excused_attempts integer not null default 0,
    last_error text,
    waiting_for text,
    created_at timestamptz not null,
    received_at timestamptz not null default now(),
    settled_at timestamptz,
    notified_at timestamptz,
    constraint status_is_known check (status in ('queued', 'applied', 'ignored', 'parked', 'dead')),
    constraint settled_events_say_when check ((status = 'queued') = (settled_at is null)),
    constraint events_set_aside_say_why check (status in ('queued', 'applied') or last_error is not null)
);

create index stripe_events_received on billing.stripe_events (received_at);
create index stripe_events_set_aside on billing.stripe_events (status, received_at) where status in ('parked', 'dead');
create index stripe_events_queued on billing.stripe_events (received_at) where status = 'queued';
create index stripe_events_unreported on billing.stripe_events (settled_at)
where status in ('parked', 'dead') and waiting_for is not null and notified_at is null;
create index stripe_events_waiting on billing.stripe_events (waiting_for) where waiting_for is not null;

alter table billing.stripe_events enable row level security;

revoke all on billing.stripe_events from public, anon, authenticated, service_role;

-- Also called after a restore: pgmq 1.5.1 makes a queue's tables members of its extension, so dumps leave them out.
create function billing._create_queue()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_stripe_events') is not null and to_regclass('pgmq.a_stripe_events') is not null then
        return;
    end if;
    perform pgmq.create('stripe_events');
    alter table pgmq.q_stripe_events enable row level security;
    alter table pgmq.a_stripe_events enable row level security;
    revoke all on pgmq.q_stripe_events, pgmq.a_stripe_events from public, anon, authenticated, service_role;
end
$$;

select billing._create_queue();

create function billing.receive_stripe_event(
    event_id text, type text, api_version text, created bigint, livemode boolean, payload text
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_expected boolean := (select settings.livemode from billing.settings);
    v_is_ours boolean := receive_stripe_event.livemode = v_expected;
    v_status text;
begin
    -- Without pgmq.send, which is planned at each call: it was a third of the cost of an event.
    with stored as (
        insert into billing.stripe_events (
            stripe_event_id, type, api_version, created_at, livemode, payload, status, settled_at, last_error
        )
        values (
            receive_stripe_event.event_id,
            receive_stripe_event.type,
            receive_stripe_event.api_version,
            pg_catalog.to_timestamp(receive_stripe_event.created),
            receive_stripe_event.livemode,
            receive_stripe_event.payload,
            case when v_is_ours then 'queued' else 'ignored' end,
            case when not v_is_ours then now() end,
            case when not v_is_ours then pg_catalog.format(
                'livemode is %s, this installation expects %s', receive_stripe_event.livemode, v_expected
            ) end
        )
        on conflict (stripe_event_id) do nothing
        returning stripe_events.stripe_event_id, stripe_events.status
    ),
    queued as (
        insert into pgmq.q_stripe_events (vt, message)
        select clock_timestamp(), pg_catalog.jsonb_build_object('event_id', stored.stripe_event_id) from stored
        where stored.status = 'queued'
    )
    select stored.status into v_status from stored;
    return coalesce(v_status, 'duplicate');
end
$$;

create function billing.retry_stripe_event(event_id text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
    v_is_ours boolean;
    v_has_body boolean;
begin
    select stripe_events.status, stripe_events.livemode = billing.is_livemode(), stripe_events.payload <> ''
    into v_status, v_is_ours, v_has_body
    from billing.stripe_events
    where stripe_events.stripe_event_id = retry_stripe_event.event_id
    for update;

    if not found then
        raise exception 'there is no event %', retry_stripe_event.event_id
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked', 'ignored') or not v_is_ours then
        return v_status;
    elsif not v_has_body then
        raise exception 'the body of event % was deleted after settings.keep_events_days', retry_stripe_event.event_id
            using errcode = 'TB056', hint = 'Grant the paid credits with `till credits grant`.';
    end if;

    update billing.stripe_events
    set status = 'queued', excused_attempts = 0, waiting_for = null, settled_at = null, notified_at = null
    where stripe_events.stripe_event_id = retry_stripe_event.event_id;
    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', retry_stripe_event.event_id));
    return 'queued';
end
$$;

-- True if what a parked or dead event waits for exists: the plan or pack of a price, a product, the account of a
-- customer.
create function billing._has_arrived(stripe_id text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        exists (select from billing.plans where plans.stripe_price_id = _has_arrived.stripe_id)
        or exists (select from billing.credit_packs where credit_packs.stripe_price_id = _has_arrived.stripe_id)
        or exists (
            select from billing.products
            where products.stripe_product_id = _has_arrived.stripe_id and products.as_of > '-infinity'
        )
        or exists (
            select from billing.customers
            where customers.stripe_customer_id = _has_arrived.stripe_id and customers.account_id is not null
        )
$$;

-- This lock excludes parking an event against the arrival of what it waits for. Without it both could commit without
-- seeing each other, and the event would wait forever.
create function billing._lock_arrival(stripe_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('billing.arrival:' || _lock_arrival.stripe_id, 0)
    );
end
$$;

-- Requeues the events that waited for this id. The caller holds the arrival's lock.
create function billing._retry_events_waiting_for(stripe_id text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.retry_stripe_event(stripe_events.stripe_event_id) from billing.stripe_events
    where stripe_events.waiting_for = _retry_events_waiting_for.stripe_id
$$;

-- The reason to ignore an event instead of parking it: its customer is dismissed and not linked. Null for other events.
create function billing._dismissal(payload text, waiting_for text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format(
        'customer %s was dismissed by %s: %s', customers.stripe_customer_id, customers.dismissed_by,
        customers.dismissed_reason
    )
    from billing.customers
    where customers.stripe_customer_id in (
            _dismissal.waiting_for, pg_catalog.substring(_dismissal.payload, '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"')
        )
        and customers.dismissed_at is not null and customers.account_id is null
    limit 1
$$;

revoke all on function
    billing._create_queue, billing.receive_stripe_event, billing.retry_stripe_event, billing._has_arrived,
    billing._lock_arrival, billing._retry_events_waiting_for, billing._dismissal
from public, anon, authenticated, service_role;
grant execute on function billing.receive_stripe_event(text, text, text, bigint, boolean, text)
to billing_receiver, service_role;
grant execute on function billing.retry_stripe_event(text) to service_role;
grant select on billing.stripe_events to service_role;

comment on table billing.stripe_events is 'Every signed event from Stripe, once, as received.';
comment on column billing.stripe_events.status is 'queued: has a message. applied: effects committed. ignored: not for this installation (mode, type, Stripe account, dismissed). parked: waits for waiting_for. dead: needs a person; last_error says what to do.';
comment on column billing.stripe_events.created_at is 'When the event happened in Stripe, in whole seconds.';
comment on column billing.stripe_events.payload is 'The original body; empty after it was deleted, settings.keep_events_days after the event was received.';
comment on column billing.stripe_events.notified_at is 'When administrators were notified that the event waits for waiting_for.';
comment on column billing.stripe_events.waiting_for is 'The Stripe id whose arrival requeues the event.';
comment on function billing.receive_stripe_event(text, text, text, bigint, boolean, text) is 'Stores a signed event and queues it. Returns queued, duplicate or ignored. created is in Unix seconds.';
comment on function billing.retry_stripe_event(text) is 'Requeues a dead, parked or ignored event and leaves any other unchanged. Returns the status.';
