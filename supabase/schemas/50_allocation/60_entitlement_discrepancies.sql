-- Checks that credits follow money: differences between what was paid for and what the ledger has.
--
-- Invariant: the view is empty when all is well. It compares the recorded paid time with the lines of paid invoices, calculates
-- again what every subscription and purchase is worth, and compares that by key with what was granted, carried and revoked. A row
-- names account, key and figures.
--
--   paid_and_not_granted       a month, a change or a pack that was paid for but not granted
--   granted_and_not_paid       credits of a subscription or a pack beyond what was paid for
--   returned_and_not_taken     credits that were not revoked although their payment was returned
--   paid_time_is_not_recorded  a line of a paid invoice with credits but without its period of time
--   recorded_and_not_paid      a period of time without a matching paid line, or not as its invoice and its
--                              subscription say
--   free_and_not_granted       free credits of the running period that were not granted, and are not about to be
--   granted_and_not_free       free credits that no rule granted
--   carried_is_not_the_rest    the balance's carried credits are not the sum of carried_credits
--
-- service_role reads the view and the functions for one account; billing_worker may call check_account too.

-- The worth of an account's keys: of its subscriptions up to now, and of its packs.
create function billing._worth_of_account(account_id uuid)
returns table (
    business_key text, credits bigint, returned bigint, is_waiting boolean, stripe_invoice_id text, expires_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_ids text[] := array(
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.account_id = _worth_of_account.account_id
    );
begin
    return query
    select worth.key, worth.credits, worth.returned, worth.is_waiting, worth.stripe_invoice_id, worth.expires_at
    from billing._worth(
        v_subscription_ids, '-infinity', billing._time_of_account(_worth_of_account.account_id)
    ) as worth
    union all
    select
        purchases.business_key, purchases.credits - billing._returned_of_purchase(purchases),
        billing._returned_of_purchase(purchases), false, purchases.stripe_invoice_id, purchases.expires_at
    from billing.pack_purchases as purchases
    where purchases.account_id = _worth_of_account.account_id;
end
$$;

-- The discrepancies of one account's credits.
create function billing.account_discrepancies(account_id uuid)
returns table (account_id_of uuid, invariant text, business_key text, expected bigint, found bigint, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nothing can be granted to a closed account, or revoked from it.
    if exists (
        select from billing.accounts
        where accounts.id = account_discrepancies.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    return query
    with worth as materialized (
        select * from billing._worth_of_account(account_discrepancies.account_id)
    ),
    posted as materialized (
        select keys.business_key, billing._posted_credits(account_discrepancies.account_id, keys.business_key) as credits
        from (
            select worth.business_key from worth
            union
            select split_part(lots.idempotency_key, '#', 1) from billing.credit_grants as lots
            where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
                and lots.source in ('stripe.monthly_allocation', 'stripe.proration', 'stripe.pack', 'stripe.recharge')
        ) as keys
    )
    select
        account_discrepancies.account_id,
        case
            when posted.credits < coalesce(worth.credits, 0) then 'paid_and_not_granted'
            when worth.returned > 0 then 'returned_and_not_taken'
            else 'granted_and_not_paid'
        end,
        posted.business_key, coalesce(worth.credits, 0), posted.credits,
        format('%s: worth %s, posted %s', posted.business_key, coalesce(worth.credits, 0), posted.credits)
    from posted
    left join worth on worth.business_key = posted.business_key
    where posted.credits <> coalesce(worth.credits, 0)
        and not (coalesce(worth.is_waiting, false) and posted.credits = 0)
        -- The clock is about to grant it.
        and not (posted.credits < worth.credits and exists (
            select from billing.credit_schedules
            where credit_schedules.account_id = account_discrepancies.account_id
                and credit_schedules.next_slot_at <= billing.current_time()
                and credit_schedules.disarmed_reason is null
        ));

    -- Initial credits: those of a paid invoice, minus what was returned of it.
    return query
    select
        account_discrepancies.account_id,
        case
            when invoices.status is distinct from 'paid' then 'granted_and_not_paid'
            when initial.posted > -initial.returned then 'returned_and_not_taken'
            else 'paid_and_not_granted'
        end,
        initial.idempotency_key, initial.amount - initial.returned, initial.amount + initial.posted,
        format(
            '%s: granted %s by %s, of which %s was returned and %s taken back', initial.idempotency_key, initial.amount,
            coalesce(initial.stripe_invoice_id, 'no invoice'), initial.returned, -initial.posted
        )
    from (
        select
            lots.idempotency_key::text, lots.amount, lots.stripe_invoice_id,
            billing._posted_credits(lots.account_id, lots.idempotency_key || ':returned') as posted,
            coalesce((
                select sum(returned.credits) from billing._returned_credits(lots.stripe_invoice_id) as returned
                where returned.moment is null
                    and returned.stripe_subscription_item_id = lots.stripe_subscription_item_id
            ), 0)::bigint as returned
        from billing.credit_grants as lots
        where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:' and lots.idempotency_key !~ '#'
    ) as initial
    left join billing.invoices on invoices.stripe_invoice_id = initial.stripe_invoice_id
    where invoices.status is distinct from 'paid' or initial.posted <> -initial.returned;

    return query
    select
        account_discrepancies.account_id, free.invariant, free.business_key, free.expected, free.found,
        format('%s: expected %s, granted %s', free.business_key, free.expected, free.found)
    from billing._free_credit_discrepancies(account_discrepancies.account_id) as free;

    return query
    select
        account_discrepancies.account_id, 'carried_is_not_the_rest', null::text,
        coalesce(-sum(carried_credits.amount), 0)::bigint, max(balances.carried),
        format('carried %s, rows say %s', max(balances.carried), coalesce(-sum(carried_credits.amount), 0))
    from billing.credit_balances as balances
    left join billing.carried_credits on carried_credits.account_id = balances.account_id
    where balances.account_id = account_discrepancies.account_id
    group by balances.account_id
    having max(balances.carried) <> coalesce(-sum(carried_credits.amount), 0);

    return query
    select
        account_discrepancies.account_id, 'paid_time_is_not_recorded', lines.stripe_line_id, lines.amount, null::bigint,
        format('line %s of %s is paid for and recorded nowhere', lines.stripe_line_id, lines.stripe_invoice_id)
    from billing.invoices
    join billing.invoice_lines as lines on lines.stripe_invoice_id = invoices.stripe_invoice_id
    left join billing.subscriptions on subscriptions.stripe_subscription_id = coalesce(
        lines.stripe_subscription_id, invoices.stripe_subscription_id
    )
    where invoices.account_id = account_discrepancies.account_id and invoices.status = 'paid'
        and lines.stripe_subscription_item_id is not null and lines.period_end > lines.period_start
        and not lines.is_waiting and coalesce(lines.quantity, 1) > 0
        and (lines.is_proration or invoices.billing_reason in (
            'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
        ))
        and exists (
            select from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.initial_credits + credit_terms.monthly_credits > 0
                and credit_terms.valid_from <= invoices.created_at
        )
        and not (
            lines.amount = 0 and coalesce(
                lines.period_start >= subscriptions.trial_start and lines.period_start < subscriptions.trial_end, false
            )
        )
        and not exists (
            select from billing.credit_schedules as schedules
            where schedules.stripe_line_id = lines.stripe_line_id
                -- Another invoice paid for the same period of the item.
                or schedules.stripe_subscription_item_id = lines.stripe_subscription_item_id
                and schedules.stripe_subscription_id = coalesce(lines.stripe_subscription_id, invoices.stripe_subscription_id)
                and schedules.period_start = lines.period_start and schedules.period_end = lines.period_end
                and not lines.is_proration
        );

    return query
    select
        account_discrepancies.account_id, 'recorded_and_not_paid', schedules.stripe_line_id, lines.quantity,
        schedules.quantity,
        format(
            '%s of %s is not as its line, invoice and subscription say', schedules.stripe_line_id,
            schedules.stripe_invoice_id
        )
    from billing.credit_schedules as schedules
    left join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
    left join billing.invoices on invoices.stripe_invoice_id = lines.stripe_invoice_id
    left join billing.plans on plans.stripe_price_id = lines.stripe_price_id
    left join billing.subscriptions on subscriptions.stripe_subscription_id = schedules.stripe_subscription_id
    where schedules.account_id = account_discrepancies.account_id
        and (
            invoices.status is distinct from 'paid' or invoices.account_id is distinct from schedules.account_id
            or invoices.amount_returned + invoices.amount_contested > 0 and not schedules.has_returns
            or not schedules.gives_back and schedules.anchor <> billing._anchor_of_period(
                plans, coalesce(subscriptions.anchors, '{}'), schedules.period_start, schedules.period_end
            )
            or (
                lines.stripe_price_id, lines.period_start, lines.period_end,
                case
                    when schedules.gives_back and schedules.is_change
                        then billing._seats_given_back(billing._seats(plans, lines.quantity), lines.credited_line_ids)
                    else billing._seats(plans, lines.quantity)
                end
            ) is distinct from (
                schedules.stripe_price_id, schedules.period_start, schedules.period_end, schedules.quantity
            )
        );
end
$$;

create view billing.entitlement_discrepancies with (security_invoker = on) as
select
    accounts.id as account_id, discrepancies.invariant, discrepancies.business_key, discrepancies.expected,
    discrepancies.found, discrepancies.detail
from billing.accounts
cross join lateral billing.account_discrepancies(accounts.id) as discrepancies;

revoke all on billing.entitlement_discrepancies from public, anon, authenticated, service_role;
grant select on billing.entitlement_discrepancies to service_role;

-- All checks of one account, at its own time.
create function billing.check_account(account_id uuid)
returns table (invariant text, business_key text, expected bigint, found bigint, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        discrepancies.invariant, discrepancies.business_key, discrepancies.expected, discrepancies.found,
        discrepancies.detail
    from billing.account_discrepancies(check_account.account_id) as discrepancies
    union all
    select ledger.invariant, null, null::bigint, null::bigint, ledger.detail
    from billing.account_ledger_discrepancies(check_account.account_id) as ledger
    union all
    select work.invariant, null, null::bigint, null::bigint, work.detail
    from billing.account_work_discrepancies(check_account.account_id) as work;
end
$$;

revoke all on function
    billing._worth_of_account, billing.account_discrepancies, billing.check_account
from public, anon, authenticated, service_role;
grant execute on function billing.account_discrepancies(uuid) to service_role;
grant execute on function billing.check_account(uuid) to service_role, billing_worker;

comment on view billing.entitlement_discrepancies is 'Credits that were paid for but not granted, granted but not paid for, refunded but not revoked: account, key, figures. Empty when all is well.';
comment on function billing.account_discrepancies(uuid) is 'The rows of entitlement_discrepancies of one account.';
comment on function billing.check_account(uuid) is 'Rows of ledger_discrepancies and entitlement_discrepancies for one account. Empty when all is well.';
