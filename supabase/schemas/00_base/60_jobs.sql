-- Jobs: work outside the database (requests to Stripe, messages to people) waits in one queue for the worker.
--
-- A job is a message {"kind", "id"}: the kind selects the handler, the id names the row that says what to do. The transaction
-- that makes the work due sends the message. The handler reads from the row whether the work is still needed, so a second or
-- late message does nothing.
--
-- Invariant: one session at a time has a job (worker_pid in its headers), until it is finished or retried, its time-out is
-- over, or that session ends (workers). Only the session that has the job can finish or retry it.
--
--   take_jobs          jobs that are due, of the kinds that the caller can do; the attempt counts
--   finish_jobs        nothing is left to do
--   retry_job          due again later, with the reason
--   take_unknown_jobs  jobs of a kind that the caller does not know: kept, and due again much later
--   queued_jobs        all jobs, with their attempts and due times
--
-- Its own SQL, on the columns that pgmq has from 1.5.1 to 1.13. The index is by kind, so jobs that wait for a worker with
-- their handler cost the other kinds nothing. Callable by billing_worker; queued_jobs by service_role.

-- Every kind of job. The worker's handlers are in worker/jobs/run.py.
create domain billing.job_kind as text
constraint job_kind_is_known check (
    value in (
        'payment_link', 'email_change', 'fraud_action', 'recharge', 'overage', 'administrators_notification',
        'customer_notification'
    )
);

-- Also called after a restore: pgmq 1.5.1 makes a queue's tables members of its extension, so dumps leave them out.
create function billing._create_job_queue()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is not null and to_regclass('pgmq.a_billing_jobs') is not null then
        return;
    end if;
    perform pgmq.create('billing_jobs');
    create index if not exists billing_jobs_due on pgmq.q_billing_jobs ((message ->> 'kind'), vt);
    alter table pgmq.q_billing_jobs enable row level security;
    alter table pgmq.a_billing_jobs enable row level security;
    revoke all on pgmq.q_billing_jobs, pgmq.a_billing_jobs from public, anon, authenticated, service_role;
end
$$;

select billing._create_job_queue();

-- Without the queue, as after such a restore, this does nothing: requeue_jobs finds rows without a message.
create function billing._enqueue_jobs(kind billing.job_kind, ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    insert into pgmq.q_billing_jobs (vt, message)
    select clock_timestamp(), jsonb_build_object('kind', _enqueue_jobs.kind, 'id', job.id)
    from unnest(_enqueue_jobs.ids) with ordinality as job (id, place)
    order by job.place;
end
$$;

-- Deletes the messages of rows that no longer need a worker, even if a worker has them. Hash join: there is no index by id.
create function billing._drop_jobs(kind billing.job_kind, ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    delete from pgmq.q_billing_jobs as message
    using unnest(_drop_jobs.ids) as job (id)
    where message.message ->> 'kind' = _drop_jobs.kind and message.message ->> 'id' = job.id;
end
$$;

-- Postpones jobs that are due, or that this session has. It counts as no attempt.
create function billing._postpone_jobs(kind billing.job_kind, ids text[], due_at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    update pgmq.q_billing_jobs as message
    set vt = _postpone_jobs.due_at, headers = null,
        read_ct = message.read_ct - (message.headers ? 'worker_pid' is true)::integer
    from unnest(_postpone_jobs.ids) as job (id)
    where message.message ->> 'kind' = _postpone_jobs.kind and message.message ->> 'id' = job.id
        and (message.vt <= now() or message.headers ->> 'worker_pid' = pg_backend_pid()::text);
end
$$;

-- Ends an attempt: the job is done (retry_in_seconds null), or due again. Returns whether this session had the job; true if
-- there is no message.
create function billing._end_job(msg_id bigint, retry_in_seconds integer, reason text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if _end_job.msg_id is null then
        return true;
    elsif _end_job.retry_in_seconds is null then
        delete from pgmq.q_billing_jobs as message
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    else
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => _end_job.retry_in_seconds),
            headers = jsonb_build_object('reason', _end_job.reason)
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    end if;
    return found;
end
$$;

-- When a job or event of a dead worker is due again: at once, before later ones. After several workers died with it, it may
-- be the cause: it waits a random moment, so that it is separated from those that were taken with it.
create function billing._due_after_death(attempts integer, due_at timestamptz)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select case when _due_after_death.attempts > 2 then clock_timestamp() + random() * interval '4 seconds'
        else _due_after_death.due_at end
$$;

create function billing._hand_back_jobs(worker_pid integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_billing_jobs as message
    set vt = billing._due_after_death(message.read_ct, message.enqueued_at), headers = null
    where message.headers ->> 'worker_pid' = _hand_back_jobs.worker_pid::text;
end
$$;

-- Called in its own transaction, so that the attempt counts even if the worker dies. The arrays are parallel; jobs_max: the
-- largest number of each kind.
create function billing.take_jobs(kinds text[], jobs_max integer[], lease_seconds integer)
returns table (msg_id bigint, kind text, id text, attempts integer)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_msg_ids bigint[];
begin
    v_msg_ids := array(
        select queued.msg_id from unnest(take_jobs.kinds, take_jobs.jobs_max) as wanted (kind, jobs_max)
        cross join lateral (
            select message.msg_id from pgmq.q_billing_jobs as message
            -- A comparison of rows, which only the index by kind can answer; pgmq's own index has the jobs of all kinds.
            where (message.message ->> 'kind', message.vt) >= (wanted.kind, '-infinity')
                and (message.message ->> 'kind', message.vt) <= (wanted.kind, now())
            order by message.message ->> 'kind', message.vt
            limit wanted.jobs_max
            for update skip locked
        ) as queued
    );
    if v_msg_ids = '{}' then
        return;
    end if;
    return query
    with taken as (
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => take_jobs.lease_seconds), read_ct = message.read_ct + 1,
            headers = jsonb_build_object('worker_pid', pg_backend_pid())
        where message.msg_id = any (v_msg_ids)
        returning message.msg_id, message.message, message.read_ct
    )
    select taken.msg_id, taken.message ->> 'kind', taken.message ->> 'id', taken.read_ct
    from taken
    order by taken.msg_id;
end
$$;

create function billing.finish_jobs(msg_ids bigint[])
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._end_job(job.msg_id, null, null) from unnest(finish_jobs.msg_ids) as job (msg_id);
end
$$;

-- excused: the attempt does not count.
create function billing.retry_job(msg_id bigint, delay_seconds integer, reason text, excused boolean default false)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if billing._end_job(retry_job.msg_id, retry_job.delay_seconds, retry_job.reason) and retry_job.excused then
        update pgmq.q_billing_jobs as message set read_ct = greatest(message.read_ct - 1, 0)
        where message.msg_id = retry_job.msg_id;
    end if;
end
$$;

create function billing.take_unknown_jobs(kinds text[], delay_seconds integer)
returns table (msg_id bigint, kind text, id text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    update pgmq.q_billing_jobs as message
    set vt = clock_timestamp() + make_interval(secs => take_unknown_jobs.delay_seconds), read_ct = message.read_ct + 1,
        headers = jsonb_build_object('reason', 'the worker knows no such kind of job')
    where message.vt <= now() and coalesce(message.message ->> 'kind', '') <> all (take_unknown_jobs.kinds)
    returning message.msg_id, message.message ->> 'kind', message.message ->> 'id';
end
$$;

-- Returns nothing if the queue is missing.
create function billing.queued_jobs()
returns table (kind text, id text, attempts integer, due_at timestamptz, reason text, worker_pid integer)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    return query
    select
        message.message ->> 'kind', message.message ->> 'id', message.read_ct, message.vt, message.headers ->> 'reason',
        (message.headers ->> 'worker_pid')::integer
    from pgmq.q_billing_jobs as message
    order by message.msg_id;
end
$$;

revoke all on function
    billing._create_job_queue, billing._enqueue_jobs, billing._drop_jobs, billing._postpone_jobs, billing._end_job,
    billing._due_after_death, billing._hand_back_jobs, billing.take_jobs, billing.finish_jobs, billing.retry_job,
    billing.take_unknown_jobs, billing.queued_jobs
from public, anon, authenticated, service_role;
grant execute on function
    billing.take_jobs(text[], integer[], integer), billing.finish_jobs(bigint[]),
    billing.retry_job(bigint, integer, text, boolean), billing.take_unknown_jobs(text[], integer)
to billing_worker;
grant execute on function billing.queued_jobs() to service_role;

comment on function billing.take_jobs(text[], integer[], integer) is 'Jobs of these kinds that are due, up to jobs_max of each, taken by the caller for lease_seconds.';
comment on function billing.finish_jobs(bigint[]) is 'Removes jobs of the caller that have nothing left to do.';
comment on function billing.retry_job(bigint, integer, text, boolean) is 'Makes a job of the caller due again after delay_seconds.';
comment on function billing.take_unknown_jobs(text[], integer) is 'Jobs that are due and of none of these kinds; they stay in the queue and are due again after delay_seconds.';
comment on function billing.queued_jobs() is 'All jobs of the worker, with their attempts, their due times and the session that has them.';
