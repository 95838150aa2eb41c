-- Settings of this installation, and the clock that everything in `billing` reads.
--
-- Invariant: one row of settings, one row of clock. Billing time is ahead of the clock only in a local stack: setting it
-- takes a superuser session, which hosted projects don't have.

create table billing.settings (
    id boolean primary key default true,
    livemode boolean not null default false,
    updated_at timestamptz not null default now(),
    constraint there_is_one_row check (id)
);

create table billing.clock (
    id boolean primary key default true,
    ahead_by interval not null default interval '0',
    constraint there_is_one_row check (id),
    constraint ahead_by_is_not_negative check (ahead_by >= interval '0')
);

insert into billing.settings default values;
insert into billing.clock default values;

alter table billing.settings enable row level security;
alter table billing.clock enable row level security;

revoke all on billing.settings, billing.clock from public, anon, authenticated, service_role;

create function billing.tg_clock__local_only()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = session_user and rolsuper) then
        raise exception 'the clock can only be moved in a local stack'
            using errcode = 'TB013', hint = 'Use Stripe test clocks with `till dev`.';
    end if;
    return null;
end
$$;

create trigger tg_clock__local_only
before insert or update or delete or truncate on billing.clock
for each statement execute function billing.tg_clock__local_only();

create function billing.current_time()
returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Not the start of the transaction, which may have waited long for a lock: what a movement judges, it judges by the
    -- time at which it holds the lock.
    return (select clock_timestamp() + clock.ahead_by from billing.clock);
end
$$;

create function billing.is_livemode()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select settings.livemode from billing.settings
$$;

revoke all on function billing.tg_clock__local_only, billing.current_time, billing.is_livemode from public, anon, authenticated, service_role;
grant execute on function billing.current_time() to anon, authenticated, service_role, billing_worker;
grant execute on function billing.is_livemode() to anon, authenticated, service_role, billing_worker;

comment on table billing.settings is 'What this installation is told by its owner; one row.';
comment on column billing.settings.livemode is 'True when real money is expected. Events of the other mode are recorded and ignored.';
comment on table billing.clock is 'How far billing time is ahead of the clock; moved by the local stack only.';
comment on function billing.current_time() is 'The time that credits open, fall due and expire by: the clock''s, later in a local stack whose clock was moved.';
comment on function billing.is_livemode() is 'True when this installation expects real money.';
