-- The lines of a paid invoice → periods of paid time (credit_schedules), and how the subscription's state affects them.
--
-- Invariant: calculated only from facts (lines, the subscription's row, its anchors), again whenever one of them
-- arrives, so their order makes no difference. A line whose price is not in billing.plans (TB010), or a customer that
-- is not linked to an account (TB011), stops the whole event, and DETAIL names what is missing. If only the
-- subscription can explain a line (a line of amount 0 may be a trial; the months of a year are counted from the
-- anchor), the line waits for the subscription's own event.
--
-- Private: called by _allocate_subscription.

create function billing._plan_name(plan billing.plans)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((_plan_name.plan).nickname, (
        select products.name from billing.products
        where products.stripe_product_id = (_plan_name.plan).stripe_product_id
    ));
end
$$;

-- The plan of a line. TB010 if the plan, or a product that may declare its credits, has not been synced.
create function billing._plan_of_line(stripe_id text, stripe_price_id text)
returns billing.plans
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
begin
    if _plan_of_line.stripe_price_id is null then
        raise exception 'a line of % has no price', _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_id, hint = 'Grant the paid credits with `till credits grant`.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _plan_of_line.stripe_price_id;
    if not found then
        raise exception 'price % of % is not in billing.plans', _plan_of_line.stripe_price_id, _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_price_id,
            hint = 'Update the price in Stripe, so that its event adds the plan, or insert it into billing.plans. Then retry the event.';
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits > 0 then
        return v_plan;
    elsif exists (
        -- The product may declare what the price doesn't, and has not been synced: sync_price created a placeholder.
        select from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id
    ) then
        raise exception 'product % of price % has not been synced yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe. Its event syncs the product, and this event is then retried automatically.';
    end if;
    return v_plan;
end
$$;

-- TB011 for a customer that is not linked to an account.
create function billing._raise_not_linked(invoice billing.invoices)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'customer % of invoice % is not linked to an account',
        coalesce((_raise_not_linked.invoice).stripe_customer_id, 'null'), (_raise_not_linked.invoice).stripe_invoice_id
        using errcode = 'TB011', detail = coalesce((_raise_not_linked.invoice).stripe_customer_id, ''),
        hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
end
$$;

-- Seats of a line: the quantity of a metered line is usage, not seats.
create function billing._seats(plan billing.plans, quantity bigint)
returns bigint
language sql
immutable
as $$
    select case when (plan).usage_type = 'metered' then 1 else coalesce(quantity, 1) end
$$;

-- Seats that a line gives back: if it credits several tiers, the seats of the paid tiers.
create function billing._seats_given_back(quantity bigint, credited_line_ids text[])
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return least(_seats_given_back.quantity, (
        select sum(paid.quantity)::bigint from billing.credit_schedules as paid
        where paid.stripe_line_id = any (_seats_given_back.credited_line_ids) and not paid.is_free
    ));
end
$$;

-- True if nothing was paid for a line: its amount minus its discounts is 0. If Stripe reports no discounts of lines, an
-- invoice with positive lines and a total of 0 was discounted as a whole.
create function billing._is_free(line billing.invoice_lines, invoice billing.invoices)
returns boolean
language sql
immutable
as $$
    select case
        when (line).discount is not null then (line).amount - (line).discount <= 0
        else (line).amount <= 0 or (invoice).total <= 0 and (invoice).subtotal > 0
    end
$$;

-- From when on the time of a line gives credits: always (-infinity), unless its invoice was paid before
-- settings.credits_since. Then never (infinity), or with grants_current_period from that time on.
create function billing._counts_from(
    paid_at timestamptz, period_end timestamptz, credits_since timestamptz, grants_current_period boolean
)
returns timestamptz
language sql
immutable
as $$
    select case
        when coalesce(paid_at >= credits_since, true) then '-infinity'
        when grants_current_period and period_end > credits_since then credits_since
        else 'infinity'
    end
$$;

-- Records what the subscription lines of a paid invoice add and give back. from_moment: the earliest affected time; null:
-- nothing was recorded; infinity: nothing that gives credits. may_give_initial: true if a recorded line may give initial
-- credits.
create function billing._record_paid_time(
    invoice billing.invoices, subscription billing.subscriptions, out from_moment timestamptz, out may_give_initial boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _record_paid_time.invoice;
    v_subscription billing.subscriptions := _record_paid_time.subscription;
    v_line billing.invoice_lines;
    v_plan billing.plans;
    v_subscription_id text;
    v_anchor timestamptz;
    v_gives_back boolean;
    v_is_free boolean;
    v_shared_from timestamptz;
    v_paid_at timestamptz := coalesce(v_invoice.paid_at, v_invoice.as_of);
    v_credits_since timestamptz;
    v_grants_current_period boolean;
    v_counts_from timestamptz;
    v_is_paid_already boolean;
    v_has_neighbours boolean;
    v_is_shared boolean := false;
begin
    may_give_initial := false;
    select settings.credits_since, settings.grants_current_period into strict v_credits_since, v_grants_current_period
    from billing.settings;
    for v_line in
        select * from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is not null
            and invoice_lines.period_end > invoice_lines.period_start
            -- Lines added by hand and usage that is billed early do not start a new month.
            and (invoice_lines.is_proration or v_invoice.billing_reason in (
                'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
            ))
        order by invoice_lines.stripe_line_id
    loop
        v_subscription_id := coalesce(v_line.stripe_subscription_id, v_invoice.stripe_subscription_id);
        v_counts_from := billing._counts_from(
            v_paid_at, v_line.period_end, v_credits_since, v_grants_current_period
        );
        -- Of the past only what the present may change: plans that are gone and customers without an account stop nothing.
        continue when v_counts_from = 'infinity' and not exists (
            select from billing.plans where plans.stripe_price_id = v_line.stripe_price_id
        );
        v_plan := billing._plan_of_line(v_invoice.stripe_invoice_id, v_line.stripe_price_id);
        if v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 then
            continue when not exists (
                select from billing.credit_terms
                where credit_terms.stripe_price_id = v_plan.stripe_price_id
                    and credit_terms.initial_credits + credit_terms.monthly_credits > 0
            );
        end if;
        continue when v_plan.usage_type = 'licensed' and v_line.quantity = 0;
        if v_invoice.account_id is null and v_counts_from < 'infinity' then
            perform billing._raise_not_linked(v_invoice);
        end if;
        if v_invoice.account_id is null or v_subscription.stripe_subscription_id is null and (
            v_line.amount = 0 or v_plan.rollover = 'periods'
            or (v_plan.recurring_interval, v_plan.recurring_interval_count) <> ('month', 1)
        ) then
            update billing.invoice_lines
            set is_waiting = true,
                -- Needed to find the line later; a line need not name its subscription.
                stripe_subscription_id = v_subscription_id
            where invoice_lines.stripe_line_id = v_line.stripe_line_id and not invoice_lines.is_waiting;
            continue;  -- _allocate_subscription comes back to it
        elsif v_line.is_waiting then
            update billing.invoice_lines set is_waiting = false
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
        end if;
        if v_line.amount = 0 and v_line.period_start >= v_subscription.trial_start
            and v_line.period_start < v_subscription.trial_end then
            -- A trial is not paid time, but its line names the plan that it started with.
            insert into billing.trial_items as held (
                stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, seen_at
            )
            values (
                v_subscription_id, v_line.stripe_subscription_item_id, v_line.stripe_price_id, v_line.period_start
            )
            on conflict on constraint trial_items_pkey do update set seen_at = excluded.seen_at
            where held.seen_at > excluded.seen_at;
            continue;
        end if;

        select
            coalesce(bool_or(
                others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
                and others.period_start = v_line.period_start and others.period_end = v_line.period_end
                and not others.is_change and others.stripe_invoice_id <> v_invoice.stripe_invoice_id
            ), false),
            coalesce(bool_or(
                others.is_change or others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
            ), false)
        into v_is_paid_already, v_has_neighbours
        from billing.credit_schedules as others
        where others.stripe_subscription_id = v_subscription_id
            and others.period_end > v_line.period_start and others.period_start < v_line.period_end
            and others.stripe_line_id <> v_line.stripe_line_id;
        -- Each period of an item counts once, even if a second invoice charges for it.
        continue when v_is_paid_already and not v_line.is_proration;

        v_anchor := billing._anchor_of_period(
            v_plan, coalesce(v_subscription.anchors, '{}'), v_line.period_start, v_line.period_end
        );
        v_gives_back := v_line.is_proration
            and (coalesce(cardinality(v_line.credited_line_ids), 0) > 0 or v_line.amount < 0);
        v_is_free := billing._is_free(v_line, v_invoice);
        insert into billing.credit_schedules (
            stripe_line_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_invoice_id,
            stripe_price_id, gives_back, is_change, is_free, is_plain, counts_from, quantity, period_start, period_end,
            anchor, terms_from, paid_at, ends_at, next_slot_at
        )
        values (
            v_line.stripe_line_id, v_invoice.account_id, v_subscription_id,
            v_line.stripe_subscription_item_id, v_invoice.stripe_invoice_id, v_plan.stripe_price_id, v_gives_back,
            v_line.is_proration, v_gives_back or v_is_free, true, v_counts_from,
            billing._seats(v_plan, v_line.quantity), v_line.period_start, v_line.period_end, v_anchor,
            case when v_gives_back then '-infinity' else v_line.period_start end,
            v_paid_at, v_line.period_end,
            -- The first month is granted at once, so a paid line with only one month never falls due.
            case
                when v_gives_back or v_counts_from = 'infinity' then null
                when v_is_free or billing._first_slot(v_anchor, v_line.period_start + interval '1 microsecond')
                    < v_line.period_end then v_line.period_start
            end
        )
        on conflict on constraint credit_schedules_pkey do nothing;
        continue when not found;
        from_moment := least(from_moment, case when v_counts_from < 'infinity' then v_line.period_start else 'infinity' end);
        may_give_initial := may_give_initial or not v_line.is_proration
            and billing._may_give_initial(v_plan, v_invoice.account_id, v_line.period_start);
        v_shared_from := least(v_shared_from, v_line.period_start);
        v_is_shared := v_is_shared or v_line.is_proration or v_has_neighbours;
    end loop;
    if v_is_shared then
        from_moment := least(from_moment, billing._match_credits(v_invoice.stripe_subscription_id, v_shared_from));
    end if;
end
$$;

-- For the changes of a subscription from a time on, finds the lines that give time back, and the line that each
-- credits. Stripe's proration details name it. Without them, it is the latest line of the same item and price whose
-- time continues at that moment; and a change with amount 0 gives back if its item, price and quantity were paid before
-- and another line of the same change adds time to its item: else it is itself what adds, and a coupon pays. If Stripe
-- credits money, time is given back even if nobody has paid for it (its invoice is not paid yet, or a coupon paid),
-- because the customer has the money. Nothing is given back for an invoice that was voided or is unknown. Lines that
-- share time with others are no longer plain. Returns the earliest time from which months change.
create function billing._match_credits(stripe_subscription_id text, from_moment timestamptz)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Stripe finalizes and charges a renewal about an hour after it creates the draft.
    v_draft_time constant interval := '1 hour 15 minutes';
    v_change record;
    v_credited billing.credit_schedules;
    v_gives_back boolean;
    v_is_free boolean;
    v_is_unpaid boolean;
    v_offsets_only boolean;
    v_counts_from timestamptz;
    v_quantity bigint;
    v_from timestamptz;
begin
    for v_change in
        select
            schedules.stripe_line_id, schedules.stripe_invoice_id, schedules.stripe_subscription_item_id,
            schedules.stripe_price_id, schedules.period_start, schedules.is_free, schedules.counts_from,
            billing._seats(plans, lines.quantity) as quantity, lines.credited_line_ids, lines.amount,
            lines.amount >= coalesce(lines.discount, 0) as credits_no_money, lines.credited_invoice_id
        from billing.credit_schedules as schedules
        join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_change
            and schedules.period_end > _match_credits.from_moment
            and (cardinality(lines.credited_line_ids) > 0 or lines.amount <= 0)
        order by schedules.period_start, lines.amount, schedules.stripe_line_id
    loop
        v_credited := null;
        if cardinality(v_change.credited_line_ids) > 0 then
            select * into v_credited from billing.credit_schedules as paid
            where paid.stripe_line_id = any (v_change.credited_line_ids)
                and paid.stripe_subscription_id = _match_credits.stripe_subscription_id
            order by paid.is_free, paid.period_start desc, paid.stripe_line_id
            limit 1;
        else
            select paid.* into v_credited from billing.credit_schedules as paid
            join billing.invoices on invoices.stripe_invoice_id = paid.stripe_invoice_id
            where paid.stripe_subscription_id = _match_credits.stripe_subscription_id
                and paid.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                and paid.stripe_price_id = v_change.stripe_price_id and not paid.gives_back
                and paid.period_start <= v_change.period_start and paid.period_end > v_change.period_start
                and paid.stripe_line_id <> v_change.stripe_line_id
                -- Of its own invoice, only time that another change on it added.
                and (paid.stripe_invoice_id <> v_change.stripe_invoice_id or v_change.amount < 0 and paid.is_change)
                and (v_change.amount < 0 or paid.quantity = v_change.quantity)
                and (v_change.amount < 0 or exists (
                    select from billing.invoice_lines as added
                    where added.stripe_invoice_id = v_change.stripe_invoice_id and added.is_proration
                        and added.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                        and added.stripe_line_id <> v_change.stripe_line_id and added.amount >= 0
                        and coalesce(cardinality(added.credited_line_ids), 0) = 0
                        and added.period_start = v_change.period_start
                ))
            order by paid.quantity = v_change.quantity desc, paid.period_start desc, invoices.invoiced_at desc,
                paid.stripe_line_id
            limit 1;
        end if;
        v_quantity := billing._seats_given_back(v_change.quantity, v_change.credited_line_ids);
        v_gives_back := v_change.amount < 0 or coalesce(cardinality(v_change.credited_line_ids), 0) > 0
            or v_credited.stripe_line_id is not null;
        v_is_free := case
            when not v_gives_back then v_change.is_free
            when v_credited.stripe_line_id is not null then v_change.credits_no_money
            else v_change.credits_no_money or not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = v_change.credited_invoice_id
                    and (
                        invoices.status in ('open', 'uncollectible')
                        -- Later it has been charged, and the event of its payment or failure will arrive.
                        or invoices.status = 'draft' and v_change.period_start <= invoices.invoiced_at + v_draft_time
                    )
            )
        end;
        v_is_unpaid := v_gives_back and not v_is_free and v_credited.is_free is not false;
        v_offsets_only := coalesce(v_gives_back and v_credited.counts_from = 'infinity', false);
        -- No more is given back than the credited line gave.
        v_counts_from := case
            when v_gives_back and not v_offsets_only
                then greatest(v_change.counts_from, v_credited.counts_from)
            else v_change.counts_from
        end;
        update billing.credit_schedules
        set gives_back = v_gives_back,
            credited_line_id = v_credited.stripe_line_id,
            anchor = coalesce(v_credited.anchor, credit_schedules.anchor),
            terms_from = coalesce(v_credited.period_start, credit_schedules.terms_from),
            is_free = v_is_free,
            is_unpaid = v_is_unpaid,
            offsets_only = v_offsets_only,
            counts_from = v_counts_from,
            quantity = v_quantity,
            next_slot_at = case
                when not v_gives_back and credit_schedules.counts_from < 'infinity' then coalesce(credit_schedules.next_slot_at, credit_schedules.period_start)
            end
        where credit_schedules.stripe_line_id = v_change.stripe_line_id
            and (
                credit_schedules.credited_line_id, credit_schedules.quantity, credit_schedules.is_free,
                credit_schedules.is_unpaid, credit_schedules.offsets_only, credit_schedules.counts_from
            ) is distinct from (
                v_credited.stripe_line_id, v_quantity, v_is_free, v_is_unpaid, v_offsets_only, v_counts_from
            );
        if found then
            v_from := least(v_from, v_change.period_start);
        end if;
    end loop;

    update billing.credit_schedules as schedules set is_plain = false
    where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_plain
        and schedules.period_end > _match_credits.from_moment
        and (schedules.is_change or exists (
            select from billing.credit_schedules as others
            where others.stripe_subscription_id = schedules.stripe_subscription_id
                and others.period_end > schedules.period_start and others.period_start < schedules.period_end
                and others.stripe_line_id <> schedules.stripe_line_id
                and (
                    others.is_change or others.stripe_subscription_item_id = schedules.stripe_subscription_item_id
                )
        ));
    return v_from;
end
$$;

-- Why later months of a subscription wait; null: they don't.
create function billing._waiting_reason(subscription billing.subscriptions, is_closed boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _waiting_reason.is_closed then
        return 'account_closed';
    elsif (_waiting_reason.subscription).status in ('paused', 'unpaid') then
        return (_waiting_reason.subscription).status;
    elsif (_waiting_reason.subscription).status in ('incomplete', 'incomplete_expired') then
        return 'incomplete';
    elsif (_waiting_reason.subscription).is_collection_paused then
        return 'collection_paused';
    elsif exists (
        select from billing.customers
        where customers.stripe_customer_id = (_waiting_reason.subscription).stripe_customer_id
            and customers.deleted_at is not null
    ) then
        return 'customer_deleted';
    end if;
    return null;
end
$$;

-- Updates the schedules of a subscription to its state. Returns the earliest time from which months change; null: no
-- change. Periods that ended before anything that can change are not read. is_closed: the account's state. from_moment:
-- the time from which its lines have changed.
create function billing._arm_schedules(
    subscription billing.subscriptions, moment timestamptz, is_closed boolean, from_moment timestamptz default null
)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions := _arm_schedules.subscription;
    v_waiting text := billing._waiting_reason(v_subscription, _arm_schedules.is_closed);
    v_changes_from timestamptz := least(
        _arm_schedules.moment, v_subscription.ended_at, v_subscription.canceled_at, _arm_schedules.from_moment
    );
    v_schedule billing.credit_schedules;
    v_terms billing.credit_terms;
    v_ends_at timestamptz;
    v_disarmed_reason text;
    v_from timestamptz;
begin
    -- Row by row: only one or two rows of a subscription can change, and a set would be joined with all schedules.
    for v_schedule in
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.period_end > v_changes_from
        union all
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.next_slot_at is not null and credit_schedules.period_end <= v_changes_from
    loop
        v_ends_at := least(v_schedule.period_end, v_subscription.ended_at);
        if v_subscription.canceled_at < v_ends_at then
            v_terms := billing._terms_at(v_schedule.stripe_price_id, v_subscription.canceled_at);
            if v_terms.cancel_credits = 'stop' then
                v_ends_at := v_subscription.canceled_at;
            end if;
        end if;
        if v_schedule.is_free and not v_schedule.gives_back and not v_schedule.is_plain then
            select least(v_ends_at, min(greatest(credits.period_start, credits.paid_at))) into v_ends_at
            from billing.credit_schedules as credits
            join billing.invoice_lines on invoice_lines.stripe_line_id = credits.stripe_line_id
            where credits.stripe_subscription_id = v_subscription.stripe_subscription_id
                and (
                    credits.credited_line_id = v_schedule.stripe_line_id
                    or v_schedule.stripe_line_id = any (invoice_lines.credited_line_ids)
                );
        end if;
        v_disarmed_reason := v_waiting;
        if v_waiting is null and v_schedule.has_returns then
            select 'disputed' into v_disarmed_reason from billing.invoices
            where invoices.stripe_invoice_id = v_schedule.stripe_invoice_id and invoices.amount_contested > 0;
        end if;
        if v_ends_at = v_schedule.ends_at and v_disarmed_reason is not distinct from v_schedule.disarmed_reason then
            continue;
        end if;

        update billing.credit_schedules
        set ends_at = v_ends_at,
            disarmed_reason = v_disarmed_reason,
            next_slot_at = case
                when v_schedule.gives_back then null
                -- The first month to recalculate; _allocate_slots moves it forward.
                when v_ends_at <> v_schedule.ends_at then least(
                    v_schedule.next_slot_at, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at))
                )
                else v_schedule.next_slot_at
            end
        where credit_schedules.stripe_line_id = v_schedule.stripe_line_id;
        if v_ends_at <> v_schedule.ends_at then
            v_from := least(v_from, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at)));
        end if;
    end loop;
    return v_from;
end
$$;

revoke all on function
    billing._plan_name, billing._plan_of_line, billing._raise_not_linked, billing._seats, billing._seats_given_back, billing._is_free,
    billing._counts_from, billing._record_paid_time, billing._match_credits, billing._waiting_reason, billing._arm_schedules
from public, anon, authenticated, service_role;
