-- Administration over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.revoke_grant(
    grant_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    shortfall_policy text default 'clamp_and_record'
)
returns billing.credit_revocations
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.revoke_grant(
        revoke_grant.grant_id, revoke_grant.amount, revoke_grant.idempotency_key, revoke_grant.reason,
        revoke_grant.actor, revoke_grant.shortfall_policy
    )
$$;

create function public.reinstate_grant(
    revocation_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text
)
returns billing.credit_reinstatements
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.reinstate_grant(
        reinstate_grant.revocation_id, reinstate_grant.amount, reinstate_grant.idempotency_key,
        reinstate_grant.reason, reinstate_grant.actor
    )
$$;

create function public.adjust_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    expires_at timestamptz default null
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.adjust_credits(
        adjust_credits.account_id, adjust_credits.amount, adjust_credits.idempotency_key, adjust_credits.reason,
        adjust_credits.actor, adjust_credits.expires_at
    )
$$;

create function public.set_credit_limits(
    account_id uuid,
    overdraft numeric default 0,
    spend_cap numeric default null,
    spend_cap_period text default null,
    low_balance_threshold numeric default null
)
returns billing.credit_balances
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_credit_limits(
        set_credit_limits.account_id, set_credit_limits.overdraft, set_credit_limits.spend_cap,
        set_credit_limits.spend_cap_period, set_credit_limits.low_balance_threshold
    )
$$;

create function public.close_account(
    account_id uuid,
    reason text,
    actor text
)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.close_account(
        close_account.account_id, close_account.reason, close_account.actor
    )
$$;

create function public.reopen_account(
    account_id uuid
)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.reopen_account(
        reopen_account.account_id
    )
$$;

revoke all on function
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
from public, anon, authenticated, service_role;
grant execute on function
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
to service_role;
