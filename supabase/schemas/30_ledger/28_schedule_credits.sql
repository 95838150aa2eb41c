-- Schedules credits: a lot that opens at a later time.
--
-- Invariant: until it opens, a scheduled lot has no entry and is not part of the balance; it opens once, when the
-- account is first processed after that time. schedule_credits is callable by service_role (the app's own server);
-- never by clients.

-- A grant that opens at a later time. Its entry is written then; until then the lot is returned.
create function billing.schedule_credits(
    account_id uuid,
    amount numeric,
    effective_at timestamptz,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100
)
returns billing.credit_grants
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(schedule_credits.amount);
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
begin
    perform billing._checked_key(schedule_credits.idempotency_key, '{}');
    v_balance := billing._lock_balance(schedule_credits.account_id);

    select * into v_lot from billing.credit_grants
    where credit_grants.account_id = schedule_credits.account_id and credit_grants.key_space = 'caller'
        and credit_grants.idempotency_key = schedule_credits.idempotency_key;
    if found then
        if (
            v_lot.amount, v_lot.effective_at, v_lot.source, v_lot.reference_id, v_lot.description, v_lot.expires_at,
            v_lot.priority
        ) is distinct from (
            v_amount, schedule_credits.effective_at, schedule_credits.source, schedule_credits.reference_id,
            schedule_credits.description, schedule_credits.expires_at, schedule_credits.priority
        ) then
            perform billing._raise_key_reused(schedule_credits.idempotency_key);
        end if;
        return v_lot;
    end if;

    perform billing._check_key_is_new(schedule_credits.account_id, schedule_credits.idempotency_key);
    perform billing._check_open(schedule_credits.account_id);
    if schedule_credits.effective_at is null or schedule_credits.effective_at <= billing.current_time() then
        raise exception 'effective_at % must be in the future', coalesce(schedule_credits.effective_at::text, 'null')
            using errcode = 'TB012', hint = 'To grant credits now, use grant_credits.';
    end if;
    perform billing._check_expiry(schedule_credits.expires_at, schedule_credits.effective_at);
    v_lot := billing._lot(
        account_id => schedule_credits.account_id, entry_id => null, amount => v_amount,
        priority => schedule_credits.priority, effective_at => schedule_credits.effective_at,
        expires_at => schedule_credits.expires_at, source => schedule_credits.source,
        reference_id => schedule_credits.reference_id, description => schedule_credits.description,
        key_space => 'caller', idempotency_key => schedule_credits.idempotency_key
    );
    perform billing._post_entries(v_balance, '{}', array[v_lot]);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = v_lot.id;
    return v_lot;
end
$$;

revoke all on function billing.schedule_credits from public, anon, authenticated, service_role;
grant execute on function
    billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer)
to service_role;

comment on function billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer) is 'Grants credits that open at effective_at, once for each idempotency key, and returns the lot. Cancel it with revoke_grant.';
