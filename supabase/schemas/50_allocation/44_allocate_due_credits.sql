-- Credits by the clock: every month that has started, for every subscriber, and free credits that are due, in sets.
--
-- Invariant: a month is granted once, however many callers run at the same time; a second call finds nothing. Accounts
-- are locked in order, and those that another transaction has locked are left for the next call. A call is one
-- transaction: with many subscribers, pass accounts_max and commit after each call, as the worker and `till credits
-- allocate` do.
--
-- Callable by billing_worker, service_role and postgres (pg_cron).

create function billing.allocate_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (accounts bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- A plan for one specific array scans whole tables, however large; the generic plan uses the indexes.
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
            using errcode = 'TB022', hint = 'Leave as_of out to grant what is due now.';
    end if;
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    loop
        v_limit := greatest(least(v_chunk, allocate_due_credits.accounts_max - allocate_due_credits.accounts), 0);
        -- First the accounts, then their locks: one statement would be a join that reads all balances. Selects some
        -- more than needed, because accounts that another transaction has locked are skipped.
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
        -- Other due changes first: lots expire before this month's lots open.
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
        -- Only accounts without room for more are left.
        exit when cardinality(v_granted.full_account_ids) = cardinality(v_account_ids);
    end loop;
    v_granted := billing._allocate_free_credits(
        v_as_of, (allocate_due_credits.accounts_max - allocate_due_credits.accounts)::integer
    );
    accounts := accounts + v_granted.accounts;
    slots_granted := slots_granted + v_granted.slots_granted;
    credits_granted := credits_granted + v_granted.credits_granted;
    return next;
end
$$;

revoke all on function billing.allocate_due_credits from public, anon, authenticated, service_role;
grant execute on function billing.allocate_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.allocate_due_credits(timestamptz, integer) is 'Grants every month of credits that has started by as_of (null: now), and the free credits of the running period, for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';
