-- The outcome of a recharge: paid, failed, or waiting for the customer or the bank.
--
-- Invariant: a recharge's pack is granted once (recharge:{payment intent}), by Stripe's answer or by its event, whichever
-- comes first. A payment that succeeded is granted whatever the recharge's status was. A failure pauses the settings and
-- notifies once.
--
-- Called by billing_worker. Locks: the account's balance first.

-- The caller holds the locks of balance and recharge.
create function billing._pay_recharge(recharge billing.recharges, stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges := _pay_recharge.recharge;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
begin
    update billing.recharges
    set status = 'paid', stripe_payment_intent_id = _pay_recharge.stripe_payment_intent_id, reason = null,
        is_final = false, action_url = null, settled_at = billing.current_time(),
        updated_at = now()
    where recharges.id = v_recharge.id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_recharge.stripe_price_id;
    v_purchase.business_key := 'recharge:' || _pay_recharge.stripe_payment_intent_id;
    v_purchase.account_id := v_recharge.account_id;
    v_purchase.source := 'stripe.recharge';
    v_purchase.reference_id := v_recharge.id::text;
    v_purchase.description := billing._pack_name(v_pack);
    v_purchase.credits := v_recharge.credits;
    v_purchase.price := v_recharge.amount;
    v_purchase.stripe_price_id := v_recharge.stripe_price_id;
    v_purchase.stripe_payment_intent_id := _pay_recharge.stripe_payment_intent_id;
    v_purchase.purchased_at := coalesce(
        billing._charged_at(_pay_recharge.stripe_payment_intent_id), billing.current_time()
    );
    v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
    perform billing._purchase(v_purchase);
    perform billing._apply_returns_of_payment(_pay_recharge.stripe_payment_intent_id, null);
    -- The customer authenticated the payment: the settings that this recharge paused are resumed.
    update billing.recharge_settings set is_paused = false, paused_reason = null, paused_at = null, updated_at = now()
    where recharge_settings.account_id = v_recharge.account_id and recharge_settings.is_paused
        and recharge_settings.paused_reason = v_recharge.reason;
    perform billing._arm_recharge(v_recharge.account_id);
end
$$;

-- Pauses the settings and notifies once. The caller holds the locks of balance and recharge.
create function billing._stop_recharge(recharge billing.recharges, audience text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges := _stop_recharge.recharge;
    v_kind text := case v_recharge.status when 'requires_action' then 'recharge_requires_action' else 'recharge_failed' end;
begin
    update billing.recharges
    set status = v_recharge.status, reason = v_recharge.reason, is_final = v_recharge.is_final,
        stripe_payment_intent_id = v_recharge.stripe_payment_intent_id,
        stripe_payment_method_id = v_recharge.stripe_payment_method_id, action_url = v_recharge.action_url,
        settled_at = case when v_recharge.status = 'failed' then billing.current_time() end,
        updated_at = now()
    where recharges.id = v_recharge.id;
    perform billing._pause_recharge(v_recharge.account_id, v_recharge.reason);
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_recharge.account_id, _stop_recharge.audience, v_kind, format('%s:%s', v_kind, v_recharge.id),
        jsonb_build_object(
            'recharge_id', v_recharge.id, 'reason', v_recharge.reason, 'amount', v_recharge.amount,
            'currency', v_recharge.currency, 'credits', v_recharge.credits, 'url', v_recharge.action_url,
            'stripe_payment_intent_id', v_recharge.stripe_payment_intent_id
        )
    )
    on conflict (dedupe_key) do nothing;
end
$$;

-- The recharge, with its lock and its account's. TB054 if there is none.
create function billing._lock_recharge(recharge_id uuid)
returns billing.recharges
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges;
begin
    select * into v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id;
    if not found then
        raise exception 'there is no recharge %', coalesce(_lock_recharge.recharge_id::text, 'null')
            using errcode = 'TB054', hint = 'Pass the id of a row of billing.recharges.';
    end if;
    perform billing._lock_balance(v_recharge.account_id);
    select * into strict v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id for update;
    return v_recharge;
end
$$;

-- If a transaction of the app holds the account, this raises 55P03 and is repeated later, so that the worker does not wait.
--
-- Records Stripe's answer. status: paid, failed, requires_action, or charging while the bank has not decided. Returns the
-- recharge's new status.
create function billing.record_recharge(
    msg_id bigint, recharge_id uuid, status text, stripe_payment_intent_id text, stripe_payment_method_id text, reason text,
    is_final boolean, action_url text, audience text
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_recharge billing.recharges := billing._lock_recharge(record_recharge.recharge_id);
begin
    -- An event reports the bank's decision. If that event is lost, the job asks Stripe again.
    perform billing._end_job(
        record_recharge.msg_id,
        case when record_recharge.status = 'charging' and v_recharge.status = 'charging' then 6 * 3600 end,
        'the bank takes its time'
    );
    if record_recharge.status = 'paid' and v_recharge.status <> 'paid' then
        perform billing._pay_recharge(v_recharge, record_recharge.stripe_payment_intent_id);
        return 'paid';
    elsif v_recharge.status <> 'charging' then
        return v_recharge.status;  -- an event was faster, or another worker
    elsif record_recharge.status = 'charging' then
        update billing.recharges
        set stripe_payment_intent_id = record_recharge.stripe_payment_intent_id,
            stripe_payment_method_id = record_recharge.stripe_payment_method_id, updated_at = now()
        where recharges.id = v_recharge.id;
        return 'charging';
    end if;
    v_recharge.status := record_recharge.status;
    v_recharge.reason := record_recharge.reason;
    v_recharge.is_final := record_recharge.is_final;
    v_recharge.action_url := record_recharge.action_url;
    v_recharge.stripe_payment_intent_id :=
        coalesce(record_recharge.stripe_payment_intent_id, v_recharge.stripe_payment_intent_id);
    v_recharge.stripe_payment_method_id := record_recharge.stripe_payment_method_id;
    perform billing._stop_recharge(v_recharge, record_recharge.audience);
    return v_recharge.status;
end
$$;

revoke all on function
    billing._pay_recharge, billing._stop_recharge, billing._lock_recharge, billing.record_recharge
from public, anon, authenticated, service_role;
grant execute on function billing.record_recharge(bigint, uuid, text, text, text, text, boolean, text, text) to billing_worker;

comment on function billing.record_recharge(bigint, uuid, text, text, text, text, boolean, text, text) is 'What became of a recharge at Stripe: paid (grants the pack once), failed or requires_action (pauses and tells once), charging (the bank takes its time). Returns its status.';
