-- Grants that somebody deleted together with their entries → the same grants in their old place.
--
-- Invariant: the balances of the later entries show that an entry is missing, and by how much; the facts say which grant of
-- that size was paid for. What was spent from it is known from the lineage. A grant that nothing paid for can't be restored.
-- Private: called by recalculate_account, which holds the balance's lock.

-- What the facts are worth and the ledger does not have, or has no grant of.
create function billing._missing_grants(account_id uuid)
returns table (
    business_key text, credits bigint, moment timestamptz, source text, reference_id text, description text,
    expires_at timestamptz, stripe_invoice_id text, stripe_subscription_item_id text, stripe_price_id text,
    stripe_checkout_session_id text, stripe_payment_intent_id text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with grants as (
        select
            worth.key as business_key, worth.credits, worth.moment, worth.source,
            worth.stripe_subscription_id as reference_id,
            billing._description_of_move(worth.source, billing._plan_name(plans)) as description, worth.expires_at,
            worth.stripe_invoice_id, worth.stripe_subscription_item_id, worth.stripe_price_id, null::text as session_id,
            null::text as intent_id
        from billing._worth(array(
            select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
            where credit_schedules.account_id = _missing_grants.account_id
        ), '-infinity', billing._time_of_account(_missing_grants.account_id)) as worth
        join billing.plans on plans.stripe_price_id = worth.stripe_price_id
        where not worth.is_waiting
        union all
        select
            purchases.business_key, purchases.credits - billing._returned_of_purchase(purchases),
            purchases.purchased_at, purchases.source, purchases.reference_id, purchases.description,
            purchases.expires_at, purchases.stripe_invoice_id, null, purchases.stripe_price_id,
            purchases.stripe_checkout_session_id, purchases.stripe_payment_intent_id
        from billing.pack_purchases as purchases
        where purchases.account_id = _missing_grants.account_id
        union all
        select
            initial.key, (billing._terms_at(initial.stripe_price_id, initial.period_start)).initial_credits,
            initial.period_start, 'stripe.subscription', initial.stripe_subscription_id,
            'Initial subscription credits for ' || initial.plan_name, null, initial.stripe_invoice_id,
            initial.stripe_subscription_item_id, initial.stripe_price_id, null, null
        from (
            select distinct on (1)
                billing._once_key('initial', schedules.account_id, plans.stripe_product_id) as key,
                billing._plan_name(plans) as plan_name, schedules.*
            from billing.credit_schedules as schedules
            join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
            where schedules.account_id = _missing_grants.account_id
                and not schedules.is_change and not schedules.gives_back
            order by 1, schedules.period_start
        ) as initial
        where initial.counts_from <= initial.period_start
        union all
        select
            billing._free_key(slots.rule, slots.account_id, slots.granted_for), slots.granted, free.granted_at, 'free',
            slots.rule, rules.description, billing._free_expiry(rules, slots.granted_for, free.granted_at),
            null, null, null, null, null
        from billing.free_credit_slots as slots
        join billing.free_credits as rules on rules.name = slots.rule
        join billing.accounts on accounts.id = slots.account_id
        cross join lateral (select greatest(slots.granted_for, accounts.created_at) as granted_at) as free
        where slots.account_id = _missing_grants.account_id and slots.granted_for is not null
            and not billing._is_held(billing._free_key(slots.rule, slots.account_id, slots.granted_for))
    )
    select
        grants.business_key, grants.credits - posted.credits, grants.moment, grants.source, grants.reference_id,
        grants.description, grants.expires_at, grants.stripe_invoice_id, grants.stripe_subscription_item_id,
        grants.stripe_price_id, grants.session_id, grants.intent_id
    from grants
    cross join lateral (
        select billing._posted_credits(_missing_grants.account_id, grants.business_key) as credits
    ) as posted
    where grants.credits > posted.credits or not exists (
        select from billing.credit_grants as lots
        where lots.key_space = 'stripe' and lots.idempotency_key = grants.business_key
    );
end
$$;

create function billing._restore_grants(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := _restore_grants.account_id;
    v_balance billing.credit_balances;
    v_gap record;
    v_grant record;
    v_entry_id bigint;
    v_taken record;
    v_lot billing.credit_grants;
begin
    for v_gap in
        select chain.id, chain.previous_id, chain.balance_before, chain.occurred_at, chain.missing
        from (
            select
                entries.id, entries.occurred_at, lag(entries.id, 1, 0::bigint) over earlier as previous_id,
                lag(entries.balance_after, 1, 0::bigint) over earlier as balance_before,
                entries.balance_after - entries.amount - lag(entries.balance_after, 1, 0::bigint) over earlier as missing
            from billing.credit_entries as entries
            where entries.account_id = v_account_id
            window earlier as (order by entries.id)
        ) as chain
        where chain.missing > 0
        order by chain.id
    loop
        select * into v_grant from billing._missing_grants(v_account_id) as missing
        -- It may be worth less since, because money was returned: the rest is then taken back.
        where missing.credits <= v_gap.missing
        order by missing.credits desc, missing.moment, missing.business_key
        limit 1;
        continue when not found;
        -- The id that the entry had is free, whatever other accounts have around it.
        select free.id into v_entry_id
        from generate_series(v_gap.id - 1, v_gap.previous_id + 1, -1) as free (id)
        where not exists (select from billing.credit_entries where credit_entries.id = free.id)
        limit 1;
        select consumptions.grant_id, sum(consumptions.amount)::bigint as credits into v_taken
        from billing.credit_consumptions as consumptions
        join billing.credit_entries as entries on entries.id = consumptions.entry_id
        where entries.account_id = v_account_id
            and not exists (select from billing.credit_grants where credit_grants.id = consumptions.grant_id)
        group by consumptions.grant_id
        having sum(consumptions.amount) <= v_gap.missing
        order by consumptions.grant_id
        limit 1;

        v_lot := billing._lot(
            account_id => v_account_id, entry_id => v_entry_id, amount => v_gap.missing,
            effective_at => v_grant.moment, source => v_grant.source, reference_id => v_grant.reference_id,
            key_space => 'stripe', idempotency_key => billing._next_lot_key(v_grant.business_key),
            description => v_grant.description, expires_at => v_grant.expires_at,
            stripe_invoice_id => v_grant.stripe_invoice_id,
            stripe_subscription_item_id => v_grant.stripe_subscription_item_id,
            stripe_price_id => v_grant.stripe_price_id,
            stripe_checkout_session_id => v_grant.stripe_checkout_session_id,
            stripe_payment_intent_id => v_grant.stripe_payment_intent_id,
            id => coalesce(v_taken.grant_id, nextval('billing.credit_grants_id_seq'))
        );
        v_lot.remaining := v_gap.missing - coalesce(v_taken.credits, 0);
        select * into strict v_balance from billing.credit_balances where credit_balances.account_id = v_account_id;
        perform billing._write_entries(
            array[v_balance],
            array[billing._entry(
                id => v_entry_id, account_id => v_account_id, kind => 'grant', amount => v_gap.missing,
                balance_after => v_gap.balance_before + v_gap.missing, source => v_grant.source,
                reference_id => v_grant.reference_id, description => v_grant.description, key_space => 'stripe',
                idempotency_key => v_lot.idempotency_key, occurred_at => v_gap.occurred_at
            )],
            array[v_lot], '{}'
        );
        if v_lot.remaining = 0 then
            update billing.credit_grants set closed_at = v_gap.occurred_at where credit_grants.id = v_lot.id;
        end if;
    end loop;
end
$$;

revoke all on function billing._missing_grants, billing._restore_grants from public, anon, authenticated, service_role;
