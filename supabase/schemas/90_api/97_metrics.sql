-- Figures of the database for monitoring: each worker reads them every few seconds, whether or not anybody asks for them.
--
-- Invariant: the cost does not grow with the number of accounts, entries or events. What is counted is counted from an
-- index of just those rows, up to count_max.
--
-- Callable by billing_worker and service_role.

create function billing._metrics_count_max()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select 10000
$$;

-- A row for each figure. label: a kind or a state, where a figure has several rows. Times are in Unix seconds.
create function billing.metrics()
returns table (name text, label text, value double precision)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'events', 'queued', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'queued' limit billing._metrics_count_max()
        ) as counted
    )::double precision
    union all
    select 'events', 'parked', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'parked' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'events', 'dead', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'dead' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'events', 'waiting_for_stripe', (
        select count(*) from (select from billing.stripe_lookups limit billing._metrics_count_max()) as counted
    )
    union all
    select 'oldest_event_age', null, coalesce((
        select extract(epoch from now() - stripe_events.received_at) from billing.stripe_events
        where stripe_events.status = 'queued' order by stripe_events.received_at limit 1
    ), 0)
    union all
    select 'jobs', jobs.kind, jobs.number from (
        select counted.kind, count(*) as number
        from (
            select queued.message ->> 'kind' as kind from pgmq.q_billing_jobs as queued
            limit billing._metrics_count_max()
        ) as counted
        group by 1
    ) as jobs
    union all
    select 'dead_notifications', null, (
        select count(*) from (
            select from billing.notifications where notifications.status = 'dead' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'discrepancies', null, (
        select count(*) from (select from billing.found_discrepancies limit billing._metrics_count_max()) as counted
    )
    union all
    select 'proof_finished', null, (select extract(epoch from account_proof.round_finished_at) from billing.account_proof)
    union all
    select 'open_alerts', alerts.kind, count(*) from billing.alerts where alerts.ended_at is null group by alerts.kind
    union all
    select 'workers', case when workers.last_seen_at > now() - interval '1 minute' then 'seen' else 'missing' end, count(*)
    from billing.workers group by 2
    union all
    select 'worker_last_seen', null, (select extract(epoch from max(workers.last_seen_at)) from billing.workers)
    union all
    select 'credits', credit_totals.kind, credit_totals.credits from billing.credit_totals
    union all
    select 'credits_outstanding', null, (select coalesce(sum(credit_totals.credits), 0) from billing.credit_totals)
    union all
    select 'credits_counted', null, (
        select extract(epoch from credit_count.counted_until) from billing.credit_count
        where credit_count.counted_until > '-infinity'
    );
end
$$;

revoke all on function billing._metrics_count_max, billing.metrics
from public, anon, authenticated, service_role;
grant execute on function billing.metrics() to billing_worker, service_role;

comment on function billing.metrics() is 'Figures for monitoring, in a time that does not grow with the installation. Counts end at 10,000.';
