-- Grants credits: writes an entry and the lot that it opens, after repaying debt.
--
-- Invariant: once for each key. Callable by service_role (the app's own server); never by clients. The worker grants
-- only what was paid for.

-- Shared by all grants. A business key (key_space stripe) that was used before is not an error: two different events
-- can report one payment.
create function billing._grant_credits(
    account_id uuid,
    amount bigint,
    key_space text,
    idempotency_key text,
    source text,
    reference_id text,
    description text,
    metadata jsonb default '{}',
    priority integer default 100,
    effective_at timestamptz default null,
    expires_at timestamptz default null,
    stripe_invoice_id text default null,
    stripe_subscription_item_id text default null,
    stripe_price_id text default null,
    stripe_checkout_session_id text default null,
    stripe_payment_intent_id text default null,
    kind text default 'grant',
    actor text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_grant_credits.account_id);
    v_now timestamptz := billing.current_time();
    v_entry billing.credit_entries;
    v_lot billing.credit_grants;
begin
    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_lot from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_entry.actor, v_lot.priority, v_lot.expires_at
        ) is distinct from (
            _grant_credits.kind, _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.actor, _grant_credits.priority,
            _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_open(_grant_credits.account_id);
    end if;
    if _grant_credits.key_space = 'caller' then
        if exists (
            select from billing.credit_grants
            where credit_grants.account_id = _grant_credits.account_id and credit_grants.key_space = 'caller'
                and credit_grants.idempotency_key = _grant_credits.idempotency_key
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);  -- by a scheduled lot
        end if;
        perform billing._check_expiry(_grant_credits.expires_at, v_now);
    end if;

    v_entry := billing._entry(
        account_id => _grant_credits.account_id, kind => _grant_credits.kind, amount => _grant_credits.amount,
        source => _grant_credits.source, reference_id => _grant_credits.reference_id,
        description => _grant_credits.description, metadata => _grant_credits.metadata,
        actor => _grant_credits.actor, key_space => _grant_credits.key_space,
        idempotency_key => _grant_credits.idempotency_key, occurred_at => v_now
    );
    return billing._open_lot(v_balance, v_entry, billing._lot(
        account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_entry.amount,
        priority => _grant_credits.priority, effective_at => coalesce(_grant_credits.effective_at, v_now),
        expires_at => _grant_credits.expires_at, source => v_entry.source, reference_id => v_entry.reference_id,
        key_space => v_entry.key_space, idempotency_key => v_entry.idempotency_key,
        stripe_invoice_id => _grant_credits.stripe_invoice_id,
        stripe_subscription_item_id => _grant_credits.stripe_subscription_item_id,
        stripe_price_id => _grant_credits.stripe_price_id,
        stripe_checkout_session_id => _grant_credits.stripe_checkout_session_id,
        stripe_payment_intent_id => _grant_credits.stripe_payment_intent_id
    ), is_scheduled => false);
end
$$;

create function billing._check_expiry(expires_at timestamptz, opens_at timestamptz)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_expiry.expires_at <= _check_expiry.opens_at then
        raise exception 'expires_at % must be after %, when the credits become available', _check_expiry.expires_at, _check_expiry.opens_at
            using errcode = 'TB012', hint = 'Pass a later time, or leave it out for credits that never expire.';
    end if;
end
$$;

create function billing.grant_credits(
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
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._checked_key(grant_credits.idempotency_key, grant_credits.metadata);
    return billing._grant_credits(
        account_id => grant_credits.account_id,
        amount => billing._checked_amount(grant_credits.amount),
        key_space => 'caller',
        idempotency_key => grant_credits.idempotency_key,
        source => grant_credits.source,
        reference_id => grant_credits.reference_id,
        description => grant_credits.description,
        metadata => grant_credits.metadata,
        priority => grant_credits.priority,
        expires_at => grant_credits.expires_at
    );
end
$$;

revoke all on function
    billing._grant_credits, billing._check_expiry, billing.grant_credits
from public, anon, authenticated, service_role;
grant execute on function
    billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb)
to service_role;

comment on function billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb) is 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots with a lower priority number are spent first.';
