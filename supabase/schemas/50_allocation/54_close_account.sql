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
    v_debt bigint;
begin
    perform billing._check_reason(close_account.reason, close_account.actor);
    perform billing._lock_settled_balance(close_account.account_id);
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
    v_debt := v_balance.debt;
    -- Each further closing is a new movement: its key has a number.
    v_key := 'closing:' || billing._last_entry_id(close_account.account_id);
    if v_debt > 0 or v_balance.withheld > 0 then
        v_balance.written_off_debt := v_balance.written_off_debt + v_debt;
        v_balance.written_off_withheld := v_balance.written_off_withheld + v_balance.withheld;
        v_balance.written_off_at := clock_timestamp();
    end if;
    v_balance.withheld := 0;
    v_balance.carried := 0;
    v_balance.next_due_at := null;
    perform billing._post_entries(v_balance, array(
        select billing._entry(
            account_id => v_balance.account_id, kind => 'adjustment', amount => step.amount, debt => step.debt,
            source => 'closing', description => close_account.reason, actor => close_account.actor,
            key_space => 'system', idempotency_key => step.key, occurred_at => billing.current_time()
        )
        from (
            values
            (1, v_debt, -v_debt, v_key || ':debt'),
            (2, -(v_balance.balance + v_debt), 0::bigint, v_key || ':lots')
        ) as step (number, amount, debt, key)
        where step.amount <> 0
        order by step.number
    ));
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
