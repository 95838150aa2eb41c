-- The ledger's functions for the app's own server over the Data API: twins in `public`, each of the one in `billing`.
--
-- Invariant: a twin runs as its caller and says nothing of its own. Only service_role may execute it.

create function public.grant_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.grant_credits(
        grant_credits.account_id, grant_credits.amount, grant_credits.idempotency_key, grant_credits.description,
        grant_credits.source, grant_credits.reference_id, grant_credits.expires_at, grant_credits.priority,
        grant_credits.metadata
    )
$$;

create function public.schedule_credits(
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
language sql
volatile
set search_path = ''
as $$
    select billing.schedule_credits(
        schedule_credits.account_id, schedule_credits.amount, schedule_credits.effective_at,
        schedule_credits.idempotency_key, schedule_credits.description, schedule_credits.source,
        schedule_credits.reference_id, schedule_credits.expires_at, schedule_credits.priority
    )
$$;

create function public.spend_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    reference_id text default null,
    up_to boolean default false
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id, spend_credits.up_to
    )
$$;

create function public.spend_credits_batch(
    spends jsonb
)
returns setof billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select * from billing.spend_credits_batch(
        spend_credits_batch.spends
    )
$$;

create function public.hold_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    feature text default null
)
returns billing.credit_holds
language sql
volatile
set search_path = ''
as $$
    select billing.hold_credits(
        hold_credits.account_id, hold_credits.amount, hold_credits.idempotency_key, hold_credits.expires_in,
        hold_credits.description, hold_credits.metadata, hold_credits.feature
    )
$$;

create function public.capture_hold(
    hold_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    release_rest boolean default false
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.capture_hold(
        capture_hold.hold_id, capture_hold.amount, capture_hold.idempotency_key, capture_hold.description,
        capture_hold.metadata, capture_hold.release_rest
    )
$$;

create function public.release_hold(
    hold_id uuid,
    idempotency_key text
)
returns billing.credit_holds
language sql
volatile
set search_path = ''
as $$
    select billing.release_hold(
        release_hold.hold_id, release_hold.idempotency_key
    )
$$;

create function public.extend_hold(
    hold_id uuid,
    expires_in interval
)
returns billing.credit_holds
language sql
volatile
set search_path = ''
as $$
    select billing.extend_hold(
        extend_hold.hold_id, extend_hold.expires_in
    )
$$;

create function public.refund_spend(
    entry_id bigint,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.refund_spend(
        refund_spend.entry_id, refund_spend.amount, refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata
    )
$$;

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
set search_path = ''
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
set search_path = ''
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
set search_path = ''
as $$
    select billing.adjust_credits(
        adjust_credits.account_id, adjust_credits.amount, adjust_credits.idempotency_key, adjust_credits.reason,
        adjust_credits.actor, adjust_credits.expires_at
    )
$$;

create function public.transfer_credits(
    from_account_id uuid,
    to_account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = ''
as $$
    select billing.transfer_credits(
        transfer_credits.from_account_id, transfer_credits.to_account_id, transfer_credits.amount,
        transfer_credits.idempotency_key, transfer_credits.description, transfer_credits.metadata
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
set search_path = ''
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
set search_path = ''
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
set search_path = ''
as $$
    select billing.reopen_account(
        reopen_account.account_id
    )
$$;

revoke all on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean),
    public.spend_credits_batch(jsonb),
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
from public, anon, authenticated, service_role;
grant execute on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean),
    public.spend_credits_batch(jsonb),
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
to service_role;
