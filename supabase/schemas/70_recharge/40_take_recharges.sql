-- Recharges that are due → begun by the worker; without an answer of Stripe they are retried.
--
-- Invariant: a claimed or charging recharge is a job, which one worker has at a time. A claim that is no longer needed is
-- never charged. Called by billing_worker. begin_recharges locks recharges before balances, unlike all other functions, so
-- it never waits for a balance.

-- Why a claim that is not charged yet is no longer needed; null if it is.
create function billing._obstacle_to_recharge(account_id uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when accounts.closed_at is not null then 'account_closed'
        when not billing._has_user(accounts.id) then 'no_user'
        when accounts.frozen_at is not null then 'account_frozen'
        when recharge_settings.is_paused then 'paused'
        when credit_balances.balance - credit_balances.held >= recharge_settings.threshold then 'not_needed'
    end
    from billing.recharge_settings
    join billing.accounts on accounts.id = recharge_settings.account_id
    join billing.credit_balances on credit_balances.account_id = recharge_settings.account_id
    where recharge_settings.account_id = _obstacle_to_recharge.account_id
$$;

-- Arms balances again: the month of their cap is over, or their account was frozen.
create function billing.check_recharges_again()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    for v_account_id in
        select recharge_settings.account_id from billing.recharge_settings
        where recharge_settings.check_again_at <= billing.current_time()
        order by recharge_settings.check_again_at
        limit 100
    loop
        perform from billing.credit_balances where credit_balances.account_id = v_account_id for update skip locked;
        continue when not found;
        update billing.recharge_settings set check_again_at = null, updated_at = now()
        where recharge_settings.account_id = v_account_id;
        perform billing._arm_recharge(v_account_id);
    end loop;
end
$$;

-- Locks an account's balance. If that takes longer than the movements of a busy account, a transaction of the app holds the
-- lock, and the account is skipped.
create function billing._lock_balance_soon(account_id uuid)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
    perform billing._lock_balance(_lock_balance_soon.account_id);
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- The recharges of these jobs that are not charged yet. One whose account is locked by the app is due again in a second.
-- was_asked: an earlier attempt sent the request. barred: payment methods of the customer that were refused permanently.
create function billing.begin_recharges(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id uuid, stripe_customer_id text, stripe_price_id text, amount bigint, currency text, return_url text,
    stripe_payment_intent_id text, was_asked boolean, first_attempt_at timestamptz, age_seconds double precision,
    barred text[]
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
    v_recharge billing.recharges;
    v_begun bigint[] := '{}';
    v_begun_ids uuid[] := '{}';
    v_was_asked boolean;
    v_obstacle text;
begin
    for v_job in
        select job.msg_id, recharges as recharge
        from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
        join billing.recharges on recharges.id = job.id::uuid
        where recharges.status in ('claimed', 'charging')
        order by job.msg_id
        for update of recharges skip locked
    loop
        v_recharge := v_job.recharge;
        -- A second message of one recharge waits for the first one's outcome.
        continue when v_recharge.id = any (v_begun_ids);
        v_was_asked := v_recharge.status = 'charging';
        v_obstacle := null;
        if not v_was_asked then
            -- Under the lock: an account that is frozen or closed at this moment must not be charged.
            continue when not billing._lock_balance_soon(v_recharge.account_id);
            v_obstacle := billing._obstacle_to_recharge(v_recharge.account_id);
        end if;
        if v_obstacle is not null then
            update billing.recharges
            set status = 'failed', reason = v_obstacle, settled_at = billing.current_time(), updated_at = now()
            where recharges.id = v_recharge.id;
            perform billing._arm_recharge(v_recharge.account_id);
            continue;
        end if;

        update billing.recharges
        set status = 'charging', attempts = v_recharge.attempts + 1,
            first_attempt_at = coalesce(v_recharge.first_attempt_at, now()), updated_at = now()
        where recharges.id = v_recharge.id
        returning * into v_recharge;
        v_begun := v_begun || v_job.msg_id;
        v_begun_ids := v_begun_ids || v_recharge.id;
        return query select
            v_job.msg_id, v_recharge.id, v_recharge.stripe_customer_id, v_recharge.stripe_price_id, v_recharge.amount,
            v_recharge.currency, v_recharge.return_url, v_recharge.stripe_payment_intent_id, v_was_asked,
            v_recharge.first_attempt_at,
            extract(epoch from now() - v_recharge.first_attempt_at)::double precision,
            array(
                select distinct refused.stripe_payment_method_id from billing.recharges as refused
                where refused.account_id = v_recharge.account_id and refused.is_final
                    and refused.stripe_payment_method_id is not null
            );
    end loop;

    perform billing.retry_job(job.msg_id, 1, 'the account, or another message of the recharge, is in use', excused => true)
    from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
    join billing.recharges on recharges.id = job.id::uuid
    where recharges.status in ('claimed', 'charging') and job.msg_id <> all (v_begun);
end
$$;

-- The outcome of the payment is unknown: the request is repeated after a while.
create function billing.delay_recharge(msg_id bigint, recharge_id uuid, delay_seconds integer, reason text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    if billing._end_job(delay_recharge.msg_id, delay_recharge.delay_seconds, delay_recharge.reason) then
        update billing.recharges set last_error = delay_recharge.reason, updated_at = now()
        where recharges.id = delay_recharge.recharge_id and recharges.status = 'charging';
    end if;
end
$$;

revoke all on function
    billing._obstacle_to_recharge, billing.check_recharges_again, billing._lock_balance_soon, billing.begin_recharges,
    billing.delay_recharge
from public, anon, authenticated, service_role;
grant execute on function
    billing.check_recharges_again(), billing.begin_recharges(bigint[], text[]),
    billing.delay_recharge(bigint, uuid, integer, text)
to billing_worker;

comment on function billing.check_recharges_again() is 'Arms balances again: the month of their cap is over, or their account was frozen.';
comment on function billing.begin_recharges(bigint[], text[]) is 'Recharges to charge, of the jobs that the caller took: each is one payment, with its id as the Idempotency-Key.';
comment on function billing.delay_recharge(bigint, uuid, integer, text) is 'Retries a recharge later, because Stripe gave no answer.';
