-- Lookups: events that need an object from Stripe before they can be decided, and when to read it.
--
-- Invariant: a slow Stripe delays only these events. Their messages stay in the queue with a long time-out, so polls skip them,
-- and an event comes back even if its row here is lost. One worker holds a lookup while its lease lasts and the worker lives. A
-- lookup ends with its event.
--
--   ask_stripe            an event needs data from Stripe; the attempt does not count
--   take_stripe_lookups   leases the lookups that are due
--
-- settle_stripe_events ends a lookup, delay_stripe_event delays it. Callable by billing_worker.

create table billing.stripe_lookups (
    stripe_event_id text primary key,
    msg_id bigint not null,
    tie_kind text,
    tie_stripe_id text,
    attempts integer not null default 0,
    excused_attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    worker_pid integer,
    constraint ties_have_a_kind check ((tie_kind is null) = (tie_stripe_id is null))
);

create index stripe_lookups_due on billing.stripe_lookups (next_attempt_at);

alter table billing.stripe_lookups enable row level security;

revoke all on billing.stripe_lookups from public, anon, authenticated, service_role;
grant select on billing.stripe_lookups to service_role;

-- If a lookup calls it, Stripe answered within the same second as the tie. The event is then decided again when
-- Stripe's clock shows a later second.
create function billing.ask_stripe(msg_id bigint, event_id text, tie_kind text, tie_stripe_id text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from billing.stripe_lookups
    where stripe_lookups.stripe_event_id = ask_stripe.event_id and stripe_lookups.worker_pid = pg_backend_pid();
    if found then
        perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 1);
        return;
    end if;

    update billing.stripe_events
    set attempts = stripe_events.attempts + 1, excused_attempts = stripe_events.excused_attempts + 1
    where stripe_events.stripe_event_id = ask_stripe.event_id and stripe_events.status = 'queued';

    insert into billing.stripe_lookups (stripe_event_id, msg_id, tie_kind, tie_stripe_id)
    values (ask_stripe.event_id, ask_stripe.msg_id, ask_stripe.tie_kind, ask_stripe.tie_stripe_id)
    on conflict (stripe_event_id) do update
    set msg_id = excluded.msg_id, tie_kind = excluded.tie_kind, tie_stripe_id = excluded.tie_stripe_id,
        next_attempt_at = now();

    perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 3600);
end
$$;

-- read_ct counts all reads from Stripe; attempts leaves out excused ones. A lookup whose message or queued event no
-- longer exists is skipped.
create function billing.take_stripe_lookups(lookups_max integer, lease_seconds integer)
returns table (
    msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text,
    created_at timestamptz, payload text, received_at timestamptz, tie_kind text, tie_stripe_id text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event_ids text[];
begin
    with due as materialized (
        select lookups.stripe_event_id from billing.stripe_lookups as lookups
        where lookups.next_attempt_at <= now()
        order by lookups.next_attempt_at
        limit take_stripe_lookups.lookups_max
        for update skip locked
    ),
    taken as (
        update billing.stripe_lookups as lookups
        set attempts = lookups.attempts + 1, worker_pid = pg_backend_pid(),
            next_attempt_at = now() + make_interval(secs => take_stripe_lookups.lease_seconds)
        from due
        where lookups.stripe_event_id = due.stripe_event_id
        returning lookups.stripe_event_id
    )
    select array_agg(taken.stripe_event_id) into v_event_ids from taken;
    if v_event_ids is null then
        return;
    end if;

    delete from billing.stripe_lookups as lookups
    where lookups.stripe_event_id = any (v_event_ids) and not (
        exists (
            select from pgmq.q_stripe_events as message
            where message.msg_id = lookups.msg_id and message.message ->> 'event_id' = lookups.stripe_event_id
        )
        and exists (
            select from billing.stripe_events as event
            where event.stripe_event_id = lookups.stripe_event_id and event.status = 'queued'
        )
    );

    return query
    select
        lookups.msg_id, lookups.attempts, lookups.attempts - lookups.excused_attempts, event.stripe_event_id, event.type,
        event.api_version, event.created_at, event.payload, event.received_at, lookups.tie_kind, lookups.tie_stripe_id
    from billing.stripe_lookups as lookups
    join billing.stripe_events as event on event.stripe_event_id = lookups.stripe_event_id
    where lookups.stripe_event_id = any (v_event_ids)
    order by lookups.msg_id;
end
$$;

revoke all on function billing.ask_stripe, billing.take_stripe_lookups from public, anon, authenticated, service_role;
grant execute on function
    billing.ask_stripe(bigint, text, text, text), billing.take_stripe_lookups(integer, integer)
to billing_worker;

comment on table billing.stripe_lookups is 'Events that need an object from Stripe.';
comment on column billing.stripe_lookups.tie_stripe_id is 'The object with two states of the same second, which only Stripe can order; null: another object that the event needs.';
