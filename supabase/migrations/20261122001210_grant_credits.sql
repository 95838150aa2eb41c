-- Granting credits: an entry and the lot that it opens, debt repaid first.
--
-- Callable by service_role (the app's own server); clients never, and the worker only by way of what was paid for.

-- What grants of every origin have in common. A business key (key_space stripe) that was used before is not an error:
-- two different events can tell of one payment.
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
    stripe_payment_intent_id text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
    v_grant billing.credit_grants;
    v_repaid bigint;
begin
    select credit_balances.* into v_balance from billing.credit_balances
    where credit_balances.account_id = _grant_credits.account_id
    for update;
    if not found then
        perform billing._raise_no_account(_grant_credits.account_id);
    end if;

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_grant from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_grant.priority, v_grant.expires_at
        ) is distinct from (
            'grant', _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.priority, _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    if exists (select from billing.accounts where accounts.id = _grant_credits.account_id and accounts.closed_at is not null) then
        raise exception 'account % is closed', _grant_credits.account_id
            using errcode = 'TB008', hint = 'Grant to another account, or open this one again.';
    elsif _grant_credits.key_space = 'caller' and _grant_credits.expires_at <= v_now then
        raise exception 'expires_at % has passed', _grant_credits.expires_at
            using errcode = 'TB012', hint = 'Pass a time to come, or leave it out for credits that never expire.';
    elsif v_balance.balance > 9223372036854775807 - _grant_credits.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', _grant_credits.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, metadata, key_space,
        idempotency_key, occurred_at
    )
    values (
        _grant_credits.account_id, 'grant', _grant_credits.amount, v_balance.balance + _grant_credits.amount,
        _grant_credits.source, _grant_credits.reference_id, _grant_credits.description, _grant_credits.metadata,
        _grant_credits.key_space, _grant_credits.idempotency_key, v_now
    )
    returning * into v_entry;

    -- Debt comes first: what was owed is taken from the new lot at once.
    v_repaid := least(v_balance.debt, _grant_credits.amount);
    insert into billing.credit_grants (
        account_id, entry_id, amount, remaining, priority, effective_at, expires_at, closed_at, source, reference_id,
        key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
        stripe_checkout_session_id, stripe_payment_intent_id
    )
    values (
        _grant_credits.account_id, v_entry.id, _grant_credits.amount, _grant_credits.amount - v_repaid,
        _grant_credits.priority, coalesce(_grant_credits.effective_at, v_now), _grant_credits.expires_at,
        case when v_repaid = _grant_credits.amount then v_now end, _grant_credits.source,
        _grant_credits.reference_id, _grant_credits.key_space, _grant_credits.idempotency_key,
        _grant_credits.stripe_invoice_id, _grant_credits.stripe_subscription_item_id, _grant_credits.stripe_price_id,
        _grant_credits.stripe_checkout_session_id, _grant_credits.stripe_payment_intent_id
    )
    returning * into v_grant;
    if v_repaid > 0 then
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_grant.id, v_repaid);
    end if;

    update billing.credit_balances
    set balance = v_entry.balance_after,
        debt = v_balance.debt - v_repaid,
        next_due_at = least(v_balance.next_due_at, case when v_grant.closed_at is null then v_grant.expires_at end),
        updated_at = now()
    where credit_balances.account_id = _grant_credits.account_id;
    return v_entry;
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
set search_path = ''
as $$
begin
    perform billing._check_request(grant_credits.idempotency_key, grant_credits.metadata);
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

revoke all on function billing._grant_credits, billing.grant_credits from public, anon, authenticated, service_role;
grant execute on function billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb) to service_role;

comment on function billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb) is 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots of a lower priority number are spent first.';
