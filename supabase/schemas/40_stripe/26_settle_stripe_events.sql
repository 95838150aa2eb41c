-- The transaction that applies events: locks in one order, then the final status together with the effects, or a retry.
--
--   lock_stripe_events     first statement of the transaction
--   settle_stripe_events   final status + archive, in the transaction of the effects
--   delay_stripe_event     retry later
--
-- Callable by billing_worker.

-- Locks events by id, then accounts by id: the same order in every batch, so that two batches never deadlock. From here
-- on the transaction never waits long for a lock, because the app may hold an account in a transaction of its own: it
-- then fails with 55P03, and the batch is repeated event by event. postpone_months: allocate_postponed grants the
-- months of the batch as one set; the caller calls it before it commits.
create function billing.lock_stripe_events(
    event_ids text[], stripe_customer_ids text[], postpone_months boolean default false
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_catalog.set_config('lock_timeout', '500ms', true);
    if lock_stripe_events.postpone_months then
        perform pg_catalog.set_config('billing.postponed', '[', true);
    end if;
    perform from billing.stripe_events
    where stripe_events.stripe_event_id = any (lock_stripe_events.event_ids)
    order by stripe_events.stripe_event_id
    for update;

    perform from billing.credit_balances
    where credit_balances.account_id in (
        select customers.account_id from billing.customers
        where customers.stripe_customer_id = any (lock_stripe_events.stripe_customer_ids)
    )
    order by credit_balances.account_id
    for update;
end
$$;

-- The arrays are parallel: message i belongs to event i, which ends in status i for reason i.
create function billing.settle_stripe_events(
    msg_ids bigint[], event_ids text[], statuses text[], reasons text[], waiting_for text[]
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stripe_id text;
begin
    for v_stripe_id in select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null order by id
    loop
        perform billing._lock_arrival(v_stripe_id);
    end loop;

    -- Another worker may have ended it meanwhile: an applied event stays applied.
    update billing.stripe_events
    set status = case
            when outcome.status in ('parked', 'dead')
                and billing._dismissal(stripe_events.payload, outcome.waiting_for) is not null
            then 'ignored'
            else outcome.status
        end,
        attempts = stripe_events.attempts + 1,
        last_error = coalesce(
            case when outcome.status in ('parked', 'dead') then
                billing._dismissal(stripe_events.payload, outcome.waiting_for)
            end,
            outcome.reason
        ),
        waiting_for = outcome.waiting_for,
        settled_at = now()
    from unnest(
        settle_stripe_events.event_ids, settle_stripe_events.statuses, settle_stripe_events.reasons,
        settle_stripe_events.waiting_for
    ) as outcome (stripe_event_id, status, reason, waiting_for)
    where stripe_events.stripe_event_id = outcome.stripe_event_id
        and (stripe_events.status = 'queued' or outcome.status = 'applied');

    perform pgmq.archive('stripe_events', settle_stripe_events.msg_ids);
    delete from billing.stripe_lookups where stripe_lookups.stripe_event_id = any (settle_stripe_events.event_ids);

    perform billing._retry_events_waiting_for(id)
    from (select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null) as awaited
    where billing._has_arrived(awaited.id);
end
$$;

-- excused: the attempt does not count towards the dead letters (the app held a lock, or Stripe was unavailable).
create function billing.delay_stripe_event(
    msg_id bigint, event_id text, delay_seconds integer, reason text, excused boolean
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.stripe_events
    set attempts = stripe_events.attempts + 1,
        excused_attempts = stripe_events.excused_attempts + delay_stripe_event.excused::integer,
        last_error = delay_stripe_event.reason
    where stripe_events.stripe_event_id = delay_stripe_event.event_id and stripe_events.status = 'queued';

    update billing.stripe_lookups
    set next_attempt_at = now() + pg_catalog.make_interval(secs => delay_stripe_event.delay_seconds),
        excused_attempts = stripe_lookups.excused_attempts + delay_stripe_event.excused::integer,
        worker_pid = null
    where stripe_lookups.stripe_event_id = delay_stripe_event.event_id;
    if not found then
        perform pgmq.set_vt('stripe_events', delay_stripe_event.msg_id, delay_stripe_event.delay_seconds);
    end if;
end
$$;

revoke all on function
    billing.lock_stripe_events, billing.settle_stripe_events, billing.delay_stripe_event
from public, anon, authenticated, service_role;
grant execute on function
    billing.lock_stripe_events(text[], text[], boolean),
    billing.settle_stripe_events(bigint[], text[], text[], text[], text[]),
    billing.delay_stripe_event(bigint, text, integer, text, boolean)
to billing_worker;
