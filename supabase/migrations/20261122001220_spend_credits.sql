-- Spending credits: due lots are closed, then lots are burnt by priority, soonest expiry and age, each with its lineage.
--
-- Callable by service_role (the app's own server), inside the app's own transaction; clients never.

create function billing.spend_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    reference_id text default null
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := billing._checked_amount(spend_credits.amount);
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_account billing.accounts;
    v_entry billing.credit_entries;
    v_lot record;
    v_left bigint := v_amount;
    v_taken bigint;
begin
    perform billing._check_request(spend_credits.idempotency_key, spend_credits.metadata);

    select credit_balances.* into v_balance from billing.credit_balances
    where credit_balances.account_id = spend_credits.account_id
    for update;
    if not found then
        perform billing._raise_no_account(spend_credits.account_id);
    end if;

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = spend_credits.account_id
        and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = spend_credits.idempotency_key;
    if found then
        if (
            v_entry.kind, v_entry.amount, v_entry.description, v_entry.metadata, v_entry.feature, v_entry.reference_id
        ) is distinct from (
            'spend', -v_amount, spend_credits.description, spend_credits.metadata, spend_credits.feature,
            spend_credits.reference_id
        ) then
            perform billing._raise_key_reused(spend_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    select accounts.* into strict v_account from billing.accounts where accounts.id = spend_credits.account_id;
    if v_account.frozen_at is not null then
        raise exception 'account % is frozen: %', v_account.id, v_account.frozen_reason
            using errcode = 'TB003', hint = 'Spending opens again once the account is unfrozen.';
    elsif v_account.closed_at is not null then
        raise exception 'account % is closed', v_account.id
            using errcode = 'TB008', hint = 'Spend from another account, or open this one again.';
    end if;

    if v_balance.next_due_at <= v_now then
        v_balance := billing._close_due_lots(spend_credits.account_id);
    end if;
    if v_balance.balance - v_balance.held < v_amount then
        raise exception 'account % has % credits available, % are needed',
            v_account.id, greatest(v_balance.balance - v_balance.held, 0), v_amount
            using errcode = 'TB001', hint = 'Offer the user a credit pack or a larger plan.';
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, key_space,
        idempotency_key, occurred_at
    )
    values (
        spend_credits.account_id, 'spend', -v_amount, v_balance.balance - v_amount, 'app', spend_credits.reference_id,
        spend_credits.description, spend_credits.feature, spend_credits.metadata, 'caller',
        spend_credits.idempotency_key, v_now
    )
    returning * into v_entry;

    for v_lot in
        select credit_grants.id, credit_grants.remaining, credit_grants.held from billing.credit_grants
        where credit_grants.account_id = spend_credits.account_id
            and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        v_taken := least(v_left, v_lot.remaining - v_lot.held);
        update billing.credit_grants
        set remaining = v_lot.remaining - v_taken,
            closed_at = case when v_lot.remaining = v_taken then v_now end
        where credit_grants.id = v_lot.id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_lot.id, v_taken);
        v_left := v_left - v_taken;
        exit when v_left = 0;
    end loop;
    if v_left > 0 then
        raise exception 'the open lots of account % hold % credits less than its balance', v_account.id, v_left
            using errcode = 'TB016', hint = 'Look at billing.ledger_discrepancies before anything is spent again.';
    end if;

    update billing.credit_balances set balance = v_entry.balance_after, updated_at = now()
    where credit_balances.account_id = spend_credits.account_id;
    return v_entry;
end
$$;

revoke all on function billing.spend_credits from public, anon, authenticated, service_role;
grant execute on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text) to service_role;

comment on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text) is 'Spends credits of an account, once for each idempotency key, and returns the entry. Refused below zero (TB001) and while frozen (TB003). Call it inside your own transaction.';
