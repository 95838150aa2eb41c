-- Changes of plan and seats within a paid period → credits at once, and other slots from then on.
--
-- Invariant: a change to and fro makes no credits. What an invoice's proration lines add and take away is netted by the
-- days left of the slot that was running; a net below zero counts against later changes of the subscription. The sum is
-- taken in the order of the changes, not of their events, so each order of events ends in the same credits.
--
-- The policy is that of the plan changed to (plans.proration_credits). Private: called by _grant_paid_lines.

-- The lines of an invoice that add to or take from what a subscription item had paid for.
create function billing._changes(stripe_invoice_id text)
returns setof billing.invoice_lines
language sql
stable
set search_path = ''
as $$
    select * from billing.invoice_lines
    where invoice_lines.stripe_invoice_id = _changes.stripe_invoice_id and invoice_lines.is_proration
        and invoice_lines.stripe_subscription_item_id is not null and invoice_lines.amount <> 0
        and invoice_lines.period_end > invoice_lines.period_start
$$;

-- When the change has its effect on slots: at once, or, where it is invoiced later, from the slot after that.
create function billing._change_starts(invoice billing.invoices, line billing.invoice_lines)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select greatest((_change_starts.line).period_start, (_change_starts.invoice).invoiced_at)
$$;

create function billing._change_ends(invoice billing.invoices, line billing.invoice_lines)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
    select least(
        (_change_ends.line).period_end,
        billing._first_slot((_change_ends.line).period_end, billing._change_starts(_change_ends.invoice, _change_ends.line))
    )
$$;

-- What a change adds or takes away for the slots that had begun when it was invoiced.
create function billing._proration_of_line(invoice billing.invoices, line billing.invoice_lines, plan billing.plans)
returns numeric
language sql
immutable
set search_path = ''
as $$
    select sign((_proration_of_line.line).amount)
        * (_proration_of_line.plan).monthly_credits
        * billing._seats(_proration_of_line.plan, (_proration_of_line.line).quantity)
        * billing._share_of_slots(
            (_proration_of_line.line).period_end, (_proration_of_line.line).period_start,
            billing._change_ends((_proration_of_line.invoice), (_proration_of_line.line))
        )
$$;

-- Writes down what the changes on an invoice are worth (credit_prorations), and from when on the item's slots are others.
-- Credits that a period of this invoice has given less (`deducted`) are made up for already.
create function billing._record_changes(invoice billing.invoices, net numeric, deducted bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _record_changes.invoice;
    v_to billing.invoice_lines;
    v_plan billing.plans;
    v_full bigint;
begin
    perform billing._plan_of_line(v_invoice.stripe_invoice_id, changes.stripe_price_id)
    from billing._changes(v_invoice.stripe_invoice_id) as changes;
    select sum(plans.monthly_credits * billing._seats(plans, changes.quantity)) filter (where changes.amount > 0) into v_full
    from billing._changes(v_invoice.stripe_invoice_id) as changes
    join billing.plans on plans.stripe_price_id = changes.stripe_price_id
    having max(plans.monthly_credits) > 0;
    if not found then
        return;
    end if;
    perform billing._check_linked(v_invoice);

    -- Where one item is taken away and added in one change, what was added goes on.
    insert into billing.credit_schedules (
        stripe_subscription_item_id, stripe_invoice_id, period_start, period_end, is_change, account_id,
        stripe_subscription_id, stripe_price_id, quantity, anchor, ends_at
    )
    select
        changes.stripe_subscription_item_id, v_invoice.stripe_invoice_id, billing._change_starts(v_invoice, changes),
        changes.period_end, true, v_invoice.account_id, v_invoice.stripe_subscription_id, plans.stripe_price_id,
        case when changes.amount > 0 then billing._seats(plans, changes.quantity) else 0 end, changes.period_end,
        changes.period_end
    from billing._changes(v_invoice.stripe_invoice_id) as changes
    join billing.plans on plans.stripe_price_id = changes.stripe_price_id
    where billing._change_starts(v_invoice, changes) < changes.period_end
        -- A new period of the item goes on where the old one is cut.
        and not exists (
            select from billing.invoice_lines
            where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id and not invoice_lines.is_proration
                and invoice_lines.stripe_subscription_item_id = changes.stripe_subscription_item_id
                and invoice_lines.period_end > billing._change_starts(v_invoice, changes)
        )
    order by changes.amount > 0 desc, changes.stripe_line_id
    on conflict do nothing;

    select * into v_to from billing._changes(v_invoice.stripe_invoice_id) as changes
    order by changes.amount > 0 desc, abs(changes.amount) desc, changes.stripe_line_id
    limit 1;
    select * into strict v_plan from billing.plans where plans.stripe_price_id = v_to.stripe_price_id;
    insert into billing.credit_prorations as held (
        stripe_invoice_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, policy, net,
        changed_at, slot_end
    )
    values (
        v_invoice.stripe_invoice_id, v_invoice.account_id, v_invoice.stripe_subscription_id,
        v_to.stripe_subscription_item_id, v_to.stripe_price_id, v_plan.proration_credits,
        case v_plan.proration_credits
            when 'delta' then floor(_record_changes.net) + _record_changes.deducted
            when 'full' then coalesce(v_full, 0)
            else 0
        end,
        v_invoice.invoiced_at, billing._slot_end(v_to.period_end, billing._change_starts(v_invoice, v_to))
    )
    on conflict on constraint credit_prorations_pkey do update set net = excluded.net, updated_at = now()
    where held.net <> excluded.net;
end
$$;

-- The net of an invoice's changes in credits. Null: it has none.
create function billing._net_of_changes(invoice billing.invoices)
returns numeric
language sql
stable
set search_path = ''
as $$
    select sum(billing._proration_of_line(_net_of_changes.invoice, changes, plans))
    from billing._changes((_net_of_changes.invoice).stripe_invoice_id) as changes
    join billing.plans on plans.stripe_price_id = changes.stripe_price_id
$$;

-- Grants what each change of a subscription is worth after those before it. A change that is told of late may leave a
-- later one worth less than it was given: the rest is taken back, as far as it is there.
create function billing._settle_prorations(stripe_subscription_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_change billing.credit_prorations;
    v_plan billing.plans;
    v_lot billing.credit_grants;
    v_carried bigint := 0;
    v_worth bigint;
    v_taken bigint;
begin
    for v_change in
        select * from billing.credit_prorations
        where credit_prorations.stripe_subscription_id = _settle_prorations.stripe_subscription_id
        order by credit_prorations.changed_at, credit_prorations.stripe_invoice_id
    loop
        if v_change.policy = 'delta' then
            v_worth := greatest(v_change.net + v_carried, 0);
            v_carried := least(v_change.net + v_carried, 0);
        else
            v_worth := v_change.net;
        end if;
        continue when v_worth = v_change.granted;
        select * into strict v_plan from billing.plans where plans.stripe_price_id = v_change.stripe_price_id;
        if v_worth > v_change.granted then
            perform billing._grant_credits(
                account_id => v_change.account_id,
                amount => v_worth - v_change.granted,
                key_space => 'stripe',
                -- A whole month once for each plan and slot, however often it is changed to.
                idempotency_key => case v_change.policy
                    when 'full' then format(
                        'proration:%s:%s:%s', v_change.stripe_subscription_item_id, v_change.stripe_price_id,
                        to_char(v_change.slot_end at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                    )
                    else format('proration:%s:%s', v_change.stripe_invoice_id, v_worth)
                end,
                source => 'stripe.proration',
                reference_id => v_change.stripe_subscription_id,
                description => 'Subscription credits for the change to ' || billing._plan_name(v_plan),
                effective_at => least(v_change.changed_at, billing.current_time()),
                expires_at => billing._slot_expiry(v_plan, v_change.slot_end, v_change.slot_end),
                stripe_invoice_id => v_change.stripe_invoice_id,
                stripe_subscription_item_id => v_change.stripe_subscription_item_id,
                stripe_price_id => v_change.stripe_price_id
            );
        else
            v_taken := v_change.granted - v_worth;
            for v_lot in
                select * from billing.credit_grants
                where credit_grants.stripe_invoice_id = v_change.stripe_invoice_id
                    and credit_grants.source = 'stripe.proration'
                order by credit_grants.id
            loop
                exit when v_taken = 0;
                perform billing._correct_grant(
                    v_lot, v_taken, format('proration:%s:%s:%s', v_change.stripe_invoice_id, v_worth, v_lot.id),
                    'An earlier change of the plan was told of later'
                );
                v_taken := v_taken - least(v_taken, v_lot.amount);
            end loop;
        end if;
        update billing.credit_prorations set granted = v_worth, updated_at = now()
        where credit_prorations.stripe_invoice_id = v_change.stripe_invoice_id;
    end loop;
end
$$;

revoke all on function
    billing._changes, billing._change_starts, billing._change_ends, billing._proration_of_line,
    billing._record_changes, billing._net_of_changes, billing._settle_prorations
from public, anon, authenticated, service_role;
