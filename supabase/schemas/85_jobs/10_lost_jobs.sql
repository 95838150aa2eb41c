-- Rows that need a job and have none: lists them and queues their jobs again.
--
-- Invariant: each row that needs the worker has a message in billing_jobs. Both are written in one transaction, so a
-- difference has an outside cause: a restore of a project whose pgmq (1.5.1) leaves its queues out of dumps, or a purged
-- queue. A job of a row that no longer needs it is no error: it ends when a worker takes it.
--
-- Callable by billing_worker; lost_jobs is part of billing.ledger_discrepancies.

-- Every row that needs a job, by kind.
create function billing._needed_jobs()
returns table (kind billing.job_kind, id text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select 'payment_link'::billing.job_kind, payment_links.id::text from billing.payment_links
    where payment_links.deactivate_at is not null
    union all
    select 'email_change', changes.stripe_customer_id from billing.customer_email_changes as changes
    where changes.settled_at is null
    union all
    select 'fraud_action', fraud_actions.id::text from billing.fraud_actions where fraud_actions.status = 'queued'
    union all
    select 'recharge', recharges.id::text from billing.recharges where recharges.status in ('claimed', 'charging')
    union all
    select 'overage', overages.id::text from billing.overages where overages.status = 'claimed'
    union all
    select (notifications.audience || '_notification')::billing.job_kind, notifications.id::text
    from billing.notifications where notifications.status in ('queued', 'sending')
$$;

-- A function of its own, because of its plan: hash joins, because the queue has no index by the row's id.
create function billing._lost_jobs()
returns table (kind billing.job_kind, id text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    return query
    select needed.kind, needed.id from billing._needed_jobs() as needed
    where not exists (
        select from billing.queued_jobs() as job where job.kind = needed.kind and job.id = needed.id
    );
end
$$;

create function billing.lost_jobs()
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'open_work_has_a_job', format('%s %s has no message in billing_jobs', lost.kind, lost.id)
    from billing._lost_jobs() as lost;
end
$$;

-- Called when a worker starts, and every hour; one worker at a time. Returns how many were queued.
create function billing.requeue_jobs()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lost record;
    v_count bigint := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_jobs', 0)) then
        return 0;
    end if;
    for v_lost in
        select lost.kind, array_agg(lost.id order by lost.id) as ids from billing._lost_jobs() as lost group by lost.kind
    loop
        perform billing._enqueue_jobs(v_lost.kind, v_lost.ids);
        v_count := v_count + cardinality(v_lost.ids);
    end loop;
    return v_count;
end
$$;

revoke all on function
    billing._needed_jobs, billing._lost_jobs, billing.lost_jobs, billing.requeue_jobs
from public, anon, authenticated, service_role;
grant execute on function billing.requeue_jobs() to billing_worker;
grant execute on function billing.lost_jobs() to service_role;

comment on function billing.requeue_jobs() is 'Queues jobs for rows that lost theirs, as after a restore that left the queue out. Returns how many.';
comment on function billing.lost_jobs() is 'Rows that need a job of the worker and have no message in billing_jobs. Part of ledger_discrepancies.';
