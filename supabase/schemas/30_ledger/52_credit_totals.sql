-- What all accounts together were granted, spent and lost, by kind of entry; the sum of it all is what is outstanding.
--
-- Invariant: each total is the sum of all entries whose transaction began before counted_until, each of them once. The
-- totals are brought up to date from the newest entries, so that nobody adds up a million balances, and no movement
-- updates a row that all accounts share.
--
-- An entry has the start of its transaction (created_at) and an id that was drawn later. So entries from counted_until on
-- have ids above id_floor, which was read off the sequence before; and an entry is final once no transaction that began
-- before it is running.
--
-- count_credits is called by billing_worker.

create table billing.credit_totals (
    kind billing.entry_kind primary key,
    credits numeric not null default 0
);

create table billing.credit_count (
    id boolean primary key default true,
    counted_until timestamptz not null default '-infinity',
    id_floor bigint not null default 0,
    next_floor bigint not null default 0,
    next_floor_at timestamptz not null default now(),
    constraint there_is_one_row check (id)
);

insert into billing.credit_count default values;

alter table billing.credit_totals enable row level security;
alter table billing.credit_count enable row level security;

revoke all on billing.credit_totals, billing.credit_count from public, anon, authenticated, service_role;
grant select on billing.credit_totals, billing.credit_count to service_role;

-- What a session has begun and not yet reported is a moment old at most: ten seconds are enough.
create function billing._credits_are_final_until()
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select least(min(pg_stat_activity.xact_start), now() - interval '10 seconds') from pg_stat_activity
    where pg_stat_activity.datname = current_database() and pg_stat_activity.pid <> pg_backend_pid()
$$;

-- Does nothing while another session counts.
create function billing.count_credits()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count billing.credit_count;
    v_until timestamptz;
    v_highest_id bigint;
begin
    select * into v_count from billing.credit_count for update skip locked;
    if not found then
        return;
    end if;
    v_until := billing._credits_are_final_until();
    -- Not while a transaction is running that began before: the entries since then would be read each time.
    if v_until <= v_count.counted_until then
        return;
    end if;
    -- A statement of its own after that, so that it sees what had ended by then.
    insert into billing.credit_totals as totals (kind, credits)
    select credit_entries.kind, sum(credit_entries.amount) from billing.credit_entries
    where credit_entries.id > v_count.id_floor
        and credit_entries.created_at >= v_count.counted_until and credit_entries.created_at < v_until
    group by credit_entries.kind
    on conflict (kind) do update set credits = totals.credits + excluded.credits;

    select coalesce(pg_sequence_last_value('billing.credit_entries_id_seq'::regclass), 0) into v_highest_id;
    update billing.credit_count
    set counted_until = v_until,
        id_floor = case when v_until >= v_count.next_floor_at then v_count.next_floor else credit_count.id_floor end,
        next_floor = case when v_until >= v_count.next_floor_at then v_highest_id else credit_count.next_floor end,
        next_floor_at = case when v_until >= v_count.next_floor_at then clock_timestamp() else credit_count.next_floor_at end;
end
$$;

revoke all on function billing._credits_are_final_until, billing.count_credits
from public, anon, authenticated, service_role;
grant execute on function billing.count_credits() to billing_worker;

comment on table billing.credit_totals is 'Credits of all entries by kind, as of credit_count.counted_until; their sum is what all accounts have.';
comment on table billing.credit_count is 'How far credit_totals has counted.';
comment on function billing.count_credits() is 'Adds the newest entries to credit_totals.';
