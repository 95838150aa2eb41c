-- Holds over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.hold_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    actor text default null
)
returns billing.credit_holds
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.hold_credits(
        hold_credits.account_id, hold_credits.amount, hold_credits.idempotency_key, hold_credits.expires_in,
        hold_credits.description, hold_credits.metadata, hold_credits.feature, hold_credits.actor
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
as $$
    select billing.extend_hold(
        extend_hold.hold_id, extend_hold.expires_in
    )
$$;

revoke all on function
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval)
from public, anon, authenticated, service_role;
grant execute on function
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval)
to service_role;
