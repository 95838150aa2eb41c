-- The history of a business that used Stripe before Tillbase: how far `till backfill` has read it, and from when on payments
-- give credits.
--
-- Invariant: credits_since is set once. What is recorded already keeps what it was worth, except that grants_current_period
-- may be turned on later. Called by the owner of the database (`till`).

create table billing.backfilled_lists (
    list text primary key,
    last_stripe_id text,
    objects bigint not null default 0,
    is_complete boolean not null default false,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint objects_are_not_negative check (objects >= 0)
);

alter table billing.backfilled_lists enable row level security;

revoke all on billing.backfilled_lists from public, anon, authenticated, service_role;
grant select on billing.backfilled_lists to service_role;

-- credits_since: when the first event of Stripe arrived here, or what still waits happened, else now. restart: read all lists again.
create function billing.start_backfill(grant_current_period boolean default false, restart boolean default false)
returns table (credits_since timestamptz, grants_current_period boolean)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before billing.settings;
begin
    select * into strict v_before from billing.settings for update;
    credits_since := date_trunc('second', coalesce(v_before.credits_since, (
        select least(
            min(stripe_events.received_at),
            -- What waits is applied later. It reports what was paid a moment before Stripe made the event.
            min(stripe_events.created_at) filter (where stripe_events.status in ('queued', 'parked', 'dead'))
                - interval '1 minute'
        )
        from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_' and stripe_events.status <> 'ignored'
    ), billing.current_time()));
    grants_current_period := v_before.grants_current_period or start_backfill.grant_current_period;
    update billing.settings
    set credits_since = start_backfill.credits_since, grants_current_period = start_backfill.grants_current_period,
        updated_at = now();
    if start_backfill.restart then
        delete from billing.backfilled_lists;
    end if;
    -- Also if it was wanted before: a payment that was being recorded at that moment may not have seen it.
    if grants_current_period then
        update billing.credit_schedules as schedules
        set counts_from = start_backfill.credits_since, offsets_only = false,
            next_slot_at = case when not schedules.gives_back then schedules.period_start end
        where schedules.counts_from = 'infinity' and schedules.period_end > start_backfill.credits_since;
        update billing.credit_schedules as schedules
        set offsets_only = false, counts_from = greatest(schedules.counts_from, credited.counts_from)
        from billing.credit_schedules as credited
        where schedules.offsets_only and credited.stripe_line_id = schedules.credited_line_id
            and credited.counts_from < 'infinity';
    end if;
    return next;
end
$$;

-- One page of a list was received; called in the transaction that received it.
create function billing.advance_backfill(list text, last_stripe_id text, objects bigint, is_complete boolean)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.backfilled_lists as held (list, last_stripe_id, objects, is_complete)
    values (
        advance_backfill.list, advance_backfill.last_stripe_id, advance_backfill.objects, advance_backfill.is_complete
    )
    on conflict on constraint backfilled_lists_pkey do update
    set last_stripe_id = coalesce(excluded.last_stripe_id, held.last_stripe_id),
        objects = held.objects + excluded.objects,
        is_complete = excluded.is_complete,
        updated_at = now();
end
$$;

revoke all on function billing.start_backfill, billing.advance_backfill from public, anon, authenticated, service_role;

comment on table billing.backfilled_lists is 'How far `till backfill` has read each of Stripe''s lists: where it was stopped, it goes on.';
comment on column billing.backfilled_lists.last_stripe_id is 'The last object that was received; Stripe lists the newest first.';
comment on function billing.start_backfill(boolean, boolean) is 'Sets settings.credits_since if it is not set, and grants_current_period if wanted. Returns both.';
comment on function billing.advance_backfill(text, text, bigint, boolean) is 'Records that a page of one of Stripe''s lists was received.';
