-- Overage: credits that are spent beyond those that there are, as far as the plan lets them, and billed afterwards.
--
-- overage_periods   the running period of each account whose plan has overage: one row
-- overages          what was owed at the end of a period, to be billed by the worker
--
-- Invariant: what a period owes is a pure function of the ledger (_overage), for the spends from counted_from until
-- counted_until: periods of an account follow each other without gap or overlap, so that each spend is billed at most once,
-- whatever repays the debt meanwhile and in whatever order that is reported. The paid pack repays the debt as any pack does,
-- so voids, refunds and disputes of the invoice need nothing here.
--
-- A period ends with the account's month of credits (of a plan by days or weeks: with its own period), and at once when the
-- subscription ends, no longer has overage, or gets another billing anchor. Only functions write; owners and
-- administrators of the account read.

create table billing.overage_periods (
    account_id uuid primary key references billing.accounts (id),
    judge_at timestamptz not null,
    stripe_subscription_id text,
    stripe_price_id text,
    stripe_pack_price_id text,
    counted_from timestamptz,
    period_start timestamptz,
    period_end timestamptz,
    constraint a_period_is_complete check (
        num_nulls(
            stripe_subscription_id, stripe_price_id, stripe_pack_price_id, counted_from, period_start, period_end
        ) in (0, 6)
    )
);

create index overage_periods_due on billing.overage_periods (judge_at);

create table billing.overages (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    stripe_subscription_id text not null,
    stripe_customer_id text not null,
    stripe_price_id text not null,
    stripe_pack_price_id text not null references billing.credit_packs (stripe_price_id),
    period_start timestamptz not null,
    period_end timestamptz not null,
    counted_from timestamptz not null,
    counted_until timestamptz not null,
    credits billing.positive_credits not null,
    quantity bigint not null,
    amount bigint not null,
    currency text not null,
    status text not null default 'claimed',
    stripe_invoice_id text,
    is_own_invoice boolean,
    stripe_invoice_item_id text,
    reason text,
    attempts integer not null default 0,
    last_error text,
    claimed_at timestamptz not null,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('claimed', 'invoiced', 'failed')),
    constraint quantity_is_positive check (quantity > 0),
    constraint amount_is_positive check (amount > 0),
    constraint counted_until_is_after_counted_from check (counted_until > counted_from),
    constraint invoiced_overages_name_their_item check (
        status <> 'invoiced' or num_nulls(stripe_invoice_id, stripe_invoice_item_id) = 0
    ),
    constraint invoices_are_own_or_not check ((stripe_invoice_id is null) = (is_own_invoice is null)),
    constraint failed_overages_say_why check ((status = 'failed') = (reason is not null)),
    constraint settled_overages_say_when check ((status = 'claimed') = (settled_at is null))
);

create unique index overages_once on billing.overages (account_id, counted_from);
create unique index overages_invoice_item on billing.overages (stripe_invoice_item_id)
where stripe_invoice_item_id is not null;
create index overages_invoice on billing.overages (stripe_invoice_id) where stripe_invoice_id is not null;
create index overages_pack on billing.overages (stripe_pack_price_id);

alter table billing.overage_periods enable row level security;
alter table billing.overages enable row level security;

revoke all on billing.overage_periods, billing.overages from public, anon, authenticated, service_role;

create policy overages_select_managed on billing.overages
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.overage_periods, billing.overages to service_role;
grant select (
    id, account_id, stripe_subscription_id, stripe_pack_price_id, period_start, period_end, credits, quantity, amount,
    currency, status, stripe_invoice_id, reason, claimed_at
) on billing.overages to authenticated;

comment on table billing.overage_periods is 'The running period of each account whose plan has overage.';
comment on column billing.overage_periods.judge_at is 'When the account is judged next: at the end of its period, or at once, because its plan or pack has changed.';
comment on column billing.overage_periods.stripe_subscription_id is 'Null: the account has not been judged yet.';
comment on column billing.overage_periods.counted_from is 'Spends from this billing time on belong to the period.';
comment on column billing.overage_periods.period_end is 'The end of the month of credits, by the test clock of the subscription if it has one.';
comment on table billing.overages is 'Credits that were owed at the end of a period and are billed by an invoice item; amounts in minor units of currency.';
comment on column billing.overages.counted_from is 'The spends of the period: from this billing time …';
comment on column billing.overages.counted_until is '… until this one, exclusive.';
comment on column billing.overages.quantity is 'How many packs are billed: credits, rounded up to whole packs.';
comment on column billing.overages.status is 'claimed (the worker bills it), invoiced (its item is on stripe_invoice_id, which says whether it is paid), failed (Stripe refuses it).';
comment on column billing.overages.is_own_invoice is 'False if the item was added to the draft of the subscription''s renewal.';
comment on column billing.overages.attempts is 'The number of times that the worker asked Stripe.';

-- What an account owes for its spends of a period. A debt is billed only as far as it still exists at the end of the period
-- and spends of the period made it: not if a pack repaid it, not if revoked credits made it. Refunds count with their spend.
-- On a test clock the period may end later than the billing time until which it is counted: credits of later months that
-- were granted already do not repay it.
create function billing._overage(
    account_id uuid, counted_from timestamptz, counted_until timestamptz, period_end timestamptz
)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    v_owed numeric;
    v_spent numeric;
begin
    select coalesce(sum(credit_entries.debt), 0) into v_owed from billing.credit_entries
    where credit_entries.account_id = _overage.account_id and credit_entries.debt <> 0
        and credit_entries.occurred_at < _overage.counted_until;
    if _overage.counted_until < _overage.period_end then
        select v_owed - coalesce(sum(credit_entries.debt), 0) into v_owed from billing.credit_entries
        join billing.credit_grants on credit_grants.entry_id = credit_entries.id
        where credit_entries.account_id = _overage.account_id and credit_entries.debt < 0
            and credit_entries.occurred_at < _overage.counted_until
            and credit_grants.effective_at >= _overage.period_end;
    end if;
    select coalesce(sum(spends.debt + coalesce((
        select sum(refunds.debt) from billing.credit_entries as refunds
        where refunds.reverses_entry_id = spends.id and refunds.kind = 'refund'
            and refunds.occurred_at < _overage.counted_until
    ), 0)), 0) into v_spent
    from billing.credit_entries as spends
    where spends.account_id = _overage.account_id and spends.debt <> 0 and spends.kind in ('spend', 'capture')
        and spends.occurred_at >= _overage.counted_from and spends.occurred_at < _overage.counted_until;
    return greatest(least(v_owed, v_spent), 0)::bigint;
end
$$;

-- Overages that are not what the ledger says, and spends that two of them bill. Part of ledger_discrepancies.
create function billing.account_overage_discrepancies(account_id uuid)
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        'overage_is_what_was_owed',
        format('overage %s: %s credits, the ledger says %s', overages.id, overages.credits, owed.credits)
    from billing.overages
    cross join lateral billing._overage(
        overages.account_id, overages.counted_from, overages.counted_until, overages.period_end
    ) as owed (credits)
    where overages.account_id = account_overage_discrepancies.account_id and owed.credits <> overages.credits
    union all
    select 'spends_are_billed_once', format('overages %s and %s bill spends of the same time', one.id, other.id)
    from billing.overages as one
    join billing.overages as other
        on other.account_id = one.account_id and other.id > one.id
            and other.counted_from < one.counted_until and other.counted_until > one.counted_from
    where one.account_id = account_overage_discrepancies.account_id;
end
$$;

-- The first end of a period after a moment.
create function billing._overage_period_end(plan billing.plans, anchor timestamptz, moment timestamptz)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seconds numeric := (_overage_period_end.plan).recurring_interval_count
        * case (_overage_period_end.plan).recurring_interval when 'week' then 604800 when 'day' then 86400 end;
begin
    if v_seconds is null then
        return billing._first_slot(_overage_period_end.anchor, _overage_period_end.moment + interval '1 microsecond');
    end if;
    return _overage_period_end.anchor + make_interval(secs => (v_seconds * (
        floor(extract(epoch from _overage_period_end.moment - _overage_period_end.anchor) / v_seconds) + 1
    ))::double precision);
end
$$;

-- The pack that bills a plan's overage: on sale, in the plan's currency. All null if there is none.
create function billing._overage_pack(plan billing.plans)
returns billing.credit_packs
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pack billing.credit_packs;
begin
    select credit_packs.* into v_pack from billing.credit_packs
    join billing.products on products.stripe_product_id = credit_packs.stripe_product_id
    where (
            credit_packs.stripe_price_id = (_overage_pack.plan).overage_pack
            or credit_packs.lookup_key = (_overage_pack.plan).overage_pack
        )
        and credit_packs.active and products.active and credit_packs.pack_credits is not null
        and credit_packs.unit_amount > 0 and credit_packs.currency = (_overage_pack.plan).currency
        and credit_packs.livemode = (_overage_pack.plan).livemode
    order by credit_packs.stripe_price_id = (_overage_pack.plan).overage_pack desc, credit_packs.as_of desc,
        credit_packs.stripe_price_id
    limit 1;
    return v_pack;
end
$$;

-- How many packs give at least so many credits.
create function billing._packs_for(pack billing.credit_packs, credits bigint)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_packs_for.credits - 1) / (_packs_for.pack).pack_credits + 1
$$;

create function billing._price_of_packs(pack billing.credit_packs, quantity bigint)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select least((_price_of_packs.pack).unit_amount::numeric * _price_of_packs.quantity, 9223372036854775807)::bigint
$$;

create type billing.overage_terms as (
    stripe_subscription_id text, stripe_price_id text, stripe_pack_price_id text, overage_limit bigint,
    period_end timestamptz
);

-- The overage that an account has at a moment, of the plan with the highest limit. Nothing has been paid during a trial,
-- so it has none.
create function billing._overage_terms(account_id uuid, moment timestamptz)
returns billing.overage_terms
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_found record;
    v_terms billing.overage_terms;
    v_pack billing.credit_packs;
begin
    for v_found in
        select subscriptions as subscription, plans as plan
        from billing.settings
        join billing.subscriptions on subscriptions.livemode = settings.livemode
        join billing.accounts on accounts.id = subscriptions.account_id and accounts.closed_at is null
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        join billing.plans on plans.stripe_price_id = items.stripe_price_id and plans.overage_limit > 0
        where subscriptions.account_id = _overage_terms.account_id
            and (
                subscriptions.status = 'active'
                or subscriptions.status = 'past_due' and settings.past_due_keeps_features
            )
            and billing._waiting_reason(subscriptions, false) is null
        order by plans.overage_limit desc, subscriptions.started_at, items.stripe_subscription_item_id
    loop
        v_pack := billing._overage_pack(v_found.plan);
        if v_pack.stripe_price_id is not null then
            v_terms.stripe_subscription_id := (v_found.subscription).stripe_subscription_id;
            v_terms.stripe_price_id := (v_found.plan).stripe_price_id;
            v_terms.stripe_pack_price_id := v_pack.stripe_price_id;
            v_terms.overage_limit := (v_found.plan).overage_limit;
            v_terms.period_end := billing._overage_period_end(
                v_found.plan, (v_found.subscription).billing_cycle_anchor, _overage_terms.moment
            );
            exit;
        end if;
    end loop;
    return v_terms;
end
$$;

-- Ends a period: what is owed for it becomes a job of the worker. The caller holds the balance's lock.
create function billing._claim_overage(period billing.overage_periods, counted_until timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_period billing.overage_periods := _claim_overage.period;
    v_credits bigint;
    v_pack billing.credit_packs;
    v_quantity bigint;
    v_overage_id uuid;
begin
    if _claim_overage.counted_until <= v_period.counted_from then
        return;
    end if;
    v_credits := billing._overage(
        v_period.account_id, v_period.counted_from, _claim_overage.counted_until, v_period.period_end
    );
    if v_credits = 0 then
        return;
    end if;
    select * into strict v_pack from billing.credit_packs
    where credit_packs.stripe_price_id = v_period.stripe_pack_price_id;
    v_quantity := billing._packs_for(v_pack, v_credits);
    insert into billing.overages (
        account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, stripe_pack_price_id, period_start,
        period_end, counted_from, counted_until, credits, quantity, amount, currency, claimed_at
    )
    select
        v_period.account_id, v_period.stripe_subscription_id, subscriptions.stripe_customer_id, v_period.stripe_price_id,
        v_pack.stripe_price_id, v_period.period_start, v_period.period_end, v_period.counted_from,
        _claim_overage.counted_until, v_credits, v_quantity,
        billing._price_of_packs(v_pack, v_quantity), v_pack.currency,
        billing.current_time()
    from billing.subscriptions
    where subscriptions.stripe_subscription_id = v_period.stripe_subscription_id
    returning overages.id into strict v_overage_id;
    perform billing._enqueue_jobs('overage', array[v_overage_id::text]);
end
$$;

-- Brings an account's overage up to date: ends the periods that are over, begins the next one, and sets how far spending may
-- go below zero. Locks the balance, so that later spends belong to the next period.
create function billing._judge_overage(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Lots that open until now repay debt as of then.
    v_balance billing.credit_balances := billing._lock_settled_balance(_judge_overage.account_id);
    v_now timestamptz := billing.current_time();
    v_time timestamptz := billing._time_of_account(_judge_overage.account_id, v_now);
    v_terms billing.overage_terms := billing._overage_terms(_judge_overage.account_id, v_time);
    v_is_new boolean := true;
    v_period billing.overage_periods;
    v_plan billing.plans;
    v_anchor timestamptz;
begin
    select * into v_period from billing.overage_periods where overage_periods.account_id = _judge_overage.account_id;
    if v_period.stripe_subscription_id is not null then
        if v_terms.stripe_price_id = v_period.stripe_price_id then
            v_period.stripe_pack_price_id := v_terms.stripe_pack_price_id;
        end if;
        select plans.* into v_plan from billing.plans where plans.stripe_price_id = v_period.stripe_price_id;
        select subscriptions.billing_cycle_anchor into v_anchor from billing.subscriptions
        where subscriptions.stripe_subscription_id = v_period.stripe_subscription_id;
        loop
            -- With another anchor the interrupted month ends where the new months begin.
            if v_period.period_end <> billing._overage_period_end(
                v_plan, v_anchor, v_period.period_end - interval '1 microsecond'
            ) then
                v_period.period_end := least(
                    v_period.period_end,
                    case when v_anchor > v_period.period_start and v_anchor < v_time then v_anchor else v_time end
                );
            end if;
            exit when v_period.period_end > v_time;
            perform billing._claim_overage(v_period, least(v_period.period_end, v_now));
            v_period.counted_from := greatest(v_period.counted_from, least(v_period.period_end, v_now));
            v_period.period_start := v_period.period_end;
            v_period.period_end := billing._overage_period_end(v_plan, v_anchor, v_period.period_end);
        end loop;
        v_is_new := not coalesce(
            v_terms.stripe_subscription_id = v_period.stripe_subscription_id
            and (
                v_terms.stripe_price_id = v_period.stripe_price_id
                or v_terms.stripe_pack_price_id = v_period.stripe_pack_price_id
            ), false
        );
        if v_is_new then
            v_period.period_end := v_time;
            perform billing._claim_overage(v_period, v_now);
        end if;
    end if;

    if v_terms.stripe_subscription_id is null then
        delete from billing.overage_periods where overage_periods.account_id = v_balance.account_id;
    else
        insert into billing.overage_periods as held (
            account_id, judge_at, stripe_subscription_id, stripe_price_id, stripe_pack_price_id, counted_from,
            period_start, period_end
        )
        values (
            v_balance.account_id, v_terms.period_end, v_terms.stripe_subscription_id, v_terms.stripe_price_id,
            v_terms.stripe_pack_price_id,
            case when v_is_new then v_now else v_period.counted_from end,
            case when v_is_new then v_time else v_period.period_start end, v_terms.period_end
        )
        on conflict on constraint overage_periods_pkey do update
        set judge_at = excluded.judge_at, stripe_subscription_id = excluded.stripe_subscription_id,
            stripe_price_id = excluded.stripe_price_id, stripe_pack_price_id = excluded.stripe_pack_price_id,
            counted_from = excluded.counted_from, period_start = excluded.period_start,
            period_end = excluded.period_end
        where held is distinct from excluded;
    end if;
    update billing.credit_balances set overage_limit = coalesce(v_terms.overage_limit, 0)
    where credit_balances.account_id = v_balance.account_id
        and credit_balances.overage_limit <> coalesce(v_terms.overage_limit, 0);
end
$$;

revoke all on function
    billing._overage, billing.account_overage_discrepancies, billing._overage_period_end, billing._overage_pack, billing._packs_for, billing._price_of_packs,
    billing._overage_terms,
    billing._claim_overage, billing._judge_overage
from public, anon, authenticated, service_role;
grant execute on function billing.account_overage_discrepancies(uuid) to service_role;

comment on function billing.account_overage_discrepancies(uuid) is 'Overages of an account that are not what its ledger says, or bill a spend twice. Part of ledger_discrepancies.';
