-- Workers and the messages that each of them holds, so that nothing waits for a dead worker.
--
-- Invariant: a worker's session holds an advisory lock as long as it lives, and Postgres releases the lock when the session
-- ends. So a row whose lock is free belongs to a dead worker, and the next check makes its messages and jobs due. A worker holds a
-- message as long as the message has the time-out that this worker set: archived messages are deleted, and delayed or reread
-- messages have another time-out.
--
-- last_seen_at is the sign of life of the worker's loop: a worker that hangs keeps its session, and its lock.
--
--   start_worker            first call of a session
--   report_worker           every few seconds: the worker's sign of life, and what is wrong with its Stripe key
--   read_stripe_events      takes messages for some time; commits the attempt
--   hand_back_stripe_events every few seconds: makes messages, lookups and jobs of dead workers due
--   release_stripe_events   releases this worker's messages; the attempt does not count
--
-- Callable by billing_worker.

create table billing.workers (
    pid integer primary key,
    in_hand bigint[] not null default '{}',
    in_hand_until timestamptz not null default '-infinity',
    started_at timestamptz not null default now(),
    last_seen_at timestamptz not null default clock_timestamp(),
    stripe_key_error text,
    stripe_key_failing_since timestamptz,
    constraint failing_keys_say_since_when check ((stripe_key_error is null) = (stripe_key_failing_since is null))
);

alter table billing.workers enable row level security;

revoke all on billing.workers from public, anon, authenticated, service_role;

create function billing._lock_of_workers()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select hashtext('billing.workers')
$$;

-- Makes the messages and jobs of a dead worker due.
create function billing._hand_back(worker billing.workers)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_stripe_events as message
    set vt = billing._due_after_death(message.read_ct - events.excused_attempts, message.enqueued_at)
    from billing.stripe_events as events
    where message.msg_id = any ((_hand_back.worker).in_hand) and message.vt = (_hand_back.worker).in_hand_until
        and events.stripe_event_id = message.message ->> 'event_id';

    update billing.stripe_lookups
    set worker_pid = null, next_attempt_at = billing._due_after_death(stripe_lookups.attempts, now())
    where stripe_lookups.worker_pid = (_hand_back.worker).pid;

    perform billing._hand_back_jobs((_hand_back.worker).pid);

    delete from billing.workers where workers.pid = (_hand_back.worker).pid;
end
$$;

create function billing.hand_back_stripe_events()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker billing.workers;
begin
    for v_worker in
        select * from billing.workers where workers.pid <> pg_backend_pid() order by workers.pid for update skip locked
    loop
        if pg_try_advisory_xact_lock(billing._lock_of_workers(), v_worker.pid) then
            perform billing._hand_back(v_worker);
        end if;
    end loop;
end
$$;

-- A row with our own process id belongs to an earlier process.
create function billing.start_worker()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._create_queue();
    perform billing._create_job_queue();
    perform billing._hand_back(workers) from billing.workers where workers.pid = pg_backend_pid();
    insert into billing.workers (pid) values (pg_backend_pid());
    perform pg_advisory_lock(billing._lock_of_workers(), pg_backend_pid());
    perform billing.hand_back_stripe_events();
end
$$;

create function billing.report_worker(stripe_key_error text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.workers
    set last_seen_at = clock_timestamp(),
        stripe_key_error = report_worker.stripe_key_error,
        stripe_key_failing_since = case
            when report_worker.stripe_key_error is not null then coalesce(workers.stripe_key_failing_since, now())
        end
    where workers.pid = pg_backend_pid();
end
$$;

create function billing.release_stripe_events(delay_seconds integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_stripe_events as message
    set vt = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds),
        read_ct = greatest(message.read_ct - 1, 0)
    from billing.workers
    where workers.pid = pg_backend_pid() and message.msg_id = any (workers.in_hand)
        and message.vt = workers.in_hand_until;

    update billing.stripe_lookups
    set worker_pid = null, attempts = stripe_lookups.attempts - 1,
        next_attempt_at = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds)
    where stripe_lookups.worker_pid = pg_backend_pid();
end
$$;

-- Called in a transaction of its own, or in the one that applies the batch before: the attempt is committed before any of
-- these messages is applied, so it counts even if its event crashes the worker. Two statements, because a message may be
-- committed after the first one's snapshot; the second sees its event. pgmq.read is not used, because it scans every
-- message that is not due yet.
--
-- due_within_seconds: only messages that became due within that time; null: all. An old snapshot keeps entries of
-- archived messages in the index, and this way not every poll must skip them. Messages without a queued event are
-- archived.
create function billing.read_stripe_events(
    visibility_seconds integer, batch_size integer, due_within_seconds double precision default null
)
returns table (
    msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text,
    created_at timestamptz, payload text, received_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_due_after timestamptz := coalesce(
        now() - make_interval(secs => read_stripe_events.due_within_seconds), '-infinity'
    );
    v_until timestamptz := clock_timestamp() + make_interval(secs => read_stripe_events.visibility_seconds);
    v_msg_ids bigint[];
    v_read_cts integer[];
    v_event_ids text[];
    v_count bigint;
begin
    loop
        with due as materialized (
            select queued.msg_id from pgmq.q_stripe_events as queued
            where queued.vt <= now() and queued.vt >= v_due_after
            order by queued.vt
            limit read_stripe_events.batch_size
            for update skip locked
        ),
        taken as (
            update pgmq.q_stripe_events as message
            set vt = v_until, read_ct = message.read_ct + 1
            from due
            where message.msg_id = due.msg_id
            returning message.msg_id, message.read_ct, message.message ->> 'event_id' as event_id
        )
        select array_agg(taken.msg_id), array_agg(taken.read_ct), array_agg(taken.event_id)
        into v_msg_ids, v_read_cts, v_event_ids
        from taken;
        exit when v_msg_ids is null;

        return query
        select
            message.msg_id, message.read_ct, message.read_ct - event.excused_attempts, event.stripe_event_id, event.type,
            event.api_version, event.created_at, event.payload, event.received_at
        from unnest(v_msg_ids, v_read_cts, v_event_ids) as message (msg_id, read_ct, event_id)
        join billing.stripe_events as event
            on event.stripe_event_id = message.event_id and event.status = 'queued'
        order by message.msg_id;
        get diagnostics v_count = row_count;

        if v_count < cardinality(v_msg_ids) then
            perform pgmq.archive('stripe_events', array(
                select message.msg_id from unnest(v_msg_ids, v_event_ids) as message (msg_id, event_id)
                where not exists (
                    select from billing.stripe_events as event
                    where event.stripe_event_id = message.event_id and event.status = 'queued'
                )
            ));
        end if;
        exit when v_count > 0;
    end loop;

    if v_msg_ids is null then
        return;
    end if;
    update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    if not found then
        perform billing.start_worker();
        update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    end if;
end
$$;

revoke all on function
    billing._lock_of_workers, billing._hand_back, billing.hand_back_stripe_events,
    billing.start_worker, billing.report_worker, billing.release_stripe_events, billing.read_stripe_events
from public, anon, authenticated, service_role;
grant execute on function
    billing.hand_back_stripe_events(), billing.start_worker(), billing.report_worker(text),
    billing.release_stripe_events(integer), billing.read_stripe_events(integer, integer, double precision)
to billing_worker;

comment on table billing.workers is 'Connected workers, and dead ones: by the process id of their session, the messages that each took last.';
comment on column billing.workers.in_hand_until is 'The time-out of these messages; the worker no longer holds those with another time-out.';
comment on column billing.workers.last_seen_at is 'The last sign of life of the worker''s loop.';
comment on column billing.workers.stripe_key_error is 'What is wrong with the STRIPE_API_KEY of this worker; null: nothing, as far as it knows.';
