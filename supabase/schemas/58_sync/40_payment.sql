-- Charges, early fraud warnings and reviews from Stripe → their rows, the cards that were charged, and the policy's
-- actions on a warning.
--
-- Invariant: the policy acts on a warning when it first arrives (or its customer is linked). A replay does not freeze
-- an account that an administrator has unfrozen. Called by billing_worker.

create function billing.sync_payment(
    stripe_charge_id text, stripe_payment_intent_id text, stripe_customer_id text, livemode boolean, status text,
    currency text, amount bigint, amount_refunded bigint, is_disputed boolean, risk_level text, risk_score integer,
    is_liability_shifted boolean, card_fingerprint text, failure_code text, receipt_url text, charged_at timestamptz,
    as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment billing.payments;
    v_as_of timestamptz;
begin
    insert into billing.payments as held (
        stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id, livemode, status, currency,
        amount, amount_refunded, is_disputed, risk_level, risk_score, is_liability_shifted, card_fingerprint,
        failure_code, receipt_url, charged_at, as_of
    )
    values (
        sync_payment.stripe_charge_id, sync_payment.stripe_payment_intent_id, sync_payment.stripe_customer_id,
        billing._account_of_customer(sync_payment.stripe_customer_id, sync_payment.livemode), sync_payment.livemode,
        sync_payment.status, sync_payment.currency, sync_payment.amount, sync_payment.amount_refunded,
        sync_payment.is_disputed, sync_payment.risk_level, sync_payment.risk_score, sync_payment.is_liability_shifted,
        sync_payment.card_fingerprint, sync_payment.failure_code, sync_payment.receipt_url, sync_payment.charged_at,
        sync_payment.as_of
    )
    on conflict on constraint payments_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        amount_refunded = excluded.amount_refunded,
        is_disputed = excluded.is_disputed,
        risk_level = excluded.risk_level,
        risk_score = excluded.risk_score,
        is_liability_shifted = excluded.is_liability_shifted,
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
    -- A declined card proves nothing about its owner: somebody may have tried a stolen number.
    if v_payment.card_fingerprint is not null and v_payment.stripe_customer_id is not null
        and v_payment.status <> 'failed' then
        perform billing._record_card(
            v_payment.stripe_customer_id, v_payment.account_id, v_payment.card_fingerprint, v_payment.charged_at
        );
    end if;
    -- Refunds and disputes that were recorded before the charge may have named either of its ids.
    if v_payment.amount_refunded > 0 or v_payment.is_disputed or exists (
        select from billing.refunds
        where refunds.stripe_charge_id = v_payment.stripe_charge_id
            or refunds.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) or exists (
        select from billing.disputes
        where disputes.stripe_charge_id = v_payment.stripe_charge_id
            or disputes.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) then
        perform billing._apply_returns_of_payment(v_payment.stripe_payment_intent_id, v_payment.stripe_charge_id);
    end if;
    return 'applied';
end
$$;

-- The policy (_act_on_warning) acts when the warning first arrives; later events say whether it is still actionable.
create function billing.record_fraud_warning(
    stripe_early_fraud_warning_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean,
    fraud_type text, actionable boolean, warned_at timestamptz, stripe_customer_id text, risk_level text,
    risk_score integer, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
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
    if found then
        perform billing._act_on_warning(v_warning);
        return 'applied';
    end if;

    update billing.fraud_warnings
    set actionable = record_fraud_warning.actionable, as_of = record_fraud_warning.as_of, updated_at = now()
    where fraud_warnings.stripe_early_fraud_warning_id = record_fraud_warning.stripe_early_fraud_warning_id
        -- A warning whose charge was disputed or refunded stays not actionable.
        and fraud_warnings.actionable and not record_fraud_warning.actionable;
    return case when found then 'applied' else 'stale' end;
end
$$;

create function billing.sync_review(
    stripe_review_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, is_open boolean,
    reason text, closed_reason text, opened_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_review billing.reviews;
begin
    insert into billing.reviews as held (
        stripe_review_id, stripe_charge_id, stripe_payment_intent_id, account_id, livemode, is_open, reason,
        closed_reason, opened_at, as_of
    )
    values (
        sync_review.stripe_review_id, sync_review.stripe_charge_id, sync_review.stripe_payment_intent_id,
        (
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = sync_review.stripe_charge_id
                or payments.stripe_payment_intent_id = sync_review.stripe_payment_intent_id
            order by payments.charged_at desc
            limit 1
        ),
        sync_review.livemode, sync_review.is_open, sync_review.reason, sync_review.closed_reason,
        sync_review.opened_at, sync_review.as_of
    )
    -- A closed review stays closed.
    on conflict on constraint reviews_pkey do update
    set is_open = excluded.is_open, reason = excluded.reason, closed_reason = excluded.closed_reason,
        account_id = coalesce(held.account_id, excluded.account_id), as_of = excluded.as_of, updated_at = now()
    where held.is_open and not excluded.is_open
    returning * into v_review;
    if not found then
        return 'stale';
    elsif v_review.is_open then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_review.account_id, 'administrators', 'review_opened', 'review_opened:' || v_review.stripe_review_id,
            jsonb_build_object(
                'stripe_review_id', v_review.stripe_review_id, 'stripe_charge_id', v_review.stripe_charge_id,
                'reason', v_review.reason
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_payment, billing.record_fraud_warning, billing.sync_review
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment(
        text, text, text, boolean, text, text, bigint, bigint, boolean, text, integer, boolean, text, text, text,
        timestamptz, timestamptz
    ),
    billing.record_fraud_warning(
        text, text, text, boolean, text, boolean, timestamptz, text, text, integer, timestamptz
    ),
    billing.sync_review(text, text, text, boolean, boolean, text, text, timestamptz, timestamptz)
to billing_worker;
