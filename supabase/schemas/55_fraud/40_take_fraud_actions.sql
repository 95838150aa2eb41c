-- Refunds and cancellations that were decided on → handed to the worker, which asks Stripe → what became of them.
--
-- Invariant: an action is in one worker's hands at a time; whoever is not heard of by the end of the lease is thought to
-- have died, and the same is asked for again with the same key (idempotency_key). From its taking until the worker knows
-- better an action is in doubt: Stripe may have done it, so it can't be undone. Callable by billing_worker.

-- was_in_doubt: an earlier attempt may have been done, and its answer was lost.
create function billing.take_fraud_actions(actions_max integer, lease_seconds integer)
returns table (
    id bigint, idempotency_key uuid, action text, stripe_charge_id text, stripe_subscription_id text, attempts integer,
    was_in_doubt boolean
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    with due as (
        select actions.id, actions.is_in_doubt from billing.fraud_actions as actions
        where actions.status = 'queued' and actions.next_attempt_at <= now()
        order by actions.next_attempt_at, actions.id
        limit take_fraud_actions.actions_max
        for update skip locked
    )
    update billing.fraud_actions
    set attempts = fraud_actions.attempts + 1,
        is_in_doubt = true,
        next_attempt_at = now() + make_interval(secs => take_fraud_actions.lease_seconds),
        updated_at = now()
    from due
    where fraud_actions.id = due.id
    returning
        fraud_actions.id, fraud_actions.idempotency_key, fraud_actions.action, fraud_actions.stripe_charge_id,
        fraud_actions.stripe_subscription_id, fraud_actions.attempts, due.is_in_doubt
$$;

create function billing._tell_of_failed_action(action billing.fraud_actions)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        failed.account_id, 'administrators', 'fraud_action_failed', 'fraud_action_failed:' || failed.id,
        jsonb_strip_nulls(jsonb_build_object(
            'action', failed.action, 'reason', failed.last_error, 'decided_because', failed.reason,
            'stripe_early_fraud_warning_id', failed.stripe_early_fraud_warning_id,
            'stripe_charge_id', failed.stripe_charge_id, 'stripe_subscription_id', failed.stripe_subscription_id
        ))
    from (select (_tell_of_failed_action.action).*) as failed
    where failed.status = 'failed'
    on conflict (dedupe_key) do nothing
$$;

-- A refund of ours that Stripe made and the bank refused.
create function billing._fail_refund_action(stripe_refund_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_action billing.fraud_actions;
begin
    update billing.fraud_actions
    set status = 'failed', last_error = coalesce('the refund failed: ' || refunds.failure_reason, 'the refund failed'),
        updated_at = now()
    from billing.refunds
    where fraud_actions.stripe_refund_id = _fail_refund_action.stripe_refund_id and fraud_actions.status = 'done'
        and refunds.stripe_refund_id = fraud_actions.stripe_refund_id and refunds.status in ('failed', 'canceled')
    returning fraud_actions.* into v_action;
    if found then
        perform billing._tell_of_failed_action(v_action);
    end if;
end
$$;

-- outcome: done, failed (Stripe refuses for good), or queued: once more in retry_in_seconds. is_in_doubt: nobody knows
-- whether Stripe has done it. reason: what stood in the way.
create function billing.settle_fraud_action(
    id bigint, outcome text, stripe_refund_id text, reason text, is_in_doubt boolean, retry_in_seconds integer
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_action billing.fraud_actions;
begin
    -- As sync_refund does: neither commits without having seen the other.
    perform billing._lock_arrival(settle_fraud_action.stripe_refund_id) where settle_fraud_action.stripe_refund_id is not null;
    update billing.fraud_actions
    set status = settle_fraud_action.outcome,
        stripe_refund_id = settle_fraud_action.stripe_refund_id,
        last_error = settle_fraud_action.reason,
        is_in_doubt = settle_fraud_action.is_in_doubt,
        next_attempt_at = case
            when settle_fraud_action.outcome = 'queued'
                then now() + make_interval(secs => settle_fraud_action.retry_in_seconds)
        end,
        settled_at = case when settle_fraud_action.outcome <> 'queued' then billing.current_time() end,
        updated_at = now()
    where fraud_actions.id = settle_fraud_action.id and fraud_actions.status = 'queued'
    returning * into v_action;
    perform billing._tell_of_failed_action(v_action);
    perform billing._fail_refund_action(settle_fraud_action.stripe_refund_id);
end
$$;

revoke all on function
    billing.take_fraud_actions, billing._tell_of_failed_action, billing._fail_refund_action, billing.settle_fraud_action
from public, anon, authenticated, service_role;
grant execute on function
    billing.take_fraud_actions(integer, integer),
    billing.settle_fraud_action(bigint, text, text, text, boolean, integer)
to billing_worker;
