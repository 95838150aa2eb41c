-- Monthly credits by the clock: every month that has begun by now, of every subscriber, in sets.
--
-- Invariant: a month is granted once ever, whoever calls and however many at once; a second call finds nothing. Accounts
-- are locked in their order, those that somebody else has locked are left for the next call. A call is one transaction:
-- who has many subscribers calls with accounts_max and commits in between, as the worker and `till credits allocate` do.
--
-- Callable by billing_worker, service_role and postgres (pg_cron).

create function billing.allocate_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (accounts bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- A plan for this very array reads whole tables, however large they are; the generic one goes by the indexes.
set plan_cache_mode = force_generic_plan
as $$
declare
    v_as_of timestamptz := coalesce(allocate_due_credits.as_of, billing.current_time());
    v_chunk constant integer := 10000;
    v_spare constant integer := 1000;
    v_limit integer;
    v_account_ids uuid[];
    v_unsettled_ids uuid[];
    v_subscription_ids text[];
    v_from timestamptz;
    v_granted record;
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of must not be in the future: %', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out: what is due by now is granted.';
    end if;
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    loop
        v_limit := greatest(least(v_chunk, allocate_due_credits.accounts_max - allocate_due_credits.accounts), 0);
        -- First whom to grant to, then their locks: in one statement that would be a join, which reads all balances. Some
        -- more than are wanted, because accounts that somebody else has locked are left to them, or to the next call.
        select array_agg(distinct due.account_id) into v_account_ids from (
            select credit_schedules.account_id from billing.credit_schedules
            where credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null
            order by credit_schedules.next_slot_at
            limit v_limit + v_spare
        ) as due;
        select array_agg(locked.account_id), array_agg(locked.account_id) filter (where locked.next_due_at <= v_as_of)
        into v_account_ids, v_unsettled_ids
        from (
            select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
            where credit_balances.account_id = any (v_account_ids)
            order by credit_balances.account_id
            limit v_limit
            for update skip locked
        ) as locked;
        exit when v_account_ids is null;
        -- What is due otherwise comes first: lots expire before this month's open.
        if v_unsettled_ids is not null then
            perform billing._settle_due(v_unsettled_ids, v_as_of);
        end if;
        select array_agg(distinct credit_schedules.stripe_subscription_id), min(credit_schedules.next_slot_at)
        into v_subscription_ids, v_from
        from billing.credit_schedules
        where credit_schedules.account_id = any (v_account_ids)
            and credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null;
        exit when v_subscription_ids is null;
        select * into v_granted from billing._allocate_slots(v_subscription_ids, v_from, v_as_of);
        accounts := accounts + cardinality(v_account_ids) - coalesce(cardinality(v_granted.full_account_ids), 0);
        slots_granted := slots_granted + v_granted.slots_granted;
        credits_granted := credits_granted + v_granted.credits_granted;
        -- Only such are left as have no room for more.
        exit when cardinality(v_granted.full_account_ids) = cardinality(v_account_ids);
    end loop;
    return next;
end
$$;

revoke all on function billing.allocate_due_credits from public, anon, authenticated, service_role;
grant execute on function billing.allocate_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.allocate_due_credits(timestamptz, integer) is 'Grants every month of credits that has begun by as_of (null: now) of up to accounts_max accounts (null: all), and counts them. Safe to run at any time, twice and side by side.';
