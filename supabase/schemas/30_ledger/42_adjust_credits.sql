-- Adjusting a balance by hand, and taking credits by an entry of any kind.
--
-- Invariant: an adjustment has a reason and an actor, written in its entry for ever; what it takes is there to take,
-- never on the overdraft. adjust_credits is callable by service_role; a transfer takes by the same means.

-- Takes credits from an account's lots by an entry of any kind; never on the overdraft. The caller has checked the key.
create function billing._take_credits(
    balance billing.credit_balances, kind text, amount bigint, idempotency_key text, source text, description text,
    metadata jsonb default '{}', actor text default null, reference_id text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _take_credits.balance;
    v_entry billing.credit_entries;
begin
    if _take_credits.amount > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(v_balance.account_id, v_balance.balance - v_balance.held, _take_credits.amount);
    end if;
    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, metadata, actor, key_space,
        idempotency_key, occurred_at
    )
    values (
        v_balance.account_id, _take_credits.kind, -_take_credits.amount, v_balance.balance - _take_credits.amount,
        _take_credits.source, _take_credits.reference_id, _take_credits.description, _take_credits.metadata,
        _take_credits.actor, 'caller', _take_credits.idempotency_key, billing.current_time()
    )
    returning * into v_entry;
    perform billing._burn_lots(v_balance.account_id, v_entry.id, _take_credits.amount);
    update billing.credit_balances set balance = v_entry.balance_after, updated_at = now()
    where credit_balances.account_id = v_balance.account_id;
    return v_entry;
end
$$;

create function billing.adjust_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    expires_at timestamptz default null
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(abs(adjust_credits.amount));
    v_entry billing.credit_entries;
begin
    perform billing._checked_key(adjust_credits.idempotency_key, '{}');
    perform billing._check_reason(adjust_credits.reason, adjust_credits.actor);
    if adjust_credits.amount > 0 then
        return billing._grant_credits(
            account_id => adjust_credits.account_id,
            amount => v_amount,
            key_space => 'caller',
            idempotency_key => adjust_credits.idempotency_key,
            source => 'adjustment',
            reference_id => null,
            description => adjust_credits.reason,
            expires_at => adjust_credits.expires_at,
            kind => 'adjustment',
            actor => adjust_credits.actor
        );
    end if;

    perform billing._lock_balance(adjust_credits.account_id);
    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = adjust_credits.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = adjust_credits.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.amount, v_entry.description, v_entry.actor) is distinct from (
            'adjustment', -v_amount, adjust_credits.reason, adjust_credits.actor
        ) then
            perform billing._raise_key_reused(adjust_credits.idempotency_key);
        end if;
        return v_entry;
    end if;
    perform billing._check_open(adjust_credits.account_id);
    return billing._take_credits(
        billing._lock_settled_balance(adjust_credits.account_id), 'adjustment', v_amount,
        adjust_credits.idempotency_key, 'adjustment', adjust_credits.reason, actor => adjust_credits.actor
    );
end
$$;

revoke all on function billing._take_credits, billing.adjust_credits from public, anon, authenticated, service_role;
grant execute on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) to service_role;

comment on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) is 'Adds or (amount below zero) takes credits by hand, with a reason and an actor; once for each idempotency key.';
