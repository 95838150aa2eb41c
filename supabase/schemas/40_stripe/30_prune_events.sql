-- Old events keep their row, so that a repeated delivery is detected, but not their body.
--
-- Invariant: an event that may still be processed or retried (queued, parked, dead) keeps its body. The scan goes by
-- received_at, a chunk at a time, and stops at a queued event; a later retry moves the scan back to the retried event.
-- So every finished event loses its body eventually, and nothing is scanned twice without a reason.
--
-- Callable by billing_worker.

create table billing.event_pruning (
    id boolean primary key default true,
    pruned_until timestamptz not null default '-infinity',
    constraint there_is_one_row check (id)
);

insert into billing.event_pruning default values;

alter table billing.event_pruning enable row level security;
revoke all on billing.event_pruning from public, anon, authenticated, service_role;

-- Processes about rows_max events and as many archived messages, or more if many were received at the same time.
-- Returns the larger of both counts: less than rows_max means that nothing is left.
create function billing.prune_events(rows_max integer)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept_from timestamptz;
    v_queued_from timestamptz;
    v_from timestamptz;
    v_until timestamptz;
    v_count bigint;
    v_messages bigint;
begin
    select now() - make_interval(days => settings.keep_events_days) into v_kept_from from billing.settings;
    select event_pruning.pruned_until into v_from from billing.event_pruning;
    select min(stripe_events.received_at) into v_queued_from
    from billing.stripe_events where stripe_events.status = 'queued';

    select count(*), max(old.received_at) into v_count, v_until
    from (
        select stripe_events.received_at from billing.stripe_events
        where stripe_events.received_at > v_from and stripe_events.received_at < least(v_kept_from, v_queued_from)
        order by stripe_events.received_at
        fetch first (prune_events.rows_max) rows with ties
    ) as old;
    if v_count > 0 then
        update billing.stripe_events set payload = ''
        where stripe_events.received_at > v_from and stripe_events.received_at <= v_until
            and stripe_events.status in ('applied', 'ignored') and stripe_events.payload <> '';
        update billing.event_pruning set pruned_until = v_until where event_pruning.pruned_until = v_from;
    end if;

    delete from pgmq.a_stripe_events as archived
    where archived.msg_id in (
        select old.msg_id from pgmq.a_stripe_events as old
        where old.archived_at < v_kept_from
        order by old.archived_at
        limit prune_events.rows_max
    );
    get diagnostics v_messages = row_count;
    return greatest(v_count, v_messages);
end
$$;

create function billing.tg_stripe_events__prune_again()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.event_pruning set pruned_until = new.received_at - interval '1 microsecond'
    where event_pruning.pruned_until >= new.received_at;
    return null;
end
$$;

create trigger tg_stripe_events__prune_again
after update of status on billing.stripe_events
for each row when (old.status in ('parked', 'dead') and new.status not in ('parked', 'dead'))
execute function billing.tg_stripe_events__prune_again();

revoke all on function billing.prune_events, billing.tg_stripe_events__prune_again
from public, anon, authenticated, service_role;
grant execute on function billing.prune_events(integer) to billing_worker;

comment on table billing.event_pruning is 'How far the bodies of old events are deleted.';
comment on function billing.prune_events(integer) is 'Deletes the bodies of about rows_max events that are older than settings.keep_events_days, and as many archived messages. Returns less than rows_max when nothing is left.';
