-- Charges and early fraud warnings from Stripe → their rows here, the cards that were charged, and a frozen account when
-- the risk is highest.
--
-- Invariant: a warning freezes an account once, when it first arrives (or its customer is linked): a replay does not
-- freeze an account that an administrator has opened again. Called by billing_worker.

create function billing.sync_payment(
    stripe_charge_id text, stripe_payment_intent_id text, stripe_customer_id text, livemode boolean, status text,
    currency text, amount bigint, amount_refunded bigint, is_disputed boolean, risk_level text, risk_score integer,
    card_fingerprint text, failure_code text, receipt_url text, charged_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_payment billing.payments;
    v_as_of timestamptz;
begin
    insert into billing.payments as held (
        stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id, livemode, status, currency,
        amount, amount_refunded, is_disputed, risk_level, risk_score, card_fingerprint, failure_code, receipt_url,
        charged_at, as_of
    )
    values (
        sync_payment.stripe_charge_id, sync_payment.stripe_payment_intent_id, sync_payment.stripe_customer_id,
        billing._account_of_customer(sync_payment.stripe_customer_id, sync_payment.livemode), sync_payment.livemode,
        sync_payment.status, sync_payment.currency, sync_payment.amount, sync_payment.amount_refunded,
        sync_payment.is_disputed, sync_payment.risk_level, sync_payment.risk_score, sync_payment.card_fingerprint,
        sync_payment.failure_code, sync_payment.receipt_url, sync_payment.charged_at, sync_payment.as_of
    )
    on conflict on constraint payments_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        amount_refunded = excluded.amount_refunded,
        is_disputed = excluded.is_disputed,
        risk_level = excluded.risk_level,
        risk_score = excluded.risk_score,
        card_fingerprint = excluded.card_fingerprint,
        failure_code = excluded.failure_code,
        receipt_url = excluded.receipt_url,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
    returning * into v_payment;

    if not found then
        select payments.as_of into strict v_as_of from billing.payments
        where payments.stripe_charge_id = sync_payment.stripe_charge_id;
        return billing._refused(v_as_of, sync_payment.as_of);
    end if;
    -- A card that was declined is nobody's: whoever stole its number may have tried it.
    if v_payment.card_fingerprint is not null and v_payment.stripe_customer_id is not null
        and v_payment.status <> 'failed' then
        perform billing._record_card(
            v_payment.stripe_customer_id, v_payment.account_id, v_payment.card_fingerprint, v_payment.charged_at
        );
    end if;
    return 'applied';
end
$$;

-- The account is frozen by a warning whose charge has the highest risk; one that is frozen already stays as it is.
create function billing._freeze_on_warning(warning billing.fraud_warnings)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_warning billing.fraud_warnings := _freeze_on_warning.warning;
begin
    if v_warning.risk_level = 'highest' and v_warning.account_id is not null then
        perform billing._lock_balance(v_warning.account_id);
        update billing.accounts
        set frozen_at = now(),
            frozen_reason = 'early fraud warning ' || v_warning.stripe_early_fraud_warning_id,
            updated_at = now()
        where accounts.id = v_warning.account_id and accounts.frozen_at is null;
    end if;
end
$$;

create function billing.record_fraud_warning(
    stripe_early_fraud_warning_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean,
    fraud_type text, actionable boolean, warned_at timestamptz, stripe_customer_id text, risk_level text,
    risk_score integer, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_warning billing.fraud_warnings;
begin
    insert into billing.fraud_warnings (
        stripe_early_fraud_warning_id, stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id,
        livemode, fraud_type, actionable, risk_level, risk_score, warned_at, as_of
    )
    values (
        record_fraud_warning.stripe_early_fraud_warning_id, record_fraud_warning.stripe_charge_id,
        record_fraud_warning.stripe_payment_intent_id, record_fraud_warning.stripe_customer_id,
        billing._account_of_customer(record_fraud_warning.stripe_customer_id, record_fraud_warning.livemode),
        record_fraud_warning.livemode, record_fraud_warning.fraud_type, record_fraud_warning.actionable,
        record_fraud_warning.risk_level, record_fraud_warning.risk_score, record_fraud_warning.warned_at,
        record_fraud_warning.as_of
    )
    on conflict on constraint fraud_warnings_pkey do nothing
    returning * into v_warning;
    if not found then
        return 'stale';
    end if;

    perform billing._freeze_on_warning(v_warning);
    return 'applied';
end
$$;

revoke all on function billing.sync_payment, billing._freeze_on_warning, billing.record_fraud_warning from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment(
        text, text, text, boolean, text, text, bigint, bigint, boolean, text, integer, text, text, text, timestamptz,
        timestamptz
    ),
    billing.record_fraud_warning(
        text, text, text, boolean, text, boolean, timestamptz, text, text, integer, timestamptz
    )
to billing_worker;
