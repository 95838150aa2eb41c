-- Restores by hand what a revocation took, minus what was refunded or disputed meanwhile.
--
-- Callable by service_role.

-- Applies returned money or credited time to one lot, after a person restored credits to it.
create function billing._apply_returns_of_lot(grant_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
begin
    select * into strict v_lot from billing.credit_grants where credit_grants.id = _apply_returns_of_lot.grant_id;
    if v_lot.key_space <> 'stripe' then
        return;
    elsif v_lot.stripe_invoice_id is not null then
        perform billing._apply_returns_of_invoice(v_lot.stripe_invoice_id);
    elsif v_lot.stripe_payment_intent_id is not null then
        perform billing._apply_returns_of_payment(v_lot.stripe_payment_intent_id, null);
    end if;
    perform billing._allocate_subscription(schedules.stripe_subscription_id, v_lot.effective_at) from (
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
    ) as schedules;
end
$$;

create function billing.reinstate_grant(
    revocation_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when reinstate_grant.amount is not null then billing._checked_amount(reinstate_grant.amount) end;
    v_revocation billing.credit_revocations;
    v_reinstatement billing.credit_reinstatements;
begin
    perform billing._checked_key(reinstate_grant.idempotency_key, '{}');
    perform billing._check_reason(reinstate_grant.reason, reinstate_grant.actor);
    select * into v_revocation from billing.credit_revocations where credit_revocations.id = reinstate_grant.revocation_id;
    if not found then
        raise exception 'there is no revocation %', coalesce(reinstate_grant.revocation_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that revoke_grant returned.';
    end if;
    perform billing._lock_balance(v_revocation.account_id);

    select * into v_reinstatement from billing.credit_reinstatements
    where credit_reinstatements.account_id = v_revocation.account_id and credit_reinstatements.key_space = 'caller'
        and credit_reinstatements.idempotency_key = reinstate_grant.idempotency_key;
    if found then
        if (
            v_reinstatement.revocation_id, v_reinstatement.amount, v_reinstatement.reason, v_reinstatement.actor
        ) is distinct from (
            v_revocation.id, coalesce(v_amount, v_reinstatement.amount), reinstate_grant.reason, reinstate_grant.actor
        ) then
            perform billing._raise_key_reused(reinstate_grant.idempotency_key);
        end if;
        return v_reinstatement;
    end if;
    perform billing._check_key_is_new(v_revocation.account_id, reinstate_grant.idempotency_key);
    perform billing._check_open(v_revocation.account_id);
    v_reinstatement := billing._reinstate(
        v_revocation, v_amount, 'caller', reinstate_grant.idempotency_key, reinstate_grant.reason, reinstate_grant.actor
    );
    -- Credits whose money was refunded or disputed meanwhile are revoked or frozen again.
    perform billing._apply_returns_of_lot(v_revocation.grant_id);
    return v_reinstatement;
end
$$;

revoke all on function billing._apply_returns_of_lot, billing.reinstate_grant
from public, anon, authenticated, service_role;
grant execute on function billing.reinstate_grant(bigint, numeric, text, text, text) to service_role;

comment on function billing.reinstate_grant(bigint, numeric, text, text, text) is 'Restores what a revocation took: all that is left (amount null) or a part. Once for each idempotency key.';
