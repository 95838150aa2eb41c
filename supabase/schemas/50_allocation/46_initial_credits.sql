-- Initial and trial credits: granted once for each account and product, with the first paid period or the trial.
--
-- Invariant: initial credits are those of the earliest paid period, whichever is reported first. Trial credits are
-- those of the plans with which the trial started, once for each trial whatever it changes to; they expire with it
-- unless the plan has trial_credits_end: keep. Private: called by _allocate_subscription.

-- Revokes the initial credits' share of an invoice's returned money, besides those of its months and packs.
create function billing._post_returned_initial(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
    v_key text;
    v_change bigint;
    v_lots bigint[];
begin
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.stripe_invoice_id = (_post_returned_initial.invoice).stripe_invoice_id
            and credit_grants.key_space = 'stripe' and credit_grants.idempotency_key ^@ 'initial:'
            and credit_grants.idempotency_key !~ '#'
        order by credit_grants.id
    loop
        v_key := v_lot.idempotency_key || ':returned';
        v_change := -coalesce((
            select sum(returned.credits) from billing._returned_credits(v_lot.stripe_invoice_id) as returned
            where returned.moment is null and returned.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
        ), 0) - billing._posted_credits(v_lot.account_id, v_key);
        if v_change < 0 then
            select array_agg(lots.id order by lots.id = v_lot.id desc, lots.id desc) into v_lots
            from billing.credit_grants as lots
            where lots.stripe_invoice_id = v_lot.stripe_invoice_id and lots.key_space = 'stripe'
                and not lots.idempotency_key ^@ 'free:';
            perform billing._take_back(
                v_lot.account_id, v_key, -v_change, v_lots,
                (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
            );
        elsif v_change > 0 then
            v_change := billing._give_back(v_lot.account_id, v_key, v_change);
            perform billing._give_less_reduced(v_lot.account_id, v_key, v_change) where v_change > 0;
        end if;
    end loop;
end
$$;

-- Initial credits of a paid line. If a later period was reported first, its lot moves to the earlier one and is
-- adjusted by the difference. What money of the later invoice took of the lot for other credits is taken of the rest of
-- that invoice.
create function billing._grant_initial(
    invoice billing.invoices, stripe_price_id text, stripe_subscription_item_id text, period_start timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _grant_initial.invoice;
    v_terms billing.credit_terms;
    v_plan billing.plans;
    v_key text;
    v_lot record;
    v_change bigint;
    v_taken billing.credit_revocations[];
    v_revocation billing.credit_revocations;
begin
    select billing._once_key('initial', v_invoice.account_id, plans.stripe_product_id) into strict v_key
    from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    select credit_grants.id, credit_grants.stripe_invoice_id into v_lot from billing.credit_grants
    where credit_grants.idempotency_key = v_key and credit_grants.key_space = 'stripe';
    select * into v_plan from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    v_terms := billing._terms_at(_grant_initial.stripe_price_id, _grant_initial.period_start);
    -- The earliest paid period was before settings.credits_since.
    if exists (
        select from billing.credit_schedules as past
        join billing.plans on plans.stripe_price_id = past.stripe_price_id
        where past.account_id = v_invoice.account_id and past.counts_from > '-infinity'
            and past.counts_from > past.period_start and past.period_start <= _grant_initial.period_start
            and not past.is_change and not past.gives_back
            and billing._once_key('initial', past.account_id, plans.stripe_product_id) = v_key
    ) then
        v_change := billing._posted_credits(v_invoice.account_id, v_key);
        if v_change > 0 then
            perform billing._take_back(
                v_invoice.account_id, v_key, v_change, array[v_lot.id], 'clamp_and_record',
                'An earlier paid period gives fewer initial credits'
            );
        end if;
        -- Nor can what was held of a later period be approved any more.
        update billing.held_credits
        set status = 'refused', reason = 'An earlier period was paid for before settings.credits_since',
            reviewed_by = 'till backfill', reviewed_at = billing.current_time(), updated_at = now()
        where held_credits.idempotency_key = v_key and held_credits.reviewed_at is null;
        return;
    end if;
    if v_lot.id is null or billing._is_held(v_key) then
        if v_terms.initial_credits > 0 then
            perform billing._grant_once(
                account_id => v_invoice.account_id,
                kind => 'initial',
                idempotency_key => v_key,
                amount => v_terms.initial_credits,
                source => 'stripe.subscription',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    elsif v_lot.stripe_invoice_id = v_invoice.stripe_invoice_id then
        return;
    end if;

    update billing.credit_grants
    set stripe_invoice_id = v_invoice.stripe_invoice_id,
        stripe_subscription_item_id = _grant_initial.stripe_subscription_item_id,
        stripe_price_id = v_plan.stripe_price_id,
        reference_id = v_invoice.stripe_subscription_id
    where credit_grants.id = v_lot.id;
    perform billing._thaw_lots(array[v_lot.id], 0);
    v_taken := array(
        select credit_revocations from billing.credit_revocations
        where credit_revocations.grant_id = v_lot.id
            and credit_revocations.business_key not in (v_key, v_key || ':returned')
            and billing._asked_back(credit_revocations) > 0
        order by credit_revocations.id desc
    );
    foreach v_revocation in array v_taken loop
        perform billing._restore_revoked(v_revocation, billing._asked_back(v_revocation));
    end loop;
    v_change := v_terms.initial_credits - billing._posted_credits(v_invoice.account_id, v_key);
    if v_change < 0 then
        perform billing._take_back(
            v_invoice.account_id, v_key, -v_change, array[v_lot.id], 'clamp_and_record',
            'An earlier paid period gives fewer initial credits'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_invoice.account_id, v_key, v_change);
    end if;
    if v_change > 0 then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_change,
            key_space => 'stripe',
            idempotency_key => billing._next_lot_key(v_key),
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    end if;
    -- Money returned of the later invoice no longer affects the lot.
    perform billing._post_returned_initial(v_invoice);
    foreach v_revocation in array v_taken loop
        perform billing._take_back(
            v_invoice.account_id, v_revocation.business_key, billing._asked_back(v_revocation), array(
                select lots.id from billing.credit_grants as lots
                where lots.id = any (billing._lots_of_invoice(v_lot.stripe_invoice_id))
                order by
                    lots.idempotency_key = v_revocation.business_key desc, lots.effective_at desc, lots.id desc
            ), v_revocation.shortfall_policy, v_revocation.reason
        );
    end loop;
    perform billing._freeze_contested(v_lot.stripe_invoice_id);
end
$$;

-- A trial need not have an invoice: its credits are granted with the subscription's state.
create function billing._grant_trial(subscription billing.subscriptions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions := _grant_trial.subscription;
    v_item billing.trial_items;
    v_plan billing.plans;
    v_terms billing.credit_terms;
    v_lot billing.credit_grants;
    v_keys text[] := '{}';
begin
    if v_subscription.trial_start < (select settings.credits_since from billing.settings) and not exists (
        select from billing.credit_grants
        where credit_grants.account_id = v_subscription.account_id and credit_grants.source = 'stripe.trial'
            and credit_grants.reference_id = v_subscription.stripe_subscription_id
    ) then
        return;
    end if;
    for v_item in
        select trial_items.* from billing.trial_items
        where trial_items.stripe_subscription_id = v_subscription.stripe_subscription_id
            and trial_items.seen_at = (
                select min(others.seen_at) from billing.trial_items as others
                where others.stripe_subscription_id = v_subscription.stripe_subscription_id
            )
        order by trial_items.stripe_subscription_item_id, trial_items.stripe_price_id
    loop
        v_plan := billing._plan_of_line(v_subscription.stripe_subscription_id, v_item.stripe_price_id);
        v_terms := billing._terms_at(v_plan.stripe_price_id, v_item.seen_at);
        continue when coalesce(v_terms.trial_credits, 0) = 0;
        v_keys := v_keys || billing._once_key('trial', v_subscription.account_id, v_plan.stripe_product_id);
        -- A later trial was reported first: its lot moves to this one.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            effective_at = least(lots.effective_at, v_subscription.trial_start)
        from billing.subscriptions as later
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and later.stripe_subscription_id = lots.reference_id
            and later.stripe_subscription_id <> v_subscription.stripe_subscription_id
            and later.trial_start > v_subscription.trial_start;
        -- Or it was revoked, because the trial for which it was granted had started with another plan.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            expires_at = case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and billing._posted_credits(lots.account_id, lots.idempotency_key) = 0
        returning * into v_lot;
        if found then
            perform billing._give_back(
                v_lot.account_id, v_lot.idempotency_key, least(v_lot.amount, v_terms.trial_credits)
            );
            perform billing._remember_due(v_lot.account_id, v_lot.expires_at) where v_lot.expires_at is not null;
            continue;
        end if;
        perform billing._grant_once(
            account_id => v_subscription.account_id,
            kind => 'trial',
            idempotency_key => v_keys[cardinality(v_keys)],
            amount => v_terms.trial_credits,
            source => 'stripe.trial',
            reference_id => v_subscription.stripe_subscription_id,
            description => 'Trial credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => null,
            stripe_subscription_item_id => v_item.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id,
            effective_at => least(v_subscription.trial_start, billing.current_time()),
            expires_at => case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        );
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = v_subscription.account_id and credit_grants.source = 'stripe.trial'
            and credit_grants.reference_id = v_subscription.stripe_subscription_id
    loop
        if v_lot.idempotency_key <> all (v_keys) then
            -- The lot of a plan that the trial changed to: it was reported before the plan with which the trial
            -- started.
            if billing._posted_credits(v_lot.account_id, v_lot.idempotency_key) > 0 then
                perform billing._take_back(
                    v_lot.account_id, v_lot.idempotency_key, v_lot.amount, array[v_lot.id], 'clamp_and_record',
                    'The trial began with another plan'
                );
                perform billing._grant_trial(others) from billing.subscriptions as others
                where others.account_id = v_subscription.account_id and others.trial_end is not null
                    and others.stripe_subscription_id <> v_subscription.stripe_subscription_id;
            end if;
        elsif v_lot.expires_at <> v_subscription.trial_end and v_lot.closed_at is null
            and v_subscription.trial_end > v_lot.effective_at then
            -- The trial was extended or shortened.
            update billing.credit_grants set expires_at = v_subscription.trial_end where credit_grants.id = v_lot.id;
            perform billing._remember_due(v_lot.account_id, v_subscription.trial_end);
        end if;
    end loop;
end
$$;

revoke all on function
    billing._post_returned_initial, billing._grant_initial, billing._grant_trial
from public, anon, authenticated, service_role;
