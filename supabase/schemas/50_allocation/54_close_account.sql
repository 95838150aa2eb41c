-- Closes and reopens accounts.
--
-- Invariant: a closed account has no balance, no debt, no hold and no scheduled lot; entries with reason and actor
-- record what it had and owed. A reopened account owes nothing, but refunds of older movements first pay the debt that
-- was written off, so that they grant nothing that was not taken. Callable by service_role.

-- Removes limits, releases holds, cancels scheduled lots, forfeits the balance and writes off debt.
create function billing.close_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
    v_key text;
    v_entry_id bigint;
begin
    perform billing._check_reason(close_account.reason, close_account.actor);
    v_balance := billing._lock_settled_balance(close_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = close_account.account_id;
    if v_account.closed_at is not null then
        return v_account;
    end if;

    perform billing.set_credit_limits(close_account.account_id);
    for v_hold in
        select * from billing.credit_holds
        where credit_holds.account_id = close_account.account_id and credit_holds.status = 'held'
    loop
        perform billing._settle_hold(v_hold, 'released');
    end loop;
    update billing.credit_grants set closed_at = billing.current_time()
    where credit_grants.account_id = close_account.account_id
        and credit_grants.entry_id is null and credit_grants.closed_at is null;

    v_balance := billing._lock_settled_balance(close_account.account_id);
    -- Each further closing is a new movement: its key has a number.
    v_key := 'closing:' || coalesce((
        select max(credit_entries.id) from billing.credit_entries
        where credit_entries.account_id = close_account.account_id
    ), 0);
    if v_balance.balance <> 0 or v_balance.debt <> 0 then
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, debt, source, description, actor, key_space, idempotency_key,
            occurred_at
        )
        select v_balance.account_id, 'adjustment', step.amount, step.balance_after, step.debt, 'closing',
            close_account.reason, close_account.actor, 'system', step.key, billing.current_time()
        from (
            values
            (1, v_balance.debt, v_balance.balance + v_balance.debt, -v_balance.debt, v_key || ':debt'),
            (2, -(v_balance.balance + v_balance.debt), 0::bigint, 0::bigint, v_key || ':lots')
        ) as step (number, amount, balance_after, debt, key)
        where step.amount <> 0
        order by step.number;
        select credit_entries.id into v_entry_id from billing.credit_entries
        where credit_entries.account_id = close_account.account_id and credit_entries.key_space = 'system'
            and credit_entries.idempotency_key = v_key || ':lots';
        perform billing._burn_lots(close_account.account_id, v_entry_id, v_balance.balance + v_balance.debt);
        update billing.credit_grants set lapsed = credit_grants.lapsed + credit_consumptions.amount
        from billing.credit_consumptions
        where credit_consumptions.entry_id = v_entry_id and credit_grants.id = credit_consumptions.grant_id;
    end if;
    update billing.credit_balances
    set balance = 0, debt = 0, withheld = 0, carried = 0, next_due_at = null, updated_at = now(),
        written_off_debt = credit_balances.written_off_debt + v_balance.debt,
        written_off_withheld = credit_balances.written_off_withheld + v_balance.withheld,
        written_off_at = case
            when v_balance.debt > 0 or v_balance.withheld > 0 then clock_timestamp()
            else credit_balances.written_off_at
        end
    where credit_balances.account_id = close_account.account_id;
    update billing.accounts set closed_at = billing.current_time(), updated_at = now()
    where accounts.id = close_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(close_account.account_id);
    return v_account;
end
$$;

-- Months of a closed account wait; the paid ones are granted when it is reopened.
create function billing._allocate_subscriptions_of_account(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id) from billing.subscriptions
    where subscriptions.account_id = _allocate_subscriptions_of_account.account_id;
end
$$;

create function billing.reopen_account(account_id uuid)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    perform billing._lock_balance(reopen_account.account_id);
    update billing.accounts set closed_at = null, updated_at = now()
    where accounts.id = reopen_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(reopen_account.account_id);
    return v_account;
end
$$;

revoke all on function billing.close_account, billing._allocate_subscriptions_of_account, billing.reopen_account
from public, anon, authenticated, service_role;
grant execute on function
    billing.close_account(uuid, text, text),
    billing.reopen_account(uuid)
to service_role;

comment on function billing.close_account(uuid, text, text) is 'Closes an account: releases holds, forfeits the balance, writes off debt. Nothing moves until it is reopened.';
comment on function billing.reopen_account(uuid) is 'Reopens a closed account with a balance of 0, plus the paid months of credits that fell due meanwhile.';
