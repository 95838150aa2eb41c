-- Moving credits over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
    up_to boolean default false,
    actor text default null
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id, spend_credits.up_to,
        spend_credits.actor
    )
$$;

create function public.spend_credits_batch(
    spends jsonb
)
returns setof billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.spend_credits_batch(
        spend_credits_batch.spends
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
set search_path = pg_catalog, pg_temp
as $$
    select billing.refund_spend(
        refund_spend.entry_id, refund_spend.amount, refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata
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
set search_path = pg_catalog, pg_temp
as $$
    select billing.transfer_credits(
        transfer_credits.from_account_id, transfer_credits.to_account_id, transfer_credits.amount,
        transfer_credits.idempotency_key, transfer_credits.description, transfer_credits.metadata
    )
$$;

revoke all on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean, text),
    public.spend_credits_batch(jsonb),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb)
from public, anon, authenticated, service_role;
grant execute on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean, text),
    public.spend_credits_batch(jsonb),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb)
to service_role;
