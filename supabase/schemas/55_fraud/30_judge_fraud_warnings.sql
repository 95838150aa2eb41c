-- Early fraud warnings → actions, by the policy.
--
-- Invariant: the policy is applied when a warning first arrives, and again when its account or subscription becomes known
-- (its customer is linked, its payment's invoice arrives); never by a replay. An action that was done or undone is not
-- repeated. Alerts and freezes happen in the transaction of the warning; refunds and cancellations are queued for the
-- worker, which sends them to Stripe. service_role can preview the policy's actions.

-- The actions of the policy for a warning as of now, and the reason for each action that it would skip. Reads only.
create function billing.judge_fraud_warning(stripe_early_fraud_warning_id text)
returns table (
    action text, is_due boolean, reason text, stripe_subscription_id text, amount bigint, currency text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with case_at_hand as (
        select
            warnings.account_id, warnings.actionable, warnings.stripe_charge_id,
            policies.risk_level, warnings.warned_at, warnings.livemode,
            policies.alert, policies.freeze_account, policies.refund, policies.refund_amount_max,
            policies.refund_age_max, policies.cancel_subscription,
            payments.stripe_charge_id is not null as is_known, payments.amount - payments.amount_refunded as left_over,
            payments.currency, payments.is_disputed, payments.is_liability_shifted, payments.charged_at,
            accounts.frozen_at, accounts.closed_at
        from billing.fraud_warnings as warnings
        -- A level without a policy, such as a new one of Stripe, counts as unknown.
        join billing.fraud_policies as policies on policies.risk_level = coalesce(
            (select known.risk_level from billing.fraud_policies as known where known.risk_level = warnings.risk_level),
            'unknown'
        )
        left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
        left join billing.accounts on accounts.id = warnings.account_id
        where warnings.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
    ),
    verdicts as (
        select
            'alert' as action, null::text as obstacle, null::text as stripe_subscription_id, null::bigint as amount,
            null::text as currency
        from case_at_hand where case_at_hand.alert
        union all
        select
            'freeze_account',
            case
                when case_at_hand.account_id is null then 'its customer is not linked to an account'
                when case_at_hand.closed_at is not null then 'the account is closed'
                when case_at_hand.frozen_at is not null then 'the account is frozen already'
            end, null, null, null
        from case_at_hand where case_at_hand.freeze_account
        union all
        select
            'refund',
            case
                when not case_at_hand.is_known then 'its charge is not known here'
                when case_at_hand.is_disputed then 'the charge is disputed'
                when case_at_hand.left_over = 0 then 'the charge is refunded already'
                when not case_at_hand.actionable then 'the warning is not actionable'
                when case_at_hand.is_liability_shifted then 'the card was authenticated: the issuer is liable'
                when case_at_hand.left_over > case_at_hand.refund_amount_max
                    then format('%s are more than refund_amount_max %s', case_at_hand.left_over, case_at_hand.refund_amount_max)
                when case_at_hand.charged_at < billing.current_time() - case_at_hand.refund_age_max
                    then format('the charge is older than refund_age_max %s', case_at_hand.refund_age_max)
            end, null, case_at_hand.left_over, case_at_hand.currency
        from case_at_hand where case_at_hand.refund
        union all
        select
            'cancel_subscription',
            case
                when paid.stripe_subscription_id is null then 'its charge paid for no subscription that is known here'
                when paid.ended_at is not null then 'the subscription has ended'
            end, paid.stripe_subscription_id, null, null
        from case_at_hand
        left join lateral (
            select distinct subscriptions.stripe_subscription_id, subscriptions.ended_at
            from billing.payments
            join billing.invoice_payments
                on invoice_payments.stripe_payment_intent_id = payments.stripe_payment_intent_id
                or invoice_payments.stripe_charge_id = payments.stripe_charge_id
            join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
            join billing.subscriptions on subscriptions.stripe_subscription_id = invoices.stripe_subscription_id
            where payments.stripe_charge_id = case_at_hand.stripe_charge_id
        ) as paid on true
        where case_at_hand.cancel_subscription
    ),
    -- Earlier decisions stay: done, queued, or undone by a person.
    decided as (
        select
            verdicts.*,
            (
                select case fraud_actions.status
                    when 'undone' then format('%s has undone it', fraud_actions.undone_by)
                    when 'failed' then format('it failed: %s', fraud_actions.last_error)
                    else format('it is %s already', fraud_actions.status)
                end
                from billing.fraud_actions
                where fraud_actions.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
                    and fraud_actions.action = verdicts.action and fraud_actions.status <> 'skipped'
                    and fraud_actions.stripe_subscription_id is not distinct from verdicts.stripe_subscription_id
                order by fraud_actions.id desc
                limit 1
            ) as before
        from verdicts
    )
    select
        decided.action, coalesce(decided.before, decided.obstacle) is null,
        coalesce(decided.before, decided.obstacle, 'risk ' || case_at_hand.risk_level), decided.stripe_subscription_id,
        decided.amount, decided.currency
    from decided cross join case_at_hand
$$;

create function billing._alert_of_warning(warning billing.fraud_warnings)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        (_alert_of_warning.warning).account_id, 'administrators', 'fraud_warning',
        'fraud_warning:' || (_alert_of_warning.warning).stripe_early_fraud_warning_id,
        jsonb_build_object(
            'stripe_early_fraud_warning_id', (_alert_of_warning.warning).stripe_early_fraud_warning_id,
            'stripe_charge_id', (_alert_of_warning.warning).stripe_charge_id,
            'fraud_type', (_alert_of_warning.warning).fraud_type,
            'risk_level', (_alert_of_warning.warning).risk_level, 'amount', max(payments.amount),
            'currency', max(payments.currency)
        )
    from billing.payments where payments.stripe_charge_id = (_alert_of_warning.warning).stripe_charge_id
    on conflict (dedupe_key) do nothing
$$;

-- Takes the actions of the policy for a warning, each once. In a dry run it takes none.
create function billing._act_on_warning(warning billing.fraud_warnings)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings := _act_on_warning.warning;
    v_verdict record;
    v_action billing.fraud_actions;
begin
    if (select settings.fraud_dry_run from billing.settings) then
        return;
    elsif v_warning.account_id is not null then
        perform billing._lock_balance(v_warning.account_id);
    end if;
    for v_verdict in select * from billing.judge_fraud_warning(v_warning.stripe_early_fraud_warning_id) loop
        insert into billing.fraud_actions as held (
            stripe_early_fraud_warning_id, account_id, action, status, reason, actor, stripe_charge_id,
            stripe_subscription_id, amount, currency, decided_at, settled_at
        )
        select
            v_warning.stripe_early_fraud_warning_id, v_warning.account_id, v_verdict.action, became.status,
            v_verdict.reason, 'policy', v_warning.stripe_charge_id, v_verdict.stripe_subscription_id, v_verdict.amount,
            v_verdict.currency, billing.current_time(),
            case when became.status = 'done' then billing.current_time() end
        from (
            select case
                when not v_verdict.is_due then 'skipped'
                when v_verdict.action in ('alert', 'freeze_account') then 'done'
                else 'queued'
            end as status
        ) as became
        -- An account that is linked later can be frozen then.
        on conflict (stripe_early_fraud_warning_id, action, coalesce(stripe_subscription_id, '')) where actor = 'policy'
        do update
        set account_id = excluded.account_id, status = excluded.status, reason = excluded.reason,
            decided_at = excluded.decided_at, settled_at = excluded.settled_at, updated_at = now()
        where held.status = 'skipped' and excluded.status <> 'skipped'
        returning * into v_action;
        if not found or v_action.status <> 'done' then
            continue;
        elsif v_action.action = 'alert' then
            perform billing._alert_of_warning(v_warning);
        elsif v_action.action = 'freeze_account' then
            perform billing._freeze_account(
                v_warning.account_id, 'early fraud warning ' || v_warning.stripe_early_fraud_warning_id
            );
        end if;
    end loop;
end
$$;

revoke all on function
    billing.judge_fraud_warning, billing._alert_of_warning, billing._act_on_warning
from public, anon, authenticated, service_role;
grant execute on function billing.judge_fraud_warning(text) to service_role;

comment on function billing.judge_fraud_warning(text) is 'The actions of the policy for a warning as of now, and the reason for each that it would skip. Changes nothing.';
