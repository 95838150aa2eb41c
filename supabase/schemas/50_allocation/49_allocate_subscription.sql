-- The effect of a new fact about a subscription on its credits: every event goes through here.
--
-- Invariant: decided under the lock of the balance, from rows that are read under it. Months from the time that the
-- fact affects are recalculated; older months are not, so the cost does not grow with the subscription's age. Called by
-- the functions that record facts; private, except allocate_postponed, which billing_worker calls.

-- Initial credits of the lines that an invoice paid for.
create function billing._grant_initial_of_invoice(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._grant_initial(
        _grant_initial_of_invoice.invoice, paid.stripe_price_id, paid.stripe_subscription_item_id, paid.period_start
    )
    from (
        select schedules.stripe_price_id, schedules.stripe_subscription_item_id, schedules.period_start
        from billing.credit_schedules as schedules
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        where schedules.stripe_invoice_id = (_grant_initial_of_invoice.invoice).stripe_invoice_id
            and not schedules.is_change
            and billing._may_give_initial(plans, schedules.account_id, schedules.period_start)
        order by schedules.stripe_subscription_item_id, schedules.period_start
    ) as paid;
end
$$;

-- Records what a paid invoice added and gave back, and grants its initial credits (TB008 if the account is closed). For
-- an unpaid invoice, records how it affects changes that give its time back. Returns the earliest affected time; null:
-- none.
create function billing._take_in_invoice(
    invoice billing.invoices, subscription billing.subscriptions, is_closed boolean default false
)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recorded record;
begin
    if (_take_in_invoice.invoice).status <> 'paid' then
        return billing._match_credits((_take_in_invoice.invoice).stripe_subscription_id, '-infinity');
    end if;
    v_recorded := billing._record_paid_time(_take_in_invoice.invoice, _take_in_invoice.subscription);
    if _take_in_invoice.is_closed then
        perform billing._check_open((_take_in_invoice.invoice).account_id) where v_recorded.from_moment < 'infinity';
    elsif v_recorded.may_give_initial then
        perform billing._grant_initial_of_invoice(_take_in_invoice.invoice);
    end if;
    return nullif(v_recorded.from_moment, 'infinity');
end
$$;

-- Counts the months of a subscription's paid time again where an anchor that arrived later fits it better: takes back the
-- months that only the other anchor had, and returns the time from which months change. Null: nothing changes. What gives
-- time back is counted like the line that it credits. The caller has locked the balance.
create function billing._count_from_anchors(subscription billing.subscriptions, until_moment timestamptz)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions := _count_from_anchors.subscription;
    v_line_ids text[];
    v_anchors timestamptz[];
    v_from timestamptz;
    v_until timestamptz;
    v_before billing.credit_move[];
    v_kept_keys text[];
    v_move billing.credit_move;
begin
    select
        array_agg(schedules.stripe_line_id), array_agg(fitting.anchor), min(schedules.period_start),
        greatest(_count_from_anchors.until_moment, max(schedules.period_start))
    into v_line_ids, v_anchors, v_from, v_until
    from billing.credit_schedules as schedules
    join billing.credit_schedules as counted
        on counted.stripe_line_id = coalesce(schedules.credited_line_id, schedules.stripe_line_id)
    join billing.plans on plans.stripe_price_id = counted.stripe_price_id
    cross join lateral (
        select billing._anchor_of_period(
            plans, v_subscription.anchors, counted.period_start, counted.period_end
        ) as anchor
    ) as fitting
    where schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
        and schedules.anchor <> fitting.anchor;
    if v_from is null then
        return null;
    end if;
    v_before := array(
        select worth from billing._worth(array[v_subscription.stripe_subscription_id], v_from, v_until) as worth
    );
    update billing.credit_schedules as schedules
    set anchor = fitting.anchor,
        next_slot_at = case
            when not schedules.gives_back and schedules.counts_from < 'infinity' then schedules.period_start
        end
    from unnest(v_line_ids, v_anchors) as fitting (stripe_line_id, anchor)
    where schedules.stripe_line_id = fitting.stripe_line_id;
    v_kept_keys := array(
        select worth.key from billing._worth(array[v_subscription.stripe_subscription_id], v_from, v_until) as worth
    );
    foreach v_move in array v_before loop
        continue when v_move.key = any (v_kept_keys);
        v_move.credits := 0;
        v_move.returned := 0;
        perform billing._post_move(v_move);
    end loop;
    return v_from;
end
$$;

-- Postpones the months of a subscription to the end of the batch of events; false outside a batch.
create function billing._postpone_allocation(stripe_subscription_id text, from_moment timestamptz)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_postponed text := current_setting('billing.postponed', true);
begin
    if coalesce(v_postponed, '') = '' then
        return false;
    end if;
    perform set_config('billing.postponed', v_postponed || json_build_object(
        'id', _postpone_allocation.stripe_subscription_id, 'moment', _postpone_allocation.from_moment
    ) || ',', true);
    return true;
end
$$;

-- Grants the months that the events of a batch made due, as one set for each month in which they started: fifty
-- subscriptions cost little more than five.
create function billing.allocate_postponed()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A list that is still open, as lock_stripe_events began it.
    v_postponed text := rtrim(nullif(current_setting('billing.postponed', true), ''), ',') || ']';
    v_due record;
begin
    perform set_config('billing.postponed', '', true);
    for v_due in
        select array_agg(postponed.id) as subscription_ids, min(postponed.moment) as from_moment
        from json_to_recordset(v_postponed::json) as postponed (id text, moment timestamptz)
        group by date_trunc('month', postponed.moment, 'UTC')
        order by 2
    loop
        perform billing._allocate_slots(v_due.subscription_ids, v_due.from_moment, billing.current_time());
    end loop;
end
$$;

-- invoice: one that was just paid, or whose time a change gives back. from_moment: the time from which months may be
-- worth something else (null: only what the subscription's own state says). has_new_anchor: the months of what was paid
-- before may have to be counted again.
create function billing._allocate_subscription(
    stripe_subscription_id text, from_moment timestamptz default null, invoice billing.invoices default null,
    has_new_anchor boolean default false
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions;
    v_waiting_ids text[];
    v_invoice billing.invoices;
    v_balance billing.credit_balances;
    v_is_closed boolean := false;
    v_from timestamptz := _allocate_subscription.from_moment;
    v_now timestamptz := billing.current_time();
    v_until timestamptz;
    v_posted record;
    v_invoice_id text;
begin
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = coalesce((_allocate_subscription.invoice).account_id, (
        select subscriptions.account_id from billing.subscriptions
        where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
    ), (
        -- Its invoice may have arrived before it.
        select credit_schedules.account_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        limit 1
    ))
    for update;
    if not v_balance.may_spend then
        v_is_closed := exists (
            select from billing.accounts where accounts.id = v_balance.account_id and accounts.closed_at is not null
        );
    end if;
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id;
    if (_allocate_subscription.invoice).stripe_invoice_id is not null then
        v_from := least(v_from, billing._take_in_invoice(
            _allocate_subscription.invoice, v_subscription, v_is_closed
        ));
    end if;
    if v_balance.account_id is null then
        return;  -- not linked: the link calls it again
    elsif v_is_closed then
        -- Nothing can be granted, but what Stripe reports about its subscriptions must be recorded.
        if v_subscription.stripe_subscription_id is not null then
            perform billing._arm_schedules(v_subscription, v_now, v_is_closed);
            perform billing._judge_overage(v_balance.account_id) where v_balance.overage_limit > 0;
        end if;
        return;
    end if;
    v_until := billing._time_of_account(v_balance.account_id, v_now);
    if v_subscription.stripe_subscription_id is not null then
        -- Without overage this costs a look-up in an index that is empty.
        if v_balance.overage_limit > 0 or exists (select from billing.plans where plans.overage_limit > 0) and exists (
            select from billing.subscription_items as items
            join billing.plans on plans.stripe_price_id = items.stripe_price_id and plans.overage_limit > 0
            where items.stripe_subscription_id = v_subscription.stripe_subscription_id
        ) then
            perform billing._judge_overage(v_balance.account_id);
        end if;
        -- Lines that only the subscription can explain.
        v_waiting_ids := array(
            select invoice_lines.stripe_invoice_id from billing.invoice_lines
            where invoice_lines.stripe_subscription_id = v_subscription.stripe_subscription_id
                and invoice_lines.is_waiting and invoice_lines.stripe_subscription_item_id is not null
        );
        if cardinality(v_waiting_ids) > 0 then
            for v_invoice in
                select * from billing.invoices where invoices.stripe_invoice_id = any (v_waiting_ids)
                order by invoices.invoiced_at, invoices.stripe_invoice_id
            loop
                v_from := least(v_from, billing._take_in_invoice(v_invoice, v_subscription));
            end loop;
        end if;
        if v_subscription.trial_end is not null then
            perform billing._grant_trial(v_subscription);
        end if;
        if _allocate_subscription.has_new_anchor then
            v_from := least(v_from, billing._count_from_anchors(v_subscription, v_until));
        end if;
        v_from := least(v_from, billing._arm_schedules(v_subscription, v_now, v_is_closed, v_from));
    end if;
    select least(v_from, min(credit_schedules.next_slot_at)) into v_from from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        and (
            credit_schedules.next_slot_at <= v_until and credit_schedules.disarmed_reason is null
            or credit_schedules.next_slot_at = credit_schedules.period_start
        );
    -- A batch is posted as of now: subscriptions on a test clock are not postponed.
    if v_from is not null and (
        v_until > v_now or v_subscription.stripe_test_clock_id is not null
        or not billing._postpone_allocation(_allocate_subscription.stripe_subscription_id, v_from)
    ) then
        v_posted := billing._allocate_slots(
            array[_allocate_subscription.stripe_subscription_id], v_from, v_until
        );
    end if;
    -- Money of their invoices may have been returned while they waited.
    foreach v_invoice_id in array coalesce(v_waiting_ids, '{}') loop
        perform billing._apply_returns_of_invoice(v_invoice_id);
    end loop;
    if v_until > v_now then
        perform billing._settle_due(array[v_balance.account_id], v_until);
    end if;
end
$$;

-- Terms that are reported after they became valid: months that started since then are recalculated.
create function billing.tg_credit_terms__allocate()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before billing.credit_terms;
    v_from timestamptz := new.valid_from;
    v_affected record;
begin
    select * into v_before from billing.credit_terms
    where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from < new.valid_from
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        -- The earliest terms also apply before their start, as the later ones did until now.
        v_from := '-infinity';
        select * into v_before from billing.credit_terms
        where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from > new.valid_from
        order by credit_terms.valid_from
        limit 1;
    end if;
    v_before.valid_from := new.valid_from;
    if not found or v_before is not distinct from new then
        return null;
    end if;
    for v_affected in
        select
            schedules.stripe_subscription_id,
            least(v_from, min(schedules.period_start) filter (where schedules.is_unpaid)) as from_moment
        from billing.credit_schedules as schedules
        where schedules.stripe_price_id = new.stripe_price_id and schedules.period_end > v_from
            -- The first month of a line is granted as soon as it is paid, and all months of unpaid time are taken at once.
            and (
                schedules.period_start >= v_from or schedules.is_unpaid
                or billing._first_slot(schedules.anchor, v_from) <= billing.current_time()
            )
        group by schedules.stripe_subscription_id
        order by 1
    loop
        perform billing._allocate_subscription(v_affected.stripe_subscription_id, v_affected.from_moment);
    end loop;
    return null;
end
$$;

create trigger tg_credit_terms__allocate
after insert or update on billing.credit_terms
for each row execute function billing.tg_credit_terms__allocate();

revoke all on function
    billing._grant_initial_of_invoice, billing._take_in_invoice, billing._count_from_anchors, billing._postpone_allocation,
    billing.allocate_postponed, billing._allocate_subscription, billing.tg_credit_terms__allocate
from public, anon, authenticated, service_role;
grant execute on function billing.allocate_postponed() to billing_worker;

comment on function billing.allocate_postponed() is 'Grants the months that a batch of events made due. Call it before committing a transaction that started with lock_stripe_events and postpone_months.';
