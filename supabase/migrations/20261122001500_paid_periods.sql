-- What a paid period of a subscription item is worth → initial, monthly and trial credits.
--
-- Invariant: once for each item and slot (monthly:…), once for each account and product (initial:…, trial:…), however
-- many events tell of the payment. A line that names a price which is no plan here (TB010), or a customer that is linked
-- to no account (TB011), stops the whole event: nothing is half-granted, and DETAIL names what is missing.
--
-- Private: called by _apply_paid_lines.

create function billing._plan_name(plan billing.plans)
returns text
language sql
stable
set search_path = ''
as $$
    select coalesce((_plan_name.plan).nickname, products.name) from billing.products
    where products.stripe_product_id = (_plan_name.plan).stripe_product_id
$$;

-- Grants one slot of monthly credits of a paid period. The slot's start is part of its key, so the invoice and the
-- clock can both try.
create function billing._grant_slot(
    schedule billing.credit_schedules, plan billing.plans, slot_start timestamptz, slot_end timestamptz,
    already_granted bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    if (_grant_slot.plan).monthly_credits * (_grant_slot.schedule).quantity <= _grant_slot.already_granted then
        return;
    elsif (_grant_slot.plan).rollover = 'cap' then
        perform billing._expire_beyond_cap(
            (_grant_slot.schedule).account_id, (_grant_slot.schedule).stripe_subscription_item_id,
            (_grant_slot.plan).rollover_cap
        );
    end if;
    perform billing._grant_credits(
        account_id => (_grant_slot.schedule).account_id,
        amount => (_grant_slot.plan).monthly_credits * (_grant_slot.schedule).quantity - _grant_slot.already_granted,
        key_space => 'stripe',
        idempotency_key => pg_catalog.format(
            'monthly:%s:%s', (_grant_slot.schedule).stripe_subscription_item_id,
            to_char(_grant_slot.slot_start at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ),
        source => 'stripe.monthly_allocation',
        reference_id => (_grant_slot.schedule).stripe_subscription_id,
        description => 'Monthly subscription credits for ' || billing._plan_name(_grant_slot.plan),
        effective_at => least(_grant_slot.slot_start, billing.current_time()),
        expires_at => case (_grant_slot.plan).rollover
            when 'none' then _grant_slot.slot_end
            when 'periods' then _grant_slot.slot_end + make_interval(months => (_grant_slot.plan).rollover_periods)
        end,
        stripe_invoice_id => (_grant_slot.schedule).stripe_invoice_id,
        stripe_subscription_item_id => (_grant_slot.schedule).stripe_subscription_item_id,
        stripe_price_id => (_grant_slot.schedule).stripe_price_id
    );
end
$$;

-- A trial's line costs nothing; a discount leaves a line's amount as it was. The subscription tells a trial from a plan
-- that is free, when we know it; else the plan's own price does.
create function billing._is_trial(
    invoice billing.invoices, plan billing.plans, amount bigint, period_start timestamptz
)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
    v_subscription billing.subscriptions;
begin
    if _is_trial.amount <> 0 then
        return false;
    end if;
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = (_is_trial.invoice).stripe_subscription_id;
    if found then
        return coalesce(
            _is_trial.period_start >= v_subscription.trial_start and _is_trial.period_start < v_subscription.trial_end,
            false
        );
    end if;
    return (_is_trial.plan).usage_type = 'licensed' and (_is_trial.plan).unit_amount is distinct from 0;
end
$$;

-- What the month has given already in which a period begins that need not be a month of its own: a change of plan that
-- starts anew (from a free plan, from monthly to yearly), so that changing to and fro makes no credits, and a week or day.
create function billing._given_in_this_month(
    invoice billing.invoices, plan billing.plans, schedule billing.credit_schedules
)
returns bigint
language sql
stable
set search_path = ''
as $$
    select coalesce(sum(credit_grants.amount), 0)::bigint from billing.credit_grants
    where (
            (_given_in_this_month.invoice).billing_reason = 'subscription_update'
            or (_given_in_this_month.plan).recurring_interval in ('day', 'week')
        )
        and credit_grants.account_id = (_given_in_this_month.schedule).account_id
        and credit_grants.stripe_subscription_item_id = (_given_in_this_month.schedule).stripe_subscription_item_id
        and credit_grants.source = 'stripe.monthly_allocation'
        and credit_grants.effective_at > (_given_in_this_month.schedule).period_start - interval '1 month'
        and credit_grants.effective_at < (_given_in_this_month.schedule).period_start
$$;

-- Grants what one paid period of one subscription item is worth.
create function billing._grant_paid_period(
    invoice billing.invoices, stripe_subscription_item_id text, stripe_price_id text, quantity bigint, amount bigint,
    period_start timestamptz, period_end timestamptz
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _grant_paid_period.invoice;
    v_plan billing.plans;
    v_schedule billing.credit_schedules;
    v_slot_end timestamptz;
    v_initial_key text;
begin
    if _grant_paid_period.stripe_price_id is null then
        raise exception 'a line of invoice % names no price', v_invoice.stripe_invoice_id
            using errcode = 'TB010', detail = v_invoice.stripe_invoice_id,
            hint = 'Grant by hand what was paid for.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _grant_paid_period.stripe_price_id;
    if not found then
        raise exception 'price % of invoice % is no plan here', _grant_paid_period.stripe_price_id, v_invoice.stripe_invoice_id
            using errcode = 'TB010', detail = _grant_paid_period.stripe_price_id,
            hint = 'Update the price in Stripe (its event brings it here) or add it to billing.plans, then retry the event.';
    elsif v_plan.usage_type = 'licensed' and _grant_paid_period.quantity = 0 then
        return;
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 then
        -- The product may declare what the price doesn't, and it is not here yet: sync_price made a placeholder.
        perform from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id;
        if not found then
            return;
        end if;
        raise exception 'product % of price % is not here yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe: its event brings it here, and this event then goes on by itself.';
    elsif v_invoice.account_id is null then
        raise exception 'customer % of invoice % is linked to no account', v_invoice.stripe_customer_id, v_invoice.stripe_invoice_id
            using errcode = 'TB011', detail = v_invoice.stripe_customer_id,
            hint = 'Link it with billing.link_customer(account_id, stripe_customer_id); the event then goes on by itself.';
    end if;

    -- A period of a month is one slot, however many days its month has. Months are counted in UTC, as at Stripe.
    v_slot_end := case
        when v_plan.recurring_interval = 'month' and v_plan.recurring_interval_count = 1
            then _grant_paid_period.period_end
        else (_grant_paid_period.period_start at time zone 'utc' + interval '1 month') at time zone 'utc'
    end;

    if billing._is_trial(v_invoice, v_plan, _grant_paid_period.amount, _grant_paid_period.period_start) then
        if v_plan.trial_credits > 0 then
            perform billing._grant_credits(
                account_id => v_invoice.account_id,
                amount => v_plan.trial_credits,
                key_space => 'stripe',
                idempotency_key => pg_catalog.format('trial:%s:%s', v_invoice.account_id, v_plan.stripe_product_id),
                source => 'stripe.trial',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Trial credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_paid_period.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    end if;

    -- Looked up first, because every renewal but the first would only find the key used.
    v_initial_key := pg_catalog.format('initial:%s:%s', v_invoice.account_id, v_plan.stripe_product_id);
    if v_plan.initial_credits > 0 and not exists (
        select from billing.credit_grants
        where credit_grants.idempotency_key = v_initial_key and credit_grants.key_space = 'stripe'
    ) then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_plan.initial_credits,
            key_space => 'stripe',
            idempotency_key => v_initial_key,
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_paid_period.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    end if;

    if v_plan.monthly_credits > 0 then
        insert into billing.credit_schedules (
            stripe_subscription_item_id, period_start, period_end, account_id, stripe_subscription_id,
            stripe_invoice_id, stripe_price_id, quantity, slots_granted, next_slot_at
        )
        values (
            _grant_paid_period.stripe_subscription_item_id, _grant_paid_period.period_start,
            _grant_paid_period.period_end, v_invoice.account_id, v_invoice.stripe_subscription_id,
            v_invoice.stripe_invoice_id, v_plan.stripe_price_id,
            -- The quantity of a metered line is usage, not seats.
            case v_plan.usage_type when 'metered' then 1 else greatest(_grant_paid_period.quantity, 1) end,
            1, case when v_slot_end < _grant_paid_period.period_end then v_slot_end end
        )
        on conflict on constraint credit_schedules_pkey do nothing
        returning * into v_schedule;
        if found then
            perform billing._grant_slot(
                v_schedule, v_plan, v_schedule.period_start, v_slot_end,
                billing._given_in_this_month(v_invoice, v_plan, v_schedule)
            );
        end if;
    end if;
end
$$;

revoke all on function
    billing._plan_name, billing._grant_slot, billing._is_trial, billing._given_in_this_month,
    billing._grant_paid_period
from public, anon, authenticated, service_role;
