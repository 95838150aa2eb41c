-- Events without a message and messages without an event: lists them and repairs them.
--
-- Invariant: a queued event has a message, and a message has a queued event. Both are written in one transaction, so a
-- difference has an outside cause: a restore of a project whose pgmq (1.5.1) leaves its queues out of dumps, a purged
-- queue, a recreated schema. read_stripe_events archives messages without an event.
--
-- Callable by billing_worker; lost_messages is part of billing.ledger_discrepancies.

-- Hash joins, because neither table has an index on the other's id: nested loops would scan one table for each row of
-- the other.
create function billing.lost_messages()
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    if to_regclass('pgmq.q_stripe_events') is null then
        return query
        select 'queued_event_has_a_message', format('event %s: there is no queue', stripe_events.stripe_event_id)
        from billing.stripe_events where stripe_events.status = 'queued';
        return;
    end if;
    return query
    select 'queued_event_has_a_message', format('event %s has no message', stripe_events.stripe_event_id)
    from billing.stripe_events
    where stripe_events.status = 'queued' and not exists (
        select from pgmq.q_stripe_events as message where message.message ->> 'event_id' = stripe_events.stripe_event_id
    )
    union all
    select 'message_has_a_queued_event', format('message %s of event %s', message.msg_id, message.message ->> 'event_id')
    from pgmq.q_stripe_events as message
    where not exists (
        select from billing.stripe_events
        where stripe_events.stripe_event_id = message.message ->> 'event_id' and stripe_events.status = 'queued'
    );
end
$$;

-- Called when a worker starts, and every hour; one worker at a time. Returns how many were requeued.
create function billing.requeue_stripe_events()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
declare
    v_event_ids text[];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_stripe_events', 0)) then
        return 0;
    end if;
    v_event_ids := array(
        select stripe_events.stripe_event_id from billing.stripe_events
        where stripe_events.status = 'queued' and not exists (
            select from pgmq.q_stripe_events as message
            where message.message ->> 'event_id' = stripe_events.stripe_event_id
        )
        order by stripe_events.received_at
    );
    if v_event_ids <> '{}' then
        -- A new message counts its reads from zero.
        update billing.stripe_events set excused_attempts = 0
        where stripe_events.stripe_event_id = any (v_event_ids) and stripe_events.excused_attempts > 0;
        perform pgmq.send_batch(
            'stripe_events', array(select jsonb_build_object('event_id', id) from unnest(v_event_ids) as id)
        );
    end if;
    return cardinality(v_event_ids);
end
$$;

revoke all on function billing.lost_messages, billing.requeue_stripe_events
from public, anon, authenticated, service_role;
grant execute on function billing.requeue_stripe_events() to billing_worker;
grant execute on function billing.lost_messages() to service_role;

comment on function billing.requeue_stripe_events() is 'Requeues queued events without a message, as after a restore that left the queue out. Returns how many.';
comment on function billing.lost_messages() is 'Queued events without a message in the queue, and messages without a queued event. Empty when all is well.';
