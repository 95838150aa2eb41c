-- Payment intents from Stripe → the recharges that they pay for, and sessions that are paid after their completion.
--
-- Invariant: an intent of a recharge grants its pack once (recharge:{payment intent}), however many events report it and
-- whatever answer the worker received. An intent belongs to a recharge by its id, or by the recharge's id in its metadata if
-- customer, amount and currency are the recharge's too, because metadata can be forged. Other intents are ignored. Called
-- by billing_worker.

create function billing.sync_payment_intent(
    stripe_payment_intent_id text, stripe_customer_id text, stripe_charge_id text, stripe_payment_method_id text,
    livemode boolean, status text, currency text, amount bigint, amount_received bigint, failure_code text,
    metadata jsonb, created_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges;
    v_is_known boolean;
begin
    select * into v_recharge from billing.recharges
    where recharges.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id;
    if not found then
        -- Stripe's event can arrive before its answer, or the answer is lost. Customer, amount and currency must be equal.
        select * into v_recharge from billing.recharges
        where recharges.idempotency_key = sync_payment_intent.metadata ->> 'recharge_id';
    end if;
    if v_recharge.id is null then
        perform billing._pay_session(sync_payment_intent.stripe_payment_intent_id, sync_payment_intent.amount_received)
        where sync_payment_intent.status = 'succeeded' and sync_payment_intent.amount_received > 0;
        return 'applied';
    end if;
    v_recharge := billing._lock_recharge(v_recharge.id);
    v_is_known := coalesce(v_recharge.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id, false);
    if (v_recharge.stripe_customer_id, v_recharge.amount, v_recharge.currency) is distinct from
        (sync_payment_intent.stripe_customer_id, sync_payment_intent.amount, sync_payment_intent.currency)
        or v_recharge.stripe_payment_intent_id is not null and not v_is_known
        or v_recharge.status = 'paid'
    then
        return 'applied';
    end if;

    if sync_payment_intent.status = 'succeeded' then
        if sync_payment_intent.amount_received >= v_recharge.amount then
            perform billing._pay_recharge(v_recharge, sync_payment_intent.stripe_payment_intent_id);
        end if;
    -- The worker records an immediate decline itself, with the intent's id.
    elsif v_is_known and (
        sync_payment_intent.status = 'canceled' and v_recharge.status in ('charging', 'requires_action')
        or sync_payment_intent.status = 'requires_payment_method' and v_recharge.status = 'charging'
    ) then
        v_recharge.status := 'failed';
        v_recharge.reason := coalesce(sync_payment_intent.failure_code, sync_payment_intent.status);
        v_recharge.action_url := null;
        perform billing._stop_recharge(v_recharge, 'customer');
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_payment_intent from public, anon, authenticated, service_role;
grant execute on function billing.sync_payment_intent(
    text, text, text, text, boolean, text, text, bigint, bigint, text, jsonb, timestamptz, timestamptz
) to billing_worker;

comment on function billing.sync_payment_intent(text, text, text, text, boolean, text, text, bigint, bigint, text, jsonb, timestamptz, timestamptz) is 'A Stripe payment intent: where it is a recharge''s, what became of that. Always applied.';
