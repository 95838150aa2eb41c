-- The watch: whether a worker is there and its Stripe key works, events arrive, plans give what is paid for, and
-- notifications are delivered.
--
-- Invariant: one alert for each situation, however often and by however many it is looked for.
--
--   watch               every minute, by each worker, and by pg_cron, which also runs while no worker does
--   unreceived_events   of the events that Stripe has, those that the inbox has not
--   receiving_since     since when events arrive here; null before the first
--   report_arrivals     what a worker found when it compared them
--
-- Callable by billing_worker.

-- Since when workers could be seen: not while Postgres itself was down.
create function billing._up_since()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_postmaster_start_time()
$$;

create function billing._watch_workers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_after interval := (select settings.worker_missing_after from billing.settings);
    v_seen_at timestamptz := (select max(workers.last_seen_at) from billing.workers);
    v_since timestamptz;
    v_ended billing.alerts;
    v_skipped text;
begin
    -- A worker is expected once there was one, or an event waits for it.
    v_since := coalesce(v_seen_at, (
        select min(stripe_events.received_at) from billing.stripe_events where stripe_events.status = 'queued'
    ));
    if v_since < now() - v_after and billing._up_since() < now() - v_after then
        if billing._open_alert('worker_missing', '', jsonb_build_object('since', v_since)) then
            perform billing._post_alert(format(
                'no worker has been seen since %s UTC. Stripe''s events wait in the queue. Start it with `till worker run`; '
                '`till doctor` says what else is wrong.', to_char(v_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
            ));
        end if;
        return;
    elsif v_seen_at < now() - coalesce(v_after, interval '1 minute') then
        return;
    end if;

    for v_ended in select * from billing._end_alerts('worker_missing') loop
        -- Nobody could send it while it was true.
        update billing.notifications set status = 'skipped', last_error = 'the worker is back: worker_back reports it'
        where notifications.dedupe_key = format('worker_missing:%s', v_ended.id)
            and notifications.status = 'queued' and notifications.attempts = 0
        returning notifications.id::text into v_skipped;
        if v_skipped is not null then
            perform billing._drop_jobs('administrators_notification', array[v_skipped]);
        end if;
        perform billing._notify(
            null, 'administrators', 'worker_back', format('worker_back:%s', v_ended.id),
            jsonb_build_object('since', v_ended.payload -> 'since', 'until', now())
        );
        perform billing._post_alert('a worker runs again.');
    end loop;
end
$$;

-- A key that fails for a quarter of an hour does so for longer than a restart with another one takes.
create function billing._watch_keys()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reason text;
    v_since timestamptz;
begin
    select workers.stripe_key_error, workers.stripe_key_failing_since into v_reason, v_since
    from billing.workers
    where workers.stripe_key_failing_since < now() - interval '15 minutes'
        and workers.last_seen_at > now() - interval '15 minutes'
    order by workers.stripe_key_failing_since limit 1;
    if found then
        perform billing._open_alert('stripe_key', '', jsonb_build_object('reason', v_reason, 'since', v_since));
    elsif exists (
        -- One that has just started may not know yet.
        select from billing.workers
        where workers.stripe_key_error is null and workers.last_seen_at > now() - interval '1 minute'
            and workers.started_at < now() - interval '2 minutes'
    ) then
        perform billing._end_alerts('stripe_key');
    end if;
end
$$;

-- Plans that cost something, have subscribers, and give neither credits nor features.
create function billing._watch_plans()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price_ids text[] := array(
        select plans.stripe_price_id from billing.plans
        where plans.unit_amount is distinct from 0
            -- exists, so that the first subscription is enough.
            and exists (
                select from billing.admin_plans_without_credits as without
                where without.stripe_price_id = plans.stripe_price_id
            )
        order by plans.stripe_price_id
    );
begin
    perform billing._open_alert(
        'plan_without_credits', plans.stripe_price_id,
        jsonb_build_object(
            'stripe_price_id', plans.stripe_price_id,
            'name', coalesce(plans.lookup_key, nullif(plans.nickname, ''), products.name)
        )
    )
    from billing.plans join billing.products using (stripe_product_id)
    where plans.stripe_price_id = any (v_price_ids);
    perform billing._end_alerts('plan_without_credits', v_price_ids);
end
$$;

-- Also posted: the channels may be what fails. Further ones are reported a day later.
create function billing._watch_notifications()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
    v_last_id bigint;
begin
    select count(*), max(notifications.id) into v_count, v_last_id from billing.notifications
    where notifications.status = 'dead' and notifications.kind <> 'notifications_undeliverable';
    if v_count = 0 then
        perform billing._end_alerts('notifications_undeliverable');
        return;
    end if;
    if exists (
        select from billing.alerts
        where alerts.kind = 'notifications_undeliverable' and alerts.ended_at is null
            and alerts.began_at < now() - interval '1 day' and (alerts.payload ->> 'last_id')::bigint < v_last_id
    ) then
        perform billing._end_alerts('notifications_undeliverable');
    end if;
    if billing._open_alert(
        'notifications_undeliverable', '', jsonb_build_object('count', v_count, 'last_id', v_last_id)
    ) then
        perform billing._post_alert(format(
            '%s could not be delivered. Reasons: `till notifications list --status dead`.',
            case v_count when 1 then '1 notification' else format('%s notifications', v_count) end
        ));
    end if;
end
$$;

create function billing.watch()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._watch_workers();
    perform billing._watch_keys();
    perform billing._watch_plans();
    perform billing._watch_notifications();
end
$$;

create function billing.unreceived_events(event_ids text[])
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select event.id from unnest(unreceived_events.event_ids) with ordinality as event (id, place)
    where not exists (select from billing.stripe_events where stripe_events.stripe_event_id = event.id)
    order by event.place;
end
$$;

create function billing.receiving_since()
returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- What `till` itself queued did not arrive from Stripe. The oldest events are read first, by the index.
    return (
        select stripe_events.received_at from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_'
        order by stripe_events.received_at limit 1
    );
end
$$;

-- missing: how many did not arrive; the other arguments are about the newest of them.
create function billing.report_arrivals(missing integer, event_id text, type text, created_at timestamptz)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if report_arrivals.missing = 0 then
        perform billing._end_alerts('events_missing');
    else
        perform billing._open_alert(
            'events_missing', '',
            jsonb_build_object(
                'count', report_arrivals.missing, 'stripe_event_id', report_arrivals.event_id,
                'type', report_arrivals.type, 'created_at', report_arrivals.created_at
            )
        );
    end if;
end
$$;

revoke all on function
    billing._up_since, billing._watch_workers, billing._watch_keys, billing._watch_plans, billing._watch_notifications, billing.watch,
    billing.unreceived_events, billing.receiving_since, billing.report_arrivals
from public, anon, authenticated, service_role;
grant execute on function
    billing.watch(), billing.unreceived_events(text[]), billing.receiving_since(),
    billing.report_arrivals(integer, text, text, timestamptz)
to billing_worker;

comment on function billing.watch() is 'Opens and ends alerts: no worker, a Stripe key that fails, paid plans without credits, undeliverable notifications. pg_cron and each worker call it once a minute.';
comment on function billing.unreceived_events(text[]) is 'Those of these events that never arrived.';
comment on function billing.receiving_since() is 'When the first event arrived from Stripe; null if none has.';
comment on function billing.report_arrivals(integer, text, text, timestamptz) is 'Opens or ends the alert that Stripe has events that never arrived.';
