-- What a paid period of a subscription item is worth → trial, initial and monthly credits.
--
-- Invariant: once for each item and slot (monthly:…), once for each account and product (initial:…, trial:…), however
-- many events tell of the payment, and in whatever order. A line that names a price which is no plan here (TB010), or a
-- customer that is linked to no account (TB011), stops the whole event: nothing is half-granted, and DETAIL names what is
-- missing. Where only the subscription can tell what a line is (a line of no amount may be a trial; slots of a year start
-- by the subscription's anchor), the line waits for it and goes on by itself.
--
-- Private: called by _grant_paid_lines and _settle_subscription.

create function billing._plan_name(plan billing.plans)
returns text
language sql
stable
set search_path = ''
as $$
    select coalesce((_plan_name.plan).nickname, products.name) from billing.products
    where products.stripe_product_id = (_plan_name.plan).stripe_product_id
$$;

-- The plan that a line pays for. TB010 while it, or the product that may declare its credits, is not here.
create function billing._plan_of_line(stripe_id text, stripe_price_id text)
returns billing.plans
language plpgsql
stable
set search_path = ''
as $$
declare
    v_plan billing.plans;
begin
    if _plan_of_line.stripe_price_id is null then
        raise exception 'a line of % names no price', _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_id, hint = 'Grant by hand what was paid for.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _plan_of_line.stripe_price_id;
    if not found then
        raise exception 'price % of % is no plan here', _plan_of_line.stripe_price_id, _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_price_id,
            hint = 'Update the price in Stripe (its event brings it here) or add it to billing.plans, then retry the event.';
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 and exists (
        -- The product may declare what the price doesn't, and it is not here yet: sync_price made a placeholder.
        select from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id
    ) then
        raise exception 'product % of price % is not here yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe: its event brings it here, and this event then goes on by itself.';
    end if;
    return v_plan;
end
$$;

-- TB011 while nobody has linked the customer to an account.
create function billing._check_linked(invoice billing.invoices)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
    if (_check_linked.invoice).account_id is null then
        raise exception 'customer % of invoice % is linked to no account',
            (_check_linked.invoice).stripe_customer_id, (_check_linked.invoice).stripe_invoice_id
            using errcode = 'TB011', detail = (_check_linked.invoice).stripe_customer_id,
            hint = 'Link it with billing.link_customer(account_id, stripe_customer_id); the event then goes on by itself.';
    end if;
end
$$;

-- Trial credits of a plan, once for each account and product.
create function billing._grant_trial_of_plan(
    subscription billing.subscriptions, plan billing.plans, stripe_subscription_item_id text
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    if (_grant_trial_of_plan.plan).trial_credits > 0 then
        perform billing._grant_once(
            account_id => (_grant_trial_of_plan.subscription).account_id,
            kind => 'trial',
            idempotency_key => billing._once_key(
                'trial', (_grant_trial_of_plan.subscription).account_id, (_grant_trial_of_plan.plan).stripe_product_id
            ),
            amount => (_grant_trial_of_plan.plan).trial_credits,
            source => 'stripe.trial',
            reference_id => (_grant_trial_of_plan.subscription).stripe_subscription_id,
            description => 'Trial credits for ' || billing._plan_name(_grant_trial_of_plan.plan),
            stripe_invoice_id => null,
            stripe_subscription_item_id => _grant_trial_of_plan.stripe_subscription_item_id,
            stripe_price_id => (_grant_trial_of_plan.plan).stripe_price_id
        );
    end if;
end
$$;

-- A trial need not have an invoice, so its credits also come with the subscription's state.
create function billing._grant_trial(subscription billing.subscriptions)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_item billing.subscription_items;
begin
    if (_grant_trial.subscription).status = 'trialing' then
        for v_item in
            select * from billing.subscription_items
            where subscription_items.stripe_subscription_id = (_grant_trial.subscription).stripe_subscription_id
            order by subscription_items.stripe_subscription_item_id
        loop
            perform billing._grant_trial_of_plan(
                _grant_trial.subscription,
                billing._plan_of_line((_grant_trial.subscription).stripe_subscription_id, v_item.stripe_price_id),
                v_item.stripe_subscription_item_id
            );
        end loop;
    end if;
end
$$;

-- Initial credits, once for each account and product: those of the earliest period that was paid. Where a later period
-- was told of first, its lot goes over to the earlier one, with what that one gives more or less.
create function billing._grant_initial(
    invoice billing.invoices, plan billing.plans, stripe_subscription_item_id text, period_start timestamptz
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _grant_initial.invoice;
    v_plan billing.plans := _grant_initial.plan;
    v_key text := billing._once_key('initial', v_invoice.account_id, v_plan.stripe_product_id);
    v_lot billing.credit_grants;
begin
    select * into v_lot from billing.credit_grants
    where credit_grants.idempotency_key = v_key and credit_grants.key_space = 'stripe';
    if not found or billing._is_held(v_key) then
        if v_plan.initial_credits > 0 then
            perform billing._grant_once(
                account_id => v_invoice.account_id,
                kind => 'initial',
                idempotency_key => v_key,
                amount => v_plan.initial_credits,
                source => 'stripe.subscription',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    elsif v_lot.stripe_invoice_id = v_invoice.stripe_invoice_id or _grant_initial.period_start >= (
        select min(invoice_lines.period_start) from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_lot.stripe_invoice_id and not invoice_lines.is_proration
            and invoice_lines.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
    ) then
        return;
    end if;

    update billing.credit_grants
    set stripe_invoice_id = v_invoice.stripe_invoice_id,
        stripe_subscription_item_id = _grant_initial.stripe_subscription_item_id,
        stripe_price_id = v_plan.stripe_price_id,
        reference_id = v_invoice.stripe_subscription_id
    where credit_grants.id = v_lot.id;
    if v_plan.initial_credits > v_lot.amount then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_plan.initial_credits - v_lot.amount,
            key_space => 'stripe',
            idempotency_key => v_key || ':' || v_invoice.stripe_invoice_id,
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    elsif v_plan.initial_credits < v_lot.amount then
        perform billing._correct_grant(
            v_lot, v_lot.amount - v_plan.initial_credits, v_key || ':' || v_invoice.stripe_invoice_id,
            'An earlier paid period gives fewer initial credits'
        );
    end if;
end
$$;

-- Seats of a line: the quantity of a metered line is usage, not seats.
create function billing._seats(plan billing.plans, quantity bigint)
returns bigint
language sql
immutable
set search_path = ''
as $$
    select case when (_seats.plan).usage_type = 'metered' then 1 else coalesce(_seats.quantity, 1) end
$$;

-- Opens the paid period of a subscription item and grants what it gives at once; the clock grants the slots that begin
-- later. What the slot cut short by it has given for these days (`deduct`) is given less. How much of that was used.
create function billing._open_period(
    invoice billing.invoices, stripe_subscription_item_id text, stripe_price_id text, quantity bigint, amount bigint,
    period_start timestamptz, period_end timestamptz, deduct bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _open_period.invoice;
    v_plan billing.plans := billing._plan_of_line(v_invoice.stripe_invoice_id, _open_period.stripe_price_id);
    v_subscription billing.subscriptions;
    v_schedule billing.credit_schedules;
    v_slot_end timestamptz;
    v_opening bigint;
begin
    if v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0
        or v_plan.usage_type = 'licensed' and _open_period.quantity = 0 then
        return 0;
    end if;
    perform billing._check_linked(v_invoice);
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = v_invoice.stripe_subscription_id;
    if not found and (
        _open_period.amount = 0 or v_plan.rollover = 'periods'
        or (v_plan.recurring_interval, v_plan.recurring_interval_count) <> ('month', 1)
    ) then
        update billing.invoice_lines set is_waiting = true
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id = _open_period.stripe_subscription_item_id
            and invoice_lines.period_start = _open_period.period_start and not invoice_lines.is_proration;
        return 0;  -- _grant_waiting_periods comes back to it
    elsif _open_period.amount = 0 and _open_period.period_start >= v_subscription.trial_start
        and _open_period.period_start < v_subscription.trial_end then
        perform billing._grant_trial_of_plan(v_subscription, v_plan, _open_period.stripe_subscription_item_id);
        return 0;
    end if;
    perform billing._grant_initial(
        v_invoice, v_plan, _open_period.stripe_subscription_item_id, _open_period.period_start
    );
    if v_plan.monthly_credits = 0 then
        return 0;
    end if;

    select * into v_schedule from billing.credit_schedules
    where credit_schedules.stripe_subscription_item_id = _open_period.stripe_subscription_item_id
        and credit_schedules.stripe_invoice_id = v_invoice.stripe_invoice_id
        and credit_schedules.period_start = _open_period.period_start and not credit_schedules.is_change;
    if found then
        return v_schedule.deducted;
    end if;
    v_schedule.anchor := billing._anchor_of_period(
        v_plan, v_subscription, _open_period.period_start, _open_period.period_end
    );
    v_slot_end := least(billing._slot_end(v_schedule.anchor, _open_period.period_start), _open_period.period_end);
    v_schedule.quantity := billing._seats(v_plan, _open_period.quantity);
    v_opening := case
        -- A week or a day opens no slot by itself: one may start in it.
        when v_plan.recurring_interval in ('day', 'week') then 0
        else billing._opening_credits(
            v_plan, v_schedule.quantity, _open_period.period_start, _open_period.period_end, v_slot_end
        )
    end;
    v_schedule.deducted := case
        when v_plan.proration_credits = 'delta' then least(v_opening, _open_period.deduct) else 0
    end;
    insert into billing.credit_schedules (
        stripe_subscription_item_id, stripe_invoice_id, period_start, period_end, is_change, account_id,
        stripe_subscription_id, stripe_price_id, quantity, deducted, anchor, ends_at, slots_granted, last_slot_at
    )
    values (
        _open_period.stripe_subscription_item_id, v_invoice.stripe_invoice_id, _open_period.period_start,
        _open_period.period_end, false, v_invoice.account_id, v_invoice.stripe_subscription_id, v_plan.stripe_price_id,
        v_schedule.quantity, v_schedule.deducted, v_schedule.anchor, _open_period.period_end,
        case when v_plan.recurring_interval in ('day', 'week') then 0 else 1 end,
        case when v_plan.recurring_interval not in ('day', 'week') then _open_period.period_start end
    )
    returning * into v_schedule;
    perform billing._grant_slot(
        v_schedule, v_plan, v_schedule.period_start, v_slot_end, v_opening - v_schedule.deducted
    );
    return v_schedule.deducted;
end
$$;

-- Months of a plan's period.
create function billing._months(plan billing.plans)
returns integer
language sql
immutable
set search_path = ''
as $$
    select (_months.plan).recurring_interval_count * case (_months.plan).recurring_interval
        when 'year' then 12 when 'month' then 1
    end
$$;

-- Where the slots of a period start from: the subscription's anchor if the period is on its grid (weeks and days are
-- not, and are counted by it all the same). A shorter first period, up to an anchor that was set, ends on the grid.
create function billing._anchor_of_period(
    plan billing.plans, subscription billing.subscriptions, period_start timestamptz, period_end timestamptz
)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select case
        when (_anchor_of_period.plan).recurring_interval in ('day', 'week')
            or billing._first_slot((_anchor_of_period.subscription).billing_cycle_anchor, _anchor_of_period.period_end)
                = _anchor_of_period.period_end
            then (_anchor_of_period.subscription).billing_cycle_anchor
        when billing._slot(_anchor_of_period.period_start, billing._months(_anchor_of_period.plan))
            = _anchor_of_period.period_end
            then _anchor_of_period.period_start
        else _anchor_of_period.period_end
    end
$$;

-- What the slot gives that a period opens: all of it, or, where a shorter first period leads up to an anchor that was
-- set, by the plan's policy for changes. Month ends: 31 January to 28 February is whole, and so is the month after.
create function billing._opening_credits(
    plan billing.plans, quantity bigint, period_start timestamptz, period_end timestamptz, slot_end timestamptz
)
returns bigint
language sql
immutable
set search_path = ''
as $$
    select case
        when billing._slot(_opening_credits.period_start, billing._months(_opening_credits.plan))
            = _opening_credits.period_end
            or billing._slot(_opening_credits.period_end, -billing._months(_opening_credits.plan))
            = _opening_credits.period_start
            or (_opening_credits.plan).proration_credits = 'full'
            then (_opening_credits.plan).monthly_credits * _opening_credits.quantity
        when (_opening_credits.plan).proration_credits = 'none' then 0
        else floor(
            (_opening_credits.plan).monthly_credits * _opening_credits.quantity * billing._share_of_slots(
                _opening_credits.slot_end, _opening_credits.period_start, _opening_credits.slot_end
            )
        )::bigint
    end
$$;

-- Opens the periods that waited for the subscription.
create function billing._grant_waiting_periods(stripe_subscription_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices;
begin
    for v_invoice in
        select * from billing.invoices
        where invoices.stripe_subscription_id = _grant_waiting_periods.stripe_subscription_id
            and exists (
                select from billing.invoice_lines
                where invoice_lines.stripe_invoice_id = invoices.stripe_invoice_id and invoice_lines.is_waiting
            )
        order by invoices.invoiced_at, invoices.stripe_invoice_id
    loop
        update billing.invoice_lines set is_waiting = false
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id and invoice_lines.is_waiting;
        perform billing._grant_paid_lines(v_invoice);
    end loop;
end
$$;

revoke all on function
    billing._plan_name, billing._plan_of_line, billing._check_linked, billing._grant_trial_of_plan, billing._grant_trial,
    billing._grant_initial, billing._seats, billing._open_period, billing._anchor_of_period, billing._months,
    billing._opening_credits,
    billing._grant_waiting_periods
from public, anon, authenticated, service_role;
