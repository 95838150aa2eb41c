-- Monthly credits by the clock: every slot that has begun by now, of every subscriber, in sets.
--
-- Invariant: a slot is granted once ever, whoever calls and however many at once; a second call finds nothing. Accounts
-- are locked in their order, those that somebody else has locked are left for the next call, and nothing is granted that
-- was not paid for (_arm_schedules keeps ends_at, next_slot_at and disarmed_reason in line). A call is one transaction:
-- who has many subscribers calls with accounts_max and commits in between, as the worker and `till credits allocate` do.
--
-- Callable by billing_worker, service_role and postgres (pg_cron).

-- Grants the due slots of accounts whose balance rows the caller has locked. Accounts that owe something, and plans whose
-- carried-over credits are capped, go slot by slot: there a grant is more than a new lot.
create function billing._allocate_slots(account_ids uuid[], as_of timestamptz)
returns table (accounts_done bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_now timestamptz := billing.current_time();
    v_alone text[];
    v_alone_slots bigint;
    v_alone_credits numeric;
begin
    with due as (
        select
            schedules.stripe_subscription_id, schedules.account_id,
            bool_or(
                balances.debt > 0 or balances.withheld > 0 or plans.rollover = 'cap'
                or balances.balance > 4611686018427387904
                or plans.monthly_credits::numeric * schedules.quantity > 1000000000000
            ) as is_alone
        from billing.credit_schedules as schedules
        join billing.credit_balances as balances on balances.account_id = schedules.account_id
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        where schedules.account_id = any (_allocate_slots.account_ids)
            and schedules.next_slot_at <= _allocate_slots.as_of and schedules.disarmed_reason is null
        group by schedules.stripe_subscription_id, schedules.account_id
    )
    select array_agg(due.stripe_subscription_id order by due.account_id, due.stripe_subscription_id) into v_alone
    from due where due.is_alone;
    select coalesce(sum(granted.slots), 0), coalesce(sum(granted.credits), 0) into v_alone_slots, v_alone_credits
    from unnest(v_alone) as stripe_subscription_id
    cross join lateral billing._grant_due_slots(stripe_subscription_id, _allocate_slots.as_of) as granted;

    with
    due as materialized (
        select
            schedules.*, plans.monthly_credits * schedules.quantity as amount, plans.rollover, plans.rollover_periods,
            'Monthly subscription credits for ' || coalesce(plans.nickname, products.name) as description,
            schedules.anchor at time zone 'utc' as anchor_utc,
            billing._slot_number(schedules.anchor, schedules.next_slot_at) as k
        from billing.credit_schedules as schedules
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        join billing.products on products.stripe_product_id = plans.stripe_product_id
        where schedules.account_id = any (_allocate_slots.account_ids)
            and schedules.next_slot_at <= _allocate_slots.as_of and schedules.disarmed_reason is null
            and schedules.stripe_subscription_id <> all (coalesce(v_alone, '{}'))
    ),
    slots as materialized (
        select
            due.*, slot.starts, slot.number,
            (due.anchor_utc + make_interval(months => slot.number + 1)) at time zone 'utc' as slot_end,
            'monthly:' || due.stripe_subscription_item_id || ':'
                || to_char(slot.starts at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as key
        from due
        cross join lateral (
            select number, (due.anchor_utc + make_interval(months => number)) at time zone 'utc' as starts
            from generate_series(due.k, billing._slot_number(due.anchor, _allocate_slots.as_of)) as number
        ) as slot
        where slot.starts <= _allocate_slots.as_of and slot.starts < due.ends_at
    ),
    fresh as materialized (
        select
            slots.*,
            sum(slots.amount) over (
                partition by slots.account_id order by slots.starts, slots.stripe_subscription_item_id
            ) as so_far,
            case slots.rollover
                when 'none' then slots.slot_end
                when 'periods' then (
                    slots.anchor_utc + make_interval(months => slots.number + 1 + slots.rollover_periods)
                ) at time zone 'utc'
            end as expires_at
        from slots
        where slots.amount > 0 and not exists (
            select from billing.credit_grants
            where credit_grants.idempotency_key = slots.key and credit_grants.key_space = 'stripe'
        )
    ),
    written as (
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key,
            occurred_at
        )
        select
            fresh.account_id, 'grant', fresh.amount, balances.balance + fresh.so_far, 'stripe.monthly_allocation',
            fresh.stripe_subscription_id, fresh.description, 'stripe', fresh.key, v_now
        from fresh
        join billing.credit_balances as balances on balances.account_id = fresh.account_id
        order by fresh.account_id, fresh.starts, fresh.stripe_subscription_item_id
        returning credit_entries.id, credit_entries.idempotency_key
    ),
    opened as (
        insert into billing.credit_grants (
            account_id, entry_id, amount, remaining, effective_at, expires_at, source, reference_id, key_space,
            idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
        )
        select
            fresh.account_id, written.id, fresh.amount, fresh.amount, fresh.starts, fresh.expires_at,
            'stripe.monthly_allocation', fresh.stripe_subscription_id, 'stripe', fresh.key, fresh.stripe_invoice_id,
            fresh.stripe_subscription_item_id, fresh.stripe_price_id
        from fresh
        join written on written.idempotency_key = fresh.key
    ),
    raised as (
        update billing.credit_balances
        set balance = credit_balances.balance + totals.amount,
            next_due_at = least(credit_balances.next_due_at, totals.expires_at),
            updated_at = now()
        from (
            select fresh.account_id, sum(fresh.amount) as amount, min(fresh.expires_at) as expires_at
            from fresh group by fresh.account_id
        ) as totals
        where credit_balances.account_id = totals.account_id
    ),
    moved as (
        update billing.credit_schedules
        set last_slot_at = done.last_slot_at,
            slots_granted = credit_schedules.slots_granted + done.slots,
            next_slot_at = case when done.slot_end < credit_schedules.ends_at then done.slot_end end,
            updated_at = now()
        from (
            select
                slots.stripe_subscription_item_id, slots.stripe_invoice_id, slots.period_start, slots.is_change,
                max(slots.starts) as last_slot_at, max(slots.slot_end) as slot_end, count(*) as slots
            from slots group by 1, 2, 3, 4
        ) as done
        where credit_schedules.stripe_subscription_item_id = done.stripe_subscription_item_id
            and credit_schedules.stripe_invoice_id = done.stripe_invoice_id
            and credit_schedules.period_start = done.period_start and credit_schedules.is_change = done.is_change
    )
    select count(*) + v_alone_slots, coalesce(sum(fresh.amount), 0) + v_alone_credits
    into slots_granted, credits_granted from fresh;
    accounts_done := cardinality(_allocate_slots.account_ids) - (
        select count(distinct schedules.account_id) from billing.credit_schedules as schedules
        where schedules.account_id = any (_allocate_slots.account_ids)
            and schedules.next_slot_at <= _allocate_slots.as_of and schedules.disarmed_reason is null
    );
    return next;
end
$$;

create function billing.allocate_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (accounts bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_as_of timestamptz := coalesce(allocate_due_credits.as_of, billing.current_time());
    v_chunk constant integer := 10000;
    v_account_ids uuid[];
    v_granted record;
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of % is still to come', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out: what is due by now is granted.';
    end if;
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    loop
        -- An account that somebody else has locked is left to them, or to the next call; nobody waits, so nobody deadlocks.
        select array_agg(distinct due.account_id) into v_account_ids from (
            select credit_balances.account_id from billing.credit_schedules
            join billing.credit_balances on credit_balances.account_id = credit_schedules.account_id
            where credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null
            order by credit_schedules.next_slot_at
            limit greatest(least(v_chunk, allocate_due_credits.accounts_max - allocate_due_credits.accounts), 0)
            for update of credit_balances skip locked
        ) as due;
        exit when v_account_ids is null;
        -- What is due otherwise comes first: lots expire before this month's open.
        perform billing._settle_due(array_agg(credit_balances.account_id), v_as_of) from billing.credit_balances
        where credit_balances.account_id = any (v_account_ids) and credit_balances.next_due_at <= v_as_of
        having count(*) > 0;
        select * into v_granted from billing._allocate_slots(v_account_ids, v_as_of);
        accounts := accounts + v_granted.accounts_done;
        slots_granted := slots_granted + v_granted.slots_granted;
        credits_granted := credits_granted + v_granted.credits_granted;
        exit when v_granted.accounts_done = 0;  -- only such are left as have no room for more
    end loop;
    return next;
end
$$;

revoke all on function billing._allocate_slots, billing.allocate_due_credits
from public, anon, authenticated, service_role;
grant execute on function billing.allocate_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.allocate_due_credits(timestamptz, integer) is 'Grants every monthly slot that has begun by as_of (null: now) of up to accounts_max accounts (null: all), and counts them. Safe to run at any time, twice and side by side.';
