-- Subscriptions from Stripe → their rows here.
--
-- Invariant: of two states the newer wins. A final status, or a fact that a newer state cannot undo, is replaced only
-- by Stripe's own answer (is_fetched), never by an event. An answer is always stored, so that reading from Stripe ends.
--
-- sync_subscription is called by billing_worker.

-- True if a state with a newer time contradicts what is already known: Stripe may report an older state again in a new
-- event. Checks only values that move in one direction, so ordinary events need no read from Stripe. If a change is
-- allowed but rare (a trial for an active subscription, a shorter period), the read is harmless. Volatile: it must see
-- the items that were committed while the upsert waited for the row.
create function billing._is_a_step_back(held billing.subscriptions, offered billing.subscriptions, items jsonb)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.subscriptions := _is_a_step_back.held;
    v_offered billing.subscriptions := _is_a_step_back.offered;
begin
    if v_offered.ended_at is not null then
        return false;  -- an end is final
    end if;
    if coalesce(
        v_held.ended_at is not null
        or v_offered.status in ('incomplete', 'incomplete_expired')
            and v_held.status not in ('incomplete', 'incomplete_expired')
        or v_offered.status = 'trialing' and v_held.status not in ('incomplete', 'trialing')
        or coalesce(v_offered.trial_start, '-infinity') < v_held.trial_start
        or coalesce(v_offered.trial_end, '-infinity') < v_held.trial_end
            and (v_offered.trial_end is null or v_offered.status = 'trialing')
        -- A cancellation at a time when there was none, or earlier than the one that is known.
        or v_offered.canceled_at < coalesce(v_held.canceled_at, v_held.as_of)
        or v_offered.billing_cycle_anchor < v_held.billing_cycle_anchor
            and v_offered.trial_end is not distinct from v_held.trial_end,
        false
    ) then
        return true;
    elsif v_offered.billing_cycle_anchor <> v_held.billing_cycle_anchor then
        return false;
    end if;
    return coalesce((
        select min((item ->> 'current_period_end')::timestamptz) from jsonb_array_elements(_is_a_step_back.items) as item
    ) < (
        select min(subscription_items.current_period_end) from billing.subscription_items
        where subscription_items.stripe_subscription_id = v_held.stripe_subscription_id
    ), false);
end
$$;

create function billing._record_trial(stripe_subscription_id text, items jsonb, as_of timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.trial_items as held (
        stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, seen_at
    )
    select
        _record_trial.stripe_subscription_id, item.stripe_subscription_item_id, item.stripe_price_id, _record_trial.as_of
    from jsonb_to_recordset(_record_trial.items) as item (stripe_subscription_item_id text, stripe_price_id text)
    on conflict on constraint trial_items_pkey do update set seen_at = excluded.seen_at
    where held.seen_at > excluded.seen_at;
end
$$;

-- False if credits have nothing to learn from a newer state: it differs only in what no rule of credits reads, and no month
-- is due. Whatever is not named here may change credits.
create function billing._may_change_credits(held billing.subscriptions, newer billing.subscriptions)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.subscriptions := _may_change_credits.held;
begin
    v_held.as_of := (_may_change_credits.newer).as_of;
    v_held.updated_at := (_may_change_credits.newer).updated_at;
    v_held.metadata := (_may_change_credits.newer).metadata;
    v_held.cancel_at := (_may_change_credits.newer).cancel_at;
    v_held.cancel_at_period_end := (_may_change_credits.newer).cancel_at_period_end;
    return v_held is distinct from _may_change_credits.newer
        -- Items say with which plans a trial began, and how much overage is allowed.
        or v_held.status = 'trialing'
        or exists (select from billing.plans where plans.overage_limit > 0)
        or exists (
            select from billing.credit_schedules
            where credit_schedules.stripe_subscription_id = v_held.stripe_subscription_id
                and credit_schedules.next_slot_at <= billing.current_time()
                and credit_schedules.disarmed_reason is null
        );
end
$$;

-- An older state still reports the anchor that the subscription had, and the plans of its trial.
create function billing._record_older_state(
    stripe_subscription_id text, billing_cycle_anchor timestamptz, status text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.subscriptions
    set anchors = subscriptions.anchors || _record_older_state.billing_cycle_anchor
    where subscriptions.stripe_subscription_id = _record_older_state.stripe_subscription_id
        and _record_older_state.billing_cycle_anchor <> all (subscriptions.anchors);
    if found or _record_older_state.status = 'trialing' then
        perform billing._allocate_subscription(_record_older_state.stripe_subscription_id, has_new_anchor => found);
    end if;
end
$$;

create function billing.sync_subscription(
    stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text,
    billing_cycle_anchor timestamptz, cancel_at timestamptz, cancel_at_period_end boolean, canceled_at timestamptz,
    ended_at timestamptz, trial_start timestamptz, trial_end timestamptz, is_collection_paused boolean,
    metadata jsonb, started_at timestamptz, stripe_test_clock_id text, items jsonb, as_of timestamptz, is_fetched boolean
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.subscriptions;
    v_subscription billing.subscriptions;
begin
    if sync_subscription.status = 'trialing' then
        perform billing._record_trial(
            sync_subscription.stripe_subscription_id, sync_subscription.items, sync_subscription.as_of
        );
    end if;
    loop
        select * into v_held from billing.subscriptions
        where subscriptions.stripe_subscription_id = sync_subscription.stripe_subscription_id
        for update;
        v_subscription := v_held;
        v_subscription.status := sync_subscription.status;
        v_subscription.currency := sync_subscription.currency;
        v_subscription.billing_cycle_anchor := sync_subscription.billing_cycle_anchor;
        if sync_subscription.billing_cycle_anchor = any (v_held.anchors) is not true then
            v_subscription.anchors := v_held.anchors || sync_subscription.billing_cycle_anchor;
        end if;
        v_subscription.cancel_at := sync_subscription.cancel_at;
        v_subscription.cancel_at_period_end := sync_subscription.cancel_at_period_end;
        v_subscription.canceled_at := sync_subscription.canceled_at;
        v_subscription.ended_at := sync_subscription.ended_at;
        v_subscription.trial_start := sync_subscription.trial_start;
        v_subscription.trial_end := sync_subscription.trial_end;
        v_subscription.is_collection_paused := sync_subscription.is_collection_paused;
        v_subscription.metadata := sync_subscription.metadata;
        v_subscription.as_of := sync_subscription.as_of;
        v_subscription.updated_at := now();
        exit when v_held.stripe_subscription_id is not null;

        v_subscription.stripe_subscription_id := sync_subscription.stripe_subscription_id;
        v_subscription.stripe_customer_id := sync_subscription.stripe_customer_id;
        v_subscription.account_id
            := billing._account_of_customer(sync_subscription.stripe_customer_id, sync_subscription.livemode);
        v_subscription.livemode := sync_subscription.livemode;
        v_subscription.started_at := sync_subscription.started_at;
        v_subscription.stripe_test_clock_id := sync_subscription.stripe_test_clock_id;
        v_subscription.created_at := now();
        insert into billing.subscriptions values (v_subscription.*) on conflict do nothing;
        exit when found;
    end loop;

    if v_held.stripe_subscription_id is not null then
        if v_held.as_of >= v_subscription.as_of
            or not sync_subscription.is_fetched and (
                v_held.status in ('canceled', 'incomplete_expired') and v_held.status <> v_subscription.status
                or billing._is_a_step_back(v_held, v_subscription, sync_subscription.items)
            ) then
            perform billing._record_older_state(
                v_held.stripe_subscription_id, v_subscription.billing_cycle_anchor, v_subscription.status
            );
            return billing._refused(v_held.as_of, v_subscription.as_of);
        end if;
        update billing.subscriptions
        set status = v_subscription.status,
            currency = v_subscription.currency,
            billing_cycle_anchor = v_subscription.billing_cycle_anchor,
            anchors = v_subscription.anchors,
            cancel_at = v_subscription.cancel_at,
            cancel_at_period_end = v_subscription.cancel_at_period_end,
            canceled_at = v_subscription.canceled_at,
            ended_at = v_subscription.ended_at,
            trial_start = v_subscription.trial_start,
            trial_end = v_subscription.trial_end,
            is_collection_paused = v_subscription.is_collection_paused,
            metadata = v_subscription.metadata,
            as_of = v_subscription.as_of,
            updated_at = v_subscription.updated_at
        where subscriptions.stripe_subscription_id = v_subscription.stripe_subscription_id;
    end if;

    with reported as (
        insert into billing.subscription_items (
            stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, stripe_product_id, quantity,
            current_period_start, current_period_end
        )
        select
            item.stripe_subscription_item_id, sync_subscription.stripe_subscription_id, item.stripe_price_id,
            item.stripe_product_id, item.quantity, item.current_period_start, item.current_period_end
        from jsonb_to_recordset(sync_subscription.items) as item (
            stripe_subscription_item_id text, stripe_price_id text, stripe_product_id text, quantity bigint,
            current_period_start timestamptz, current_period_end timestamptz
        )
        on conflict on constraint subscription_items_pkey do update
        set stripe_price_id = excluded.stripe_price_id,
            stripe_product_id = excluded.stripe_product_id,
            quantity = excluded.quantity,
            current_period_start = excluded.current_period_start,
            current_period_end = excluded.current_period_end,
            updated_at = now()
        returning stripe_subscription_item_id
    )
    delete from billing.subscription_items
    where subscription_items.stripe_subscription_id = sync_subscription.stripe_subscription_id
        and not exists (
            select from reported
            where reported.stripe_subscription_item_id = subscription_items.stripe_subscription_item_id
        );
    if billing._may_change_credits(v_held, v_subscription) then
        perform billing._allocate_subscription(
            v_subscription.stripe_subscription_id, has_new_anchor => v_subscription.anchors is distinct from v_held.anchors
        );
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._is_a_step_back, billing._record_trial, billing._may_change_credits, billing._record_older_state,
    billing.sync_subscription
from public, anon, authenticated, service_role;
grant execute on function billing.sync_subscription(
    text, text, boolean, text, text, timestamptz, timestamptz, boolean, timestamptz, timestamptz, timestamptz,
    timestamptz, boolean, jsonb, timestamptz, text, jsonb, timestamptz, boolean
) to billing_worker;

comment on function billing.sync_subscription(
    text, text, boolean, text, text, timestamptz, timestamptz, boolean, timestamptz, timestamptz, timestamptz,
    timestamptz, boolean, jsonb, timestamptz, text, jsonb, timestamptz, boolean
) is 'Stores the state of a Stripe subscription at a point in time. Returns applied, stale or refetch.';
