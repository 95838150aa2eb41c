-- Monthly credits by the clock: every slot that has begun by now, of every subscriber, in sets.
--
-- Invariant: a slot is granted once ever, whoever calls and however many at once; a second call finds nothing. Accounts
-- are locked in their order, those that somebody else has locked are left for the next call, and nothing is granted that
-- was not paid for (_arm_schedules keeps ends_at, next_slot_at and disarmed_reason in line). A call is one transaction:
-- who has many subscribers calls with accounts_max and commits in between, as the worker and `till credits allocate` do.
--
-- Callable by billing_worker, service_role and postgres (pg_cron).

-- Grants the due slots of accounts whose balance rows the caller has locked. Where a grant is more than a new lot (the
-- account owes something, what is carried over is capped, a change was paid late, money went back) a subscription goes
-- slot by slot.
create function billing._allocate_slots(account_ids uuid[], as_of timestamptz)
returns table (accounts_done bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_now timestamptz := billing.current_time();
    v_month_number integer := 12 * date_part('year', _allocate_slots.as_of at time zone 'utc')
        + date_part('month', _allocate_slots.as_of at time zone 'utc');
    v_ids regclass := pg_get_serial_sequence('billing.credit_entries', 'id');
    v_alone text[];
    v_alone_slots bigint;
    v_alone_credits numeric;
begin
    with
    due as (
        select
            schedules.stripe_subscription_item_id, schedules.stripe_invoice_id, schedules.period_start,
            schedules.is_change, schedules.ends_at, schedules.account_id, schedules.stripe_subscription_id, schedules.stripe_price_id, balances.balance,
            least(plans.monthly_credits::numeric * schedules.quantity, 1000000000001)::bigint as amount, plans.rollover,
            plans.rollover_periods,
            'Monthly subscription credits for ' || coalesce(plans.nickname, products.name) as description,
            balances.debt > 0 or balances.withheld > 0 or plans.rollover = 'cap' or schedules.has_returns
                or balances.balance > 4611686018427387904
                or plans.monthly_credits::numeric * schedules.quantity > 1000000000000 as is_special,
            schedules.anchor at time zone 'utc' as anchor_utc,
            -- What _slot_number says, without a call for each row.
            generate_series(
                (
                    12 * date_part('year', schedules.next_slot_at at time zone 'utc')
                    + date_part('month', schedules.next_slot_at at time zone 'utc')
                    - 12 * date_part('year', schedules.anchor at time zone 'utc')
                    - date_part('month', schedules.anchor at time zone 'utc')
                )::integer,
                (
                    v_month_number - 12 * date_part('year', schedules.anchor at time zone 'utc')
                    - date_part('month', schedules.anchor at time zone 'utc')
                )::integer
            ) as number
        from billing.credit_schedules as schedules
        join billing.credit_balances as balances on balances.account_id = schedules.account_id
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        join billing.products on products.stripe_product_id = plans.stripe_product_id
        where schedules.account_id = any (_allocate_slots.account_ids)
            and schedules.next_slot_at <= _allocate_slots.as_of and schedules.disarmed_reason is null
    ),
    slots as materialized (
        select
            due.*, slot.starts, slot.ends, slot.key,
            due.is_special or exists (
                select from billing.credit_grants
                where credit_grants.idempotency_key = slot.key and credit_grants.key_space = 'stripe'
            ) as is_alone
        from due
        cross join lateral (
            select
                moments.starts, moments.ends,
                'monthly:' || due.stripe_subscription_item_id || ':'
                    || to_char(moments.starts at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as key
            from (
                select
                    (due.anchor_utc + make_interval(months => due.number)) at time zone 'utc' as starts,
                    (due.anchor_utc + make_interval(months => due.number + 1)) at time zone 'utc' as ends
            ) as moments
        ) as slot
        where slot.starts <= _allocate_slots.as_of and slot.starts < due.ends_at
    ),
    alone as materialized (
        select distinct slots.account_id, slots.stripe_subscription_id from slots where slots.is_alone
    ),
    together as materialized (
        select slots.* from slots
        where slots.stripe_subscription_id not in (select alone.stripe_subscription_id from alone)
    ),
    fresh as materialized (
        select
            nextval(v_ids) as entry_id, ordered.*,
            sum(ordered.amount) over (
                partition by ordered.account_id order by ordered.starts, ordered.stripe_subscription_item_id
                rows unbounded preceding
            ) as so_far
        from (
            select
                together.*,
                case together.rollover
                    when 'none' then together.ends
                    when 'periods' then (
                        together.anchor_utc + make_interval(months => together.number + 1 + together.rollover_periods)
                    ) at time zone 'utc'
                end as expires_at
            from together
            where together.amount > 0
            order by together.account_id, together.starts, together.stripe_subscription_item_id
        ) as ordered
    ),
    written as (
        insert into billing.credit_entries (
            id, account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key,
            occurred_at
        )
        overriding system value
        select
            fresh.entry_id, fresh.account_id, 'grant', fresh.amount, fresh.balance + fresh.so_far,
            'stripe.monthly_allocation', fresh.stripe_subscription_id, fresh.description, 'stripe', fresh.key, v_now
        from fresh
    ),
    opened as (
        insert into billing.credit_grants (
            account_id, entry_id, amount, remaining, effective_at, expires_at, source, reference_id, key_space,
            idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id
        )
        select
            fresh.account_id, fresh.entry_id, fresh.amount, fresh.amount, fresh.starts, fresh.expires_at,
            'stripe.monthly_allocation', fresh.stripe_subscription_id, 'stripe', fresh.key, fresh.stripe_invoice_id,
            fresh.stripe_subscription_item_id, fresh.stripe_price_id
        from fresh
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
            next_slot_at = case when done.ends < credit_schedules.ends_at then done.ends end,
            updated_at = now()
        from (
            select
                together.stripe_subscription_item_id, together.stripe_invoice_id, together.period_start,
                together.is_change, max(together.starts) as last_slot_at, max(together.ends) as ends, count(*) as slots
            from together group by 1, 2, 3, 4
        ) as done
        where credit_schedules.stripe_subscription_item_id = done.stripe_subscription_item_id
            and credit_schedules.stripe_invoice_id = done.stripe_invoice_id
            and credit_schedules.period_start = done.period_start and credit_schedules.is_change = done.is_change
    )
    select
        (select count(*) from fresh), (select coalesce(sum(fresh.amount), 0) from fresh),
        (select array_agg(alone.stripe_subscription_id order by alone.account_id, alone.stripe_subscription_id) from alone)
    into slots_granted, credits_granted, v_alone;

    accounts_done := cardinality(_allocate_slots.account_ids);
    if v_alone is not null then
        select sum(granted.slots), sum(granted.credits) into v_alone_slots, v_alone_credits
        from unnest(v_alone) as stripe_subscription_id
        cross join lateral billing._grant_due_slots(stripe_subscription_id, _allocate_slots.as_of) as granted;
        slots_granted := slots_granted + v_alone_slots;
        credits_granted := credits_granted + v_alone_credits;
        -- Those that have no room for more stay due.
        accounts_done := accounts_done - (
            select count(distinct schedules.account_id) from billing.credit_schedules as schedules
            where schedules.stripe_subscription_id = any (v_alone)
                and schedules.next_slot_at <= _allocate_slots.as_of and schedules.disarmed_reason is null
        );
    end if;
    return next;
end
$$;

create function billing.allocate_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (accounts bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
security definer
set search_path = ''
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
