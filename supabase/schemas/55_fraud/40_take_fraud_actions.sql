-- Queued refunds and cancellations → jobs of the worker, which sends them to Stripe → their outcome.
--
-- Invariant: a queued action is a job, which one worker has at a time. If that worker dies, the request is repeated with
-- the same key (idempotency_key). From the first request until Stripe's answer is recorded, an action is in doubt: Stripe
-- may have done it, so it can't be undone. Callable by billing_worker.

create function billing.tg_fraud_actions__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs('fraud_action', array[new.id::text]);
    return null;
end
$$;

create trigger tg_fraud_actions__made_queued
after insert on billing.fraud_actions
for each row when (new.status = 'queued')
execute function billing.tg_fraud_actions__enqueue();

create trigger tg_fraud_actions__queued
after update of status on billing.fraud_actions
for each row when (old.status <> 'queued' and new.status = 'queued')
execute function billing.tg_fraud_actions__enqueue();

-- The actions of these jobs that are not done yet. was_in_doubt: an earlier request was sent, and its answer is unknown.
create function billing.begin_fraud_actions(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id bigint, idempotency_key uuid, action text, stripe_charge_id text, stripe_subscription_id text,
    attempts integer, was_in_doubt boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    return query
    with begun as (
        select job.msg_id, actions.id, actions.is_in_doubt
        from unnest(begin_fraud_actions.msg_ids, begin_fraud_actions.ids) as job (msg_id, id)
        join billing.fraud_actions as actions on actions.id = job.id::bigint
        where actions.status = 'queued'
        for update of actions
    )
    update billing.fraud_actions
    set attempts = fraud_actions.attempts + 1, is_in_doubt = true, updated_at = now()
    from begun
    where fraud_actions.id = begun.id
    returning
        begun.msg_id, fraud_actions.id, fraud_actions.idempotency_key, fraud_actions.action,
        fraud_actions.stripe_charge_id, fraud_actions.stripe_subscription_id, fraud_actions.attempts, begun.is_in_doubt;
end
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

-- A refund of an action that Stripe created and the bank refused.
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

-- outcome: done, failed (Stripe refuses permanently), or queued (retried in retry_in_seconds). is_in_doubt: it is unknown
-- whether Stripe has done it. reason: why it is not done.
create function billing.record_fraud_action(
    msg_id bigint, id bigint, outcome text, stripe_refund_id text, reason text, is_in_doubt boolean,
    retry_in_seconds integer
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_is_in_hand boolean;
    v_action billing.fraud_actions;
begin
    -- The lock that sync_refund takes, so that of the two the later one sees the other's row.
    perform billing._lock_arrival(record_fraud_action.stripe_refund_id) where record_fraud_action.stripe_refund_id is not null;
    v_is_in_hand := billing._end_job(
        record_fraud_action.msg_id,
        case when record_fraud_action.outcome = 'queued' then record_fraud_action.retry_in_seconds end,
        record_fraud_action.reason
    );
    if record_fraud_action.outcome = 'queued' then
        update billing.fraud_actions
        set last_error = record_fraud_action.reason, is_in_doubt = record_fraud_action.is_in_doubt, updated_at = now()
        where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued' and v_is_in_hand;
        return;
    end if;
    update billing.fraud_actions
    set status = record_fraud_action.outcome,
        stripe_refund_id = record_fraud_action.stripe_refund_id,
        last_error = record_fraud_action.reason,
        is_in_doubt = record_fraud_action.is_in_doubt,
        settled_at = billing.current_time(),
        updated_at = now()
    where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued'
    returning * into v_action;
    perform billing._tell_of_failed_action(v_action);
    perform billing._fail_refund_action(record_fraud_action.stripe_refund_id);
end
$$;

revoke all on function
    billing.tg_fraud_actions__enqueue, billing.begin_fraud_actions, billing._tell_of_failed_action,
    billing._fail_refund_action, billing.record_fraud_action
from public, anon, authenticated, service_role;
grant execute on function
    billing.begin_fraud_actions(bigint[], text[]),
    billing.record_fraud_action(bigint, bigint, text, text, text, boolean, integer)
to billing_worker;

comment on function billing.begin_fraud_actions(bigint[], text[]) is 'Refunds and cancellations to send to Stripe, of the jobs that the caller took.';
comment on function billing.record_fraud_action(bigint, bigint, text, text, text, boolean, integer) is 'Records the outcome of an action at Stripe: done, failed, or queued for another attempt.';
