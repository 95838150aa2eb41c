-- Adjusts a balance by hand, and takes credits with an entry of any kind.
--
-- Invariant: an adjustment has a reason and an actor, stored in its entry; it takes available credits only, never the
-- overdraft. adjust_credits is callable by service_role; a transfer takes credits in the same way.

-- Posts an entry of any kind that takes credits from an account's lots; never from the overdraft. The caller has
-- checked the key.
create function billing._take_credits(balance billing.credit_balances, entry billing.credit_entries)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free bigint := (_take_credits.balance).balance - (_take_credits.balance).held;
begin
    if -(_take_credits.entry).amount > v_free then
        perform billing._raise_insufficient(
            (_take_credits.entry).account_id, v_free, -(_take_credits.entry).amount
        );
    end if;
    return billing._post_entry(_take_credits.balance, _take_credits.entry);
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
    return billing._take_credits(billing._lock_settled_balance(adjust_credits.account_id), billing._entry(
        account_id => adjust_credits.account_id, kind => 'adjustment', amount => -v_amount, source => 'adjustment',
        description => adjust_credits.reason, actor => adjust_credits.actor, key_space => 'caller',
        idempotency_key => adjust_credits.idempotency_key, occurred_at => billing.current_time()
    ));
end
$$;

revoke all on function billing._take_credits, billing.adjust_credits from public, anon, authenticated, service_role;
grant execute on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) to service_role;

comment on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) is 'Adds credits or (amount below zero) removes them by hand, with a reason and an actor; once for each idempotency key.';
