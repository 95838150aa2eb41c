-- Monthly slots: when they start, which stretch of paid time they belong to, and what stops them.
--
-- Invariant: slot k starts at anchor + k months, counted from the anchor in UTC and never from the slot before, so month
-- ends don't drift. Every rule reads facts that hold in any order of events: what was paid, when the subscription ends,
-- what its state is now. A pause, an unpaid invoice or a removed item delays slots; on recovery they come at once, as far
-- as they were paid for. What began before the end of a subscription is still owed, whichever of clock and event is first.
--
-- Private: called by sync_subscription, sync_invoice and allocate_due_credits.

create function billing._slot(anchor timestamptz, k integer)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select (_slot.anchor at time zone 'utc' + make_interval(months => _slot.k)) at time zone 'utc'
$$;

-- Whole months between the calendar months of two moments: the slot that starts in the month of `moment` has this number.
create function billing._slot_number(anchor timestamptz, moment timestamptz)
returns integer
language sql
immutable
set search_path = ''
as $$
    select (12 * (extract(year from months.of_moment) - extract(year from months.of_anchor))
        + extract(month from months.of_moment) - extract(month from months.of_anchor))::integer
    from (
        select _slot_number.anchor at time zone 'utc' as of_anchor, _slot_number.moment at time zone 'utc' as of_moment
    ) as months
$$;

-- The first slot that starts at a moment or after it.
create function billing._first_slot(anchor timestamptz, from_moment timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select case
        when slot.start >= _first_slot.from_moment then slot.start
        else billing._slot(_first_slot.anchor, slot.k + 1)
    end
    from (
        select number.k, billing._slot(_first_slot.anchor, number.k) as start
        from (select billing._slot_number(_first_slot.anchor, _first_slot.from_moment) as k) as number
    ) as slot
$$;

-- The first slot that starts after a moment: where the slot ends that a moment lies in.
create function billing._slot_end(anchor timestamptz, moment timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select billing._first_slot(_slot_end.anchor, _slot_end.moment + interval '1 microsecond')
$$;

-- How many slots, parts by their time, lie between two moments; a slot ends at slot_end, others whole months before.
create function billing._share_of_slots(slot_end timestamptz, from_moment timestamptz, to_moment timestamptz)
returns numeric
language sql
immutable
set search_path = ''
as $$
    select coalesce(sum(
        extract(epoch from least(slots.ends, _share_of_slots.to_moment) - greatest(slots.starts, _share_of_slots.from_moment))
        / extract(epoch from slots.ends - slots.starts)
    ), 0)
    from (
        select
            billing._slot(_share_of_slots.slot_end, -number - 1) as starts,
            billing._slot(_share_of_slots.slot_end, -number) as ends
        from generate_series(0, billing._slot_number(_share_of_slots.from_moment, _share_of_slots.slot_end)) as number
    ) as slots
    where slots.ends > _share_of_slots.from_moment and slots.starts < _share_of_slots.to_moment
$$;

-- Brings what is derived of a subscription's schedules in line with its state: where each ends, when its next slot
-- starts, why it waits.
create function billing._arm_schedules(subscription billing.subscriptions)
returns void
language sql
volatile
set search_path = ''
as $$
    with facts as (
        select
            schedules.stripe_subscription_item_id, schedules.stripe_invoice_id, schedules.period_start, schedules.is_change,
            -- The anchor of today, unless it was reset since: then the old one, which the period itself shows.
            case
                when plans.recurring_interval in ('day', 'week')
                    or billing._first_slot((_arm_schedules.subscription).billing_cycle_anchor, schedules.period_end)
                        = schedules.period_end
                    then (_arm_schedules.subscription).billing_cycle_anchor
                else schedules.anchor
            end as anchor,
            greatest(schedules.period_start, least(
                schedules.period_end,
                lead(schedules.period_start) over (
                    partition by schedules.stripe_subscription_item_id
                    order by schedules.period_start, schedules.is_change, invoices.invoiced_at, schedules.stripe_invoice_id
                ),
                (_arm_schedules.subscription).ended_at,
                case when plans.cancel_credits = 'stop' then (_arm_schedules.subscription).canceled_at end
            )) as ends_at,
            case
                when accounts.closed_at is not null then 'account_closed'
                when (_arm_schedules.subscription).status in ('paused', 'unpaid') then (_arm_schedules.subscription).status
                when (_arm_schedules.subscription).status in ('incomplete', 'incomplete_expired') then 'incomplete'
                when (_arm_schedules.subscription).is_collection_paused then 'collection_paused'
                when customers.deleted_at is not null then 'customer_deleted'
                when items.stripe_subscription_item_id is null then 'item_removed'
                when invoices.amount_contested > 0 then 'disputed'
                when invoices.amount_returned > 0 and invoices.amount_returned >= invoices.amount_paid then 'refunded'
            end as disarmed_reason,
            invoices.amount_returned > 0 as has_returns
        from billing.credit_schedules as schedules
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        join billing.invoices on invoices.stripe_invoice_id = schedules.stripe_invoice_id
        join billing.accounts on accounts.id = schedules.account_id
        join billing.customers on customers.stripe_customer_id = (_arm_schedules.subscription).stripe_customer_id
        left join billing.subscription_items as items
            on items.stripe_subscription_item_id = schedules.stripe_subscription_item_id
        where schedules.stripe_subscription_id = (_arm_schedules.subscription).stripe_subscription_id
    ),
    armed as (
        select
            facts.stripe_subscription_item_id, facts.stripe_invoice_id, facts.period_start, facts.is_change, facts.anchor,
            facts.ends_at, facts.disarmed_reason, facts.has_returns,
            billing._first_slot(
                facts.anchor, coalesce(schedules.last_slot_at + interval '1 microsecond', facts.period_start)
            ) as next_slot_at
        from facts
        join billing.credit_schedules as schedules using (
            stripe_subscription_item_id, stripe_invoice_id, period_start, is_change
        )
    )
    update billing.credit_schedules as schedules
    set anchor = armed.anchor,
        ends_at = armed.ends_at,
        disarmed_reason = armed.disarmed_reason,
        has_returns = armed.has_returns,
        next_slot_at = case when armed.next_slot_at < armed.ends_at then armed.next_slot_at end,
        updated_at = now()
    from armed
    where schedules.stripe_subscription_item_id = armed.stripe_subscription_item_id
        and schedules.stripe_invoice_id = armed.stripe_invoice_id
        and schedules.period_start = armed.period_start and schedules.is_change = armed.is_change
        and (
            schedules.anchor, schedules.ends_at, schedules.disarmed_reason, schedules.has_returns, schedules.next_slot_at
        ) is distinct from (
            armed.anchor, armed.ends_at, armed.disarmed_reason, armed.has_returns,
            case when armed.next_slot_at < armed.ends_at then armed.next_slot_at end
        )
$$;

-- Grants one slot; how many credits it gave. Its start is part of its key, so invoice and clock can both try. Where a
-- change that was paid late finds the slot granted at the old price, the difference is granted beside it.
create function billing._grant_slot(
    schedule billing.credit_schedules, plan billing.plans, slot_start timestamptz, slot_end timestamptz, amount bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_schedule billing.credit_schedules := _grant_slot.schedule;
    v_plan billing.plans := _grant_slot.plan;
    v_key text := format(
        'monthly:%s:%s', v_schedule.stripe_subscription_item_id,
        to_char(_grant_slot.slot_start at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    );
    v_granted bigint;
    v_amount bigint;
    v_cut bigint := 0;
    v_invoice_id text;
    v_entry billing.credit_entries;
    v_later timestamptz;
begin
    select credit_grants.stripe_invoice_id into v_invoice_id from billing.credit_grants
    where credit_grants.idempotency_key = v_key and credit_grants.key_space = 'stripe';
    if found then
        v_granted := (
            select sum(credit_grants.amount + credit_grants.cut) from billing.credit_grants
            where credit_grants.account_id = v_schedule.account_id
                and (credit_grants.idempotency_key = v_key or credit_grants.idempotency_key ^@ (v_key || ':'))
        );
    end if;
    if v_invoice_id = v_schedule.stripe_invoice_id or _grant_slot.amount <= coalesce(v_granted, 0) then
        return 0;
    elsif v_plan.rollover = 'cap' then
        perform billing._expire_beyond_cap(
            v_schedule.account_id, v_schedule.stripe_subscription_item_id, v_plan.rollover_cap, _grant_slot.slot_start
        );
    end if;
    v_amount := _grant_slot.amount - coalesce(v_granted, 0);
    if v_schedule.has_returns then
        select billing._gone(v_amount, invoices.amount_returned, invoices.amount_paid) into v_cut from billing.invoices
        where invoices.stripe_invoice_id = v_schedule.stripe_invoice_id;
    end if;
    v_entry := billing._grant_credits(
        account_id => v_schedule.account_id,
        amount => v_amount - v_cut,
        key_space => 'stripe',
        idempotency_key => case
            when v_granted is null then v_key else v_key || ':' || v_schedule.stripe_invoice_id
        end,
        source => 'stripe.monthly_allocation',
        reference_id => v_schedule.stripe_subscription_id,
        description => 'Monthly subscription credits for ' || billing._plan_name(v_plan),
        effective_at => least(_grant_slot.slot_start, billing.current_time()),
        expires_at => billing._slot_expiry(v_plan, v_schedule.anchor, _grant_slot.slot_end),
        stripe_invoice_id => v_schedule.stripe_invoice_id,
        stripe_subscription_item_id => v_schedule.stripe_subscription_item_id,
        stripe_price_id => v_schedule.stripe_price_id
    );
    if v_cut > 0 then
        update billing.credit_grants set cut = v_cut where credit_grants.entry_id = v_entry.id;
    end if;
    if v_plan.rollover = 'cap' then
        -- Slots that began later may be here already: what they could carry over includes this one.
        for v_later in
            select credit_grants.effective_at from billing.credit_grants
            where credit_grants.account_id = v_schedule.account_id
                and credit_grants.stripe_subscription_item_id = v_schedule.stripe_subscription_item_id
                and credit_grants.source = 'stripe.monthly_allocation'
                and credit_grants.effective_at > _grant_slot.slot_start
            order by credit_grants.effective_at
        loop
            perform billing._expire_beyond_cap(
                v_schedule.account_id, v_schedule.stripe_subscription_item_id, v_plan.rollover_cap, v_later
            );
        end loop;
    end if;
    return v_amount - v_cut;
end
$$;

-- When credits of a slot that ends at slot_end expire by the plan's rule; null: never.
create function billing._slot_expiry(plan billing.plans, anchor timestamptz, slot_end timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select case (_slot_expiry.plan).rollover
        when 'none' then _slot_expiry.slot_end
        when 'periods' then billing._slot(
            _slot_expiry.anchor,
            billing._slot_number(_slot_expiry.anchor, _slot_expiry.slot_end) + (_slot_expiry.plan).rollover_periods
        )
    end
$$;

-- Grants a subscription's slots that have begun by now, the oldest first. What would pass the largest balance waits until
-- there is room.
create function billing._grant_due_slots(stripe_subscription_id text, as_of timestamptz)
returns table (slots bigint, credits numeric)
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_schedule billing.credit_schedules;
    v_plan billing.plans;
    v_slot_end timestamptz;
    v_granted bigint;
begin
    slots := 0;
    credits := 0;
    loop
        select * into v_schedule from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = _grant_due_slots.stripe_subscription_id
            and credit_schedules.next_slot_at <= _grant_due_slots.as_of and credit_schedules.disarmed_reason is null
        order by credit_schedules.next_slot_at, credit_schedules.stripe_subscription_item_id
        limit 1;
        exit when not found;
        select * into strict v_plan from billing.plans where plans.stripe_price_id = v_schedule.stripe_price_id;
        exit when v_plan.monthly_credits::numeric * v_schedule.quantity > 9223372036854775807 - (
            select credit_balances.balance::numeric from billing.credit_balances
            where credit_balances.account_id = v_schedule.account_id
        );
        v_slot_end := billing._slot_end(v_schedule.anchor, v_schedule.next_slot_at);
        v_granted := billing._grant_slot(
            v_schedule, v_plan, v_schedule.next_slot_at, v_slot_end, v_plan.monthly_credits * v_schedule.quantity
        );
        slots := slots + (v_granted > 0)::integer;
        credits := credits + v_granted;
        update billing.credit_schedules
        set last_slot_at = v_schedule.next_slot_at,
            slots_granted = v_schedule.slots_granted + 1,
            next_slot_at = case when v_slot_end < v_schedule.ends_at then v_slot_end end,
            updated_at = now()
        where credit_schedules.stripe_subscription_item_id = v_schedule.stripe_subscription_item_id
            and credit_schedules.stripe_invoice_id = v_schedule.stripe_invoice_id
            and credit_schedules.period_start = v_schedule.period_start
            and credit_schedules.is_change = v_schedule.is_change;
    end loop;
    return next;
end
$$;

-- What a new state of a subscription, a paid invoice or a link to an account means for its credits.
create function billing._settle_subscription(stripe_subscription_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_subscription billing.subscriptions;
begin
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = _settle_subscription.stripe_subscription_id;
    if v_subscription.account_id is null then
        return;  -- not known yet, or linked to nobody: whatever brings that calls again
    end if;
    perform billing._lock_balance(v_subscription.account_id);
    if exists (
        select from billing.accounts where accounts.id = v_subscription.account_id and accounts.closed_at is not null
    ) then
        -- Nothing can be granted to it, and what Stripe tells of its subscriptions must be kept all the same.
        perform billing._arm_schedules(v_subscription);
        return;
    end if;
    perform billing._grant_trial(v_subscription);
    perform billing._grant_waiting_periods(v_subscription.stripe_subscription_id);
    perform billing._arm_schedules(v_subscription);
    perform billing._grant_due_slots(v_subscription.stripe_subscription_id, billing.current_time());
    perform billing._settle_prorations(v_subscription.stripe_subscription_id);
    perform billing._settle_returned_invoices(v_subscription.stripe_subscription_id);
end
$$;

revoke all on function
    billing._slot, billing._slot_number, billing._first_slot, billing._slot_end, billing._share_of_slots,
    billing._arm_schedules, billing._grant_slot, billing._slot_expiry, billing._grant_due_slots, billing._settle_subscription
from public, anon, authenticated, service_role;
