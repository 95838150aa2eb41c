-- Moves credits from one account to another.
--
-- Invariant: the same credits leave one account and arrive in the other, in the same transaction and lot by lot;
-- available credits only, never the overdraft. Callable by service_role.

-- Lots keep their priority and their expiry: a transfer never extends them.
create function billing.transfer_credits(
    from_account_id uuid,
    to_account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(transfer_credits.amount);
    v_out billing.credit_entries;
    v_lot record;
begin
    perform billing._checked_key(transfer_credits.idempotency_key, transfer_credits.metadata);
    if transfer_credits.from_account_id = transfer_credits.to_account_id then
        raise exception 'account % cannot transfer to itself', transfer_credits.from_account_id
            using errcode = 'TB030', hint = 'Pass a different to_account_id.';
    elsif transfer_credits.from_account_id is null or transfer_credits.to_account_id is null then
        perform billing._lock_balance(null);
    end if;
    -- Both in the order of their ids, so that two transfers in opposite directions never deadlock.
    perform billing._lock_balance(least(transfer_credits.from_account_id, transfer_credits.to_account_id));
    perform billing._lock_balance(greatest(transfer_credits.from_account_id, transfer_credits.to_account_id));

    select * into v_out from billing.credit_entries
    where credit_entries.account_id = transfer_credits.from_account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = transfer_credits.idempotency_key;
    if found then
        if (v_out.kind, v_out.amount, v_out.reference_id, v_out.description, v_out.metadata) is distinct from (
            'transfer_out', -v_amount, transfer_credits.to_account_id::text, transfer_credits.description,
            transfer_credits.metadata
        ) then
            perform billing._raise_key_reused(transfer_credits.idempotency_key);
        end if;
        return v_out;
    end if;

    perform billing._check_may_spend(transfer_credits.from_account_id);
    perform billing._check_open(transfer_credits.to_account_id);
    v_out := billing._take_credits(billing._lock_settled_balance(transfer_credits.from_account_id), billing._entry(
        account_id => transfer_credits.from_account_id, kind => 'transfer_out', amount => -v_amount,
        source => 'transfer', reference_id => transfer_credits.to_account_id::text,
        description => transfer_credits.description, metadata => transfer_credits.metadata, key_space => 'caller',
        idempotency_key => transfer_credits.idempotency_key, occurred_at => billing.current_time()
    ));
    for v_lot in
        select credit_consumptions.amount, credit_grants.id, credit_grants.priority, credit_grants.expires_at
        from billing.credit_consumptions
        join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_consumptions.entry_id = v_out.id
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        perform billing._grant_credits(
            account_id => transfer_credits.to_account_id,
            amount => v_lot.amount,
            key_space => 'system',
            idempotency_key => pg_catalog.format('transfer:%s:%s', v_out.id, v_lot.id),
            source => 'transfer',
            reference_id => transfer_credits.from_account_id::text,
            description => transfer_credits.description,
            metadata => transfer_credits.metadata,
            priority => v_lot.priority,
            expires_at => v_lot.expires_at,
            kind => 'transfer_in'
        );
    end loop;
    return v_out;
end
$$;

revoke all on function billing.transfer_credits from public, anon, authenticated, service_role;
grant execute on function billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb) to service_role;

comment on function billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb) is 'Moves credits to another account, once for each idempotency key of the paying account. Lots keep priority and expiry.';
